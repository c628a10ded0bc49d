/** A small cluster as the screen's pure parts see it: states and messages for tests. */
import type { DirectoryRow, FileChunk, JobStatus, KeyedRow, NodeStatus, ReplicaHealth, WatchRequest } from '../protocol/admin-calls.js';
import { initialState, type Message, type Options, type State } from '../tui/model.js';
import { ASCII_GLYPHS } from '../tui/theme.js';
import { update, updateAll } from '../tui/update.js';

export const WALL_MS = Date.UTC(2026, 10, 21, 12, 0, 0);
const MIB = 1024 * 1024;

export const sampleNode = (name: string, more: Partial<NodeStatus> = {}): NodeStatus => ({
  node: Number(name.replace(/\D/g, '')) || 1,
  name,
  state: 'up',
  stateForMs: 60_000,
  url: `http://127.0.0.1:47${name.replace(/\D/g, '').padStart(2, '0')}`,
  zone: '',
  version: '0.1.0',
  capacityBytes: 1000 * MIB,
  usedBytes: 220 * MIB,
  freeBytes: 780 * MIB,
  replicas: 262,
  onlyCopies: 0,
  heartbeatAgeMs: 400,
  readBytesPerS: 12 * MIB,
  writtenBytesPerS: 31 * MIB,
  errors: 0,
  isFull: false,
  isReadOnly: false,
  drainLeft: null,
  safeToRemove: false,
  ...more,
});
export const nodeRow = (node: NodeStatus): KeyedRow => ({ key: node.name, ...node });

export const sampleHead = (more: Record<string, unknown> = {}): Record<string, unknown> => ({
  schema: 1,
  cluster: 'demo',
  coordinatorUrl: 'http://127.0.0.1:4700',
  version: '0.1.0',
  epoch: 3,
  upMs: 11_520_000,
  health: 'AT RISK',
  causes: [],
  sentence: 'AT RISK: n3 down 48s | 37 chunks under goal, 4 on one copy, 0 lost',
  chunks: { total: 290, belowCopies: 37, endangered: 4, lost: 0, histogram: { byGoodReplicas: [0, 4, 33, 253, 0] } },
  files: 148,
  directories: 12,
  logicalBytes: 1200 * MIB,
  uniqueBytes: 1000 * MIB,
  storedBytes: 2900 * MIB,
  rates: { readBytesPerS: 24 * MIB, writtenBytesPerS: 70 * MIB, repairBytesPerS: 6 * MIB, callsPerS: 120 },
  history: { readBytesPerS: [1, 2, 3], writtenBytesPerS: [3, 2, 1], repairBytesPerS: [0, 0, 0] },
  clients: 2,
  jobs: { running: 1, waiting: 0 },
  safeMode: { isActive: false, waitingFor: [] },
  deletion: { waiting: 0, bytes: 0 },
  metadata: { sequence: 9, bytes: 6 * MIB, copies: [] },
  volumes: [
    {
      volume: 1,
      name: 'main',
      root: 1,
      copies: 3,
      chunkSizeBytes: MIB,
      quotaBytes: null,
      quotaFiles: null,
      encryption: null,
      trashKeepMs: 0,
      usedBytes: 0,
      files: 148,
    },
  ],
  repairSpeed: 'normal',
  ...more,
});

