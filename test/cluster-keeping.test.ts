/** What the coordinator does about nodes and replicas, with real sockets and disks: loss, return, drain, damage, rebalance, live views. */
import { randomBytes } from 'node:crypto';
import { readFile as readDisk, readdir, rm, writeFile as writeDisk } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import type { AdminConnection, Cluster } from '../client/index.js';
import type { Changes, ClusterEvent, KeyedRow, Snapshot } from '../protocol/admin-calls.js';
import { HoldfastError } from '../protocol/errors.js';
import { HttpChunkPeer } from '../protocol/http-chunk-peer.js';
import { type InProcessCluster, type InProcessOptions, startInProcessCluster, waitFor } from './in-process-cluster.js';

const me = { uid: 0, gid: 0 };
let cluster: InProcessCluster | undefined;
afterEach(async () => {
  await cluster?.stop();
  cluster = undefined;
});

async function start(options: InProcessOptions = {}): Promise<{ it: InProcessCluster; client: Cluster; admin: AdminConnection }> {
  cluster = await startInProcessCluster({
    ...options,
    coordinator: { deletionGraceMs: 0, downAfterMs: 1_500, stoppedGraceMs: 1_500, ...options.coordinator },
  });
  return { it: cluster, client: await cluster.connect(), admin: await cluster.admin() };
}

async function writeFile(client: Cluster, name: string, data: Buffer): Promise<number> {
  const { attributes } = await client.tree.create({ parent: client.tree.root, name, kind: 'file', mode: 0o644, as: me, exclusive: false });
  const file = await client.open(attributes.inode);
  for (let at = 0; at < data.length; at += 131_072) await file.write(at, data.subarray(at, at + 131_072));
  await file.flush();
  await file.release();
  return attributes.inode;
}
async function readFile(client: Cluster, name: string): Promise<Buffer> {
  const attributes = await client.tree.lookup(client.tree.root, name);
  if (!attributes) throw new Error(`${name} is not there`);
  const file = await client.open(attributes.inode);
  const pieces: Buffer[] = [];
  for (let at = 0; at < attributes.sizeBytes; at += 131_072) pieces.push(await file.read(at, 131_072));
  await file.release();
  return Buffer.concat(pieces);
}
async function healthy(admin: AdminConnection, what: string): Promise<void> {
  await waitFor(async () => (await admin.call('status', {})).chunks.belowCopies === 0, what, 60_000);
}
const eventKinds = async (admin: AdminConnection): Promise<string[]> =>
  (await admin.call('events', { after: 0, limit: 1000 })).events.map((event: ClusterEvent) => event.kind);

describe('a node that is lost', () => {
  it('has its chunks copied elsewhere, and gives up its surplus when it returns', async () => {
    const { it: rig, client, admin } = await start();
    const data = randomBytes(6_000_000);
    await writeFile(client, 'a', data);
    for (let i = 0; i < 50; i++) await writeFile(client, `small-${i}`, randomBytes(3_000));
    await healthy(admin, 'the copies of what was written');
    await rig.stopNode('n2');
    await waitFor(async () => (await admin.call('status', {})).health !== 'HEALTHY', 'the loss to show');
    await waitFor(async () => (await admin.call('status', {})).nodes.some((node) => node.state === 'down'), 'n2 to be judged down');
    await healthy(admin, 'the repair');
    const status = await admin.call('status', {});
    expect(status.health).toBe('DEGRADED');
    expect(status.sentence).toContain('n2 is down');
    expect((await admin.call('jobs', {})).jobs.filter((job) => job.kind === 'repair').map((job) => job.state)).toContain('done');
    expect(data.equals(await readFile(client, 'a'))).toBe(true);

    await rig.startNode('n2');
    await waitFor(async () => (await admin.call('status', {})).health === 'HEALTHY', 'the return');
    await waitFor(
      async () => (await admin.call('status', {})).chunks.histogram.byGoodReplicas.slice(3).every((count) => count === 0),
      'the surplus to go',
      60_000,
    );
    const report = await admin.call('check', {});
    expect(report).toMatchObject({ dangling: 0, missing: 0, missingReplicas: 0, unknown: 0, wrongReferenceCounts: 0, belowCopies: 0 });
    expect(data.equals(await readFile(client, 'a'))).toBe(true);
    expect(await eventKinds(admin)).toEqual(
      expect.arrayContaining(['node.joined', 'node.suspect', 'node.down', 'repair.started', 'repair.finished', 'node.up']),
    );
  }, 120_000);

  it('costs nothing when it is back before its time', async () => {
    const { it: rig, client, admin } = await start({ coordinator: { downAfterMs: 30_000, stoppedGraceMs: 30_000 } });
    await writeFile(client, 'a', randomBytes(2_000_000));
    await rig.stopNode('n1');
    await waitFor(async () => (await admin.call('status', {})).nodes.some((node) => node.state === 'suspect'), 'n1 to be missed');
    await rig.startNode('n1');
    await waitFor(async () => (await admin.call('status', {})).health === 'HEALTHY', 'the return');
    expect((await admin.call('jobs', {})).jobs).toEqual([]);
  }, 60_000);
});

