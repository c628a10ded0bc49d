/** The map of a file: one column per chunk (or per k chunks), one row per node, and a row of digits that says the same without colour. */
import type { FileChunk, ReplicaHealth } from '../protocol/admin-calls.js';
import { type Row, type Span, span } from './draw.js';
import type { MapMode, Topic } from './model.js';
import type { Style } from './theme.js';
import { compareNames, memo } from './topics.js';

/** Cell signs; the legend is drawn from this table. */
export const CELLS: Record<ReplicaHealth | 'none' | 'unknown', { readonly sign: string; readonly style: Style; readonly words: string }> = {
  good: { sign: '#', style: 'ok', words: 'good' },
  unchecked: { sign: 'o', style: 'plain', words: 'not re-read yet' },
  copying: { sign: '~', style: 'accent', words: 'copying' },
  suspect: { sign: '?', style: 'warn', words: 'suspect' },
  down: { sign: 'x', style: 'bad', words: 'node down' },
  missing: { sign: 'm', style: 'bad', words: 'missing' },
  corrupt: { sign: '!', style: 'bad', words: 'corrupt' },
  none: { sign: '.', style: 'dim', words: 'no copy' },
  unknown: { sign: ' ', style: 'plain', words: 'not loaded' },
};
/** Worst last: a cell that covers several chunks shows the worst replica among them. */
const SEVERITY: readonly ReplicaHealth[] = ['good', 'unchecked', 'copying', 'suspect', 'down', 'missing', 'corrupt'];
const severityOf = (state: ReplicaHealth): number => SEVERITY.indexOf(state);

/** A replica a reader can use now. */
export const isGood = (state: ReplicaHealth): boolean => state === 'good' || state === 'unchecked';
export const goodReplicas = (chunk: FileChunk): number => chunk.replicas.reduce((sum, one) => sum + (isGood(one.state) ? 1 : 0), 0);

export interface FileSummary {
  /** Names of all nodes that hold something of the file, in natural order. */
  readonly nodes: readonly string[];
  /** Good replicas by node name. */
  readonly goodByNode: ReadonlyMap<string, number>;
  /** Chunks known here. */
  readonly loaded: number;
  /** Chunk count by number of good replicas. */
  readonly byGood: readonly number[];
  /** Chunks that other places use too. */
  readonly shared: number;
  readonly copying: number;
  /** Every state any of its replicas is in. */
  readonly states: ReadonlySet<ReplicaHealth>;
}
/** One pass over the chunks, done once per change and not once per frame. */
export const summarise = memo((topic: Topic): FileSummary => {
  const goodByNode = new Map<string, number>();
  const byGood: number[] = [];
  let shared = 0;
  let copying = 0;
  const states = new Set<ReplicaHealth>();
  for (const one of topic.rows.values()) {
    const chunk = one as unknown as FileChunk;
    let good = 0;
    for (const replica of chunk.replicas) {
      const usable = isGood(replica.state) ? 1 : 0;
      good += usable;
      states.add(replica.state);
      if (replica.state === 'copying') copying += 1;
      goodByNode.set(replica.name, (goodByNode.get(replica.name) ?? 0) + usable);
    }
    byGood[good] = (byGood[good] ?? 0) + 1;
    if (chunk.references > 1) shared += 1;
  }
  return {
    nodes: [...goodByNode.keys()].sort(compareNames),
    goodByNode,
    loaded: topic.rows.size,
    byGood: Array.from(byGood, (value) => value ?? 0),
    shared,
    copying,
    states,
  };
});

/**
 * The next chunk with fewer good replicas than `copies` after `from`, wrapping around within what is loaded.
 * @returns null when there is none
 */
export function nextProblem(
  at: (index: number) => FileChunk | undefined,
  from: number,
  first: number,
  end: number,
  copies: number,
): number | null {
  const length = end - first;
  for (let step = 1; step <= length; step += 1) {
    const index = first + ((((from - first + step) % length) + length) % length);
    const chunk = at(index);
    if (chunk && goodReplicas(chunk) < copies) return index;
  }
  return null;
}

export interface MapView {
  readonly at: (index: number) => FileChunk | undefined;
  readonly chunkCount: number;
  readonly copies: number;
  readonly zoom: number;
  readonly cursor: number;
  /** Cells in view. */
  readonly columns: number;
  readonly mode: MapMode;
  /** Wall clock, for the age of checks. */
  readonly wallMs: number;
}

/** The first chunk in view: the page of cells that holds the cursor. */
export function firstVisible(view: Pick<MapView, 'cursor' | 'zoom' | 'columns'>): number {
  const page = Math.max(1, view.columns) * view.zoom;
  return Math.floor(view.cursor / page) * page;
}
const cellsInView = (view: MapView): number =>
  Math.max(0, Math.min(view.columns, Math.ceil((view.chunkCount - firstVisible(view)) / view.zoom)));

