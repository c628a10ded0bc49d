/** The chunk store of a real node: one file per chunk (disk-layout.ts), small ones by way of a log (small-log.ts). The contract is chunk-store.ts. */
import { LRUCache } from 'lru-cache';
import { type ChunkHeader, MAX_HEADER_BYTES, parseHeader, verifyChunk } from '../protocol/chunk.js';
import type { ChunkId } from '../protocol/entities.js';
import type { Environment, Timer } from '../protocol/environment.js';
import { HoldfastError } from '../protocol/errors.js';
import { BACKGROUND_SYNC_INTERVAL_MS } from '../protocol/limits.js';
import type { InventoryItem } from '../protocol/node-calls.js';
import type { CheckResult, ChunkStore, ChunkToPut, SetAsideReason, Usage } from './chunk-store.js';
import { type ChunkEntry, ChunkTable, isAt, newEntry, UNKNOWN } from './chunk-table.js';
import { DirectorySyncs } from './directory-syncs.js';
import { type DiskFiles, errnoOf, nodeFiles } from './disk-files.js';
import { DiskHealth } from './disk-health.js';
import {
  chunkDirectory,
  chunkPath,
  indexPath,
  listChunkFiles,
  prepareDirectories,
  setAsidePath,
  smallDirectory,
  temporaryDirectory,
} from './disk-layout.js';
import { saveIndexFile, takeIndexFile } from './index-file.js';
import { cutLeaves, leafRange } from './leaves.js';
import { OpenFiles } from './open-files.js';
import { inParallel } from './parallel.js';
import { type LogRecord, MAX_SMALL_ENCODED_BYTES, type SmallLogFile, SmallLogs } from './small-log.js';
import { Space, type SpaceLimits } from './space.js';

const HEADER_CACHE_BYTES = 16 * 1024 * 1024;
const MAX_OPEN_FILES = 256;
const PARALLEL_DISK_CALLS = 8;
/** The log of small chunks is moved to files when nothing was put into it for this long, or when it has grown beyond MOVE_AT_BYTES. */
const MOVE_AFTER_QUIET_MS = 2000;
const MOVE_AT_BYTES = 256 * 1024 * 1024;
const MOVE_GROUP_CHUNKS = 32;
/** Moving can wait and readers cannot: after each group it rests this many times as long as the group took. */
const MOVE_REST_FACTOR = 3;
const MOVE_LONGEST_REST_MS = 1000;

export interface DiskChunkStoreOptions extends SpaceLimits {
  readonly data: string;
  readonly environment: Environment;
  /** Tests put themselves between store and disk. */
  readonly files?: DiskFiles;
}

export class DiskChunkStore implements ChunkStore {
  onDamaged: ChunkStore['onDamaged'];
  private readonly table = new ChunkTable();
  private readonly files: DiskFiles;
  private readonly data: string;
  private readonly environment: Environment;
  private readonly space: Space;
  private readonly health: DiskHealth;
  private readonly openFiles: OpenFiles;
  private readonly directories: DirectorySyncs;
  private readonly logs: SmallLogs;
  private readonly headers = new LRUCache<ChunkId, Buffer>({
    maxSize: HEADER_CACHE_BYTES,
    sizeCalculation: (header) => header.length + 200,
  });
  /** Chunk files not yet on stable storage. */
  private readonly unstable = new Set<ChunkId>();
  private temporaryNumber = 0;
  private timer: Timer | undefined;
  private pass: Promise<void> | undefined;
  private moving: Promise<void> | undefined;
  private endRest = (): void => {};
  /** Somebody waits for the end of the move. */
  private isHurried = false;
  private isClosed = false;

