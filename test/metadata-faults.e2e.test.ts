/** C2 C3 C4 C5 C7 C8 D6: what can happen to the coordinator's data, with real processes. Every test has a cluster of its own. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import {
  closeSync,
  cpSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statfsSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { type Cluster, connect } from '../client/index.js';
import { programFile } from '../scripts/cluster.js';
import {
  AS_ROOT,
  codeOf,
  hasProgram,
  PATIENCE_MS,
  ProcessRig,
  type RigOptions,
  random,
  readFile,
  sha256,
  unlink,
  waitUntil,
  writeFile,
} from './process-rig.js';
import { type Ended, runProgram, runScript } from './run-program.js';
import { TcpProxy } from './tcp-proxy.js';

const TIMEOUT_MS = 300_000;
const isRoot = process.getuid?.() === 0;
const holdfast = (args: readonly string[]): Promise<Ended> =>
  runProgram(process.execPath, [programFile, ...args], { timeoutMs: PATIENCE_MS, env: { UV_THREADPOOL_SIZE: '4' } });

async function withRig(options: RigOptions, body: (rig: ProcessRig) => Promise<void>): Promise<void> {
  const rig = await ProcessRig.start(options);
  try {
    await body(rig);
  } finally {
    await rig.stop();
  }
}

/** A node that starts slowly is waited for: else its chunks would be copied to others, and some deleted as surplus once it is back. */
const PATIENT_WITH_NODES = ['--down-after', '60000', '--stopped-grace', '60000'];

/** Chunks of this size are files of their own on the nodes at once, so that they can be counted. */
const LARGE_BYTES = 300_000;

/** Names and digests of what a cluster must hold. */
type Manifest = Map<string, string>;
async function fill(client: Cluster, prefix: string, count: number, leastBytes = 1): Promise<Manifest> {
  const manifest: Manifest = new Map();
  for (let i = 0; i < count; i++) {
    const content = random(i % 5 === 0 ? 1_200_000 : leastBytes + i * 700);
    await writeFile(client, `${prefix}${i}`, content, true);
    manifest.set(`${prefix}${i}`, sha256(content));
  }
  return manifest;
}
async function namesIn(client: Cluster): Promise<string[]> {
  const names: string[] = [];
  for (let after = '', isLast = false; !isLast; ) {
    const page = await client.tree.readDirectory(client.tree.root, after, 1000);
    names.push(...page.entries.map((entry) => entry.name));
    after = names.at(-1) ?? '';
    isLast = page.isLast;
  }
  return names.sort();
}
/** All of it is there, nothing else, byte for byte. */
async function expectExactly(client: Cluster, manifest: Manifest): Promise<void> {
  expect(await namesIn(client)).toEqual([...manifest.keys()].sort());
  for (const [name, digest] of manifest) expect(sha256(await readFile(client, name)), name).toBe(digest);
}
const stopAll = async (rig: ProcessRig): Promise<void> => {
  for (const process of rig.processes().reverse()) await process.stop(PATIENCE_MS);
};
const startNodes = async (rig: ProcessRig): Promise<void> => {
  await Promise.all(rig.cluster.nodeNames.map((name) => rig.restart(name)));
};
const waitForCopies = (rig: ProcessRig): Promise<unknown> =>
  rig.cluster.waitFor(
    ({ metadata }) => metadata.copies.length === 2 && metadata.copies.every((copy) => copy.isCurrent),
    PATIENCE_MS,
    'two current copies of the metadata',
  );

