/** One file: the chunk map, the chunk under the cursor, and what happened to the file. */
import type { FileChunk } from '../../protocol/admin-calls.js';
import { remove, repair, verify } from '../actions.js';
import {
  CELLS,
  copiesRow,
  cursorRow,
  firstVisible,
  goodReplicas,
  isGood,
  type MapView,
  nextProblem,
  nodeRow,
  nodesInView,
  rulerRow,
  summarise,
} from '../chunk-map.js';
import { beside, block, panel, type Row, row, sized, span } from '../draw.js';
import { age, bytes, count, plural } from '../format.js';
import { FILE_WINDOW_CHUNKS, type FileViewState, layoutOf, MAP_MODES, only, type State, type Step, type Topic } from '../model.js';
import { flash, propose } from '../propose.js';
import { escapeControl, padEnd, padStart, truncateMiddle } from '../text.js';
import { chunkAt, fileOf, nodesOf } from '../topics.js';
import { eventRow, healthWord } from '../words.js';

/** Columns before the first cell and after the last one. */
const LABEL = 12;
const TAIL = 8;
const CHUNK_PANEL = 38;
const MODE_WORDS = { state: 'state', age: 'last check', shared: 'uses' } as const;

interface Shape {
  readonly mapWidth: number;
  readonly cells: number;
  readonly mapHeight: number;
  readonly chunkHeight: number;
  readonly historyHeight: number;
  readonly isBeside: boolean;
}
function shapeOf(state: State, columns: number, height: number): Shape {
  const layout = layoutOf(state.columns, state.rows);
  if (layout === 'full') {
    const historyHeight = Math.max(4, Math.min(8, Math.floor(height / 4)));
    const mapWidth = columns - CHUNK_PANEL;
    return {
      mapWidth,
      cells: mapWidth - 4 - LABEL - TAIL,
      mapHeight: height - historyHeight,
      chunkHeight: height - historyHeight,
      historyHeight,
      isBeside: true,
    };
  }
  const chunkHeight = layout === 'medium' ? 6 : 4;
  return {
    mapWidth: columns,
    cells: columns - 4 - LABEL - TAIL,
    mapHeight: height - chunkHeight,
    chunkHeight,
    historyHeight: 0,
    isBeside: false,
  };
}

function viewOf(state: State, file: FileViewState, topic: Topic, chunkCount: number, copies: number, cells: number): MapView {
  return {
    at: (index) => chunkAt(topic, index),
    chunkCount,
    copies,
    zoom: file.zoom,
    cursor: Math.min(file.cursor, Math.max(0, chunkCount - 1)),
    columns: Math.max(1, cells),
    mode: file.mode,
    wallMs: state.wallMs,
  };
}

const SHORT_STATE = { up: 'up', suspect: '?', down: 'DOWN', draining: 'drain', removed: 'gone' } as const;

