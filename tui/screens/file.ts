/** One file: the chunk map, the chunk under the cursor, and what happened to the file. */
import type { FileChunk } from '../../protocol/admin-calls.js';
import { remove, repair, verify } from '../actions.js';
import {
  CELLS,
  copiesRow,
  cursorRow,
  type FileSummary,
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
import { chunkAt, type FileHead, fileOf, nodesOf } from '../topics.js';
import { eventRows, healthWord, nameWidth } from '../words.js';

/** Columns after the last cell. */
const TAIL = 8;
const CHUNK_PANEL = 38;
const MODE_WORDS = { state: 'state', age: 'last check', shared: 'uses' } as const;

interface Shape {
  readonly layout: 'full' | 'medium' | 'small';
  /** Columns for the name and the state of a node. */
  readonly label: number;
  readonly mapWidth: number;
  readonly cells: number;
}
function shapeOf(state: State, columns: number): Shape {
  const layout = layoutOf(state.columns, state.rows);
  const mapWidth = layout === 'full' ? columns - CHUNK_PANEL : columns;
  const label = nameWidth(nodesOf(state), 5, layout === 'small' ? 6 : 12) + 7;
  return { layout: layout === 'full' || layout === 'medium' ? layout : 'small', label, mapWidth, cells: mapWidth - 4 - label - TAIL };
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

type FileData = NonNullable<ReturnType<typeof fileOf>>;

/** Rows of the map besides those of nodes: 8 with everything, fewer where room is short. */
const FIXED_ROWS = { full: 8, medium: 6, small: 4 } as const;

/** What the signs mean: all of them, or in one row those that are on screen. */
function legendRows(view: MapView, summary: FileSummary | null, isShort: boolean): Row[] {
  const rowOf = (parts: readonly (typeof CELLS)[keyof typeof CELLS][]): Row =>
    row(...parts.flatMap((one) => [span(one.sign, one.style), span(` ${one.words}  `, 'dim')]));
  if (view.mode === 'age') return [row(span('checked: h hours, d days, w weeks, M older, - never', 'dim'))];
  if (view.mode === 'shared') return [row(span('digits: how many places use the chunk', 'dim'))];
  if (isShort) return [rowOf(LEGEND.filter((one) => one === 'none' || summary?.states.has(one)).map((one) => CELLS[one]))];
  const half = Math.ceil(LEGEND.length / 2);
  return [LEGEND.slice(0, half), LEGEND.slice(half)].map((part) => rowOf(part.map((one) => CELLS[one])));
}
const LEGEND = ['good', 'unchecked', 'copying', 'suspect', 'down', 'missing', 'corrupt', 'none'] as const;

/** Chunks by how safe they are, of the whole file: the coordinator counts also those that are not loaded here. */
function totalsRow(head: FileHead, copies: number): Row {
  const { byGoodReplicas } = head;
  const at = (good: number): number => byGoodReplicas[good] ?? 0;
  const below = byGoodReplicas.slice(0, copies).reduce((sum, value) => sum + value, 0);
  const endangered = copies > 1 ? at(1) : 0;
  return row(
    span('chunks  ', 'dim'),
    `${count(head.chunkCount - below)} ok, ${count(below - at(0) - endangered)} under, `,
    span(`${count(endangered)} on one copy, `, endangered > 0 ? 'bad' : 'plain'),
    span(`${count(at(0))} lost`, at(0) > 0 ? 'badge-bad' : 'plain'),
  );
}

function mapPanel(state: State, file: FileViewState, data: FileData, view: MapView, shape: Shape, height: number): Row[] {
  const { head, topic } = data;
  const { layout } = shape;
  const summary = summarise(topic);
  const states = new Map(nodesOf(state).map((one) => [one.name, one.state]));
  const nodes = nodesInView(view, summary?.nodes ?? []);
  const room = Math.max(1, height - 2 - FIXED_ROWS[layout]);
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
  const cells = Math.min(view.columns, Math.max(1, Math.ceil((lastChunk - firstVisible(view)) / view.zoom)));
  const label = (text: string): string => padEnd(text, shape.label);
  const word = healthWord(head.health);
  const readable = `  readable now: ${head.isReadable ? 'yes' : 'NO'} | ${bytes(head.sizeBytes)}, goal ${copiesWords(head.copies)}`;
  const ruler: Row = [
    span(label('chunk'), 'dim'),
    ...sized(row(span(rulerRow(view), 'dim')), cells, ''),
    span(padStart(cells < 10 ? '' : 'good', TAIL), 'dim'),
  ];
  const body: Row[] = [
    ...(layout === 'small' ? [] : [row(word, readable)]),
    ruler,
    row(label('copies'), ...copiesRow(view)),
    ...shown.map((name) => {
      const at = states.get(name);
      const style = at === 'down' ? 'bad' : at === undefined || at === 'up' ? 'plain' : 'warn';
      return [
        span(label(`${padEnd(truncateMiddle(escapeControl(name), shape.label - 7), shape.label - 7)} ${at ? SHORT_STATE[at] : ''}`), style),
        ...sized(nodeRow(view, name), cells),
        span(padStart(count(summary?.goodByNode.get(name) ?? 0), TAIL), 'dim'),
      ];
    }),
    row(
      span(label(nodes.length > shown.length ? `[ ] ${first + 1}-${first + shown.length}/${nodes.length}` : ''), 'dim'),
      span(cursorRow(view), 'bold'),
    ),
    ...legendRows(view, summary, layout !== 'full'),
  ];
  if (layout !== 'small') body.push(totalsRow(head, view.copies));
  if (layout === 'full') body.push(row(span('shared  ', 'dim'), `${plural(head.sharedChunks, 'chunk')} also used elsewhere`));
  const range = view.chunkCount > 0 ? `${count(firstVisible(view))}-${count(lastChunk - 1)} of ${count(view.chunkCount)}` : 'none';
  const each = view.zoom === 1 ? '1 per cell' : `${view.zoom} per cell (the worst)`;
  const title =
    layout === 'small'
      ? `${word.text.trim()}: chunks ${range}${view.zoom === 1 ? '' : `, ${view.zoom} per cell`}`
      : `Chunks ${range}, ${each}, ${MODE_WORDS[file.mode]}`;
  return panel(title, body, shape.mapWidth, height, { glyphs: state.options.glyphs, isFocused: true });
}

/** The chunk under the cursor in two lines, where there is no room for a box. */
function chunkLines(chunk: FileChunk | undefined, index: number, total: number): Row[] {
  if (!chunk) return [row(span(total === 0 ? ' An empty file: no chunks.' : ` chunk ${index} is being loaded ...`, 'dim'))];
  const good = goodReplicas(chunk);
  return [
    row(span(` Chunk ${count(index)}  `, 'bold'), holdersWords(chunk)),
    row(
      span(' readable  ', 'dim'),
      good > 0 ? `yes, ${count(good)} good ${good === 1 ? 'copy' : 'copies'}` : span('NO: no good copy in reach', 'badge-bad'),
      span(`   ${bytes(chunk.length)} at ${bytes(chunk.offset)}`, 'dim'),
    ),
  ];
}
const holdersWords = (chunk: FileChunk): string =>
  chunk.replicas.map((one) => `${escapeControl(one.name)} ${one.state}`).join(', ') || 'on no node';
const copiesWords = (copies: number): string => `${count(copies)} ${copies === 1 ? 'copy' : 'copies'}`;

function chunkRows(state: State, chunk: FileChunk | undefined, index: number, total: number, isShort: boolean): Row[] {
  if (!chunk) return [row(span(total === 0 ? 'An empty file: no chunks.' : `chunk ${index} is being loaded ...`, 'dim'))];
  const good = goodReplicas(chunk);
  const readable = good > 0 ? `yes, ${count(good)} good ${good === 1 ? 'copy' : 'copies'}` : 'NO: no good copy in reach';
  if (isShort) {
    return [
      row(span('on       ', 'dim'), holdersWords(chunk)),
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
  const shape = shapeOf(state, columns);
  const view = viewOf(state, file, topic, head.chunkCount, head.copies, shape.cells);
  const chunk = chunkAt(topic, view.cursor);
  const title = `Chunk ${count(view.cursor)}`;
  if (shape.layout === 'small') {
    return block(
      [...mapPanel(state, file, data, view, shape, height - 2), ...chunkLines(chunk, view.cursor, head.chunkCount)],
      columns,
      height,
    );
  }
  if (shape.layout === 'medium') {
    return block(
      [
        ...mapPanel(state, file, data, view, shape, height - 6),
        ...panel(title, chunkRows(state, chunk, view.cursor, head.chunkCount, true), columns, 6, { glyphs }),
      ],
      columns,
      height,
    );
  }
  // The history gets what the map and the chunk do not need.
  const beside_ = chunkRows(state, chunk, view.cursor, head.chunkCount, false);
  const needed = 2 + Math.max(FIXED_ROWS.full + nodesInView(view, summarise(topic)?.nodes ?? []).length, beside_.length, 12);
  const mapHeight = Math.min(needed, height - 5);
  const history = [...(head.history ?? [])].sort((a, b) => b.sequence - a.sequence);
  const historyRows = history.length > 0 ? eventRows(state, history) : [row(span('nothing noted lately', 'dim'))];
  return block(
    [
      ...beside(mapPanel(state, file, data, view, shape, mapHeight), panel(title, beside_, CHUNK_PANEL, mapHeight, { glyphs })),
      ...panel('File history (newest first)', historyRows, columns, height - mapHeight, { glyphs }),
    ],
    columns,
    height,
  );
}

/** The window that holds a chunk; windows follow each other without overlap. */
export const windowOf = (index: number): number => Math.floor(index / FILE_WINDOW_CHUNKS) * FILE_WINDOW_CHUNKS;

function withCursor(state: State, file: FileViewState, cursor: number): Step {
  return only({ ...state, files: { ...state.files, file: { ...file, cursor, offset: windowOf(cursor), windowsToSearch: 0 } } });
}

/** A search for the next problem that had to wait for its window of chunks: ends there, or goes on to the next window. */
export function problemArrived(state: State): State {
  const file = state.files.file;
  const data = fileOf(state);
  if (!file || file.windowsToSearch === 0 || data?.topic.request.topic !== 'file' || data.topic.request.offset !== file.offset)
    return state;
  const end = Math.min(data.head.chunkCount, file.offset + FILE_WINDOW_CHUNKS);
  const found = nextProblem((index) => chunkAt(data.topic, index), end - 1, file.offset, end, data.head.copies);
  const put = (change: Partial<FileViewState>): State => ({ ...state, files: { ...state.files, file: { ...file, ...change } } });
  if (found !== null) return put({ cursor: found, windowsToSearch: 0 });
  if (file.windowsToSearch === 1) return flash(put({ windowsToSearch: 0 }), 'note', 'no chunk below its copies was found');
  const offset = end >= data.head.chunkCount ? 0 : end;
  return put({ offset, cursor: offset, windowsToSearch: file.windowsToSearch - 1 });
}

export function fileKey(state: State, key: string): Step | null {
  const file = state.files.file;
  if (!file) return null;
  if (key === 'esc' || key === 'backspace') return only({ ...state, files: { ...state.files, file: null } });
  const data = fileOf(state);
  if (!data) {
    // Keys pressed while the file is still being asked for count: how many chunks there are is known when it is drawn.
    if (key === 'left' || key === 'h') return withCursor(state, file, Math.max(0, file.cursor - 1));
    if (key === 'right' || key === 'l') return withCursor(state, file, file.cursor + 1);
    return null;
  }
  const { head, topic } = data;
  const shape = shapeOf(state, state.columns);
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
        return only(flash(state, 'note', `every chunk has its ${copiesWords(head.copies)}`));
      }
      const offset = end >= head.chunkCount ? 0 : end;
      return put({ offset, cursor: offset, windowsToSearch: Math.ceil(head.chunkCount / FILE_WINDOW_CHUNKS) });
    }
    case 'c': {
      const chunk = chunkAt(topic, file.cursor);
      if (!chunk) return only(state);
      return { state: flash(state, 'note', `chunk ${chunk.id} copied`), effects: [{ kind: 'copy', text: chunk.id }] };
    }
    case 'V':
      return propose(state, verify(head.path));
    case 'R':
      return propose(state, repair(state));
    case 'X':
      return propose(state, remove(state, head.path, head));
    case 'enter':
      return only(state);
    default:
      return null;
  }
}
