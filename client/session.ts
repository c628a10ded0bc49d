/**
 * This client's session with the coordinator: one connection at a time, request numbers so that a change is applied once however often it
 * must be sent, the lease that makes caches count, and what the coordinator asks and pushes.
 *
 *   lost connection  → queries and changes wait, then are sent again (changes with the same number) until the outage deadline
 *   new connection   → everything cached is forgotten: the coordinator may have stopped recalling for us
 *   session forgotten→ (we were away too long) a new session by a new secret; changes sent in the old one fail with SESSION_LOST
 */
import type { CallFrame, Connection, Dialer, PushFrame, ReplyOf, RequestOf } from '../protocol/call.js';
import { type ClientCalls, clientCalls, clientServes, type Welcome } from '../protocol/client-calls.js';
import type { InodeId, NodeContact, VolumeSettings } from '../protocol/entities.js';
import { type Environment, sleep, type Timer } from '../protocol/environment.js';
import { HoldfastError, isCode } from '../protocol/errors.js';
import { DEFAULT_CALL_TIMEOUT_MS, LEASE_MS, LEASE_RENEW_INTERVAL_MS, PROTOCOL_VERSION } from '../protocol/limits.js';
import { Link } from './link.js';

const HELLO_TIMEOUT_MS = 5000;
const RENEW_TIMEOUT_MS = 10_000;
/** A coordinator that left this many renewals without answer does not live: the connection is dropped and dialled again. */
const RENEWALS_UNANSWERED = 15;
const FIRST_PAUSE_MS = 50;
const LONGEST_PAUSE_MS = 1000;

export interface RecalledInode {
  readonly inode: InodeId;
  readonly names?: readonly string[] | undefined;
  readonly isUnlinked?: boolean | undefined;
}
export interface SessionListener {
  /**
   * Drops what is cached of these, at once, and answers which of the unlinked ones are held open. The change by somebody else is acknowledged
   * after the answer: it may wait a little, but for nothing that could itself wait for that change.
   */
  recalled(inodes: readonly RecalledInode[]): InodeId[] | Promise<InodeId[]>;
  /** Nothing cached counts any more. */
  forget(): void;
  /** The session was forgotten by the coordinator: dirty data, locks and orphans of it are void. */
  lost(): void;
  nodesChanged(nodes: readonly NodeContact[]): void;
  unlocked(inodes: readonly InodeId[]): void;
  volumeChanged(volume: VolumeSettings): void;
  connection(isConnected: boolean, reason: string): void;
}
export interface SessionOptions {
  readonly token: string;
  readonly description: string;
  readonly volume?: string | undefined;
  /** Infinity = hard. */
  readonly outageTimeoutMs: number;
}
/** Up to where the coordinator had acknowledged our changes at some moment. */
export interface ChangeMark {
  readonly losses: number;
  readonly request: number;
}
export interface CallOptions {
  /** Fails with SESSION_LOST when the session is not this one any more (see `number`). */
  readonly session?: number;
  /** Fails with EIO instead of being sent when what was acknowledged up to this mark has been lost: the call would build on it. */
  readonly buildsOn?: ChangeMark | undefined;
  /** Instead of the session's outage deadline. */
  readonly waitMs?: number;
  /** For a change that may be asked again by a later call: under its own number, as long as nobody knows whether it was applied. */
  readonly asked?: AskedChange;
}

/**
 * A change whose reply may never come. While `request` is set it may have been applied: asking it again with the same arguments and this object
 * applies it at most once, and the coordinator keeps its reply for us until then.
 */
export class AskedChange {
  request: number | undefined;
  session: number | undefined;
}

export class Session {
  /** Counts sessions: grows when the coordinator has forgotten one. */
  number = 1;
  /** Of the last hello. */
  welcome!: Welcome;
  permit = '';
  readonly outageTimeoutMs: number;
  private secret: string;
  /** For each time the coordinator came back without changes it had acknowledged to us (it lost power before they were stable): the last it kept. */
  private readonly keptThrough: number[] = [];
  /** Highest number of a change that was acknowledged. */
  private acknowledged = 0;
  private isKnown = false;
  private leaseUntilMs = Number.NEGATIVE_INFINITY;
  private nextRequest = 1;
  /** Ascending, because numbers are given in order: the first is the lowest. */
  private readonly unanswered = new Set<number>();
  private unansweredRenewals = 0;
  private renewTimer: Timer | undefined;
  private renewal: Promise<void> | undefined;
  private readonly link: Link;

