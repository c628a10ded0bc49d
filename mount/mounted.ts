/** One mount of a connected cluster, from mounting to the last unmount. */
import { execFile } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import Fuse from 'fuse-native';
import type { Cluster, Identity } from '../client/api.js';
import { FuseSession } from './fuse-session.js';
import { isMounted, mountInfo, pidsUsing } from './mount-table.js';

const run = promisify(execFile);

export interface StartMountOptions {
  readonly cluster: Cluster;
  readonly mountpoint: string;
  readonly isReadOnly?: boolean;
  readonly rootIs?: Identity | undefined;
  /** Longest time the kernel may answer attributes by itself; 1000 at most and by default. */
  readonly attributeTimeoutMs?: number;
  readonly log?: (message: string) => void;
}

export interface UnmountResult {
  /** Files whose last writes could not be saved, with the reason. */
  readonly failed: readonly string[];
  /** Processes that held the mount when it was taken away; empty when nobody did. */
  readonly busyPids: readonly number[];
}

export interface Mounted {
  /** Resolves when the mount is gone, by `unmount` or by somebody else's umount. */
  readonly gone: Promise<void>;
  /**
   * Saves everything (P1), then unmounts; when processes still use the mount it is detached from the tree, served for `graceMs` more, and then
   * ended.
   */
  unmount(options?: { graceMs?: number; flushTimeoutMs?: number }): Promise<UnmountResult>;
}

const DEFAULT_GRACE_MS = 2000;
const DEFAULT_FLUSH_TIMEOUT_MS = 60_000;
const READAHEAD_KIB = 1024;

/**
 * Mounts and returns when the mountpoint answers. The process must not touch the mountpoint itself with synchronous calls.
 * @throws Error of the binding with a code (EFUSEHELPER, EFUSEDEVICE, EFUSEMOUNT, ...)
 */
export async function startMount(options: StartMountOptions): Promise<Mounted> {
  const log = options.log ?? (() => {});
  const session = new FuseSession(options.cluster, {
    isReadOnly: options.isReadOnly ?? false,
    rootIs: options.rootIs,
    // With root squashed every step of a path is asked of us, since the kernel would let root pass.
    attributeTimeoutMs: options.rootIs ? 0 : Math.min(1000, options.attributeTimeoutMs ?? 1000),
    log,
  });
  const fuse = new Fuse(options.mountpoint, {}, {
    fsname: 'holdfast',
    subtype: 'holdfast',
    defaultPermissions: true,
    allowOther: process.getuid?.() === 0,
    maxConcurrency: 1,
    kernelChannel: session.receiver,
    onError: (error: unknown) => log(error instanceof Error ? error.message : String(error)),
  } as Fuse.OPTIONS);
  await new Promise<void>((resolve, reject) => {
    fuse.open((error?: Error | null) => (error ? reject(error) : resolve()));
  });

  let tellGone: () => void;
  const gone = new Promise<void>((resolve) => {
    tellGone = resolve;
  });
  const watch = setInterval(() => {
    if (fuse.closed) finish();
  }, 200);
  const finish = () => {
    clearInterval(watch);
    tellGone();
  };
  await raiseReadahead(options.mountpoint);

  let unmounting: Promise<UnmountResult> | undefined;
  const unmount: Mounted['unmount'] = ({ graceMs = DEFAULT_GRACE_MS, flushTimeoutMs = DEFAULT_FLUSH_TIMEOUT_MS } = {}) => {
    unmounting ??= takeDown();
    return unmounting;

    async function takeDown(): Promise<UnmountResult> {
      const { failed } = await options.cluster.flushAll({ durable: true, timeoutMs: flushTimeoutMs });
      const busyPids = await detach(options.mountpoint);
      if (busyPids.length > 0) {
        // Whoever still has files open may finish; what it writes is flushed once more below.
        const deadline = performance.now() + graceMs;
        while (!fuse.closed && performance.now() < deadline) await new Promise((resolve) => setTimeout(resolve, 50));
      }
      const late = busyPids.length > 0 ? (await options.cluster.flushAll({ durable: true, timeoutMs: flushTimeoutMs })).failed : [];
      session.close();
      if (!fuse.closed) await new Promise<void>((resolve) => fuse.close(() => resolve()));
      finish();
      const { root } = options.cluster.tree;
      const pathOf = (inode: number) => session.mount?.known.pathOf(inode, root) ?? `inode ${inode}`;
      return { failed: [...failed, ...late].map(({ inode, error }) => `${pathOf(inode)}: ${error.message}`), busyPids };
    }
  };
  return { gone, unmount };
}

/** Takes the mount out of the tree. Returns who held it. */
async function detach(mountpoint: string): Promise<number[]> {
  if (!(await isMounted(mountpoint))) return [];
  try {
    await run('fusermount3', ['-u', '--', mountpoint]);
    return [];
  } catch {
    const pids = await pidsUsing(mountpoint);
    await run('fusermount3', ['-uz', '--', mountpoint]).catch(() => {});
    return pids.length > 0 ? pids : [0];
  }
}

/** The kernel's default of 128 KiB makes a fast reader wait for each piece. Root only; without it reading is slower, nothing else. */
async function raiseReadahead(mountpoint: string): Promise<void> {
  const info = await mountInfo(mountpoint);
  if (!info) return;
  const file = `/sys/class/bdi/${info.device}/read_ahead_kb`;
  try {
    if (Number(await readFile(file, 'utf8')) < READAHEAD_KIB) await writeFile(file, String(READAHEAD_KIB));
  } catch {
    // Not ours to change here.
  }
}
