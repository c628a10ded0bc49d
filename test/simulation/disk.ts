/**
 * Simulated disks. What a process wrote stays when it is killed; a power loss takes what was not synced, or leaves some of it, as the seed decides.
 * Every call takes simulated time, may fail as real disks do, and never ends for a process that is gone.
 */
import type { JournalSegment, JournalStorage, MemoryJournalStorage } from '../../coordinator/journal-storage.js';
import type { CheckResult, ChunkStore, ChunkToPut, SetAsideReason, Usage } from '../../node/chunk-store.js';
import { cutLeaves } from '../../node/leaves.js';
import { parseHeader, verifyChunk } from '../../protocol/chunk.js';
import type { ChunkId } from '../../protocol/entities.js';
import { HoldfastError } from '../../protocol/errors.js';
import { BACKGROUND_SYNC_INTERVAL_MS } from '../../protocol/limits.js';
import type { InventoryItem } from '../../protocol/node-calls.js';
import type { Random } from './random.js';
import type { SimProcess, World } from './world.js';

/** What a disk does wrong at the moment. */
export interface DiskFaults {
  /** Added to every call, up to that much. */
  slowMs: number;
  /** Chances. */
  readEio: number;
  writeEio: number;
  syncEio: number;
  readFlip: number;
  isFull: boolean;
}
export const noFaults = (): DiskFaults => ({ slowMs: 0, readEio: 0, writeEio: 0, syncEio: 0, readFlip: 0, isFull: false });

/** How often each kind of wrong was done. */
export interface DiskCounters {
  readEio: number;
  writeEio: number;
  syncEio: number;
  readFlip: number;
  full: number;
  droppedUnsynced: number;
}
export const noCounters = (): DiskCounters => ({ readEio: 0, writeEio: 0, syncEio: 0, readFlip: 0, full: 0, droppedUnsynced: 0 });

/** Waits for the disk in one start of a process. */
class DiskQueue {
  private readonly incarnation: number;
  constructor(
    private readonly process: SimProcess,
    private readonly random: Random,
    readonly faults: DiskFaults,
    private readonly usualMs: number,
  ) {
    this.incarnation = process.incarnation;
  }
  /** Never resolves when the process is gone by then. */
  wait(factor = 1): Promise<void> {
    const delayMs = this.random.next() * this.usualMs * factor + (this.faults.slowMs > 0 ? this.random.between(0, this.faults.slowMs) : 0);
    return new Promise((resolve) => {
      this.process.world.schedule(delayMs, '', () => this.process.run(this.incarnation, resolve));
    });
  }
  happens(chance: number): boolean {
    return chance > 0 && this.random.chance(chance);
  }
  get isCurrent(): boolean {
    return this.process.isCurrent(this.incarnation);
  }
}

interface Entry {
  encoded: Buffer;
  isStable: boolean;
  /** The file vanished behind the node's back: it is in the node's index until the node starts again. */
  isLost?: boolean;
}

/** The disk of a node; outlives its processes. */
export class ChunkDisk {
  readonly chunks = new Map<ChunkId, Entry>();
  /** Removed, but not yet for good: a power loss may bring them back. */
  readonly removedLately = new Map<ChunkId, Entry>();
  /** Set aside as corrupt. */
  readonly setAside = new Map<ChunkId, Entry>();
  readonly faults = noFaults();
  readonly counters = noCounters();
  usedBytes = 0;
  readonly random: Random;
  /** Told when bytes that were not synced are dropped after a failed sync. */
  onDropped: ((id: ChunkId) => void) | undefined;

  constructor(
    readonly world: World,
    readonly capacityBytes: number,
  ) {
    this.random = world.random.fork();
  }

