import { beforeEach, describe, expect, it } from 'vitest';
import { CoordinatorRig, chunkOf, type RigClient } from '../test/coordinator-rig.js';
import { FakeEnvironment } from '../test/fake-environment.js';

let environment: FakeEnvironment;
let rig: CoordinatorRig;
let main: RigClient;

const create = (name: string, settings = {}) => rig.coordinator.state.transact((tx) => rig.coordinator.volumes.create(tx, name, settings));
const remove = (name: string, evenIfNotEmpty?: string): void => {
  const { state, volumes } = rig.coordinator;
  state.transact((tx) => volumes.remove(tx, volumes.get(name), evenIfNotEmpty));
};
const fails = (code: string, promise: Promise<unknown>) => expect(promise).rejects.toMatchObject({ code });
const write = (client: RigClient, inode: number, chunk: string) =>
  client.call('commit', {
    inode,
    extents: [{ offset: 0, length: 10, chunk, chunkOffset: 0 }],
    receipts: [`${chunk}:10`],
    sizeBytes: 10,
  });

beforeEach(async () => {
  environment = new FakeEnvironment();
  rig = await new CoordinatorRig(environment).start();
  main = await rig.client();
});

describe('a volume', () => {
  it('takes copies and chunk size of the first one unless told otherwise', () => {
    expect(create('a')).toMatchObject({ volume: 2, name: 'a', copies: 2, chunkSizeBytes: 1024 * 1024, quotaBytes: null, encryption: null });
    expect(create('b', { copies: 3, chunkSizeBytes: 65536, quotaBytes: 7 })).toMatchObject({
      volume: 3,
      copies: 3,
      chunkSizeBytes: 65536,
      quotaBytes: 7,
    });
    expect(() => create('a')).toThrow(expect.objectContaining({ code: 'EEXIST' }));
  });
  it('has a tree of its own, and its inodes look like deleted ones from elsewhere', async () => {
    create('a');
    const inside = await rig.client('admin-token', 'a');
    const file = await inside.create(inside.root, 'secret');
    const directory = await inside.mkdir(inside.root, 'd');
    expect(await main.names(main.root)).toEqual([]);
    const gone = await main.create(main.root, 'gone');
    await main.call('unlink', { parent: main.root, name: 'gone', keepOpen: false });
    for (const inode of [gone, file, directory, inside.root]) {
      await fails('ESTALE', main.attributes(inode));
      await fails('ESTALE', main.names(inode));
      await fails('ESTALE', main.call('lookup', { parent: inode, name: 'x' }));
      await fails('ESTALE', main.create(inode, 'x'));
      await fails('ESTALE', main.call('link', { inode, parent: main.root, name: 'x' }));
      await fails('ESTALE', main.call('getExtents', { inode, fromOffset: 0, limit: 1 }));
      expect(await main.call('sync', { inode })).toMatchObject({ recentChunks: [] });
      await fails('ESTALE', main.call('truncate', { inode, sizeBytes: 0 }));
      await fails('ESTALE', main.call('setAttributes', { inode, mode: 0o777 }));
      await fails('ESTALE', write(main, inode, chunkOf(1)));
    }
    const own = await main.create(main.root, 'own');
    await fails('ESTALE', main.call('copyRange', { from: file, fromOffset: 0, to: own, toOffset: 0, length: 1 }));
    await fails('ESTALE', main.rename(inside.root, 'secret', main.root, 'taken'));
    expect(await inside.names(inside.root)).toEqual(['d', 'secret']);
  });
  it('knows a chunk of another one no better than a chunk that is not there', async () => {
    create('a');
    const inside = await rig.client('admin-token', 'a');
    await write(inside, await inside.create(inside.root, 'f'), chunkOf(1));
    const own = await main.create(main.root, 'own');
    const claim = (chunk: string) =>
      main.call('commit', { inode: own, extents: [{ offset: 0, length: 1, chunk, chunkOffset: 0 }], receipts: [], sizeBytes: 1 });
    await fails('UPLOAD_AGAIN', claim(chunkOf(1)));
    await fails('UPLOAD_AGAIN', claim(chunkOf(2)));
  });
  it('is encrypted, or not, from the time it is empty', async () => {
    create('a');
    const { state, volumes } = rig.coordinator;
    const set = (change: object) => state.transact((tx) => volumes.set(tx, volumes.get('a'), change));
    expect(set({ encryption: { key: 'x' } })).toMatchObject({ encryption: { key: 'x' } });
    const inside = await rig.client('admin-token', 'a');
    await inside.create(inside.root, 'f');
    expect(set({ encryption: { key: 'y' }, quotaFiles: 9 })).toMatchObject({ encryption: { key: 'y' }, quotaFiles: 9 });
    expect(() => set({ encryption: null })).toThrow(/only while a volume is empty/);
  });
});

describe('a deleted volume', () => {
  it('needs its name repeated while it holds something; the first one stays', async () => {
    create('a');
    const inside = await rig.client('admin-token', 'a');
    await inside.create(inside.root, 'f');
    expect(() => remove('a')).toThrow(/repeat its name/);
    expect(() => remove('main', 'main')).toThrow(/it stays/);
    remove('a', 'a');
    expect(inside.connection?.isOpen).toBe(false);
    expect(rig.coordinator.volumes.byName('a')).toBeUndefined();
    expect(create('a').volume).toBe(3);
  });
  it('gives back every row and every reference, also over a crash half way', async () => {
    const { volume } = create('a');
    const inside = await rig.client('admin-token', 'a');
    const d = await inside.mkdir(inside.root, 'd');
    for (let i = 0; i < 600; i++) await inside.create(i % 2 ? d : inside.root, `f${i}`);
    const file = await inside.create(d, 'data');
    await write(inside, file, chunkOf(1));
    await inside.call('setXattr', { inode: file, name: 'user.x', value: Buffer.from('1'), how: 'any' });
    await inside.call('link', { inode: file, parent: inside.root, name: 'again' });
    const open = await inside.create(inside.root, 'open');
    await write(inside, open, chunkOf(2));
    await inside.call('unlink', { parent: inside.root, name: 'open', keepOpen: true });
    const kept = await main.create(main.root, 'kept');
    await write(main, kept, chunkOf(3));
    const rowsOf = () => [...rig.coordinator.state.table('inodes').values()].filter((row) => row.volume === volume).length;
    let removed = 0;
    rig.coordinator.state.onChange('inodes', (_inode, _before, after) => {
      if (!after && ++removed === 300) queueMicrotask(() => rig.crash());
    });
    remove('a', 'a');
    await environment.advance(100);
    expect(rowsOf()).toBeGreaterThan(0);
    await rig.start();
    await environment.advance(3_000);
    const { state } = rig.coordinator;
    expect(rowsOf()).toBe(0);
    for (const chunk of [1, 2]) expect(state.get('chunks', chunkOf(chunk))).toMatchObject({ refs: 0 });
    expect(state.get('chunks', chunkOf(3))).toMatchObject({ refs: 1 });
    expect([...state.table('entries').all()].map(([, inode]) => inode)).toEqual([kept]);
    expect([...state.table('extents').all()]).toHaveLength(1);
    expect(state.table('xattrs').size + state.table('orphans').size).toBe(0);
    expect(state.get('settings', 'removingVolumes')).toEqual([]);
    expect(state.index.ofVolume(volume)).toMatchObject({ files: 0, directories: 0, chargedBytes: 0, chargedFiles: 0 });
  });
});
