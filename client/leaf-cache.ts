/** Verified leaves of chunks in memory, least recently used chunks dropped first. Chunks never change, so nothing here goes stale. */
import type { ChunkId } from '../protocol/entities.js';

interface CachedChunk {
  readonly leaves: Map<number, Buffer>;
  bytes: number;
}

export class LeafCache {
  private readonly chunks = new Map<ChunkId, CachedChunk>();
  private bytes = 0;

  constructor(private readonly budgetBytes: number) {}

  get(chunk: ChunkId, leaf: number): Buffer | undefined {
    return this.chunks.get(chunk)?.leaves.get(leaf);
  }

  /** Marks a chunk as used just now. */
  touch(chunk: ChunkId): void {
    const cached = this.chunks.get(chunk);
    if (!cached) return;
    this.chunks.delete(chunk);
    this.chunks.set(chunk, cached);
  }

  has(chunk: ChunkId, first: number, count: number): boolean {
    const cached = this.chunks.get(chunk);
    if (!cached) return false;
    for (let leaf = first; leaf < first + count; leaf++) if (!cached.leaves.has(leaf)) return false;
    return true;
  }

  put(chunk: ChunkId, leaf: number, data: Buffer): void {
    let cached = this.chunks.get(chunk);
    if (!cached) {
      cached = { leaves: new Map(), bytes: 0 };
      this.chunks.set(chunk, cached);
    }
    if (cached.leaves.has(leaf)) return;
    cached.leaves.set(leaf, data);
    cached.bytes += data.length;
    this.bytes += data.length;
    while (this.bytes > this.budgetBytes) {
      const oldest = this.chunks.entries().next().value;
      if (!oldest || oldest[1] === cached) return;
      this.chunks.delete(oldest[0]);
      this.bytes -= oldest[1].bytes;
    }
  }
}