  private constructor(options: DiskChunkStoreOptions) {
    this.files = options.files ?? nodeFiles;
    this.data = options.data;
    this.environment = options.environment;
    this.space = new Space(this.files, options.data, options, options.environment);
    this.health = new DiskHealth(options.environment, options.data, () => this.space.forget());
    this.openFiles = new OpenFiles(this.files, (id) => chunkPath(this.data, id), MAX_OPEN_FILES);
    this.directories = new DirectorySyncs(this.files);
    this.logs = new SmallLogs(this.files, smallDirectory(options.data), options.environment, {
      placed: (chunk, file, record) => this.placedInLog(chunk.id, chunk.header, file, record),
      lost: (file, fromOffset, error) => this.lostInLog(file, fromOffset, error),
      failure: (error, what) => this.health.failure(error, what),
    });
  }

  /** Opens a data directory, making it when it is new. The caller holds its lock. */
  static async open(options: DiskChunkStoreOptions): Promise<DiskChunkStore> {
    const store = new DiskChunkStore(options);
    await store.start();
    return store;
  }

  has(id: ChunkId): boolean {
    return this.table.has(id);
  }

  async put(chunks: readonly ChunkToPut[], durable: boolean): Promise<(HoldfastError | undefined)[]> {
    if (!durable || chunks.length === 1) return Promise.all(chunks.map((chunk) => this.putOne(chunk, durable)));
    // Several large ones, durable: 1. all are written under their names, 2. all are synced together, then their directories; only then does any
    // count as done. Syncs that run together share the file system's journal commits, of which every chunk for itself would need several.
    const isLarge = (chunk: ChunkToPut): boolean => chunk.encoded.length > MAX_SMALL_ENCODED_BYTES;
    const outcomes = await Promise.all(chunks.map((chunk) => this.putOne(chunk, !isLarge(chunk))));
    const written = chunks.filter((chunk, i) => isLarge(chunk) && !outcomes[i]).map(({ id }) => id);
    const gone = new Set(written.length > 0 ? await this.sync(written) : []);
    return chunks.map(({ id }, i) => outcomes[i] ?? (gone.has(id) ? notSynced(id) : undefined));
  }

  async read(id: ChunkId, first: number, count: number): Promise<Buffer> {
    const entry = this.table.get(id);
    if (!entry) throw missing(id);
    try {
      if (entry.log) return cutLeaves(await this.readLogRecord(entry), first, count);
      return await this.openFiles.use(id, (fd) => this.readFile(id, entry, fd, first, count));
    } catch (error) {
      if (error instanceof HoldfastError) throw error;
      if (errnoOf(error) === 'ENOENT') {
        if (this.table.get(id) === entry && !entry.log) {
          this.forget(id, entry);
          this.onDamaged?.(id, 'missing', "the chunk's file has disappeared");
        }
        throw missing(id);
      }
      this.health.errorCount++;
      throw new HoldfastError('EIO', `reading failed: ${errnoOf(error) || String(error)}`, { chunk: id });
    }
  }

  async describe(id: ChunkId): Promise<InventoryItem | undefined> {
    const entry = this.table.get(id);
    if (!entry) return undefined;
    if (entry.sizeBytes === UNKNOWN) {
      try {
        const fd = await this.files.open(chunkPath(this.data, id), 'r');
        try {
          this.table.learn(entry, parseHeader(await this.files.read(fd, MAX_HEADER_BYTES, 0)));
        } finally {
          await this.files.close(fd);
        }
      } catch {
        return undefined;
      }
    }
    return { chunk: id, volume: entry.volume, sizeBytes: entry.sizeBytes };
  }

  async list(after: ChunkId | '', limit: number): Promise<{ items: InventoryItem[]; isLast: boolean }> {
    const { ids, isLast } = this.table.page(after, limit);
    const items = await inParallel(ids, PARALLEL_DISK_CALLS, (id) => this.describe(id));
    return { items: items.filter((item) => item !== undefined), isLast };
  }

  idsAfter(after: ChunkId | '', limit: number): { ids: ChunkId[]; isLast: boolean } {
    return this.table.page(after, limit);
  }

