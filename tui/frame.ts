/** The whole screen as rows: header, health, tabs, body, result line, keys. Exactly `rows` rows of `columns` columns, always. */
import { volumeOf } from './actions.js';
import { afterColumn, block, panel, type Row, restyle, row, rowWidth, sized, span } from './draw.js';
import { age, clock, duration } from './format.js';
import { footerText } from './keys.js';
import { layoutOf, SCREENS, type State } from './model.js';
import { suggestions } from './palette.js';
import { drawEvents } from './screens/events.js';
import { drawFile } from './screens/file.js';
import { drawFiles } from './screens/files.js';
import { drawHelp } from './screens/help.js';
import { drawJobs } from './screens/jobs.js';
import { drawNodes } from './screens/nodes.js';
import { drawOverview } from './screens/overview.js';
import { escapeControl, padEnd, truncateMiddle, widthOf, wrapWords } from './text.js';
import { clusterHead, fileOf } from './topics.js';
import { healthRow, nextTry } from './words.js';

const TITLES = { overview: 'Overview', nodes: 'Nodes', files: 'Files', events: 'Events', jobs: 'Jobs' } as const;

/** Two rows of text at both ends; the left one gives way. */
function ends(left: Row, right: Row, columns: number): Row {
  const width = Math.min(columns, rowWidth(right));
  return [...sized(left, columns - width), ...sized(right, width)];
}

function header(state: State, columns: number): Row {
  const head = clusterHead(state);
  const isWide = columns >= 100;
  const left: (ReturnType<typeof span> | string)[] = [span(' HOLDFAST', 'bold')];
  if (state.screen === 'files' && state.files.file) {
    const path = fileOf(state)?.head.path ?? state.files.file.name;
    left.push('  Files > ', truncateMiddle(escapeControl(path), Math.max(10, columns - 50)));
  } else if (head) {
    left.push(
      `  ${/^[0-9a-f]{32}$/.test(head.cluster) ? head.cluster.slice(0, 8) : escapeControl(head.cluster)}`,
      isWide ? `   ${state.link.url}` : '',
    );
    left.push(`   up ${duration(head.upMs + Math.max(0, state.nowMs - (state.topics.overview?.receivedAtMs ?? state.nowMs)))}`);
    const volume = head.volumes.find((one) => one.name === volumeOf(state));
    if (volume && isWide) left.push(`   goal ${volume.copies} copies`);
  } else left.push(`   ${state.link.url}`);
  const right: ReturnType<typeof span>[] = [];
  if (state.options.readOnly) right.push(span(' READ-ONLY ', 'warn'));
  if (state.isFrozen) right.push(span(' FROZEN ', 'badge-warn'));
  if (state.link.kind === 'live')
    right.push(span(' LIVE ', 'ok'), span(age(state.nowMs - (state.topics.overview?.receivedAtMs ?? state.nowMs)), 'dim'));
  else if (state.link.kind === 'offline') right.push(span(` OFFLINE ${age(state.nowMs - state.link.sinceMs)} `, 'badge-bad'));
  else right.push(span(' CONNECTING ', 'warn'));
  right.push(span(`  ${clock(state.wallMs)} `));
  return ends(row(...left), right, columns);
}

function tabs(state: State, columns: number): Row {
  const left = SCREENS.map((screen, index) => {
    const isHere = screen === state.screen;
    const label = `${index + 1} ${TITLES[screen]}`;
    return isHere ? span(`[${label}]`, 'bold') : span(` ${label} `);
  });
  const hint = columns >= 90 ? '/ filter  : command  ? help  q quit ' : columns >= 80 ? ': command  ? help  q quit ' : '? help ';
  return ends([span(' '), ...left], [span(hint, 'dim')], columns);
}

/** What is being typed, what is being done, or how it ended. */
function statusRow(state: State): Row {
  const { overlay, flash, busy } = state;
  if (overlay.kind === 'filter')
    return row(span(' /', 'bold'), `${escapeControl(overlay.text)}_`, span('   enter keeps, esc undoes', 'dim'));
  if (overlay.kind === 'palette')
    return row(span(' :', 'bold'), `${escapeControl(overlay.text)}_`, span('   tab completes, enter does it, esc closes', 'dim'));
  if (overlay.kind === 'prompt') return row(span(` ${overlay.question}: `, 'bold'), `${escapeControl(overlay.text)}_`);
  if (flash)
    return flash.level === 'note'
      ? row(` ${escapeControl(flash.text)}`)
      : row(span(flash.level === 'ok' ? ' done: ' : ' !! ', flash.level === 'ok' ? 'ok' : 'badge-bad'), ` ${escapeControl(flash.text)}`);
  if (busy.length > 0) return row(span(` doing: ${busy.map(escapeControl).join(', ')} ...`, 'accent'));
  return row();
}

function footer(state: State, columns: number): Row {
  const scope = state.screen === 'files' && state.files.file ? 'file' : state.screen;
  const rate = ` ${duration(state.refreshMs)} `;
  const isWaiting = !state.topics.overview && state.link.kind !== 'live';
  const keys = isWaiting
    ? `${state.options.stateDir && !state.options.readOnly ? 'S start coordinator  ' : ''}r try now  : command  ? help  q quit`
    : footerText(scope, state.options.readOnly, columns - 1 - rate.length);
  return restyle(ends(row(` ${keys}`), row(rate), columns), 'dim');
}

