import { beforeEach, describe, expect, it } from 'vitest';
import type { CallFrame } from '../protocol/call.js';
import type { InodeId } from '../protocol/entities.js';
import type { HoldfastError } from '../protocol/errors.js';
import { LEASE_MS } from '../protocol/limits.js';
import { FakeEnvironment, settle } from '../test/fake-environment.js';
import { TestCoordinator } from '../test/session-rig.js';
import { AskedChange, type RecalledInode, Session } from './session.js';

let environment: FakeEnvironment;
let coordinator: TestCoordinator;
let events: string[];
let holding: InodeId[];
let session: Session;
const removeDirectory = { parent: 1, name: 'x' };

beforeEach(async () => {
  environment = new FakeEnvironment(3);
  coordinator = new TestCoordinator(environment);
  events = [];
  holding = [];
  session = new Session({ token: 't', description: 'd', outageTimeoutMs: 30_000 }, environment, coordinator, {
    recalled: (inodes: readonly RecalledInode[]) => {
      events.push(`recall ${inodes.map((one) => one.inode).join()}`);
      return holding;
    },
    forget: () => events.push('forget'),
    lost: () => events.push('lost'),
    nodesChanged: () => {},
    unlocked: (inodes) => events.push(`unlocked ${inodes.join()}`),
    volumeChanged: () => {},
    connection: (isConnected) => events.push(isConnected ? 'up' : 'down'),
  });
  await session.start(1000);
});

const outcomeOf = (promise: Promise<unknown>): { value?: unknown; error?: HoldfastError; isDone: boolean } => {
  const outcome: { value?: unknown; error?: HoldfastError; isDone: boolean } = { isDone: false };
  promise.then(
    (value) => Object.assign(outcome, { value, isDone: true }),
    (error: HoldfastError) => Object.assign(outcome, { error, isDone: true }),
  );
  return outcome;
};
const sent = (method: string): CallFrame[] => coordinator.frames.filter((frame) => frame.method === method);

describe('a change whose reply was lost with the connection', () => {
  it('is sent again with the same number on the next connection', async () => {
    coordinator.handler = () => undefined;
    const outcome = outcomeOf(session.call('removeDirectory', removeDirectory));
    await settle();
    coordinator.handler = () => Promise.resolve({ parent: 'done' });
    coordinator.connection!.close('cut');
    await environment.until(() => outcome.isDone);
    expect(outcome.value).toEqual({ parent: 'done' });
    const numbers = sent('removeDirectory').map((frame) => frame.request);
    expect(numbers).toHaveLength(2);
    expect(numbers[0]).toBe(numbers[1]);
    expect(new Set(coordinator.secrets).size).toBe(1);
  });

  it('keeps its number beyond the outage deadline when it may be asked again', async () => {
    const asked = new AskedChange();
    coordinator.handler = (frame) => (frame.method === 'sync' ? Promise.resolve({}) : undefined);
    const first = outcomeOf(session.call('removeDirectory', removeDirectory, { asked }));
    await environment.until(() => first.isDone);
    expect(first.error?.code).toBe('DEADLINE');
    const { request } = asked;
    expect(request).toBeGreaterThan(0);
    coordinator.handler = () => Promise.resolve({ parent: 'done' });
    // Other changes do not tell the coordinator that the reply is not needed.
    await session.call('unlink', { parent: 1, name: 'y', keepOpen: false, as: { uid: 0, gid: 0 } });
    expect(sent('unlink')[0]!.answeredBelow).toBe(request);
    expect(await session.call('removeDirectory', removeDirectory, { asked })).toEqual({ parent: 'done' });
    expect(new Set(sent('removeDirectory').map((frame) => frame.request))).toEqual(new Set([request]));
    expect(asked.request).toBeUndefined();
    await session.call('removeDirectory', removeDirectory, { asked });
    expect(sent('removeDirectory').at(-1)!.request).toBeGreaterThan(request!);
  });

  it('fails with SESSION_LOST when the coordinator has forgotten the session, and is not sent again', async () => {
    coordinator.handler = () => undefined;
    const outcome = outcomeOf(session.call('removeDirectory', removeDirectory));
    await settle();
    coordinator.resumes = false;
    coordinator.connection!.close('cut');
    await environment.until(() => outcome.isDone);
    expect(outcome.error?.code).toBe('SESSION_LOST');
    expect(sent('removeDirectory')).toHaveLength(1);
    expect(events).toContain('lost');
    expect(new Set(coordinator.secrets).size).toBe(2);
    coordinator.handler = () => Promise.resolve({ parent: 'new session' });
    const next = outcomeOf(session.call('removeDirectory', removeDirectory));
    await environment.until(() => next.isDone);
    expect(next.value).toEqual({ parent: 'new session' });
    expect(sent('removeDirectory')[1]?.request).toBe(1);
  });
});