  async sync(ids: readonly ChunkId[]): Promise<ChunkId[]> {
    const logs = new Map<SmallLogFile, number>();
    const inFiles: ChunkId[] = [];
    for (const id of ids) {
      const entry = this.table.get(id);
      if (entry?.log) logs.set(entry.log, Math.max(logs.get(entry.log) ?? 0, entry.offset + entry.encodedBytes));
      else if (entry && !entry.isStable) inFiles.push(id);
    }
    // A file from before this start: a power loss may have left the name without the bytes, a killed process bytes that no disk has yet. So it is
    // looked at, then synced like any other.
    const bad = new Set<ChunkId>();
    await inParallel(inFiles, PARALLEL_DISK_CALLS, async (id) => {
      if (this.table.get(id)?.isVerified === false && (await this.check(id)).state !== 'good') bad.add(id);
    });
    const whole = bad.size > 0 ? inFiles.filter((id) => !bad.has(id)) : inFiles;
    await Promise.all([...[...logs].map(([log, end]) => this.logs.syncUpTo(log, end)), this.syncFiles(whole)]);
    return ids.filter((id) => bad.has(id) || !this.table.has(id));
  }

  async remove(id: ChunkId): Promise<boolean> {
    const entry = this.table.get(id);
    if (!entry) return false;
    this.forget(id, entry);
    if (!entry.log) {
      try {
        await this.files.unlink(chunkPath(this.data, id));
      } catch (error) {
        if (errnoOf(error) !== 'ENOENT') throw this.health.failure(error, 'deleting a chunk');
      }
      this.space.forget();
    }
    return true;
  }

  async setAside(id: ChunkId, why: SetAsideReason): Promise<boolean> {
    const entry = this.table.get(id);
    if (!entry) return false;
    this.forget(id, entry);
    const target = setAsidePath(this.data, id, why);
    try {
      if (entry.log) {
        const fd = await this.files.open(target, 'w');
        try {
          await this.files.write(fd, [await this.readLogRecord(entry)], 0);
        } finally {
          await this.files.close(fd);
        }
      } else await this.files.rename(chunkPath(this.data, id), target);
    } catch (error) {
      // It is out of service all the same; only the evidence is lost.
      this.environment.log('warn', 'a chunk taken out of service could not be kept aside', { chunk: id, error: String(error) });
    }
    return true;
  }

  async takeBack(id: ChunkId): Promise<boolean> {
    const aside = setAsidePath(this.data, id, 'corrupt');
    if (this.table.has(id)) return false;
    try {
      const encoded = await this.readWhole(aside);
      const header = verifyChunk(id, encoded);
      const [failure] = await this.put([{ id, encoded, header }], true);
      if (failure) throw failure;
      await this.files.unlink(aside);
      return true;
    } catch (error) {
      if (errnoOf(error) !== 'ENOENT')
        this.environment.log('debug', 'a chunk set aside cannot be taken back', { chunk: id, error: String(error) });
      return this.table.has(id);
    }
  }

  async check(id: ChunkId): Promise<CheckResult> {
    const entry = this.table.get(id);
    if (!entry) return { state: 'missing', detail: 'no such chunk here' };
    try {
      const encoded = entry.log ? await this.readLogRecord(entry) : await this.readWhole(chunkPath(this.data, id));
      const header = verifyChunk(id, encoded);
      if (this.table.get(id) === entry) {
        this.table.learn(entry, header);
        entry.isVerified = true;
      }
      return { state: 'good', sizeBytes: header.payloadBytes };
    } catch (error) {
      if (error instanceof HoldfastError) return { state: 'corrupt', detail: error.message };
      if (errnoOf(error) === 'ENOENT') {
        // Between looking it up and opening it, it may have been moved, removed or replaced: look again.
        if (this.table.get(id) !== entry || entry.log) return this.check(id);
        return { state: 'missing', detail: "the chunk's file has disappeared" };
      }
      this.health.errorCount++;
      // A put of the same chunk must not take it for whole by its size.
      entry.isVerified = false;
      return { state: 'io-error', detail: errnoOf(error) || String(error) };
    }
  }

