/** A chunk store without a disk, for simulations: `crash()` forgets what a power loss would have taken. The contract is chunk-store.ts. */
import { type ChunkHeader, parseHeader, verifyChunk } from '../protocol/chunk.js';
import type { ChunkId } from '../protocol/entities.js';
import type { Environment, Timer } from '../protocol/environment.js';
import { HoldfastError } from '../protocol/errors.js';
import { BACKGROUND_SYNC_INTERVAL_MS } from '../protocol/limits.js';
import type { InventoryItem } from '../protocol/node-calls.js';
import { ChunkIndex } from './chunk-index.js';
import type { CheckResult, ChunkStore, ChunkToPut, SetAsideReason, Usage } from './chunk-store.js';
import { cutLeaves } from './leaves.js';

interface Entry {
  encoded: Buffer;
  isStable: boolean;
}

export interface MemoryChunkStoreOptions {
  readonly capacityBytes?: number;
  readonly environment?: Environment;
}

export class MemoryChunkStore implements ChunkStore {
  onDamaged: ChunkStore['onDamaged'];
  readonly setAsideChunks = new Map<ChunkId, { encoded: Buffer; why: SetAsideReason }>();
  private index = new ChunkIndex<Entry>();
  private usedBytes = 0;
  private readonly capacityBytes: number;
  private timer: Timer | undefined;

  constructor(private readonly options: MemoryChunkStoreOptions = {}) {
    this.capacityBytes = options.capacityBytes ?? 2 ** 40;
  }

  /** Power loss: what was not synced is gone. */
  crash(): void {
    this.timer?.cancel();
    this.timer = undefined;
    for (const [id, { isStable }] of [...this.index.entries()]) if (!isStable) this.drop(id);
  }

  /** Flips one bit of the payload (or cuts it), as a failing disk would. False when the chunk is not there. */
  damage(id: ChunkId, how: 'flip' | 'truncate' = 'flip'): boolean {
    const entry = this.index.get(id);
    if (!entry) return false;
    const encoded = Buffer.from(entry.encoded);
    if (how === 'flip') encoded[encoded.length - 1]! ^= 1;
    entry.encoded = how === 'flip' ? encoded : encoded.subarray(0, encoded.length - 1);
    return true;
  }

  has(id: ChunkId): boolean {
    return this.index.has(id);
  }

  async put(chunks: readonly ChunkToPut[], durable: boolean): Promise<(HoldfastError | undefined)[]> {
    return chunks.map((chunk) => this.putOne(chunk, durable));
  }

  async read(id: ChunkId, first: number, count: number): Promise<Buffer> {
    return cutLeaves(this.entry(id).encoded, first, count);
  }

  async describe(id: ChunkId): Promise<InventoryItem | undefined> {
    const entry = this.index.get(id);
    if (!entry) return undefined;
    try {
      const header: ChunkHeader = parseHeader(entry.encoded);
      return { chunk: id, volume: header.volume, sizeBytes: header.payloadBytes };
    } catch {
      return undefined;
    }
  }

  async list(after: ChunkId | '', limit: number): Promise<{ items: InventoryItem[]; isLast: boolean }> {
    const { ids, isLast } = this.index.page(after, limit);
    const items = await Promise.all(ids.map((id) => this.describe(id)));
    return { items: items.filter((item) => item !== undefined), isLast };
  }

  idsAfter(after: ChunkId | '', limit: number): { ids: ChunkId[]; isLast: boolean } {
    return this.index.page(after, limit);
  }

  async sync(ids: readonly ChunkId[]): Promise<ChunkId[]> {
    const missing: ChunkId[] = [];
    for (const id of ids) {
      const entry = this.index.get(id);
      if (entry) entry.isStable = true;
      else missing.push(id);
    }
    return missing;
  }

  async remove(id: ChunkId): Promise<boolean> {
    return this.drop(id);
  }

  async setAside(id: ChunkId, why: SetAsideReason): Promise<boolean> {
    const entry = this.index.get(id);
    if (entry) this.setAsideChunks.set(id, { encoded: entry.encoded, why });
    return this.drop(id);
  }

  async takeBack(id: ChunkId): Promise<boolean> {
    const aside = this.setAsideChunks.get(id);
    if (aside?.why !== 'corrupt' || this.has(id)) return false;
    try {
      const header = verifyChunk(id, aside.encoded);
      if (this.putOne({ id, encoded: aside.encoded, header }, true)) return false;
    } catch {
      return false;
    }
    return this.setAsideChunks.delete(id);
  }

  async check(id: ChunkId): Promise<CheckResult> {
    const entry = this.index.get(id);
    if (!entry) return { state: 'missing', detail: 'no such chunk here' };
    try {
      return { state: 'good', sizeBytes: verifyChunk(id, entry.encoded).payloadBytes };
    } catch (error) {
      return { state: 'corrupt', detail: (error as HoldfastError).message };
    }
  }

  async usage(): Promise<Usage> {
    return {
      capacityBytes: this.capacityBytes,
      freeBytes: Math.max(0, this.capacityBytes - this.usedBytes),
      usedBytes: this.usedBytes,
      chunkCount: this.index.size,
      isReadOnly: false,
      errorCount: 0,
    };
  }

  async close(): Promise<void> {
    this.timer?.cancel();
    this.syncAll();
  }

  private entry(id: ChunkId): Entry {
    const entry = this.index.get(id);
    if (!entry) throw new HoldfastError('CHUNK_MISSING', 'no such chunk on this node', { chunk: id });
    return entry;
  }

  private putOne(chunk: ChunkToPut, durable: boolean): HoldfastError | undefined {
    const existing = this.index.get(chunk.id);
    if (existing?.encoded.equals(chunk.encoded)) {
      existing.isStable ||= durable;
      return undefined;
    }
    if (existing) this.drop(chunk.id);
    if (this.usedBytes + chunk.encoded.length > this.capacityBytes)
      return new HoldfastError('ENOSPC', 'this node has no room for more chunks: free space on it or add a node');
    // A copy: the caller's buffer may be a part of a larger one, or be used again.
    this.index.set(chunk.id, { encoded: Buffer.from(chunk.encoded), isStable: durable });
    this.usedBytes += chunk.encoded.length;
    if (!durable) this.scheduleSync();
    return undefined;
  }

  private drop(id: ChunkId): boolean {
    const entry = this.index.get(id);
    if (!entry) return false;
    this.index.delete(id);
    this.usedBytes -= entry.encoded.length;
    return true;
  }

  private scheduleSync(): void {
    this.timer ??= this.options.environment?.setTimer(BACKGROUND_SYNC_INTERVAL_MS, () => {
      this.timer = undefined;
      this.syncAll();
    });
  }

  private syncAll(): void {
    for (const [, entry] of this.index.entries()) entry.isStable = true;
  }
}
