/** Which nodes hold which chunks, as last heard. Only a hint: a reader that fails everywhere asks the coordinator again. */
import type { ChunkId, ChunkLocation } from '../protocol/entities.js';

const MAX_LOCATIONS = 200_000;

export class ChunkLocations {
  private readonly known = new Map<ChunkId, ChunkLocation>();

  get(chunk: ChunkId): ChunkLocation | undefined {
    return this.known.get(chunk);
  }

  learn(locations: readonly ChunkLocation[]): void {
    for (const location of locations) {
      if (this.known.size >= MAX_LOCATIONS) {
        const [oldest] = this.known.keys();
        if (oldest !== undefined) this.known.delete(oldest);
      }
      this.known.set(location.chunk, location);
    }
  }
}
