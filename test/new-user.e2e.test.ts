/** What a new user does on the first day, on a cluster as `scripts/up --no-mount` makes it: encrypted, with a trash. Each step in words or as JSON, with its exit code. */
import { createHash, randomBytes } from 'node:crypto';
import { appendFileSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { programFile } from '../scripts/cluster.js';
import { type Ended, type RunOptions, runProgram, runScript } from './run-program.js';

const MIB = 1024 * 1024;
const FILES = 300;
const hasTerminal = (process.env.PATH ?? '').split(delimiter).some((at) => existsSync(join(at, 'script')));
let directory: string;
let state: string;
/** Films begun so far: a name of its own for each. */
let films = 0;
const local = (...names: string[]): string => join(directory, ...names);
const holdfast = (args: readonly string[], options: RunOptions = {}): Promise<Ended> =>
  runProgram(process.execPath, [programFile, ...args], { ...options, env: { HOLDFAST_STATE: state, ...options.env } });
const asAnna = (...args: string[]): string[] => [...args, '--token-file', local('anna.token')];
/** The objects a command says with --json. */
async function json<T = Record<string, unknown>>(...args: string[]): Promise<T[]> {
  const { code, stdout, stderr } = await holdfast([...args, '--json']);
  expect({ code, stderr }, args.join(' ')).toEqual({ code: 0, stderr: '' });
  return stdout.split('\n').flatMap((line) => (line === '' ? [] : [JSON.parse(line) as T]));
}
async function only<T = Record<string, unknown>>(...args: string[]): Promise<T> {
  const all = await json<T>(...args);
  expect(all, args.join(' ')).toHaveLength(1);
  return all[0] as T;
}
/** Exit code and code of the error as JSON on stderr; nothing on stdout. */
async function refusal(...args: string[]): Promise<[number | null, unknown]> {
  const { code, stdout, stderr } = await holdfast([...args, '--json']);
  expect(stdout, args.join(' ')).toBe('');
  const { error } = JSON.parse(stderr) as { error: { code: string; exitCode: number } };
  expect(error.exitCode).toBe(code);
  return [code, error.code];
}
const sha256 = (data: Buffer): string => createHash('sha256').update(data).digest('hex');
const filesBelow = (at: string): Record<string, string> =>
  Object.fromEntries(
    readdirSync(at, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name))
      .map((file): [string, string] => [file.slice(at.length), sha256(readFileSync(file))])
      .sort(([a], [b]) => (a < b ? -1 : 1)),
  );

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'hf-new-user-'));
  state = local('state');
  for (let index = 0; index < FILES; index++) {
    const folder = local('photos', `day ${index % 6}`);
    if (index < 6) mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, `${index}.jpg`), randomBytes(1 + ((index * 977) % 20_000)));
  }
  const up = await runScript('up', ['--no-mount', '--port', '0', '--state', state]);
  expect([up.code, up.stderr]).toEqual([0, '']);
  expect(up.stdout).toContain('keep a copy elsewhere');
});
afterAll(async () => {
  await runScript('down', ['--purge', '--state', state]);
  rmSync(directory, { recursive: true, force: true });
});

