import { beforeEach, describe, expect, it } from 'vitest';
import type { RequestOf } from '../protocol/call.js';
import type { ClientCalls } from '../protocol/client-calls.js';
import type { ErrorCode } from '../protocol/errors.js';
import { CoordinatorRig, chunkOf, type RigClient } from '../test/coordinator-rig.js';
import { FakeEnvironment } from '../test/fake-environment.js';
import { EXTENTS_PER_STEP } from './file-tree.js';
import { extentKey } from './rows.js';

let environment: FakeEnvironment;
let rig: CoordinatorRig;
let client: RigClient;
let file: number;

beforeEach(async () => {
  environment = new FakeEnvironment();
  rig = await new CoordinatorRig(environment).start();
  client = await rig.client();
  file = await client.create(client.root, 'file');
});

const fails = async (code: ErrorCode, call: Promise<unknown>): Promise<void> => {
  await expect(call).rejects.toMatchObject({ code });
};
/** Commits one whole chunk at an offset. */
const write = (chunk: number, offset: number, length: number, more: Partial<RequestOf<ClientCalls, 'commit'>> = {}, inode = file) =>
  client.call('commit', {
    inode,
    extents: [{ offset, length, chunk: chunkOf(chunk), chunkOffset: 0 }],
    receipts: [`${chunkOf(chunk)}:${length}`],
    sizeBytes: offset + length,
    ...more,
  });
const extents = async (inode = file) => {
  const { extents: list } = await client.call('getExtents', { inode, fromOffset: 0, limit: 2000 });
  return list.map((extent) => [extent.offset, extent.length, Number.parseInt(extent.chunk, 16), extent.chunkOffset]);
};
const references = (chunk: number): number => rig.coordinator.state.get('chunks', chunkOf(chunk))?.refs ?? -1;

