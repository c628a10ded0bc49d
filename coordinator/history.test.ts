import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { HoldfastError } from '../protocol/errors.js';
import { CoordinatorRig, chunkOf, type RigClient } from '../test/coordinator-rig.js';
import { FakeEnvironment, settle } from '../test/fake-environment.js';
import { type DumpedInode, dumpTree } from '../test/tree-dump.js';
import { ownCaller } from './history-keeper.js';
import type { State } from './state.js';

const CALLER = ownCaller(1, 'somebody');

/** Every count is exact: references of chunks by live extents and kept ones, allocated bytes, links; nothing leads nowhere. */
function expectSound(state: State): void {
  const references = new Map<string, number>();
  const count = (chunk: string): void => void references.set(chunk, (references.get(chunk) ?? 0) + 1);
  for (const [key, extent] of state.table('extents').all()) {
    count(extent.chunk);
    expect(state.get('inodes', Number(key.split(':')[0])), `inode of extent ${key}`).toBeDefined();
  }
  for (const [key, row] of state.table('history').all()) {
    expect(state.get('snapshots', Number.parseInt(key, 10)), `snapshot of ${key}`).toBeDefined();
    if (/^\d+x/.test(key) && row.was !== undefined) count((row.was as { chunk: string }).chunk);
  }
  for (const [chunk, row] of state.table('chunks').all()) expect(row.refs, `references of ${chunk}`).toBe(references.get(chunk) ?? 0);
  const names = new Map<number, number>();
  for (const [key, inode] of state.table('entries').all()) {
    expect(state.get('inodes', inode), `inode of entry ${key}`).toBeDefined();
    names.set(inode, (names.get(inode) ?? 0) + 1);
  }
  for (const [inode, row] of state.table('inodes').all()) {
    if (row.kind === 'directory') {
      const below = [...state.table('entries').of(inode).values()].filter((child) => state.get('inodes', child)?.kind === 'directory');
      expect(row.nlink, `links of directory ${inode}`).toBe(2 + below.length);
    } else {
      expect(row.nlink, `links of ${inode}`).toBe(names.get(inode) ?? 0);
      if (row.nlink === 0) expect(state.get('orphans', inode), `orphan ${inode}`).toBeDefined();
    }
    const allocated = state.table('extents').of(inode);
    expect(row.allocatedBytes).toBe(allocated.reduce((sum, extent) => sum + extent.length, 0));
  }
  for (const [inode] of state.table('trash').all()) expect(state.get('inodes', inode)?.nlink, `trashed ${inode}`).toBe(0);
  expect(state.table('treeTasks').size).toBe(0);
}

