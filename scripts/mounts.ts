/** What is mounted where, and whether a directory may become a mountpoint. Reads tables; never touches a mount, which could hang. */
import { execFile } from 'node:child_process';
import { existsSync, lstatSync, readdirSync, readFileSync } from 'node:fs';
import { ClusterError } from './local-process.js';

export interface Mount {
  readonly path: string;
  readonly type: string;
  readonly source: string;
}

/** Every mount of this process's view, oldest first. */
export function mounts(): Mount[] {
  const plain = (text: string): string =>
    text.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
  return readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => {
      const [before = '', after = ''] = line.split(' - ');
      const [type = '', source = ''] = after.split(' ');
      return { path: plain(before.split(' ')[4] ?? ''), type, source: plain(source) };
    });
}

export const isHoldfast = (mount: Mount): boolean =>
  mount.type === 'fuse.holdfast' || (mount.type === 'fuse' && mount.source === 'holdfast');
export const isInside = (path: string, directory: string): boolean => path === directory || path.startsWith(directory.replace(/\/*$/, '/'));
export const isMounted = (path: string): boolean => mounts().some((mount) => mount.path === path);

/** Detaches every mount on `path`, dead or busy ones too; open files keep it alive until they are closed. */
export async function detach(path: string): Promise<void> {
  for (let attempt = 0; attempt < 10 && isMounted(path); attempt++) {
    const error = await run('fusermount3', ['-u', '-z', path]);
    if (error !== undefined && isMounted(path)) await run('umount', ['-l', path]);
  }
  if (isMounted(path)) throw new ClusterError(`cannot unmount ${path}: try "umount -l ${path}" as root`);
}

const run = (program: string, args: string[]): Promise<Error | undefined> =>
  new Promise((resolve) => {
    execFile(program, args, { timeout: 20_000 }, (error) => resolve(error ?? undefined));
  });

/** @throws {ClusterError} when this machine cannot mount at all */
export function requireFuse(): void {
  if (!existsSync('/dev/fuse'))
    throw new ClusterError(
      'there is no /dev/fuse here, so nothing can be mounted: load the fuse module, or start without a mount: scripts/up --no-mount',
      2,
    );
  const path = `${process.env.PATH ?? ''}:/bin:/usr/bin`;
  if (!path.split(':').some((directory) => directory !== '' && existsSync(`${directory}/fusermount3`)))
    throw new ClusterError('fusermount3 is missing: install the package fuse3, or start without a mount: scripts/up --no-mount', 2);
}

/**
 * @param path real path wanted as mountpoint
 * @param state real path of the state directory
 * @throws {ClusterError} naming why it cannot be one
 */
export function checkMountpoint(path: string, state: string): void {
  const refuse = (why: string): never => {
    throw new ClusterError(`cannot mount at ${path}: ${why}`, 2);
  };
  if (isInside(state, path)) refuse(`the cluster's own state ${state} would lie inside the mount: choose another --mount or --state`);
  const here = mounts().filter((mount) => mount.path === path);
  const top = here[here.length - 1];
  if (top && !isHoldfast(top)) refuse(`something else is mounted there (${top.type}): choose another --mount`);
  if (top) {
    if (isDead(path)) return; // left by a killed mount: the new one takes over
    refuse('it is busy: another Holdfast mount is there. Unmount it, or choose another --mount');
  }
  const outer = mounts().find((mount) => isHoldfast(mount) && isInside(path, mount.path));
  if (outer) refuse(`it lies inside another Holdfast mount (${outer.path}): choose a directory outside`);
  try {
    if (!lstatSync(path).isDirectory()) refuse('it is not a directory');
    const [first] = readdirSync(path);
    if (first !== undefined) refuse(`the directory is not empty (it holds ${first}): empty it or choose another --mount`);
  } catch (error) {
    if (error instanceof ClusterError) throw error;
    const { code } = error as NodeJS.ErrnoException;
    if (code !== 'ENOENT') refuse((error as Error).message);
  }
}

/** True when the process behind a mount is gone. */
export function isDead(path: string): boolean {
  try {
    lstatSync(path);
    return false;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ENOTCONN';
  }
}
