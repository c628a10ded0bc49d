/**
 * Where a node keeps its replicas. The contract below holds for every implementation (chunk-store.contract.ts runs the same cases for all).
 *
 * - A chunk is immutable and named by its hash, so putting it twice is putting it once, and any copy of the right bytes is the right copy.
 * - `put` returns one outcome per chunk, in order. When it says done, the chunk is readable, survives kill -9 of this process, and is on stable
 *   storage at once (durable) or within BACKGROUND_SYNC_INTERVAL_MS plus the time of one pass (not durable). When it says failed, nothing was
 *   promised: the chunk may or may not be there, and putting it again is safe.
 * - A chunk is visible only when whole. A put over an existing chunk keeps it when it is really whole and replaces it otherwise.
 * - `read` answers what lies on the disk and does not hash it: the reader does. What is recognisably not the chunk is CHUNK_CORRUPT.
 * - After a failed sync the bytes concerned are never called good again: they are dropped and `onDamaged` is told.
 * - `remove` need not be durable: a chunk that comes back after a power loss shows up in the inventory.
 * - The caller must not run put, remove, setAside and takeBack of the SAME id at the same time (ChunkService queues them); everything else may overlap.
 */
import type { ChunkHeader } from '../protocol/chunk.js';
import type { ChunkId } from '../protocol/entities.js';
import type { HoldfastError } from '../protocol/errors.js';
import type { InventoryItem } from '../protocol/node-calls.js';

/** A chunk whose bytes the caller has verified against its id. */
export interface ChunkToPut {
  readonly id: ChunkId;
  readonly encoded: Buffer;
  readonly header: ChunkHeader;
}

export type ChunkProblem = 'corrupt' | 'missing' | 'io-error';
export const SET_ASIDE_REASONS = ['unknown', 'corrupt', 'missing'] as const;
export type SetAsideReason = (typeof SET_ASIDE_REASONS)[number];
export type CheckResult =
  | { readonly state: 'good'; readonly sizeBytes: number }
  | { readonly state: ChunkProblem; readonly detail: string };

export interface Usage {
  /** What the disk (or --capacity) could hold of chunks at most. */
  readonly capacityBytes: number;
  /** What may still be put; 0 when puts are refused. */
  readonly freeBytes: number;
  /** Bytes of all chunks kept. */
  readonly usedBytes: number;
  readonly chunkCount: number;
  /** The file system below, which other nodes may share: its room for chunks whatever this node is limited to. */
  readonly disk?: { readonly id: string; readonly capacityBytes: number; readonly freeBytes: number };
  /** True after repeated disk errors: puts are refused, reads go on. */
  readonly isReadOnly: boolean;
  /** Disk errors since start. */
  readonly errorCount: number;
}

export interface ChunkStore {
  /** From memory. */
  has(id: ChunkId): boolean;
  /**
   * Stores chunks. Outcome per chunk: undefined = done; otherwise ENOSPC (no room, also out of inodes), EROFS (store became read-only) or EIO.
   * Once it resolves the store looks at the caller's bytes no more: they may be overwritten.
   */
  put(chunks: readonly ChunkToPut[], durable: boolean): Promise<(HoldfastError | undefined)[]>;
  /**
   * The encoded header followed by the leaves [first, first + count); count may be Infinity and is cut at the last leaf.
   * @throws {HoldfastError} CHUNK_MISSING, CHUNK_CORRUPT, EIO, BAD_MESSAGE (first beyond the last leaf)
   */
  read(id: ChunkId, first: number, count: number): Promise<Buffer>;
  /** Volume and payload size, undefined when not there or not readable. */
  describe(id: ChunkId): Promise<InventoryItem | undefined>;
  /** Ids in ascending order after `after` ('' starts). Chunks whose header cannot be read are left out (a scrub finds them). */
  list(after: ChunkId | '', limit: number): Promise<{ items: InventoryItem[]; isLast: boolean }>;
  /** Ids alone, ascending, readable or not. From memory. */
  idsAfter(after: ChunkId | '', limit: number): { ids: ChunkId[]; isLast: boolean };
  /** Resolves when every named chunk that is there is on stable storage; returns those that are not there (any more). */
  sync(ids: readonly ChunkId[]): Promise<ChunkId[]>;
  /** True when it was there. Works on a full disk. */
  remove(id: ChunkId): Promise<boolean>;
  /** Takes a chunk out of service but keeps its bytes for people (`why` names the folder). True when it was there. */
  setAside(id: ChunkId, why: SetAsideReason): Promise<boolean>;
  /**
   * Looks again at a chunk that was set aside as corrupt: when it is whole (its disk gave wrong bytes for a while, but has the right ones), it is in
   * service again, on stable storage. True then.
   */
  takeBack(id: ChunkId): Promise<boolean>;
  /** Reads a replica whole from the disk and hashes it. Does not set it aside. */
  check(id: ChunkId): Promise<CheckResult>;
  usage(): Promise<Usage>;
  /** Told about replicas the store itself had to drop. */
  onDamaged: ((chunk: ChunkId, problem: ChunkProblem, detail: string) => void) | undefined;
  /** Makes everything stable and lets go of the disk. */
  close(): Promise<void>;
}
