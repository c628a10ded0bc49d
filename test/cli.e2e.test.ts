/** The `holdfast` command against a real cluster of processes, without a mount. */
import { createHash, randomBytes } from 'node:crypto';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { HoldfastError } from '../protocol/errors.js';
import { listen } from '../protocol/socket.js';
import { LocalCluster, programFile } from '../scripts/cluster.js';
import { PATIENCE_MS } from './process-rig.js';
import { type Ended, type RunOptions, runProgram } from './run-program.js';

const MIB = 1024 * 1024;
let directory: string;
let cluster: LocalCluster;

const holdfast = (args: string[], options: RunOptions = {}): Promise<Ended> =>
  runProgram(process.execPath, [programFile, ...args], { ...options, env: { HOLDFAST_STATE: cluster.stateDirectory, ...options.env } });
/** Runs with --json and expects success. @returns the objects it printed */
async function json<T = Record<string, unknown>>(...args: string[]): Promise<T[]> {
  const { code, stdout, stderr } = await holdfast([...args, '--json']);
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  return stdout
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as T);
}
const local = (name: string): string => join(directory, name);
const sha256 = (data: Buffer): string => createHash('sha256').update(data).digest('hex');

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'hf-cli-'));
  cluster = await LocalCluster.create(join(directory, 'state'), { nodes: 3, copies: 2, port: 0, mount: null });
  await cluster.start();
}, 240_000);
afterAll(async () => {
  await cluster?.purge();
  rmSync(directory, { recursive: true, force: true });
}, 120_000);

describe('what the cluster says of itself', () => {
  it('status has the fields that scripts rely on', async () => {
    await cluster.waitHealthy();
    const [status] = await json('status');
    expect(status).toMatchObject({ schema: 1, health: 'HEALTHY', chunks: { belowCopies: 0, lost: 0 } });
    expect(status).toHaveProperty('chunks.total');
    expect(status).toHaveProperty('logicalBytes');
    expect(status).toHaveProperty('storedBytes');
    const nodes = (status as { nodes: { name: string; state: string; usedBytes: number }[] }).nodes;
    expect(nodes.map(({ name, state }) => `${name} ${state}`).sort()).toEqual(['n1 up', 'n2 up', 'n3 up']);
    for (const node of nodes) expect(node.usedBytes).toBeGreaterThanOrEqual(0);
    const words = await holdfast(['status']);
    expect(words.stdout).toMatch(/^HEALTHY/);
    expect(words.stdout).toContain('n2');
  });

  it('check, wait, jobs, node ls and doctor answer', async () => {
    expect(await json('check')).toMatchObject([{ schema: 1, dangling: 0, missing: 0, wrongReferenceCounts: 0 }]);
    expect(await json('wait')).toMatchObject([{ isDone: true }]);
    expect(await json('jobs')).toMatchObject([{ schema: 1 }]);
    expect(await json('node', 'ls')).toHaveLength(1);
    const doctor = await holdfast(['doctor']);
    expect(doctor.stdout).toMatch(/ok +coordinator/);
    expect(doctor.stdout).toMatch(/ok +node n3/);
  });

  it('events -f shows what happens, as one object a line', async () => {
    let isKilled: Promise<unknown> | undefined;
    const followed = await holdfast(['events', '-f', '--json'], {
      onOutput: (stdout) => {
        isKilled ??= cluster.node('n3').kill();
        return stdout.includes('"node.suspect"') ? 'SIGINT' : undefined;
      },
    });
    await isKilled;
    expect(followed.code).toBe(130);
    for (const line of followed.stdout.trim().split('\n')) expect(JSON.parse(line)).toMatchObject({ schema: 1 });
    await cluster.startNode('n3');
    await cluster.waitHealthy();
  });
});

