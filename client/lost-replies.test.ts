import { beforeEach, describe, expect, it } from 'vitest';
import type { CallFrame } from '../protocol/call.js';
import type { InodeAttributes, NodeContact, VolumeSettings } from '../protocol/entities.js';
import { HoldfastError } from '../protocol/errors.js';
import { FakeEnvironment, settle } from '../test/fake-environment.js';
import { TestCoordinator } from '../test/session-rig.js';
import type { LockRequest } from './api.js';
import { ConnectedCluster } from './cluster.js';

const as = { uid: 0, gid: 0 };
const INODE = 7;
const volume: VolumeSettings = {
  volume: 1,
  name: 'main',
  root: 1,
  copies: 1,
  chunkSizeBytes: 65_536,
  quotaBytes: null,
  quotaFiles: null,
  encryption: null,
  trashKeepMs: 0,
};
const nodes: NodeContact[] = [
  { node: 1, name: 'n1', url: 'http://n1', state: 'up', writable: true, zone: '', capacityBytes: 1e12, freeBytes: 1e12 },
];

function attributesOf(inode: number, changed: Partial<InodeAttributes> = {}): InodeAttributes {
  return {
    ...{ inode, volume: 1, kind: inode === 1 ? 'directory' : 'file', mode: 0o755, uid: 0, gid: 0, sizeBytes: 0, allocatedBytes: 0 },
    ...{ nlink: 1, rdev: 0, atimeS: 0, atimeNs: 0, mtimeS: 0, mtimeNs: 0, ctimeS: 0, ctimeNs: 0 },
    ...{ change: 1, dataVersion: 1, hasXattrs: false },
    ...changed,
  };
}

let environment: FakeEnvironment;
let coordinator: TestCoordinator;
let client: ConnectedCluster;
/** How the node takes chunks; by itself it has room for all. */
let put: (bytes: number) => Promise<string | HoldfastError>;
const sent = (...methods: string[]): CallFrame[] => coordinator.frames.filter((frame) => methods.includes(frame.method));

beforeEach(async () => {
  environment = new FakeEnvironment(5);
  coordinator = new TestCoordinator(environment);
  coordinator.welcome = { volume, nodes };
  put = (bytes) => Promise.resolve(`receipt ${bytes}`);
  const peer = () => ({
    node: 1,
    put: (chunks: readonly { readonly parts: readonly Buffer[] }[]) =>
      Promise.all(chunks.map(({ parts }) => put(parts.reduce((sum, part) => sum + part.length, 0)))),
    get: () => Promise.reject(new HoldfastError('CHUNK_MISSING', 'not here')),
    sync: () => Promise.resolve({ missing: [] }),
  });
  const options = { coordinatorUrl: 'http://test', token: 't', description: 'd', outageTimeoutMs: 5000, dirtyBudgetBytes: 150_000 };
  client = await ConnectedCluster.connect(options, environment, coordinator, peer);
});

/** The connection ends and a new one is made. */
async function reconnect(): Promise<void> {
  coordinator.connection!.close('cut');
  const hellos = sent('hello').length;
  await environment.until(() => sent('hello').length > hellos);
  await settle(20);
}

