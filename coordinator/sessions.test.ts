import { beforeEach, describe, expect, it } from 'vitest';
import { LEASE_MS, LEASE_RENEW_INTERVAL_MS } from '../protocol/limits.js';
import { CoordinatorRig, type RigClient, ROOT_USER } from '../test/coordinator-rig.js';
import { FakeEnvironment, settle } from '../test/fake-environment.js';

let environment: FakeEnvironment;
let rig: CoordinatorRig;
let a: RigClient;
let b: RigClient;
let root: number;

beforeEach(async () => {
  environment = new FakeEnvironment();
  rig = await new CoordinatorRig(environment, { sessionTimeoutMs: 60_000 }).start();
  a = await rig.client();
  b = await rig.client();
  root = a.root;
});

/** Whether a promise has settled by now. */
async function isSettled(promise: Promise<unknown>): Promise<boolean> {
  let settled = false;
  promise.then(
    () => (settled = true),
    () => (settled = true),
  );
  await settle();
  return settled;
}
const create = (name: string) => ({ parent: root, name, kind: 'file', mode: 0o644, as: ROOT_USER, exclusive: true }) as const;
const restart = async (kind: 'process' | 'power' = 'process'): Promise<void> => {
  rig.crash(kind);
  await rig.start();
};

describe('a repeated request', () => {
  it('is applied once and answered the same way', async () => {
    const first = await a.call('create', create('x'), 7);
    expect(await a.call('create', create('x'), 7)).toEqual(first);
    expect(await a.names(root)).toEqual(['x']);
    const { attributes } = await b.call('setAttributes', { inode: first.attributes.inode, mode: 0 });
    // What it says of the inode is true now: the client caches it.
    expect(await a.call('create', create('x'), 7)).toEqual({ ...first, attributes });
    await b.call('setAttributes', { inode: first.attributes.inode, mode: 1 });
    expect(a.recalls.length).toBe(2);
  });
  it('joins the first while that is still in progress', async () => {
    await b.call('readDirectory', { inode: root, after: '', limit: 10 });
    let open = (): void => {};
    b.gate = new Promise((resolve) => {
      open = resolve;
    });
    const first = a.call('create', create('x'), 1);
    const second = a.call('create', create('x'), 1);
    expect(await isSettled(second)).toBe(false);
    open();
    expect(await second).toEqual(await first);
  });
  it('is answered the same way after the coordinator died in between', async () => {
    const first = await a.call('unlink', { parent: root, name: (await a.create(root, 'x')) ? 'x' : '', keepOpen: false }, 20);
    await restart();
    await environment.advance(LEASE_MS);
    expect((await a.connect()).resumed).toBe(true);
    expect(await a.call('unlink', { parent: root, name: 'x', keepOpen: false }, 20)).toEqual(first);
  });
  it('is not answered after a restart before caches of before are void: its recall may have died unanswered', async () => {
    await b.call('lookup', { parent: root, name: 'x' });
    b.gate = new Promise(() => {});
    expect(await isSettled(a.call('create', create('x'), 1))).toBe(false);
    await restart();
    await a.connect();
    const again = a.call('create', create('x'), 1);
    expect(await isSettled(again)).toBe(false);
    await b.connect();
    expect((await again).parent.inode).toBe(root);
  });
  it('that failed before may succeed now, as it was never applied', async () => {
    await expect(a.call('unlink', { parent: root, name: 'x', keepOpen: false }, 1)).rejects.toMatchObject({ code: 'ENOENT' });
    await a.call('create', create('x'), 2);
    await a.call('unlink', { parent: root, name: 'x', keepOpen: false }, 1);
  });
  it('of an answer that was received is refused', async () => {
    for (let i = 0; i < 60; i++) await a.create(root, `f${i}`);
    await expect(a.call('create', create('late'), 1)).rejects.toMatchObject({ code: 'BAD_MESSAGE' });
    expect(rig.coordinator.state.table('replies').size).toBeLessThan(60);
  });
});