describe('files', () => {
  const data = randomBytes(3 * MIB + 123);

  it('go up and come down byte for byte, with mode and time', async () => {
    writeFileSync(local('film'), data, { mode: 0o640 });
    utimesSync(local('film'), 1_600_000_000, 1_600_000_000);
    expect(await json('upload', local('film'), '/film')).toMatchObject([
      { path: '/film', sizeBytes: data.length, sha256: sha256(data) },
      { done: true, uploaded: 1, unchanged: 0, failed: 0, bytes: data.length },
    ]);
    // The same again: nothing is to be done; other names for the same bytes: nothing is to be sent.
    expect(await json('upload', local('film'), '/film')).toMatchObject([{ unchanged: true }, { uploaded: 0, unchanged: 1, sentBytes: 0 }]);
    expect(await json('upload', local('film'), '/again')).toMatchObject([
      { path: '/again' },
      { uploaded: 1, sentBytes: expect.any(Number) },
    ]);
    const [, again] = await json<{ sentBytes: number }>('upload', local('film'), '/third');
    expect(again?.sentBytes).toBeLessThan(data.length / 100);
    await holdfast(['delete', '--force', '/again', '/third']);
    const [stat] = await json<{ chunks: { replicas: unknown[] }[] }>('stat', '/film');
    expect(stat).toMatchObject({ sizeBytes: data.length, mode: 0o640, mtimeMs: 1_600_000_000_000, isReadable: true, chunkCount: 4 });
    for (const chunk of stat?.chunks ?? []) expect(chunk.replicas.length).toBeGreaterThanOrEqual(2);
    await json('download', '/film', '--output', local('back'));
    expect(sha256(readFileSync(local('back')))).toBe(sha256(data));
    expect(statSync(local('back')).mtimeMs).toBe(1_600_000_000_000);
    expect(await json('wait', '/film', '--for', '60')).toMatchObject([{ isDone: true }]);
    expect(await json('verify', '/film')).toMatchObject([{ bad: [] }]);
    expect((await holdfast(['why', '/film'])).code).toBe(0);
    // Once more: nothing to do.
    expect((await holdfast(['upload', local('film'), '/film'])).stderr).toContain('1 unchanged');
  });

  it('stream through standard input and output', async () => {
    expect((await holdfast(['upload', '-', '/stream'], { input: 'line\n' })).code).toBe(0);
    expect((await holdfast(['cat', '/stream', '/stream'])).stdout).toBe('line\nline\n');
    expect((await holdfast(['download', '/stream', '-o', '-'])).stdout).toBe('line\n');
  });

  it('go by the tree, symlinks kept', async () => {
    mkdirSync(local('tree/sub'), { recursive: true });
    for (let index = 0; index < 20; index++) writeFileSync(local(`tree/sub/f${index}`), `content ${index}`);
    symlinkSync('sub/f1', local('tree/link'));
    expect((await holdfast(['upload', '-r', local('tree'), '/archive/'])).code).toBe(0);
    const listed = await json<{ path: string; kind: string; target?: string }>('list', '-r', '/archive');
    expect(listed).toHaveLength(23);
    expect(listed.find((one) => one.kind === 'symlink')).toMatchObject({ path: '/archive/tree/link', target: 'sub/f1' });
    expect((await holdfast(['download', '-r', '/archive/tree', '-o', local('copy')])).code).toBe(0);
    expect(readdirSync(local('copy/sub'))).toHaveLength(20);
    expect(readFileSync(local('copy/link'), 'utf8')).toBe('content 1');
  });

  it('are moved, made and deleted', async () => {
    expect((await holdfast(['mkdir', '-p', '/a/b/c'])).code).toBe(0);
    expect((await holdfast(['move', '/stream', '/a/b'])).code).toBe(0);
    expect((await holdfast(['list', '/a/b'])).stdout).toBe('c/\nstream\n');
    expect((await holdfast(['move', '-n', '/film', '/a/b/stream'])).code).toBe(7);
    const asked = await holdfast(['delete', '-r', '/a']);
    expect([asked.code, asked.stderr.includes('--yes')]).toEqual([2, true]);
    expect((await holdfast(['delete', '-r', '--dry-run', '/a'])).stdout).toContain('would delete /a/b/stream');
    expect((await holdfast(['delete', '-r', '--yes', '/a'])).code).toBe(0);
    expect((await holdfast(['list'])).stdout).toBe('archive/\nfilm\n');
  });

  it('an upload that was interrupted goes on where it was', { timeout: 3 * PATIENCE_MS }, async () => {
    const large = randomBytes(160 * MIB);
    writeFileSync(local('large'), large);
    let isCommitted = false;
    const watching = cluster
      .waitFor((status) => status.logicalBytes >= data.length + 64 * MIB, PATIENCE_MS)
      .then(() => {
        isCommitted = true;
      });
    // The signal is sent by the helper once something has been committed.
    const child = runProgram(
      'bash',
      ['-c', `"$0" "$@" & pid=$!; read -r; kill -INT $pid; wait $pid`, process.execPath, programFile, 'upload', local('large'), '/large'],
      {
        env: { HOLDFAST_STATE: cluster.stateDirectory },
        timeoutMs: 2 * PATIENCE_MS,
        inputWhen: watching.then(() => '\n'),
      },
    );
    const cut = await child;
    expect(isCommitted).toBe(true);
    if (cut.code === 0) return; // It was quicker than the signal: nothing to go on with.
    expect(cut.code).toBe(130);
    expect((await holdfast(['stat', '/large'])).code).toBe(4);
    const [resumed] = await json<{ resumedAt: number }>('upload', local('large'), '/large');
    expect(resumed).toMatchObject({ sizeBytes: large.length, sha256: sha256(large) });
    expect(resumed?.resumedAt).toBeGreaterThanOrEqual(64 * MIB);
  });

  it('are reached from the prompt as well', async () => {
    const { code, stdout } = await holdfast(['shell'], { input: 'cd archive/tree\nls\npwd\ncat "sub/f3"\nexit\n' });
    expect(code).toBe(0);
    expect(stdout).toContain('link\nsub/\n/archive/tree\ncontent 3');
  });

  it('names that would command a terminal are shown harmlessly', async () => {
    expect((await holdfast(['upload', '-', '/x\x1b[2Jy'], { input: 'x' })).code).toBe(0);
    expect((await holdfast(['list'])).stdout).toContain('x\\x1b[2Jy');
    expect((await holdfast(['delete', '/x\x1b[2Jy'])).code).toBe(0);
  });
});

