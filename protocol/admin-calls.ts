/**
 * What administrators ask (namespace /admin; handshake as for clients, plus the rights of an admin for calls marked so): the same payloads
 * serve the TUI and the command line's --json, so screen and CLI cannot disagree.
 *
 * Live views: `watch` answers with a snapshot of one topic; after that the coordinator pushes `changes` (at most two a second, only when something
 * changed), numbered without gaps. After a gap or a new connection the watcher asks for a new snapshot. Every topic has one shape: a `head` object
 * and keyed `rows`, so one reducer serves all screens.
 */
import { z } from 'zod';
import { accessCalls } from './access-calls.js';
import { query } from './call.js';
import { chunkId } from './client-calls.js';
import type { ChunkId, Health, InodeId, NodeId, NodeState, VolumeId, VolumeSettings } from './entities.js';
import { historyCalls } from './history-calls.js';

/** Why the cluster is not HEALTHY; `code` is stable, `text` is for people. Most serious first. */
export interface HealthCause {
  readonly code:
    | 'CHUNKS_LOST'
    | 'CHUNKS_ENDANGERED'
    | 'CHUNKS_BELOW_COPIES'
    | 'NODE_DOWN'
    | 'NODE_SUSPECT'
    | 'NODE_FULL'
    | 'NODE_DISK_ERRORS'
    | 'TOO_FEW_NODES'
    | 'SAFE_MODE'
    | 'METADATA_COPIES'
    | 'METADATA_DISK_FULL'
    | 'NODE_SLOW'
    | 'CLOCK';
  readonly text: string;
  /** Node names, chunk counts, seconds... */
  readonly facts: Record<string, unknown>;
}
export interface NodeStatus {
  readonly node: NodeId;
  readonly name: string;
  readonly state: NodeState;
  /** Milliseconds in this state. */
  readonly stateForMs: number;
  readonly url: string;
  readonly zone: string;
  readonly version: string;
  readonly capacityBytes: number;
  readonly usedBytes: number;
  readonly freeBytes: number;
  /** Replicas the coordinator knows there. */
  readonly replicas: number;
  /** Chunks whose only good replica is there. */
  readonly onlyCopies: number;
  readonly heartbeatAgeMs: number | null;
  readonly readBytesPerS: number;
  readonly writtenBytesPerS: number;
  readonly errors: number;
  readonly isFull: boolean;
  readonly isReadOnly: boolean;
  /** For a draining node: chunks still to copy; 0 and `safeToRemove` mean it may be unplugged. */
  readonly drainLeft: number | null;
  readonly safeToRemove: boolean;
}
export interface CopiesHistogram {
  /** chunk count by number of good replicas; index 0 = lost. */
  readonly byGoodReplicas: readonly number[];
}
export interface ClusterStatus {
  readonly schema: 1;
  readonly cluster: string;
  readonly coordinatorUrl: string;
  readonly version: string;
  readonly epoch: number;
  readonly upMs: number;
  readonly health: Health;
  readonly causes: readonly HealthCause[];
  /** One sentence: health with its first cause and when it will be safe again if known. */
  readonly sentence: string;
  readonly nodes: readonly NodeStatus[];
  readonly chunks: {
    readonly total: number;
    readonly belowCopies: number;
    readonly endangered: number;
    readonly lost: number;
    readonly histogram: CopiesHistogram;
  };
  readonly files: number;
  readonly directories: number;
  readonly logicalBytes: number;
  /** Bytes of distinct chunks that are referenced. */
  readonly uniqueBytes: number;
  /** Bytes on all nodes together. */
  readonly storedBytes: number;
  readonly rates: {
    readonly readBytesPerS: number;
    readonly writtenBytesPerS: number;
    readonly repairBytesPerS: number;
    readonly callsPerS: number;
  };
  readonly clients: number;
  readonly jobs: { readonly running: number; readonly waiting: number };
  readonly safeMode: { readonly isActive: boolean; readonly waitingFor: readonly string[] };
  /** Chunks waiting for deletion. */
  readonly deletion: { readonly waiting: number; readonly bytes: number };
  readonly metadata: {
    readonly sequence: number;
    readonly bytes: number;
    readonly copies: readonly {
      readonly node: string;
      readonly sequence: number;
      readonly lagBytes: number;
      readonly isCurrent: boolean;
    }[];
  };
  /** `keptBytes`: of chunks that only snapshots name (not part of uniqueBytes). `trashBytes`: of deleted files that can be restored. */
  readonly volumes: readonly (VolumeSettings & {
    readonly usedBytes: number;
    readonly files: number;
    readonly snapshotCount?: number;
    readonly keptBytes?: number;
    readonly trashFiles?: number;
    readonly trashBytes?: number;
  })[];
  readonly repairSpeed: RepairSpeed;
}
export type RepairSpeed = 'gentle' | 'normal' | 'urgent';