describe('a commit whose reply never came', () => {
  const answers = (frame: CallFrame): Promise<unknown> | undefined => {
    if (frame.method === 'getAttributes') return Promise.resolve({ attributes: attributesOf(INODE) });
    if (frame.method === 'commit') return Promise.resolve({ attributes: attributesOf(INODE, { sizeBytes: 5, change: 2 }), shiftedBy: 0 });
    return Promise.resolve({});
  };

  it('is asked again as it was, before anything newer, so that appended bytes are there once', async () => {
    coordinator.handler = (frame) => (frame.method === 'commit' ? undefined : answers(frame));
    const file = await client.open(INODE);
    await file.write(0, Buffer.from('first'), { append: true });
    let failure: unknown;
    file.flush().catch((error: unknown) => {
      failure = error;
    });
    await environment.until(() => failure !== undefined);
    expect(failure).toBeInstanceOf(HoldfastError);
    await file.write(0, Buffer.from('second'), { append: true });
    coordinator.handler = answers;
    let isFlushed = false;
    void file.flush().then(() => {
      isFlushed = true;
    });
    await environment.until(() => isFlushed);
    const commits = sent('commit');
    const [first] = commits;
    const repeated = commits.filter((frame) => frame.request === first!.request);
    const newer = commits.filter((frame) => frame.request !== first!.request);
    expect(repeated.length).toBeGreaterThan(1);
    for (const frame of repeated) expect(frame.args).toEqual(first!.args);
    expect(newer).toHaveLength(1);
    expect(commits.at(-1)).toBe(newer[0]);
    expect(newer[0]!.args).toMatchObject({ appendBase: 5, extents: [{ offset: 5, length: 6 }] });
    expect(newer[0]!.answeredBelow).toBe(newer[0]!.request);
    await file.release();
  });

  it('is asked again though nobody flushes', async () => {
    coordinator.handler = (frame) => (frame.method === 'commit' ? undefined : answers(frame));
    const file = await client.open(INODE);
    await file.write(0, Buffer.from('first'));
    const failed = file.flush().then(
      () => false,
      () => true,
    );
    let isFailed: boolean | undefined;
    void failed.then((value) => {
      isFailed = value;
    });
    await environment.until(() => isFailed !== undefined);
    expect(isFailed).toBe(true);
    let answered = 0;
    coordinator.handler = (frame) => {
      if (frame.method === 'commit') answered++;
      return answers(frame);
    };
    await environment.until(() => answered > 0);
    await settle(20);
    expect(new Set(sent('commit').map((frame) => frame.request)).size).toBe(1);
    expect((await client.flushAll({ durable: false })).failed).toEqual([]);
    expect(answered).toBe(1);
    await file.release();
  });
});

describe('bytes that were given up', () => {
  /** A chunk is on its way when what follows it does not fit, so closing the file gives both up. */
  async function giveUp(isOnItsWay: () => boolean): Promise<void> {
    const file = await client.open(INODE);
    await file.write(0, Buffer.alloc(volume.chunkSizeBytes, 'a'));
    file.flush().catch(() => {});
    await environment.until(isOnItsWay);
    await file.write(volume.chunkSizeBytes, Buffer.from('does not fit'));
    await expect(file.flush()).rejects.toMatchObject({ code: 'ENOSPC' });
    await file.release();
    await settle(20);
  }

  it('are not committed afterwards, when their chunks have been uploaded again', async () => {
    coordinator.handler = (frame) => {
      if (frame.method === 'getAttributes') return Promise.resolve({ attributes: attributesOf(INODE) });
      if (frame.method === 'commit') return Promise.reject(new HoldfastError('UPLOAD_AGAIN', 'not there any more'));
      return Promise.resolve({});
    };
    let uploadedAgain: ((receipt: string) => void) | undefined;
    put = (bytes) => {
      if (bytes < volume.chunkSizeBytes) return Promise.resolve(new HoldfastError('ENOSPC', 'full'));
      if (sent('commit').length === 0) return Promise.resolve('receipt');
      return new Promise((resolve) => {
        uploadedAgain = resolve;
      });
    };
    await giveUp(() => uploadedAgain !== undefined);
    uploadedAgain!('receipt');
    await settle(20);
    expect((await client.flushAll({ durable: false })).failed).toEqual([]);
    expect(sent('commit')).toHaveLength(1);
  });

  it('are applied before what is written to the file next, when their commit was on its way', async () => {
    let answer: (() => void) | undefined;
    coordinator.handler = (frame) => {
      if (frame.method === 'getAttributes') return Promise.resolve({ attributes: attributesOf(INODE) });
      if (frame.method !== 'commit') return Promise.resolve({});
      return new Promise((resolve) => {
        answer = () => resolve({ attributes: attributesOf(INODE), shiftedBy: 0 });
      });
    };
    put = (bytes) => Promise.resolve(bytes < volume.chunkSizeBytes ? new HoldfastError('ENOSPC', 'full') : 'receipt');
    await giveUp(() => answer !== undefined);
    const next = await client.open(INODE);
    await next.write(0, Buffer.alloc(volume.chunkSizeBytes, 'b'));
    const flushed = next.flush();
    await settle(20);
    expect(sent('commit')).toHaveLength(1);
    answer!();
    await environment.until(() => sent('commit').length === 2);
    answer!();
    await flushed;
  });
});

