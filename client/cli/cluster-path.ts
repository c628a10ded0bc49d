/** PATH arguments: a path below a Holdfast mount of this machine, or a path in the cluster ("/x"). */
import { readFileSync, realpathSync } from 'node:fs';
import { basename, dirname, join, posix, resolve } from 'node:path';

/** Mountpoints of Holdfast in the text of /proc/self/mountinfo, longest first. */
export function holdfastMounts(mountinfo: string): string[] {
  const plain = (text: string): string =>
    text.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
  return mountinfo
    .split('\n')
    .map((line) => line.split(' - '))
    .filter(([, after = '']) => after.startsWith('fuse.holdfast '))
    .map(([before = '']) => plain(before.split(' ')[4] ?? ''))
    .sort((a, b) => b.length - a.length);
}

const under = (path: string, mount: string): string | undefined =>
  path === mount ? '/' : path.startsWith(`${mount}/`) ? path.slice(mount.length) : undefined;

/**
 * The absolute path within the cluster. Text is compared first, so that a mount that hangs is not touched; a path through a symlink is
 * resolved only when that found nothing. What lies below no mount is a cluster path; a relative one starts at the cluster's root.
 */
export function clusterPath(path: string, mountpoints: readonly string[], cwd: string, realpath: (path: string) => string): string {
  const local = resolve(cwd, path);
  const find = (candidate: string): string | undefined => {
    for (const mount of mountpoints) {
      const inside = under(candidate, mount);
      if (inside !== undefined) return inside;
    }
    return undefined;
  };
  const textual = find(local);
  if (textual !== undefined) return textual;
  try {
    const real = find(join(realpath(dirname(local)), basename(local)));
    if (real !== undefined && mountpoints.length > 0) return real;
  } catch {
    // Not a local path.
  }
  return posix.normalize(`/${path}`).replace(/(.)\/$/, '$1');
}

export const toClusterPath = (path: string): string =>
  clusterPath(path, holdfastMounts(readFileSync('/proc/self/mountinfo', 'utf8')), process.cwd(), realpathSync);