describe('an administrator', () => {
  it('drains a node, is told when it is safe, removes it, and nothing is lost', async () => {
    const { it: rig, client, admin } = await start({ nodes: 4 });
    const data = randomBytes(5_000_000);
    await writeFile(client, 'a', data);
    await expect(admin.call('undrainNode', { node: 'n1' })).rejects.toMatchObject({ code: 'REFUSED' });
    await expect(admin.call('drainNode', { node: 'n9' })).rejects.toMatchObject({ code: 'ENOENT' });
    const { job } = await admin.call('drainNode', { node: 'n1' });
    expect(job).toMatch(/^J-/);
    const nodeStatus = async (name: string) => (await admin.call('status', {})).nodes.find((node) => node.name === name);
    expect((await nodeStatus('n1'))?.state).toBe('draining');
    await waitFor(async () => (await nodeStatus('n1'))?.safeToRemove === true, 'the drain', 60_000);
    await waitFor(async () => (await eventKinds(admin)).includes('drain.finished'), 'the drain to be told');
    await rig.stopNode('n1');
    await admin.call('removeNode', { node: 'n1' });
    expect(await nodeStatus('n1')).toBeUndefined();
    await healthy(admin, 'all copies without n1');
    expect(data.equals(await readFile(client, 'a'))).toBe(true);
    const check = await admin.call('check', {});
    expect(check).toMatchObject({ missing: 0, missingReplicas: 0, unknown: 0, nodesAsked: ['n2', 'n3', 'n4'] });
  }, 120_000);

  it('drains a node that still takes second copies while nobody else can', async () => {
    const { it: rig, client, admin } = await start();
    await admin.call('drainNode', { node: 'n3' });
    const nodeStatus = async (name: string) => (await admin.call('status', {})).nodes.find((node) => node.name === name);
    await rig.stopNode('n2');
    await waitFor(async () => (await nodeStatus('n2'))?.state === 'down', 'n2 to be judged down');
    const data = randomBytes(3_000_000);
    await writeFile(client, 'a', data);
    const { chunks } = await admin.call('stat', { path: '/a' });
    expect(chunks.every(({ replicas }) => replicas.length === 2)).toBe(true);
    expect((await nodeStatus('n3'))?.safeToRemove).toBe(false);

    await rig.startNode('n2');
    await waitFor(async () => (await nodeStatus('n3'))?.safeToRemove === true, 'the drain', 60_000);
    await rig.stopNode('n3');
    await admin.call('removeNode', { node: 'n3' });
    await healthy(admin, 'all copies without n3');
    expect(data.equals(await readFile(client, 'a'))).toBe(true);
  }, 120_000);

  it('cannot remove the last copy without repeating the name', async () => {
    const { it: rig, client, admin } = await start({ nodes: 2, coordinator: { downAfterMs: 60_000, stoppedGraceMs: 60_000 } });
    await writeFile(client, 'a', randomBytes(300_000));
    await rig.stopNode('n2');
    await waitFor(async () => (await admin.call('status', {})).health === 'AT RISK', 'the risk to show');
    await expect(admin.call('removeNode', { node: 'n1' })).rejects.toMatchObject({
      code: 'REFUSED',
      message: expect.stringContaining('only readable copy'),
    });
    await expect(admin.call('removeNode', { node: 'n1', evenIfDataIsLost: 'n2' })).rejects.toMatchObject({ code: 'REFUSED' });
    await admin.call('removeNode', { node: 'n1', evenIfDataIsLost: 'n1' });
    expect(await eventKinds(admin)).toContain('node.removed');
  }, 60_000);

  it('changes the number of copies, up and down', async () => {
    const { client, admin } = await start();
    await writeFile(client, 'a', randomBytes(3_000_000));
    await admin.call('setCopies', { volume: 'main', copies: 3 });
    await waitFor(async () => (await admin.call('status', {})).chunks.belowCopies === 0, 'third copies', 60_000);
    const { chunks } = await admin.call('status', {});
    expect(chunks.histogram.byGoodReplicas[3]).toBe(chunks.total);
    await admin.call('setCopies', { volume: 'main', copies: 2 });
    await waitFor(
      async () => (await admin.call('status', {})).chunks.histogram.byGoodReplicas[3] === undefined,
      'the third copies to go',
      60_000,
    );
    expect((await admin.call('check', {})).missingReplicas).toBe(0);
  }, 120_000);

  it('fills a new node by rebalancing', async () => {
    const { it: rig, client, admin } = await start({ nodes: 2, nodeCapacityBytes: 200_000_000 });
    const data = randomBytes(16_000_000);
    await writeFile(client, 'a', data);
    await rig.startNode('n3');
    await waitFor(async () => (await admin.call('status', {})).nodes.some((node) => node.name === 'n3' && node.state === 'up'), 'n3');
    await waitFor(async () => !(await admin.call('status', {})).safeMode.isActive, 'the inventories');
    const { job } = await admin.call('rebalance', { action: 'start' });
    await waitFor(
      async () => (await admin.call('jobs', {})).jobs.some((one) => one.job === job && one.state === 'done'),
      'the rebalance',
      60_000,
    );
    const { nodes } = await admin.call('status', {});
    const replicas = nodes.map((node) => node.replicas);
    expect(Math.max(...replicas) - Math.min(...replicas)).toBeLessThanOrEqual(8);
    expect(data.equals(await readFile(client, 'a'))).toBe(true);
    expect(await admin.call('check', {})).toMatchObject({ missingReplicas: 0, unknown: 0, belowCopies: 0 });
  }, 120_000);
});

