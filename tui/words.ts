/** How states are worded and coloured, the same on every screen. */
import type { ClusterEvent, JobStatus } from '../protocol/admin-calls.js';
import type { Health } from '../protocol/entities.js';
import { type Row, row, type Span, span } from './draw.js';
import { age, bytes, moment, momentWidth, rate } from './format.js';
import type { State } from './model.js';
import { escapeControl, padEnd, widthOf, wrapWords } from './text.js';
import type { Style } from './theme.js';
import { clusterHead, type DatedNode } from './topics.js';

/** "!!" in front of serious words, so they stand out without colour. */
export function healthWord(health: Health): Span {
  switch (health) {
    case 'HEALTHY':
      return span('   HEALTHY', 'badge-ok');
    case 'DEGRADED':
      return span(' ! DEGRADED', 'badge-warn');
    default:
      return span(`!! ${health}`, 'badge-bad');
  }
}
export const healthStyle = (health: Health): Style => (health === 'HEALTHY' ? 'ok' : health === 'DEGRADED' ? 'warn' : 'bad');

/** How long a node has been in its state, now. */
export const stateAgeMs = (state: State, node: DatedNode): number => node.stateForMs + Math.max(0, state.nowMs - node.receivedAtMs);

export function nodeState(state: State, node: DatedNode): Span {
  const since = age(stateAgeMs(state, node));
  switch (node.state) {
    case 'up':
      if (node.isReadOnly) return span('up READ-ONLY', 'warn');
      if (node.isFull) return span('up FULL', 'warn');
      return span('up', 'ok');
    case 'suspect':
      return span(`SUSPECT ${since}`, 'warn');
    case 'down':
      return span(`DOWN ${since}`, 'bad');
    case 'draining':
      if (node.safeToRemove) return span('drained', 'warn');
      return span(node.drainLeft === null ? 'draining' : `drain ${node.drainLeft}`, 'warn');
    case 'removed':
      return span('removed', 'dim');
  }
}
/** Nothing was heard of it lately: its rates are not known. */
export const isSilent = (node: DatedNode): boolean => node.state === 'down' || node.state === 'suspect';
/** Columns for the names of these nodes. */
export const nameWidth = (nodes: readonly DatedNode[], least: number, most: number): number =>
  Math.max(least, Math.min(most, Math.max(0, ...nodes.map((one) => widthOf(escapeControl(one.name))))));
export const NODE_TROUBLE: Record<DatedNode['state'], number> = { down: 0, suspect: 1, draining: 2, up: 3, removed: 4 };

/** The nodes that hold the cluster up, worst first, in words: "4 up (1 draining), 1 down". */
export function nodesTitle(nodes: readonly DatedNode[]): string {
  const many = (state: DatedNode['state']): number => nodes.filter((one) => one.state === state).length;
  const draining = many('draining');
  const parts = [`${many('up') + draining} up${draining > 0 ? ` (${draining} draining)` : ''}`];
  if (many('suspect') > 0) parts.push(`${many('suspect')} suspect`);
  if (many('down') > 0) parts.push(`${many('down')} down`);
  return `Nodes: ${parts.join(', ')}`;
}

const LEVELS: Record<ClusterEvent['level'], { word: string; style: Style }> = {
  info: { word: 'INFO', style: 'plain' },
  warn: { word: 'WARN', style: 'warn' },
  error: { word: 'ERR ', style: 'bad' },
};
/** "12:03:53  WARN  n3 missed 3 heartbeats", one row an event. */
export function eventRows(state: State, events: readonly ClusterEvent[]): Row[] {
  const width = timeColumn(state, events);
  return events.map((event) => {
    const { word, style } = LEVELS[event.level] ?? LEVELS.info;
    return row(padEnd(moment(event.atMs, state.wallMs), width), span(word, style), `  ${escapeControl(event.text)}`);
  });
}
const timeColumn = (state: State, events: readonly ClusterEvent[]): number =>
  2 +
  momentWidth(
    events.map((one) => one.atMs),
    state.wallMs,
  );

/** The same for narrow places: texts go on in the next row. */
export function wrappedEventRows(state: State, events: readonly ClusterEvent[], columns: number): Row[] {
  const indent = timeColumn(state, events) + 6;
  return eventRows(state, events).flatMap((one, index) => {
    const [first = '', ...more] = wrapWords(escapeControl(events[index]?.text ?? ''), Math.max(10, columns - indent));
    return [[...one.slice(0, 2), span(`  ${first}`)], ...more.map((line) => row(' '.repeat(indent) + line))];
  });
}

/** Share done, by chunks, else by bytes. */
export const shareOf = (job: JobStatus): number =>
  job.totalChunks > 0
    ? job.doneChunks / job.totalChunks
    : job.totalBytes > 0
      ? job.doneBytes / job.totalBytes
      : job.state === 'done'
        ? 1
        : 0;
export const jobStyle = (job: JobStatus): Style =>
  job.state === 'failed' || job.errors > 0 ? 'bad' : job.state === 'paused' ? 'warn' : job.state === 'done' ? 'ok' : 'plain';
export const jobSpeed = (job: JobStatus): string =>
  job.bytesPerS >= 1 || job.chunksPerS < 0.05 ? rate(job.bytesPerS) : `${job.chunksPerS.toFixed(1)} chunks/s`;

/** When the next try to connect is: "now", "in 3s". */
export function nextTry(state: State): string {
  const leftMs = state.link.kind === 'offline' ? state.link.nextTryAtMs - state.nowMs : 0;
  return leftMs < 1000 ? 'now' : `in ${age(leftMs)}`;
}
/** The usual reasons in few words; where it was tried stands in the header. */
function shortError(error: string): string {
  if (error.includes('ECONNREFUSED')) return 'connection refused: nothing listens there';
  if (/ETIMEDOUT|timeout|timed out/i.test(error)) return 'no answer';
  if (/ENOTFOUND|EAI_AGAIN/.test(error)) return 'the name of the host is not known';
  return error;
}

/** The coordinator's own sentence: health, first cause, when it will be safe again. */
export function healthRow(state: State): Row {
  const { link } = state;
  if (link.kind === 'offline') {
    const since = age(state.nowMs - link.sinceMs);
    return row(
      span('!! OFFLINE', 'badge-bad'),
      `  ${since}, retry ${link.attempt} ${nextTry(state)} | ${escapeControl(shortError(link.error))}`,
    );
  }
  const head = clusterHead(state);
  if (!head) return row(span('   connecting', 'dim'), ` to ${link.url}`);
  const rest = head.sentence.startsWith(head.health) ? head.sentence.slice(head.health.length).replace(/^[\s:,.|-]+/, '') : head.sentence;
  return row(healthWord(head.health), `  ${escapeControl(rest)}`);
}

/** "3.2 GiB free of 10.0 GiB" */
export const spaceWords = (node: DatedNode): string => `${bytes(node.freeBytes)} free of ${bytes(node.capacityBytes)}`;