/** Random changes of a small tree; whatever is refused is refused. */
class Scribbler {
  private chunks = 0;
  constructor(
    readonly client: RigClient,
    private readonly random: () => number,
  ) {}
  private pick<T>(list: readonly T[]): T {
    return list[Math.floor(this.random() * list.length)] as T;
  }
  private async place(): Promise<{ parent: number; name: string; inode: number | undefined }> {
    let parent = this.client.root;
    for (;;) {
      const name = this.pick(['a', 'b', 'c', 'd:e']);
      const { attributes } = await this.client.call('lookup', { parent, name });
      if (attributes?.kind === 'directory' && this.random() < 0.7) parent = attributes.inode;
      else return { parent, name, inode: attributes?.inode };
    }
  }
  async step(): Promise<void> {
    const { client } = this;
    const { parent, name, inode } = await this.place();
    const other = await this.place();
    const offset = Math.floor(this.random() * 40);
    const length = 1 + Math.floor(this.random() * 30);
    const chunk = chunkOf(this.random() < 0.3 ? 1 : ++this.chunks + 1);
    const commit = (target: number) =>
      client.call('commit', {
        inode: target,
        extents: [{ offset, length, chunk, chunkOffset: 0 }],
        receipts: [`${chunk}:100`],
        sizeBytes: offset + length,
      });
    const kind = this.random();
    try {
      if (kind < 0.2) await commit(await client.create(parent, name));
      else if (kind < 0.3) await client.mkdir(parent, name);
      else if (kind < 0.35) await client.create(parent, name, { kind: 'symlink', target: 'somewhere' });
      else if (kind < 0.5 && inode) await commit(inode);
      else if (kind < 0.55 && inode) await client.call('truncate', { inode, sizeBytes: offset });
      else if (kind < 0.6 && inode) await client.call('punch', { inode, offset, length, keepSize: false });
      else if (kind < 0.65 && inode) await client.call('setAttributes', { inode, mode: Math.floor(this.random() * 0o777) });
      else if (kind < 0.7 && inode)
        await client.call('setXattr', { inode, name: `user.${this.pick(['x', 'y'])}`, value: Buffer.from(String(offset)), how: 'any' });
      else if (kind < 0.73 && inode) await client.call('removeXattr', { inode, name: 'user.x' });
      else if (kind < 0.78 && inode) await client.call('link', { inode, parent: other.parent, name: other.name });
      else if (kind < 0.88)
        await client.rename(parent, name, other.parent, other.name, { how: this.pick(['replace', 'replace', 'noreplace', 'exchange']) });
      else if (kind < 0.95) await client.call('unlink', { parent, name, keepOpen: false });
      else await client.call('removeDirectory', { parent, name });
    } catch (error) {
      if (!(error instanceof HoldfastError) || error.code === 'INTERNAL') throw error;
    }
  }
  async many(count: number): Promise<void> {
    for (let i = 0; i < count; i++) await this.step();
  }
}

/** Numbers between 0 and 1 from a seed. */
function randomFrom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

type Dump = Record<string, DumpedInode>;

describe('snapshots', () => {
  it('say what was there, whatever is changed, snapped, dropped or restarted afterwards', async () => {
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 0, max: 2 ** 31 }), async (seed) => {
        const environment = new FakeEnvironment();
        const rig = await new CoordinatorRig(environment).start();
        let client = await rig.client();
        const random = randomFrom(seed);
        let scribbler = new Scribbler(client, random);
        const taken = new Map<string, Dump>();
        const look = async (): Promise<void> => {
          const hidden = (await client.call('lookup', { parent: client.root, name: '.snapshots' })).attributes?.inode ?? 0;
          expect(await client.names(hidden)).toEqual([...taken.keys()].sort());
          for (const [name, dump] of taken) {
            const inode = (await client.call('lookup', { parent: hidden, name })).attributes?.inode ?? 0;
            expect(await dumpTree(client, inode), `snapshot ${name}`).toEqual(dump);
          }
        };
        await scribbler.many(30);
        for (let round = 0; round < 8; round++) {
          const { snapshots } = rig.coordinator.history;
          const dump = await dumpTree(client, client.root);
          const { name } = await snapshots.create(CALLER, 'manual', `s${round}`);
          taken.set(name, dump);
          await scribbler.many(Math.floor(random() * 25));
          if (random() < 0.5 && taken.size > 0) {
            const victim = [...taken.keys()][Math.floor(random() * taken.size)] as string;
            taken.delete(victim);
            await snapshots.delete(CALLER, snapshots.find(1, victim));
            for (let steps = Math.floor(random() * 4); steps > 0; steps--) {
              const { state } = rig.coordinator;
              const leaving = [...state.table('snapshots').values()].filter((row) => row.isDeleting);
              const row = leaving[Math.floor(random() * leaving.length)];
              if (row) state.transact((tx) => snapshots.history.dropStep(tx, row, 3));
              await scribbler.many(4);
            }
          }
          if (random() < 0.2) {
            await rig.coordinator.journal.synced();
            rig.crash();
            await rig.start();
            client = await rig.client();
            await environment.advance(3000);
            scribbler = new Scribbler(client, random);
          }
          await look();
        }
        await environment.advance(2000);
        await rig.coordinator.history.settled();
        await look();
        for (const name of taken.keys()) {
          const { snapshots } = rig.coordinator.history;
          await snapshots.delete(CALLER, snapshots.find(1, name));
        }
        taken.clear();
        await environment.advance(2000);
        await rig.coordinator.history.settled();
        await look();
        expect(rig.coordinator.state.table('history').size).toBe(0);
        expect(rig.coordinator.state.table('snapshots').size).toBe(0);
        expectSound(rig.coordinator.state);
        await rig.coordinator.stop();
      }),
      { numRuns: 10 },
    );
  });
});