describe('a session', () => {
  it('ends some time after its connection, with its locks, orphans and replies', async () => {
    const inode = await a.create(root, 'x');
    await a.call('lock', { inode, family: 'flock', owner: '1', pid: 1, kind: 'write', start: 0, length: 0 });
    await a.call('unlink', { parent: root, name: 'x', keepOpen: true });
    a.disconnect();
    await environment.advance(59_000);
    expect(rig.coordinator.state.get('inodes', inode)).toBeDefined();
    expect((await a.connect()).resumed).toBe(true);
    a.holding = [inode];
    a.disconnect();
    await environment.advance(61_000);
    const { state } = rig.coordinator;
    expect(state.get('inodes', inode)).toBeUndefined();
    expect([state.table('locks').size, state.table('sessions').size]).toEqual([0, 1]);
    expect(state.table('replies').of(a.welcome.client).size).toBe(0);
    expect((await a.connect()).resumed).toBe(false);
  });
  it('that was forgotten is told so when it goes on with old numbers', async () => {
    await a.create(root, 'x');
    a.disconnect();
    await environment.advance(61_000);
    await a.connect();
    await expect(a.call('create', create('y'), 80)).rejects.toMatchObject({ code: 'SESSION_LOST' });
  });
  it('survives a restart of the coordinator, but not for ever', async () => {
    await restart();
    expect((await a.connect()).resumed).toBe(true);
    await environment.advance(61_000);
    expect((await b.connect()).resumed).toBe(false);
    expect(a.connection?.isOpen).toBe(true);
  });
  it('is bound to its secret: another token or secret is another session', async () => {
    await expect(rig.client('wrong')).rejects.toMatchObject({ code: 'UNAUTHORIZED' });
    const other = await rig.client();
    expect(other.welcome.client).not.toBe(a.welcome.client);
  });
  it('moves to the newest connection of its client', async () => {
    const old = a.connection;
    await a.connect();
    await settle();
    expect(old?.isOpen).toBe(false);
    await a.create(root, 'x');
  });
  it('answers nothing before hello, and nothing malformed', async () => {
    await expect(a.call('create', { ...create('x'), mode: 0o10000 })).rejects.toMatchObject({ code: 'BAD_MESSAGE' });
    await expect(a.connection!.call({ method: '__proto__', args: {} }, 1000)).rejects.toMatchObject({ code: 'BAD_MESSAGE' });
    await expect(a.connection!.call({ method: 'create', args: create('x') }, 1000)).rejects.toMatchObject({ code: 'BAD_MESSAGE' });
  });
});

