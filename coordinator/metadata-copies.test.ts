import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { NodeContact } from '../protocol/entities.js';
import { HoldfastError } from '../protocol/errors.js';
import { CoordinatorRig } from '../test/coordinator-rig.js';
import { FakeEnvironment } from '../test/fake-environment.js';
import { buildDataDirectory } from './backup.js';
import { openDataDirectory } from './data-directory.js';
import { Database } from './database.js';
import { MetadataCopies } from './metadata-copies.js';
import type { MetadataBlob, MetadataPeer } from './metadata-peer.js';
import { findBestCopy } from './recover.js';
import { takeRows } from './snapshot.js';
import { State } from './state.js';

/** What a node does with blobs, in memory. */
class MemoryPeer implements MetadataPeer {
  readonly blobs = new Map<string, { bytes: Buffer; epoch: number }>();
  isAway = false;
  /** While set, appends wait for it. */
  gate: Promise<void> | undefined;
  losesReplies = 0;

  private check(name?: string, epoch?: number): void {
    if (this.isAway) throw new HoldfastError('UNREACHABLE');
    const known = name === undefined ? undefined : this.blobs.get(name);
    if (known && epoch !== undefined && epoch < known.epoch) throw new HoldfastError('STALE_EPOCH');
  }
  async list(): Promise<MetadataBlob[]> {
    await Promise.resolve();
    this.check();
    return [...this.blobs].map(([name, { bytes, epoch }]) => ({ name, sizeBytes: bytes.length, epoch }));
  }
  async put(name: string, epoch: number, content: Buffer): Promise<void> {
    await Promise.resolve();
    this.check(name, epoch);
    this.blobs.set(name, { bytes: Buffer.from(content), epoch });
  }
  async append(name: string, offset: number, epoch: number, bytes: Buffer): Promise<void> {
    await this.gate;
    this.check(name, epoch);
    const there = this.blobs.get(name)?.bytes ?? Buffer.alloc(0);
    if (there.length !== offset) throw new HoldfastError('EINVAL', 'length', { sizeBytes: there.length });
    this.blobs.set(name, { bytes: Buffer.concat([there, bytes]), epoch });
    if (this.losesReplies-- > 0) throw new HoldfastError('UNREACHABLE');
  }
  async get(name: string): Promise<Buffer> {
    await Promise.resolve();
    this.check();
    const blob = this.blobs.get(name);
    if (!blob) throw new HoldfastError('ENOENT');
    return blob.bytes;
  }
  async remove(name: string, epoch: number): Promise<void> {
    await Promise.resolve();
    this.check(name, epoch);
    this.blobs.delete(name);
  }
  close(): void {}
}

