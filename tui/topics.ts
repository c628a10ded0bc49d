/** What the coordinator told, put together from snapshots and numbered changes, and read with types again. */
import type {
  ClusterEvent,
  ClusterStatus,
  DirectoryRow,
  FileChunk,
  FileStat,
  JobStatus,
  KeyedRow,
  NodeStatus,
  WatchRequest,
} from '../protocol/admin-calls.js';
import { FILE_WINDOW_CHUNKS, FOLDER_WINDOW_ROWS, type State, type Topic } from './model.js';

/** Events kept on screen; older ones leave as newer ones come. */
export const MAX_EVENTS = 2000;

/** Two requests that mean the same view have the same key. */
export const requestKey = (request: WatchRequest): string => JSON.stringify(request);

/** Nodes carry ages ("down for 48 s") that go on counting here between two words about them. */
const dated = (request: WatchRequest, one: KeyedRow, receivedAtMs: number): KeyedRow =>
  request.topic === 'overview' ? { ...one, receivedAtMs } : one;

export function fromSnapshot(request: WatchRequest, head: Record<string, unknown>, rows: readonly KeyedRow[], receivedAtMs: number): Topic {
  return { request, head, rows: new Map(rows.map((one) => [one.key, dated(request, one, receivedAtMs)])), receivedAtMs };
}

/** The topic after one numbered change; heads are merged field by field, so a coordinator may send only what changed. */
export function withChanges(
  topic: Topic,
  changes: {
    readonly head?: Record<string, unknown> | undefined;
    readonly upserts: readonly KeyedRow[];
    readonly removes: readonly string[];
  },
  receivedAtMs: number,
): Topic {
  const head = changes.head ? { ...topic.head, ...changes.head } : topic.head;
  if (changes.upserts.length === 0 && changes.removes.length === 0) return { ...topic, head, receivedAtMs };
  const rows = new Map(topic.rows);
  for (const key of changes.removes) rows.delete(key);
  for (const one of changes.upserts) rows.set(one.key, dated(topic.request, one, receivedAtMs));
  if (topic.request.topic === 'events') {
    // The ring is kept by us as well: a coordinator that only ever adds must not fill this process.
    for (const key of rows.keys()) {
      if (rows.size <= MAX_EVENTS) break;
      rows.delete(key);
    }
  }
  return { ...topic, head, rows, receivedAtMs };
}

export type ClusterHead = Omit<ClusterStatus, 'nodes'> & {
  readonly history?: {
    readonly readBytesPerS: readonly number[];
    readonly writtenBytesPerS: readonly number[];
    readonly repairBytesPerS: readonly number[];
  };
};
export type FileHead = Omit<FileStat, 'chunks'> & { readonly history?: readonly ClusterEvent[] };
export interface DirectoryHead {
  readonly path: string;
  readonly inode: number;
  readonly total: number;
  readonly matching: number;
  readonly parent: number | null;
}

/** Derives something from a topic once, however often it is drawn. */
export function memo<T>(derive: (topic: Topic) => T): (topic: Topic | null) => T | null {
  const known = new WeakMap<object, T>();
  return (topic) => {
    if (!topic) return null;
    const found = known.get(topic.rows);
    if (found !== undefined) return found;
    const made = derive(topic);
    known.set(topic.rows, made);
    return made;
  };
}

const byName = new Intl.Collator('en', { numeric: true });
/** n2 before n10. */
export const compareNames = (a: string, b: string): number => byName.compare(a, b) || (a < b ? -1 : a > b ? 1 : 0);

export const clusterHead = (state: State): ClusterHead | null => (state.topics.overview?.head as ClusterHead | undefined) ?? null;
const sortedNodes = memo((topic) =>
  [...(topic.rows.values() as Iterable<unknown>)].map((one) => one as DatedNode).sort((a, b) => compareNames(a.name, b.name)),
);
/** A node as last told, and when (monotonic). */
export type DatedNode = NodeStatus & { readonly receivedAtMs: number };
/** All nodes by name. */
export const nodesOf = (state: State): readonly DatedNode[] => sortedNodes(state.topics.overview) ?? [];
const sortedEvents = memo((topic) =>
  [...(topic.rows.values() as Iterable<unknown>)].map((one) => one as ClusterEvent).sort((a, b) => a.sequence - b.sequence),
);
/** Oldest first. */
export const eventsOf = (state: State): readonly ClusterEvent[] => sortedEvents(state.topics.events) ?? [];
const JOB_ORDER: Record<JobStatus['state'], number> = { running: 0, paused: 1, waiting: 2, failed: 3, done: 4, cancelled: 5 };
const sortedJobs = memo((topic) =>
  [...(topic.rows.values() as Iterable<unknown>)]
    .map((one) => one as JobStatus)
    .sort(
      (a, b) =>
        JOB_ORDER[a.state] - JOB_ORDER[b.state] ||
        (b.endedAtMs ?? b.startedAtMs) - (a.endedAtMs ?? a.startedAtMs) ||
        compareNames(b.job, a.job),
    ),
);
/** Running first, then the newest. */
export const jobsOf = (state: State): readonly JobStatus[] => sortedJobs(state.topics.jobs) ?? [];
export const isActive = (job: JobStatus): boolean => job.state === 'running' || job.state === 'waiting' || job.state === 'paused';

/** The open folder's data, null while another folder's is still here. */
export function directoryOf(
  state: State,
): { readonly head: DirectoryHead; readonly at: (index: number) => DirectoryRow | undefined } | null {
  const topic = state.topics.directory;
  const folder = state.files.folders.at(-1);
  if (!topic || !folder || topic.request.topic !== 'directory' || topic.request.inode !== folder.inode) return null;
  return {
    head: topic.head as unknown as DirectoryHead,
    at: (index) => topic.rows.get(String(index)) as unknown as DirectoryRow | undefined,
  };
}
/** The open file's data, null while another file's is still here. */
export function fileOf(state: State): { readonly head: FileHead; readonly topic: Topic } | null {
  const topic = state.topics.file;
  const file = state.files.file;
  if (!topic || !file || topic.request.topic !== 'file' || topic.request.inode !== file.inode) return null;
  return { head: topic.head as unknown as FileHead, topic };
}
export const chunkAt = (topic: Topic, index: number): FileChunk | undefined =>
  topic.rows.get(String(index)) as unknown as FileChunk | undefined;

/** The live views the present screen needs. Everything else is unsubscribed. */
export function wantedWatches(state: State): WatchRequest[] {
  const wanted: WatchRequest[] = [{ topic: 'overview' }];
  const { screen, files } = state;
  if (screen === 'overview' || screen === 'events' || screen === 'nodes') wanted.push({ topic: 'events' });
  if (screen === 'overview' || screen === 'jobs') wanted.push({ topic: 'jobs' });
  if (screen !== 'files') return wanted;
  if (files.file) {
    wanted.push({ topic: 'file', inode: files.file.inode, offset: files.file.offset, limit: FILE_WINDOW_CHUNKS });
    return wanted;
  }
  const folder = files.folders.at(-1);
  if (folder) {
    wanted.push({
      topic: 'directory',
      inode: folder.inode,
      offset: folder.offset,
      limit: FOLDER_WINDOW_ROWS,
      sort: files.sort,
      descending: files.descending,
      filter: files.filter,
    });
  }
  return wanted;
}