/** A box over the middle of a body. */
function overlaid(body: readonly Row[], box: readonly Row[], columns: number): Row[] {
  const boxWidth = rowWidth(box[0] ?? []);
  const top = Math.max(0, Math.floor((body.length - box.length) / 2));
  const left = Math.max(0, Math.floor((columns - boxWidth) / 2));
  return body.map((one, y) => {
    const inside = box[y - top];
    return inside ? [...sized(one, left, ''), ...inside, ...afterColumn(one, left + boxWidth, columns)] : one;
  });
}

function confirmBox(state: State, columns: number): Row[] {
  const { overlay } = state;
  if (overlay.kind !== 'confirm') return [];
  const { action, confirmation } = overlay;
  const width = Math.min(columns - 4, 74);
  const effect = confirmation.level === 'none' ? '' : confirmation.effect;
  const rows: Row[] = [row(), ...wrapWords(effect, width - 6).map((line) => row(` ${line}`)), row()];
  if (confirmation.level === 'type') {
    rows.push(
      row(span(` Type ${truncateMiddle(confirmation.word, width - 24)} to confirm: `, 'bold'), `${escapeControl(overlay.text)}_`),
      row(span(' enter does it, esc does not', 'dim')),
    );
  } else rows.push(row(span(' y does it, any other key does not  [y/N]', 'bold')));
  return panel(`${escapeControl(action.label)}?`, rows, width, rows.length + 2, { glyphs: state.options.glyphs, isFocused: true });
}

function paletteBox(state: State, columns: number, height: number): Row[] {
  const { overlay } = state;
  if (overlay.kind !== 'palette') return [];
  const width = Math.min(columns - 4, 74);
  const lines = suggestions(state, overlay.text);
  const page = Math.max(1, Math.min(12, height - 4));
  const first = Math.max(0, Math.min(overlay.index - Math.floor(page / 2), lines.length - page));
  const nameWidth = Math.min(24, Math.max(8, ...lines.map((one) => widthOf(one.line)))) + 1;
  const rows = lines.slice(first, first + page).map((one, index) => {
    const content = row(` ${padEnd(escapeControl(one.line), nameWidth)} `, span(one.help, 'dim'));
    return first + index === overlay.index ? restyle(sized(content, width - 4), 'select') : content;
  });
  if (lines.length === 0) rows.push(row(span(' no such command', 'dim')));
  const range = lines.length > page ? ` (${first + 1}-${first + rows.length} of ${lines.length}: arrows, or type)` : '';
  return panel(`Command${range}`, rows, width, rows.length + 2, { glyphs: state.options.glyphs, isFocused: true });
}

function tooSmall(state: State): Row[] {
  const { columns, rows } = state;
  return block([row('Holdfast needs 60x16,'), row(`this is ${columns}x${rows}.`), row('q quits')], columns, rows);
}

/** Nothing was ever heard from a coordinator: what was tried, and how to get one. */
function firstContact(state: State, columns: number, height: number): Row[] {
  const { link, options } = state;
  const lines: Row[] = [row()];
  if (link.kind === 'offline') {
    lines.push(
      row(span(' No coordinator answered.', 'badge-bad')),
      row(),
      row(span(' tried   ', 'dim'), link.url || '(no address known yet)'),
      row(span(' error   ', 'dim'), escapeControl(link.error)),
      row(span(' next    ', 'dim'), `try ${link.attempt + 1} ${nextTry(state)}; r tries at once`),
      row(),
    );
    if (options.stateDir) {
      lines.push(
        row(' Start this cluster:        ', span(`scripts/up --state ${options.stateDir}`, 'bold')),
        row(
          ' or only its coordinator:   ',
          span(options.readOnly ? `scripts/coordinator start --state ${options.stateDir}` : 'press S', 'bold'),
        ),
      );
    } else
      lines.push(
        row(
          ' Start a cluster to look at: ',
          span('scripts/up', 'bold'),
          '   then: ',
          span('holdfast tui --state ~/.local/state/holdfast/default', 'bold'),
        ),
      );
  } else lines.push(row(span(` connecting to ${link.url} ...`, 'dim')));
  return block(
    panel('Waiting for a coordinator', lines, columns, Math.min(height, lines.length + 3), { glyphs: options.glyphs }),
    columns,
    height,
  );
}

const DRAW = {
  overview: drawOverview,
  nodes: drawNodes,
  files: (state: State, columns: number, height: number) =>
    state.files.file ? drawFile(state, columns, height) : drawFiles(state, columns, height),
  events: drawEvents,
  jobs: drawJobs,
} as const;

export function drawFrame(state: State): Row[] {
  const { columns, rows } = state;
  if (layoutOf(columns, rows) === 'too-small') return tooSmall(state);
  const height = rows - 5;
  const isBlank = !state.topics.overview && state.link.kind !== 'live';
  let body = isBlank ? firstContact(state, columns, height) : block(DRAW[state.screen](state, columns, height), columns, height);
  // Old data stays on screen, but nobody may take it for fresh.
  if (state.link.kind === 'offline' && !isBlank) body = body.map((one) => restyle(one, 'dim'));
  if (state.overlay.kind === 'help') body = drawHelp(state, columns, height, state.overlay.top);
  else if (state.overlay.kind === 'confirm') body = overlaid(body, confirmBox(state, columns), columns);
  else if (state.overlay.kind === 'palette') body = overlaid(body, paletteBox(state, columns, height), columns);
  return [
    header(state, columns),
    sized(row(' ', ...healthRow(state)), columns),
    tabs(state, columns),
    ...body,
    sized(statusRow(state), columns),
    footer(state, columns),
  ];
}
