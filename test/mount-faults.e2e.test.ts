/** M2-M6, M9, M10: mounts of a cluster whose nodes, network and other mounts misbehave. M1, M3, M7, M8 are in mount-life, two-mounts and mount-details. */
import { spawn } from 'node:child_process';
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { programFile } from '../scripts/cluster.js';
import { isMounted } from '../scripts/mounts.js';
import { FsWorker } from './fs-worker.js';
import { MountProcess, whyNoMount } from './mount-rig.js';
import { PATIENCE_MS, ProcessRig, waitUntil } from './process-rig.js';
import { ProxiedNodes } from './proxied-nodes.js';
import { runProgram } from './run-program.js';

const NODES = ['n1', 'n2', 'n3'];
const TIMEOUT_MS = 180_000;
const why = whyNoMount();

describe.skipIf(why !== undefined)(`a mount${why ? ` (skipped: ${why})` : ''}`, () => {
  const network = new ProxiedNodes(NODES);
  let rig: ProcessRig;
  const mounts: MountProcess[] = [];
  const workers: FsWorker[] = [];
  let here: FsWorker;
  let there: FsWorker;
  let next = 1;

  async function startMount(...args: string[]): Promise<MountProcess> {
    const mountpoint = join(rig.directory, `mnt${next++}`);
    mkdirSync(mountpoint);
    const { url, adminTokenFile } = rig.cluster;
    const own = [programFile, 'mount', '--mount', mountpoint, '--coordinator', url, '--token-file', adminTokenFile, ...args];
    const mount = new MountProcess(own, mountpoint);
    mounts.push(mount);
    await mount.ready();
    return mount;
  }
  function workerOn(mount: MountProcess): FsWorker {
    const worker = new FsWorker(mount.mountpoint);
    workers.push(worker);
    return worker;
  }
  async function allWell(): Promise<void> {
    for (const name of NODES) {
      await rig.cluster.node(name).resume();
      if (rig.cluster.node(name).pid === undefined) await rig.restart(name);
    }
    await rig.cluster.waitHealthy(PATIENCE_MS);
  }

  beforeAll(async () => {
    rig = await ProcessRig.start({
      nodes: 0,
      coordinatorArgs: ['--session-timeout', '2000', '--down-after', '3000'],
      prepare: (cluster) => network.addTo(cluster),
    });
    here = workerOn(await startMount());
    there = workerOn(await startMount());
  }, 180_000);
  afterEach(() => network.heal());
  afterAll(async () => {
    for (const name of NODES) await rig?.cluster.node(name).resume();
    for (const mount of mounts) mount.signal('SIGCONT');
    for (const worker of workers) await worker.stop();
    for (const mount of mounts) await mount.stop();
    await rig?.stop();
    await network.stop();
  }, 120_000);

  it('M3 that is in use is not unmounted: the command names who uses it, and --lazy saves all the same', {
    timeout: TIMEOUT_MS,
  }, async () => {
    const mount = await startMount();
    const user = workerOn(mount);
    await user.call('open', 'f', 'in-use', 'O_RDWR|O_CREAT');
    await user.call('write', 'f', 'not closed', 0);
    const unmount = (...args: string[]) => runProgram(process.execPath, [programFile, 'unmount', ...args, mount.mountpoint]);
    const refused = await unmount();
    expect([refused.code, refused.stderr]).toEqual([7, expect.stringMatching(/is in use by .*\d+.*--lazy/)]);
    expect(isMounted(mount.mountpoint)).toBe(true);
    const lazy = await unmount('--lazy');
    expect([lazy.code, lazy.stderr]).toEqual([0, expect.stringContaining('unmounted')]);
    expect(await mount.ended()).toBe(0);
    expect(await here.call('whole', 'in-use')).toBe('not closed');
  });

  it('M5 and another one that write the same region leave the bytes of one of them, and both see the same', {
    timeout: TIMEOUT_MS,
  }, async () => {
    const size = 128 * 1024;
    await here.call('writeWhole', 'region', '-'.repeat(size));
    for (let round = 0; round < 25; round++) {
      await Promise.all(
        [here, there].map(async (worker, index) => {
          await worker.call('open', 'r', 'region', 'O_WRONLY');
          await worker.call('write', 'r', 'ab'.charAt(index).repeat(size), 0);
          await worker.call('close', 'r');
        }),
      );
      const seen = await Promise.all([here, there].map((worker) => worker.call<string>('whole', 'region')));
      expect(new Set(seen[0])).toEqual(new Set([seen[0]?.charAt(0)]));
      expect(seen[0]?.length).toBe(size);
      expect(seen[1] === seen[0]).toBe(true);
    }
  });

  it('M6 and another one that move directories into each other make no loop and lose nothing', { timeout: TIMEOUT_MS }, async () => {
    const directories = ['a', 'b', 'c', 'd', 'e', 'f'];
    await here.call('mkdir', 'moved');
    for (const name of directories) {
      await here.call('mkdir', `moved/${name}`);
      await here.call('writeWhole', `moved/${name}/file-${name}`, name);
    }
    const wrong = await Promise.all([
      here.call('moveDirectories', 1, directories, 150),
      there.call('moveDirectories', 2, directories, 150),
    ]);
    expect(wrong).toEqual([[], []]);
    for (const worker of [here, there]) {
      const paths = (await worker.call<[string, string][]>('tree', 'moved')).map(([path, kind]) => `${kind} ${path.split('/').at(-1)}`);
      expect(paths.sort()).toEqual(
        [...directories.map((name) => `directory ${name}`), ...directories.map((name) => `file file-${name}`)].sort(),
      );
    }
  });

  it('M9 whose programs write faster than the network holds them up and keeps its memory', { timeout: TIMEOUT_MS }, async () => {
    await allWell();
    const mount = await startMount('--dirty-budget', '16', '--cache-budget', '16');
    const writer = workerOn(mount);
    const residentMiB = (): number => Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${mount.pid}/status`, 'utf8'))?.[1]) / 1024;
    await writer.call('writeRandom', 'warm-up', 16 << 20);
    const before = residentMiB();
    for (const name of NODES) network.port(name).bytesPerS = 12e6;
    let peak = before;
    const watch = setInterval(() => {
      peak = Math.max(peak, residentMiB());
    }, 20);
    // Also when the test fails: it would throw once the mount is gone.
    onTestFinished(() => clearInterval(watch));
    const startMs = performance.now();
    const sizeMiB = 96;
    const digest = await writer.call('writeRandom', 'fast', sizeMiB << 20);
    clearInterval(watch);
    // What the network could not take by then did not pile up in memory.
    expect(performance.now() - startMs).toBeGreaterThan(1000);
    expect(peak - before).toBeLessThan(sizeMiB * 0.9);
    network.heal();
    expect(await there.call('digest', 'fast')).toBe(digest);
    await writer.stop();
    await mount.stop();
  });

  it('M10 of which 64 readers wait for dead nodes answers everybody else', { timeout: TIMEOUT_MS }, async () => {
    await allWell();
    const holders = async (path: string): Promise<string[]> =>
      ((await rig.cluster.admin('stat', { path })).chunks[0]?.replicas ?? []).map((replica) => replica.name).sort();
    // A mount of its own has nothing in its caches.
    const mount = await startMount();
    const worker = workerOn(mount);
    const placed = new Map<string, readonly [name: string, on: string[]]>();
    for (let i = 0; i < 30 && placed.size < 2; i++) {
      await here.call('writeRandom', `placed${i}`, 1 << 20);
      placed.clear();
      // All are asked again: when a node was silent for too long, the third has got a copy of what it holds.
      for (let earlier = 0; earlier <= i; earlier++) {
        const on = await holders(`/placed${earlier}`);
        if (on.length === 2) placed.set(String(on), [`placed${earlier}`, on]);
      }
    }
    const [[stuck, dead] = ['', []], [free] = ['']] = placed.values();
    await worker.call('lstat', stuck);
    for (const name of dead) await rig.cluster.node(name).pause();
    const script = `
import os, sys, threading
def read():
    try:
        open(sys.argv[1], 'rb').read()
    except OSError as error:
        os.write(1, f'{error.errno}\\n'.encode())
threads = [threading.Thread(target=read) for _ in range(64)]
for thread in threads: thread.start()
print('started', flush=True)
for thread in threads: thread.join()`;
    const readers = spawn('python3', ['-c', script, join(mount.mountpoint, stuck)], { stdio: ['ignore', 'pipe', 'inherit'] });
    const ended = new Promise((resolve) => readers.once('close', resolve));
    let said = '';
    readers.stdout.on('data', (data: Buffer) => {
      said += data.toString();
    });
    expect(await waitUntil(() => said.includes('started'), PATIENCE_MS)).toBe(true);
    expect((await worker.call<string>('digest', free)).length).toBe(64);
    await worker.call('mkdir', 'meanwhile');
    expect(await worker.call('list', 'meanwhile')).toEqual([]);
    // They were waiting all that time, and do not wait for ever.
    expect(said).not.toMatch(/^\d+$/m);
    await ended;
    const errors = said.split('\n').filter((line) => /^\d+$/.test(line));
    expect(errors.length).toBe(64);
    expect(new Set(errors)).toEqual(new Set(['5']));
    for (const name of dead) await rig.cluster.node(name).resume();
    expect(await waitUntil(async () => (await worker.errorOf('digest', stuck)) === null, PATIENCE_MS)).toBe(true);
    await worker.stop();
    await mount.stop();
  });

  it('M4 that was stopped with unsent data and a lock holds up nobody, and overwrites nothing when it goes on', {
    timeout: TIMEOUT_MS,
  }, async () => {
    await allWell();
    await here.call('writeWhole', 'contested', 'before');
    const mount = await startMount();
    const stale = workerOn(mount);
    await stale.call('open', 'c', 'contested', 'O_RDWR');
    await stale.call('flock', 'c', 'write', false);
    // Data is sent 2 s after it was written: it was stopped in time only when both came to pass quickly.
    for (let isUnsent = false; !isUnsent; ) {
      mount.signal('SIGCONT');
      await stale.call('fsync', 'c');
      const writtenMs = performance.now();
      await stale.call('write', 'c', 'stale!', 0);
      mount.signal('SIGSTOP');
      isUnsent = performance.now() - writtenMs < 1000;
    }
    onTestFinished(async () => {
      mount.signal('SIGCONT');
      await here.attempt('close', 'h');
    });
    const startMs = performance.now();
    await here.call('writeWhole', 'contested', 'newer ');
    expect(await there.call('whole', 'contested')).toBe('newer ');
    // Its lease has to end first, no more than that; a call that is never answered takes 30 s.
    expect(performance.now() - startMs).toBeLessThan(25_000);
    await here.call('open', 'h', 'contested', 'O_RDWR');
    expect((await here.start('flock&', 'h', 'write', true).outcome).error).toBe(null);
    mount.signal('SIGCONT');
    expect(await stale.errorOf('fsync', 'c')).toMatch(/ESTALE|EIO/);
    await stale.attempt('close', 'c');
    await here.call('close', 'h');
    expect(await there.call('whole', 'contested')).toBe('newer ');
    // A new open works.
    expect(await waitUntil(async () => (await stale.errorOf('writeWhole', 'contested', 'newest')) === null, PATIENCE_MS)).toBe(true);
    expect(await there.call('whole', 'contested')).toBe('newest');
    await stale.stop();
    await mount.stop();
  });

  it('M2 that gets SIGTERM while no node answers ends with 1 and names what could not be saved', { timeout: TIMEOUT_MS }, async () => {
    await allWell();
    const mount = await startMount('--outage-timeout', '3000');
    const writer = workerOn(mount);
    await writer.call('mkdir', 'sub');
    await writer.call('open', 'u', 'sub/unsaved', 'O_RDWR|O_CREAT');
    for (const name of NODES) await rig.cluster.node(name).kill();
    await writer.call('write', 'u', 'x'.repeat(3_000_000), 0);
    mount.signal('SIGTERM');
    expect(await mount.ended()).toBe(1);
    expect(mount.output).toContain('/sub/unsaved');
    expect(isMounted(mount.mountpoint)).toBe(false);
    await writer.stop();
    await allWell();
  });
});