describe('administration', () => {
  it('drains a node and takes the drain back', async () => {
    expect((await holdfast(['node', 'drain', 'n1', '--wait'])).code).toBe(0);
    const [status] = await json<{ nodes: { name: string; state: string; safeToRemove: boolean }[] }>('status');
    expect(status?.nodes.find((node) => node.name === 'n1')).toMatchObject({ state: 'draining', safeToRemove: true });
    expect((await holdfast(['node', 'undrain', 'n1'])).code).toBe(0);
    expect((await holdfast(['node', 'drain', 'n7'])).code).not.toBe(0);
    await cluster.waitHealthy();
  });

  it('orders repair, scrub and rebalance', async () => {
    for (const args of [['repair'], ['repair', '--speed', 'urgent'], ['node', 'scrub'], ['rebalance']])
      expect((await json(...args))[0]).toHaveProperty('text');
    expect((await holdfast(['repair', '--speed', 'warp'])).code).toBe(2);
  });

  it('saves the metadata to a file', async () => {
    const [saved] = await json<{ sizeBytes: number }>('backup', local('backup'));
    expect(statSync(local('backup')).size).toBe(saved?.sizeBytes);
    expect(statSync(local('backup')).mode & 0o777).toBe(0o600);
    expect((await holdfast(['backup', local('backup')])).code).toBe(7);
  });
});

describe('errors', () => {
  it('have the promised exit codes and say what to do', async () => {
    expect((await holdfast(['stat', '/nothing'])).code).toBe(4);
    expect((await holdfast(['mkdir', '/archive'])).code).toBe(7);
    const typo = await holdfast(['stats']);
    expect([typo.code, typo.stderr.includes('stat')]).toEqual([2, true]);
    const away = await holdfast([
      'status',
      '--coordinator',
      'http://127.0.0.1:9',
      '--token-file',
      cluster.adminTokenFile,
      '--timeout',
      '0.5',
    ]);
    expect([away.code, away.stderr.includes('scripts/up')]).toEqual([5, true]);
    writeFileSync(local('wrong-token'), 'f'.repeat(64));
    expect((await holdfast(['status', '--coordinator', cluster.url, '--token-file', local('wrong-token')])).code).toBe(8);
    const none = await holdfast(['status', '--state', local('nowhere')]);
    expect([none.code, none.stderr.includes('scripts/up')]).toEqual([4, true]);
  });

  it('are one JSON object on stderr with --json', async () => {
    const { code, stdout, stderr } = await holdfast(['stat', '/nothing', '--json']);
    expect([code, stdout]).toEqual([4, '']);
    expect(JSON.parse(stderr)).toMatchObject({ schema: 1, error: { code: 'ENOENT', exitCode: 4 } });
  });

  it('of versions that do not fit are told as that', async () => {
    const http = createServer();
    const sockets = listen(http, () => {
      throw new HoldfastError('PROTOCOL_VERSION', 'this coordinator speaks protocol 99');
    });
    await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve));
    try {
      const { port } = http.address() as { port: number };
      const ended = await holdfast(['status', '--coordinator', `http://127.0.0.1:${port}`, '--token-file', cluster.adminTokenFile]);
      expect(ended.code).toBe(1);
      expect(ended.stderr).toMatch(/protocol 99[\s\S]*versions/);
    } finally {
      sockets.close();
      http.close();
      http.closeAllConnections();
    }
  });

  it('never show the token', async () => {
    const token = readFileSync(cluster.adminTokenFile, 'utf8').trim();
    const all = [await holdfast(['doctor']), await holdfast(['status', '--json']), await holdfast(['events', '--json'])];
    for (const name of ['coordinator', ...cluster.nodeNames])
      all.push({ code: 0, stdout: readFileSync(join(cluster.stateDirectory, name, 'log'), 'utf8'), stderr: '' });
    for (const { stdout, stderr } of all) expect(stdout.includes(token) || stderr.includes(token)).toBe(false);
  });
});