describe('a damaged replica', () => {
  it('found by verifying a file is replaced from a good one', async () => {
    const { it: rig, client, admin } = await start();
    const data = randomBytes(700_000);
    await writeFile(client, 'a', data);
    const before = await admin.call('verify', { path: '/a' });
    expect(before.bad).toEqual([]);
    expect((await admin.call('stat', { path: '/a' })).chunks[0]?.replicas.every((replica) => replica.state === 'good')).toBe(true);

    // Flip a byte in the file of one replica on n1 or n2.
    const stat = await admin.call('stat', { path: '/a' });
    const victim = stat.chunks[0];
    const holder = victim?.replicas[0]?.name ?? '';
    const running = rig.nodes.get(holder);
    const path = await chunkFile(rig, holder, victim?.id ?? '');
    const bytes = await readDisk(path);
    bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) ^ 1;
    await writeDisk(path, bytes);
    expect(running).toBeDefined();

    const after = await admin.call('verify', { path: '/a' });
    expect(after.bad).toEqual([{ chunk: victim?.id, node: holder, problem: 'corrupt' }]);
    await healthy(admin, 'the replacement');
    await waitFor(async () => (await eventKinds(admin)).includes('replica.replaced'), 'the replacement to be told');
    expect((await admin.call('verify', { path: '/a' })).bad).toEqual([]);
    expect(data.equals(await readFile(client, 'a'))).toBe(true);
  }, 120_000);

  it('that vanished is missed by a scrub and replaced', async () => {
    const { it: rig, client, admin } = await start();
    const data = randomBytes(400_000);
    await writeFile(client, 'a', data);
    const stat = await admin.call('stat', { path: '/a' });
    const victim = stat.chunks[0];
    const holder = victim?.replicas[0]?.name ?? '';
    await rm(await chunkFile(rig, holder, victim?.id ?? ''));
    await admin.call('scrub', { action: 'start' });
    await waitFor(async () => (await eventKinds(admin)).includes('replica.replaced'), 'the replacement', 60_000);
    await waitFor(
      async () => (await admin.call('jobs', {})).jobs.filter((job) => job.kind === 'scrub').every((job) => job.state === 'done'),
      'the scrubs to end',
      60_000,
    );
    expect(data.equals(await readFile(client, 'a'))).toBe(true);
  }, 120_000);
});