  async usage(): Promise<Usage> {
    const chunkCount = this.table.size;
    const usedBytes = this.table.estimatedUsedBytes();
    const { freeBytes, ...room } = await this.space.room(usedBytes);
    return {
      ...room,
      freeBytes: this.health.isReadOnly ? 0 : freeBytes,
      usedBytes,
      chunkCount,
      isReadOnly: this.health.isReadOnly,
      errorCount: this.health.errorCount,
    };
  }

  async close(): Promise<void> {
    if (this.isClosed) return;
    this.isClosed = true;
    this.timer?.cancel();
    this.endRest();
    await this.pass;
    await this.moving;
    await this.syncFiles([...this.unstable]);
    await this.logs.close();
    this.openFiles.dropAll();
    await saveIndexFile(this.files, indexPath(this.data), temporaryDirectory(this.data), this.table.knownFiles(), this.table.size);
  }

  /** For tests: stops background work and says nothing to the disk, as a kill -9 would. */
  async abandon(): Promise<void> {
    this.isClosed = true;
    this.timer?.cancel();
    this.endRest();
    await this.pass;
    await this.moving;
    this.openFiles.dropAll();
  }

  /** Moves the small chunks to files of their own now, for tests; in a running node this happens when things are quiet. */
  async moveSmallChunks(): Promise<void> {
    this.isHurried = true;
    this.endRest();
    await this.moving;
    this.isHurried = false;
    this.logs.seal();
    await this.moveSealedLogs(
      () => true,
      () => false,
    );
  }

  // ---- start ----

  private async start(): Promise<void> {
    await prepareDirectories(this.files, this.data);
    await listChunkFiles(
      this.files,
      this.data,
      (id) => this.table.add(id, newEntry()),
      (path) => this.environment.log('warn', 'a file in the chunk directory is not a chunk and is left alone', { path }),
    );
    for (const record of await takeIndexFile(this.files, indexPath(this.data))) {
      const entry = this.table.get(record.id);
      if (entry) this.table.learnSizes(entry, record.volume, record.sizeBytes, record.encodedBytes);
    }
    // A chunk both in the log and in a file was being moved when the process ended: the file was synced before it got its name.
    await this.logs.replay((id, header, file, record) => {
      if (!this.table.has(id)) this.placedInLog(id, header, file, record);
    });
    await this.logs.syncAll();
    this.schedule();
  }

  // ---- put ----

  private putOne(chunk: ChunkToPut, durable: boolean): Promise<HoldfastError | undefined> {
    const entry = this.table.get(chunk.id);
    if (entry) return this.putExisting(entry, chunk, durable);
    return this.putNew(chunk, durable);
  }

  private async putExisting(entry: ChunkEntry, chunk: ChunkToPut, durable: boolean): Promise<HoldfastError | undefined> {
    if (!(await this.isWhole(chunk, entry))) return this.putNew(chunk, durable, this.table.get(chunk.id));
    if (!durable) return undefined;
    const gone = await this.sync([chunk.id]);
    return gone.length === 0 ? undefined : notSynced(chunk.id);
  }

  /** Whether what is there is really this chunk. Bytes are read once per start; after that the size alone is compared. */
  private async isWhole(chunk: ChunkToPut, entry: ChunkEntry): Promise<boolean> {
    if (!entry.isVerified) return (await this.check(chunk.id)).state === 'good';
    if (entry.log) return true;
    try {
      return (await this.files.sizeOf(chunkPath(this.data, chunk.id))) === chunk.encoded.length;
    } catch {
      // Moved from the log to its file meanwhile, or really gone: writing it again is right in both cases.
      return false;
    }
  }