describe('commit', () => {
  it('overlays what was there and counts references by extents', async () => {
    await write(1, 0, 100);
    const { attributes } = await write(2, 40, 20);
    expect(attributes).toMatchObject({ sizeBytes: 100, allocatedBytes: 100, dataVersion: 3 });
    expect(await extents()).toEqual([
      [0, 40, 1, 0],
      [40, 20, 2, 0],
      [60, 40, 1, 60],
    ]);
    expect([references(1), references(2)]).toEqual([2, 1]);
    await write(3, 0, 100);
    expect([references(1), references(2), references(3)]).toEqual([0, 0, 1]);
  });
  it('moves an append to where the file ends by now', async () => {
    await write(1, 0, 100);
    const reply = await write(2, 50, 10, { appendBase: 50 });
    expect(reply).toMatchObject({ shiftedBy: 50, attributes: { sizeBytes: 110 } });
    expect((await extents()).at(-1)).toEqual([100, 10, 2, 0]);
    expect((await write(3, 110, 10, { appendBase: 110 })).shiftedBy).toBe(0);
  });
  it('moves an append back to where the file was cut, without a gap', async () => {
    await write(1, 0, 100);
    await client.call('truncate', { inode: file, sizeBytes: 30 });
    const reply = await write(2, 100, 10, { appendBase: 100 });
    expect(reply).toMatchObject({ shiftedBy: -70, attributes: { sizeBytes: 40 } });
    expect((await extents()).at(-1)).toEqual([30, 10, 2, 0]);
  });
  it('refuses an append with an extent before its beginning', async () => {
    await write(1, 0, 100);
    await fails('EINVAL', write(2, 40, 10, { appendBase: 50 }));
    expect(await extents()).toEqual([[0, 100, 1, 0]]);
  });
  it('is refused as a whole when a chunk is not there', async () => {
    await fails('UPLOAD_AGAIN', write(1, 0, 10, { receipts: [] }));
    await write(1, 0, 10);
    const two = { extents: [1, 2].map((n) => ({ offset: n * 10, length: 10, chunk: chunkOf(n), chunkOffset: 0 })), receipts: [] };
    await fails('UPLOAD_AGAIN', client.call('commit', { inode: file, ...two, sizeBytes: 30 }));
    expect(await extents()).toEqual([[0, 10, 1, 0]]);
    expect(references(1)).toBe(1);
  });
  it('is refused when an extent reaches beyond its chunk or the size', async () => {
    await fails('EINVAL', write(1, 0, 10, { receipts: [`${chunkOf(1)}:9`] }));
    await fails('EINVAL', write(1, 0, 10, { sizeBytes: 9 }));
    await fails(
      'EFBIG',
      write(1, 0, 10, { sizeBytes: 2 ** 52, appendBase: 0 }).then(() => write(2, 0, 10, { sizeBytes: 10, appendBase: 0 })),
    );
  });
  it('stops at the quota, and counts holes as nothing', async () => {
    rig.coordinator.state.transact((tx) => tx.put('volumes', 1, { ...client.welcome.volume, quotaBytes: 150 }));
    await write(1, 1_000_000, 100);
    await fails('EDQUOT', write(2, 0, 60));
    await write(3, 0, 50);
    await write(4, 0, 50);
    expect(await client.call('statVolume', {})).toMatchObject({ totalBytes: 150, freeBytes: 0 });
  });
  it('goes to regular files only, also to deleted ones held open', async () => {
    const directory = await client.mkdir(client.root, 'd');
    await fails('EISDIR', write(1, 0, 10, {}, directory));
    const fifo = await client.create(client.root, 'p', { kind: 'fifo' });
    await fails('EINVAL', write(1, 0, 10, {}, fifo));
    await client.call('unlink', { parent: client.root, name: 'file', keepOpen: true });
    await write(1, 0, 10);
    await client.call('releaseOrphans', { inodes: [file] });
    await fails('ESTALE', write(2, 0, 10));
    expect(references(1)).toBe(0);
  });
  it('names chunks committed lately to a sync of the file', async () => {
    await write(1, 0, 10);
    expect((await client.call('sync', { inode: file })).recentChunks.map((one) => one.chunk)).toEqual([chunkOf(1)]);
    await environment.advance(12_000);
    expect((await client.call('sync', { inode: file })).recentChunks).toEqual([]);
  });
  it('uses the time it is given, and clears set-id bits when told', async () => {
    await client.call('setAttributes', { inode: file, mode: 0o6755 });
    const { attributes } = await write(1, 0, 10, { mtime: { s: 5, ns: 6 }, clearSetId: true });
    expect(attributes).toMatchObject({ mtimeS: 5, mtimeNs: 6, mode: 0o755 });
    expect(attributes.ctimeS).toBeGreaterThan(5);
  });
});