describe('a change', () => {
  it('is acknowledged only when others have dropped what they cached', async () => {
    await b.call('lookup', { parent: root, name: 'x' });
    let open = (): void => {};
    b.gate = new Promise((resolve) => {
      open = resolve;
    });
    const made = a.call('create', create('x'));
    expect(await isSettled(made)).toBe(false);
    expect(b.recalls).toEqual([[{ inode: root, names: ['x'] }]]);
    open();
    await made;
    await a.create(root, 'y');
    expect(b.recalls.length).toBe(1);
  });
  it('by whoever cached it alone tells nobody', async () => {
    const inode = await a.create(root, 'x');
    await a.call('setAttributes', { inode, mode: 0o600 });
    expect([a.recalls.length, b.recalls.length]).toEqual([0, 0]);
  });
  it('waits for a recall that an earlier change has sent', async () => {
    const inode = await a.create(root, 'x');
    await b.call('getAttributes', { inode });
    let open = (): void => {};
    b.gate = new Promise((resolve) => {
      open = resolve;
    });
    const first = a.call('setAttributes', { inode, mode: 1 });
    const second = a.call('setAttributes', { inode, mode: 2 });
    expect(await isSettled(second)).toBe(false);
    expect(b.recalls.length).toBe(1);
    open();
    await Promise.all([first, second]);
  });
  it('does not lose interest that a reader registered while its recall was under way', async () => {
    const inode = await a.create(root, 'x');
    await b.call('getAttributes', { inode });
    let open = (): void => {};
    b.gate = new Promise((resolve) => {
      open = resolve;
    });
    const first = a.call('setAttributes', { inode, mode: 1 });
    await settle();
    expect((await b.call('getAttributes', { inode })).attributes.mode).toBe(1);
    open();
    await first;
    await a.call('setAttributes', { inode, mode: 2 });
    expect(b.recalls.length).toBe(2);
  });
  it('waits for a silent client until its lease is over, and no renewal prolongs that', async () => {
    await b.call('lookup', { parent: root, name: 'x' });
    await environment.advance(LEASE_RENEW_INTERVAL_MS);
    await b.call('renew', {});
    b.gate = new Promise(() => {});
    const made = a.call('create', create('x'));
    await environment.advance(LEASE_RENEW_INTERVAL_MS);
    const renewal = b.call('renew', {});
    renewal.catch(() => {});
    await environment.advance(LEASE_MS - LEASE_RENEW_INTERVAL_MS - 10);
    expect(await isSettled(made)).toBe(false);
    expect(await isSettled(renewal)).toBe(false);
    await environment.advance(200);
    expect(await isSettled(made)).toBe(true);
  });
  it('waits for a client that lost its connection until its lease is over', async () => {
    await b.call('lookup', { parent: root, name: 'x' });
    b.disconnect();
    await settle();
    const made = a.call('create', create('x'));
    await environment.advance(LEASE_MS - 50);
    expect(await isSettled(made)).toBe(false);
    await environment.advance(300);
    await made;
  });
  it('waits after a restart until caches of before are void', async () => {
    await restart();
    await a.connect();
    const made = a.call('create', create('x'));
    await environment.advance(LEASE_MS - 100);
    expect(await isSettled(made)).toBe(false);
    await environment.advance(200);
    await made;
  });
  it('waits after a restart no longer than until everybody of before is back, who dropped their caches first', async () => {
    await b.call('lookup', { parent: root, name: 'x' });
    await restart();
    await a.connect();
    const made = a.call('create', create('x'));
    expect(await isSettled(made)).toBe(false);
    await b.connect();
    expect(await isSettled(made)).toBe(true);
  });
  it('knows after a loss of power, too, whose caches it must wait for', async () => {
    const late = await rig.client();
    await late.call('lookup', { parent: root, name: 'x' });
    await restart('power');
    await a.connect();
    await b.connect();
    const made = a.call('create', create('x'));
    await environment.advance(LEASE_MS - 100);
    expect(await isSettled(made)).toBe(false);
    await environment.advance(200);
    await made;
  });
});