async function tree(client: RigClient): Promise<void> {
  const photos = await client.mkdir(client.root, 'photos', { mode: 0o750, as: { uid: 7, gid: 8 } });
  const summer = await client.mkdir(photos, 'summer');
  for (const [parent, name, number] of [
    [photos, 'a', 1],
    [summer, 'b', 2],
    [summer, 'c', 3],
  ] as const) {
    const inode = await client.create(parent, name, { as: { uid: 7, gid: 8 } });
    const chunk = chunkOf(number);
    const extents = [{ offset: 0, length: 50, chunk, chunkOffset: 0 }];
    await client.call('commit', { inode, extents, receipts: [`${chunk}:100`], sizeBytes: 50 });
    await client.call('setXattr', { inode, name: 'user.n', value: Buffer.from(name), how: 'any' });
    if (name === 'b') await client.call('link', { inode, parent: photos, name: 'b too' });
  }
  await client.create(photos, 'link', { kind: 'symlink', target: 'summer/b' });
}
async function started(options: ConstructorParameters<typeof CoordinatorRig>[1] = {}) {
  const environment = new FakeEnvironment();
  const rig = await new CoordinatorRig(environment, options).start();
  const client = await rig.client();
  const history = () => rig.coordinator.history;
  const state = () => rig.coordinator.state;
  /** Steps go on with the clock. */
  const finished = async <T>(work: Promise<T>): Promise<T> => {
    let isDone = false;
    const settled = work.finally(() => {
      isDone = true;
    });
    settled.catch(() => {});
    for (let i = 0; i < 2000 && !isDone; i++) await environment.advance(1);
    return await settled;
  };
  const quiet = () => finished(history().settled());
  const put = async (parent: number, name: string, number: number, sizeBytes = 50): Promise<number> => {
    const inode = await client.create(parent, name);
    const chunk = chunkOf(number);
    const extents = [{ offset: 0, length: sizeBytes, chunk, chunkOffset: 0 }];
    await client.call('commit', { inode, extents, receipts: [`${chunk}:1000000`], sizeBytes });
    return inode;
  };
  const find = async (path: string): Promise<number> => rig.coordinator.tree.resolve(1, path);
  const keepTrash = (trashKeepMs: number): void => {
    const row = state().get('volumes', 1);
    if (row) state().transact((tx) => tx.put('volumes', 1, { ...row, trashKeepMs }));
  };
  return { environment, rig, client, history, state, finished, quiet, put, find, keepTrash };
}
const below = (dump: Dump, path: string): Dump =>
  Object.fromEntries(
    Object.entries(dump)
      .filter(([at]) => at.startsWith(`${path}/`))
      .map(([at, one]) => {
        const { sameAs } = one as { sameAs?: string };
        return [at.slice(path.length), sameAs === undefined ? one : { ...one, sameAs: sameAs.slice(path.length) }];
      }),
  );