describe('truncate and punch', () => {
  it('cut, grow with a hole, and leave no old bytes behind', async () => {
    await write(1, 0, 100);
    expect((await client.call('truncate', { inode: file, sizeBytes: 30 })).attributes).toMatchObject({ sizeBytes: 30, allocatedBytes: 30 });
    expect((await client.call('truncate', { inode: file, sizeBytes: 90 })).attributes).toMatchObject({ sizeBytes: 90, allocatedBytes: 30 });
    expect(await extents()).toEqual([[0, 30, 1, 0]]);
    await client.call('punch', { inode: file, offset: 10, length: 10, keepSize: true });
    expect(await extents()).toEqual([
      [0, 10, 1, 0],
      [20, 10, 1, 20],
    ]);
    expect((await client.call('punch', { inode: file, offset: 80, length: 40, keepSize: false })).attributes.sizeBytes).toBe(120);
    expect((await client.call('punch', { inode: file, offset: 80, length: 90, keepSize: true })).attributes.sizeBytes).toBe(120);
    await fails('EISDIR', client.call('truncate', { inode: client.root, sizeBytes: 0 }));
  });

  it('and deletion of very many extents go in steps, references and all', async () => {
    const count = EXTENTS_PER_STEP * 3 + 17;
    const { state } = rig.coordinator;
    const fill = (inode: number): void =>
      state.transact((tx) => {
        tx.put('chunks', chunkOf(1), { volume: 1, sizeBytes: 1, refs: count, replicas: [1] });
        for (let i = 0; i < count; i++)
          tx.put('extents', extentKey(inode, i * 2), { offset: i * 2, length: 1, chunk: chunkOf(1), chunkOffset: 0 });
        tx.put('inodes', inode, { ...state.get('inodes', inode)!, sizeBytes: count * 2, allocatedBytes: count });
      });
    fill(file);
    const cut = client.call('truncate', { inode: file, sizeBytes: 10 });
    await environment.until(() => state.table('extents').of(file).length === 5);
    expect((await cut).attributes).toMatchObject({ sizeBytes: 10, allocatedBytes: 5 });
    expect(references(1)).toBe(5);
    await client.call('truncate', { inode: file, sizeBytes: 0 });
    fill(file);
    const punched = client.call('punch', { inode: file, offset: 3, length: count * 3, keepSize: true });
    await environment.until(() => state.table('extents').of(file).length === 2);
    expect((await punched).attributes).toMatchObject({ sizeBytes: count * 2, allocatedBytes: 2 });
    await client.call('truncate', { inode: file, sizeBytes: 0 });
    fill(file);
    await client.call('unlink', { parent: client.root, name: 'file', keepOpen: false });
    expect(state.table('extents').of(file).length).toBe(count - EXTENTS_PER_STEP);
    await environment.until(() => state.table('extents').size === 0);
    expect(references(1)).toBe(0);
    expect(state.get('inodes', file)).toBeUndefined();
    expect(state.table('orphans').size).toBe(0);
  });
});

describe('copyRange', () => {
  it('copies extents, holes included, and stops at the end of the source', async () => {
    await write(1, 0, 50);
    await write(2, 100, 50);
    const target = await client.create(client.root, 'copy');
    await write(3, 0, 300, {}, target);
    const reply = await client.call('copyRange', { from: file, fromOffset: 25, to: target, toOffset: 10, length: 1000 });
    expect(reply).toMatchObject({ copiedBytes: 125, attributes: { sizeBytes: 300 } });
    expect(await extents(target)).toEqual([
      [0, 10, 3, 0],
      [10, 25, 1, 25],
      [85, 50, 2, 0],
      [135, 165, 3, 135],
    ]);
    expect([references(1), references(2), references(3)]).toEqual([2, 2, 2]);
    expect((await client.call('copyRange', { from: file, fromOffset: 999, to: target, toOffset: 0, length: 5 })).copiedBytes).toBe(0);
  });
  it('within one file needs ranges apart', async () => {
    await write(1, 0, 100);
    await fails('EINVAL', client.call('copyRange', { from: file, fromOffset: 0, to: file, toOffset: 50, length: 60 }));
    await client.call('copyRange', { from: file, fromOffset: 0, to: file, toOffset: 50, length: 50 });
    expect(await extents()).toEqual([
      [0, 50, 1, 0],
      [50, 50, 1, 0],
    ]);
  });
});

describe('getExtents', () => {
  it('goes page by page, with the nodes of each chunk', async () => {
    for (let i = 0; i < 5; i++) await write(i + 1, i * 10, 10);
    const first = await client.call('getExtents', { inode: file, fromOffset: 5, limit: 2 });
    expect(first.extents.map((extent) => extent.offset)).toEqual([0, 10]);
    expect(first.locations).toEqual([1, 2].map((n) => ({ chunk: chunkOf(n), sizeBytes: 10, nodes: [1, 2] })));
    expect(first.nextOffset).toBe(20);
    const rest = await client.call('getExtents', { inode: file, fromOffset: 20, limit: 100 });
    expect(rest.extents.length).toBe(3);
    expect(rest.nextOffset).toBeNull();
  });
});