describe('bytes that cannot be saved', () => {
  const FULL = 8;
  const large = Buffer.alloc(volume.chunkSizeBytes * 3);

  it('do not keep writers of other files waiting for ever, and are tried again while those need the room', async () => {
    let [isFull, isSaved] = [true, false];
    coordinator.handler = (frame) => {
      const { inode } = (frame.args ?? {}) as { inode?: number };
      if (frame.method === 'getAttributes') return Promise.resolve({ attributes: attributesOf(inode ?? INODE) });
      if (frame.method !== 'commit') return Promise.resolve({});
      if (inode === FULL && isFull) return Promise.reject(new HoldfastError('ENOSPC', 'full'));
      if (inode === FULL) isSaved = true;
      return Promise.resolve({ attributes: attributesOf(inode ?? INODE, { change: 2, sizeBytes: large.length }), shiftedBy: 0 });
    };
    const full = await client.open(FULL);
    await expect(full.write(0, large)).rejects.toMatchObject({ code: 'ENOSPC' });
    const other = await client.open(INODE);
    let written = 0;
    void (async () => {
      for (; written < 3; written++) await other.write(written * 5000, Buffer.from('some more'));
    })();
    await environment.until(() => written === 3);
    expect(isSaved).toBe(false);
    isFull = false;
    await environment.until(() => isSaved);
  });
});

describe('two names of one file that are exchanged', () => {
  it('are both still there', async () => {
    let change = 1;
    const moved = attributesOf(INODE, { nlink: 2 });
    coordinator.handler = (frame) => {
      const root = attributesOf(1, { change: change++ });
      if (frame.method === 'rename') return Promise.resolve({ from: root, to: root, moved, replaced: null });
      // The name it goes to was absent when this client looked.
      return Promise.resolve({ parent: root, attributes: (frame.args as { name: string }).name === 'a' ? moved : null });
    };
    expect((await client.tree.lookup(1, 'a'))?.inode).toBe(INODE);
    expect(await client.tree.lookup(1, 'b')).toBeNull();
    await client.tree.rename({ parent: 1, name: 'a' }, { parent: 1, name: 'b' }, 'exchange', as);
    expect((await client.tree.lookup(1, 'a'))?.inode).toBe(INODE);
    expect((await client.tree.lookup(1, 'b'))?.inode).toBe(INODE);
  });
});

describe('locks that the coordinator may remember differently', () => {
  const flock = (kind: LockRequest['kind']): LockRequest => ({ family: 'flock', owner: 'me', pid: 3, kind, start: 0, length: 0 });
  const told = (): unknown[] => sent('lock', 'dropLocks').map(({ method, args }) => ({ method, ...(args as object) }));

  it('are let go again when its power failure undid the unlock', async () => {
    await client.locks.lock(INODE, flock('write'), { wait: false });
    await client.locks.lock(INODE, flock('unlock'), { wait: false });
    const before = told().length;
    await reconnect();
    expect(told()).toHaveLength(before);
    coordinator.welcome = { ...coordinator.welcome, lastRequest: 1 };
    await reconnect();
    expect(told().slice(before)).toEqual([{ method: 'dropLocks', inode: INODE, family: 'flock', owner: 'me' }]);
  });

  it('are taken again when its power failure undid the lock', async () => {
    await client.locks.lock(INODE, { ...flock('write'), family: 'posix', start: 10, length: 5 }, { wait: false });
    const before = told().length;
    coordinator.welcome = { ...coordinator.welcome, lastRequest: 0 };
    await reconnect();
    const range = { method: 'lock', inode: INODE, family: 'posix', owner: 'me', pid: 3 };
    expect(told().slice(before)).toEqual([
      { ...range, kind: 'unlock', start: 0, length: 10 },
      { ...range, kind: 'write', start: 10, length: 5 },
      { ...range, kind: 'unlock', start: 15, length: 0 },
    ]);
  });

  it('are let go again when the reply to the unlock never came', async () => {
    await client.locks.lock(INODE, flock('write'), { wait: false });
    coordinator.handler = () => undefined;
    let isOver = false;
    client.locks.drop(INODE, 'flock', 'me').catch(() => {
      isOver = true;
    });
    await environment.until(() => isOver);
    coordinator.handler = () => Promise.resolve({});
    const before = told().length;
    await reconnect();
    expect(told().slice(before)).toEqual([{ method: 'dropLocks', inode: INODE, family: 'flock', owner: 'me' }]);
    await reconnect();
    expect(told()).toHaveLength(before + 1);
  });
});