describe('a deleted file', () => {
  it('stays while another client holds it open, and goes when that one lets go', async () => {
    const inode = await a.create(root, 'x');
    await b.call('getAttributes', { inode });
    await a.call('setAttributes', { inode, mode: 0o600 });
    b.holding = [inode];
    await a.call('unlink', { parent: root, name: 'x', keepOpen: false });
    expect(b.recalls.at(-1)).toContainEqual(expect.objectContaining({ inode, isUnlinked: true }));
    expect((await b.call('getAttributes', { inode })).attributes.nlink).toBe(0);
    await b.call('releaseOrphans', { inodes: [inode] });
    await expect(b.call('getAttributes', { inode })).rejects.toMatchObject({ code: 'ESTALE' });
  });
  it('goes at once when those who knew it do not hold it', async () => {
    const inode = await a.create(root, 'x');
    await b.call('getAttributes', { inode });
    await a.call('unlink', { parent: root, name: 'x', keepOpen: false });
    await settle();
    expect(rig.coordinator.state.get('inodes', inode)).toBeUndefined();
  });
  it('stays for a client that held it before the coordinator restarted', async () => {
    const inode = await a.create(root, 'x');
    await b.call('getAttributes', { inode });
    await restart();
    await a.connect();
    b.holding = [inode];
    await b.connect();
    await environment.advance(LEASE_MS + 200);
    await a.call('unlink', { parent: root, name: 'x', keepOpen: false });
    await settle();
    expect((await b.call('getAttributes', { inode })).attributes.nlink).toBe(0);
  });
  it('stays for a client that is away, until that one is asked', async () => {
    const inode = await a.create(root, 'x');
    await b.call('getAttributes', { inode });
    b.disconnect();
    const gone = a.call('unlink', { parent: root, name: 'x', keepOpen: false });
    await environment.advance(3000);
    await gone;
    expect(rig.coordinator.state.get('orphans', inode)?.holders).toEqual([b.welcome.client]);
    await b.connect();
    await environment.advance(10);
    expect(rig.coordinator.state.get('inodes', inode)).toBeUndefined();
  });
  it('goes at once when the only one who had seen it has left', async () => {
    const inode = await a.create(root, 'x');
    await b.call('getAttributes', { inode });
    await b.call('leave', {});
    b.disconnect();
    await a.call('unlink', { parent: root, name: 'x', keepOpen: false });
    await settle();
    expect(rig.coordinator.state.get('inodes', inode)).toBeUndefined();
    expect([...rig.coordinator.state.table('sessions').all()].map(([client]) => client)).toEqual([a.welcome.client]);
  });
  it('goes, with the locks, when the one who held it leaves; nothing is done for that one afterwards', async () => {
    const inode = await a.create(root, 'x');
    await b.call('getAttributes', { inode });
    b.holding = [inode];
    await a.call('unlink', { parent: root, name: 'x', keepOpen: false });
    expect(rig.coordinator.state.get('inodes', inode)).toBeDefined();
    await b.call('leave', {});
    await environment.advance(10);
    expect(rig.coordinator.state.get('inodes', inode)).toBeUndefined();
    await expect(b.call('create', create('late'))).rejects.toMatchObject({ code: 'BAD_MESSAGE' });
  });
  it('that was replaced by a rename is kept like one that was unlinked', async () => {
    const inode = await a.create(root, 'x');
    await a.create(root, 'y');
    const reply = await a.rename(root, 'y', root, 'x', { keepReplacedOpen: true });
    expect(reply.replaced).toMatchObject({ inode, nlink: 0 });
    expect((await a.attributes(inode)).nlink).toBe(0);
    await a.call('releaseOrphans', { inodes: [inode] });
    expect(rig.coordinator.state.get('inodes', inode)).toBeUndefined();
  });
});

describe('without room for more metadata', () => {
  it('changes get ENOSPC, reads and deletes go on, and it ends by itself', async () => {
    await a.create(root, 'x');
    rig.journalStorage.isFull = true;
    await expect(a.create(root, 'y')).rejects.toMatchObject({ code: 'ENOSPC' });
    expect(await b.names(root)).toEqual(['x']);
    await a.call('unlink', { parent: root, name: 'x', keepOpen: false });
    rig.journalStorage.isFull = false;
    await a.create(root, 'y');
    rig.store.isFull = true;
    await environment.advance(5000);
    await expect(a.create(root, 'z')).rejects.toMatchObject({ code: 'ENOSPC' });
    rig.store.isFull = false;
    await environment.advance(5000);
    await a.create(root, 'z');
    expect(rig.fatal).toEqual([]);
  });
});

describe('clients made up by the thousand', () => {
  it('are refused beyond a number of sessions of one user, and taken again when some have ended', async () => {
    let refusal: unknown;
    while (refusal === undefined && rig.coordinator.sessions.connectedCount < 1100)
      await rig.client().catch((error: unknown) => {
        refusal = error;
      });
    expect(refusal).toMatchObject({ code: 'OVERLOADED' });
    expect(rig.coordinator.sessions.connectedCount).toBe(1000);
    // Whoever has a session goes on.
    a.disconnect();
    await a.connect();
    await a.call('leave', {});
    await expect(rig.client()).resolves.toBeDefined();
  });
});