  private async putNew(chunk: ChunkToPut, durable: boolean, replaced?: ChunkEntry): Promise<HoldfastError | undefined> {
    if (this.health.isReadOnly)
      return new HoldfastError('EROFS', 'this node refuses new chunks after repeated disk errors: replace its disk, then restart it');
    const asked = this.space.refusal(chunk.encoded.length, this.table.estimatedUsedBytes());
    const refusal =
      asked instanceof Promise ? await asked.catch((error: unknown) => this.health.failure(error, 'looking at free space')) : asked;
    if (refusal) return refusal;
    this.space.wrote(chunk.encoded.length);
    // A bad file is replaced by a file: beside it, a good record in the log would be overlooked at the next start.
    const isLogged = chunk.encoded.length <= MAX_SMALL_ENCODED_BYTES && (!replaced || replaced.log !== undefined);
    if (isLogged) return this.logs.append(chunk, durable);
    return this.putFile(chunk, durable);
  }

  private async putFile(chunk: ChunkToPut, durable: boolean): Promise<HoldfastError | undefined> {
    try {
      // 1. Under a name nobody reads, so a chunk is visible only when whole.
      // 2. Content to the disk before the name: a name that outlives a power loss must not point at missing bytes.
      //    (Not durable: the background pass does it. A file whose name survives without its bytes fails its hash and counts as missing.)
      await this.writeFile(chunk.id, [chunk.encoded], durable);
      // 3. The new name itself lies in the directory and is stable only when that is.
      if (durable) await this.directories.sync(chunkDirectory(this.data, chunk.id));
    } catch (error) {
      // After a failed sync nothing about this file is certain, and asking again could wrongly say yes: it goes.
      const before = this.table.get(chunk.id);
      if (before) this.forget(chunk.id, before);
      this.openFiles.drop(chunk.id);
      await this.files.unlink(chunkPath(this.data, chunk.id)).catch(() => {});
      return this.health.failure(error, 'writing a chunk');
    }
    this.health.wrote();
    const before = this.table.get(chunk.id);
    if (before) this.forget(chunk.id, before);
    const entry = newEntry();
    entry.isVerified = true;
    entry.isStable = durable;
    this.table.add(chunk.id, entry);
    this.table.learn(entry, chunk.header);
    if (!durable) this.unstable.add(chunk.id);
    return undefined;
  }

  /** Writes a chunk file under its final name; synced first when asked. The directory is not. */
  private async writeFile(id: ChunkId, parts: readonly Buffer[], isSynced: boolean): Promise<void> {
    const temporary = `${temporaryDirectory(this.data)}/${this.temporaryNumber++}`;
    const fd = await this.files.open(temporary, 'wx');
    try {
      try {
        await this.files.write(fd, parts, 0);
        if (isSynced) await this.files.fdatasync(fd);
      } finally {
        await this.files.close(fd);
      }
      await this.files.rename(temporary, chunkPath(this.data, id));
    } catch (error) {
      await this.files.unlink(temporary).catch(() => {});
      throw error;
    }
  }

  // ---- read ----

  private async readFile(id: ChunkId, entry: ChunkEntry, fd: number, first: number, count: number): Promise<Buffer> {
    if (first === 0 && count === Number.POSITIVE_INFINITY && entry.encodedBytes !== UNKNOWN) {
      const encoded = await this.files.read(fd, entry.encodedBytes, 0);
      if (encoded.length !== entry.encodedBytes) throw corrupt(id, 'the file is shorter than the chunk');
      return encoded;
    }
    let headerBytes = this.headers.get(id);
    if (!headerBytes) {
      const start = await this.files.read(fd, MAX_HEADER_BYTES, 0);
      headerBytes = Buffer.from(start.subarray(0, parseHeader(start).headerBytes));
      this.headers.set(id, headerBytes);
    }
    const header = parseHeader(headerBytes);
    this.table.learn(entry, header);
    const { start, end } = leafRange(header, first, count);
    const leaves = await this.files.read(fd, end - start, start);
    if (leaves.length !== end - start) throw corrupt(id, 'the file is shorter than the chunk');
    return Buffer.concat([headerBytes, leaves]);
  }