describe('a clone', () => {
  it('is the same tree with inodes of its own, and shares every chunk', async () => {
    const { client, history, state, finished, quiet } = await started();
    await tree(client);
    const chunks = state().table('chunks').size;
    expect(await finished(history().clone(CALLER, '/photos', '/copy'))).toBe(6);
    await quiet();
    const dump = await dumpTree(client, client.root);
    expect(below(dump, '/copy')).toEqual(below(dump, '/photos'));
    expect(dump['/copy']?.attributes).toEqual(dump['/photos']?.attributes);
    expect(state().table('chunks').size).toBe(chunks);
    expectSound(state());
    // What is written to one of them is not in the other.
    const copied = (await client.call('lookup', { parent: await rigFind(client, 'copy'), name: 'a' })).attributes?.inode ?? 0;
    await client.call('truncate', { inode: copied, sizeBytes: 10 });
    const after = await dumpTree(client, client.root);
    expect(after['/photos/a']).toEqual(dump['/photos/a']);
    expect(after['/copy/a']?.attributes.sizeBytes).toBe(10);
    expectSound(state());
  });
  it('may be of the whole volume, into itself, and of one file', async () => {
    const { client, history, state, finished, quiet } = await started();
    await tree(client);
    const before = await dumpTree(client, client.root);
    await finished(history().clone(CALLER, '/', '/all'));
    await finished(history().clone(CALLER, '/photos/a', '/photos/a2'));
    await quiet();
    const after = await dumpTree(client, client.root);
    expect(below(after, '/all')).toEqual(before);
    expect(after['/photos/a2']).toEqual(after['/photos/a']);
    expectSound(state());
  });
  it('is of one moment, although the source changes while it is made', async () => {
    const { client, history, state, environment, quiet } = await started();
    const many = await client.mkdir(client.root, 'many');
    for (let i = 0; i < 400; i++) await client.create(many, `f${i}`);
    const before = below(await dumpTree(client, client.root), '/many');
    const cloning = history().clone(CALLER, '/many', '/copy');
    // It waits for its next turn; the source goes meanwhile.
    await settle();
    expect(state().table('treeTasks').size).toBe(1);
    for (let i = 0; i < 400; i++) await client.call('unlink', { parent: many, name: `f${i}`, keepOpen: false });
    await client.create(many, 'new');
    for (let i = 0; i < 50; i++) await environment.advance(1);
    expect(await cloning).toBe(401);
    await quiet();
    expect(below(await dumpTree(client, client.root), '/copy')).toEqual(before);
    expectSound(state());
  });
  it('is all there or not at all: refused names, quota, death of the coordinator', async () => {
    const { client, history, state, finished, quiet, rig } = await started();
    await tree(client);
    await expect(history().clone(CALLER, '/photos', '/photos')).rejects.toMatchObject({ code: 'EEXIST' });
    await expect(history().clone(CALLER, '/nothing', '/x')).rejects.toMatchObject({ code: 'ENOENT' });
    await expect(history().clone(CALLER, '/photos', '/x/y')).rejects.toMatchObject({ code: 'ENOENT' });
    await expect(history().clone(CALLER, '/photos', '/.snapshots/x')).rejects.toMatchObject({ code: 'EROFS' });
    const before = await dumpTree(client, client.root);
    const volume = state().get('volumes', 1);
    if (!volume) throw new Error('no volume');
    state().transact((tx) => tx.put('volumes', 1, { ...volume, quotaFiles: 10 }));
    await expect(finished(history().clone(CALLER, '/photos', '/x'))).rejects.toMatchObject({ code: 'EDQUOT' });
    await quiet();
    expect(await dumpTree(client, client.root)).toEqual(before);
    expectSound(state());
    state().transact((tx) => tx.put('volumes', 1, volume));
    const many = await client.mkdir(client.root, 'many');
    for (let i = 0; i < 400; i++) await client.create(many, `f${i}`);
    void history()
      .clone(CALLER, '/many', '/x')
      .catch(() => {});
    await settle();
    expect(state().table('treeTasks').size).toBe(1);
    rig.crash();
    await rig.start();
    await quiet();
    expect(rig.coordinator.tree.view.lookup(client.root, 'x')).toBeUndefined();
    expect(state().table('snapshots').size).toBe(0);
    expectSound(state());
  });
});

const rigFind = async (client: RigClient, name: string): Promise<number> =>
  (await client.call('lookup', { parent: client.root, name })).attributes?.inode ?? 0;

