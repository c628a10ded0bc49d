/** Chunks a client was told it need not upload: they stay until its commit, its session's end, or a minute has passed. */
import type { ChunkId, ClientId } from '../protocol/entities.js';

const PIN_MS = 60_000;
const MOST_PINS_PER_CLIENT = 100_000;

export class Pins {
  private readonly clients = new Map<ClientId, Map<ChunkId, number>>();
  private readonly counts = new Map<ChunkId, number>();

  pin(client: ClientId, chunk: ChunkId, nowMs: number): boolean {
    let pins = this.clients.get(client);
    if (!pins) {
      pins = new Map();
      this.clients.set(client, pins);
    }
    // Oldest first: what has run out makes room.
    for (const [oldest, untilMs] of pins) {
      if (untilMs > nowMs) break;
      this.unpin(client, oldest);
    }
    if (pins.has(chunk)) pins.delete(chunk);
    else if (pins.size >= MOST_PINS_PER_CLIENT) return false;
    else this.counts.set(chunk, (this.counts.get(chunk) ?? 0) + 1);
    pins.set(chunk, nowMs + PIN_MS);
    this.clients.set(client, pins);
    return true;
  }
  unpin(client: ClientId, chunk: ChunkId): void {
    const pins = this.clients.get(client);
    if (!pins?.delete(chunk)) return;
    if (pins.size === 0) this.clients.delete(client);
    const count = (this.counts.get(chunk) ?? 1) - 1;
    if (count > 0) this.counts.set(chunk, count);
    else this.counts.delete(chunk);
  }
  unpinAll(client: ClientId): void {
    for (const chunk of [...(this.clients.get(client)?.keys() ?? [])]) this.unpin(client, chunk);
  }
  isPinnedBy(client: ClientId, chunk: ChunkId, nowMs: number): boolean {
    return (this.clients.get(client)?.get(chunk) ?? 0) > nowMs;
  }
  /** Milliseconds on the same clock until which the chunk is pinned; 0 when it is not. */
  pinnedUntilMs(chunk: ChunkId, nowMs: number): number {
    if (!this.counts.has(chunk)) return 0;
    let latest = 0;
    for (const pins of this.clients.values()) latest = Math.max(latest, pins.get(chunk) ?? 0);
    return latest > nowMs ? latest : 0;
  }
}