  private readLogRecord(entry: ChunkEntry): Promise<Buffer> {
    return entry.log!.read(entry.offset, entry.encodedBytes);
  }

  private async readWhole(path: string): Promise<Buffer> {
    const fd = await this.files.open(path, 'r');
    try {
      return await this.files.read(fd, await this.files.sizeOf(path), 0);
    } finally {
      await this.files.close(fd);
    }
  }

  // ---- stable storage ----

  private schedule(): void {
    if (this.isClosed) return;
    this.timer = this.environment.setTimer(BACKGROUND_SYNC_INTERVAL_MS, () => {
      this.pass = this.backgroundPass()
        .catch((error: unknown) => this.environment.log('error', 'the background pass over the store failed', { error: String(error) }))
        .finally(() => this.schedule());
    });
  }

  private async backgroundPass(): Promise<void> {
    await Promise.all([this.logs.syncAll(), this.unstable.size > 0 ? this.syncFiles([...this.unstable]) : undefined]);
    const isQuiet = (): boolean => this.environment.monotonicMs() - this.logs.lastAppendMs > MOVE_AFTER_QUIET_MS;
    if (isQuiet()) this.logs.seal();
    const isMuch = (): boolean => this.logs.totalBytes > MOVE_AT_BYTES;
    const isWanted = (): boolean => !this.isClosed && (isQuiet() || isMuch());
    // Not awaited: a long move must not hold up the next background sync.
    if (isWanted()) void this.moveSealedLogs(isWanted, () => !isMuch());
  }

  /** Files first, then each directory once: a stable name must not point at bytes that are not. Failed ones are dropped and reported. */
  private async syncFiles(ids: readonly ChunkId[]): Promise<void> {
    await inParallel(ids, PARALLEL_DISK_CALLS, async (id) => {
      const entry = this.table.get(id);
      if (!entry || entry.isStable || entry.log) return;
      entry.syncing ??= this.syncFile(id, entry);
      await entry.syncing;
    });
  }

  private async syncFile(id: ChunkId, entry: ChunkEntry): Promise<boolean> {
    try {
      const fd = await this.files.open(chunkPath(this.data, id), 'r');
      try {
        await this.files.fdatasync(fd);
      } finally {
        await this.files.close(fd);
      }
      await this.directories.sync(chunkDirectory(this.data, id));
      entry.isStable = true;
      if (this.table.get(id) === entry) this.unstable.delete(id);
      return true;
    } catch (error) {
      if (this.table.get(id) !== entry) return false; // Removed meanwhile.
      const failure = this.health.failure(error, 'syncing a chunk');
      this.forget(id, entry);
      await this.files.unlink(chunkPath(this.data, id)).catch(() => {});
      this.onDamaged?.(id, 'io-error', failure.message);
      return false;
    }
  }

  // ---- the log of small chunks ----

  private placedInLog(id: ChunkId, header: ChunkHeader, file: SmallLogFile, record: LogRecord): void {
    const before = this.table.get(id);
    if (before) this.forget(id, before);
    const entry = newEntry();
    entry.isVerified = true;
    entry.log = file;
    entry.offset = record.offset;
    this.table.add(id, entry);
    this.table.learn(entry, header);
    this.health.wrote();
  }

  private lostInLog(file: SmallLogFile, fromOffset: number, error: HoldfastError): void {
    for (const { id, offset, length } of file.records) {
      if (offset + length <= fromOffset) continue;
      const entry = this.table.get(id);
      if (entry?.log !== file || entry.offset !== offset) continue;
      this.forget(id, entry);
      this.onDamaged?.(id, 'io-error', error.message);
    }
  }