function mapPanel(state: State, file: FileViewState, topic: Topic, view: MapView, shape: Shape, health: Row): Row[] {
  const summary = summarise(topic);
  const states = new Map(nodesOf(state).map((one) => [one.name, one.state]));
  const nodes = nodesInView(view, summary?.nodes ?? []);
  const fixed = 9;
  const room = Math.max(1, shape.mapHeight - 2 - fixed);
  let first = Math.min(file.nodeTop, Math.max(0, nodes.length - room));
  // With more nodes than rows, those of the chunk under the cursor are in view.
  const holders = new Set(chunkAt(topic, view.cursor)?.replicas.map((one) => one.name));
  const isInView = holders.size === 0 || nodes.slice(first, first + room).some((name) => holders.has(name));
  if (!isInView)
    first = Math.max(
      0,
      Math.min(
        nodes.length - room,
        nodes.findIndex((name) => holders.has(name)),
      ),
    );
  const shown = nodes.slice(first, first + room);
  const lastChunk = Math.min(view.chunkCount, firstVisible(view) + view.columns * view.zoom);
  const label = (text: string): string => padEnd(text, LABEL);
  const body: Row[] = [
    health,
    row(span(label('chunk'), 'dim'), span(rulerRow(view), 'dim')),
    row(label('copies'), ...copiesRow(view)),
    ...shown.map((name) => {
      const at = states.get(name);
      const style = at === 'down' ? 'bad' : at === undefined || at === 'up' ? 'plain' : 'warn';
      return [
        span(padEnd(`${truncateMiddle(escapeControl(name), 6)} ${at ? SHORT_STATE[at] : ''}`, LABEL), style),
        ...sized(nodeRow(view, name), Math.min(view.columns, Math.max(1, Math.ceil((lastChunk - firstVisible(view)) / view.zoom)))),
        span(padStart(count(summary?.goodByNode.get(name) ?? 0), TAIL), 'dim'),
      ];
    }),
    row(
      span(label(nodes.length > shown.length ? `[ ] ${first + 1}-${first + shown.length}/${nodes.length}` : ''), 'dim'),
      span(cursorRow(view), 'bold'),
    ),
  ];
  const legend = (['good', 'unchecked', 'copying', 'suspect', 'down', 'missing', 'corrupt', 'none'] as const).map(
    (state_) => CELLS[state_],
  );
  const half = Math.ceil(legend.length / 2);
  if (file.mode === 'state') {
    for (const part of [legend.slice(0, half), legend.slice(half)]) {
      body.push(row(...part.flatMap((one) => [span(one.sign, one.style), span(` ${one.words}  `, 'dim')])));
    }
  } else if (file.mode === 'age') body.push(row(span('checked: h hours, d days, w weeks, M older, - never', 'dim')));
  else body.push(row(span('digits: how many places use the chunk', 'dim')));
  const byGood = summary?.byGood ?? [];
  const below = byGood.slice(0, view.copies).reduce((sum, value) => sum + (value ?? 0), 0);
  const healthy = (summary?.loaded ?? 0) - below;
  body.push(
    row(
      span('health  ', 'dim'),
      `${count(healthy)} ok, `,
      span(`${count(below - (byGood[0] ?? 0) - (view.copies > 1 ? (byGood[1] ?? 0) : 0))} under, `, 'plain'),
      span(`${count(view.copies > 1 ? (byGood[1] ?? 0) : 0)} on one copy, `, view.copies > 1 && (byGood[1] ?? 0) > 0 ? 'bad' : 'plain'),
      span(`${count(byGood[0] ?? 0)} lost`, (byGood[0] ?? 0) > 0 ? 'badge-bad' : 'plain'),
    ),
    row(
      span('shared  ', 'dim'),
      `${plural(summary?.shared ?? 0, 'chunk')} also used elsewhere`,
      span((summary?.loaded ?? 0) < view.chunkCount ? `   (of ${count(summary?.loaded ?? 0)} chunks loaded)` : '', 'dim'),
    ),
  );
  const range = view.chunkCount > 0 ? `${count(firstVisible(view))}-${count(lastChunk - 1)} of ${count(view.chunkCount)}` : 'none';
  const each = view.zoom === 1 ? '1 per cell' : `${view.zoom} per cell (the worst)`;
  return panel(`Chunks ${range}, ${each}, ${MODE_WORDS[file.mode]}`, body, shape.mapWidth, shape.mapHeight, {
    glyphs: state.options.glyphs,
    isFocused: true,
  });
}