describe('deleting a file', () => {
  it('frees the disks of the nodes within seconds', async () => {
    const { it: rig, client, admin } = await start();
    await writeFile(client, 'big', randomBytes(8_000_000));
    for (let i = 0; i < 100; i++) await writeFile(client, `f${i}`, randomBytes(1_000));
    await admin.call('deleteFile', { path: '/big' });
    for (let i = 0; i < 100; i++) await client.tree.unlink(client.tree.root, `f${i}`, me);
    await waitFor(async () => (await admin.call('status', {})).storedBytes === 0, 'the rows to go', 60_000);
    // A late node may hold a replica of an upload that was given up; the client tells of it a little later.
    await waitFor(async () => (await admin.call('check', {})).unknown === 0, 'the nodes to be empty', 30_000);
    expect(rig.coordinator.state.table('chunks').size).toBe(0);
  }, 120_000);

  it('counts or deletes what a late node stored of uploads that were given up', async () => {
    const { it: rig, admin } = await start();
    let lateNode = 0;
    let onTheirWay = 0;
    /** Stored on any node; counted here, since those of the first file may go before the second one is written. */
    let copies = 0;
    /** Stores, but never answers before the client loses patience. */
    class LatePeer extends HttpChunkPeer {
      override async put(...[chunks, options]: Parameters<HttpChunkPeer['put']>): ReturnType<HttpChunkPeer['put']> {
        lateNode ||= this.node;
        if (this.node !== lateNode) {
          const answer = await super.put(chunks, options);
          copies += chunks.length;
          return answer;
        }
        const { signal, ...unlimited } = options;
        onTheirWay += chunks.length;
        await super.put(chunks, unlimited);
        onTheirWay -= chunks.length;
        copies += chunks.length;
        return new Promise((_, reject) => {
          const givenUp = (): void => reject(new HoldfastError('UNREACHABLE', 'given up'));
          if (signal?.aborted) givenUp();
          else signal?.addEventListener('abort', givenUp, { once: true });
        });
      }
    }
    const writer = await rig.connect({}, { peers: ({ node, url }) => new LatePeer({ node, url }) });
    await writeFile(writer, 'deleted', randomBytes(1_000));
    await writeFile(writer, 'kept', randomBytes(1_000));
    expect(lateNode).toBeGreaterThan(0);
    const stored = async (): Promise<number> => {
      let count = 0;
      for (const { store } of rig.nodes.values()) count += (await store.usage()).chunkCount;
      return count;
    };
    await waitFor(() => onTheirWay === 0, 'the late node to have stored all');
    // A chunk went to the late node, to the other one chosen and to the one that took the late node's place.
    expect(copies).toBeGreaterThan(4);
    await writer.tree.unlink(writer.tree.root, 'deleted', me);
    await waitFor(async () => (await stored()) === 2, 'one chunk on two nodes and nothing else', 30_000);
    expect((await admin.call('status', {})).chunks).toMatchObject({ total: 1, belowCopies: 0 });
  }, 90_000);
});

describe('a restarted coordinator', () => {
  it('stays in safe mode until its nodes have reported, then goes on', async () => {
    const { it: rig, client, admin } = await start();
    const data = randomBytes(2_000_000);
    await writeFile(client, 'a', data);
    await rig.stopCoordinator();
    await rig.startCoordinator();
    await waitFor(async () => !(await admin.call('status', {})).safeMode.isActive, 'the end of safe mode');
    const status = await admin.call('status', {});
    expect(status).toMatchObject({ health: 'HEALTHY', epoch: 2, chunks: { lost: 0, belowCopies: 0 } });
    expect(data.equals(await readFile(client, 'a'))).toBe(true);
    // History survives.
    expect(await eventKinds(admin)).toEqual(
      expect.arrayContaining(['node.joined', 'coordinator.stopped', 'coordinator.started', 'coordinator.ready']),
    );
  }, 60_000);
});