describe('C4 a coordinator whose data directory is gone', () => {
  it('comes back from the nodes with one command, with every synced file, its tokens and its clients', {
    timeout: TIMEOUT_MS,
  }, async () => {
    await withRig({}, async (rig) => {
      const { cluster } = rig;
      const state = ['--state', cluster.stateDirectory];
      const client = await rig.client();
      const manifest = await fill(client, 'f', 12);
      await waitForCopies(rig);
      for (const [name, digest] of await fill(client, 'late', 4)) manifest.set(name, digest);
      // A sync does not wait for a copy whose disk was too slow just then.
      await waitForCopies(rig);

      await cluster.coordinator.kill();
      rmSync(cluster.coordinatorData, { recursive: true });
      // Nothing but the nodes' disks is left: they start while there is no coordinator.
      for (const name of cluster.nodeNames) await cluster.node(name).kill();
      const tokens = ['admin-token', 'node-token'].map((name) => readFileSync(join(cluster.stateDirectory, 'tokens', name), 'utf8'));
      const refused = await runScript('coordinator', ['start', ...state]);
      expect([refused.code, refused.stderr]).toEqual([1, expect.stringContaining('holdfast recover --state')]);

      // Neither is a new cluster made, nor is what the nodes have thrown away as that of a cluster that never ran.
      const up = await runScript('up', [...state, '--no-mount']);
      expect([up.code, up.stderr]).toEqual([1, expect.stringContaining('holdfast recover --state')]);
      for (const name of cluster.nodeNames) expect(existsSync(join(cluster.nodeData(name), 'identity.json')), name).toBe(true);

      const early = await holdfast(['recover', ...state, '--json']);
      expect([early.code, early.stdout]).toEqual([5, '']);
      expect(JSON.parse(early.stderr)).toMatchObject({ error: { code: 'UNREACHABLE', exitCode: 5 } });
      const started = await runScript('node', ['start', ...cluster.nodeNames, ...state]);
      expect(started.code, started.stderr).toBe(0);

      const drill = await holdfast(['recover', ...state, '--dry-run']);
      expect([drill.code, drill.stderr]).toEqual([0, '']);
      expect(drill.stdout).toContain(`${manifest.size} files`);
      expect(existsSync(cluster.coordinatorData)).toBe(false);
      // One address is enough: the metadata names the other nodes.
      const [firstNode = ''] = cluster.nodeNames;
      const byUrl = [
        'recover',
        '--from-nodes',
        cluster.nodeUrl(firstNode),
        '--node-token-file',
        cluster.nodeTokenFile,
        '--dry-run',
        '--json',
      ];
      const asked = await holdfast(byUrl);
      const hasCopy = readdirSync(join(cluster.nodeData(firstNode), 'metadata')).some((blob) => blob.startsWith('snapshot-'));
      // Two of three nodes keep copies; a node without one knows nobody else.
      if (hasCopy) expect(JSON.parse(asked.stdout)).toMatchObject({ dryRun: true, best: { files: manifest.size }, notAsked: [] });
      else expect(asked.code).toBe(4);

      const recovered = await holdfast(['recover', ...state, '--json']);
      expect([recovered.code, recovered.stderr]).toEqual([0, '']);
      expect(JSON.parse(recovered.stdout)).toMatchObject({
        schema: 1,
        dryRun: false,
        isAdminTokenNew: false,
        best: { files: manifest.size },
      });
      const twice = await holdfast(['recover', ...state]);
      expect([twice.code, twice.stderr]).toEqual([7, expect.stringContaining('already')]);

      const again = await runScript('coordinator', ['start', ...state]);
      expect(again.code, again.stderr).toBe(0);
      await cluster.waitHealthy(PATIENCE_MS);
      expect(['admin-token', 'node-token'].map((name) => readFileSync(join(cluster.stateDirectory, 'tokens', name), 'utf8'))).toEqual(
        tokens,
      );
      await expectExactly(await rig.client(), manifest);
      // A client from before goes on without doing anything.
      await expectExactly(client, manifest);
      await writeFile(client, 'after', random(5000), true);
      const report = await rig.waitForOrder();
      expect([report.dangling, report.missing, report.unknown]).toEqual([0, 0, 0]);
    });
  });
});

