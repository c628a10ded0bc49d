import { beforeEach, describe, expect, it } from 'vitest';
import { CoordinatorRig, chunkOf, type RigClient } from '../test/coordinator-rig.js';
import { FakeEnvironment } from '../test/fake-environment.js';
import type { Access } from './ports.js';

let environment: FakeEnvironment;
let rig: CoordinatorRig;

const inTransaction = <T>(body: Parameters<typeof rig.coordinator.state.transact<T>>[0]): T => rig.coordinator.state.transact(body);
/** A user with a home, and a token. */
function user(name: string, quota: { quotaBytes?: number; quotaFiles?: number } = {}, expiresInMs: number | null = null) {
  const { users, volumes } = rig.coordinator;
  return inTransaction((tx) => {
    const home = volumes.create(tx, name, {});
    users.create(tx, name, { isAdmin: false, home: home.volume, quotaBytes: null, quotaFiles: null, ...quota });
    return { home, ...users.makeToken(tx, name, '', expiresInMs) };
  });
}
const grant = (name: string, volume: string, access: Access | undefined) => {
  const { users, volumes } = rig.coordinator;
  return inTransaction((tx) => users.grant(tx, name, volumes.get(volume).volume, access));
};
const revoke = (name: string, id?: string) => inTransaction((tx) => rig.coordinator.users.revoke(tx, name, id));
const fails = (code: string, promise: Promise<unknown>) => expect(promise).rejects.toMatchObject({ code });
const write = (client: RigClient, inode: number, chunk: string, sizeBytes: number) =>
  client.call('commit', {
    inode,
    extents: [{ offset: 0, length: sizeBytes, chunk, chunkOffset: 0 }],
    receipts: [`${chunk}:${sizeBytes}`],
    sizeBytes,
  });

beforeEach(async () => {
  environment = new FakeEnvironment();
  rig = await new CoordinatorRig(environment).start();
});

describe('a token', () => {
  it('opens the home of its user, and nothing else', async () => {
    const { token } = user('anna');
    user('berta');
    const anna = await rig.client(token);
    expect(anna.welcome).toMatchObject({ user: 'anna', access: 'admin', volume: { name: 'anna' } });
    for (const volume of ['main', 'berta', 'nothing'])
      await expect(rig.client(token, volume)).rejects.toMatchObject({
        code: 'FORBIDDEN',
        message: `"anna" has no access to a volume "${volume}"`,
      });
    await fails('UNAUTHORIZED', rig.client(`${token}x`));
    await fails('UNAUTHORIZED', rig.client('node-token'));
  });
  it('is kept as a hash only', async () => {
    const { token } = user('anna');
    await rig.client(token);
    const rows = JSON.stringify([...rig.coordinator.state.table('users').all()]);
    expect(rows).not.toContain(token);
    expect(rows).not.toContain(token.slice(3));
    expect(token.length).toBeGreaterThanOrEqual(46);
  });
  it('that is revoked ends sessions, locks, connections and permits, and leaves other tokens alone', async () => {
    const first = user('anna');
    const second = inTransaction((tx) => rig.coordinator.users.makeToken(tx, 'anna', 'laptop', null));
    const one = await rig.client(first.token);
    const two = await rig.client(second.token);
    const file = await one.create(one.root, 'f');
    await one.call('lock', { inode: file, family: 'flock', owner: 'o', pid: 1, kind: 'write', start: 0, length: 0 });
    const lock = { inode: file, family: 'flock', owner: 'p', pid: 2, kind: 'write', start: 0, length: 0 } as const;
    await fails('EAGAIN', two.call('lock', lock));
    expect(revoke('anna', first.id)).toEqual([first.id]);
    expect(one.connection?.isOpen).toBe(false);
    expect(two.connection?.isOpen).toBe(true);
    expect((rig.coordinator.keeper as unknown as { revoked: string[] }).revoked).toEqual(['token-T1']);
    await two.call('lock', lock);
    await fails('UNAUTHORIZED', one.connect());
    await fails('UNAUTHORIZED', rig.client(first.token));
    expect(() => revoke('anna', first.id)).toThrow(expect.objectContaining({ code: 'ENOENT' }));
    rig.crash();
    await rig.start();
    await fails('UNAUTHORIZED', rig.client(first.token));
    await rig.client(second.token);
  });
  it('ends when it expires, by itself', async () => {
    const { token } = user('anna', {}, 60_000);
    const anna = await rig.client(token);
    await environment.advance(58_000);
    expect(anna.connection?.isOpen).toBe(true);
    await environment.advance(4_000);
    expect(anna.connection?.isOpen).toBe(false);
    await fails('UNAUTHORIZED', rig.client(token));
  });
  it('goes with its user, whose name says nothing of the one who has it next', async () => {
    const { token } = user('anna');
    const anna = await rig.client(token);
    inTransaction((tx) => rig.coordinator.users.remove(tx, 'anna'));
    expect(anna.connection?.isOpen).toBe(false);
    await fails('UNAUTHORIZED', rig.client(token));
    inTransaction((tx) => rig.coordinator.users.create(tx, 'anna', { isAdmin: false, home: null, quotaBytes: null, quotaFiles: null }));
    expect(rig.coordinator.users.get('anna')).toMatchObject({ id: 2, access: {} });
    await fails('UNAUTHORIZED', rig.client(token));
  });
});

