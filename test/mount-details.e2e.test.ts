/**
 * POSIX details of a mount, compared call by call with a directory of the local file system: the same calls, the same results and errnos. Once over a
 * cluster in memory (the driver alone) and once over a cluster of real processes.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { FsWorker, type Outcome, type Stat } from './fs-worker.js';
import { type MountRig, startClusterMounts, startMemoryMount, whyNoMount } from './mount-rig.js';

type Call = readonly [name: string, ...args: unknown[]];
const isRoot = process.getuid?.() === 0;
const why = whyNoMount();

const rigs: [string, () => Promise<MountRig>][] = [
  ['a cluster in memory', startMemoryMount],
  ['a cluster of processes', () => startClusterMounts(1)],
];

/** What must be equal of a stat: not inode numbers, times (unless set) and what a directory's size or link count means to a file system. */
function comparable(outcome: Outcome): unknown {
  const { result } = outcome;
  if (typeof result !== 'object' || result === null || !('inode' in result)) return outcome;
  const { kind, mode, uid, gid, size, nlink, rdev } = result as Stat;
  return { ...outcome, result: kind === 'directory' ? { kind, mode, uid, gid } : { kind, mode, uid, gid, size, nlink, rdev } };
}

describe.skipIf(why !== undefined).each(rigs)(`a mount over %s${why ? ` (skipped: ${why})` : ''}`, (_title, start) => {
  let rig: MountRig;
  let local: string;
  let mounted: FsWorker;
  let reference: FsWorker;
  let nextDirectory = 1;

  beforeAll(async () => {
    rig = await start();
    local = mkdtempSync(join(tmpdir(), 'hf-local-'));
    mounted = new FsWorker(rig.mounts[0]!);
    reference = new FsWorker(local);
  }, 180_000);
  afterAll(async () => {
    await mounted?.stop();
    await reference?.stop();
    await rig?.stop();
    if (local) rmSync(local, { recursive: true, force: true });
  }, 120_000);

  /** Does the calls in a new directory on both sides, and expects the same of each. Returns what the mount answered. */
  async function same(...calls: Call[]): Promise<Outcome[]> {
    const directory = `case-${nextDirectory++}`;
    for (const worker of [mounted, reference]) {
      await worker.call('mkdir', directory);
      await worker.call('cd', directory);
    }
    const outcomes: Outcome[] = [];
    try {
      for (const call of calls) {
        const ours = await mounted.attempt(...call);
        const theirs = await reference.attempt(...call);
        expect(comparable(ours), JSON.stringify(call)).toEqual(comparable(theirs));
        outcomes.push(ours);
      }
    } finally {
      for (const worker of [mounted, reference]) {
        await worker.attempt('become', 0, 0, []);
        await worker.call('cd', worker.directory);
      }
    }
    return outcomes;
  }

  it('makes, finds, lists and removes files, directories and links as a local file system does', async () => {
    await same(
      ['mkdir', 'd'],
      ['mkdir', 'd'],
      ['mkdir', 'none/d'],
      ['writeWhole', 'f', 'hello'],
      ['mkdir', 'f/d'],
      ['open', 'x', 'f', 'O_WRONLY|O_CREAT|O_EXCL'],
      ['open', 'x', 'd', 'O_WRONLY'],
      ['open', 'x', 'd', 'O_RDONLY|O_DIRECTORY'],
      ['open', 'y', 'f', 'O_RDONLY|O_DIRECTORY'],
      ['close', 'x'],
      ['link', 'f', 'g'],
      ['stat', 'f'],
      ['link', 'f', 'g'],
      ['link', 'd', 'e'],
      ['symlink', 'f', 's'],
      ['symlink', 'nowhere', 'broken'],
      ['symlink', 'loop', 'loop'],
      ['stat', 's'],
      ['lstat', 's'],
      ['stat', 'broken'],
      ['stat', 'loop'],
      ['readlink', 's'],
      ['readlink', 'f'],
      ['open', 'n', 's', 'O_RDONLY|O_NOFOLLOW'],
      ['list', '.'],
      ['list', 'f'],
      ['rmdir', 'f'],
      ['unlink', 'd'],
      ['rmdir', '.'],
      ['writeWhole', 'd/inner', ''],
      ['rmdir', 'd'],
      ['unlink', 'd/inner'],
      ['rmdir', 'd'],
      ['unlink', 'f'],
      ['stat', 'g'],
      ['unlink', 'none'],
      ['rmdir', 'none'],
      ['list', '.'],
    );
  });

  it('renames: replaces, refuses loops, keeps both names of one file, exchanges, refuses to replace', async () => {
    await same(
      ['writeWhole', 'a', 'A'],
      ['writeWhole', 'b', 'BB'],
      ['rename', 'a', 'b'],
      ['whole', 'b'],
      ['stat', 'a'],
      ['mkdir', 'd'],
      ['mkdir', 'd/e'],
      ['rename', 'd', 'd/e/f'],
      ['rename', 'd', 'b'],
      ['rename', 'b', 'd'],
      ['mkdir', 'empty'],
      ['rename', 'empty', 'd'],
      ['rename', 'd/e', 'empty'],
      ['list', 'd'],
      ['rename', 'none', 'x'],
      ['link', 'b', 'c'],
      ['rename', 'b', 'c'],
      ['list', '.'],
      ['writeWhole', 'x', 'X'],
      ['renameat2', 'x', 'b', 1],
      ['renameat2', 'x', 'new', 1],
      ['renameat2', 'new', 'd', 2],
      ['stat', 'new'],
      ['stat', 'd'],
      ['renameat2', 'new', 'none', 2],
      ['renameat2', 'new', 'd', 3],
      ['list', '.'],
    );
  });

  it('shows one inode number for all names of a file, and another for each file', async () => {
    await same(['writeWhole', 'a', '1'], ['link', 'a', 'b'], ['writeWhole', 'c', '2']);
    const directory = `case-${nextDirectory - 1}`;
    const [a, b, c] = [await mounted.stat(`${directory}/a`), await mounted.stat(`${directory}/b`), await mounted.stat(`${directory}/c`)];
    expect(a.inode).toBe(b.inode);
    expect(c.inode).not.toBe(a.inode);
    await mounted.call('writeWhole', `${directory}/a`, 'changed through the other name');
    expect(await mounted.call('whole', `${directory}/b`)).toBe('changed through the other name');
  });

  it('M7 keeps an open file alive after its name is gone, under no other name, and lets its directory go', async () => {
    await same(
      ['mkdir', 'd'],
      ['writeWhole', 'd/f', 'still here'],
      ['open', 'h', 'd/f', 'O_RDWR'],
      ['unlink', 'd/f'],
      ['list', 'd'],
      ['rmdir', 'd'],
      ['fstat', 'h'],
      ['read', 'h', 100, 0],
      ['write', 'h', 'and more', 5],
      ['fsync', 'h'],
      ['ftruncate', 'h', 8],
      ['fchmod', 'h', 0o600],
      ['read', 'h', 100, 0],
      ['fstat', 'h'],
      ['close', 'h'],
      ['list', '.'],
    );
  });

  it('keeps an old descriptor on the old file when another one is renamed over its name', async () => {
    await same(
      ['writeWhole', 'f', 'old'],
      ['writeWhole', 'g', 'new content'],
      ['open', 'h', 'f', 'O_RDWR'],
      ['rename', 'g', 'f'],
      ['read', 'h', 100, 0],
      ['ftruncate', 'h', 2],
      ['futimens', 'h', '1000000001', '2000000002'],
      ['fstat', 'h'],
      ['whole', 'f'],
      ['stat', 'f'],
      ['close', 'h'],
      ['list', '.'],
    );
  });

  it('truncates, appends, seeks holes and data, and reads holes as zeros', async () => {
    await same(
      ['open', 'h', 'f', 'O_RDWR|O_CREAT'],
      ['write', 'h', 'start', 0],
      ['write', 'h', 'end', 733 * 4096],
      ['fsync', 'h'],
      ['fstat', 'h'],
      ['read', 'h', 20, 2],
      ['read', 'h', 100, 733 * 4096 - 10],
      ['read', 'h', 100, 733 * 4096 + 3],
      ['seek', 'h', 0, 'data'],
      ['seek', 'h', 1_000_000, 'data'],
      ['seek', 'h', 733 * 4096 + 3, 'data'],
      ['seek', 'h', 733 * 4096 + 3, 'hole'],
      ['ftruncate', 'h', 3],
      ['ftruncate', 'h', 10],
      ['read', 'h', 100, 0],
      ['truncate', 'f', 1],
      ['read', 'h', 100, 0],
      ['ftruncate', 'h', -1],
      ['open', 'a', 'f', 'O_WRONLY|O_APPEND'],
      ['append', 'a', 'one'],
      ['write', 'h', 'XX', 1],
      ['append', 'a', 'two'],
      ['whole', 'f'],
      ['open', 't', 'f', 'O_WRONLY|O_TRUNC'],
      ['fstat', 'h'],
      ['close', 't'],
      ['truncate', '.', 0],
      ['truncate', 'none', 0],
      ['close', 'h'],
      ['close', 'a'],
    );
  });

  it('allocates, punches and zeroes ranges', async () => {
    await same(
      ['open', 'h', 'f', 'O_RDWR|O_CREAT'],
      ['write', 'h', 'x'.repeat(20_000), 0],
      ['fallocate', 'h', 0, 0, 30_000],
      ['fstat', 'h'],
      ['fallocate', 'h', 1, 0, 60_000],
      ['fstat', 'h'],
      ['fallocate', 'h', 3, 4096, 8192],
      ['read', 'h', 20, 4090],
      ['read', 'h', 20, 12_280],
      ['fallocate', 'h', 0x10, 29_000, 6000],
      ['fstat', 'h'],
      ['fallocate', 'h', 2, 0, 10],
      ['fallocate', 'h', 0, 0, 0],
      ['digest', 'f'],
      ['close', 'h'],
    );
  });

  it('copies ranges between files', async () => {
    await same(
      ['writeWhole', 'a', 'abcdefghij'.repeat(5000)],
      ['open', 'from', 'a', 'O_RDONLY'],
      ['open', 'to', 'b', 'O_RDWR|O_CREAT'],
      ['copy', 'from', 'to', 20_000, 1000, 0],
      ['copy', 'from', 'to', 5000, 0, 19_000],
      ['copy', 'from', 'to', 5000, 49_000, 0],
      ['copy', 'from', 'to', 5000, 50_000, 0],
      ['fsync', 'to'],
      ['digest', 'b'],
      ['fstat', 'to'],
      ['close', 'from'],
      ['close', 'to'],
    );
  });

  it('maps files for reading and writing', async () => {
    await same(
      ['writeWhole', 'f', 'a'.repeat(10_000)],
      ['open', 'h', 'f', 'O_RDWR'],
      ['map', 'm', 'h', 10_000, true],
      ['mapRead', 'm', 100, 5],
      ['mapWrite', 'm', 5000, 'through the mapping'],
      ['read', 'h', 19, 5000],
      ['write', 'h', 'through the file', 7000],
      ['mapRead', 'm', 7000, 16],
      ['mapSync', 'm'],
      ['unmap', 'm'],
      ['close', 'h'],
      ['digest', 'f'],
    );
  });

  it('keeps times to the nanosecond, before 1970 and after 2106, now and omitted', async () => {
    await same(['writeWhole', 'f', 'x'], ['symlink', 'f', 's']);
    const path = (name: string) => `case-${nextDirectory - 1}/${name}`;
    for (const [atime, mtime] of [
      ['1000000000123456789', '1000000000987654321'],
      ['-2000000000000000001', '-1'],
      ['4300000000999999999', '4300000000000000001'],
    ]) {
      for (const name of ['f', 's']) {
        await mounted.call('utimens', path(name), atime, mtime);
        expect(await mounted.stat(path(name))).toMatchObject({ atime, mtime });
      }
    }
    const before = await mounted.stat(path('f'));
    await mounted.call('touch', path('f'));
    const after = await mounted.stat(path('f'));
    expect(BigInt(after.mtime)).toBeGreaterThan(1_600_000_000_000_000_000n);
    expect(BigInt(after.ctime)).toBeGreaterThanOrEqual(BigInt(before.ctime));
  });

  it('keeps a time set through a descriptor after data was written through it', async () => {
    await same(
      ['open', 'h', 'f', 'O_RDWR|O_CREAT'],
      ['write', 'h', 'data', 0],
      ['futimens', 'h', '1000000000000000001', '1234567890123456789'],
      ['close', 'h'],
    );
    expect(await mounted.stat(`case-${nextDirectory - 1}/f`)).toMatchObject({ mtime: '1234567890123456789', size: 4 });
  });

  it('counts names by bytes: 255 fit, 256 do not; what is not UTF-8 is refused, not changed', async () => {
    await same(
      ['writeWhole', 'n'.repeat(255), 'x'],
      ['writeWhole', 'n'.repeat(256), 'x'],
      ['mkdir', 'ü'.repeat(127)],
      ['mkdir', 'ü'.repeat(128)],
      ['stat', 'n'.repeat(255)],
      ['stat', 'n'.repeat(256)],
      ['rename', 'n'.repeat(255), 'm'.repeat(256)],
      ['link', 'n'.repeat(255), 'm'.repeat(256)],
      ['symlink', 'x', 'm'.repeat(256)],
      ['symlink', 't'.repeat(4095), 'long'],
      ['readlink', 'long'],
      ['writeWhole', 'line\nbreak \u001b[1m -dash', 'x'],
      ['mkdir', 'e\u0301'],
      ['mkdir', '\u00e9'],
      ['mkdir', 'Case'],
      ['mkdir', 'case'],
      ['list', '.'],
    );
    expect(await mounted.errorOf('mkdir', 'bytes:bad-\u00ff')).toBe('EILSEQ');
    expect(await mounted.errorOf('mkdir', 'bytes:bad-\u00fe')).toBe('EILSEQ');
    const { namemax } = await mounted.call<{ namemax: number }>('statvfs');
    expect(namemax).toBe(255);
  });

  it('keeps extended attributes with the errors of setxattr(2)', async () => {
    await same(
      ['writeWhole', 'f', ''],
      ['listxattr', 'f'],
      ['getxattr', 'f', 'user.a'],
      ['removexattr', 'f', 'user.a'],
      ['setxattr', 'f', 'user.a', 'value', 2],
      ['setxattr', 'f', 'user.a', 'value', 1],
      ['setxattr', 'f', 'user.a', 'value', 1],
      ['setxattr', 'f', 'user.a', 'other', 2],
      ['setxattr', 'f', 'user.empty', ''],
      ['setxattr', 'f', 'user.bytes', '\u0000\u00ff\u0001'],
      ['setxattr', 'f', 'user.begins.with.a.long.name', 'z'.repeat(2000)],
      ['getxattr', 'f', 'user.a'],
      ['getxattr', 'f', 'user.empty'],
      ['getxattr', 'f', 'user.bytes'],
      ['getxattr', 'f', 'user.begins.with.a.long.name'],
      ['removexattr', 'f', 'user.a'],
      ['getxattr', 'f', 'user.a'],
    );
    const path = `case-${nextDirectory - 1}/f`;
    // security.* may be added by the system on one side only.
    const names = await mounted.call<string[]>('listxattr', path);
    expect(names.filter((name) => name.startsWith('user.'))).toEqual(['user.begins.with.a.long.name', 'user.bytes', 'user.empty']);
    await mounted.call('setxattr', path, 'user.large', 'x'.repeat(65_536));
    expect(((await mounted.call('getxattr', path, 'user.large')) as string).length).toBe(65_536);
  });

  it.skipIf(!isRoot)('makes fifos, sockets and devices', async () => {
    await same(
      ['mknod', 'fifo', 0o010644],
      ['mknod', 'socket', 0o140644],
      ['mknod', 'char', 0o020600, 0x0103],
      ['mknod', 'block', 0o060600, 0x0801],
      ['mknod', 'file', 0o100644],
      ['lstat', 'fifo'],
      ['lstat', 'socket'],
      ['lstat', 'char'],
      ['lstat', 'block'],
      ['lstat', 'file'],
      ['mknod', 'file', 0o100644],
    );
  });

  it.skipIf(!isRoot)('gives files to their makers, and lets only whom the bits allow', async () => {
    await same(
      ['chmod', '.', 0o777],
      ['mkdir', 'closed', 0o700],
      ['writeWhole', 'roots', 'x'],
      ['become', 1001, 1002, []],
      ['writeWhole', 'mine', 'x'],
      ['mkdir', 'dir'],
      ['lstat', 'mine'],
      ['lstat', 'dir'],
      ['whole', 'roots'],
      ['writeWhole', 'roots', 'y'],
      ['list', 'closed'],
      ['writeWhole', 'closed/x', ''],
      ['chmod', 'roots', 0o777],
      ['chown', 'mine', 0, 0],
      ['chown', 'mine', 1001, 1003],
      ['utimens', 'roots', '1', '1'],
      ['touch', 'roots'],
      ['access', 'roots', 4],
      ['access', 'roots', 2],
      ['umask', 0o077],
      ['writeWhole', 'private', ''],
      ['lstat', 'private'],
      ['become', 1004, 1004, [1002]],
      ['umask', 0o022],
      ['whole', 'private'],
      ['whole', 'mine'],
      ['unlink', 'mine'],
    );
  });

  it.skipIf(!isRoot)('honours sticky and set-group-id directories', async () => {
    await same(
      ['mkdir', 'sticky'],
      ['chmod', 'sticky', 0o1777],
      ['mkdir', 'grouped'],
      ['chown', 'grouped', 0, 1234],
      ['chmod', 'grouped', 0o2777],
      ['become', 1001, 1001, []],
      ['writeWhole', 'sticky/f', 'x'],
      ['writeWhole', 'grouped/f', 'x'],
      ['mkdir', 'grouped/d'],
      ['lstat', 'grouped/f'],
      ['lstat', 'grouped/d'],
      ['become', 1002, 1002, []],
      ['unlink', 'sticky/f'],
      ['rename', 'sticky/f', 'sticky/g'],
      ['writeWhole', 'sticky/f', 'y'],
      ['become', 1001, 1001, []],
      ['unlink', 'sticky/f'],
    );
  });

  it.skipIf(!isRoot)('clears set-user-id and set-group-id when a file changes hands or a stranger writes', async () => {
    await same(
      ['writeWhole', 'f', 'x'],
      ['chmod', 'f', 0o6755],
      ['chown', 'f', 1001, 1001],
      ['lstat', 'f'],
      ['chmod', 'f', 0o6777],
      ['lstat', 'f'],
      ['become', 1002, 1002, []],
      ['open', 'h', 'f', 'O_WRONLY'],
      ['write', 'h', 'y', 0],
      ['lstat', 'f'],
      ['close', 'h'],
      ['become', 0, 0, []],
      ['chmod', 'f', 0o4777],
      ['become', 1002, 1002, []],
      ['truncate', 'f', 0],
      ['lstat', 'f'],
      ['become', 0, 0, []],
      ['chmod', 'f', 0o4755],
      ['writeWhole', 'f', 'by root'],
      ['lstat', 'f'],
    );
  });

  it('holds byte range locks by process and tells who is in the way', async () => {
    await mounted.call('writeWhole', 'locked', 'x'.repeat(100));
    const other = new FsWorker(mounted.directory);
    try {
      await mounted.call('open', 'l', 'locked', 'O_RDWR');
      await other.call('open', 'l', 'locked', 'O_RDWR');
      await mounted.call('lock', 'l', 'write', 10, 20, false);
      await other.call('lock', 'l', 'write', 30, 10, false);
      expect(await other.errorOf('lock', 'l', 'read', 0, 11, false)).toMatch(/EAGAIN|EACCES/);
      expect(await other.call('testLock', 'l', 'read', 0, 0)).toEqual({ kind: 'write', start: 10, length: 20 });
      await mounted.call('lock', 'l', 'unlock', 15, 5, false);
      await other.call('lock', 'l', 'write', 15, 5, false);
      expect(await mounted.call('testLock', 'l', 'write', 15, 1)).toMatchObject({ kind: 'write' });
      // Closing any descriptor of the file drops the process's locks.
      await mounted.call('open', 'l2', 'locked', 'O_RDONLY');
      await mounted.call('close', 'l2');
      await other.call('lock', 'l', 'write', 0, 0, false);
      await other.call('close', 'l');
      await mounted.call('lock', 'l', 'write', 0, 0, false);
      await mounted.call('close', 'l');
    } finally {
      await other.stop();
    }
  });

  it('lets a waiting lock be interrupted, and other calls go on meanwhile', async () => {
    const waiters = Array.from({ length: 3 }, () => new FsWorker(mounted.directory));
    try {
      await mounted.call('open', 'w', 'waited-for', 'O_RDWR|O_CREAT');
      await mounted.call('flock', 'w', 'write', false);
      await mounted.call('lock', 'w', 'write', 0, 0, false);
      const [first, second, third] = waiters as [FsWorker, FsWorker, FsWorker];
      for (const waiter of waiters) await waiter.call('open', 'w', 'waited-for', 'O_RDWR');
      const interrupted = first.start('flock&', 'w', 'write', true);
      const granted = second.start('flock&', 'w', 'write', true);
      const posix = third.start('lock&', 'w', 'write', 0, 0, true);
      let isGranted = false;
      void granted.outcome.then(() => {
        isGranted = true;
      });
      // Each of these passes while the three wait.
      for (let index = 0; index < 50; index++) await mounted.call('writeWhole', `meanwhile-${index % 5}`, 'x');
      await first.call('signal', interrupted.id);
      expect((await interrupted.outcome).error).toBe('EINTR');
      expect(isGranted).toBe(false);
      await mounted.call('close', 'w');
      expect((await granted.outcome).error).toBe(null);
      expect((await posix.outcome).error).toBe(null);
    } finally {
      await mounted.attempt('close', 'w');
      for (const waiter of waiters) await waiter.stop();
    }
  });

  it('keeps files beyond 4 TiB that are nearly all holes', async () => {
    await mounted.call('open', 'big', 'sparse', 'O_RDWR|O_CREAT');
    const far = 5 * 2 ** 40;
    await mounted.call('write', 'big', 'far away', far);
    await mounted.call('fsync', 'big');
    expect(await mounted.call('read', 'big', 100, far - 4)).toBe('\0\0\0\0far away');
    expect(await mounted.call('seek', 'big', 0, 'hole')).toBe(0);
    const data = (await mounted.call('seek', 'big', 0, 'data')) as number;
    expect(data).toBeGreaterThan(far - 2 * 1024 * 1024);
    expect(data).toBeLessThanOrEqual(far);
    const { size, blocks } = await mounted.stat('sparse');
    expect(size).toBe(far + 8);
    expect(blocks * 512).toBeLessThan(16 * 1024 * 1024);
    await mounted.call('close', 'big');
    expect(await mounted.errorOf('truncate', 'sparse', 2 ** 60)).toBe('EFBIG');
    await mounted.call('unlink', 'sparse');
  });

  it('lists a large directory whole, each name once', async () => {
    const count = 5000;
    await mounted.call('mkdir', 'many');
    await mounted.call('makeFiles', 'many', count);
    expect(await mounted.call('count', 'many')).toEqual([count, count]);
  });

  it('answers statvfs with real space', async () => {
    const { total, free } = await mounted.call<{ total: number; free: number }>('statvfs');
    expect(total).toBeGreaterThan(0);
    expect(free).toBeGreaterThan(0);
    expect(free).toBeLessThanOrEqual(total);
  });

  it('lets a process stand in a directory that was removed', async () => {
    await mounted.call('mkdir', 'gone');
    const inside = new FsWorker(join(mounted.directory, 'gone'));
    try {
      await inside.call('list', '.');
      await mounted.call('rmdir', 'gone');
      expect(await inside.call('list', '.')).toEqual([]);
      expect(await inside.errorOf('writeWhole', 'x', '')).toMatch(/ENOENT|ESTALE/);
      expect(((await inside.call('stat', '.')) as Stat).nlink).toBe(0);
    } finally {
      await inside.stop();
    }
  });
});
