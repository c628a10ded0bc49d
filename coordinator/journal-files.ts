/**
 * The journal on disk: segment files `<first sequence>.log` in one directory, filled with zeros beforehand so that a sync writes data only, no file
 * metadata. One filled spare is always in hand, so that deletes still work when the disk has become full.
 *
 * Order at a switch of segments: sync the full one (so only the last segment can ever be torn) → rename the spare to its name → sync the directory
 * (so the name is there after a power loss) → first byte.
 */
import { closeSync, fdatasync, fsyncSync, openSync, writeSync } from 'node:fs';
import { mkdir, open, readdir, readFile, rename, rm, stat, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { HoldfastError } from '../protocol/errors.js';
import { type JournalSegment, type JournalStorage, SEGMENT_BYTES } from './journal-storage.js';

const SPARE = 'spare';
const nameOf = (firstSequence: number): string => `${String(firstSequence).padStart(16, '0')}.log`;
const syncData = promisify(fdatasync);
const RETRY_MS = 500;
const isNoSpace = (error: unknown): boolean => ['ENOSPC', 'EDQUOT'].includes((error as NodeJS.ErrnoException).code ?? '');

interface Current {
  readonly file: number;
  readonly firstSequence: number;
  readonly sizeBytes: number;
  position: number;
}

export class JournalFiles implements JournalStorage {
  isFull = false;
  private current: Current | undefined;
  /** Segments besides the current one: first sequence → bytes. */
  private readonly older = new Map<number, number>();
  private spare: Promise<boolean> | undefined;
  private isClosed = false;
  private retry: NodeJS.Timeout | undefined;

  private constructor(
    private readonly directory: string,
    private readonly segmentBytes: number,
  ) {}

  static async open(directory: string, options: { segmentBytes?: number } = {}): Promise<JournalFiles> {
    await mkdir(directory, { recursive: true });
    const files = new JournalFiles(directory, options.segmentBytes ?? SEGMENT_BYTES);
    for (const name of await readdir(directory)) {
      // A spare left by the last run may be half filled.
      if (name.startsWith(SPARE)) await rm(join(directory, name), { force: true });
      else if (/^\d{16}\.log$/.test(name)) files.older.set(Number.parseInt(name, 10), (await stat(join(directory, name))).size);
    }
    return files;
  }

  async *segments(): AsyncIterable<JournalSegment> {
    for (const firstSequence of [...this.older.keys()].sort((a, b) => a - b)) {
      yield { firstSequence, bytes: await readFile(join(this.directory, nameOf(firstSequence))) };
    }
  }

  async cut(firstSequence: number, sizeBytes: number): Promise<void> {
    await truncate(join(this.directory, nameOf(firstSequence)), sizeBytes);
    this.older.set(firstSequence, sizeBytes);
  }

  async remove(firstSequence: number): Promise<void> {
    await rm(join(this.directory, nameOf(firstSequence)));
    this.older.delete(firstSequence);
  }

  async settle(): Promise<void> {
    for (const firstSequence of this.older.keys()) {
      const file = await open(join(this.directory, nameOf(firstSequence)), 'r+');
      try {
        await file.sync();
      } finally {
        await file.close();
      }
    }
    this.syncDirectory();
    this.prepareSpare();
    // Nothing can be begun without room for the first segment; said now instead of waiting for it without a word.
    if (!(await this.spare)) {
      clearTimeout(this.retry);
      throw new HoldfastError(
        'ENOSPC',
        `there is no room for the journal in ${this.directory} (${this.segmentBytes / 1024 / 1024} MiB are needed): free some space on that disk and start the coordinator again; nothing is lost`,
      );
    }
  }

  async append(bytes: Buffer, sequence: number): Promise<void> {
    if (!this.current || this.current.position + bytes.length > this.current.sizeBytes) await this.nextSegment(sequence, bytes.length);
    const current = this.current as Current;
    // Into pages that exist already, so this takes microseconds: less than a trip to another thread and back.
    for (let written = 0; written < bytes.length; ) {
      written += writeSync(current.file, bytes, written, bytes.length - written, current.position + written);
    }
    current.position += bytes.length;
  }

  async sync(): Promise<void> {
    if (this.current) await syncData(this.current.file);
  }

  async dropUpTo(sequence: number): Promise<void> {
    const firsts = [...this.older.keys(), ...(this.current ? [this.current.firstSequence] : [])].sort((a, b) => a - b);
    for (const [i, firstSequence] of firsts.entries()) {
      const next = firsts[i + 1];
      if (next === undefined || next - 1 > sequence || !this.older.has(firstSequence)) continue;
      await rm(join(this.directory, nameOf(firstSequence)), { force: true });
      this.older.delete(firstSequence);
    }
    if (this.isFull) this.prepareSpare();
  }

  async close(): Promise<void> {
    this.isClosed = true;
    clearTimeout(this.retry);
    await this.spare;
    await rm(join(this.directory, SPARE), { force: true });
    if (this.current) closeSync(this.current.file);
    this.current = undefined;
  }

  get sizeBytes(): number {
    let sum = this.current?.position ?? 0;
    for (const size of this.older.values()) sum += size;
    return sum;
  }

  private async nextSegment(sequence: number, atLeastBytes: number): Promise<void> {
    const full = this.current;
    if (full) {
      await syncData(full.file);
      closeSync(full.file);
      this.older.set(full.firstSequence, full.sizeBytes);
      this.current = undefined;
    }
    const path = join(this.directory, nameOf(sequence));
    let sizeBytes = this.segmentBytes;
    if (atLeastBytes > sizeBytes) {
      // One record larger than a segment gets a segment of its own.
      sizeBytes = atLeastBytes;
      await this.fill(path, sizeBytes);
    } else {
      this.prepareSpare();
      while (!(await this.spare)) {
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
        this.prepareSpare();
      }
      this.spare = undefined;
      await rename(join(this.directory, SPARE), path);
    }
    this.syncDirectory();
    // One that was cut to nothing at the start has been replaced.
    this.older.delete(sequence);
    this.current = { file: openSync(path, 'r+'), firstSequence: sequence, sizeBytes, position: 0 };
    this.prepareSpare();
  }

  /** Fills a spare in the background; `isFull` tells when there is no room for one. */
  private prepareSpare(): void {
    if (this.isClosed) return;
    if (this.spare && !this.isFull) return;
    const before = this.spare;
    this.spare = (async () => {
      if (before && (await before)) return true;
      try {
        await this.fill(join(this.directory, SPARE), this.segmentBytes);
        this.isFull = false;
        return true;
      } catch (error) {
        await rm(join(this.directory, SPARE), { force: true });
        if (!isNoSpace(error)) throw error;
        this.isFull = true;
        clearTimeout(this.retry);
        this.retry = setTimeout(() => this.prepareSpare(), RETRY_MS);
        this.retry.unref();
        return false;
      }
    })();
    this.spare.catch(() => {});
  }

  private async fill(path: string, sizeBytes: number): Promise<void> {
    const temporary = `${path}.filling`.replace(/^(.*\/)(\d{16}\.log\.filling)$/, `$1${SPARE}-$2`);
    const file = await open(temporary, 'w', 0o600);
    try {
      const zeros = Buffer.alloc(Math.min(sizeBytes, 1024 * 1024));
      for (let left = sizeBytes; left > 0; ) left -= (await file.write(zeros, 0, Math.min(left, zeros.length))).bytesWritten;
      await file.sync();
    } catch (error) {
      await rm(temporary, { force: true });
      throw error;
    } finally {
      await file.close();
    }
    await rename(temporary, path);
  }

  private syncDirectory(): void {
    const directory = openSync(this.directory, 'r');
    try {
      fsyncSync(directory);
    } finally {
      closeSync(directory);
    }
  }
}
