/**
 * The few file system calls a node makes, as one interface: tests put themselves in between to fail or stop at any step. Callbacks underneath,
 * because FileHandle costs about twice as much per call.
 */
import fs from 'node:fs';

export interface DiskFiles {
  open(path: string, flags: string | number): Promise<number>;
  close(fd: number): Promise<void>;
  /** Reads up to `length` bytes; fewer at the end of the file. */
  read(fd: number, length: number, position: number): Promise<Buffer>;
  /** Writes everything, at a position. */
  write(fd: number, parts: readonly Buffer[], position: number): Promise<void>;
  fdatasync(fd: number): Promise<void>;
  /** Makes entries of a directory stable. */
  syncDirectory(path: string): Promise<void>;
  rename(from: string, to: string): Promise<void>;
  unlink(path: string): Promise<void>;
  mkdir(path: string): Promise<void>;
  readdir(path: string): Promise<string[]>;
  sizeOf(path: string): Promise<number>;
  truncate(fd: number, length: number): Promise<void>;
  statfs(path: string): Promise<{ freeBytes: number; totalBytes: number; freeInodes: number; totalInodes: number }>;
}

type Callback<T> = (error: NodeJS.ErrnoException | null, value: T) => void;
const asked = <T>(start: (callback: Callback<T>) => void): Promise<T> =>
  new Promise((resolve, reject) => {
    start((error, value) => (error ? reject(error) : resolve(value)));
  });
type Done = (error: NodeJS.ErrnoException | null) => void;
const done = (start: (callback: Done) => void): Promise<void> =>
  new Promise((resolve, reject) => {
    start((error) => (error ? reject(error) : resolve()));
  });

/** Linux takes at most IOV_MAX (1024) buffers at a time. */
const MAX_PARTS_PER_WRITE = 1000;
/** Copying this much into the page cache takes less time than handing it to another thread and waking up again. */
const WRITE_AT_ONCE_BYTES = 64 * 1024;

export const nodeFiles: DiskFiles = {
  open: (path, flags) => asked((callback) => fs.open(path, flags, 0o600, callback)),
  close: (fd) => done((callback) => fs.close(fd, callback)),
  read: async (fd, length, position) => {
    const buffer = Buffer.allocUnsafe(length);
    let at = 0;
    while (at < length) {
      const count = await asked<number>((callback) => fs.read(fd, buffer, at, length - at, position + at, callback));
      if (count === 0) break;
      at += count;
    }
    return at === length ? buffer : buffer.subarray(0, at);
  },
  write: async (fd, parts, position) => {
    let left = parts.slice(0);
    let at = position;
    const isSmall = parts.length <= MAX_PARTS_PER_WRITE && parts.reduce((sum, part) => sum + part.length, 0) <= WRITE_AT_ONCE_BYTES;
    while (left.length > 0) {
      const group = left.length > MAX_PARTS_PER_WRITE ? left.slice(0, MAX_PARTS_PER_WRITE) : left;
      let count = isSmall
        ? fs.writevSync(fd, group, at)
        : await asked<number>((callback) =>
            group.length === 1 ? fs.write(fd, group[0]!, 0, group[0]!.length, at, callback) : fs.writev(fd, group, at, callback),
          );
      at += count;
      // A write may be short: drop what went out and go on with the rest.
      let whole = 0;
      while (whole < left.length && count >= left[whole]!.length) {
        count -= left[whole]!.length;
        whole++;
      }
      left = left.slice(whole);
      if (count > 0) left[0] = left[0]!.subarray(count);
    }
  },
  fdatasync: (fd) => done((callback) => fs.fdatasync(fd, callback)),
  syncDirectory: async (path) => {
    const fd = await asked<number>((callback) => fs.open(path, 'r', callback));
    try {
      await done((callback) => fs.fsync(fd, callback));
    } finally {
      await done((callback) => fs.close(fd, callback));
    }
  },
  rename: (from, to) => done((callback) => fs.rename(from, to, callback)),
  unlink: (path) => done((callback) => fs.unlink(path, callback)),
  mkdir: async (path) => {
    try {
      await done((callback) => fs.mkdir(path, 0o700, callback));
    } catch (error) {
      if (errnoOf(error) !== 'EEXIST') throw error;
    }
  },
  readdir: (path) => asked((callback) => fs.readdir(path, callback)),
  sizeOf: async (path) => (await asked<fs.Stats>((callback) => fs.stat(path, callback))).size,
  truncate: (fd, length) => done((callback) => fs.ftruncate(fd, length, callback)),
  statfs: async (path) => {
    const stats = await asked<fs.StatsFs>((callback) => fs.statfs(path, callback));
    return {
      freeBytes: stats.bavail * stats.bsize,
      totalBytes: stats.blocks * stats.bsize,
      freeInodes: stats.ffree,
      totalInodes: stats.files,
    };
  },
};

/** 'ENOENT', 'EIO', ... or '' when it is not an error of the operating system. */
export const errnoOf = (error: unknown): string =>
  typeof (error as NodeJS.ErrnoException | null)?.code === 'string' ? (error as NodeJS.ErrnoException).code! : '';

let temporaryNumber = 0;
/**
 * Replaces a small file so that a crash leaves the old or the new content: write beside it and sync (content before name), rename (atomic),
 * sync the directory (the name itself).
 */
export async function replaceFile(files: DiskFiles, path: string, temporaryDirectory: string, content: Buffer): Promise<void> {
  const temporary = `${temporaryDirectory}/replace-${process.pid}-${temporaryNumber++}`;
  const fd = await files.open(temporary, 'wx');
  try {
    await files.write(fd, [content], 0);
    await files.fdatasync(fd);
  } finally {
    await files.close(fd);
  }
  await files.rename(temporary, path);
  await files.syncDirectory(path.slice(0, path.lastIndexOf('/')));
}