function chunkRows(state: State, chunk: FileChunk | undefined, index: number, total: number, isShort: boolean): Row[] {
  if (!chunk) return [row(span(total === 0 ? 'An empty file: no chunks.' : `chunk ${index} is being loaded ...`, 'dim'))];
  const good = goodReplicas(chunk);
  const readable = good > 0 ? `yes, ${plural(good, 'good copy').replace('copys', 'copies')}` : 'NO: no good copy in reach';
  const holders = chunk.replicas.map((one) => `${escapeControl(one.name)} ${one.state}`).join(', ');
  if (isShort) {
    return [
      row(span('on       ', 'dim'), holders || 'no node'),
      row(
        span('readable ', 'dim'),
        span(readable, good > 0 ? 'plain' : 'badge-bad'),
        span(`   offset ${bytes(chunk.offset)}, length ${bytes(chunk.length)}`, 'dim'),
      ),
      row(span('id       ', 'dim'), chunk.id),
      row(span('used by  ', 'dim'), chunk.references > 1 ? `${count(chunk.references)} places` : 'this place only'),
    ];
  }
  return [
    row(span('index    ', 'dim'), `${count(index)} of ${count(total)}`),
    row(span('offset   ', 'dim'), bytes(chunk.offset)),
    row(span('length   ', 'dim'), `${bytes(chunk.length)} (stored ${bytes(chunk.storedBytes)})`),
    row(span('id       ', 'dim'), truncateMiddle(chunk.id, CHUNK_PANEL - 13)),
    row(span('used by  ', 'dim'), chunk.references > 1 ? `${count(chunk.references)} places` : 'this place only'),
    row(span('readable ', 'dim'), span(readable, good > 0 ? 'plain' : 'badge-bad')),
    row(),
    row(span(`${padEnd('COPY ON', 12)}${padEnd('STATE', 11)}CHECKED`, 'dim')),
    ...chunk.replicas.map((one) =>
      row(
        padEnd(escapeControl(one.name), 12),
        span(padEnd(one.state, 11), CELLS[one.state]?.style ?? 'plain'),
        one.verifiedAtMs === null ? 'never' : `${age(Math.max(0, state.wallMs - one.verifiedAtMs))} ago`,
      ),
    ),
    ...(chunk.replicas.length === 0 ? [row(span('no node holds it', 'badge-bad'))] : []),
    ...(chunk.replicas.some((one) => !isGood(one.state)) ? [row(), row(span('R repairs now', 'dim'))] : []),
  ];
}

export function drawFile(state: State, columns: number, height: number): Row[] {
  const file = state.files.file;
  const { glyphs } = state.options;
  if (!file) return block([], columns, height);
  const data = fileOf(state);
  if (!data) {
    const refusal = state.refusals.file;
    const text = refusal ? `cannot be shown: ${escapeControl(refusal)}` : 'asking the coordinator ...';
    return block(
      panel(escapeControl(file.name) || 'File', [row(span(text, refusal ? 'bad' : 'dim'))], columns, height, { glyphs }),
      columns,
      height,
    );
  }
  const { head, topic } = data;
  const shape = shapeOf(state, columns, height);
  const view = viewOf(state, file, topic, head.chunkCount, head.copies, shape.cells);
  const health = row(
    healthWord(head.health),
    `  readable now: ${head.isReadable ? 'yes' : 'NO'} | ${bytes(head.sizeBytes)}, goal ${plural(head.copies, 'copy').replace('copys', 'copies')}`,
  );
  const map = mapPanel(state, file, topic, view, shape, health);
  const chunk = chunkAt(topic, view.cursor);
  const title = `Chunk ${count(view.cursor)}`;
  if (!shape.isBeside) {
    return block(
      [...map, ...panel(title, chunkRows(state, chunk, view.cursor, head.chunkCount, true), columns, shape.chunkHeight, { glyphs })],
      columns,
      height,
    );
  }
  const history = [...(head.history ?? [])].sort((a, b) => b.sequence - a.sequence);
  const historyRows = history.length > 0 ? history.map((event) => eventRow(state, event)) : [row(span('nothing noted lately', 'dim'))];
  return block(
    [
      ...beside(
        map,
        panel(title, chunkRows(state, chunk, view.cursor, head.chunkCount, false), CHUNK_PANEL, shape.chunkHeight, { glyphs }),
      ),
      ...panel('File history (newest first)', historyRows, columns, shape.historyHeight, { glyphs }),
    ],
    columns,
    height,
  );
}

/** The window that holds a chunk; windows follow each other without overlap. */
export const windowOf = (index: number): number => Math.floor(index / FILE_WINDOW_CHUNKS) * FILE_WINDOW_CHUNKS;