describe('rights', () => {
  it('to read allow no change at all', async () => {
    const anna = await rig.client(user('anna').token);
    const file = await anna.create(anna.root, 'f');
    await write(anna, file, chunkOf(1), 10);
    const { token } = user('berta');
    grant('berta', 'anna', 'read');
    const berta = await rig.client(token, 'anna');
    expect(berta.welcome.access).toBe('read');
    expect(await berta.names(berta.root)).toEqual(['f']);
    await fails('EROFS', berta.create(berta.root, 'g'));
    await fails('EROFS', write(berta, file, chunkOf(1), 10));
    await fails('EROFS', berta.call('truncate', { inode: file, sizeBytes: 0 }));
    await fails('EROFS', berta.call('unlink', { parent: berta.root, name: 'f', keepOpen: false }));
    await fails('EROFS', berta.rename(berta.root, 'f', berta.root, 'g'));
    await fails('EROFS', berta.call('setAttributes', { inode: file, mode: 0 }));
    await berta.call('lock', { inode: file, family: 'flock', owner: 'o', pid: 1, kind: 'read', start: 0, length: 0 });
  });
  it('that are taken away end at once, with the permits given by them', async () => {
    const { token } = user('berta');
    grant('berta', 'main', 'write');
    const berta = await rig.client(token, 'main');
    const home = await rig.client(token);
    const file = await berta.create(berta.root, 'f');
    expect(grant('berta', 'main', 'read')).toBe('write');
    expect(berta.connection?.isOpen).toBe(false);
    expect((await berta.connect()).resumed).toBe(true);
    await fails('EROFS', berta.call('truncate', { inode: file, sizeBytes: 0 }));
    grant('berta', 'main', undefined);
    await fails('FORBIDDEN', berta.connect());
    await home.connect();
    await home.create(home.root, 'mine');
    expect((rig.coordinator.keeper as unknown as { revoked: string[] }).revoked).toEqual(['grant-2', 'grant-3']);
  });
  it('are asked for again when a change that waited is applied', async () => {
    const { token } = user('berta');
    grant('berta', 'main', 'write');
    const berta = await rig.client(token, 'main');
    const file = await berta.create(berta.root, 'f');
    // The chunk is being removed: the commit waits for that, and meanwhile the right is gone.
    let goOn = (): void => {};
    const waits = new Promise<void>((resolve) => {
      goOn = resolve;
    });
    let isAsked = false;
    rig.coordinator.keeper.settle = () => {
      if (isAsked) return undefined;
      isAsked = true;
      return waits;
    };
    const late = write(berta, file, chunkOf(1), 10).catch(() => {});
    await environment.advance(1);
    grant('berta', 'main', 'read');
    goOn();
    await late;
    await environment.advance(10);
    expect(rig.coordinator.state.get('inodes', file)).toMatchObject({ sizeBytes: 0 });
    expect(rig.coordinator.state.get('chunks', chunkOf(1))).toBeUndefined();
  });
  it('in a volume that is deleted are gone with it', () => {
    user('berta');
    const { users, volumes, state } = rig.coordinator;
    inTransaction((tx) => {
      volumes.remove(tx, volumes.get('berta'), undefined);
      users.forgetVolume(tx, 2);
    });
    expect(state.get('users', 'berta')).toMatchObject({ home: null, access: {} });
  });
});

describe('the quota of a user', () => {
  it('counts what the user made, wherever it is and whoever writes to it', async () => {
    const { token } = user('anna', { quotaBytes: 100, quotaFiles: 3 });
    grant('anna', 'main', 'write');
    const home = await rig.client(token);
    const shared = await rig.client(token, 'main');
    const admin = await rig.client();
    const own = await home.create(home.root, 'own');
    await write(home, own, chunkOf(1), 60);
    const other = await shared.create(shared.root, 'other');
    await fails('EDQUOT', write(shared, other, chunkOf(2), 41));
    await fails('EDQUOT', write(admin, other, chunkOf(2), 41));
    await write(shared, other, chunkOf(2), 40);
    expect(await home.call('statVolume', {})).toMatchObject({ totalBytes: 100, freeBytes: 0, filesFree: 1 });
    const foreign = await admin.create(admin.root, 'foreign');
    await write(shared, foreign, chunkOf(3), 500);
    await home.create(home.root, 'third');
    await fails('EDQUOT', home.create(home.root, 'fourth'));
    await fails('EDQUOT', shared.mkdir(shared.root, 'fourth'));
    await home.call('unlink', { parent: home.root, name: 'third', keepOpen: false });
    await shared.mkdir(shared.root, 'fourth');
  });
  it('and of a volume count files that are deleted but open, and are right after a crash', async () => {
    const { token, home } = user('anna', { quotaBytes: 100 });
    const anna = await rig.client(token);
    const file = await anna.create(anna.root, 'f');
    await write(anna, file, chunkOf(1), 80);
    await anna.call('unlink', { parent: anna.root, name: 'f', keepOpen: true });
    const next = await anna.create(anna.root, 'g');
    await fails('EDQUOT', write(anna, next, chunkOf(2), 80));
    const used = () => ({
      ...rig.coordinator.state.index.ofUser(1),
      volume: rig.coordinator.state.index.ofVolume(home.volume).chargedBytes,
    });
    expect(used()).toEqual({ bytes: 80, files: 2, volume: 80 });
    rig.crash();
    await rig.start();
    expect(used()).toEqual({ bytes: 80, files: 2, volume: 80 });
    await anna.connect();
    // Changes wait until nobody can serve caches of before the restart.
    const released = anna.call('releaseOrphans', { inodes: [file] });
    await environment.advance(2_000);
    await released;
    expect(used()).toEqual({ bytes: 0, files: 1, volume: 0 });
    await write(anna, next, chunkOf(2), 80);
  });
});