describe('work on large trees', () => {
  it('is done in small steps: copy, removal, end of a snapshot, emptying the trash', async () => {
    const { client, history, state, finished, quiet, rig, keepTrash } = await started();
    const many = await client.mkdir(client.root, 'many');
    state().transact((tx) => {
      const row = tx.get('inodes', many);
      if (!row) return;
      tx.put('chunks', chunkOf(1), { volume: 1, sizeBytes: 100, refs: 10_000, replicas: [1, 2] });
      for (let i = 0; i < 3000; i++) {
        const inode = rig.coordinator.tree.nextInode(tx);
        const isLarge = i === 1500;
        tx.put('inodes', inode, {
          ...row,
          inode,
          kind: 'file',
          parent: many,
          name: `f${i}`,
          nlink: 1,
          sizeBytes: 1e6,
          allocatedBytes: isLarge ? 7001 : 1,
        });
        tx.put('entries', `${many}/f${i}`, inode);
        for (let at = 0; at < (isLarge ? 7001 : 1); at++)
          tx.put('extents', `${inode}:${at}`, { offset: at, length: 1, chunk: chunkOf(1), chunkOffset: 0 });
      }
    });
    let most = 0;
    const { onCommit } = state();
    state().onCommit = (changes) => {
      most = Math.max(most, changes.length);
      onCommit?.(changes);
    };
    await finished(history().clone(CALLER, '/many', '/copy'));
    await history().snapshots.create(CALLER, 'manual', 'then');
    await finished(history().restore(CALLER, 'then', '/copy'));
    await quiet();
    keepTrash(60_000);
    await finished(history().snapshots.delete(CALLER, history().snapshots.find(1, 'then')));
    for (const name of (await client.names(await rigFind(client, 'copy'))).slice(0, 500))
      await client.call('unlink', { parent: await rigFind(client, 'copy'), name, keepOpen: false });
    await finished(
      history().empty(
        1,
        history()
          .trash.all(1)
          .map((one) => one.inode),
      ),
    );
    for (const { name } of history().snapshots.list(1)) await history().snapshots.delete(CALLER, history().snapshots.find(1, name));
    await quiet();
    expect(state().table('history').size).toBe(0);
    expect(state().get('chunks', chunkOf(1))?.refs).toBe(2 * 10_000 - 500);
    // A file of very many extents is taken apart 2,000 at a time, each with its chunk and what a snapshot keeps of it.
    expect(most).toBeLessThan(10_000);
  });
});

