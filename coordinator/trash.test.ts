import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { CoordinatorRig, chunkOf, type RigClient } from '../test/coordinator-rig.js';
import { FakeEnvironment } from '../test/fake-environment.js';
import { HistoryActions } from './history-actions.js';
import type { ClientCaller, ClusterContext } from './ports.js';
import { MAX_SHORT_LIFE_MS, SHORT_LIVED_KEEP_MS } from './trash.js';
import { TrashOrder } from './trash-order.js';

const DAY_MS = 86_400_000;
/** The trash is looked at every second. */
const LOOK_MS = 1000;

async function started(trashKeepMs = DAY_MS) {
  const environment = new FakeEnvironment();
  const rig = await new CoordinatorRig(environment, { trashKeepMs }).start();
  const { state, users, volumes, history } = rig.coordinator;
  let chunks = 0;
  const put = async (client: RigClient, name: string, sizeBytes: number): Promise<number> => {
    const inode = await client.create(client.root, name);
    const chunk = chunkOf(++chunks);
    const extents = [{ offset: 0, length: sizeBytes, chunk, chunkOffset: 0 }];
    await client.call('commit', { inode, extents, receipts: [`${chunk}:${sizeBytes}`], sizeBytes });
    return inode;
  };
  const unlink = (client: RigClient, name: string, keepOpen = false) => client.call('unlink', { parent: client.root, name, keepOpen });
  const names = (volume: number): string[] => history.trash.all(volume).map((file) => file.name);
  const user = (name: string, quota: { quotaBytes?: number; quotaFiles?: number }) =>
    state.transact((tx) => {
      const home = volumes.create(tx, name, {});
      users.create(tx, name, { isAdmin: false, home: home.volume, quotaBytes: null, quotaFiles: null, ...quota });
      return { home, ...users.makeToken(tx, name, '', null) };
    });
  return { environment, rig, state, volumes, history, put, unlink, names, user };
}

