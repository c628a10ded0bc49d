/** What must hold before mounting; each refusal says what is wrong and what to do. Nothing here touches a mount that could hang. */
import { execFile } from 'node:child_process';
import { access, constants, lstat, readdir, readlink, realpath } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { mountAbove, mountInfo } from './mount-table.js';

const run = promisify(execFile);

/** A reason not to mount that only the user can change: exit code 2. */
export class Refusal extends Error {
  override readonly name = 'Refusal';
}

const HOLDFAST = 'fuse.holdfast';
const isInside = (path: string, directory: string): boolean => path === directory || path.startsWith(`${directory}/`);
const errnoOf = (error: unknown): string => (error as NodeJS.ErrnoException).code ?? '';

/** @throws {Refusal} */
export async function checkMachine(): Promise<void> {
  try {
    await access('/dev/fuse', constants.R_OK | constants.W_OK);
  } catch (error) {
    throw new Refusal(
      errnoOf(error) === 'ENOENT'
        ? 'this machine has no /dev/fuse: load the kernel module (modprobe fuse), or give the container the device'
        : '/dev/fuse may not be opened by this user: run as root or ask for access to it',
    );
  }
  const directories = (process.env.PATH ?? '').split(':').filter((part) => part !== '');
  const found = await Promise.all(
    directories.map((directory) =>
      access(join(directory, 'fusermount3'), constants.X_OK).then(
        () => true,
        () => false,
      ),
    ),
  );
  if (!found.includes(true)) throw new Refusal('fusermount3 is missing: install the package fuse3');
}

/**
 * Checks the mountpoint and takes it over when a killed mount left it dead.
 * @param ownFiles files this process goes on using (token, ready file): they may not lie inside its own mount
 * @returns the real path to mount at
 * @throws {Refusal}
 */
export async function checkMountpoint(directory: string, ownFiles: readonly string[]): Promise<string> {
  const wanted = await realParent(resolve(directory));
  const there = await mountInfo(wanted);
  if (there) {
    if (!there.type.startsWith('fuse')) throw new Refusal(`cannot mount at ${wanted}: something else (${there.type}) is mounted there`);
    if (!(await isDead(wanted)))
      throw new Refusal(`cannot mount at ${wanted}: it is in use by another mount; unmount it: fusermount3 -u ${wanted}`);
    await run('fusermount3', ['-uz', '--', wanted]).catch(() => run('umount', ['-l', wanted]));
  }
  const around = await mountAbove(wanted);
  if (around && around.type === HOLDFAST)
    throw new Refusal(`cannot mount at ${wanted}: it lies inside another Holdfast mount (${around.mountpoint})`);
  let names: string[];
  try {
    if (!(await lstat(wanted)).isDirectory()) throw new Refusal(`cannot mount at ${wanted}: it is not a directory`);
    names = await readdir(wanted);
  } catch (error) {
    if (error instanceof Refusal) throw error;
    if (errnoOf(error) === 'ENOENT') throw new Refusal(`cannot mount at ${wanted}: there is no such directory; make it: mkdir ${wanted}`);
    throw new Refusal(`cannot mount at ${wanted}: ${(error as Error).message}`);
  }
  if (names.length > 0)
    throw new Refusal(`cannot mount at ${wanted}: the directory is not empty (it holds ${names[0]}); choose another one`);
  await checkOutside(wanted, ownFiles);
  return wanted;
}

/** The path with symlinks resolved in all but its last part, which may be a dead mount. */
async function realParent(path: string): Promise<string> {
  if (path === '/') return path;
  const parent = await realpath(dirname(path)).catch(() => dirname(path));
  const whole = join(parent, path.slice(dirname(path).length).replace(/^\//, ''));
  return (await mountInfo(whole)) ? whole : realpath(whole).catch(() => whole);
}

/** Dead: the process that served it is gone. One that does not answer in time lives (stopped, or very busy). */
async function isDead(mountpoint: string): Promise<boolean> {
  const answer = lstat(join(mountpoint, '.')).then(
    () => 'alive',
    (error: unknown) => errnoOf(error),
  );
  const patience = new Promise<string>((done) => setTimeout(done, 3000, 'alive').unref());
  return ['ENOTCONN', 'ECONNABORTED'].includes(await Promise.race([answer, patience]));
}

/** A mount that writes into itself would wait for itself. */
async function checkOutside(mountpoint: string, ownFiles: readonly string[]): Promise<void> {
  for (const file of ownFiles) {
    const path = await realParent(resolve(file));
    if (isInside(path, mountpoint))
      throw new Refusal(`${file} lies inside the mountpoint ${mountpoint}: keep the mount's own files elsewhere`);
  }
  for (const [fd, what] of [
    [1, 'standard output'],
    [2, 'the log (standard error)'],
  ] as const) {
    const path = await readlink(`/proc/self/fd/${fd}`).catch(() => '');
    if (isInside(path, mountpoint)) throw new Refusal(`${what} goes to ${path}, inside the mountpoint: send it elsewhere`);
  }
  if (isInside(process.cwd(), mountpoint))
    throw new Refusal(`this process stands in the mountpoint ${mountpoint}: start it from another directory`);
}