  powerLost(): void {
    for (const [id, entry] of [...this.chunks]) {
      if (entry.isStable) continue;
      const fate = this.random.next();
      this.counters.droppedUnsynced++;
      // Gone, there after all, or a file of the right name with the wrong bytes (which the real store finds by its hash).
      if (fate < 0.6) this.drop(id);
      else if (fate < 0.8) entry.encoded = Buffer.alloc(entry.encoded.length);
      else entry.isStable = true;
    }
    for (const [id, entry] of this.removedLately) if (this.random.chance(0.5) && !this.chunks.has(id)) this.set(id, entry);
    this.removedLately.clear();
    for (const [id, entry] of this.setAside) if (!entry.isStable) this.setAside.delete(id);
  }
  set(id: ChunkId, entry: Entry): void {
    this.drop(id);
    this.chunks.set(id, entry);
    this.usedBytes += entry.encoded.length;
  }
  drop(id: ChunkId): Entry | undefined {
    const entry = this.chunks.get(id);
    if (!entry) return undefined;
    this.chunks.delete(id);
    this.usedBytes -= entry.encoded.length;
    return entry;
  }
  /** Damages a replica as it lies. */
  damage(id: ChunkId, how: 'flip' | 'truncate' | 'empty' | 'lose'): boolean {
    const entry = this.chunks.get(id);
    if (!entry) return false;
    if (how === 'lose') {
      this.set(id, { encoded: Buffer.alloc(0), isStable: true, isLost: true });
      return true;
    }
    const before = entry.encoded;
    let encoded = Buffer.from(before);
    if (how === 'flip') {
      const at = this.random.int(encoded.length);
      encoded[at] = (encoded[at] as number) ^ (1 << this.random.int(8));
    } else encoded = encoded.subarray(0, how === 'empty' ? 0 : this.random.int(encoded.length));
    this.set(id, { encoded, isStable: entry.isStable });
    return true;
  }
  /** Whether the replica there is whole. */
  isGood(id: ChunkId): boolean {
    const entry = this.chunks.get(id);
    if (!entry) return false;
    try {
      verifyChunk(id, entry.encoded);
      return true;
    } catch {
      return false;
    }
  }
  ids(): ChunkId[] {
    return [...this.chunks.keys()].sort();
  }
}

/** One start of a node's process at its disk. */
export class SimChunkStore implements ChunkStore {
  onDamaged: ChunkStore['onDamaged'];
  private readonly queue: DiskQueue;
  private isPassScheduled = false;
  private errorCount = 0;

  constructor(
    private readonly disk: ChunkDisk,
    private readonly process: SimProcess,
  ) {
    this.queue = new DiskQueue(process, disk.random, disk.faults, 0.5);
    for (const [id, entry] of [...disk.chunks]) if (entry.isLost) disk.drop(id);
    // What a killed process left in the page cache is written back by the kernel all the same.
    if ([...disk.chunks.values()].some((entry) => !entry.isStable)) this.schedulePass();
  }

  has(id: ChunkId): boolean {
    return this.disk.chunks.has(id);
  }

  async put(chunks: readonly ChunkToPut[], durable: boolean): Promise<(HoldfastError | undefined)[]> {
    const { disk, queue } = this;
    await queue.wait();
    const outcomes = chunks.map((chunk) => this.putOne(chunk));
    if (durable) {
      await queue.wait(2);
      chunks.forEach((chunk, at) => {
        const there = disk.chunks.get(chunk.id);
        // On stable storage since an earlier put: nothing to sync.
        if (outcomes[at] || there?.isStable) return;
        if (queue.happens(disk.faults.syncEio)) {
          disk.counters.syncEio++;
          outcomes[at] = this.ioError('fdatasync failed');
          this.drop(chunk.id);
          return;
        }
        if (there) there.isStable = true;
      });
    } else this.schedulePass();
    return outcomes;
  }
  private putOne(chunk: ChunkToPut): HoldfastError | undefined {
    const { disk, queue } = this;
    const there = disk.chunks.get(chunk.id);
    if (there?.encoded.equals(chunk.encoded)) return undefined;
    if (there) this.drop(chunk.id);
    if (queue.happens(disk.faults.writeEio)) {
      disk.counters.writeEio++;
      return this.ioError('write failed');
    }
    if (disk.faults.isFull || disk.usedBytes + chunk.encoded.length > disk.capacityBytes) {
      disk.counters.full++;
      return new HoldfastError('ENOSPC', 'this node has no room for more chunks');
    }
    disk.set(chunk.id, { encoded: Buffer.from(chunk.encoded), isStable: false });
    disk.removedLately.delete(chunk.id);
    return undefined;
  }