describe('the trash of a new cluster', () => {
  it('keeps deleted files for a day, in every volume made later as in the first one, unless it is told otherwise', async () => {
    const { rig, environment, state, volumes, history, put, unlink, names } = await started();
    const client = await rig.client();
    await put(client, 'a', 10);
    const other = state.transact((tx) => [volumes.create(tx, 'like', {}), volumes.create(tx, 'none', { trashKeepMs: 0 })]);
    expect(other.map(({ trashKeepMs }) => trashKeepMs)).toEqual([DAY_MS, 0]);
    await environment.advance(MAX_SHORT_LIFE_MS + 5000);
    await unlink(client, 'a');
    await environment.advance(DAY_MS - 1000);
    expect(names(1)).toEqual(['a']);
    await environment.advance(1000 + 2 * LOOK_MS);
    expect([names(1), history.trash.totalsOf(1)]).toEqual([[], { files: 0, bytes: 0 }]);
  });

  it('keeps what was there for less than a minute for ten minutes only, and says nothing of what was there before a restart', async () => {
    const { rig, environment, put, unlink, names } = await started();
    let client = await rig.client();
    await put(client, 'lived', 10);
    await put(client, 'old', 10);
    await environment.advance(MAX_SHORT_LIFE_MS + 5000);
    await put(client, 'brief', 10);
    await put(client, 'saved', 10);
    // What replaces is young, what is replaced is not.
    await client.rename(client.root, 'saved', client.root, 'lived');
    await unlink(client, 'brief');
    await put(client, 'before', 10);
    expect(names(1)).toEqual(['lived', 'brief']);
    rig.crash();
    await rig.start();
    const { trash } = rig.coordinator.history;
    client = await rig.client();
    // Changes wait until nobody can have anything cached of before.
    await environment.advance(5000);
    await unlink(client, 'before');
    await environment.advance(SHORT_LIVED_KEEP_MS + 2 * LOOK_MS);
    expect(trash.all(1).map((file) => file.name)).toEqual(['lived', 'before']);
  });

  it('lets the oldest go for what is written beside it: quota of a volume, in bytes and files', async () => {
    const { rig, environment, state, put, unlink, names } = await started();
    const row = state.get('volumes', 1);
    if (row) state.transact((tx) => tx.put('volumes', 1, { ...row, quotaBytes: 100, quotaFiles: 4 }));
    const client = await rig.client();
    for (const name of ['a', 'b', 'c']) {
      await put(client, name, 30);
      await unlink(client, name);
      await environment.advance(10);
    }
    await environment.advance(5 * LOOK_MS);
    expect(names(1)).toEqual(['a', 'b', 'c']);
    // Nobody waits for the trash: it gives way afterwards, by as little as is needed.
    await put(client, 'd', 60);
    expect(names(1)).toHaveLength(3);
    await environment.advance(2 * LOOK_MS);
    expect([names(1), state.index.ofVolume(1).chargedBytes]).toEqual([['c'], 90]);
    // More than the quota is refused, whatever the trash could give.
    await expect(put(client, 'e', 41)).rejects.toMatchObject({ code: 'EDQUOT' });
    for (const name of ['f', 'g']) await client.create(client.root, name);
    await expect(client.create(client.root, 'h')).rejects.toMatchObject({ code: 'EDQUOT' });
    await environment.advance(2 * LOOK_MS);
    expect([names(1), state.index.ofVolume(1).chargedFiles]).toEqual([[], 4]);
  });

  it('lets the oldest go for what its user writes, in whatever volume it is, and not that of others', async () => {
    const { rig, environment, state, put, unlink, names, user } = await started();
    const anna = user('anna', { quotaBytes: 100 });
    const berta = user('berta', {});
    state.transact((tx) => rig.coordinator.users.grant(tx, 'anna', 1, 'write'));
    const home = await rig.client(anna.token);
    const main = await rig.client(anna.token, 'main');
    const other = await rig.client(berta.token);
    const admin = await rig.client();
    for (const [client, name] of [
      [admin, 'admins'],
      [main, 'first'],
      [home, 'second'],
      [other, 'bertas'],
    ] as const) {
      await put(client, name, 40);
      await unlink(client, name);
      await environment.advance(10);
    }
    await put(home, 'new', 50);
    await environment.advance(2 * LOOK_MS);
    expect([names(1), names(anna.home.volume), names(berta.home.volume)]).toEqual([['admins'], ['second'], ['bertas']]);
    const { id = 0 } = state.get('users', 'anna') ?? {};
    expect(state.index.ofUser(id).bytes).toBe(90);
    await expect(put(home, 'more', 51)).rejects.toMatchObject({ code: 'EDQUOT' });
  });

  it('does not keep what is deleted after the clock was set back until what was deleted before goes', async () => {
    const { rig, environment, put, unlink, names } = await started();
    const client = await rig.client();
    for (const [name, setWallBy] of [
      ['ahead', -365 * DAY_MS],
      ['after', 0],
    ] as const) {
      await put(client, name, 10);
      await unlink(client, name);
      environment.setWallBy(setWallBy);
    }
    expect(names(1)).toEqual(['after', 'ahead']);
    await environment.advance(SHORT_LIVED_KEEP_MS + 2 * LOOK_MS);
    expect(names(1)).toEqual(['ahead']);
  });

  it('gives no room for what is still open: that is free only when it is closed', async () => {
    const { rig, state, put, unlink } = await started();
    const row = state.get('volumes', 1);
    if (row) state.transact((tx) => tx.put('volumes', 1, { ...row, quotaBytes: 100 }));
    const client = await rig.client();
    const open = await put(client, 'open', 80);
    await unlink(client, 'open', true);
    await expect(put(client, 'next', 30)).rejects.toMatchObject({ code: 'EDQUOT' });
    await client.call('releaseOrphans', { inodes: [open] });
    await put(client, 'then', 30);
  });

  it('goes when it is emptied or switched off, also what was deleted before the clock was set back', async () => {
    const { rig, environment, state, history, put, unlink, names } = await started();
    const client = await rig.client();
    const caller: ClientCaller = { client: 'c', user: 'admin', volume: 1, access: 'admin' };
    const actions = new HistoryActions({ state, history: () => history } as unknown as ClusterContext, () => {});
    const empty = async (olderThanMs: number): Promise<number> => {
      const emptied = actions.emptyTrash(caller, { path: '/', olderThanMs });
      await environment.advance(LOOK_MS);
      return (await emptied).files;
    };
    const deleteBeforeClockIsSetBack = async (name: string): Promise<void> => {
      await put(client, name, 10);
      await unlink(client, name);
      environment.setWallBy(-7_200_000);
    };
    await deleteBeforeClockIsSetBack('a');
    expect([await empty(1), names(1)]).toEqual([0, ['a']]);
    expect([await empty(0), names(1)]).toEqual([1, []]);
    await deleteBeforeClockIsSetBack('b');
    const row = state.get('volumes', 1);
    if (row) state.transact((tx) => tx.put('volumes', 1, { ...row, trashKeepMs: 0 }));
    await environment.advance(3 * LOOK_MS);
    expect(names(1)).toEqual([]);
  });
});

describe('the order of the trash', () => {
  it('is that of a sorted list, whatever leaves it in between and however the clock is set', () => {
    const step = fc.record({ isShort: fc.boolean(), leaves: fc.nat(20), take: fc.nat(3), aheadBy: fc.nat(9) });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 200 }), fc.nat(30), (steps, overAfter) => {
        const order = new TrashOrder();
        const there = new Map<number, { atMs: number; isShort: boolean }>();
        for (const [at, { isShort, leaves, take, aheadBy }] of steps.entries()) {
          // No two of the same time.
          const atMs = at + aheadBy + at / 1000;
          there.set(at, { atMs, isShort });
          order.add(at, atMs, isShort);
          there.delete(leaves);
          const walk = order.oldest((inode, since) => there.get(inode)?.atMs === since);
          const isOver = (since: number, isShortLived: boolean): boolean => isShortLived && at - since > overAfter;
          const sorted = [...there].sort(([, a], [, b]) => a.atMs - b.atMs);
          const over = sorted.filter(([, file]) => isOver(file.atMs, file.isShort));
          const rest = sorted.filter((one) => !over.includes(one));
          const expected = [...over, ...rest.slice(0, take)].map(([inode]) => inode);
          const found: number[] = [];
          for (;;) {
            const next = walk.next(isOver, found.length < over.length + take);
            if (next === undefined) break;
            found.push(next);
          }
          expect(found).toEqual(expected);
          for (const inode of found.slice(0, take)) there.delete(inode);
        }
      }),
      { numRuns: 60 },
    );
  });
});
