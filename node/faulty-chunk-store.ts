/** Holds a chunk store and makes it misbehave: by command, or with a probability from the environment's random source (so a seed repeats it). */
import type { ChunkId } from '../protocol/entities.js';
import { type Environment, sleep } from '../protocol/environment.js';
import { HoldfastError } from '../protocol/errors.js';
import type { InventoryItem } from '../protocol/node-calls.js';
import type { CheckResult, ChunkStore, ChunkToPut, SetAsideReason, Usage } from './chunk-store.js';

/** Probabilities in [0, 1]; 1 means always. */
export interface Faults {
  readonly putEio?: number;
  readonly putEnospc?: number;
  readonly readEio?: number;
  /** One bit of what is read is flipped. */
  readonly readFlip?: number;
  /** Added to every put and read. */
  readonly delayMs?: number;
}

export class FaultyChunkStore implements ChunkStore {
  faults: Faults = {};
  constructor(
    private readonly inner: ChunkStore,
    private readonly environment: Environment,
  ) {}

  get onDamaged(): ChunkStore['onDamaged'] {
    return this.inner.onDamaged;
  }
  set onDamaged(handler: ChunkStore['onDamaged']) {
    this.inner.onDamaged = handler;
  }

  has(id: ChunkId): boolean {
    return this.inner.has(id);
  }

  async put(chunks: readonly ChunkToPut[], durable: boolean): Promise<(HoldfastError | undefined)[]> {
    await this.delay();
    const injected = chunks.map((chunk) => {
      if (this.happens(this.faults.putEio)) return new HoldfastError('EIO', 'injected: write failed', { chunk: chunk.id });
      if (this.happens(this.faults.putEnospc)) return new HoldfastError('ENOSPC', 'injected: disk full');
      return undefined;
    });
    const passed = chunks.filter((_, i) => !injected[i]);
    const outcomes = passed.length > 0 ? await this.inner.put(passed, durable) : [];
    let next = 0;
    return injected.map((error) => error ?? outcomes[next++]);
  }

  async read(id: ChunkId, first: number, count: number): Promise<Buffer> {
    await this.delay();
    if (this.happens(this.faults.readEio)) throw new HoldfastError('EIO', 'injected: read failed', { chunk: id });
    const bytes = await this.inner.read(id, first, count);
    if (!this.happens(this.faults.readFlip)) return bytes;
    const flipped = Buffer.from(bytes);
    flipped[Math.floor(this.environment.random() * flipped.length)]! ^= 1 << Math.floor(this.environment.random() * 8);
    return flipped;
  }

  async check(id: ChunkId): Promise<CheckResult> {
    await this.delay();
    if (this.inner.has(id) && this.happens(this.faults.readEio)) return { state: 'io-error', detail: 'injected: read failed' };
    if (this.inner.has(id) && this.happens(this.faults.readFlip)) return { state: 'corrupt', detail: 'injected: wrong bytes' };
    return this.inner.check(id);
  }

  describe(id: ChunkId): Promise<InventoryItem | undefined> {
    return this.inner.describe(id);
  }
  list(after: ChunkId | '', limit: number): Promise<{ items: InventoryItem[]; isLast: boolean }> {
    return this.inner.list(after, limit);
  }
  idsAfter(after: ChunkId | '', limit: number): { ids: ChunkId[]; isLast: boolean } {
    return this.inner.idsAfter(after, limit);
  }
  sync(ids: readonly ChunkId[]): Promise<ChunkId[]> {
    return this.inner.sync(ids);
  }
  remove(id: ChunkId): Promise<boolean> {
    return this.inner.remove(id);
  }
  setAside(id: ChunkId, why: SetAsideReason): Promise<boolean> {
    return this.inner.setAside(id, why);
  }
  async takeBack(id: ChunkId): Promise<boolean> {
    return !this.happens(this.faults.readFlip) && (await this.inner.takeBack(id));
  }
  usage(): Promise<Usage> {
    return this.inner.usage();
  }
  close(): Promise<void> {
    return this.inner.close();
  }

  private happens(probability: number | undefined): boolean {
    return probability !== undefined && probability > 0 && this.environment.random() < probability;
  }
  private async delay(): Promise<void> {
    if (this.faults.delayMs) await sleep(this.environment, this.faults.delayMs);
  }
}