export const sampleJob = (more: Partial<JobStatus> = {}): JobStatus => ({
  job: 'J-81',
  kind: 'repair',
  subject: 'n3 -> n1, n2',
  state: 'running',
  totalChunks: 98,
  doneChunks: 61,
  totalBytes: 98 * MIB,
  doneBytes: 61 * MIB,
  bytesPerS: 5.9 * MIB,
  chunksPerS: 5.9,
  etaMs: 22_000,
  errors: 0,
  lastError: null,
  startedAtMs: WALL_MS - 60_000,
  endedAtMs: null,
  ...more,
});
export const sampleEntry = (name: string, more: Partial<DirectoryRow> = {}): DirectoryRow => ({
  name,
  inode: 100,
  kind: 'file',
  sizeBytes: 3 * MIB,
  chunks: 3,
  fewestCopies: 3,
  health: 'HEALTHY',
  mtimeMs: WALL_MS,
  mode: 0o644,
  ...more,
});
export const sampleChunk = (index: number, replicas: readonly (readonly [string, ReplicaHealth])[], references = 1): FileChunk => ({
  index,
  offset: index * MIB,
  length: MIB,
  id: index.toString(16).padStart(64, '0'),
  storedBytes: MIB,
  references,
  replicas: replicas.map(([name, state]) => ({ node: 1, name, state, verifiedAtMs: state === 'good' ? WALL_MS - 7_200_000 : null })),
});
export const chunkRows = (chunks: readonly FileChunk[]): KeyedRow[] => chunks.map((one) => ({ key: String(one.index), ...one }));
export const sampleFileHead = (chunkCount: number, more: Record<string, unknown> = {}): Record<string, unknown> => ({
  schema: 1,
  path: '/video.mp4',
  inode: 100,
  kind: 'file',
  mode: 0o644,
  uid: 0,
  gid: 0,
  nlink: 1,
  sizeBytes: chunkCount * MIB,
  mtimeMs: WALL_MS,
  change: 7,
  copies: 3,
  health: 'DEGRADED',
  isReadable: true,
  chunkCount,
  byGoodReplicas: [0, 0, 0, chunkCount],
  sharedChunks: 0,
  history: [],
  ...more,
});

export const options: Options = { glyphs: ASCII_GLYPHS, color: 'none', readOnly: false, stateDir: null };
export const live: Message = {
  kind: 'link',
  link: { kind: 'live', sinceMs: 0, url: 'http://127.0.0.1:4700', user: 'admin', isAdmin: true },
};
export const snapshot = (request: WatchRequest, head: Record<string, unknown>, rows: readonly KeyedRow[]): Message => ({
  kind: 'snapshot',
  request,
  head,
  rows,
});
export const SAMPLE_NODES = [
  sampleNode('n1'),
  sampleNode('n2'),
  sampleNode('n3', { state: 'down', stateForMs: 48_000, replicas: 98 }),
  sampleNode('n4', { state: 'draining', drainLeft: 96, replicas: 96 }),
  sampleNode('n5', { replicas: 216, onlyCopies: 4 }),
];
export const overviewSnapshot = (nodes: readonly NodeStatus[] = SAMPLE_NODES, head: Record<string, unknown> = {}): Message =>
  snapshot({ topic: 'overview' }, sampleHead(head), nodes.map(nodeRow));
export const eventsSnapshot = (count: number): Message =>
  snapshot(
    { topic: 'events' },
    { oldest: 1, newest: count },
    Array.from({ length: count }, (_, index) => ({
      key: String(index + 1),
      sequence: index + 1,
      atMs: WALL_MS + index * 1000,
      level: index % 5 === 4 ? 'warn' : 'info',
      kind: index % 5 === 4 ? 'node.suspect' : 'file.written',
      text: `event number ${index + 1}`,
      ...(index % 5 === 4 ? { node: 'n2' } : { inode: 100 }),
    })),
  );

/** Connected, with nodes, events and a job. */
export function sampleState(size = { columns: 100, rows: 30 }, more: Partial<Options> = {}): State {
  return updateAll(initialState({ ...options, ...more }, size, 'http://127.0.0.1:4700'), [
    { kind: 'tick', nowMs: 1000, wallMs: WALL_MS },
    live,
    overviewSnapshot(),
    eventsSnapshot(12),
    snapshot({ topic: 'jobs' }, { repairSpeed: 'normal' }, [{ key: 'J-81', ...sampleJob() }]),
  ]).state;
}
/** Presses keys in order; effects are collected. */
export const press = (state: State, ...keys: string[]) =>
  updateAll(
    state,
    keys.map((key) => ({ kind: 'key', key })),
  );
export const pressed = (state: State, ...keys: string[]): State => press(state, ...keys).state;
export { update, updateAll };
