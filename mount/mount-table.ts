/** What the system knows of mounts, read from /proc: it never touches a mountpoint, which may be dead or our own. */
import { readdir, readFile, readlink } from 'node:fs/promises';

export interface MountInfo {
  readonly mountpoint: string;
  /** major:minor */
  readonly device: string;
  /** fuse.holdfast, ext4, ... */
  readonly type: string;
}

/** Octal escapes of /proc/self/mountinfo. */
const plain = (text: string): string =>
  Buffer.from(
    text.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8))),
    'latin1',
  ).toString('utf8');

/** Every mount, later ones on top of earlier ones. */
export async function mountTable(): Promise<MountInfo[]> {
  const text = await readFile('/proc/self/mountinfo', 'latin1');
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => {
      const [before = '', after = ''] = line.split(' - ');
      const fields = before.split(' ');
      return { mountpoint: plain(fields[4] ?? ''), device: fields[2] ?? '', type: after.split(' ')[0] ?? '' };
    });
}

/** The topmost mount exactly at this absolute path. */
export const mountInfo = async (path: string): Promise<MountInfo | undefined> =>
  (await mountTable()).findLast((one) => one.mountpoint === path);
export const isMounted = async (path: string): Promise<boolean> => (await mountInfo(path)) !== undefined;

/** The mount a path lies in: the longest mountpoint above it, the latest of equals. */
export async function mountAbove(path: string): Promise<MountInfo | undefined> {
  let best: MountInfo | undefined;
  for (const one of await mountTable()) {
    const isAbove = one.mountpoint === '/' || path === one.mountpoint || path.startsWith(`${one.mountpoint}/`);
    if (isAbove && (!best || one.mountpoint.length >= best.mountpoint.length)) best = one;
  }
  return best;
}

/** Processes with a file, mapping, root or working directory below a mountpoint, as far as we may see. */
export async function pidsUsing(mountpoint: string): Promise<number[]> {
  const isInside = (path: string) => path === mountpoint || path.startsWith(`${mountpoint}/`);
  const found: number[] = [];
  for (const pid of (await readdir('/proc')).filter((name) => /^\d+$/.test(name))) {
    if (Number(pid) !== process.pid && (await uses(pid))) found.push(Number(pid));
  }
  return found;

  async function uses(pid: string): Promise<boolean> {
    for (const link of ['cwd', 'root', 'exe']) {
      if (isInside(await readlink(`/proc/${pid}/${link}`).catch(() => ''))) return true;
    }
    for (const fd of await readdir(`/proc/${pid}/fd`).catch(() => [])) {
      if (isInside(await readlink(`/proc/${pid}/fd/${fd}`).catch(() => ''))) return true;
    }
    const maps = await readFile(`/proc/${pid}/maps`, 'utf8').catch(() => '');
    return maps.split('\n').some((line) => isInside(line.slice(73).trim()));
  }
}