export interface ClusterEvent {
  readonly sequence: number;
  /** Wall clock, milliseconds since 1970. */
  readonly atMs: number;
  readonly level: 'info' | 'warn' | 'error';
  /** Stable dotted word: node.up node.suspect node.down node.joined node.removed replica.bad replica.replaced chunk.lost repair.started repair.finished drain.* scrub.* verify.* file.written file.deleted coordinator.* volume.* user.* access.* lock.* */
  readonly kind: string;
  readonly text: string;
  readonly node?: string;
  readonly inode?: InodeId;
  readonly chunk?: ChunkId;
  readonly user?: string;
  /** Which of the user's requests: client and number. */
  readonly request?: string | undefined;
  readonly volume?: VolumeId;
}
export interface JobStatus {
  /** "J-1" */
  readonly job: string;
  readonly kind: 'repair' | 'drain' | 'scrub' | 'verify' | 'rebalance';
  readonly subject: string;
  readonly state: 'waiting' | 'running' | 'paused' | 'done' | 'failed' | 'cancelled';
  readonly totalChunks: number;
  readonly doneChunks: number;
  readonly totalBytes: number;
  readonly doneBytes: number;
  readonly bytesPerS: number;
  readonly chunksPerS: number;
  readonly etaMs: number | null;
  readonly errors: number;
  readonly lastError: string | null;
  readonly startedAtMs: number;
  readonly endedAtMs: number | null;
}
export type ReplicaHealth = 'good' | 'unchecked' | 'suspect' | 'down' | 'corrupt' | 'missing' | 'copying';
export interface ReplicaStatus {
  readonly node: NodeId;
  readonly name: string;
  /** `good` = verified by a scrub or read of the node, `unchecked` = stored with a receipt but not re-read since. */
  readonly state: ReplicaHealth;
  readonly verifiedAtMs: number | null;
}
export interface FileChunk {
  readonly index: number;
  readonly offset: number;
  readonly length: number;
  readonly id: ChunkId;
  readonly storedBytes: number;
  /** References from all files of the volume. */
  readonly references: number;
  readonly replicas: readonly ReplicaStatus[];
}
export interface FileStat {
  readonly schema: 1;
  readonly path: string;
  readonly inode: InodeId;
  readonly kind: string;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly nlink: number;
  readonly sizeBytes: number;
  readonly mtimeMs: number;
  readonly change: number;
  readonly copies: number;
  readonly health: Health;
  readonly isReadable: boolean;
  readonly chunkCount: number;
  /** Of the whole file, however few chunks are listed: chunks with 0, 1, 2, ... good replicas. */
  readonly byGoodReplicas: readonly number[];
  /** Chunks that other places use as well. */
  readonly sharedChunks: number;
  readonly chunks: readonly FileChunk[];
}
export interface DirectoryRow {
  readonly name: string;
  readonly inode: InodeId;
  readonly kind: string;
  readonly sizeBytes: number;
  readonly chunks: number;
  /** Fewest good replicas of any of its chunks; null for no chunks. */
  readonly fewestCopies: number | null;
  readonly health: Health;
  readonly mtimeMs: number;
  readonly mode: number;
}
export interface CheckReport {
  readonly schema: 1;
  readonly inodes: number;
  readonly chunks: number;
  readonly replicas: number;
  /** Extents naming chunks that do not exist; entries naming inodes that do not exist. */
  readonly dangling: number;
  /** Referenced chunks with no replica that a node really holds. */
  readonly missing: number;
  /** Replicas the metadata names but the node does not hold. */
  readonly missingReplicas: number;
  /** Chunks nodes hold that no metadata names (waiting deletion not counted). */
  readonly unknown: number;
  readonly wrongReferenceCounts: number;
  readonly belowCopies: number;
  readonly nodesAsked: readonly string[];
  readonly nodesNotReached: readonly string[];
  readonly problems: readonly string[];
}
export interface WhyReport {
  readonly schema: 1;
  readonly path: string;
  readonly health: Health;
  readonly copies: number;
  readonly isFullyReplicated: boolean;
  /** Plain sentences, most important first. */
  readonly lines: readonly string[];
  readonly causes: readonly HealthCause[];
}

/** A topic's full state: `head` is one object, `rows` a list of objects each with a unique string `key`. */
export interface Snapshot {
  readonly watch: number;
  readonly sequence: number;
  readonly head: Record<string, unknown>;
  readonly rows: readonly KeyedRow[];
}
export interface KeyedRow {
  readonly key: string;
  readonly [field: string]: unknown;
}
/** Push `changes`: apply when sequence is the last one plus 1; otherwise ask for a new snapshot. */
export interface Changes {
  readonly watch: number;
  readonly sequence: number;
  readonly head?: Record<string, unknown>;
  readonly upserts: readonly KeyedRow[];
  readonly removes: readonly string[];
}

