/** N1-N12, D3: what can happen to nodes, with real processes; every node has a proxy before its chunk port and one before the coordinator. */
import { type ChildProcess, spawn } from 'node:child_process';
import { cpSync, existsSync, readFileSync, renameSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { Cluster } from '../client/index.js';
import type { NodeStatus } from '../protocol/admin-calls.js';
import { codeOf, hasProgram, PATIENCE_MS, ProcessRig, random, readFile, sha256, unlink, waitUntil, writeFile } from './process-rig.js';
import { ProxiedNodes } from './proxied-nodes.js';
import { TcpProxy } from './tcp-proxy.js';

const NODES = ['n1', 'n2', 'n3', 'n4'];
/** One chunk, and large enough to be a file of its own on the node at once. */
const CHUNK_BYTES = 300_000;
/** What a caller may wait for one read or write while nodes fail; the machine of the tests is loaded. */
const WORST_MS = 10_000;
const TIMEOUT_MS = 180_000;
const DOWN_AFTER_MS = 2500;

let rig: ProcessRig;
let client: Cluster;
const network = new ProxiedNodes(NODES);
const manifest = new Map<string, string>();
let nextFile = 1;

beforeAll(async () => {
  rig = await ProcessRig.start({
    nodes: 0,
    coordinatorArgs: ['--down-after', String(DOWN_AFTER_MS), '--deletion-grace', '500', '--unknown-grace', '3000'],
    prepare: (cluster) => network.addTo(cluster),
  });
  client = await rig.client();
}, PATIENCE_MS);

afterEach(() => network.heal());
afterAll(async () => {
  await rig?.stop();
  await network.stop();
}, PATIENCE_MS);

/** Everything is well before a test begins, also when the one before failed in the middle. */
async function allWell(): Promise<void> {
  for (const name of NODES) {
    await rig.cluster.node(name).resume();
    if (rig.cluster.node(name).pid === undefined) await rig.restart(name);
  }
  await rig.cluster.waitHealthy(PATIENCE_MS);
}
async function write(count: number, sizeBytes = CHUNK_BYTES, isDurable = true): Promise<string[]> {
  const names = Array.from({ length: count }, () => `f${nextFile++}`);
  for (const name of names) {
    const content = random(sizeBytes);
    await writeFile(client, name, content, isDurable);
    manifest.set(name, sha256(content));
  }
  return names;
}
/** Reads with a new client, so that nothing comes from a cache. @returns the longest time one file took */
async function expectWhole(names: Iterable<string>): Promise<number> {
  const reader = await rig.client();
  let worstMs = 0;
  for (const name of names) {
    const startMs = performance.now();
    expect(sha256(await readFile(reader, name)), name).toBe(manifest.get(name));
    worstMs = Math.max(worstMs, performance.now() - startMs);
  }
  await rig.close(reader);
  return worstMs;
}
async function holdersOf(name: string): Promise<string[]> {
  const stat = await rig.cluster.admin('stat', { path: `/${name}` });
  return (stat.chunks[0]?.replicas ?? []).filter((replica) => replica.state !== 'missing').map((replica) => replica.name);
}
async function chunkOf(name: string): Promise<string> {
  return (await rig.cluster.admin('stat', { path: `/${name}` })).chunks[0]?.id as string;
}
const chunkFile = (node: string, chunk: string): string => join(rig.cluster.nodeData(node), 'chunks', chunk.slice(0, 2), chunk);
/** Files with a copy on this node. */
async function filesOn(node: string, names: readonly string[]): Promise<string[]> {
  const found: string[] = [];
  for (const name of names) if ((await holdersOf(name)).includes(node)) found.push(name);
  return found;
}
const waitForState = (name: string, isWanted: (node: NodeStatus) => boolean, what: string): Promise<unknown> =>
  rig.cluster.waitFor(({ nodes }) => nodes.some((node) => node.name === name && isWanted(node)), PATIENCE_MS, `${name} ${what}`);
const badReplicas = async (chunks: readonly string[], node: string): Promise<string[]> => {
  const found = (await rig.events())
    .filter(({ kind, node: where }) => ['replica.bad', 'chunk.lost'].includes(kind) && where === node)
    .map((event) => event.chunk);
  return chunks.filter((chunk) => found.includes(chunk as never));
};

/** Lets system calls of a running node fail. Ends with the returned function; the trace tells whether it happened at all. */
async function inject(node: string, args: readonly string[]): Promise<{ trace: () => string; end: () => Promise<void> }> {
  const tracer: ChildProcess = spawn('strace', ['-f', '-p', String(rig.cluster.node(node).pid), ...args], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let trace = '';
  tracer.stderr?.on('data', (bytes: Buffer) => {
    trace += bytes.toString();
  });
  const over = new Promise<void>((resolve) => {
    tracer.once('exit', () => resolve());
    tracer.once('error', () => resolve());
  });
  await waitUntil(() => trace.includes('attached') || tracer.exitCode !== null, PATIENCE_MS);
  expect(trace).toContain('attached');
  return {
    trace: () => trace,
    end: () => {
      tracer.kill('SIGTERM'); // it lets the node go on
      return over;
    },
  };
}

describe('a cluster of which', () => {
  it('N1 a node dies begins to copy what it had as soon as it counts as down', { timeout: TIMEOUT_MS }, async () => {
    await allWell();
    const names = await write(8, CHUNK_BYTES, false);
    await rig.waitForOrder();
    const victim = (await holdersOf(names[0] as string))[0] as string;
    const before = (await rig.events()).at(-1)?.sequence;
    await rig.cluster.node(victim).kill();
    // By the coordinator's own clock, so that a pause of this process does not count.
    const timeOf = async (kind: string): Promise<number | undefined> =>
      (await rig.events(before)).find((event) => event.kind === kind && (event.node ?? victim) === victim)?.atMs;
    expect(await waitUntil(async () => (await timeOf('repair.finished')) !== undefined, PATIENCE_MS, 200)).toBe(true);
    const [lostAtMs = 0, downAtMs = 0, startedAtMs = 0, finishedAtMs = 0] = await Promise.all(
      ['node.suspect', 'node.down', 'repair.started', 'repair.finished'].map(timeOf),
    );
    expect(startedAtMs).toBeGreaterThanOrEqual(downAtMs);
    // Not even half a second after it counts as down, all copies included, on a machine that has little else to do.
    expect(finishedAtMs - lostAtMs).toBeLessThan(DOWN_AFTER_MS + 6000);
    await rig.cluster.waitFor((status) => status.chunks.belowCopies === 0, PATIENCE_MS, 'all copies');
    await expectWhole(names);
    await rig.restart(victim);
  });

  it('N2 all holders of a chunk are down gives EIO for that file only, and its bytes again when one returns', {
    timeout: TIMEOUT_MS,
  }, async () => {
    await allWell();
    const names = await write(12);
    await rig.waitForNoSurplus();
    const lost = names[0] as string;
    const holders = await holdersOf(lost);
    expect(holders.length).toBe(2);
    const others: string[] = [];
    for (const name of names) if ((await holdersOf(name)).some((holder) => !holders.includes(holder))) others.push(name);
    expect(others.length).toBeGreaterThan(0);
    // At once: between one and the other a copy could be made elsewhere.
    await Promise.all(holders.map((holder) => rig.cluster.node(holder).kill()));
    const reader = await rig.client();
    const startMs = performance.now();
    expect(await codeOf(readFile(reader, lost))).toBe('CHUNK_UNREADABLE');
    expect(performance.now() - startMs).toBeLessThan(WORST_MS + 5000);
    await expectWhole(others);
    await rig.restart(holders[0] as string);
    expect(await waitUntil(async () => (await codeOf(readFile(reader, lost))) === 'none', PATIENCE_MS)).toBe(true);
    await rig.restart(holders[1] as string);
    await expectWhole(names);
    await rig.waitForOrder();
  });

  it('N3 a node hangs reads and writes through the others, and counts nothing it says too late', { timeout: TIMEOUT_MS }, async () => {
    await allWell();
    const names = await write(10);
    const frozen = (await holdersOf(names[0] as string))[0] as string;
    await rig.cluster.node(frozen).pause();
    expect(await expectWhole(names)).toBeLessThan(WORST_MS);
    const startMs = performance.now();
    const during = await write(4);
    expect(performance.now() - startMs).toBeLessThan(4 * WORST_MS);
    await waitForState(frozen, ({ state }) => state !== 'up', 'is noticed');
    for (const name of during) expect((await holdersOf(name)).filter((holder) => holder !== frozen).length, name).toBeGreaterThanOrEqual(2);
    await rig.cluster.node(frozen).resume();
    await waitForState(frozen, ({ state }) => state === 'up', 'is up again');
    await rig.waitForOrder();
    await expectWhole([...names, ...during]);
  });

  it('N4 a node is slow but not dead says so, and does not make everybody as slow', { timeout: TIMEOUT_MS }, async () => {
    await allWell();
    const [name = ''] = await write(1, 24 * 1024 * 1024);
    // 24 chunks of 16 pieces and more: half of them from this node alone would take more than a minute.
    const slow = (await holdersOf(name))[0] as string;
    const usualMs = await expectWhole([name]);
    network.port(slow).delayMs = 400;
    expect(await expectWhole([name])).toBeLessThan(20_000 + usualMs);
    const mayTell = async (): Promise<boolean> => {
      await expectWhole([name]);
      return (await rig.cluster.status()).causes.some(({ code, text }) => code === 'NODE_SLOW' && text.includes(slow));
    };
    expect(await waitUntil(mayTell, PATIENCE_MS)).toBe(true);
    // New chunks go elsewhere meanwhile.
    const [during = ''] = await write(1);
    expect(await holdersOf(during)).not.toContain(slow);
  });

  it('N5 a node is cut off from the coordinator alone keeps what it has and comes back with all of it', {
    timeout: TIMEOUT_MS,
  }, async () => {
    await allWell();
    const names = await write(12);
    await rig.waitForNoSurplus();
    const cut = (await holdersOf(names[0] as string))[0] as string;
    const doomed = (await filesOn(cut, names))[0] as string;
    const held = rig.chunkFiles(cut).sort();
    Object.assign(network.link(cut), { isSwallowing: true, isDeaf: true });
    await waitForState(cut, ({ state }) => state === 'down', 'is down');
    await expectWhole(names);
    await unlink(client, doomed);
    manifest.delete(doomed);
    const during = await write(3);
    for (const name of during) expect(await holdersOf(name)).not.toContain(cut);
    // Everything it had is copied elsewhere, and nothing is deleted on it while nobody can tell it.
    await rig.cluster.waitFor(({ chunks }) => chunks.belowCopies === 0, PATIENCE_MS, 'full copies without it');
    expect(rig.chunkFiles(cut).sort()).toEqual(held);
    Object.assign(network.link(cut), { isSwallowing: false, isDeaf: false });
    await waitForState(cut, ({ state }) => state === 'up', 'is up again');
    await rig.waitForOrder();
    await expectWhole(manifest.keys());
  });

  it('N6 a node hears but is not heard, or the other way round, keeps nobody waiting without end', { timeout: TIMEOUT_MS }, async () => {
    await allWell();
    const names = await write(8);
    const mute = (await holdersOf(names[0] as string))[0] as string;
    // Its answers about chunks get lost.
    const { swallowedBytes } = network.port(mute);
    network.port(mute).isSwallowing = true;
    expect(await expectWhole(names)).toBeLessThan(WORST_MS);
    const during = await write(3);
    // By chance neither a read nor a write may have asked it yet.
    const isAsked = async (): Promise<boolean> => {
      if (network.port(mute).swallowedBytes > swallowedBytes) return true;
      during.push(...(await write(1)));
      return false;
    };
    expect(await waitUntil(isAsked, PATIENCE_MS)).toBe(true);
    for (const name of during) expect((await holdersOf(name)).length, name).toBeGreaterThanOrEqual(2);
    network.port(mute).isSwallowing = false;
    network.port(mute).cut();
    // The coordinator's answers to it get lost: both sides give the connection up.
    const deaf = network.link(mute);
    deaf.isSwallowing = true;
    await waitForState(mute, ({ state }) => state !== 'up', 'is noticed');
    await write(2);
    deaf.isSwallowing = false;
    await waitForState(mute, ({ state }) => state === 'up', 'is up again');
    await rig.waitForOrder();
    await expectWhole(manifest.keys());
  });

  it.skipIf(!hasProgram('strace'))(
    'N9 a disk cannot read a chunk serves the other copy and makes a new one',
    { timeout: TIMEOUT_MS },
    async () => {
      await allWell();
      const [name = ''] = await write(1);
      const chunk = await chunkOf(name);
      const bad = (await holdersOf(name))[0] as string;
      const path = chunkFile(bad, chunk);
      expect(existsSync(path)).toBe(true);
      const fault = await inject(bad, ['-P', path, '-e', 'trace=pread64,preadv,read', '-e', 'inject=pread64,preadv,read:error=EIO']);
      try {
        await expectWhole([name, name]);
        await rig.cluster.admin('verifyChunk', { chunk: chunk as never }, PATIENCE_MS);
        expect(await waitUntil(async () => (await badReplicas([chunk], bad)).length === 1, PATIENCE_MS)).toBe(true);
        expect(fault.trace()).toContain('(INJECTED)');
        await expectWhole([name]);
      } finally {
        await fault.end();
      }
      await rig.waitForOrder();
      expect((await holdersOf(name)).length).toBeGreaterThanOrEqual(2);
      await expectWhole([name]);
    },
  );

  it.skipIf(!hasProgram('strace'))(
    'N10 a disk cannot sync gives no receipt for what it failed to sync, ever',
    { timeout: TIMEOUT_MS },
    async () => {
      await allWell();
      const bad = 'n1';
      const fault = await inject(bad, ['-e', 'trace=fsync,fdatasync', '-e', 'inject=fsync,fdatasync:error=EIO']);
      let names: string[] = [];
      try {
        names = await write(8);
        const errorsTold = async (): Promise<number> => (await rig.cluster.status()).nodes.find((node) => node.name === bad)?.errors ?? 0;
        // By chance none of them may have been meant for this node; and it tells its errors with its next heartbeat.
        const isTold = async (): Promise<boolean> => {
          if ((await errorsTold()) > 0) return true;
          names.push(...(await write(2)));
          return false;
        };
        expect(await waitUntil(isTold, PATIENCE_MS, 250)).toBe(true);
        expect(fault.trace()).toContain('(INJECTED)');
        for (const name of names) expect(await holdersOf(name), name).not.toContain(bad);
        await expectWhole(names);
      } finally {
        await fault.end();
      }
      await rig.cluster.node(bad).kill();
      await rig.restart(bad);
      await rig.waitForOrder();
      await expectWhole(names);
    },
  );

  it('N11 a disk flips a bit, cuts, empties and swaps chunks never serves them: readers and the scrub find all of it', {
    timeout: TIMEOUT_MS,
  }, async () => {
    await allWell();
    const names = await write(20);
    await rig.waitForNoSurplus();
    // Two copies of each on four nodes: one of them has ten at least.
    const byNode = await Promise.all(NODES.map(async (node) => ({ node, files: await filesOn(node, names) })));
    const { node: bad, files: onBad } = byNode.sort((a, b) => b.files.length - a.files.length)[0]!;
    const rest = NODES.filter((node) => node !== bad);
    expect(onBad.length).toBeGreaterThanOrEqual(10);
    const damage = async (names: readonly string[]): Promise<string[]> => {
      const chunks: string[] = [];
      for (const name of names) chunks.push(await chunkOf(name));
      const [flipped, cut, emptied, one, other] = chunks.map((chunk) => chunkFile(bad, chunk)) as [string, string, string, string, string];
      const bytes = readFileSync(flipped);
      bytes[bytes.length >> 1]! ^= 1;
      writeFileSync(flipped, bytes);
      truncateSync(cut, statSync(cut).size >> 1);
      truncateSync(emptied, 0);
      renameSync(one, `${one}.x`);
      renameSync(other, one);
      renameSync(`${one}.x`, other);
      return chunks;
    };
    const toRead = onBad.slice(0, 5);
    const toScrub = onBad.slice(5, 10);
    const scrubbed = await damage(toScrub);
    await rig.cluster.admin('scrub', { node: bad, action: 'start' });
    expect(await waitUntil(async () => (await badReplicas(scrubbed, bad)).length === 5, PATIENCE_MS)).toBe(true);
    await rig.waitForOrder();

    // The others are gone, so that readers have nothing but this disk.
    for (const name of rest) await rig.cluster.node(name).kill();
    const read = await damage(toRead);
    const reader = await rig.client();
    const outcomes = await Promise.all(toRead.map((name) => codeOf(readFile(reader, name))));
    expect(outcomes).not.toContain('none');
    expect(await waitUntil(async () => (await badReplicas(read, bad)).length === 5, PATIENCE_MS)).toBe(true);
    await Promise.all(rest.map((name) => rig.restart(name)));
    await rig.waitForOrder();
    await expectWhole(onBad);
  });

  it("N12 a data directory was emptied, replaced by another cluster's or by an old copy takes no harm from it", {
    timeout: TIMEOUT_MS,
  }, async () => {
    await allWell();
    const { cluster } = rig;
    // So many that by chance n2 never has less than two of them.
    const names = await write(40);
    const node = cluster.node('n2');
    const data = cluster.nodeData('n2');
    const aside = join(rig.directory, 'aside');
    const old = join(rig.directory, 'old');
    await node.stop(PATIENCE_MS);
    rmSync(old, { recursive: true, force: true });
    cpSync(data, old, { recursive: true });

    renameSync(data, aside);
    try {
      const refused = async (): Promise<string> => (await codeOf(cluster.startNode('n2', PATIENCE_MS))) + (node.lastWords() ?? '');
      expect(await refused()).toContain('this data directory is empty');
      rmSync(data, { recursive: true, force: true });

      cpSync(aside, data, { recursive: true });
      const text = readFileSync(join(data, 'identity.json'), 'utf8');
      const { cluster: own } = JSON.parse(text) as { cluster: string };
      const foreign = own.replace(/./g, (digit) => (15 - Number.parseInt(digit, 16)).toString(16));
      writeFileSync(join(data, 'identity.json'), text.replaceAll(own, foreign));
      expect(await refused()).toContain(`belongs to cluster ${foreign}`);
    } finally {
      await node.kill();
      rmSync(data, { recursive: true, force: true });
      renameSync(aside, data);
    }
    await rig.restart('n2');
    await rig.waitForOrder();
    // Since the copy was taken files have come and gone.
    const gone = (await filesOn('n2', names)).slice(0, 2);
    expect(gone.length).toBe(2);
    const goneChunks = await Promise.all(gone.map(chunkOf));
    for (const name of gone) {
      await unlink(client, name);
      manifest.delete(name);
    }
    const later = await write(6);
    expect(await waitUntil(() => goneChunks.every((chunk) => !existsSync(chunkFile('n2', chunk))), PATIENCE_MS)).toBe(true);
    await node.stop(PATIENCE_MS);
    rmSync(data, { recursive: true });
    renameSync(old, data);
    await rig.restart('n2');
    await rig.waitForOrder();
    for (const name of gone) expect(await codeOf(client.tree.resolve(`/${name}`))).toBe('ENOENT');
    expect(await waitUntil(() => goneChunks.every((chunk) => !existsSync(chunkFile('n2', chunk))), PATIENCE_MS)).toBe(true);
    await expectWhole(later);
    await expectWhole(manifest.keys());
  });

  it('D3 a client dies between upload and commit gives the space back', { timeout: TIMEOUT_MS }, async () => {
    await allWell();
    const before = await rig.waitForOrder();
    const { cluster } = rig;
    const proxy = await TcpProxy.start(cluster.url);
    rig.atEnd(() => void proxy.stop());
    const script = fileURLToPath(new URL('dying-writer.ts', import.meta.url));
    const writer = spawn(process.execPath, ['--import', 'tsx', script, proxy.url, cluster.adminTokenFile], {
      cwd: fileURLToPath(new URL('..', import.meta.url)),
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    let said = '';
    writer.stdout.on('data', (data: Buffer) => {
      said += data.toString();
    });
    try {
      expect(await waitUntil(() => said.includes('ready'), PATIENCE_MS)).toBe(true);
      // What it sends to the nodes arrives, what it sends to the coordinator does not.
      proxy.isDeaf = true;
      writer.stdin.write('go\n');
      const unknown = async (): Promise<number> => (await cluster.admin('check', {}, PATIENCE_MS)).unknown;
      expect(await waitUntil(async () => (await unknown()) > 0, PATIENCE_MS)).toBe(true);
      writer.kill('SIGKILL');
      // A node's inventory finds what no commit names; one that registers anew shows it at once.
      await Promise.all(
        NODES.map(async (name) => {
          await cluster.node(name).kill();
          await rig.restart(name);
        }),
      );
      expect(await waitUntil(async () => (await unknown()) === 0, PATIENCE_MS)).toBe(true);
    } finally {
      writer.kill('SIGKILL');
    }
    expect(said).not.toContain('committed');
    expect((await rig.waitForOrder()).chunks).toBe(before.chunks);
    await expectWhole(manifest.keys());
  });
});
