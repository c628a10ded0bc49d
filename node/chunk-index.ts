/** Which chunks there are, in memory: 256 maps by the first byte of the id, so that a page in ascending order sorts a small part only. */
import type { ChunkId } from '../protocol/entities.js';

export class ChunkIndex<Entry> {
  private readonly maps: Map<ChunkId, Entry>[] = Array.from({ length: 256 }, () => new Map());
  private count = 0;

  get size(): number {
    return this.count;
  }
  get(id: ChunkId): Entry | undefined {
    return this.mapOf(id).get(id);
  }
  has(id: ChunkId): boolean {
    return this.mapOf(id).has(id);
  }
  set(id: ChunkId, entry: Entry): void {
    const map = this.mapOf(id);
    const before = map.size;
    map.set(id, entry);
    this.count += map.size - before;
  }
  delete(id: ChunkId): boolean {
    const isDeleted = this.mapOf(id).delete(id);
    if (isDeleted) this.count--;
    return isDeleted;
  }
  *entries(): Generator<[ChunkId, Entry]> {
    for (const map of this.maps) yield* map;
  }

  /** Up to `limit` ids greater than `after` ('' for all), ascending. */
  page(after: ChunkId | '', limit: number): { ids: ChunkId[]; isLast: boolean } {
    const ids: ChunkId[] = [];
    for (let first = after === '' ? 0 : byteOf(after); first < 256; first++) {
      const here: ChunkId[] = [];
      for (const id of this.maps[first]!.keys()) if (id > after) here.push(id);
      here.sort();
      for (const id of here) {
        if (ids.length === limit) return { ids, isLast: false };
        ids.push(id);
      }
    }
    return { ids, isLast: true };
  }

  private mapOf(id: ChunkId): Map<ChunkId, Entry> {
    return this.maps[byteOf(id)]!;
  }
}

const digit = (code: number): number => (code < 58 ? code - 48 : code - 87) & 15;
const byteOf = (id: ChunkId): number => digit(id.charCodeAt(0)) * 16 + digit(id.charCodeAt(1));