function chunksOf(view: MapView, cell: number): FileChunk[] {
  const start = firstVisible(view) + cell * view.zoom;
  const chunks: FileChunk[] = [];
  for (let index = start; index < Math.min(start + view.zoom, view.chunkCount); index += 1) {
    const chunk = view.at(index);
    if (chunk) chunks.push(chunk);
  }
  return chunks;
}

/** Cells of one style become one span. */
function gather(cells: readonly Span[]): Row {
  const out: { text: string; style: Style }[] = [];
  for (const cell of cells) {
    const last = out.at(-1);
    if (last && last.style === cell.style) last.text += cell.text;
    else out.push({ text: cell.text, style: cell.style });
  }
  return out;
}

/** Nodes that hold any chunk in view, in the order of `all`. */
export function nodesInView(view: MapView, all: readonly string[]): string[] {
  const seen = new Set<string>();
  for (let cell = 0; cell < cellsInView(view); cell += 1) {
    for (const chunk of chunksOf(view, cell)) for (const replica of chunk.replicas) seen.add(replica.name);
  }
  return all.filter((name) => seen.has(name));
}

/** Digits 0 to 9 of good replicas ('+' for more), the fewest of a cell's chunks. */
export function copiesRow(view: MapView): Row {
  return gather(
    Array.from({ length: cellsInView(view) }, (_, cell) => {
      const chunks = chunksOf(view, cell);
      if (chunks.length === 0) return span(CELLS.unknown.sign);
      const fewest = Math.min(...chunks.map(goodReplicas));
      const style: Style = fewest === 0 ? 'badge-bad' : fewest >= view.copies ? 'ok' : fewest === 1 ? 'bad' : 'warn';
      return span(fewest > 9 ? '+' : String(fewest), style);
    }),
  );
}

const HOUR_MS = 3_600_000;
/** Age of the last check as one sign: h hours, d days, w weeks, M older, '-' never. */
function ageSign(verifiedAtMs: number | null, wallMs: number): Span {
  if (verifiedAtMs === null) return span('-', 'warn');
  const ageMs = Math.max(0, wallMs - verifiedAtMs);
  if (ageMs < 24 * HOUR_MS) return span('h', 'ok');
  if (ageMs < 7 * 24 * HOUR_MS) return span('d', 'ok');
  if (ageMs < 31 * 24 * HOUR_MS) return span('w', 'plain');
  return span('M', 'warn');
}

/** The row of one node. */
export function nodeRow(view: MapView, node: string): Row {
  return gather(
    Array.from({ length: cellsInView(view) }, (_, cell) => {
      const chunks = chunksOf(view, cell);
      if (chunks.length === 0) return span(CELLS.unknown.sign);
      let worst: FileChunk['replicas'][number] | undefined;
      let oldest: FileChunk['replicas'][number] | undefined;
      let references = 0;
      for (const chunk of chunks) {
        const replica = chunk.replicas.find((one) => one.name === node);
        if (!replica) continue;
        if (!worst || severityOf(replica.state) > severityOf(worst.state)) worst = replica;
        if (!oldest || (replica.verifiedAtMs ?? 0) < (oldest.verifiedAtMs ?? 0)) oldest = replica;
        references = Math.max(references, chunk.references);
      }
      if (!worst || !oldest) return span(CELLS.none.sign, CELLS.none.style);
      if (view.mode === 'age' && isGood(worst.state)) return ageSign(oldest.verifiedAtMs, view.wallMs);
      if (view.mode === 'shared') return span(references > 9 ? '+' : String(references), references > 1 ? 'accent' : 'plain');
      return span(CELLS[worst.state].sign, CELLS[worst.state].style);
    }),
  );
}

/** Chunk numbers over the map: the tens (or hundreds...) mark every tenth cell. */
export function rulerRow(view: MapView): string {
  const first = firstVisible(view);
  const cells = cellsInView(view);
  let line = '';
  for (let cell = 0; cell < cells; ) {
    const label = String(first + cell * view.zoom);
    if (cell % 10 === 0 && cell + label.length <= Math.max(cells, label.length)) {
      line += label.padEnd(10).slice(0, Math.max(0, Math.min(10, cells - cell)));
      cell += 10;
    } else {
      line += ' ';
      cell += 1;
    }
  }
  return line;
}

/** The mark under the cursor's cell. */
export const cursorRow = (view: MapView): string => `${' '.repeat(Math.floor((view.cursor - firstVisible(view)) / view.zoom))}^`;