describe('a live view', () => {
  /** Follows one topic like the screen does. */
  const follow = (admin: AdminConnection, request: Parameters<AdminConnection['watch']>[0]) => {
    const view = { head: {} as Record<string, unknown>, rows: new Map<string, KeyedRow>(), snapshots: 0, changes: 0 };
    const watch = admin.watch(
      request,
      (snapshot: Snapshot) => {
        view.snapshots++;
        view.head = snapshot.head;
        view.rows = new Map(snapshot.rows.map((row) => [row.key, row]));
      },
      (changes: Changes) => {
        view.changes++;
        if (changes.head) view.head = changes.head;
        for (const row of changes.upserts) view.rows.set(row.key, row);
        for (const key of changes.removes) view.rows.delete(key);
      },
    );
    return { view, watch };
  };

  it('follows files, events and nodes without gaps', async () => {
    const { it: rig, client, admin } = await start();
    // A machine that stood still for seconds may have lost the connection: its views begin again then.
    let reconnections = 0;
    admin.onConnection((isConnected) => {
      if (isConnected) reconnections++;
    });
    const overview = follow(admin, { topic: 'overview' });
    const events = follow(admin, { topic: 'events' });
    const root = { topic: 'directory' as const, inode: client.tree.root, offset: 0, limit: 10, descending: false, filter: '' };
    const directory = follow(admin, { ...root, sort: 'name' });
    const bySize = follow(admin, { ...root, sort: 'size', descending: true, filter: 'F' });
    await waitFor(() => [overview, events, directory, bySize].every(({ view }) => view.snapshots > 0), 'the snapshots');
    for (let i = 0; i < 12; i++) await writeFile(client, `f${i}`, randomBytes(1_000 * (i + 1)));
    const inode = await writeFile(client, 'z', randomBytes(100));
    const file = follow(admin, { topic: 'file', inode });
    await waitFor(() => directory.view.head.total === 13 && directory.view.rows.size === 10, 'the directory');
    expect([...directory.view.rows.values()].sort((a, b) => Number(a.key) - Number(b.key)).map((row) => row.name)).toEqual([
      'f0',
      'f1',
      'f10',
      'f11',
      'f2',
      'f3',
      'f4',
      'f5',
      'f6',
      'f7',
    ]);
    await waitFor(() => bySize.view.head.matching === 12 && bySize.view.rows.get('0')?.name === 'f11', 'the order by size', 20_000);
    await waitFor(() => file.view.rows.size === 1 && overview.view.head.files === 13, 'the file');
    await waitFor(() => [...events.view.rows.values()].some((row) => row.kind === 'file.written'), 'files written to be told');
    await writeFile(client, 'later', randomBytes(100));
    await waitFor(
      () => [...events.view.rows.values()].some((row) => row.text === '/later written by admin: 100 B in 1 commit'),
      'one file written to be told by name',
    );
    await rig.stopNode('n3');
    await waitFor(() => overview.view.rows.get('n3')?.state !== 'up' && overview.view.head.health !== 'HEALTHY', 'the node to be missed');
    for (const { view, watch } of [overview, events, directory, bySize, file]) {
      expect(view.snapshots).toBeLessThanOrEqual(1 + reconnections);
      watch.stop();
    }
  }, 60_000);
});

/** Where a node keeps a chunk once it has left the log of small chunks. */
async function chunkFile(rig: InProcessCluster, node: string, chunk: string): Promise<string> {
  const { directory } = rig;
  let found: string | undefined;
  await waitFor(
    async () => {
      const files: string[] = await readdir(join(directory, node, 'chunks', chunk.slice(0, 2))).catch(() => []);
      if (files.includes(chunk)) found = join(directory, node, 'chunks', chunk.slice(0, 2), chunk);
      return found !== undefined;
    },
    `chunk ${chunk.slice(0, 8)} in a file of its own on ${node}`,
  );
  return found as string;
}
