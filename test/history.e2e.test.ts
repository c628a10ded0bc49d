/** Snapshots, trash and clones as people use them: through a mount and the command line, on a cluster of real processes. */
import { createHash, randomBytes } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { CheckReport, ClusterStatus } from '../protocol/admin-calls.js';
import type { SnapshotChange, TrashEntry } from '../protocol/history-calls.js';
import { programFile } from '../scripts/cluster.js';
import { type ClusterRig, startClusterMounts, whyNoMount } from './mount-rig.js';
import { type Ended, runProgram } from './run-program.js';

const MIB = 1024 * 1024;
let rig: ClusterRig;
let mount: string;

const holdfast = (...args: string[]): Promise<Ended> =>
  runProgram(process.execPath, [programFile, ...args], { env: { HOLDFAST_STATE: rig.cluster.stateDirectory } });
/** Runs with --json and expects success. */
async function json<T>(...args: string[]): Promise<T> {
  const { code, stdout, stderr } = await holdfast(...args, '--json');
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  return JSON.parse(stdout) as T;
}
const at = (...names: string[]): string => join(mount, ...names);
const sha256 = (file: string): string => createHash('sha256').update(readFileSync(file)).digest('hex');
const codeOf = (action: () => void): string | undefined => {
  try {
    action();
    return undefined;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code;
  }
};