  constructor(
    options: SessionOptions,
    private readonly environment: Environment,
    dialer: Dialer,
    private readonly listener: SessionListener,
  ) {
    this.outageTimeoutMs = options.outageTimeoutMs;
    this.secret = environment.randomBytes(32).toString('hex');
    this.link = new Link({
      environment,
      dialer,
      namespace: 'client',
      handshake: () => ({
        protocol: PROTOCOL_VERSION,
        token: options.token,
        clientSecret: this.secret,
        description: options.description.slice(0, 256),
        ...(options.volume === undefined ? {} : { volume: options.volume }),
      }),
      greet: (connection) => this.greet(connection),
      onUp: () => listener.connection(true, ''),
      onDown: (reason) => {
        this.endLease();
        listener.connection(false, reason);
      },
    });
  }

  /** @throws {HoldfastError} UNREACHABLE after waitMs; UNAUTHORIZED, PROTOCOL_VERSION, ENOENT (no such volume) at once */
  async start(waitMs: number): Promise<void> {
    this.link.start();
    try {
      await this.link.open(waitMs);
    } catch (error) {
      this.close('gave up');
      throw error;
    }
    this.scheduleRenewal();
  }

  close(reason: string): void {
    this.renewTimer?.cancel();
    this.endLease();
    this.link.close(reason);
  }

  /** Counts the times the coordinator came back without changes it had acknowledged to us. */
  get losses(): number {
    return this.keptThrough.length;
  }

  /** All changes acknowledged so far. */
  mark(): ChangeMark {
    return { losses: this.losses, request: this.acknowledged };
  }

  /** Whether the coordinator has lost any of the changes acknowledged up to the mark, after it was taken. */
  isLost(mark: ChangeMark): boolean {
    for (let at = mark.losses; at < this.keptThrough.length; at++) if (this.keptThrough[at]! < mark.request) return true;
    return false;
  }

  get isConnected(): boolean {
    return this.link.current !== undefined;
  }

  get leaseLeftMs(): number {
    return Math.max(0, this.leaseUntilMs - this.environment.monotonicMs());
  }

  /** True while answers from caches are as good as the coordinator's. */
  get isLeaseValid(): boolean {
    return this.environment.monotonicMs() < this.leaseUntilMs;
  }

