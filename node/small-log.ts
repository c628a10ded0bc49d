/**
 * Small chunks go one after the other into an append-only log, so a whole group of them costs one write and, when durable, one disk sync,
 * instead of a new file with two syncs each. They are served from the log; when things are quiet the store moves them to files of their own
 * and the log is dropped.
 *
 * Log file = records. Record: u32le "HFR1", u32le length of the encoded chunk, 32 bytes id, encoded chunk. There is no checksum beside the
 * id, which is one. Replay stops at the first thing that is not a record: a write that was cut off, hence never promised.
 */
import type { ChunkHeader } from '../protocol/chunk.js';
import { verifyChunk } from '../protocol/chunk.js';
import type { ChunkId } from '../protocol/entities.js';
import type { Environment } from '../protocol/environment.js';
import type { HoldfastError } from '../protocol/errors.js';
import { SMALL_CHUNK_BYTES } from '../protocol/limits.js';
import type { ChunkToPut } from './chunk-store.js';
import type { DiskFiles } from './disk-files.js';

const RECORD_MAGIC = 0x31524648; // "HFR1" read as little endian
const RECORD_HEADER_BYTES = 40;
/** A log beyond this size takes no more records. */
const SEAL_AT_BYTES = 32 * 1024 * 1024;
/** Most bytes in one write call, so that durable chunks do not wait for a very long one. */
const WRITE_GROUP_BYTES = 4 * 1024 * 1024;
/** Header and tags make an encoded small chunk a little longer than its payload. */
export const MAX_SMALL_ENCODED_BYTES = SMALL_CHUNK_BYTES + 1024;

export interface LogRecord {
  readonly id: ChunkId;
  /** Of the encoded chunk. */
  readonly offset: number;
  readonly length: number;
}

/** One log file. */
export class SmallLogFile {
  readonly records: LogRecord[] = [];
  length = 0;
  /** Everything before this offset is on stable storage. */
  syncedLength = 0;
  isBad = false;
  private users = 0;
  private isClosing = false;

  constructor(
    private readonly files: DiskFiles,
    readonly path: string,
    readonly fd: number,
  ) {}

  async read(offset: number, length: number): Promise<Buffer> {
    this.users++;
    try {
      return await this.files.read(this.fd, length, offset);
    } finally {
      this.users--;
      if (this.isClosing && this.users === 0) this.closeNow();
    }
  }

  /** Closes the descriptor once the last reader is done. */
  close(): void {
    this.isClosing = true;
    if (this.users === 0) this.closeNow();
  }
  private closeNow(): void {
    this.isClosing = false;
    this.files.close(this.fd).catch(() => {});
  }
}

interface Waiting {
  readonly chunk: ChunkToPut;
  readonly durable: boolean;
  readonly resolve: (failure: HoldfastError | undefined) => void;
}
interface WaitingForSync {
  readonly file: SmallLogFile;
  readonly end: number;
  readonly resolve: (failure: HoldfastError | undefined) => void;
}

export interface SmallLogHooks {
  /** A record is written: the chunk can be read from here. Called before the put is answered. */
  placed(chunk: ChunkToPut, file: SmallLogFile, record: LogRecord): void;
  /** A sync failed: records from this offset on are not to be trusted. */
  lost(file: SmallLogFile, fromOffset: number, error: HoldfastError): void;
  /** Turns an error of the operating system into the put's answer, and counts it. */
  failure(error: unknown, what: string): HoldfastError;
}

export class SmallLogs {
  /** Logs that take no more records, oldest first. */
  readonly sealed: SmallLogFile[] = [];
  lastAppendMs = Number.NEGATIVE_INFINITY;
  private current: SmallLogFile | undefined;
  private nextNumber = 1;
  private queue: Waiting[] = [];
  private isWriting = false;
  private syncQueue: WaitingForSync[] = [];
  private syncing: Promise<void> | undefined;

  constructor(
    private readonly files: DiskFiles,
    private readonly directory: string,
    private readonly environment: Environment,
    private readonly hooks: SmallLogHooks,
  ) {}