const reason = whyNoMount();
describe.skipIf(reason !== undefined)(`the past of a volume${reason ? ` (skipped: ${reason})` : ''}`, () => {
  const film = randomBytes(3 * MIB + 17);
  let filmHash = '';

  beforeAll(async () => {
    rig = await startClusterMounts(1);
    mount = rig.mounts[0] as string;
    mkdirSync(at('photos', 'summer'), { recursive: true });
    writeFileSync(at('photos', 'film'), film);
    writeFileSync(at('photos', 'summer', 'note'), 'as it was');
    filmHash = sha256(at('photos', 'film'));
  }, 240_000);
  afterAll(async () => {
    await rig?.stop();
  }, 120_000);

  it('is in snapshots that show what was, and that nothing can change', async () => {
    await json('snapshot', 'create', 'monday');
    writeFileSync(at('photos', 'summer', 'note'), 'changed');
    writeFileSync(at('photos', 'new'), 'new');
    rmSync(at('photos', 'film'));
    expect(readdirSync(mount)).toEqual(['photos']);
    expect(readdirSync(at('.snapshots'))).toEqual(['monday']);
    expect(readdirSync(at('.snapshots', 'monday', 'photos'))).toEqual(['film', 'summer']);
    expect(readFileSync(at('.snapshots', 'monday', 'photos', 'summer', 'note'), 'utf8')).toBe('as it was');
    expect(sha256(at('.snapshots', 'monday', 'photos', 'film'))).toBe(filmHash);
    expect(codeOf(() => writeFileSync(at('.snapshots', 'monday', 'photos', 'film'), 'x'))).toBe('EROFS');
    expect(codeOf(() => writeFileSync(at('.snapshots', 'monday', 'x'), 'x'))).toBe('EROFS');
    expect(codeOf(() => rmSync(at('.snapshots', 'monday', 'photos', 'film')))).toBe('EROFS');
    const { changes } = await json<{ changes: SnapshotChange[] }>('snapshot', 'diff', 'monday');
    expect(changes.map(({ change, path }) => `${change} ${path}`)).toEqual([
      'removed /photos/film',
      'added /photos/new',
      'changed /photos/summer/note',
    ]);
    expect((await holdfast('snapshot', 'create', 'monday')).code).toBe(7);
  });

  it('comes back, and outlives the death of the coordinator', async () => {
    await rig.cluster.coordinator.kill();
    await rig.cluster.startCoordinator();
    await rig.cluster.waitHealthy();
    // After the restart: a session of before it might hold anything open, as far as the coordinator knows, and files that are deleted with it.
    expect((await holdfast('cat', '/.snapshots/monday/photos/summer/note')).stdout).toBe('as it was');
    expect(await json('stat', '/.snapshots/monday/photos/film')).toMatchObject({
      path: '/.snapshots/monday/photos/film',
      isReadable: true,
    });
    const restored = await json<{ before: string }>('snapshot', 'restore', 'monday', '/photos');
    expect(readdirSync(at('photos'))).toEqual(['film', 'summer']);
    expect(sha256(at('photos', 'film'))).toBe(filmHash);
    expect(readFileSync(at('.snapshots', restored.before, 'photos', 'new'), 'utf8')).toBe('new');
  });

  it('gives clones that take no space until they are changed', async () => {
    const before = await json<ClusterStatus>('status');
    await json('clone', '/photos', '/copy');
    expect(sha256(at('copy', 'film'))).toBe(filmHash);
    const after = await json<ClusterStatus>('status');
    expect(after.uniqueBytes).toBe(before.uniqueBytes);
    expect(after.logicalBytes).toBe(before.logicalBytes * 2);
    writeFileSync(at('copy', 'summer', 'note'), 'only here');
    expect(readFileSync(at('photos', 'summer', 'note'), 'utf8')).toBe('as it was');
    expect((await holdfast('clone', '/photos', '/copy')).code).toBe(7);
  });

  it('has a trash, from which mv and restore bring files back', async () => {
    await json('volume', 'set', 'main', '--trash-keep', '1h');
    rmSync(at('copy'), { recursive: true });
    writeFileSync(at('photos', 'summer', 'draft'), 'newer');
    renameSync(at('photos', 'summer', 'draft'), at('photos', 'summer', 'note'));
    const { files } = await json<{ files: TrashEntry[] }>('trash', 'list');
    expect(files.map((file) => file.path)).toEqual(['/photos/summer/note', '/copy/film', '/copy/summer/note'].sort(byDeletion(files)));
    expect(readdirSync(mount)).toEqual(['photos']);
    expect(readdirSync(at('.trash')).sort()).toEqual(files.map((file) => file.name).sort());
    expect(statSync(at('.trash')).mode & 0o777).toBe(0o700);
    const overwritten = files.find((file) => file.path === '/photos/summer/note')?.name ?? '';
    expect(readFileSync(at('.trash', overwritten), 'utf8')).toBe('as it was');
    renameSync(at('.trash', overwritten), at('photos', 'old-note'));
    expect(readFileSync(at('photos', 'old-note'), 'utf8')).toBe('as it was');
    await json('trash', 'restore', '/copy');
    expect(sha256(at('copy', 'film'))).toBe(filmHash);
    expect(readFileSync(at('copy', 'summer', 'note'), 'utf8')).toBe('only here');
    rmSync(at('photos', 'old-note'));
    rmSync(at('.trash', readdirSync(at('.trash'))[0] ?? ''));
    expect(readdirSync(at('.trash'))).toEqual([]);
    expect((await holdfast('trash', 'restore', '/photos/old-note')).code).toBe(4);
  });

  it('leaves nothing behind when it is let go: every count is right, and the nodes get their space back', async () => {
    await json('volume', 'set', 'main', '--trash-keep', '0');
    const { snapshots } = await json<{ snapshots: { name: string }[] }>('snapshot', 'list');
    for (const { name } of snapshots) expect((await holdfast('snapshot', 'delete', name)).code).toBe(0);
    expect(readdirSync(at('.snapshots'))).toEqual([]);
    for (const name of ['photos', 'copy']) rmSync(at(name), { recursive: true });
    const deadline = performance.now() + 60_000;
    let left = await json<ClusterStatus>('status');
    while (left.storedBytes > 0 && performance.now() < deadline) {
      await new Promise((resolve) => setTimeout(resolve, 500));
      left = await json<ClusterStatus>('status');
    }
    expect(left.storedBytes).toBe(0);
    expect(await json<CheckReport>('check')).toMatchObject({ dangling: 0, missing: 0, missingReplicas: 0, wrongReferenceCounts: 0 });
  });
});

/** Newest first, as listed; files of one millisecond may come in any order. */
const byDeletion =
  (files: readonly TrashEntry[]) =>
  (a: string, b: string): number =>
    files.findIndex((file) => file.path === a) - files.findIndex((file) => file.path === b);