/**
 * Topics and their shapes:
 *   overview   head = ClusterStatus without nodes, plus `history`: {readBytesPerS: number[], writtenBytesPerS: number[], repairBytesPerS: number[]} (60 s, oldest first);
 *              rows = NodeStatus keyed by node name
 *   events     head = {oldest, newest}; rows = ClusterEvent keyed by sequence (the last 1,000)
 *   jobs       head = {repairSpeed}; rows = JobStatus keyed by job
 *   directory  {inode, offset, limit, sort, filter}: head = {path, inode, total, matching, parent: InodeId | null}; rows = DirectoryRow keyed by position (window only):
 *              the key is the absolute position ("0" = first of all matching rows), so rows offset..offset+limit-1. Folders come before files.
 *              `filter`: words, all of which must match; a word is a part of the name (case ignored) or "!under", "!risk", "!lost" for the health of a file
 *              (below its copies; one good copy; no good copy).
 *   file       {inode, offset?, limit?}: head = FileStat without chunks (plus `history`: ClusterEvent[] of this inode); rows = FileChunk keyed by index.
 *              With offset and limit only the chunks offset..offset+limit-1 (a file of 100,000 chunks does not fit one message); head.chunkCount tells all.
 */
export const watchRequest = z.discriminatedUnion('topic', [
  z.object({ topic: z.literal('overview') }),
  z.object({ topic: z.literal('events') }),
  z.object({ topic: z.literal('jobs') }),
  z.object({
    topic: z.literal('directory'),
    inode: z.number().int().positive(),
    offset: z.number().int().min(0),
    limit: z.number().int().min(1).max(500),
    sort: z.enum(['name', 'size', 'mtime', 'health']),
    descending: z.boolean(),
    filter: z.string().max(256),
  }),
  z.object({
    topic: z.literal('file'),
    inode: z.number().int().positive(),
    offset: z.number().int().min(0).optional(),
    limit: z.number().int().min(1).max(5000).optional(),
  }),
]);
export type WatchRequest = z.infer<typeof watchRequest>;

const nodeName = z.string().min(1).max(64);
const path = z.string().max(8192);
const nothing = z.object({});
type Nothing = Record<string, never>;
/** What an action answers: a sentence for the result line. */
export interface Done {
  readonly text: string;
  readonly job?: string;
}

export const adminCalls = {
  hello: query<{ cluster: string; epoch: number; user: string; isAdmin: boolean; version: string; volumes: VolumeSettings[] }>()(nothing),
  status: query<ClusterStatus>()(nothing),
  watch: query<Snapshot>()(watchRequest),
  unwatch: query<Nothing>()(z.object({ watch: z.number().int() })),
  /** Paths are absolute within the caller's volume. @throws ENOENT */
  stat: query<FileStat>()(z.object({ path, volume: z.string().max(64).optional() })),
  why: query<WhyReport>()(z.object({ path, volume: z.string().max(64).optional() })),
  events: query<{ events: ClusterEvent[] }>()(
    z.object({
      after: z.number().int().min(0),
      limit: z.number().int().min(1).max(1000),
      level: z.enum(['info', 'warn', 'error']).optional(),
    }),
  ),
  jobs: query<{ jobs: JobStatus[] }>()(nothing),
  /** Compares metadata with what nodes hold; changes nothing. */
  check: query<CheckReport>()(nothing),
  /** Every replica of a file is read by its node now. */
  verify: query<{ job: string; good: number; bad: { chunk: ChunkId; node: string; problem: string }[] }>()(
    z.object({ path, volume: z.string().max(64).optional() }),
  ),
  verifyChunk: query<Done>()(z.object({ chunk: chunkId })),

  // Actions, for admins. Each is checked again here, refused with REFUSED and a reason where it would lose data, and recorded as an event.
  drainNode: query<Done>()(z.object({ node: nodeName })),
  undrainNode: query<Done>()(z.object({ node: nodeName })),
  /** Forgets a node. Refused while a chunk's last good replica is there, unless `evenIfDataIsLost` repeats the node's name. */
  removeNode: query<Done>()(z.object({ node: nodeName, evenIfDataIsLost: z.string().optional() })),
  scrub: query<Done>()(z.object({ node: nodeName.optional(), action: z.enum(['start', 'stop']) })),
  repairNow: query<Done>()(nothing),
  setRepairSpeed: query<Done>()(z.object({ speed: z.enum(['gentle', 'normal', 'urgent']) })),
  rebalance: query<Done>()(z.object({ action: z.enum(['start', 'pause', 'resume', 'cancel']) })),
  cancelJob: query<Done>()(z.object({ job: z.string().max(32) })),
  setCopies: query<Done>()(z.object({ volume: z.string().max(64), copies: z.number().int().min(1).max(8) })),
  deleteFile: query<Done>()(z.object({ path, volume: z.string().max(64).optional() })),
  /** Writes a snapshot of all metadata to this coordinator's disk and answers where; `holdfast backup` downloads by `readBackup`. */
  backup: query<{ sizeBytes: number; sequence: number; sha256: string }>()(nothing),
  readBackup: query<{ data: Buffer; isLast: boolean }>()(z.object({ offset: z.number().int().min(0) })),
  ...accessCalls,
  ...historyCalls,
};
export type AdminCalls = typeof adminCalls;
export interface AdminPushes {
  changes: Changes;
}