  get totalBytes(): number {
    return this.sealed.reduce((sum, file) => sum + file.length, this.current?.length ?? 0);
  }

  /** Reads the logs a former process left. Everything whole is handed to `place`; the logs then count as sealed and not yet synced. */
  async replay(place: (id: ChunkId, header: ChunkHeader, file: SmallLogFile, record: LogRecord) => void): Promise<void> {
    const numbers = (await this.files.readdir(this.directory))
      .map((name) => /^(\d{1,12})\.log$/.exec(name)?.[1])
      .filter((text) => text !== undefined)
      .map(Number)
      .sort((a, b) => a - b);
    for (const number of numbers) {
      const path = `${this.directory}/${number}.log`;
      const file = new SmallLogFile(this.files, path, await this.files.open(path, 'r+'));
      const content = await this.files.read(file.fd, await this.files.sizeOf(path), 0);
      let at = 0;
      while (content.length - at >= RECORD_HEADER_BYTES && content.readUInt32LE(at) === RECORD_MAGIC) {
        const length = content.readUInt32LE(at + 4);
        const offset = at + RECORD_HEADER_BYTES;
        if (length > MAX_SMALL_ENCODED_BYTES || length > content.length - offset) break;
        const record = { id: content.toString('hex', at + 8, offset), offset, length };
        let header: ChunkHeader | undefined;
        try {
          header = verifyChunk(record.id, content.subarray(offset, offset + length));
        } catch {
          // One damaged record does not cost those behind it; the coordinator will miss this replica in the inventory.
          this.environment.log('warn', 'a small chunk in the log is damaged and left out', { chunk: record.id, path });
        }
        if (header) {
          file.records.push(record);
          place(record.id, header, file, record);
        }
        at = offset + length;
      }
      file.length = at;
      this.sealed.push(file);
      this.nextNumber = number + 1;
    }
  }

  /** Resolves when the chunk is written (and synced, when durable), with the failure if there was one. */
  append(chunk: ChunkToPut, durable: boolean): Promise<HoldfastError | undefined> {
    return new Promise((resolve) => {
      this.queue.push({ chunk, durable, resolve });
      if (!this.isWriting) {
        this.isWriting = true;
        // A turn later, so that chunks of one request (and of requests that came together) share the write.
        queueMicrotask(() => void this.writeQueued());
      }
    });
  }

  /** Resolves when everything written so far is on stable storage; never rejects (what failed is reported as lost). */
  async syncAll(): Promise<void> {
    const dirty = [...this.sealed, ...(this.current ? [this.current] : [])].filter(
      (file) => !file.isBad && file.syncedLength < file.length,
    );
    await Promise.all(dirty.map((file) => this.syncUpTo(file, file.length)));
  }

  /** Resolves with the failure, if any, when the bytes before `end` are on stable storage. */
  syncUpTo(file: SmallLogFile, end: number): Promise<HoldfastError | undefined> {
    if (file.syncedLength >= end) return Promise.resolve(undefined);
    return new Promise((resolve) => {
      this.syncQueue.push({ file, end, resolve });
      this.syncing ??= this.syncQueued();
    });
  }

  /** The current log takes no more records. */
  seal(): void {
    if (!this.current) return;
    this.sealed.push(this.current);
    this.current = undefined;
  }

  /** Deletes a sealed log. Every chunk of it must be elsewhere on stable storage, or gone. */
  async drop(file: SmallLogFile): Promise<void> {
    this.sealed.splice(this.sealed.indexOf(file), 1);
    file.close();
    await this.files.unlink(file.path);
  }

  /** Everything must have been written before. */
  async close(): Promise<void> {
    await this.syncAll();
    this.seal();
    for (const file of this.sealed) file.close();
  }

  private async writeQueued(): Promise<void> {
    while (this.queue.length > 0) {
      let bytes = 0;
      let count = 0;
      while (count < this.queue.length && bytes < WRITE_GROUP_BYTES) {
        bytes += this.queue[count]!.chunk.encoded.length;
        count++;
      }
      const group = count === this.queue.length ? this.queue : this.queue.slice(0, count);
      this.queue = group === this.queue ? [] : this.queue.slice(count);
      await this.writeGroup(group);
    }
    this.isWriting = false;
  }