describe('a coordinator that lost acknowledged changes with its power', () => {
  it('is not sent what builds on them, neither what waited for its answer nor anything later', async () => {
    for (let count = 0; count < 2; count++) await session.call('removeDirectory', removeDirectory);
    const kept = session.mark();
    await session.call('removeDirectory', removeDirectory);
    const mark = session.mark();
    coordinator.handler = () => undefined;
    const waiting = outcomeOf(session.call('removeDirectory', removeDirectory, { buildsOn: mark }));
    await settle();
    expect(sent('removeDirectory')).toHaveLength(4);
    coordinator.handler = () => Promise.resolve({ parent: 'done' });
    coordinator.welcome = { lastRequest: 2 };
    coordinator.connection!.close('power');
    await environment.until(() => waiting.isDone);
    expect(waiting.error?.errno).toBe('EIO');
    const later = outcomeOf(session.call('removeDirectory', removeDirectory, { buildsOn: mark }));
    await environment.until(() => later.isDone);
    expect(later.error?.errno).toBe('EIO');
    expect(sent('removeDirectory')).toHaveLength(4);
    expect([session.isLost(mark), session.isLost(kept), session.isLost(session.mark())]).toEqual([true, false, false]);
    expect(await session.call('removeDirectory', removeDirectory, { buildsOn: kept })).toEqual({ parent: 'done' });
    const [last] = sent('removeDirectory').slice(-1);
    expect(last).toMatchObject({ answeredBelow: last?.request });
  });

  it('but kept all we know of is sent again what waited', async () => {
    await session.call('removeDirectory', removeDirectory);
    coordinator.handler = () => undefined;
    const waiting = outcomeOf(session.call('removeDirectory', removeDirectory, { buildsOn: session.mark() }));
    await settle();
    coordinator.handler = () => Promise.resolve({ parent: 'done' });
    coordinator.welcome = { lastRequest: 1 };
    coordinator.connection!.close('cut');
    await environment.until(() => waiting.isDone);
    expect(waiting.value).toEqual({ parent: 'done' });
  });
});

describe('request numbers', () => {
  it('tell below which number everything is answered', async () => {
    const pending: ((value: unknown) => void)[] = [];
    coordinator.handler = () => new Promise((resolve) => pending.push(resolve));
    const calls = [1, 2, 3].map(() => outcomeOf(session.call('removeDirectory', removeDirectory)));
    await settle();
    pending[1]!({});
    pending[2]!({});
    await settle();
    expect(calls.map((call) => call.isDone)).toEqual([false, true, true]);
    outcomeOf(session.call('removeDirectory', removeDirectory));
    await settle();
    const frames = sent('removeDirectory');
    expect(frames.map((frame) => frame.request)).toEqual([1, 2, 3, 4]);
    expect(frames[3]?.answeredBelow).toBe(1);
    pending[0]!({});
    pending[3]!({});
    await settle();
    outcomeOf(session.call('removeDirectory', removeDirectory));
    await settle();
    expect(sent('removeDirectory')[4]).toMatchObject({ request: 5, answeredBelow: 5 });
  });
});

describe('an absent coordinator', () => {
  it('is waited for, then is an EIO', async () => {
    coordinator.isUp = false;
    coordinator.connection!.close('gone');
    const startedMs = environment.monotonicMs();
    const outcome = outcomeOf(session.call('getAttributes', { inode: 1 }));
    await environment.until(() => outcome.isDone);
    expect(outcome.error?.errno).toBe('EIO');
    expect(environment.monotonicMs() - startedMs).toBeGreaterThanOrEqual(30_000);
    expect(environment.monotonicMs() - startedMs).toBeLessThan(32_000);
  });

  it('that comes back within the deadline makes calls succeed', async () => {
    coordinator.isUp = false;
    coordinator.connection!.close('gone');
    const outcome = outcomeOf(session.call('getAttributes', { inode: 1 }));
    await environment.advance(20_000);
    expect(outcome.isDone).toBe(false);
    coordinator.isUp = true;
    await environment.until(() => outcome.isDone);
    expect(outcome.error).toBeUndefined();
  });

  it('that hangs without closing is dropped and dialled again', async () => {
    coordinator.answerRenewals = false;
    coordinator.handler = () => undefined;
    const hung = coordinator.connection;
    const outcome = outcomeOf(session.call('getAttributes', { inode: 1 }));
    await environment.until(() => coordinator.connection !== hung, 15_000);
    coordinator.answerRenewals = true;
    coordinator.handler = () => Promise.resolve({ attributes: 'fresh' });
    coordinator.connection!.close('cut');
    await environment.until(() => outcome.isDone);
    expect(outcome.value).toEqual({ attributes: 'fresh' });
  });
});

describe('the lease', () => {
  it('holds while renewals are answered, counted from when they were sent', async () => {
    await environment.advance(10_000);
    expect(session.isLeaseValid).toBe(true);
    coordinator.answerRenewals = false;
    await environment.advance(LEASE_MS + 1);
    expect(session.isLeaseValid).toBe(false);
  });

  it('ends with the connection, and everything cached is forgotten', async () => {
    events.length = 0;
    coordinator.isUp = false;
    coordinator.connection!.close('cut');
    expect(session.isLeaseValid).toBe(false);
    expect(events).toContain('forget');
  });

  it('that had lapsed comes back without what was cached', async () => {
    coordinator.answerRenewals = false;
    await environment.advance(LEASE_MS + 10);
    events.length = 0;
    coordinator.answerRenewals = true;
    await environment.advance(1000);
    expect(session.isLeaseValid).toBe(true);
    expect(events).toContain('forget');
  });
});

describe('what the coordinator asks', () => {
  it('is answered: recalls with what is held open', async () => {
    holding = [7];
    const answer = await coordinator.connection!.onCall!({ method: 'recall', args: { inodes: [{ inode: 7, isUnlinked: true }] } });
    expect(answer).toEqual({ holding: [7] });
    expect(events).toContain('recall 7');
    await expect(coordinator.connection!.onCall!({ method: 'recall', args: { inodes: 'x' } })).rejects.toMatchObject({
      code: 'BAD_MESSAGE',
    });
    await expect(coordinator.connection!.onCall!({ method: 'else', args: {} })).rejects.toMatchObject({ code: 'BAD_MESSAGE' });
  });
});
