/** What the disk store knows of each chunk without looking at the disk, and the sums over it. */
import type { ChunkHeader } from '../protocol/chunk.js';
import type { ChunkId } from '../protocol/entities.js';
import { ChunkIndex } from './chunk-index.js';
import type { IndexRecord } from './index-file.js';
import type { SmallLogFile } from './small-log.js';

/** Size of a chunk whose header was not read yet. */
export const UNKNOWN = -1;

export interface ChunkEntry {
  volume: number;
  /** Payload bytes; UNKNOWN until a header was read. */
  sizeBytes: number;
  encodedBytes: number;
  /** The bytes were seen to be right since start (written by us, or checked). */
  isVerified: boolean;
  /** On stable storage; for a chunk in a log the log knows. */
  isStable: boolean;
  /** The log it lies in, undefined when it has a file of its own. */
  log: SmallLogFile | undefined;
  offset: number;
  /** Resolves with true when this file could be made stable. */
  syncing: Promise<boolean> | undefined;
}

export const newEntry = (): ChunkEntry => ({
  volume: 0,
  sizeBytes: UNKNOWN,
  encodedBytes: UNKNOWN,
  isVerified: false,
  isStable: false,
  log: undefined,
  offset: 0,
  syncing: undefined,
});

export const isAt = (entry: ChunkEntry | undefined, log: SmallLogFile, offset: number): boolean =>
  entry?.log === log && entry.offset === offset;

export class ChunkTable {
  private readonly index = new ChunkIndex<ChunkEntry>();
  private usedBytes = 0;
  private unknownCount = 0;

  get size(): number {
    return this.index.size;
  }
  get(id: ChunkId): ChunkEntry | undefined {
    return this.index.get(id);
  }
  has(id: ChunkId): boolean {
    return this.index.has(id);
  }
  page(after: ChunkId | '', limit: number): { ids: ChunkId[]; isLast: boolean } {
    return this.index.page(after, limit);
  }

  /** Adds a chunk that is not in the table. */
  add(id: ChunkId, entry: ChunkEntry): void {
    this.index.set(id, entry);
    if (entry.sizeBytes === UNKNOWN) this.unknownCount++;
    else this.usedBytes += entry.encodedBytes;
  }
  delete(id: ChunkId, entry: ChunkEntry): void {
    if (this.index.get(id) !== entry) return;
    this.index.delete(id);
    if (entry.sizeBytes === UNKNOWN) this.unknownCount--;
    else this.usedBytes -= entry.encodedBytes;
  }

  /** Takes volume and sizes from a header, for an entry in the table. */
  learn(entry: ChunkEntry, header: ChunkHeader): void {
    this.learnSizes(entry, header.volume, header.payloadBytes, header.headerBytes + header.payloadBytes);
  }
  learnSizes(entry: ChunkEntry, volume: number, sizeBytes: number, encodedBytes: number): void {
    if (entry.sizeBytes !== UNKNOWN) return;
    entry.volume = volume;
    entry.sizeBytes = sizeBytes;
    entry.encodedBytes = encodedBytes;
    this.usedBytes += encodedBytes;
    this.unknownCount--;
  }

  /** Bytes of all chunks; those whose size was not read yet are taken to be as large as the others. */
  estimatedUsedBytes(): number {
    const known = this.index.size - this.unknownCount;
    return known > 0 ? Math.round((this.usedBytes / known) * this.index.size) : 0;
  }

  /** Chunks with files of their own and known sizes: what a clean stop saves. */
  *knownFiles(): Generator<IndexRecord> {
    for (const [id, { volume, sizeBytes, encodedBytes, log }] of this.index.entries())
      if (sizeBytes !== UNKNOWN && !log) yield { id, volume, sizeBytes, encodedBytes };
  }
}
