/**
 * Every event of the coordinator's three namespaces, from the tables of calls: shapes as they should be and mutated ones, by a user with rights to one
 * volume, by a node of no size, and by strangers. The answers of the coordinator are judged by findings.ts.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { adminCalls } from '../../protocol/admin-calls.js';
import type { CallFrame, CallTable, Connection } from '../../protocol/call.js';
import { clientCalls } from '../../protocol/client-calls.js';
import { HoldfastError, isCode } from '../../protocol/errors.js';
import { PROTOCOL_VERSION } from '../../protocol/limits.js';
import { nodeCalls } from '../../protocol/node-calls.js';
import { socketDialer } from '../../protocol/socket.js';
import { sha256 } from '../process-rig.js';
import type { Random } from '../simulation/random.js';
import type { Findings } from './findings.js';
import { hostileValue, mutated } from './mutations.js';
import { valueFor } from './schema-values.js';
import type { Knowledge } from './target.js';

/** Calls may wait for a recall, or until a quiet moment: longer than any of that. */
const ANSWER_TIMEOUT_MS = 45_000;
const DIAL_TIMEOUT_MS = 20_000;
const AS_IT_SHOULD_BE = 0.4;
/** Between two calls, so that the fuzzers do not simply take the processor. */
const PAUSE_MS = 1;
const CALLS_AT_ONCE = 32;

export interface FuzzRun {
  readonly findings: Findings;
  readonly knowledge: Knowledge;
  /** True when it is time to end. */
  readonly isOver: () => boolean;
}

const handshakeOf = (token: string, random: Random): Record<string, unknown> => ({
  ...{ protocol: PROTOCOL_VERSION, token, clientSecret: random.bytes(32).toString('hex'), description: 'fuzz' },
});

/** A connection that is opened again whenever it is over. */
async function withConnections(
  run: FuzzRun,
  lane: string,
  open: () => Promise<Connection>,
  use: (connection: Connection) => Promise<void>,
): Promise<void> {
  while (!run.isOver()) {
    let connection: Connection;
    try {
      connection = await open();
    } catch (error) {
      if (isCode(error, 'INTERNAL', 'DEADLINE') || !(error instanceof HoldfastError)) run.findings.error(lane, error, 'handshake');
      await delay(50);
      continue;
    }
    try {
      while (!run.isOver() && connection.isOpen) await use(connection);
      await Promise.race([Promise.all([...(awaitedBy.get(connection) ?? [])]), delay(ANSWER_TIMEOUT_MS)]);
    } finally {
      connection.close('fuzzed');
    }
  }
}

/** Sends one frame and judges the answer. @returns what came back, undefined for an error */
async function send(run: FuzzRun, lane: string, connection: Connection, frame: CallFrame): Promise<unknown> {
  const what = `${lane} ${frame.method}`;
  try {
    const value = await connection.call(frame, ANSWER_TIMEOUT_MS);
    run.findings.count(what, true);
    run.findings.value(lane, value, frame);
    run.knowledge.learn(value);
    return value;
  } catch (error) {
    run.findings.count(what, false);
    if (run.findings.error(lane, error, frame)) connection.close('over');
    return undefined;
  }
}

/** One call of a table, in shape or not. Does not wait for its answer while few are awaited: some take as long as a sync. */
async function next(
  run: FuzzRun,
  lane: string,
  connection: Connection,
  random: Random,
  table: CallTable,
  number: () => number,
): Promise<void> {
  const method = random.chance(0.98)
    ? random.pick(Object.keys(table))
    : random.pick(['__proto__', 'constructor', 'toString', '', 'nothing']);
  // Said now and then only: the session is over after it.
  if (method === 'leave' && random.chance(0.95)) return;
  const definition = Object.hasOwn(table, method) ? table[method] : undefined;
  const args = definition ? valueFor(definition.request, random, run.knowledge.hint) : {};
  const frame = {
    method,
    args: random.chance(AS_IT_SHOULD_BE) ? args : mutated(args, random),
    ...(definition?.changes ? { request: random.chance(0.97) ? number() : (hostileValue(random) as number) } : {}),
    ...(random.chance(0.02) ? { answeredBelow: hostileValue(random) as number } : {}),
  };
  const awaited = awaitedBy.get(connection) ?? new Set<Promise<unknown>>();
  awaitedBy.set(connection, awaited);
  const sent = send(run, lane, connection, frame).finally(() => awaited.delete(sent));
  awaited.add(sent);
  if (awaited.size >= CALLS_AT_ONCE) await Promise.race(awaited);
  await delay(PAUSE_MS);
}
const awaitedBy = new WeakMap<Connection, Set<Promise<unknown>>>();