  private async writeGroup(group: readonly Waiting[]): Promise<void> {
    let file: SmallLogFile | undefined;
    try {
      file = this.current ?? (await this.start());
      const parts: Buffer[] = [];
      const records: LogRecord[] = [];
      let at = file.length;
      for (const { chunk } of group) {
        const head = Buffer.allocUnsafe(RECORD_HEADER_BYTES);
        head.writeUInt32LE(RECORD_MAGIC, 0);
        head.writeUInt32LE(chunk.encoded.length, 4);
        head.write(chunk.id, 8, 'hex');
        parts.push(head, chunk.encoded);
        records.push({ id: chunk.id, offset: at + RECORD_HEADER_BYTES, length: chunk.encoded.length });
        at += RECORD_HEADER_BYTES + chunk.encoded.length;
      }
      await this.files.write(file.fd, parts, file.length);
      if (file.isBad) throw new Error('a sync of this log failed meanwhile');
      file.length = at;
      this.lastAppendMs = this.environment.monotonicMs();
      for (let i = 0; i < group.length; i++) {
        const { chunk, durable, resolve } = group[i]!;
        const record = records[i]!;
        file.records.push(record);
        this.hooks.placed(chunk, file, record);
        if (durable) this.syncQueue.push({ file, end: record.offset + record.length, resolve });
        else resolve(undefined);
      }
      if (this.syncQueue.length > 0) this.syncing ??= this.syncQueued();
      if (file.length >= SEAL_AT_BYTES && this.current === file) this.seal();
    } catch (error) {
      const failure = this.hooks.failure(error, 'writing the log of small chunks');
      for (const { resolve } of group) resolve(failure);
      // What was written in part stays behind the last record of this log; nothing may follow it there.
      if (file && this.current === file) this.seal();
    }
  }

  private async start(): Promise<SmallLogFile> {
    const path = `${this.directory}/${this.nextNumber++}.log`;
    const file = new SmallLogFile(this.files, path, await this.files.open(path, 'wx+'));
    // The name must be stable before the first record can be promised to be.
    await this.files.syncDirectory(this.directory);
    this.current = file;
    return file;
  }

  private async syncQueued(): Promise<void> {
    // Never finish before the caller has stored the promise; and let others join this round.
    await Promise.resolve();
    // Chunks that arrive while the disk works join the next round, together.
    while (this.syncQueue.length > 0) {
      const round = this.syncQueue;
      this.syncQueue = [];
      const failures = new Map<SmallLogFile, HoldfastError | undefined>();
      for (const { file, end } of round) {
        if (failures.has(file) || file.syncedLength >= end) continue;
        failures.set(file, await this.syncFile(file));
      }
      for (const { file, end, resolve } of round) resolve(file.syncedLength >= end ? undefined : failures.get(file));
    }
    this.syncing = undefined;
  }

  private async syncFile(file: SmallLogFile): Promise<HoldfastError | undefined> {
    const length = file.length;
    try {
      // A log whose sync failed once is never synced again: the kernel may have dropped the pages and would say yes.
      if (file.isBad) throw new Error('an earlier sync of this log failed');
      await this.files.fdatasync(file.fd);
      file.syncedLength = Math.max(file.syncedLength, length);
      return undefined;
    } catch (error) {
      const failure = this.hooks.failure(error, 'syncing the log of small chunks');
      if (!file.isBad) {
        file.isBad = true;
        if (this.current === file) this.seal();
        this.hooks.lost(file, file.syncedLength, failure);
        file.records.splice(0, file.records.length, ...file.records.filter((record) => record.offset + record.length <= file.syncedLength));
        // Best effort: what is not to be trusted should not be found by a replay either.
        await this.files.truncate(file.fd, file.syncedLength).catch(() => {});
      }
      return failure;
    }
  }
}