/** Compression runs on other threads, in real time. */
async function eventually(condition: () => boolean): Promise<void> {
  for (let tries = 0; !condition(); tries++) {
    if (tries > 4000) throw new Error('the condition did not come true');
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

async function cluster() {
  const environment = new FakeEnvironment();
  const rig = await new CoordinatorRig(environment).start();
  const peers = [1, 2, 3].map(() => new MemoryPeer());
  const contacts: NodeContact[] = peers.map((_, i) => ({
    node: i + 1,
    name: `n${i + 1}`,
    url: `http://n${i + 1}`,
    state: 'up',
    writable: true,
    zone: i < 2 ? 'a' : 'b',
    capacityBytes: 1e9,
    freeBytes: 1e9,
  }));
  const { coordinator } = rig;
  const copies = new MetadataCopies({
    environment,
    wanted: 2,
    cluster: 'test',
    epoch: coordinator.epoch,
    contacts: () => contacts,
    peer: (contact) => peers[contact.node - 1] as MemoryPeer,
    take: () => ({ rows: takeRows(coordinator.state), sequence: coordinator.journal.sequence }),
  });
  coordinator.journal.copies = copies;
  copies.start();
  const client = await rig.client();
  await eventually(() => copies.status().every((copy) => copy.isCurrent));
  const recovered = () => findBestCopy(peers.map((peer, i) => ({ name: `n${i + 1}`, peer })));
  return { environment, rig, coordinator, peers, contacts, copies, client, recovered };
}

/** Rows of the tables that make up the file system, as text. */
const essence = (state: State): string =>
  JSON.stringify(
    takeRows(state)
      .map((change) => JSON.stringify(change))
      .sort(),
  );

describe('metadata copies', () => {
  it('go to nodes of different zones, and hold everything once a sync was answered', async () => {
    const { client, copies, coordinator, recovered } = await cluster();
    expect(copies.status().map((copy) => copy.node)).toEqual(['n1', 'n3']);
    for (let i = 0; i < 30; i++) await client.create(client.root, `f${i}`);
    await client.call('setXattr', { inode: client.root, name: 'user.x', value: Buffer.from('y'), how: 'any' });
    expect(await client.call('sync', {})).toMatchObject({ metadataCopies: 0 });
    const { best } = await recovered();
    const state = new State();
    for (const [table, rows] of best?.rows.rows ?? [])
      for (const [key, row] of rows) if (!['sessions', 'replies', 'locks'].includes(table)) state.load(table, key, row);
    expect(essence(state)).toBe(essence(coordinator.state));
  });

  it('that are silent delay a sync by a moment only, and catch up later', async () => {
    const { client, copies, environment, peers, coordinator } = await cluster();
    let open = (): void => {};
    peers[0]!.gate = new Promise((resolve) => {
      open = resolve;
    });
    await client.create(client.root, 'a');
    let isSynced = false;
    const synced = client.call('sync', {}).then(() => {
      isSynced = true;
    });
    await environment.advance(350);
    expect(isSynced).toBe(false);
    await environment.advance(100);
    expect(isSynced).toBe(true);
    await synced;
    expect(copies.status().map((copy) => copy.isCurrent)).toEqual([false, true]);
    open();
    peers[0]!.gate = undefined;
    await eventually(() => copies.status()[0]?.isCurrent === true && copies.status()[0]?.sequence === coordinator.journal.sequence);
    expect(copies.status()[0]?.lagBytes).toBe(0);
  });

  it('survive lost replies without doubling or losing a record', async () => {
    const { client, copies, environment, peers, coordinator, recovered } = await cluster();
    for (let i = 0; i < 20; i++) {
      if (i % 3 === 0) peers[0]!.losesReplies = 1;
      await client.create(client.root, `f${i}`);
      if (i % 4 === 0) await environment.advance(300);
    }
    await environment.advance(12_000);
    await eventually(() => copies.status().every((copy) => copy.isCurrent && copy.sequence === coordinator.journal.sequence));
    const { lines } = await recovered();
    expect(lines.filter((line) => line.includes(`up to record ${coordinator.journal.sequence} `)).length).toBe(2);
  });

  it('move to another node when theirs is away, and the best one is found', async () => {
    const { client, copies, contacts, environment, peers, coordinator, recovered } = await cluster();
    await client.create(client.root, 'before');
    peers[0]!.isAway = true;
    contacts[0] = { ...(contacts[0] as NodeContact), state: 'suspect' };
    await client.create(client.root, 'after');
    await environment.advance(8000);
    await eventually(() => copies.status().every((copy) => copy.sequence === coordinator.journal.sequence));
    expect(
      copies
        .status()
        .map((copy) => copy.node)
        .sort(),
    ).toEqual(['n2', 'n3']);
    peers[0]!.isAway = false;
    // A damaged newer copy must not win over a whole one.
    for (const [name, blob] of peers[1]!.blobs)
      if (name.startsWith('snapshot')) blob.bytes = blob.bytes.subarray(0, blob.bytes.length - 30);
    const { best, lines } = await recovered();
    expect(best).toMatchObject({ node: 'n3', sequence: coordinator.journal.sequence, cluster: 'test' });
    expect(lines.some((line) => line.startsWith('n2: snapshot-') && line.includes('cannot be used'))).toBe(true);
    expect(lines.some((line) => line.startsWith('n1: epoch 1'))).toBe(true);
  });

  it('become a data directory of the same cluster with a higher epoch', async () => {
    const { client, coordinator, recovered } = await cluster();
    await client.create(client.root, 'x');
    await client.call('sync', {});
    const { best } = await recovered();
    const data = mkdtempSync(join(tmpdir(), 'hf-coordinator-test-'));
    try {
      await buildDataDirectory(data, best!.rows, { cluster: best!.cluster, epoch: best!.epoch + 1000, nodeToken: 'token' });
      const directory = await openDataDirectory(data);
      expect([directory.isNew, directory.cluster, directory.nodeToken]).toEqual([false, 'test', 'token']);
      const database = await Database.open(directory.databaseFile, { create: false, cluster: 'test' });
      const state = new State();
      await database.load((table, key, row) => state.load(table, key, row));
      expect(state.get('settings', 'epoch')).toBe(coordinator.epoch + 1000);
      expect(state.table('entries').lookup(client.root, 'x')).toBeDefined();
      await database.close();
      await directory.unlock();
    } finally {
      rmSync(data, { recursive: true });
    }
  });
});
