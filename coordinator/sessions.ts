/**
 * Sessions of clients. A session outlives its connection by `sessionTimeoutMs`; locks, open orphans and stored replies belong to it. The row says that
 * it exists; who is connected, and what it has cached, lives in memory only.
 *
 * Exactly once: every change carries a request number. The reply is stored in the very transaction that applied the change, so a repeated request
 * finds it, whether the first one was answered, is still in progress, or the coordinator died in between.
 */
import { createHash } from 'node:crypto';
import type { Connection } from '../protocol/call.js';
import type { ClientId, InodeId } from '../protocol/entities.js';
import type { Environment, Timer } from '../protocol/environment.js';
import { fromWire, HoldfastError } from '../protocol/errors.js';
import { LEASE_MS } from '../protocol/limits.js';
import { Seldom } from '../protocol/seldom.js';
import type { ClientCaller } from './ports.js';
import { type ReplyRow, replyKey, type SessionRow } from './rows.js';
import type { State, Transaction } from './state.js';

/** Half of SHA-256 over the secret: only its owner can speak for this client. */
export const clientIdOf = (clientSecret: string): ClientId => createHash('sha256').update(clientSecret).digest('hex').slice(0, 32);

/** More unanswered changes than this of one client are not let in. */
const MAX_STORED_REPLIES = 4096;

/** Each has a row, and after a restart changes wait for every one of them: not for who makes up clients by the thousand. */
const MAX_SESSIONS_OF_USER = 1000;

export class Session {
  connection: Connection | undefined;
  /** Monotonic clock; undefined while connected. */
  disconnectedAtMs: number | undefined;
  /** What the client has cached ('cached') or may at least hold open ('seen'). */
  readonly interest = new Map<InodeId, 'cached' | 'seen'>();
  /** True when interest was lost (restart of the coordinator, too many inodes): it may hold open anything. */
  mayHoldAnything = false;
  /** The client may use its caches up to here, by our clock: the last answered renewal's arrival plus the lease. */
  leaseEndsAtMs: number;
  /** Recalls sent and not acknowledged: renewals wait for them. */
  readonly recalls = new Set<Promise<void>>();
  /** For each inode with such a recall: resolves when the old state cannot be served any more. */
  readonly recalling = new Map<InodeId, Promise<void>>();
  readonly inProgress = new Map<number, Promise<unknown>>();
  /** True until the first change: a continuing client whose session was forgotten is told by its request numbers. */
  isFresh: boolean;
  answeredBelow = 0;
  endTimer: Timer | undefined;

  constructor(
    public caller: ClientCaller,
    readonly description: string,
    options: { isFresh: boolean; nowMs: number },
  ) {
    this.isFresh = options.isFresh;
    this.mayHoldAnything = !options.isFresh;
    this.leaseEndsAtMs = options.nowMs + LEASE_MS;
  }
  get client(): ClientId {
    return this.caller.client;
  }
}

export class Sessions {
  private readonly byClient = new Map<ClientId, Session>();
  /** Set by the coordinator: the session is gone for good; called inside the transaction that removes its row. */
  onEnd: ((tx: Transaction, session: Session) => void) | undefined;
  onEnded: ((session: Session) => void) | undefined;
  /** Set by the coordinator: the client has a new connection, so it has dropped what it cached. */
  onConnected: ((client: ClientId) => void) | undefined;

  constructor(
    private readonly state: State,
    private readonly environment: Environment,
    private readonly timeoutMs: number,
  ) {}

  /** Sessions that were there before a restart: they have their timeout to come back. */
  loadAll(callerOf: (client: ClientId, row: SessionRow) => ClientCaller): void {
    for (const [client, row] of this.state.table('sessions').all()) {
      const session = new Session(callerOf(client, row), row.description, { isFresh: false, nowMs: this.environment.monotonicMs() });
      this.byClient.set(client, session);
      this.disconnected(session);
    }
  }

  get(client: ClientId): Session | undefined {
    return this.byClient.get(client);
  }
  all(): IterableIterator<Session> {
    return this.byClient.values();
  }
  get connectedCount(): number {
    let count = 0;
    for (const session of this.byClient.values()) if (session.connection) count++;
    return count;
  }

  /** Why no session may begin for this caller now; undefined = it may. One that is known goes on in any case. */
  refusal({ client, user }: ClientCaller): HoldfastError | undefined {
    if (this.byClient.size < MAX_SESSIONS_OF_USER || this.byClient.has(client)) return undefined;
    let count = 0;
    for (const session of this.byClient.values()) if (session.caller.user === user) count++;
    if (count < MAX_SESSIONS_OF_USER) return undefined;
    if (this.warning.isDue())
      this.environment.log('warn', 'a user has as many sessions as are allowed: more are refused', { user, sessions: count });
    return new HoldfastError(
      'OVERLOADED',
      `"${user}" has ${count} sessions: end some, or try again when those that were given up time out`,
    );
  }
  private readonly warning = new Seldom(() => this.environment.monotonicMs());