  private moveSealedLogs(isWanted: () => boolean, mayRest: () => boolean): Promise<void> {
    this.moving ??= this.moveNow(isWanted, mayRest).finally(() => {
      this.moving = undefined;
    });
    return this.moving;
  }

  private async moveNow(isWanted: () => boolean, mayRest: () => boolean): Promise<void> {
    for (const log of [...this.logs.sealed]) {
      const live = log.records.filter(({ id, offset }) => isAt(this.table.get(id), log, offset));
      try {
        // In groups, because each file costs a sync of its own: a stop or new work must not wait for thousands of them.
        for (let at = 0; at < live.length; at += MOVE_GROUP_CHUNKS) {
          if (!isWanted()) return;
          const startedMs = this.environment.monotonicMs();
          await this.moveGroup(log, live.slice(at, at + MOVE_GROUP_CHUNKS));
          if (mayRest()) await this.rest((this.environment.monotonicMs() - startedMs) * MOVE_REST_FACTOR);
        }
        await this.logs.drop(log);
        this.space.forget();
      } catch (error) {
        // The log keeps serving; the next pass tries again.
        this.health.failure(error, 'moving small chunks out of the log');
        return;
      }
    }
  }

  /** Ends early when the store is closed. */
  private rest(durationMs: number): Promise<void> {
    return new Promise((resolve) => {
      if (this.isClosed || this.isHurried || durationMs <= 0) {
        resolve();
        return;
      }
      const timer = this.environment.setTimer(Math.min(durationMs, MOVE_LONGEST_REST_MS), resolve);
      this.endRest = () => {
        timer.cancel();
        resolve();
      };
    });
  }

  private async moveGroup(log: SmallLogFile, records: readonly LogRecord[]): Promise<void> {
    await inParallel(records, PARALLEL_DISK_CALLS, (record) => this.moveRecord(log, record));
    // Every name must be stable before the log, the only other copy, goes.
    const directories = new Set(records.map(({ id }) => chunkDirectory(this.data, id)));
    await inParallel([...directories], PARALLEL_DISK_CALLS, (path) => this.directories.sync(path));
    for (const { id, offset } of records) await this.finishMove(id, log, offset);
  }

  private async moveRecord(log: SmallLogFile, record: LogRecord): Promise<void> {
    const encoded = await log.read(record.offset, record.length);
    if (!isAt(this.table.get(record.id), log, record.offset)) return;
    try {
      verifyChunk(record.id, encoded);
    } catch {
      await this.setAside(record.id, 'corrupt');
      this.onDamaged?.(record.id, 'corrupt', 'damaged in the log of small chunks');
      return;
    }
    await this.writeFile(record.id, [encoded], true);
  }

  private async finishMove(id: ChunkId, log: SmallLogFile, offset: number): Promise<void> {
    const entry = this.table.get(id);
    if (entry && isAt(entry, log, offset)) {
      entry.log = undefined;
      entry.offset = 0;
      entry.isStable = true;
    } else if (!entry || entry.log) {
      // Removed while it was being moved (and perhaps put again, into another log): the file must not outlive that.
      await this.files.unlink(chunkPath(this.data, id)).catch(() => {});
    }
  }

  // ---- bookkeeping ----

  /** Nothing about this chunk is true any more. */
  private forget(id: ChunkId, entry: ChunkEntry): void {
    this.table.delete(id, entry);
    this.unstable.delete(id);
    this.headers.delete(id);
    this.openFiles.drop(id);
  }
}

const missing = (id: ChunkId): HoldfastError => new HoldfastError('CHUNK_MISSING', 'no such chunk on this node', { chunk: id });
const corrupt = (id: ChunkId, why: string): HoldfastError => new HoldfastError('CHUNK_CORRUPT', why, { chunk: id });
const notSynced = (id: ChunkId): HoldfastError => new HoldfastError('EIO', 'the disk failed to sync this chunk', { chunk: id });
