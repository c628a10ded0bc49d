/** unmount: lets the mount save everything, then takes it down. */
import { execFile } from 'node:child_process';
import { readdirSync, readFileSync, readlinkSync, realpathSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { holdfastMounts } from '../cluster-path.js';
import type { Context } from '../context.js';
import { CliError, EXIT } from '../exit-codes.js';

const mountsNow = (): string[] => holdfastMounts(readFileSync('/proc/self/mountinfo', 'utf8'));

export async function unmount(context: Context, options: { lazy?: boolean }, directory: string): Promise<void> {
  const path = mountpointOf(directory);
  if (!mountsNow().includes(path)) throw new CliError(`${path} is not a Holdfast mount`, EXIT.notFound, 'NOT_MOUNTED');
  const users = usersOf(path);
  if (users.length > 0 && !options.lazy)
    throw new CliError(
      `${path} is in use by ${users.join(', ')}: end them, or use --lazy, which saves all data and detaches the folder`,
      EXIT.conflict,
      'EBUSY',
    );
  const [owner] = findMountProcess(path);
  if (owner !== undefined) {
    // The mount flushes everything before it goes.
    process.kill(owner, 'SIGTERM');
    const deadline = performance.now() + (context.options.timeout ?? 60_000);
    while (mountsNow().includes(path) && performance.now() < deadline) await delay(50);
    if (mountsNow().includes(path))
      throw new CliError(`the mount (pid ${owner}) is still saving its data or cannot: its log says more`, EXIT.unreachable, 'TIMEOUT');
  } else {
    const error = await new Promise<Error | null>((done) =>
      execFile('fusermount3', ['-u', ...(options.lazy ? ['-z'] : []), path], (failure) => done(failure)),
    );
    if (error && mountsNow().includes(path)) throw new CliError(`cannot unmount ${path}: ${error.message}`);
  }
  if (context.isJson) context.json({ schema: 1, unmounted: path });
  else context.note(`${path} unmounted.`);
}

/** The last part is not resolved: asking a dead mountpoint what it is would fail. */
function mountpointOf(directory: string): string {
  const absolute = resolve(directory);
  try {
    return join(realpathSync(dirname(absolute)), absolute.slice(dirname(absolute).length).replace(/^\/+/, ''));
  } catch {
    return absolute;
  }
}

function processes(): { pid: number; args: string[] }[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map((name) => {
      try {
        return { pid: Number(name), args: readFileSync(`/proc/${name}/cmdline`, 'utf8').split('\0') };
      } catch {
        return { pid: Number(name), args: [] };
      }
    });
}

export const findMountProcess = (path: string): number[] =>
  processes()
    .filter(({ args }) =>
      args.some(
        (argument, index) =>
          (argument === '--mount' && mountpointOf(args[index + 1] ?? '') === path) ||
          (argument === 'mount' && mountpointOf(args[index + 1] ?? '') === path),
      ),
    )
    .map(({ pid }) => pid);

/** "bash (pid 7)": who has its working directory, root or an open file there. Reads links only, which never asks the mount. */
function usersOf(path: string): string[] {
  const isInside = (link: string): boolean => {
    try {
      const target = readlinkSync(link);
      return target === path || target.startsWith(`${path}/`);
    } catch {
      return false;
    }
  };
  return processes()
    .filter(({ pid }) => {
      if (isInside(`/proc/${pid}/cwd`) || isInside(`/proc/${pid}/root`)) return true;
      try {
        return readdirSync(`/proc/${pid}/fd`).some((fd) => isInside(`/proc/${pid}/fd/${fd}`));
      } catch {
        return false;
      }
    })
    .map(({ pid, args }) => `${(args[0] ?? '').split('/').pop()} (pid ${pid})`);
}