  /** A client said hello: its session goes on, or begins. */
  connect(caller: ClientCaller, description: string, connection: Connection): { session: Session; resumed: boolean } {
    let session = this.byClient.get(caller.client);
    const resumed = session !== undefined && session.caller.volume === caller.volume && session.caller.user === caller.user;
    if (session && !resumed) this.end(session);
    if (!session || !resumed) {
      session = new Session(caller, description, { isFresh: true, nowMs: this.environment.monotonicMs() });
      this.byClient.set(caller.client, session);
      this.putRow(caller, description);
    } else if (session.caller.token !== caller.token) this.putRow(caller, description);
    session.caller = caller;
    session.endTimer?.cancel();
    session.endTimer = undefined;
    const old = session.connection;
    session.connection = connection;
    session.disconnectedAtMs = undefined;
    if (old && old !== connection) old.close('the client opened a new connection');
    this.onConnected?.(caller.client);
    return { session, resumed };
  }

  private putRow({ client, user, volume, token }: ClientCaller, description: string): void {
    const row: SessionRow = { user, volume, description, answeredBelow: 0, ...(token === undefined ? {} : { token }) };
    this.state.transact((tx) => tx.put('sessions', client, row));
  }

  disconnected(session: Session): void {
    session.connection = undefined;
    session.disconnectedAtMs = this.environment.monotonicMs();
    session.endTimer?.cancel();
    session.endTimer = this.environment.setTimer(this.timeoutMs, () => {
      if (!session.connection) this.end(session);
    });
  }

  /** For good: locks, orphans held and stored replies go with it. */
  end(session: Session): void {
    if (this.byClient.get(session.client) !== session) return;
    session.endTimer?.cancel();
    this.byClient.delete(session.client);
    this.state.transact((tx) => {
      for (const request of [...this.state.table('replies').of(session.client).keys()])
        tx.remove('replies', `${session.client}:${request}`);
      tx.remove('sessions', session.client);
      this.onEnd?.(tx, session);
    });
    this.onEnded?.(session);
  }

  /** Ends every session of which `which` is true. */
  endAll(which: (session: Session) => boolean, why: string): void {
    for (const session of [...this.byClient.values()]) {
      if (!which(session)) continue;
      session.connection?.close(why);
      this.end(session);
    }
  }

  stop(): void {
    for (const session of this.byClient.values()) session.endTimer?.cancel();
  }

  /**
   * Applies a change exactly once.
   * @param run applies it in a transaction, calling `store` inside with the reply, and resolves when it may be acknowledged
   * @param repeated brings the reply of a repeated request up to date before it is sent
   */
  async once(
    session: Session,
    request: number | undefined,
    answeredBelow: number | undefined,
    run: (store: (tx: Transaction, reply: unknown) => void) => Promise<unknown>,
    repeated: (reply: unknown) => unknown = (reply) => reply,
  ): Promise<unknown> {
    if (request === undefined) throw new HoldfastError('BAD_MESSAGE', 'a change carries a request number');
    // In progress first: its reply is stored already, but may not be told before it is written and others have been recalled.
    const running = session.inProgress.get(request);
    if (running) return repeated(await running);
    const stored = this.state.get('replies', replyKey(session.client, request));
    if (stored) return repeated(replyOf(stored));
    if (session.isFresh) {
      if (Math.max(answeredBelow ?? 0, 1) > 1 || request > MAX_STORED_REPLIES)
        throw new HoldfastError('SESSION_LOST', 'this session was forgotten: what it had open or locked is void');
      session.isFresh = false;
    }
    if (request < session.answeredBelow) throw new HoldfastError('BAD_MESSAGE', `request ${request} was answered before`);
    const dropped: string[] = [];
    if (answeredBelow !== undefined && answeredBelow > session.answeredBelow) {
      session.answeredBelow = answeredBelow;
      for (const key of this.state.table('replies').of(session.client).keys()) if (Number(key) < answeredBelow) dropped.push(key);
    }
    if (this.state.table('replies').of(session.client).size - dropped.length >= MAX_STORED_REPLIES)
      throw new HoldfastError('OVERLOADED', 'too many changes of this client are unanswered');
    let isDropDone = false;
    const promise = run((tx, reply) => {
      if (!isDropDone) for (const key of dropped) tx.remove('replies', `${session.client}:${key}`);
      isDropDone = true;
      tx.put('replies', replyKey(session.client, request), { ok: reply });
    });
    session.inProgress.set(request, promise);
    try {
      return await promise;
    } finally {
      session.inProgress.delete(request);
    }
  }
}

function replyOf(row: ReplyRow): unknown {
  if ('ok' in row) return row.ok;
  throw fromWire(row.error as Parameters<typeof fromWire>[0]);
}