describe('a volume', () => {
  it('goes back to a snapshot as a whole or in part, and what was there before is kept', async () => {
    const { client, history, state, finished, quiet, put, find } = await started();
    await tree(client);
    const then = await dumpTree(client, client.root);
    await history().snapshots.create(CALLER, 'manual', 'then');
    await client.call('truncate', { inode: await find('/photos/a'), sizeBytes: 0 });
    await client.call('unlink', { parent: await find('/photos/summer'), name: 'c', keepOpen: false });
    await put(client.root, 'new', 9);
    const now = await dumpTree(client, client.root);
    await finished(history().restore(CALLER, 'then', '/photos/a'));
    expect((await dumpTree(client, client.root))['/photos/a']).toEqual(then['/photos/a']);
    expect((await dumpTree(client, client.root))['/photos/summer/c']).toBeUndefined();
    const { before } = await finished(history().restore(CALLER, 'then', '/'));
    await quiet();
    expect(await dumpTree(client, client.root)).toEqual(then);
    await finished(history().restore(CALLER, before, '/'));
    await finished(history().restore(CALLER, 'then', '/photos/summer'));
    await quiet();
    const mixed = await dumpTree(client, client.root);
    expect(mixed['/new']).toEqual(now['/new']);
    expect(mixed['/photos/summer/c']).toEqual(then['/photos/summer/c']);
    expectSound(state());
  });
  it('tells what is new, gone, changed and renamed since', async () => {
    const { client, history, finished, find, put } = await started();
    await tree(client);
    await history().snapshots.create(CALLER, 'manual', 'then');
    const photos = await find('/photos');
    await client.call('truncate', { inode: await find('/photos/a'), sizeBytes: 3 });
    await client.rename(await find('/photos/summer'), 'c', photos, 'see');
    await client.call('unlink', { parent: photos, name: 'link', keepOpen: false });
    await put(client.root, 'new', 9);
    const { changes } = await finished(history().diff(CALLER, 'then', undefined, '/', 100));
    expect(changes.map(({ change, path, from }) => [change, path, from])).toEqual([
      ['added', '/new', undefined],
      ['changed', '/photos/a', undefined],
      ['removed', '/photos/link', undefined],
      ['renamed', '/photos/see', '/photos/summer/c'],
    ]);
    await history().snapshots.create(CALLER, 'manual', 'later');
    expect((await finished(history().diff(CALLER, 'then', 'later', '/photos/summer', 100))).changes).toMatchObject([
      { change: 'removed', path: '/photos/summer/c' },
    ]);
    expect((await finished(history().diff(CALLER, 'later', undefined, '/', 100))).changes).toEqual([]);
  });
  it('takes snapshots by its schedule and lets the oldest go', async () => {
    const { environment, history, state, client } = await started();
    const row = state().get('volumes', 1);
    if (row) state().transact((tx) => tx.put('volumes', 1, { ...row, snapshots: { everyMs: 10_000, keep: 3 } }));
    await history().snapshots.create(CALLER, 'manual', 'mine');
    const count = (origin: string) =>
      history()
        .snapshots.list(1)
        .filter((one) => one.origin === origin).length;
    await environment.advance(25_000);
    expect(count('schedule')).toBe(3);
    await environment.advance(60_000);
    expect(count('schedule')).toBe(3);
    expect(count('manual')).toBe(1);
    // A clock that goes back neither stops the schedule nor makes it run wild.
    environment.setWallBy(-3_600_000);
    await environment.advance(15_000);
    const times = history()
      .snapshots.list(1)
      .filter((one) => one.origin === 'schedule')
      .map((one) => one.atMs);
    expect(times.filter((at) => at < Number(environment.wallNs() / 1_000_000n) + 1)).toHaveLength(2);
    expect(await client.names(client.root)).toEqual([]);
  });
});

describe('a snapshot', () => {
  it('cannot be changed by any call, nor can the hidden names', async () => {
    const { client, history, rig } = await started();
    await tree(client);
    await history().snapshots.create(CALLER, 'manual', 'then');
    const photos = rig.coordinator.tree.resolve(1, '/.snapshots/then/photos');
    const a = rig.coordinator.tree.resolve(1, '/.snapshots/then/photos/a');
    const refused: [string, Promise<unknown>][] = [
      ['EROFS', client.create(photos, 'x')],
      ['EROFS', client.call('unlink', { parent: photos, name: 'a', keepOpen: false })],
      ['EROFS', client.call('removeDirectory', { parent: photos, name: 'summer' })],
      ['EROFS', client.rename(photos, 'a', client.root, 'a')],
      ['EROFS', client.rename(client.root, 'photos', photos, 'a')],
      ['EROFS', client.call('link', { inode: a, parent: client.root, name: 'a' })],
      ['EROFS', client.call('setAttributes', { inode: a, mode: 0 })],
      ['EROFS', client.call('truncate', { inode: a, sizeBytes: 0 })],
      ['EROFS', client.call('punch', { inode: a, offset: 0, length: 1, keepSize: true })],
      ['EROFS', client.call('commit', { inode: a, extents: [], receipts: [], sizeBytes: 100 })],
      ['EROFS', client.call('setXattr', { inode: a, name: 'user.x', value: Buffer.from('x'), how: 'any' })],
      ['EROFS', client.call('copyRange', { from: a, fromOffset: 0, to: a, toOffset: 100, length: 10 })],
      ['EEXIST', client.mkdir(client.root, '.snapshots')],
      ['EEXIST', client.create(client.root, '.trash')],
      ['EBUSY', client.call('removeDirectory', { parent: client.root, name: '.snapshots' })],
      ['EISDIR', client.call('unlink', { parent: client.root, name: '.trash', keepOpen: false })],
      ['EBUSY', client.rename(client.root, '.snapshots', client.root, 'x')],
      ['EBUSY', client.rename(client.root, 'photos', client.root, '.trash')],
    ];
    for (const [code, call] of refused) await expect(call).rejects.toMatchObject({ code });
    expect(await client.names(client.root)).toEqual(['photos']);
    expect((await client.call('lookup', { parent: photos, name: '..' })).attributes?.inode).toBe(
      rig.coordinator.tree.resolve(1, '/.snapshots/then'),
    );
    // But copied from, and locked as readers do.
    const copy = await client.create(client.root, 'copy');
    expect(await client.call('copyRange', { from: a, fromOffset: 0, to: copy, toOffset: 0, length: 100 })).toMatchObject({
      copiedBytes: 50,
    });
    await client.call('lock', { inode: a, family: 'flock', owner: 'o', pid: 1, kind: 'read', start: 0, length: 0 });
    expect(rig.coordinator.tree.pathOf(a)).toBe('/.snapshots/then/photos/a');
  });
  it('is forgotten by clients that had it cached when it is deleted', async () => {
    const { client, history, rig, finished } = await started();
    await tree(client);
    await history().snapshots.create(CALLER, 'manual', 'then');
    const a = rig.coordinator.tree.resolve(1, '/.snapshots/then/photos/a');
    await client.attributes(a);
    await finished(history().snapshots.delete(CALLER, history().snapshots.find(1, 'then')));
    expect(client.recalls.flat().map((one) => one.inode)).toContain(a);
    await expect(client.attributes(a)).rejects.toMatchObject({ code: 'ESTALE' });
  });
});

