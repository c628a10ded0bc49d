/** scripts/up, down, node, coordinator and mount, run as a person runs them. */
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { LEASE_MS } from '../protocol/limits.js';
import { mountsBelow, processesNaming, runProgram, runScript } from './run-program.js';

const hasFuse = existsSync('/dev/fuse');
const SLOW_MS = 600_000;
let directory: string;
const states: string[] = [];

const stateOf = (name: string): string => {
  const state = join(directory, name);
  states.push(state);
  return state;
};
const up = (state: string, ...args: string[]) => runScript('up', ['--state', state, '--port', '0', ...args], { timeoutMs: SLOW_MS });
const down = (state: string, ...args: string[]) => runScript('down', ['--state', state, ...args], { timeoutMs: SLOW_MS });
const status = async (state: string): Promise<{ health: string; nodes: { name: string; state: string }[] }> =>
  JSON.parse((await runScript('holdfast', ['status', '--json', '--state', state])).stdout);

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'hf-startup-'));
});
afterAll(async () => {
  for (const state of states) await down(state, '--purge').catch(() => {});
  rmSync(directory, { recursive: true, force: true });
}, SLOW_MS);

describe('a cluster by scripts', () => {
  it.skipIf(!hasFuse)(
    'starts, is started again harmlessly, stops, keeps its data, and is purged without a trace',
    async () => {
      const state = stateOf('whole');
      const folder = join(directory, 'folder');
      const first = await up(state, '--nodes', '3', '--copies', '2', '--mount', folder);
      expect(first.stderr).toBe('');
      expect(first.code).toBe(0);
      expect(first.stdout).toContain('3 nodes, 2 copies');
      expect(first.stdout).toContain(folder);
      expect(statSync(state).mode & 0o777).toBe(0o700);
      expect(statSync(join(state, 'tokens', 'admin-token')).mode & 0o777).toBe(0o600);
      writeFileSync(join(folder, 'kept'), 'some bytes');

      const again = await up(state);
      expect(again.code).toBe(0);
      expect(again.stdout).toContain('Already running');

      expect((await runScript('node', ['kill', 'n2', '--state', state])).stdout).toContain('n2 killed');
      expect(readFileSync(join(folder, 'kept'), 'utf8')).toBe('some bytes');
      const mended = await up(state, '--nodes', '4');
      expect(mended.stdout).toContain('Started what was missing: n2, n4');
      const nodesNow = async (): Promise<string[]> => (await status(state)).nodes.map((node) => `${node.name} ${node.state}`).sort();
      // A node that falls silent for a moment is suspect until it is heard again.
      await expect.poll(nodesNow, { timeout: 60_000 }).toEqual(['n1 up', 'n2 up', 'n3 up', 'n4 up']);

      const stopped = await down(state);
      expect(stopped.code).toBe(0);
      expect(processesNaming(state)).toEqual([]);
      expect(mountsBelow(folder)).toEqual([]);
      expect(existsSync(folder)).toBe(false);
      expect((await down(state)).stdout).toContain('Nothing was running');

      expect((await up(state)).code).toBe(0);
      expect(readFileSync(join(folder, 'kept'), 'utf8')).toBe('some bytes');
      expect((await down(state, '--purge')).code).toBe(0);
      expect(processesNaming(state)).toEqual([]);
      expect([existsSync(state), existsSync(folder), mountsBelow(folder).length]).toEqual([false, false, 0]);
    },
    SLOW_MS,
  );

  it.skipIf(!hasFuse)(
    'takes a killed mount over, and a paused cluster down',
    async () => {
      const state = stateOf('mount');
      const folder = join(directory, 'mounted');
      mkdirSync(folder);
      expect((await up(state, '--nodes', '1', '--mount', folder)).code).toBe(0);
      expect((await runScript('mount', ['kill', '--state', state])).code).toBe(0);
      const again = await runScript('mount', ['start', '--state', state]);
      expect(again.stderr).toBe('');
      writeFileSync(join(folder, 'x'), 'after');
      expect((await runScript('mount', ['stop', '--state', state])).code).toBe(0);
      expect(mountsBelow(folder)).toEqual([]);
      for (const [part, ...args] of [
        ['node', 'pause', 'n1'],
        ['coordinator', 'pause'],
      ] as [string, ...string[]][])
        expect((await runScript(part, [...args, '--state', state])).stdout).toContain('paused');
      expect((await down(state, '--purge')).code).toBe(0);
      expect(processesNaming(state)).toEqual([]);
      // The directory was there before: it is not ours to remove.
      expect([existsSync(state), existsSync(folder)]).toEqual([false, true]);
    },
    SLOW_MS,
  );

  it.skipIf(!hasFuse)(
    'a coordinator is started by a shell that was in the folder, while nothing there is answered',
    async () => {
      const state = stateOf('before');
      const folder = join(directory, 'left');
      expect((await up(state, '--nodes', '1', '--mount', folder)).code).toBe(0);
      mkdirSync(join(folder, 'inner'));
      expect((await runScript('coordinator', ['kill', '--state', state])).code).toBe(0);
      // What the mount and the kernel knew counts no more.
      await delay(LEASE_MS + 1000);
      let isAnswered = false;
      const looking = runProgram('stat', [join(folder, 'inner')], { timeoutMs: SLOW_MS }).then(({ code }) => {
        isAnswered = true;
        return code;
      });
      // It may reject while nobody awaits it.
      looking.catch(() => {});
      await delay(1000);
      const wasAnswered = isAnswered;
      const started = await runScript('coordinator', ['start', '--state', state], { env: { OLDPWD: join(folder, 'inner') } });
      expect(wasAnswered).toBe(false);
      expect([started.stderr, started.code]).toEqual(['', 0]);
      expect(await looking).toBe(0);
      expect((await down(state, '--purge')).code).toBe(0);
    },
    SLOW_MS,
  );

  it(
    'runs several side by side, and each part can be stopped and hurt by itself',
    async () => {
      const [a, b] = [stateOf('a'), stateOf('b')];
      const [first = 0, last = 0] = process.env.HOLDFAST_PORTS?.split('-').map(Number) ?? [];
      const middle = Math.floor((first + last) / 2);
      const begin = (state: string, nodes: string, ports: string) =>
        runScript('up', ['--state', state, '--port', '0', '--nodes', nodes, '--no-mount'], {
          env: { HOLDFAST_PORTS: ports },
          timeoutMs: SLOW_MS,
        });
      // Ports of their own: each is chosen seconds before it is opened.
      const both = await Promise.all([begin(a, '1', `${first}-${middle}`), begin(b, '2', `${middle + 1}-${last}`)]);
      expect(both.map((one) => one.stderr + one.code)).toEqual(['0', '0']);
      expect((await status(a)).nodes).toHaveLength(1);
      expect((await status(b)).nodes).toHaveLength(2);

      expect((await runScript('node', ['pause', 'n2', '--state', b])).stdout).toContain('n2 paused');
      expect((await runScript('node', ['list', '--state', b])).stdout).toMatch(/n2 +paused/);
      expect((await runScript('node', ['resume', 'n2', '--state', b])).stdout).toContain('n2 resumed');
      expect((await runScript('node', ['add', '--state', b])).stdout).toContain('n3 started');
      expect((await runScript('node', ['stop', 'n3', '--state', b])).stdout).toContain('n3 stopped');
      expect((await runScript('coordinator', ['kill', '--state', b])).stdout).toContain('coordinator killed');
      const offline = await runScript('holdfast', ['status', '--state', b, '--timeout', '1']);
      expect(offline.code).toBe(5);
      expect((await runScript('coordinator', ['start', '--state', b])).stdout).toContain('coordinator started');
      expect((await status(b)).nodes).toHaveLength(3);

      const wrongNode = await runScript('node', ['kill', 'n9', '--state', b]);
      expect([wrongNode.code, wrongNode.stderr.trim().split('\n').length]).toEqual([2, 1]);
      expect(wrongNode.stderr).toContain('n1, n2, n3');

      // A data directory of another cluster, as after a mix-up of disks.
      await runScript('node', ['stop', 'n1', '--state', a]);
      await runScript('node', ['stop', 'n1', '--state', b]);
      rmSync(join(b, 'n1', 'data'), { recursive: true });
      cpSync(join(a, 'n1', 'data'), join(b, 'n1', 'data'), { recursive: true });
      const foreign = await runScript('node', ['start', 'n1', '--state', b]);
      expect(foreign.code).not.toBe(0);
      expect(foreign.stderr).toMatch(/another cluster|other cluster|belongs to cluster/i);
      expect((await runScript('node', ['list', '--state', b])).stdout).toMatch(/n1 +stopped/);

      // The token of another cluster.
      const wrongToken = await runScript('holdfast', [
        'status',
        '--coordinator',
        urlOf(b),
        '--token-file',
        join(a, 'tokens', 'admin-token'),
      ]);
      expect(wrongToken.code).toBe(8);
      expect(wrongToken.stderr).toContain('token');

      await down(a, '--purge');
      await down(b, '--purge');
      expect([...processesNaming(a), ...processesNaming(b)]).toEqual([]);
    },
    SLOW_MS,
  );
});