describe('C4 a damaged data directory', () => {
  it('is refused with the command that helps, never taken for empty', { timeout: TIMEOUT_MS }, async () => {
    await withRig({ nodes: 2, coordinatorArgs: ['--metadata-copies', '0'] }, async (rig) => {
      const { cluster } = rig;
      const client = await rig.client();
      const { tree } = client;
      const names: string[] = [];
      // More metadata than one segment of the journal holds, so that its beginning is dropped and only the database has it.
      for (let i = 0; i < 340; i++) {
        const name = `n${i}`;
        const { attributes } = await tree.create({ parent: tree.root, name, kind: 'file', mode: 0o600, as: AS_ROOT, exclusive: true });
        await tree.setXattr(attributes.inode, 'user.big', random(60_000), 'any');
        names.push(name);
      }
      await client.syncTree();
      const journal = join(cluster.coordinatorData, 'journal');
      const segments = (directory: string): string[] =>
        readdirSync(directory)
          .filter((name) => name.endsWith('.log'))
          .sort();
      expect(await waitUntil(() => segments(journal).every((name) => Number.parseInt(name, 10) > 1), PATIENCE_MS)).toBe(true);
      await rig.close(client);
      const namesAtStop = [...names];
      // As a clean stop leaves it: everything in the database; and as a kill leaves it: the newest in the write-ahead log and the journal.
      const [clean, killed] = [join(rig.directory, 'clean'), join(rig.directory, 'killed')];
      await cluster.coordinator.stop(PATIENCE_MS);
      cpSync(cluster.coordinatorData, clean, { recursive: true });
      await rig.restart('coordinator');
      const wal = 'metadata.db-wal';
      // Each of these records says that the one before it is on stable storage.
      const writer = await rig.client();
      for (let i = 0; i < 10; i++) {
        await writer.tree.create({ parent: writer.tree.root, name: `s${i}`, kind: 'file', mode: 0o600, as: AS_ROOT, exclusive: true });
        await writer.syncTree();
        names.push(`s${i}`);
      }
      expect(await waitUntil(() => sizeOf(join(cluster.coordinatorData, wal)) > 0, PATIENCE_MS)).toBe(true);
      await cluster.coordinator.kill();
      cpSync(cluster.coordinatorData, killed, { recursive: true });

      const databaseSize = sizeOf(join(clean, 'metadata.db'));
      const overwrite = (file: string, at: number, sizeBytes: number): void => {
        const fd = openSync(file, 'r+');
        writeSync(fd, random(sizeBytes), 0, sizeBytes, at);
        closeSync(fd);
      };
      const page = (quarter: number): number => Math.floor((databaseSize * quarter) / 4 / 4096) * 4096;
      // Not certain: what journal and database hold besides may make up for it; then everything must be there.
      const damages: { what: string; from: string; damage: (data: string) => void; isCertain: boolean }[] = [
        {
          what: 'the first page overwritten',
          from: clean,
          damage: (data) => overwrite(join(data, 'metadata.db'), 0, 4096),
          isCertain: true,
        },
        {
          what: 'pages of the database overwritten',
          from: clean,
          damage: (data) => {
            for (const quarter of [1, 2, 3]) overwrite(join(data, 'metadata.db'), page(quarter), 4096);
          },
          isCertain: true,
        },
        { what: 'the database cut', from: clean, damage: (data) => truncateSync(join(data, 'metadata.db'), page(2)), isCertain: true },
        { what: 'the database deleted', from: clean, damage: (data) => rmSync(join(data, 'metadata.db')), isCertain: true },
        { what: 'the journal deleted', from: clean, damage: (data) => rmSync(join(data, 'journal'), { recursive: true }), isCertain: true },
        {
          what: 'the segments of the journal deleted',
          from: clean,
          damage: (data) => {
            for (const name of segments(join(data, 'journal'))) rmSync(join(data, 'journal', name));
          },
          isCertain: true,
        },
        {
          what: 'the journal damaged in the middle',
          from: killed,
          damage: (data) => {
            const last = join(data, 'journal', segments(join(data, 'journal')).at(-1) ?? '');
            // The rest of a segment is zeros: the middle of what was written.
            const written = readFileSync(last).toString('latin1').replace(/\0+$/, '').length;
            overwrite(last, Math.floor(written / 2), 64);
          },
          isCertain: true,
        },
        {
          what: 'the write-ahead log cut',
          from: killed,
          damage: (data) => truncateSync(join(data, wal), Math.floor(sizeOf(join(data, wal)) / 2)),
          isCertain: false,
        },
        { what: 'the write-ahead log deleted', from: killed, damage: (data) => rmSync(join(data, wal)), isCertain: false },
      ];
      let refusals = 0;
      for (const { what, from, damage, isCertain } of damages) {
        const data = join(rig.directory, 'damaged');
        cpSync(from, data, { recursive: true });
        damage(data);
        const before = filesBelow(data);
        const outcome = await tryCoordinator(data);
        if (outcome.ended) {
          refusals++;
          expect(outcome.ended.code, `${what}: ${outcome.ended.stderr}`).toBe(2);
          expect(outcome.ended.stderr, what).toContain('holdfast recover --from-nodes');
          // Refusing removes nothing that could still be looked at.
          expect(filesBelow(data), what).toEqual(expect.arrayContaining(before));
        } else {
          const found = await outcome.names();
          expect([what, isCertain, found]).toEqual([what, false, [...(from === clean ? namesAtStop : names)].sort()]);
        }
        rmSync(data, { recursive: true });
      }
      expect(refusals).toBeGreaterThanOrEqual(damages.filter((one) => one.isCertain).length);
      // The original is as good as before.
      await rig.restart('coordinator');
      expect(await namesIn(await rig.client())).toEqual([...names].sort());
    });
  });
});

