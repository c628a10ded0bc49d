/**
 * What nodes tell the coordinator (namespace /node) and what it orders from them. Chunk bytes travel by HTTP (chunk-http.ts), never here.
 * Every order carries the coordinator's epoch; a node that has obeyed a higher one answers STALE_EPOCH.
 */
import { z } from 'zod';
import { query } from './call.js';
import { chunkId } from './client-calls.js';
import type { ChunkId, NodeId, VolumeId } from './entities.js';
import { MAX_IDS_PER_CALL, PROTOCOL_VERSION } from './limits.js';

export const nodeHandshake = z.object({
  protocol: z.literal(PROTOCOL_VERSION, `this coordinator speaks protocol ${PROTOCOL_VERSION}`),
  token: z.string().max(512),
});

export interface Registered {
  readonly cluster: string;
  readonly node: NodeId;
  readonly epoch: number;
  /** Random per start of the coordinator: two starts that claim the same epoch (a copied data directory) are told apart; a node serves the first it saw for an epoch. */
  readonly coordinatorStartId: string;
  /** 64 hex digits: the key permits and receipts are signed with. Kept in memory only. */
  readonly accessKey: string;
  readonly generation: number;
  /** Client ids and tags whose permits count no more. */
  readonly revokedClients: readonly string[];
  readonly heartbeatIntervalMs: number;
  /** Bytes per second the background scrub may read. */
  readonly scrubBytesPerS: number;
}
export interface InventoryItem {
  readonly chunk: ChunkId;
  readonly volume: VolumeId;
  readonly sizeBytes: number;
}
/** Sums of them stay numbers that JSON knows. */
const bytes = z
  .number()
  .min(0)
  .max(2 ** 70);
const space = {
  capacityBytes: bytes,
  freeBytes: bytes,
  usedBytes: bytes,
  chunkCount: z.number().int().min(0),
  /** The file system below, which other nodes may share: an id equal for all of them, and its room for chunks whatever `--capacity` says. */
  disk: z.object({ id: z.string().max(64), capacityBytes: bytes, freeBytes: bytes }).optional(),
};

export const nodeCalls = {
  /** First call on every connection. `node` and `cluster` are from the identity file, absent on a new data directory. */
  register: query<Registered>()(
    z.object({
      name: z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/),
      cluster: z.string().max(64).optional(),
      node: z.number().int().positive().optional(),
      startId: z.string().max(64),
      /** With a join token: SHA-256, hex, of the token this node has made for itself and comes in by from now on. */
      ownTokenSha256: z
        .string()
        .regex(/^[0-9a-f]{64}$/)
        .optional(),
      url: z.url({ protocol: /^https?$/ }).max(256),
      zone: z.string().max(64),
      version: z.string().max(64),
      ...space,
    }),
  ),
  /** Every heartbeatIntervalMs. */
  heartbeat: query<{ generation: number; revokedClients: string[]; scrubBytesPerS: number }>()(
    z.object({
      ...space,
      readBytes: z.number().min(0),
      /** Those of readBytes that other nodes fetched by order; the rest, users read. */
      repairReadBytes: z.number().min(0).optional(),
      writtenBytes: z.number().min(0),
      errors: z.number().int().min(0),
      isReadOnly: z.boolean(),
      scrubbedChunks: z.number().int().min(0),
      metadataSequence: z.number().int().min(0).optional(),
    }),
  ),
  /** The node holds too little space or a broken disk: no heartbeat needed to say it. Also tells that it stops cleanly. */
  goodbye: query<Record<string, never>>()(z.object({ reason: z.string().max(256) })),
  /**
   * A replica turned out bad (the node has set it aside already) or missing. Found by scrub, by a read or by an order.
   */
  badReplica: query<Record<string, never>>()(
    z.object({
      chunk: chunkId,
      problem: z.enum(['corrupt', 'missing', 'io-error']),
      detail: z.string().max(512),
      foundBy: z.enum(['scrub', 'read', 'order', 'start']),
    }),
  ),
  /** Chunks that a scrub found good, in groups, so that "last verified" is known. */
  verified: query<Record<string, never>>()(z.object({ chunks: z.array(chunkId).max(MAX_IDS_PER_CALL) })),
};
export type NodeCalls = typeof nodeCalls;

const order = { epoch: z.number().int().positive(), coordinatorStartId: z.string().max(64) };
const ids = z.array(chunkId).max(MAX_IDS_PER_CALL);

export interface CopyResult {
  readonly chunk: ChunkId;
  /** Receipt for the coordinator (client 'coordinator'), durable. Absent when it failed. */
  readonly receipt?: string;
  readonly error?: string;
}

/** What the coordinator orders from a node. */
export const nodeServes = {
  /** Ids in ascending order after `after` ('' starts). */
  inventory: query<{ items: InventoryItem[]; isLast: boolean }>()(
    z.object({ ...order, after: z.string().max(64), limit: z.number().int().min(1).max(MAX_IDS_PER_CALL) }),
  ),
  /** Fetch chunks from other nodes (each `from` in turn until one gives good bytes), verify, store durably. `sizeBytes`: small ones are fetched together. */
  copy: query<{ results: CopyResult[] }>()(
    z.object({
      ...order,
      chunks: z
        .array(z.object({ chunk: chunkId, from: z.array(z.string().url()).min(1).max(16), sizeBytes: z.number().int().min(0).optional() }))
        .max(64),
      permit: z.string().max(4096),
    }),
  ),
  /**
   * First step of deletion: mark chunks condemned, in memory. Any later put of the same id lifts the mark. Unknown ids are answered in `missing`.
   * Two steps, because an upload may be under way: see coordinator/DESIGN.md.
   */
  condemn: query<{ marked: ChunkId[]; missing: ChunkId[] }>()(z.object({ ...order, chunks: ids })),
  /** Second step: delete those still condemned. `sequence`: receipts of this startId with a lower or equal number are void for the deleted ones. */
  remove: query<{ removed: ChunkId[]; kept: ChunkId[]; startId: string; sequence: number }>()(z.object({ ...order, chunks: ids })),
  /** Read these replicas whole, now, and say how each is. Bad ones are set aside. */
  verify: query<{ good: ChunkId[]; bad: { chunk: ChunkId; problem: 'corrupt' | 'missing' | 'io-error'; detail: string }[] }>()(
    z.object({ ...order, chunks: z.array(chunkId).max(256) }),
  ),
  /** Chunks nobody knows: moved to a folder beside the store, kept for days (the metadata may be an old backup). */
  setAside: query<{ setAside: ChunkId[] }>()(z.object({ ...order, chunks: ids })),
  /** Full scrub of everything at this rate; findings come as badReplica/verified. */
  scrub: query<Record<string, never>>()(z.object({ ...order, action: z.enum(['start', 'stop']), bytesPerS: z.number().positive() })),
};
export type NodeServes = typeof nodeServes;
