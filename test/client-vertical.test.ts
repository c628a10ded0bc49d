import { createHash, randomBytes } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Cluster } from '../client/index.js';
import { type InProcessCluster, startInProcessCluster, waitFor } from './in-process-cluster.js';

const me = { uid: 0, gid: 0 };
let cluster: InProcessCluster;
let one: Cluster;
let two: Cluster;

beforeAll(async () => {
  cluster = await startInProcessCluster({ coordinator: { deletionGraceMs: 0 } });
  one = await cluster.connect({ description: 'one' });
  two = await cluster.connect({ description: 'two' });
});
afterAll(() => cluster?.stop());

async function writeFile(client: Cluster, name: string, data: Buffer, pieceBytes = 128 * 1024): Promise<number> {
  const { attributes } = await client.tree.create({ parent: client.tree.root, name, kind: 'file', mode: 0o644, as: me, exclusive: false });
  const file = await client.open(attributes.inode);
  for (let at = 0; at < data.length; at += pieceBytes) await file.write(at, data.subarray(at, at + pieceBytes));
  await file.flush();
  await file.release();
  return attributes.inode;
}
async function readFile(client: Cluster, name: string, pieceBytes = 128 * 1024): Promise<Buffer> {
  const attributes = await client.tree.lookup(client.tree.root, name);
  if (!attributes) throw new Error(`${name} is not there`);
  const file = await client.open(attributes.inode);
  const pieces: Buffer[] = [];
  for (let at = 0; at < attributes.sizeBytes; at += pieceBytes) pieces.push(await file.read(at, pieceBytes));
  await file.release();
  return Buffer.concat(pieces);
}
const digest = (data: Buffer): string => createHash('sha256').update(data).digest('hex');

describe('a file written by one client', () => {
  it('is read by another, byte for byte, small and large', async () => {
    for (const size of [0, 1, 4096, 65_536, 65_537, 1_048_576, 5_300_001]) {
      const data = randomBytes(size);
      await writeFile(one, `size-${size}`, data);
      expect(digest(await readFile(two, `size-${size}`))).toBe(digest(data));
    }
  });

  it('is seen changed by a client that had it cached', async () => {
    await writeFile(one, 'changing', Buffer.from('first'));
    expect((await readFile(two, 'changing')).toString()).toBe('first');
    await writeFile(one, 'changing', Buffer.from('later'));
    expect((await readFile(two, 'changing')).toString()).toBe('later');
    expect(await two.tree.lookup(two.tree.root, 'absent')).toBeNull();
    await writeFile(one, 'absent', Buffer.from('here now'));
    expect((await readFile(two, 'absent')).toString()).toBe('here now');
  });

  it('has its random overwrites over its old bytes, holes as zeros', async () => {
    const size = 3_000_000;
    const model = Buffer.alloc(size);
    const { attributes } = await one.tree.create({
      parent: one.tree.root,
      name: 'random',
      kind: 'file',
      mode: 0o644,
      as: me,
      exclusive: true,
    });
    const file = await one.open(attributes.inode);
    for (let i = 0; i < 400; i++) {
      const length = 1 + ((i * 7919) % 9000);
      const at = (i * 104_729) % (size - length);
      const data = randomBytes(length);
      data.copy(model, at);
      await file.write(at, data);
      if (i % 90 === 89) await file.flush();
    }
    await file.truncate(size);
    expect(digest(await readFile(one, 'random'))).toBe(digest(model));
    expect(digest(await readFile(two, 'random'))).toBe(digest(model));
    await file.punch(100_000, 1_500_000, true);
    model.fill(0, 100_000, 1_600_000);
    expect(digest(await readFile(two, 'random'))).toBe(digest(model));
    await file.sync();
    await file.release();
  });

  it('takes appends of two clients at once without losing one', async () => {
    await writeFile(one, 'log', Buffer.alloc(0));
    const inode = (await one.tree.lookup(one.tree.root, 'log'))!.inode;
    const handles = [await one.open(inode), await two.open(inode)];
    await Promise.all(
      handles.map(async (file, writer) => {
        for (let line = 0; line < 100; line++) {
          await file.write(0, Buffer.from(`w${writer} ${String(line).padStart(4, '0')}\n`), { append: true });
          if (line % 3 === 0) await file.flush();
        }
        await file.flush();
      }),
    );
    for (const file of handles) await file.release();
    const lines = (await readFile(one, 'log')).toString().split('\n').filter(Boolean);
    for (const writer of [0, 1]) {
      const mine = lines.filter((line) => line.startsWith(`w${writer}`));
      expect(mine).toEqual(Array.from({ length: 100 }, (_, line) => `w${writer} ${String(line).padStart(4, '0')}`));
    }
    expect(lines).toHaveLength(200);
  });

  it('stays readable through its handle when another client unlinks it', { timeout: 60_000 }, async () => {
    const data = randomBytes(200_000);
    const inode = await writeFile(one, 'orphan', data);
    const file = await two.open(inode);
    await one.tree.unlink(one.tree.root, 'orphan', me);
    expect(await two.tree.lookup(two.tree.root, 'orphan')).toBeNull();
    expect(digest(await file.read(0, data.length))).toBe(digest(data));
    expect((await file.attributes()).nlink).toBe(0);
    expect((await one.tree.getAttributes(inode)).nlink).toBe(0);
    await file.release();
    await waitFor(async () => {
      try {
        await one.tree.getAttributes(inode);
        return false;
      } catch {
        return true;
      }
    }, 'the orphan to be deleted');
  });

  it('is stored once when written twice', { timeout: 60_000 }, async () => {
    const data = randomBytes(2 * 1024 * 1024);
    await writeFile(one, 'copy-1', data);
    const written = (): number => [...cluster.nodes.values()].reduce((sum, { node }) => sum + node.service.counters.writtenBytes, 0);
    let before = written();
    // A node that was given up for another may still be writing what it got.
    await waitFor(async () => {
      const seen = before;
      await delay(500);
      before = written();
      return before === seen;
    }, 'the nodes to be quiet');
    await writeFile(two, 'copy-2', data);
    expect(written() - before).toBeLessThan(100_000);
    expect(digest(await readFile(one, 'copy-2'))).toBe(digest(data));
  });
});

describe('faults', () => {
  it('a node that stops does not hinder writing or reading', async () => {
    const data = randomBytes(4_000_000);
    await writeFile(one, 'before', data);
    await cluster.stopNode('n2');
    expect(digest(await readFile(two, 'before'))).toBe(digest(data));
    const more = randomBytes(3_000_000);
    await writeFile(one, 'during', more);
    expect(digest(await readFile(two, 'during'))).toBe(digest(more));
    await cluster.startNode('n2');
  });

  it('a restart of the coordinator is waited for, and handles go on', async () => {
    const { attributes } = await one.tree.create({
      parent: one.tree.root,
      name: 'across',
      kind: 'file',
      mode: 0o644,
      as: me,
      exclusive: true,
    });
    const file = await one.open(attributes.inode);
    await file.write(0, Buffer.from('before the restart '));
    await cluster.stopCoordinator();
    const pending = (async () => {
      await file.write(19, Buffer.from('and during'));
      await file.flush();
      await file.sync();
    })();
    await cluster.startCoordinator();
    await pending;
    await file.release();
    expect((await readFile(two, 'across')).toString()).toBe('before the restart and during');
  });
});