describe('the trash', () => {
  const trashed = async (client: RigClient): Promise<string[]> => await client.names(await rigFind(client, '.trash'));

  it('keeps what was deleted or replaced, and gives it back by path, to another place, and by mv', async () => {
    const { client, history, state, put, find, keepTrash } = await started();
    keepTrash(60_000);
    const directory = await client.mkdir(client.root, 'd', { mode: 0o710, as: { uid: 5, gid: 6 } });
    const first = await put(directory, 'f', 1);
    await client.call('unlink', { parent: directory, name: 'f', keepOpen: false });
    const second = await put(directory, 'f', 2);
    const third = await put(client.root, 'other', 3);
    await client.rename(client.root, 'other', directory, 'f');
    await client.call('unlink', { parent: directory, name: 'f', keepOpen: false });
    await client.call('removeDirectory', { parent: client.root, name: 'd' });
    expect(await trashed(client)).toEqual([`f.~${first}`, `f.~${second}`, `f.~${third}`]);
    expect(state().index.ofVolume(1).files).toBe(0);
    expect(history().trash.totalsOf(1)).toEqual({ files: 3, bytes: 150 });
    expectSound(state());
    // The directory is made again as it was.
    const latest = history().trash.below(1, '/d/f');
    expect(latest.map((one) => one.inode)).toEqual([third]);
    await history().restoreTrashed(CALLER, third);
    expect(await client.attributes(await find('/d'))).toMatchObject({ mode: 0o710, uid: 5, gid: 6 });
    expect(await find('/d/f')).toBe(third);
    await expect(history().restoreTrashed(CALLER, first)).rejects.toMatchObject({ code: 'EEXIST' });
    await history().restoreTrashed(CALLER, first, '/again');
    expect(await find('/again')).toBe(first);
    const trash = await rigFind(client, '.trash');
    await client.rename(trash, `f.~${second}`, client.root, 'moved');
    expect(await client.attributes(second)).toMatchObject({ nlink: 1, sizeBytes: 50 });
    expect(await trashed(client)).toEqual([]);
    expectSound(state());
  });
  it('is not met by programs that have the file open, and outlives their last close', async () => {
    const { client, rig, state, put, keepTrash } = await started();
    keepTrash(60_000);
    const other = await rig.client();
    const inode = await put(client.root, 'f', 1);
    await other.attributes(inode);
    other.holding = [inode];
    await client.call('unlink', { parent: client.root, name: 'f', keepOpen: true });
    expect((await client.attributes(inode)).nlink).toBe(0);
    await client.call('releaseOrphans', { inodes: [inode] });
    // Who has let go of it finds it in the trash, who has not sees what fstat tells of a deleted file.
    expect((await client.attributes(inode)).nlink).toBe(1);
    expect((await other.attributes(inode)).nlink).toBe(0);
    await other.call('releaseOrphans', { inodes: [inode] });
    expect((await client.attributes(inode)).nlink).toBe(1);
    expect(await trashed(client)).toEqual([`f.~${inode}`]);
    expect(state().get('orphans', inode)).toEqual({ holders: [] });
    rig.crash();
    await rig.start();
    const again = await rig.client();
    expect(await trashed(again)).toEqual([`f.~${inode}`]);
    expectSound(state());
  });
  it('lets go what is too old, what is deleted there, and all of it when it is emptied or switched off', async () => {
    const { client, environment, history, state, put, keepTrash, quiet, finished } = await started();
    keepTrash(10_000);
    const old = await put(client.root, 'old', 1);
    await client.call('unlink', { parent: client.root, name: 'old', keepOpen: false });
    await environment.advance(6000);
    const young = await put(client.root, 'young', 2);
    await client.call('unlink', { parent: client.root, name: 'young', keepOpen: false });
    await environment.advance(6000);
    expect(await trashed(client)).toEqual([`young.~${young}`]);
    expect(state().get('inodes', old)).toBeUndefined();
    await client.call('unlink', { parent: await rigFind(client, '.trash'), name: `young.~${young}`, keepOpen: false });
    await environment.advance(10);
    expect(state().table('inodes').size).toBe(1);
    for (const name of ['a', 'b', 'c']) {
      await put(client.root, name, 4);
      await client.call('unlink', { parent: client.root, name, keepOpen: false });
    }
    const [first] = history().trash.all(1);
    if (first) await finished(history().empty(1, [first.inode]));
    expect(await trashed(client)).toHaveLength(2);
    keepTrash(0);
    await environment.advance(3000);
    await quiet();
    expect(await trashed(client)).toEqual([]);
    expectSound(state());
    for (const row of state().table('chunks').values()) expect(row.refs).toBe(0);
  });
  it('gives up the oldest first when the nodes run full', async () => {
    const { client, environment, rig, state, put, keepTrash } = await started();
    keepTrash(3_600_000);
    for (const name of ['a', 'b', 'c']) {
      await put(client.root, name, 1, 1000);
      await client.call('unlink', { parent: client.root, name, keepOpen: false });
      await environment.advance(1000);
    }
    const keeper = rig.coordinator.keeper as { space: unknown; mayFree: boolean };
    keeper.space = () => ({ totalBytes: 100_000, freeBytes: 3500 });
    keeper.mayFree = false;
    await environment.advance(3000);
    expect(await trashed(client)).toHaveLength(3);
    keeper.mayFree = true;
    await environment.advance(3000);
    expect((await trashed(client)).map((name) => name[0])).toEqual(['c']);
    expectSound(state());
  });
  it('is no place to keep what a snapshot shows: what expires there is gone, what a snapshot had stays', async () => {
    const { client, environment, history, state, put, keepTrash } = await started();
    keepTrash(5000);
    const before = await put(client.root, 'before', 1);
    await client.call('unlink', { parent: client.root, name: 'before', keepOpen: false });
    await put(client.root, 'kept', 2);
    await history().snapshots.create(CALLER, 'manual', 'then');
    await client.call('unlink', { parent: client.root, name: 'kept', keepOpen: false });
    await environment.advance(10_000);
    expect(state().get('inodes', before)).toBeUndefined();
    expect(state().get('chunks', chunkOf(1))?.refs).toBe(0);
    expect(state().get('chunks', chunkOf(2))?.refs).toBe(1);
    expect(history().snapshots.history.heldBytesOf(1)).toBe(1_000_000);
    expectSound(state());
  });
});
