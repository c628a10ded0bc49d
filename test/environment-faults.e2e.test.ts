/** E1-E8, C9: names, sizes, depths and clocks, through a mount of a cluster of real processes. */
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { programFile } from '../scripts/cluster.js';
import { FsWorker } from './fs-worker.js';
import { MountProcess, whyNoMount } from './mount-rig.js';
import { AS_ROOT, hasProgram, PATIENCE_MS, ProcessRig, random, readFile, sha256, waitUntil, writeFile } from './process-rig.js';
import { runProgram } from './run-program.js';

const isSoak = process.env.HOLDFAST_SOAK === '1';
const TIMEOUT_MS = isSoak ? 3_600_000 : 240_000;
const why = whyNoMount();
const FAKETIME = '/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1';

describe.skipIf(why !== undefined)(`a cluster with a mount${why ? ` (skipped: ${why})` : ''}`, () => {
  let rig: ProcessRig;
  let mount: MountProcess;
  let worker: FsWorker;
  /** Processes read their wall clock's offset from here when faketime is installed. */
  const clockFile = (name: string): string => join(rig.directory, `clock-${name}`);

  beforeAll(async () => {
    rig = await ProcessRig.start({
      prepare: (cluster) => {
        if (!hasProgram('faketime')) return;
        for (const name of ['coordinator', ...cluster.nodeNames]) {
          const file = join(cluster.stateDirectory, '..', `clock-${name}`);
          writeFileSync(file, '+0\n');
          cluster.environment.set(name, {
            LD_PRELOAD: FAKETIME,
            FAKETIME_TIMESTAMP_FILE: file,
            FAKETIME_NO_CACHE: '1',
            FAKETIME_DONT_FAKE_MONOTONIC: '1',
          });
        }
      },
    });
    const mountpoint = join(rig.directory, 'mnt');
    mkdirSync(mountpoint);
    const { url, adminTokenFile } = rig.cluster;
    mount = new MountProcess(
      [programFile, 'mount', '--mount', mountpoint, '--coordinator', url, '--token-file', adminTokenFile],
      mountpoint,
    );
    await mount.ready();
    worker = new FsWorker(mountpoint);
  }, 180_000);
  afterAll(async () => {
    await worker?.stop();
    await mount?.stop();
    await rig?.stop();
  }, 120_000);

  const lastEvent = async (): Promise<number> => (await rig.events()).at(-1)?.sequence ?? 0;
  /** One silent for a moment on a busy machine may be suspect just now; none of them may have counted as down since this event. */
  const expectUp = async (since: number): Promise<void> => {
    await rig.cluster.waitFor(({ nodes }) => nodes.length === 3 && nodes.every(({ state }) => state === 'up'), PATIENCE_MS, 'all nodes up');
    expect((await rig.events(since)).filter(({ kind }) => kind === 'node.down')).toEqual([]);
  };
  /** Bytes as fs-worker takes them. */
  const bytes = (...parts: (string | number[])[]): string =>
    `bytes:${parts.map((part) => (typeof part === 'string' ? Buffer.from(part).toString('latin1') : String.fromCharCode(...part))).join('')}`;

  it('E1 counts names by bytes: 255 go in, 256 do not, in any script', async () => {
    expect(await worker.errorOf('writeWhole', 'a'.repeat(255), '1')).toBe(null);
    expect(await worker.errorOf('writeWhole', 'a'.repeat(256), '1')).toBe('ENAMETOOLONG');
    expect(await worker.errorOf('mkdir', bytes('€'.repeat(85)))).toBe(null);
    expect(await worker.errorOf('mkdir', bytes('€'.repeat(86)))).toBe('ENAMETOOLONG');
    expect(await worker.call('whole', 'a'.repeat(255))).toBe('1');
    expect((await worker.call<string[]>('list', '.')).filter((name) => name.startsWith('a') || name.startsWith('€')).length).toBe(2);
  });

  it('E2 keeps names with newlines, escapes, dashes, other directions and emoji; what is printed of them commands no terminal', async () => {
    const names = ['line\nbreak', '\x1b[31mred\x1b[0m\x07', 'car\rriage', '-rf', '‮gnp.exe', '👩‍👩‍👧', 'tab\there', ' ', '\\', '"\''];
    await worker.call('mkdir', 'strange');
    for (const name of names) await worker.call('writeWhole', bytes(`strange/${name}`), 'x');
    expect(await worker.call('list', 'strange')).toEqual([...names].sort());
    const { cluster } = rig;
    const state = ['--state', cluster.stateDirectory];
    for (const args of [['list', '/strange'], ['stat', `/strange/${names[1]}`], ['events']]) {
      const { code, stdout, stderr } = await runProgram(process.execPath, [programFile, ...args, ...state]);
      expect([args[0], code, stderr]).toEqual([args[0], 0, '']);
      // biome-ignore lint/suspicious/noControlCharactersInRegex: that is what must not be there
      expect(stdout).not.toMatch(/[\x00-\x09\x0b-\x1f\x7f]/);
    }
    // biome-ignore lint/suspicious/noControlCharactersInRegex: that is what must not be there
    expect(readFileSync(cluster.coordinator.logFile, 'utf8')).not.toMatch(/[\x00-\x08\x0b-\x1f]/);
  });

  it('E3 refuses names that are not UTF-8, so that two names never become one', async () => {
    expect(await worker.errorOf('mkdir', bytes('a', [0xff]))).toBe('EILSEQ');
    expect(await worker.errorOf('mkdir', bytes('a', [0xfe]))).toBe('EILSEQ');
    expect(await worker.errorOf('writeWhole', bytes('cut', [0xe2, 0x82]), 'x')).toBe('EILSEQ');
    expect((await worker.call<string[]>('list', '.')).filter((name) => name.includes('�'))).toEqual([]);
  });

  it('E4 keeps composed and decomposed letters apart, and upper and lower case', async () => {
    const names = ['\u00e9', 'e\u0301', '\u00c9', 'readme', 'README'];
    await worker.call('mkdir', 'forms');
    for (const [index, name] of names.entries()) await worker.call('writeWhole', bytes(`forms/${name}`), String(index));
    expect((await worker.call<string[]>('list', 'forms')).sort()).toEqual([...names].sort());
    for (const [index, name] of names.entries()) expect(await worker.call('whole', bytes(`forms/${name}`))).toBe(String(index));
  });

  it('E5 bears deep trees, loops of symlinks and long targets', { timeout: TIMEOUT_MS }, async () => {
    const maker = new FsWorker(mount.mountpoint);
    // Deeper than a path can say at once.
    const depth = 2000;
    for (let level = 0; level < depth; level++) {
      await maker.call('mkdir', 'deep');
      await maker.call('cd', 'deep');
    }
    await maker.call('writeWhole', 'bottom', 'found');
    expect(await maker.call('whole', 'bottom')).toBe('found');
    await maker.stop();
    expect(await worker.errorOf('lstat', 'deep/'.repeat(900))).toBe('ENAMETOOLONG');
    await worker.call('symlink', 'loop2', 'loop1');
    await worker.call('symlink', 'loop1', 'loop2');
    expect(await worker.errorOf('stat', 'loop1')).toBe('ELOOP');
    expect(await worker.errorOf('symlink', 't'.repeat(4095), 'long')).toBe(null);
    expect(await worker.call('readlink', 'long')).toBe('t'.repeat(4095));
    expect(await worker.errorOf('symlink', 't'.repeat(4096), 'too-long')).toBe('ENAMETOOLONG');
    // The command line walks it without running out of stack.
    const { stdout } = await runProgram(process.execPath, [programFile, 'check', '--json', '--state', rig.cluster.stateDirectory]);
    expect(JSON.parse(stdout)).toMatchObject({ dangling: 0 });
  });

  const count = isSoak ? 100_000 : 6000;
  it(`E6 lists a directory of ${count} names whole, each once, while others write into it; no node misses its beats`, {
    timeout: TIMEOUT_MS,
  }, async () => {
    const client = await rig.client();
    const { tree } = client;
    const since = await lastEvent();
    const { attributes } = await tree.create({
      parent: tree.root,
      name: 'large',
      kind: 'directory',
      mode: 0o755,
      as: AS_ROOT,
      exclusive: true,
    });
    const make = async (prefix: string, from: number, to: number): Promise<void> => {
      let at = from;
      const lane = async (): Promise<void> => {
        while (at < to) {
          const name = `${prefix}${at++}`;
          await tree.create({ parent: attributes.inode, name, kind: 'file', mode: 0o644, as: AS_ROOT, exclusive: true });
        }
      };
      await Promise.all(Array.from({ length: 32 }, lane));
    };
    await make('kept', 0, count);
    // The worker lists by the mount while the client goes on adding and removing.
    let isOver = false;
    const churn = (async () => {
      for (let round = 0; !isOver; round++) {
        await make('new', round * 50, round * 50 + 50);
        for (let i = 0; i < 50; i += 2) await tree.unlink(attributes.inode, `new${round * 50 + i}`, AS_ROOT);
      }
    })();
    churn.catch(() => {}); // It is told below.
    try {
      for (let round = 0; round < 3; round++) {
        const names = await worker.call<string[]>('list', 'large');
        expect(new Set(names).size).toBe(names.length);
        expect(names.filter((name) => name.startsWith('kept')).length).toBe(count);
      }
    } finally {
      isOver = true;
      await churn;
    }
    await expectUp(since);
    await rig.close(client);
  });

  const files = isSoak ? 1_000_000 : 3000;
  it(`E7 counts ${files} small files exactly, also after the coordinator was killed and started again`, {
    timeout: TIMEOUT_MS,
  }, async () => {
    const { cluster } = rig;
    const client = await rig.client();
    const { tree } = client;
    const before = await cluster.status();
    const sums = new Map<string, string>();
    let at = 0;
    const lane = async (): Promise<void> => {
      while (at < files) {
        const name = `small${at++}`;
        const content = random(100);
        await writeFile(client, name, content);
        if (at % 100 === 0) sums.set(name, sha256(content));
      }
    };
    await Promise.all(Array.from({ length: 32 }, lane));
    await client.syncTree();
    await cluster.coordinator.kill();
    const startMs = performance.now();
    await rig.restart('coordinator');
    await cluster.waitHealthy(PATIENCE_MS);
    // A few seconds; much longer than a busy machine takes is an error all the same.
    expect(performance.now() - startMs).toBeLessThan(90_000);
    expect((await cluster.status()).files).toBe(before.files + files);
    const pid = cluster.coordinator.pid as number;
    const residentMiB = Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024;
    expect(residentMiB).toBeLessThan(isSoak ? 2500 : 400);
    for (const [name, sum] of sums) expect(sha256(await readFile(client, name)), name).toBe(sum);
    expect(tree.root).toBeGreaterThan(0);
    await rig.close(client);
  });

  it('E8 keeps old, far and exact times, hard links, fifos and large attributes, or says what it cannot', async () => {
    await worker.call('writeWhole', 'times', 'x');
    for (const time of ['-2145916800000000001', '4291747200123456789', '1', '0']) {
      await worker.call('utimens', 'times', time, time);
      expect((await worker.stat('times')).mtime).toBe(time);
    }
    await worker.call('link', 'times', 'other-name');
    const [one, other] = [await worker.stat('times'), await worker.stat('other-name')];
    expect([one.nlink, one.inode]).toEqual([2, other.inode]);
    await worker.call('mkdir', 'd');
    expect(await worker.errorOf('link', 'd', 'd2')).toBe('EPERM');
    await worker.call('mknod', 'pipe', 0o010644);
    expect((await worker.stat('pipe')).kind).toBe('fifo');
    await worker.call('setxattr', 'times', 'user.large', 'v'.repeat(65_536));
    expect(await worker.call('getxattr', 'times', 'user.large')).toBe('v'.repeat(65_536));
    expect(await worker.errorOf('setxattr', 'times', 'user.larger', 'v'.repeat(65_537))).toMatch(/E2BIG|ENOSPC|ERANGE/);
  });

  it.skipIf(!hasProgram('faketime'))(
    'C9 whose clocks jump, one after the other, goes on as if nothing had happened',
    { timeout: TIMEOUT_MS },
    async () => {
      const { cluster } = rig;
      const client = await rig.client();
      const set = (name: string, offset: string): void => {
        writeFileSync(`${clockFile(name)}.new`, `${offset}\n`);
        renameSync(`${clockFile(name)}.new`, clockFile(name));
      };
      const written = new Map<string, string>();
      const epochBefore = (await cluster.status()).epoch;
      const since = await lastEvent();
      for (const name of ['coordinator', 'n1', 'n2']) {
        for (const offset of ['-2h', '+1y', '+0']) {
          set(name, offset);
          const content = random(200_000);
          const file = `clock-${name}-${offset}`;
          await writeFile(client, file, content, true);
          await worker.call('writeWhole', `${file}-mount`, 'through the mount');
          written.set(file, sha256(content));
          const doomed = `doomed-${name}-${offset}`;
          await writeFile(client, doomed, random(1000));
          await client.tree.unlink(client.tree.root, doomed, AS_ROOT);
          if (name === 'coordinator' && offset === '+1y') {
            // The clock is really another one there.
            const { attributes } = await client.tree.create({
              parent: client.tree.root,
              name: 'dated',
              kind: 'file',
              mode: 0o644,
              as: AS_ROOT,
              exclusive: true,
            });
            expect(attributes.mtimeS).toBeGreaterThan(Date.now() / 1000 + 300 * 86_400);
          }
        }
      }
      await expectUp(since);
      const status = await cluster.status();
      expect([status.epoch, status.chunks.lost]).toEqual([epochBefore, 0]);
      const fresh = await rig.client();
      for (const [name, sum] of written) expect(sha256(await readFile(fresh, name)), name).toBe(sum);
      await cluster.waitFor(({ deletion }) => deletion.waiting === 0, PATIENCE_MS, 'deletion as always');
      await rig.waitForOrder();
      expect(await waitUntil(async () => (await worker.errorOf('lstat', 'dated')) === null, PATIENCE_MS)).toBe(true);
    },
  );
});