const sizeOf = (file: string): number => statSync(file, { throwIfNoEntry: false })?.size ?? 0;
/** Files without what SQLite and the journal make and remove by themselves at every start. */
const filesBelow = (data: string): string[] =>
  readdirSync(data, { recursive: true, encoding: 'utf8' })
    .filter((name) => !/-(wal|shm)$|spare|^url$/.test(name))
    .sort();

/** Runs a coordinator on a data directory until it ends by itself or answers; then it is asked for all names and killed. */
async function tryCoordinator(data: string): Promise<{ ended?: Ended; names: () => Promise<string[]> }> {
  const urlFile = join(data, 'url');
  rmSync(urlFile, { force: true });
  const child = spawn(process.execPath, [programFile, 'coordinator', '--data', data, '--listen', '127.0.0.1:0', '--metadata-copies', '0'], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  const over = endOf(child);
  let stderr = '';
  child.stderr.on('data', (bytes: Buffer) => {
    stderr += bytes.toString();
  });
  try {
    expect(await waitUntil(() => child.exitCode !== null || existsSync(urlFile), PATIENCE_MS)).toBe(true);
    if (child.exitCode !== null) {
      await over;
      return { ended: { code: child.exitCode, stdout: '', stderr }, names: () => Promise.resolve([]) };
    }
    const client = await connect({
      coordinatorUrl: readFileSync(urlFile, 'utf8').trim(),
      token: readFileSync(join(data, 'admin-token'), 'utf8').trim(),
      description: 'damage test',
    });
    const names = await namesIn(client);
    await client.close();
    return { names: () => Promise.resolve(names) };
  } finally {
    child.kill('SIGKILL');
    await over;
  }
}
const endOf = (child: ChildProcess): Promise<void> =>
  new Promise((resolve) => {
    child.once('close', () => resolve());
  });

describe('C7 two coordinators', () => {
  it('cannot share a data directory, and an old copy of it is not obeyed by the nodes', { timeout: TIMEOUT_MS }, async () => {
    await withRig({ coordinatorArgs: PATIENT_WITH_NODES }, async (rig) => {
      const { cluster } = rig;
      const client = await rig.client();
      const manifest = await fill(client, 'f', 6);
      await rig.close(client);
      const second = await holdfast(['coordinator', '--data', cluster.coordinatorData, '--listen', '127.0.0.1:0']);
      expect([second.code, second.stderr]).toEqual([2, expect.stringContaining('another coordinator is running')]);

      // A copy of the machine as it was, e.g. from a snapshot of its disk.
      await cluster.coordinator.stop(PATIENCE_MS);
      const old = join(rig.directory, 'old');
      const current = join(rig.directory, 'current');
      cpSync(cluster.coordinatorData, old, { recursive: true });
      await rig.restart('coordinator');
      await cluster.waitHealthy(PATIENCE_MS);
      const later = await rig.client();
      for (const [name, digest] of await fill(later, 'later', 4)) manifest.set(name, digest);
      await rig.close(later);
      const { epoch } = await cluster.status();
      const filesBefore = new Map(cluster.nodeNames.map((name) => [name, rig.chunkFiles(name).sort()]));

      // It comes back at the same address: first with the epoch of the present one, as another process; had it been copied earlier, with a lower one.
      for (const how of ['same epoch', 'lower epoch']) {
        await cluster.coordinator.stop(PATIENCE_MS);
        if (how === 'lower epoch') {
          await rig.restart('coordinator');
          await cluster.waitHealthy(PATIENCE_MS);
          await cluster.coordinator.stop(PATIENCE_MS);
        }
        execFileSync('mv', [cluster.coordinatorData, current]);
        cpSync(old, cluster.coordinatorData, { recursive: true });
        const refusalsBefore = cluster.nodeNames.map((name) => refusals(rig, name));
        await rig.restart('coordinator');
        expect((await cluster.status()).epoch).toBe(epoch);
        const areAllRefusing = (): boolean => cluster.nodeNames.every((name, i) => refusals(rig, name) > (refusalsBefore[i] ?? 0));
        expect(await waitUntil(areAllRefusing, PATIENCE_MS), how).toBe(true);
        // Each try looks like a node that is up, until it has refused; one that obeyed would stay up.
        await cluster.waitFor(({ nodes }) => nodes.every(({ state }) => state !== 'up'), PATIENCE_MS, `no node that obeys (${how})`);
        await cluster.coordinator.stop(PATIENCE_MS);
        rmSync(cluster.coordinatorData, { recursive: true });
        execFileSync('mv', [current, cluster.coordinatorData]);
        await rig.restart('coordinator');
        await cluster.waitHealthy(PATIENCE_MS);
        for (const [name, files] of filesBefore) expect(rig.chunkFiles(name).sort(), how).toEqual(expect.arrayContaining(files));
      }
      await expectExactly(await rig.client(), manifest);
      await rig.waitForOrder();
    });
  });
});
/** How often a node has refused an outdated coordinator. */
const refusals = (rig: ProcessRig, name: string): number =>
  readFileSync(rig.cluster.node(name).logFile, 'utf8').split('STALE_EPOCH').length - 1;

describe('C8 D6 a coordinator restored from a backup', () => {
  it('has the tree of that day; what is newer is set aside on the nodes, not deleted', { timeout: TIMEOUT_MS }, async () => {
    await withRig({ coordinatorArgs: [...PATIENT_WITH_NODES, '--unknown-grace', '2000', '--deletion-grace', '0'] }, async (rig) => {
      const { cluster } = rig;
      const state = ['--state', cluster.stateDirectory];
      const client = await rig.client();
      const manifest = await fill(client, 'f', 15, LARGE_BYTES);
      // The backup is of a tree that was worked on.
      for (const name of ['f1', 'f4', 'f5']) {
        await unlink(client, name);
        manifest.delete(name);
      }
      const file = join(rig.directory, 'backup');
      expect(await holdfast(['backup', file, ...state])).toMatchObject({ code: 0 });
      await fill(client, 'newer', 6, LARGE_BYTES);
      await unlink(client, 'newer2');
      await rig.close(client);
      await rig.waitForOrder();
      await rig.cluster.waitFor(({ deletion }) => deletion.waiting === 0, PATIENCE_MS, 'nothing left to delete');
      // A node that joined after the backup was taken: the restored metadata has never heard of it.
      const late = await cluster.addNode();
      await rig.restart(late);
      await stopAll(rig);
      const stored = new Map(cluster.nodeNames.map((name) => [name, storedChunks(rig, name)]));

      expect((await holdfast(['restore', file, ...state])).code).toBe(7);
      execFileSync('mv', [cluster.coordinatorData, join(rig.directory, 'lost')]);
      const restored = await holdfast(['restore', file, ...state, '--json']);
      expect([restored.code, restored.stderr]).toEqual([0, '']);
      await rig.restart('coordinator');
      await startNodes(rig);
      await cluster.waitHealthy(PATIENCE_MS);
      const reader = await rig.client();
      await expectExactly(reader, manifest);

      const asideNow = (): number => cluster.nodeNames.reduce((sum, name) => sum + setAside(rig, name).length, 0);
      expect(await waitUntil(() => asideNow() > 0, PATIENCE_MS)).toBe(true);
      // Quiet again: every chunk of before is served or set aside, none is gone.
      const isAllSetAside = async (): Promise<boolean> => (await cluster.admin('check', {}, 60_000)).unknown === 0;
      expect(await waitUntil(isAllSetAside, PATIENCE_MS, 300)).toBe(true);
      for (const [name, chunks] of stored) {
        const present = new Set([...storedChunks(rig, name), ...setAside(rig, name)]);
        expect(
          chunks.filter((chunk) => !present.has(chunk)),
          name,
        ).toEqual([]);
      }
      await expectExactly(reader, manifest);
      const report = await rig.waitForOrder();
      expect([report.dangling, report.missing, report.wrongReferenceCounts]).toEqual([0, 0, 0]);
      // Once more from the same backup: the nodes obey the newest restoration.
      await stopAll(rig);
      execFileSync('mv', [cluster.coordinatorData, join(rig.directory, 'first')]);
      expect((await holdfast(['restore', file, ...state])).code).toBe(0);
      await rig.restart('coordinator');
      await startNodes(rig);
      await cluster.waitHealthy(PATIENCE_MS);
      await expectExactly(await rig.client(), manifest);
    });
  });
});
const storedChunks = (rig: ProcessRig, name: string): string[] => rig.chunkFiles(name).map((file) => file.slice(file.lastIndexOf('/') + 1));
const setAside = (rig: ProcessRig, name: string): string[] => readdirSync(join(rig.cluster.nodeData(name), 'set-aside', 'unknown'));

describe('C3 the disk of the coordinator full', () => {
  it.skipIf(!isRoot)('changes get ENOSPC, reads go on, and it ends by itself', { timeout: TIMEOUT_MS }, async () => {
    let rigNow: ProcessRig | undefined;
    const prepare = (cluster: ProcessRig['cluster']): void => {
      mkdirSync(cluster.coordinatorData, { recursive: true });
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=40m,mode=0700', 'tmpfs', cluster.coordinatorData]);
    };
    let data = '';
    try {
      const options: RigOptions = {
        nodes: 2,
        coordinatorArgs: ['--metadata-copies', '0'],
        prepare: (cluster) => {
          data = cluster.coordinatorData;
          prepare(cluster);
        },
      };
      const rig = await ProcessRig.start(options);
      rigNow = rig;
      const { cluster } = rig;
      const client = await rig.client();
      const manifest = await fill(client, 'f', 6);
      const ballast = join(data, 'lost+found');
      const fillUp = (): void => {
        mkdirSync(ballast, { recursive: true });
        // In ever smaller pieces, until not a page is left.
        for (let piece = 4 * 1024 * 1024, n = 0; piece >= 4096; ) {
          try {
            writeFileSync(join(ballast, `b${n++}`), Buffer.alloc(piece));
          } catch {
            rmSync(join(ballast, `b${n - 1}`), { force: true });
            piece = Math.floor(piece / 2);
          }
        }
      };
      fillUp();
      expect(statfsSync(data).bavail * statfsSync(data).bsize).toBeLessThan(64 * 1024);
      let n = 0;
      const change = (): Promise<string> =>
        codeOf(client.tree.create({ parent: client.tree.root, name: `x${n++}`, kind: 'file', mode: 0o600, as: AS_ROOT, exclusive: true }));
      const made: string[] = [];
      const isRefused = async (): Promise<boolean> => {
        // What the system rounds up for itself (SQLite's own files) may free a page now and then.
        fillUp();
        const code = await change();
        if (code === 'none') made.push(`x${n - 1}`);
        else expect(code).toBe('ENOSPC');
        return code === 'ENOSPC';
      };
      expect(await waitUntil(isRefused, PATIENCE_MS, 100)).toBe(true);
      for (const name of made) manifest.set(name, sha256(Buffer.alloc(0)));
      await expectExactly(client, manifest);
      const reader = await rig.client();
      await expectExactly(reader, manifest);
      // Deleting works without a byte of room.
      await unlink(client, 'f1');
      manifest.delete('f1');
      const { health, causes } = await cluster.status();
      expect([health, JSON.stringify(causes)]).toEqual([expect.any(String), expect.stringMatching(/disk|space|room/i)]);

      const { pid } = cluster.coordinator;
      rmSync(ballast, { recursive: true });
      expect(
        await waitUntil(async () => (await codeOf(writeFile(client, 'resumed', Buffer.from('again'), true))) === 'none', PATIENCE_MS, 200),
      ).toBe(true);
      expect(cluster.coordinator.pid).toBe(pid);
      manifest.set('resumed', sha256(Buffer.from('again')));
      await expectExactly(client, manifest);

      // A start without room says so, and works once there is some.
      await cluster.coordinator.stop(PATIENCE_MS);
      fillUp();
      const full = await holdfast(['coordinator', '--data', data, '--listen', '127.0.0.1:0']);
      expect([full.code, full.stderr]).toEqual([1, expect.stringMatching(/free some space/)]);
      expect(full.stderr).not.toContain('    at ');
      rmSync(ballast, { recursive: true });
      await rig.restart('coordinator');
      await cluster.waitHealthy(PATIENCE_MS);
      await expectExactly(client, manifest);
    } finally {
      for (const process of rigNow?.processes() ?? []) await process.kill().catch(() => {});
      if (data !== '') execFileSync('umount', ['-l', data], { stdio: 'ignore' });
      await rigNow?.stop();
    }
  });
});

describe('C2 a reply lost after the change was committed', () => {
  it('the same request, asked again, is answered with success, not with EEXIST or ENOENT', { timeout: TIMEOUT_MS }, async () => {
    await withRig({ nodes: 2 }, async (rig) => {
      const proxy = await TcpProxy.start(rig.cluster.url);
      rig.atEnd(() => void proxy.stop());
      const witness = await rig.client();
      const client = await connect({
        coordinatorUrl: proxy.url,
        token: readFileSync(rig.cluster.adminTokenFile, 'utf8').trim(),
        description: 'behind the proxy',
        outageTimeoutMs: PATIENCE_MS,
      });
      const { tree } = client;
      const { root } = tree;
      const exists = async (name: string): Promise<boolean> => (await namesIn(witness)).includes(name);
      /** Does it, loses the reply once the witness sees that it was done, and returns what the caller gets in the end. */
      const losing = async <T>(action: () => Promise<T>, isDone: () => Promise<boolean>): Promise<T> => {
        const before = proxy.swallowedBytes;
        proxy.isSwallowing = true;
        const result = action();
        result.catch(() => {});
        expect(await waitUntil(isDone, PATIENCE_MS)).toBe(true);
        expect(await waitUntil(() => proxy.swallowedBytes > before, PATIENCE_MS)).toBe(true);
        proxy.isSwallowing = false;
        proxy.cut();
        return result;
      };
      try {
        const make = (name: string, kind: 'file' | 'directory') => () =>
          tree.create({ parent: root, name, kind, mode: 0o700, as: AS_ROOT, exclusive: true });
        const made = await losing(make('a', 'file'), () => exists('a'));
        expect([made.isNew, (await witness.tree.resolve('/a')).inode]).toEqual([true, made.attributes.inode]);
        await losing(make('d', 'directory'), () => exists('d'));
        await losing(
          () => tree.rename({ parent: root, name: 'a' }, { parent: root, name: 'b' }, 'noreplace', AS_ROOT),
          () => exists('b'),
        );
        await losing(
          () => tree.link(made.attributes.inode, root, 'c'),
          () => exists('c'),
        );
        await losing(
          () => tree.unlink(root, 'b', AS_ROOT),
          async () => !(await exists('b')),
        );
        await losing(
          () => tree.removeDirectory(root, 'd', AS_ROOT),
          async () => !(await exists('d')),
        );
        const handle = await client.open(made.attributes.inode);
        await handle.write(0, Buffer.from('once'), { append: true });
        await losing(
          () => handle.sync(),
          async () => (await witness.tree.resolve('/c')).sizeBytes > 0,
        );
        await handle.release();
        expect((await readFile(witness, 'c')).toString()).toBe('once');
        expect(await namesIn(witness)).toEqual(['c']);
        expect((await witness.tree.resolve('/c')).nlink).toBe(1);
      } finally {
        await client.close();
      }
    });
  });
});

describe('C5 a coordinator that starts while nodes are missing', () => {
  it('deletes and copies nothing until they have reported', { timeout: TIMEOUT_MS }, async () => {
    await withRig({ coordinatorArgs: [...PATIENT_WITH_NODES, '--deletion-grace', '0'] }, async (rig) => {
      const { cluster } = rig;
      const client = await rig.client();
      const manifest = await fill(client, 'f', 10, LARGE_BYTES);
      await rig.waitForOrder();
      // Something to delete is left for after the start: the nodes are gone before it can happen.
      for (const name of cluster.nodeNames) await cluster.node(name).kill();
      for (const name of ['f0', 'f6']) {
        await unlink(client, name);
        manifest.delete(name);
      }
      await rig.close(client);
      await cluster.coordinator.kill();
      const before = new Map(cluster.nodeNames.map((name) => [name, storedChunks(rig, name).sort()]));

      await rig.restart('coordinator');
      await rig.restart('n1');
      const waiting = await cluster.waitFor(
        ({ safeMode }) => safeMode.isActive && [...safeMode.waitingFor].sort().join() === 'n2,n3',
        PATIENCE_MS,
        'safe mode that waits for n2 and n3',
      );
      expect([waiting.jobs.running, waiting.causes.map((cause) => cause.text)]).toEqual([
        0,
        expect.arrayContaining([expect.stringContaining('nothing is deleted or copied until then')]),
      ]);
      await rig.restart('n2');
      await cluster.waitFor(({ safeMode }) => safeMode.waitingFor.join() === 'n3', PATIENCE_MS, 'safe mode that waits for n3');
      const reader = await rig.client();
      await expectExactly(reader, manifest);
      for (const [name, chunks] of before) expect(storedChunks(rig, name).sort(), name).toEqual(chunks);
      expect((await cluster.status()).safeMode.isActive).toBe(true);

      await rig.restart('n3');
      await cluster.waitHealthy(PATIENCE_MS);
      await rig.waitForOrder();
      await cluster.waitFor(({ deletion }) => deletion.waiting === 0, PATIENCE_MS, 'the deleted files gone from the nodes');
      // Nothing was copied: all that happened is that the deleted chunks went.
      for (const [name, chunks] of before) expect(chunks).toEqual(expect.arrayContaining(storedChunks(rig, name)));
      await expectExactly(reader, manifest);
    });
  });
});

describe('P1 a sync of the journal that fails', () => {
  it.skipIf(!hasProgram('strace'))(
    'ends the coordinator with 1, and its restart has all that was promised',
    { timeout: TIMEOUT_MS },
    async () => {
      await withRig({ nodes: 2 }, async (rig) => {
        const { cluster } = rig;
        const client = await rig.client();
        const manifest = await fill(client, 'f', 5);
        const journal = join(cluster.coordinatorData, 'journal');
        const segments = readdirSync(journal).filter((name) => name.endsWith('.log'));
        const tracer = spawn(
          'strace',
          [
            ...['-f', '-p', String(cluster.coordinator.pid), '-e', 'trace=fdatasync', '-e', 'inject=fdatasync:error=EIO'],
            ...segments.flatMap((name) => ['-P', join(journal, name)]),
          ],
          { stdio: ['ignore', 'ignore', 'pipe'] },
        );
        const over = endOf(tracer);
        let trace = '';
        tracer.stderr.on('data', (bytes: Buffer) => {
          trace += bytes.toString();
        });
        try {
          expect(await waitUntil(() => trace.includes('attached') || tracer.exitCode !== null, PATIENCE_MS)).toBe(true);
          expect(tracer.exitCode, trace).toBe(null);
          const content = random(300_000);
          const writing = writeFile(client, 'during', content, true);
          writing.catch(() => {});
          expect(await cluster.coordinator.waitForEnd(PATIENCE_MS)).toBe(true);
          await over;
          expect(trace).toContain('(INJECTED)');
          expect(cluster.coordinator.exitCode).toBe(1);
          expect(readFileSync(cluster.coordinator.logFile, 'utf8')).toContain('the next start recovers');
          await rig.restart('coordinator');
          // The sync that was under way waits for the coordinator and is answered once it is true.
          await writing;
          manifest.set('during', sha256(content));
          await cluster.waitHealthy(PATIENCE_MS);
          await expectExactly(client, manifest);
          await rig.waitForOrder();
        } finally {
          tracer.kill('SIGKILL');
          await over;
        }
      });
    },
  );
});