  async read(id: ChunkId, first: number, count: number): Promise<Buffer> {
    await this.queue.wait();
    const encoded = this.bytes(id);
    return cutLeaves(encoded, first, count);
  }
  /** As the disk gives them now. */
  private bytes(id: ChunkId): Buffer {
    const entry = this.disk.chunks.get(id);
    if (!entry || entry.isLost) throw new HoldfastError('CHUNK_MISSING', 'no such chunk on this node', { chunk: id });
    return this.given(entry);
  }
  private given(entry: Entry): Buffer {
    const { disk, queue } = this;
    if (queue.happens(disk.faults.readEio)) {
      disk.counters.readEio++;
      throw this.ioError('read failed');
    }
    if (!queue.happens(disk.faults.readFlip) || entry.encoded.length === 0) return entry.encoded;
    disk.counters.readFlip++;
    const flipped = Buffer.from(entry.encoded);
    const at = disk.random.int(flipped.length);
    flipped[at] = (flipped[at] as number) ^ (1 << disk.random.int(8));
    return flipped;
  }

  describe(id: ChunkId): Promise<InventoryItem | undefined> {
    const entry = this.disk.chunks.get(id);
    if (!entry) return Promise.resolve(undefined);
    try {
      const header = parseHeader(entry.encoded);
      return Promise.resolve({ chunk: id, volume: header.volume, sizeBytes: header.payloadBytes });
    } catch {
      return Promise.resolve(undefined);
    }
  }
  async list(after: ChunkId | '', limit: number): Promise<{ items: InventoryItem[]; isLast: boolean }> {
    await this.queue.wait();
    const { ids, isLast } = this.idsAfter(after, limit);
    const items = await Promise.all(ids.map((id) => this.describe(id)));
    return { items: items.filter((item) => item !== undefined), isLast };
  }
  idsAfter(after: ChunkId | '', limit: number): { ids: ChunkId[]; isLast: boolean } {
    const left = this.disk.ids().filter((id) => id > after);
    return { ids: left.slice(0, limit), isLast: left.length <= limit };
  }
  async sync(ids: readonly ChunkId[]): Promise<ChunkId[]> {
    const { disk, queue } = this;
    await queue.wait(2);
    const missing: ChunkId[] = [];
    for (const id of ids) {
      const entry = disk.chunks.get(id);
      if (!entry) missing.push(id);
      else if (!entry.isStable && queue.happens(disk.faults.syncEio)) {
        disk.counters.syncEio++;
        this.errorCount++;
        // What the kernel may have dropped must not be called good by a later sync.
        this.drop(id);
        disk.onDropped?.(id);
        this.onDamaged?.(id, 'io-error', 'fdatasync failed');
        missing.push(id);
      } else entry.isStable = true;
    }
    return missing;
  }
  async remove(id: ChunkId): Promise<boolean> {
    await this.queue.wait();
    const entry = this.drop(id);
    if (entry?.isStable) this.disk.removedLately.set(id, entry);
    return entry !== undefined;
  }
  async setAside(id: ChunkId, why: SetAsideReason): Promise<boolean> {
    await this.queue.wait();
    const entry = this.drop(id);
    if (entry && why === 'corrupt') this.disk.setAside.set(id, entry);
    return entry !== undefined;
  }
  async takeBack(id: ChunkId): Promise<boolean> {
    await this.queue.wait(3);
    const { disk } = this;
    const entry = disk.setAside.get(id);
    if (!entry || disk.chunks.has(id)) return false;
    try {
      verifyChunk(id, this.given(entry));
    } catch {
      return false;
    }
    disk.setAside.delete(id);
    disk.set(id, { encoded: entry.encoded, isStable: true });
    return true;
  }
  async check(id: ChunkId): Promise<CheckResult> {
    await this.queue.wait();
    let encoded: Buffer;
    try {
      encoded = this.bytes(id);
    } catch (error) {
      const { code, message } = error as HoldfastError;
      return { state: code === 'CHUNK_MISSING' ? 'missing' : 'io-error', detail: message };
    }
    try {
      return { state: 'good', sizeBytes: verifyChunk(id, encoded).payloadBytes };
    } catch (error) {
      return { state: 'corrupt', detail: (error as HoldfastError).message };
    }
  }
  usage(): Promise<Usage> {
    const { disk } = this;
    return Promise.resolve({
      capacityBytes: disk.capacityBytes,
      freeBytes: disk.faults.isFull ? 0 : Math.max(0, disk.capacityBytes - disk.usedBytes),
      usedBytes: disk.usedBytes,
      chunkCount: disk.chunks.size,
      isReadOnly: false,
      errorCount: this.errorCount,
    });
  }
  close(): Promise<void> {
    for (const entry of this.disk.chunks.values()) entry.isStable = true;
    return Promise.resolve();
  }