function withCursor(state: State, file: FileViewState, cursor: number): Step {
  return only({ ...state, files: { ...state.files, file: { ...file, cursor, offset: windowOf(cursor), wantsProblem: false } } });
}

/** A jump to the next problem that had to wait for its window of chunks. */
export function problemArrived(state: State): State {
  const file = state.files.file;
  const data = fileOf(state);
  if (!file?.wantsProblem || !data || data.topic.request.topic !== 'file' || data.topic.request.offset !== file.offset) return state;
  const end = Math.min(data.head.chunkCount, file.offset + FILE_WINDOW_CHUNKS);
  const found = nextProblem((index) => chunkAt(data.topic, index), end - 1, file.offset, end, data.head.copies);
  return { ...state, files: { ...state.files, file: { ...file, cursor: found ?? file.offset, wantsProblem: false } } };
}

export function fileKey(state: State, key: string): Step | null {
  const file = state.files.file;
  if (!file) return null;
  if (key === 'esc' || key === 'backspace') return only({ ...state, files: { ...state.files, file: null } });
  const data = fileOf(state);
  if (!data) return null;
  const { head, topic } = data;
  const shape = shapeOf(state, state.columns, state.rows - 5);
  const last = Math.max(0, head.chunkCount - 1);
  const cells = Math.max(1, shape.cells);
  const go = (cursor: number): Step => withCursor(state, file, Math.max(0, Math.min(last, cursor)));
  const put = (change: Partial<FileViewState>): Step => only({ ...state, files: { ...state.files, file: { ...file, ...change } } });
  const nodes = summarise(topic)?.nodes.length ?? 0;
  switch (key) {
    case 'left':
    case 'h':
      return go(file.cursor - file.zoom);
    case 'right':
    case 'l':
      return go(file.cursor + file.zoom);
    case 'up':
    case 'k':
    case 'pageup':
    case 'ctrl-u':
      return go(file.cursor - cells * file.zoom);
    case 'down':
    case 'j':
    case 'pagedown':
    case 'ctrl-d':
      return go(file.cursor + cells * file.zoom);
    case 'g':
    case 'home':
      return go(0);
    case 'G':
    case 'end':
      return go(last);
    case '[':
      return put({ nodeTop: Math.max(0, file.nodeTop - 1) });
    case ']':
      return put({ nodeTop: Math.min(Math.max(0, nodes - 1), file.nodeTop + 1) });
    case '+':
    case '=':
      return put({ zoom: Math.max(1, Math.floor(file.zoom / 2)) });
    case '-':
      return put({ zoom: file.zoom * cells >= head.chunkCount ? file.zoom : file.zoom * 2 });
    case 'm':
      return put({ mode: MAP_MODES[(MAP_MODES.indexOf(file.mode) + 1) % MAP_MODES.length]! });
    case 'n': {
      const first = file.offset;
      const end = Math.min(head.chunkCount, first + FILE_WINDOW_CHUNKS);
      const hasOtherWindows = head.chunkCount > end - first;
      const found = nextProblem((index) => chunkAt(topic, index), file.cursor, first, end, head.copies);
      if (found !== null && (found > file.cursor || !hasOtherWindows)) return go(found);
      if (!hasOtherWindows || head.health === 'HEALTHY') {
        return only(flash(state, 'ok', `every chunk has its ${plural(head.copies, 'copy').replace('copys', 'copies')}`));
      }
      const offset = end >= head.chunkCount ? 0 : end;
      return put({ offset, cursor: offset, wantsProblem: true });
    }
    case 'c': {
      const chunk = chunkAt(topic, file.cursor);
      if (!chunk) return only(state);
      return { state: flash(state, 'ok', `chunk ${chunk.id} copied`), effects: [{ kind: 'copy', text: chunk.id }] };
    }
    case 'V':
      return propose(state, verify(head.path));
    case 'R':
      return propose(state, repair(state));
    case 'X':
      return propose(state, remove(head.path, head));
    case 'enter':
      return only(state);
    default:
      return null;
  }
}