  /**
   * Asks the coordinator; waits for it up to the outage deadline.
   * @throws {HoldfastError} what it answers; UNREACHABLE or DEADLINE (both EIO) after the deadline; SESSION_LOST when the reply to a change can never be known
   */
  async call<M extends keyof ClientCalls>(
    method: M,
    args: RequestOf<ClientCalls, M>,
    options: CallOptions = {},
  ): Promise<ReplyOf<ClientCalls, M>> {
    const { environment } = this;
    const untilMs = environment.monotonicMs() + (options.waitMs ?? this.outageTimeoutMs);
    const isChange = clientCalls[method].changes;
    const { asked } = options;
    let request = asked?.request;
    let sentIn = asked?.session;
    let pauseMs = FIRST_PAUSE_MS;
    for (;;) {
      let connection: Connection;
      try {
        connection = this.link.current ?? (await this.link.open(untilMs - environment.monotonicMs()));
      } catch (error) {
        // Whether it was applied is not known: who may ask again keeps its number.
        if (request !== undefined && sentIn === this.number && !asked) this.unanswered.delete(request);
        throw error;
      }
      if (options.session !== undefined && options.session !== this.number) throw sessionLost();
      if (options.buildsOn && this.isLost(options.buildsOn)) {
        if (request !== undefined && sentIn === this.number) this.unanswered.delete(request);
        throw changesLost();
      }
      let frame: CallFrame;
      if (isChange) {
        if (request === undefined || sentIn !== this.number) {
          // Sent in a session that is gone: whether it was applied cannot be known, and sending it as a new request could apply it twice.
          if (request !== undefined) throw sessionLost();
          request = this.nextRequest++;
          sentIn = this.number;
          this.unanswered.add(request);
          if (asked) Object.assign(asked, { request, session: sentIn });
        }
        const [lowest] = this.unanswered;
        frame = { method, request, answeredBelow: lowest ?? request, args };
      } else frame = { method, args };
      try {
        const leftMs = untilMs - environment.monotonicMs();
        const reply = await connection.call(frame, Math.max(1000, Math.min(leftMs, DEFAULT_CALL_TIMEOUT_MS)));
        if (request !== undefined) {
          this.unanswered.delete(request);
          if (asked) asked.request = undefined;
          if (sentIn === this.number && request > this.acknowledged) this.acknowledged = request;
        }
        return reply as ReplyOf<ClientCalls, M>;
      } catch (error) {
        const mayRepeat = isCode(error, 'UNREACHABLE', 'DEADLINE', 'NOT_READY', 'OVERLOADED');
        if (!mayRepeat || environment.monotonicMs() >= untilMs) {
          if (request !== undefined && sentIn === this.number && !(asked && mayRepeat)) {
            this.unanswered.delete(request);
            if (asked) asked.request = undefined;
          }
          if (isCode(error, 'SESSION_LOST') && sentIn === this.number) this.lose();
          throw error;
        }
        if (this.link.current === connection) {
          await sleep(environment, pauseMs);
          pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS);
        }
      }
    }
  }

  /** Nobody will ask this change again: its reply need not be kept. */
  abandon(asked: AskedChange): void {
    if (asked.request !== undefined && asked.session === this.number) this.unanswered.delete(asked.request);
    asked.request = undefined;
  }

  /** A fresh permit, when a node has called the one we hold too old. */
  renewPermit(): Promise<void> {
    this.renewal ??= this.renew().finally(() => {
      this.renewal = undefined;
    });
    return this.renewal;
  }

  private async greet(connection: Connection): Promise<void> {
    connection.onCall = (frame) => this.serve(frame);
    connection.onPush = (frame) => this.pushed(frame);
    const sentMs = this.environment.monotonicMs();
    const welcome = (await connection.call({ method: 'hello', args: {} }, HELLO_TIMEOUT_MS)) as Welcome;
    if (this.isKnown && !welcome.resumed) {
      this.lose();
      throw new HoldfastError('UNREACHABLE', 'the coordinator has forgotten this session; a new one is started');
    }
    if (welcome.lastRequest !== undefined && welcome.lastRequest < this.acknowledged) {
      this.keptThrough.push(welcome.lastRequest);
      this.acknowledged = welcome.lastRequest;
    }
    this.isKnown = true;
    this.welcome = welcome;
    this.permit = welcome.permit;
    this.unansweredRenewals = 0;
    this.endLease();
    this.leaseUntilMs = sentMs + LEASE_MS;
    this.listener.nodesChanged(welcome.nodes);
  }

  /** Starts a new session: a new secret, numbers from 1. */
  private lose(): void {
    this.number++;
    this.isKnown = false;
    this.secret = this.environment.randomBytes(32).toString('hex');
    this.nextRequest = 1;
    this.acknowledged = 0;
    this.keptThrough.push(0);
    this.unanswered.clear();
    this.endLease();
    this.listener.lost();
    this.link.drop('session lost');
  }

  private endLease(): void {
    this.leaseUntilMs = Number.NEGATIVE_INFINITY;
    this.listener.forget();
  }

  private scheduleRenewal(): void {
    this.renewTimer = this.environment.setTimer(LEASE_RENEW_INTERVAL_MS, () => {
      this.scheduleRenewal();
      if (!this.link.current) return;
      if (this.unansweredRenewals >= RENEWALS_UNANSWERED) {
        this.link.drop('the coordinator does not answer');
        return;
      }
      this.renew().catch(() => {}); // The next one is sent soon; a lost connection is noticed by the link.
    });
  }

  private async renew(): Promise<void> {
    const connection = this.link.current;
    if (!connection) return;
    const sentMs = this.environment.monotonicMs();
    this.unansweredRenewals++;
    const reply = (await connection.call({ method: 'renew', args: {} }, RENEW_TIMEOUT_MS)) as ReplyOf<ClientCalls, 'renew'>;
    if (this.link.current !== connection) return;
    this.unansweredRenewals = 0;
    this.permit = reply.permit;
    // A lease that had lapsed does not come back with its caches: meanwhile changes were made without asking us.
    if (!this.isLeaseValid) this.endLease();
    this.leaseUntilMs = Math.max(this.leaseUntilMs, sentMs + LEASE_MS);
  }

  private serve(frame: CallFrame): Promise<unknown> {
    if (frame.method !== 'recall') return Promise.reject(new HoldfastError('BAD_MESSAGE', `clients do not serve ${frame.method}`));
    const parsed = clientServes.recall.request.safeParse(frame.args);
    if (!parsed.success) return Promise.reject(new HoldfastError('BAD_MESSAGE', 'malformed recall'));
    const holding = this.listener.recalled(parsed.data.inodes);
    return holding instanceof Promise ? holding.then((inodes) => ({ holding: inodes })) : Promise.resolve({ holding });
  }

  private pushed(frame: PushFrame): void {
    if (frame.topic === 'nodes') {
      const nodes = frame.data as readonly NodeContact[];
      if (this.welcome) this.welcome = { ...this.welcome, nodes };
      this.listener.nodesChanged(nodes);
    } else if (frame.topic === 'unlocked') this.listener.unlocked(frame.data as readonly InodeId[]);
    else if (frame.topic === 'volume') {
      const volume = frame.data as VolumeSettings;
      if (this.welcome) this.welcome = { ...this.welcome, volume };
      this.listener.volumeChanged(volume);
    }
  }
}

/** What a caller is told whose earlier changes are gone. */
export const changesLost = (): HoldfastError =>
  new HoldfastError('EIO', 'the coordinator lost power and with it changes that were not synced yet; check the file and write it again');
const sessionLost = (): HoldfastError =>
  new HoldfastError('SESSION_LOST', 'this client was away for too long and its session was forgotten; open the file again');