  private drop(id: ChunkId): Entry | undefined {
    return this.disk.drop(id);
  }
  private ioError(what: string): HoldfastError {
    this.errorCount++;
    return new HoldfastError('EIO', `disk error: ${what}`);
  }
  /** Everything is stable within the promised time. */
  private schedulePass(): void {
    if (this.isPassScheduled) return;
    this.isPassScheduled = true;
    const { disk, process } = this;
    const { incarnation } = process;
    process.world.schedule(BACKGROUND_SYNC_INTERVAL_MS, '', () => {
      this.isPassScheduled = false;
      // The kernel writes back whether the process lives or not; only a power loss in between counts.
      if (!process.isPowered || (process.incarnation !== incarnation && process.isAlive)) return;
      for (const [id, entry] of [...disk.chunks]) {
        if (entry.isStable) continue;
        if (process.isAlive && this.queue.happens(disk.faults.syncEio)) {
          disk.counters.syncEio++;
          this.errorCount++;
          this.drop(id);
          disk.onDropped?.(id);
          this.onDamaged?.(id, 'io-error', 'fdatasync failed');
        } else entry.isStable = true;
      }
      disk.removedLately.clear();
    });
  }
}

/** The journal of one start of the coordinator: the shared memory behind it, with time, errors and death. */
export class SimJournalStorage implements JournalStorage {
  private readonly queue: DiskQueue;
  constructor(
    private readonly inner: MemoryJournalStorage,
    process: SimProcess,
    random: Random,
    private readonly faults: DiskFaults,
    private readonly counters: DiskCounters,
  ) {
    this.queue = new DiskQueue(process, random, faults, 0.2);
  }
  segments(): AsyncIterable<JournalSegment> {
    return this.inner.segments();
  }
  async cut(firstSequence: number, sizeBytes: number): Promise<void> {
    await this.queue.wait();
    await this.inner.cut(firstSequence, sizeBytes);
  }
  async remove(firstSequence: number): Promise<void> {
    await this.queue.wait();
    await this.inner.remove(firstSequence);
  }
  async append(bytes: Buffer, sequence: number): Promise<void> {
    await this.queue.wait();
    if (this.queue.happens(this.faults.writeEio)) {
      this.counters.writeEio++;
      throw new HoldfastError('EIO', 'write failed');
    }
    await this.inner.append(bytes, sequence);
    await this.queue.wait(0.5);
  }
  async sync(): Promise<void> {
    await this.queue.wait(3);
    if (this.queue.happens(this.faults.syncEio)) {
      this.counters.syncEio++;
      throw new HoldfastError('EIO', 'fdatasync failed');
    }
    await this.inner.sync();
    await this.queue.wait(0.5);
  }
  async settle(): Promise<void> {
    await this.queue.wait();
    await this.inner.settle();
  }
  async dropUpTo(sequence: number): Promise<void> {
    await this.queue.wait();
    await this.inner.dropUpTo(sequence);
  }
  async close(): Promise<void> {
    await this.inner.close();
  }
  get isFull(): boolean {
    return this.inner.isFull || this.faults.isFull;
  }
  get sizeBytes(): number {
    return this.inner.sizeBytes;
  }
}