const urlOf = (state: string): string => {
  const { coordinator } = JSON.parse(readFileSync(join(state, 'cluster.json'), 'utf8')) as { coordinator: { host: string; port: number } };
  return `http://${coordinator.host}:${coordinator.port}`;
};

describe('bad input', () => {
  let state: string;
  let count = 0;
  const refused = async (expected: RegExp, args: string[], code = 2): Promise<void> => {
    const ended = await runScript('up', ['--state', state, ...args], { timeoutMs: SLOW_MS });
    expect(ended.stderr).toMatch(expected);
    expect(ended.code).toBe(code);
    expect(ended.stdout).toBe('');
    // One message, and no stack of ours.
    expect(ended.stderr).not.toMatch(/^\s+at /m);
    expect(processesNaming(state)).toEqual([]);
  };
  const fresh = (): void => {
    state = stateOf(`bad${++count}`);
  };
  afterEach(() => {
    // Nothing was begun, so nothing may be left.
    expect(existsSync(join(state, 'cluster.json'))).toBe(false);
  });

  it(
    'unknown options and wrong numbers are refused with a hint',
    async () => {
      fresh();
      await refused(/unknown option '--nods'[\s\S]*--nodes/, ['--nods', '3']);
      await refused(/--nodes <n>.*whole number/, ['--nodes', 'many']);
      await refused(/--copies <n>.*1 to 8/, ['--copies', '9']);
    },
    SLOW_MS,
  );

  it(
    'a port that is taken is named',
    async () => {
      fresh();
      const server = createServer();
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
      const { port } = server.address() as { port: number };
      try {
        await refused(new RegExp(`port ${port} is taken`), ['--no-mount', '--port', String(port)]);
      } finally {
        server.close();
      }
    },
    SLOW_MS,
  );

  it(
    'a state directory that holds something else is left alone',
    async () => {
      fresh();
      mkdirSync(state);
      writeFileSync(join(state, 'letter.txt'), 'x');
      await refused(/holds other files \(letter.txt\)/, ['--no-mount', '--port', '0'], 1);
      expect(readFileSync(join(state, 'letter.txt'), 'utf8')).toBe('x');
    },
    SLOW_MS,
  );

  it.skipIf(!hasFuse)(
    'a mountpoint that is a file, not empty, or would hold the state is refused',
    async () => {
      fresh();
      const full = join(directory, 'full');
      mkdirSync(full);
      writeFileSync(join(full, 'letter.txt'), 'x');
      await refused(/not empty \(it holds letter.txt\)/, ['--port', '0', '--mount', full]);
      await refused(/not a directory/, ['--port', '0', '--mount', join(full, 'letter.txt')]);
      await refused(/would lie inside the mount/, ['--port', '0', '--mount', directory]);
      await refused(/something else is mounted/, ['--port', '0', '--mount', '/proc']);
    },
    SLOW_MS,
  );

  it.skipIf(!hasFuse)(
    'a mountpoint inside another mount, or busy with one, is refused',
    async () => {
      const outer = stateOf('outer');
      const folder = join(directory, 'outer-folder');
      expect((await up(outer, '--nodes', '1', '--mount', folder)).code).toBe(0);
      fresh();
      await refused(/inside another Holdfast mount/, ['--port', '0', '--mount', join(folder, 'inner')]);
      await refused(/busy: another Holdfast mount/, ['--port', '0', '--mount', folder]);
      expect((await down(outer, '--purge')).code).toBe(0);
    },
    SLOW_MS,
  );

  it.skipIf(process.getuid?.() !== 0 || !hasFuse)(
    'without /dev/fuse it says so, and works with --no-mount',
    async () => {
      fresh();
      // A /dev of its own, in a mount namespace of its own, without fuse in it.
      const inBareDev = (args: string[]) =>
        runProgram(
          'unshare',
          [
            '-m',
            'bash',
            '-ec',
            `dev=$(mktemp -d); mount -t tmpfs none "$dev"; for one in null zero random urandom tty; do touch "$dev/$one"; mount --bind "/dev/$one" "$dev/$one"; done
           mkdir "$dev/shm"; mount --rbind "$dev" /dev; ln -s /proc/self/fd /dev/fd; exec "$@"`,
            'bare',
            ...args,
          ],
          { timeoutMs: SLOW_MS },
        );
      const withMount = await inBareDev(['scripts/up', '--state', state, '--port', '0', '--mount', join(directory, 'nofuse')]);
      expect(withMount.stderr).toMatch(/no \/dev\/fuse.*--no-mount/);
      expect(withMount.code).toBe(2);
      expect(processesNaming(state)).toEqual([]);
      const without = await inBareDev([
        'bash',
        '-ec',
        'scripts/up --state "$0" --port 0 --nodes 1 --no-mount && scripts/down --purge --state "$0"',
        state,
      ]);
      expect(without.stderr).toBe('');
      expect(without.code).toBe(0);
      expect(without.stdout).toContain('Holdfast is up: 1 node');
    },
    SLOW_MS,
  );

  it(
    'commands without a cluster say how to start one',
    async () => {
      fresh();
      for (const [script, ...args] of [
        ['node', 'list'],
        ['coordinator', 'start'],
        ['mount', 'stop'],
      ] as [string, ...string[]][]) {
        const ended = await runScript(script, [...args, '--state', state]);
        expect([script, ended.code, ended.stderr.includes('scripts/up --state')]).toEqual([script, 1, true]);
      }
      expect((await down(state)).stdout).toContain('Nothing to stop');
    },
    SLOW_MS,
  );
});