describe('a new cluster', () => {
  it('is encrypted, with a key for its owner alone, and has a trash; scripts/up says what cannot be changed afterwards', async () => {
    const { volumes } = await only<{ volumes: { name: string; encryption: unknown; trashKeepMs: number }[] }>('volume', 'list');
    expect(volumes.map(({ name, encryption, trashKeepMs }) => [name, encryption !== null, trashKeepMs])).toEqual([
      ['main', true, 86_400_000],
    ]);
    expect(statSync(local('state', 'volume-key')).mode & 0o777).toBe(0o600);
    writeFileSync(local('secret'), 'nobody else reads this line');
    await json('upload', local('secret'), '/');
    expect((await holdfast(['cat', '/secret'])).stdout).toBe('nobody else reads this line');
    for (const [option, words] of [
      ['--no-encrypt', 'stays so'],
      ['--no-trash', '--trash-keep 0'],
    ] as const) {
      const again = await runScript('up', [option, '--state', state]);
      expect([again.code, again.stderr]).toEqual([2, expect.stringContaining(words)]);
    }
  });

  it('takes a user in, and a folder of files, which comes back the same; what is there is not sent again', async () => {
    const made = await only<{ user: { user: string; home: string } }>('user', 'create', 'anna', '--token-out', local('anna.token'));
    expect(made.user).toMatchObject({ user: 'anna', home: 'anna' });
    expect(await refusal('user', 'create', 'anna')).toEqual([7, 'EEXIST']);
    const first = await json(...asAnna('upload', '-r', local('photos'), '/'));
    expect(first.at(-1)).toMatchObject({ done: true, uploaded: FILES, unchanged: 0, failed: 0 });
    expect((await json(...asAnna('upload', '-r', local('photos'), '/'))).at(-1)).toMatchObject({
      ...{ uploaded: 0, unchanged: FILES, sentBytes: 0 },
    });
    expect((await json(...asAnna('upload', '-r', local('photos'), '/copy/'))).at(-1)).toMatchObject({ uploaded: FILES, sentBytes: 0 });
    const listed = await json<{ kind: string }>(...asAnna('list', '-r', '/photos'));
    expect(listed.filter(({ kind }) => kind === 'file')).toHaveLength(FILES);
    expect((await holdfast(asAnna('cat', '/photos/day 1/1.jpg'))).code).toBe(0);
    await json(...asAnna('download', '-r', '/photos', '--output', local('back')));
    expect(filesBelow(local('back'))).toEqual(filesBelow(local('photos')));
    expect(await refusal(...asAnna('cat', '/photos/none'))).toEqual([4, 'ENOENT']);
    expect(await refusal(...asAnna('list', '/', '--volume', 'main'))).toEqual([8, 'FORBIDDEN']);
  });

  it.skipIf(!hasTerminal)('shows a bar at a terminal, obeys Ctrl-C, and goes on where it was', { timeout: 240_000 }, async () => {
    for (let attempt = 1; ; attempt++) {
      const film = `/film${++films}`;
      // More than waits in memory twice over: the bar moves as fast as the nodes take it, and the first 64 MiB are committed at 100.
      const data = randomBytes(160 * MIB);
      writeFileSync(local('film'), data);
      let seen: (() => void) | undefined;
      const isMoving = new Promise<string>((resolve) => {
        seen = () => resolve('\x03');
      });
      const command = [process.execPath, programFile, ...asAnna('upload', local('film'), film)].map((word) => `'${word}'`);
      const cut = await runProgram('script', ['-qec', command.join(' '), '/dev/null'], {
        env: { HOLDFAST_STATE: state },
        inputWhen: isMoving,
        onOutput: (said) => {
          if (/\d{3} MiB of 160 MiB/.test(said)) seen?.();
          return undefined;
        },
      });
      expect(cut.stdout).toMatch(/uploading \[#*\.+\] \d+% .* of 160 MiB/);
      const there = await holdfast(asAnna('stat', film));
      if (cut.code === 0) expect(there.code).toBe(0);
      // A machine that is done before the key arrives is asked again.
      if (there.code === 0 && attempt < 5) continue;
      expect(cut.code).toBe(130);
      expect(cut.stdout).toContain('interrupted: the same command again goes on where it ended');
      expect(await refusal(...asAnna('cat', film))).toEqual([4, 'ENOENT']);
      const [resumed] = await json<{ resumedAt: number }>(...asAnna('upload', local('film'), film));
      expect(resumed).toMatchObject({ sizeBytes: data.length, sha256: sha256(data) });
      expect(resumed?.resumedAt).toBeGreaterThanOrEqual(64 * MIB);
      const [, again] = await json(...asAnna('upload', '--force', local('film'), '/copy-of-film'));
      expect(again).toMatchObject({ bytes: data.length, sentBytes: 0 });
      return;
    }
  });

  it('gives back what was deleted, and what was before a change', async () => {
    expect(await refusal(...asAnna('delete', '/photos'))).toEqual([7, 'EISDIR']);
    await json(...asAnna('delete', '-r', '--yes', '/photos'));
    expect(await refusal(...asAnna('list', '/photos'))).toEqual([4, 'ENOENT']);
    const trash = await only<{ total: number; files: { path: string }[] }>(...asAnna('trash', 'list', '/photos'));
    expect([trash.total, trash.files[0]?.path.startsWith('/photos/day ')]).toEqual([FILES, true]);
    expect(await only<{ restored: string[] }>(...asAnna('trash', 'restore', '/photos'))).toMatchObject({ failed: [] });
    expect(await refusal(...asAnna('trash', 'restore', '/photos'))).toEqual([4, 'ENOENT']);
    await json(...asAnna('download', '-r', '/photos', '--output', local('restored')));
    expect(filesBelow(local('restored'))).toEqual(filesBelow(local('photos')));

    await only(...asAnna('snapshot', 'create', 'monday'));
    expect(await refusal(...asAnna('snapshot', 'create', 'monday'))).toEqual([7, 'EEXIST']);
    appendFileSync(local('photos', 'day 1', '1.jpg'), 'changed');
    writeFileSync(local('photos', 'day 1', 'new.jpg'), 'new');
    expect((await json(...asAnna('upload', '-r', local('photos'), '/'))).at(-1)).toMatchObject({ uploaded: 2, unchanged: FILES - 1 });
    await json(...asAnna('delete', '/photos/day 2/2.jpg'));
    const { changes } = await only<{ changes: { change: string; path: string }[] }>(...asAnna('snapshot', 'diff', 'monday'));
    expect(changes.map(({ change, path }) => `${change} ${path}`)).toEqual([
      ...['changed /photos/day 1/1.jpg', 'added /photos/day 1/new.jpg', 'removed /photos/day 2/2.jpg'],
    ]);
    await only(...asAnna('snapshot', 'restore', 'monday', '/photos'));
    await json(...asAnna('download', '-r', '/photos', '--output', local('monday')));
    expect(filesBelow(local('monday'))).toEqual(filesBelow(local('back')));
  });
});