/** Dials as the user the fuzzers have, with another token when the last one is revoked. */
async function userDial(run: FuzzRun, namespace: 'client' | 'admin', random: Random): Promise<() => Promise<Connection>> {
  const { target } = run.knowledge;
  let { token } = await target.userToken();
  return () =>
    socketDialer(target.coordinatorUrl)
      .dial(namespace, handshakeOf(token, random), DIAL_TIMEOUT_MS)
      .catch(async (error: unknown) => {
        if (isCode(error, 'UNAUTHORIZED')) ({ token } = await target.userToken());
        throw error;
      });
}

/** A user with rights to one volume, in the namespace of mounts. Recalls are answered with anything. */
export async function fuzzClientCalls(run: FuzzRun): Promise<void> {
  const lane = 'client';
  const random = run.findings.random(lane);
  const dial = await userDial(run, 'client', random);
  await withConnections(
    run,
    lane,
    async () => {
      let request = 0;
      const connection = await dial();
      connection.onCall = () => Promise.resolve(random.chance(0.7) ? { holding: [] } : hostileValue(random));
      if (random.chance(0.9)) await send(run, lane, connection, { method: 'hello', args: {} });
      numbers.set(connection, () => ++request);
      return connection;
    },
    (connection) => next(run, lane, connection, random, clientCalls, numbers.get(connection) ?? (() => 1)),
  );
}
const numbers = new WeakMap<Connection, () => number>();

/** The same user, in the namespace of administrators. */
export async function fuzzAdminCalls(run: FuzzRun): Promise<void> {
  const lane = 'admin';
  const random = run.findings.random(lane);
  await withConnections(run, lane, await userDial(run, 'admin', random), (connection) =>
    next(run, lane, connection, random, adminCalls, () => 1),
  );
}

/** A node that has room for nothing, by a token of its own. Orders are answered with anything. */
export async function fuzzNodeCalls(run: FuzzRun): Promise<void> {
  const lane = 'node';
  const random = run.findings.random(lane);
  const { target } = run.knowledge;
  const ownToken = random.bytes(32).toString('hex');
  let token = (await target.joinToken()).token;
  const register = {
    ...{ name: 'fuzz', startId: 'fuzz', url: 'http://127.0.0.1:9', zone: '', version: '0' },
    ...{ capacityBytes: 0, freeBytes: 0, usedBytes: 0, chunkCount: 0, ownTokenSha256: sha256(Buffer.from(ownToken)) },
  };
  await withConnections(
    run,
    lane,
    async () => {
      const connection = await socketDialer(target.coordinatorUrl).dial('node', { protocol: PROTOCOL_VERSION, token }, DIAL_TIMEOUT_MS);
      connection.onCall = (frame) => {
        if (random.chance(0.3)) return Promise.reject(new HoldfastError('EIO', 'no'));
        if (frame.method === 'inventory' && random.chance(0.7)) return Promise.resolve({ items: [], isLast: true });
        return Promise.resolve(hostileValue(random));
      };
      if (random.chance(0.9) && (await send(run, lane, connection, { method: 'register', args: register }))) token = ownToken;
      return connection;
    },
    async (connection) => {
      const method = random.pick(Object.keys(nodeCalls).filter((name) => name !== 'register' || random.chance(0.1)));
      const args =
        method === 'register' ? register : valueFor(nodeCalls[method as keyof typeof nodeCalls].request, random, run.knowledge.hint);
      // It stays as small as it is: files of others are not to be put on it.
      const small = method === 'heartbeat' ? { ...(args as object), capacityBytes: 0, freeBytes: 0 } : args;
      await send(run, lane, connection, { method, args: random.chance(AS_IT_SHOULD_BE) ? small : mutated(small, random) });
      await delay(PAUSE_MS);
    },
  );
}

/** Strangers: handshakes of every shape, wrong tokens, calls before and instead of the first one. */
export async function fuzzHandshakes(run: FuzzRun): Promise<void> {
  const lane = 'stranger';
  const random = run.findings.random(lane);
  const { target } = run.knowledge;
  const { token } = await target.userToken();
  while (!run.isOver()) {
    const namespace = random.pick(['client', 'node', 'admin'] as const);
    const wrong = random.pick([`${token.slice(0, -1)}!`, token.slice(1), '', 'admin', target.foreign.permit, '0'.repeat(512)]);
    const handshake = handshakeOf(wrong, random);
    const sent = random.chance(0.5) ? handshake : (mutated(handshake, random) as Record<string, unknown>);
    try {
      const connection = await socketDialer(target.coordinatorUrl).dial(namespace, sent, DIAL_TIMEOUT_MS);
      run.findings.add(lane, `was let into ${namespace}`, sent);
      connection.close('should not be');
    } catch (error) {
      run.findings.count(`${lane} ${namespace}`, false);
      const isRefusal = isCode(error, 'UNAUTHORIZED', 'BAD_MESSAGE', 'PROTOCOL_VERSION', 'UNREACHABLE', 'OVERLOADED');
      if (!isRefusal) run.findings.add(lane, `answered ${String((error as HoldfastError).code)} ${String(error)}`, sent);
    }
    await delay(PAUSE_MS);
  }
}
