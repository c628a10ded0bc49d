/**
 * The admin side of a cluster (namespace /admin): calls, and live views that survive gaps, lost connections and restarts of the coordinator.
 * Used by the TUI and the command line.
 */
import { type AdminCalls, adminCalls, type Changes, type Snapshot, type WatchRequest } from '../protocol/admin-calls.js';
import type { Connection, Dialer, PushFrame, ReplyOf, RequestOf } from '../protocol/call.js';
import { type Environment, sleep } from '../protocol/environment.js';
import { HoldfastError, isCode } from '../protocol/errors.js';
import { PROTOCOL_VERSION } from '../protocol/limits.js';
import { socketDialer } from '../protocol/socket.js';
import type { PeerTls } from '../protocol/tls.js';
import { Link } from './link.js';
import { liveEnvironment } from './live-environment.js';

export interface AdminOptions {
  /** http(s)://host:port of the coordinator. */
  readonly coordinatorUrl: string;
  readonly token: string;
  /** For people: shown in events. */
  readonly description: string;
  readonly volume?: string;
  /** How long the first connection and each call wait for an absent coordinator; 10 s by default. */
  readonly waitMs?: number;
  /** For https URLs. */
  readonly tls?: PeerTls;
}
export interface AdminParts {
  readonly environment?: Environment;
  readonly dialer?: Dialer;
}
export interface Watch {
  /** Ends it: no listener is called any more. */
  stop(): void;
}
export interface AdminConnection {
  readonly hello: ReplyOf<AdminCalls, 'hello'>;
  readonly isConnected: boolean;
  /**
   * Questions are asked again when the connection breaks; actions are not (they may have been done): they reject with UNREACHABLE.
   * @throws {HoldfastError} REFUSED, ENOENT, FORBIDDEN, ... as the coordinator answers; UNREACHABLE, DEADLINE
   */
  call<M extends keyof AdminCalls>(
    method: M,
    args: RequestOf<AdminCalls, M>,
    options?: { timeoutMs?: number },
  ): Promise<ReplyOf<AdminCalls, M>>;
  /**
   * `onSnapshot` comes first, and again after every gap, lost connection or restart; `onChanges` apply to the last snapshot, without gaps.
   * `onError` tells why a view cannot be had (ENOENT: the directory is gone); it is tried again every second.
   */
  watch(
    request: WatchRequest,
    onSnapshot: (snapshot: Snapshot) => void,
    onChanges: (changes: Changes) => void,
    onError?: (error: HoldfastError) => void,
  ): Watch;
  /** Called at every change; `reason` says why the connection was lost. Returns what ends it. */
  onConnection(listener: (isConnected: boolean, reason: string) => void): () => void;
  /** While the connection is lost: tries again now instead of at the next turn. */
  redial(): void;
  close(): void;
}

/** Asking these twice changes nothing. */
const questions = new Set<keyof AdminCalls>([
  'hello',
  'status',
  'stat',
  'why',
  'events',
  'jobs',
  'check',
  'readBackup',
  'snapshots',
  'trash',
  'listVolumes',
  'listUsers',
]);
const CALL_TIMEOUT_MS = 30_000;
const WATCH_AGAIN_MS = 1000;

interface LiveView {
  readonly request: WatchRequest;
  readonly onSnapshot: (snapshot: Snapshot) => void;
  readonly onChanges: (changes: Changes) => void;
  readonly onError: ((error: HoldfastError) => void) | undefined;
  watch: number | undefined;
  sequence: number;
  isStopped: boolean;
  isAsking: boolean;
  /** Changes that overtook the snapshot's reply. */
  early: Changes[];
}

class Admin implements AdminConnection {
  hello!: ReplyOf<AdminCalls, 'hello'>;
  private readonly link: Link;
  private readonly views = new Set<LiveView>();
  private readonly listeners = new Set<(isConnected: boolean, reason: string) => void>();
  private readonly waitMs: number;

  constructor(
    options: AdminOptions,
    private readonly environment: Environment,
    dialer: Dialer,
  ) {
    this.waitMs = options.waitMs ?? 10_000;
    const clientSecret = environment.randomBytes(32).toString('hex');
    this.link = new Link({
      environment,
      dialer,
      namespace: 'admin',
      handshake: () => ({
        protocol: PROTOCOL_VERSION,
        token: options.token,
        clientSecret,
        description: options.description.slice(0, 256),
        ...(options.volume === undefined ? {} : { volume: options.volume }),
      }),
      greet: async (connection) => {
        connection.onPush = (frame) => this.pushed(frame);
        this.hello = (await connection.call({ method: 'hello', args: {} }, 5000)) as ReplyOf<AdminCalls, 'hello'>;
      },
      onUp: () => {
        for (const listener of this.listeners) listener(true, '');
        for (const view of this.views) this.renew(view);
      },
      onDown: (reason) => {
        for (const view of this.views) view.watch = undefined;
        for (const listener of this.listeners) listener(false, reason);
      },
    });
  }

  get isConnected(): boolean {
    return this.link.current !== undefined;
  }

  redial(): void {
    this.link.redial();
  }

  async start(): Promise<void> {
    this.link.start();
    try {
      await this.link.open(this.waitMs);
    } catch (error) {
      this.link.close('gave up');
      throw error;
    }
  }

  async call<M extends keyof AdminCalls>(
    method: M,
    args: RequestOf<AdminCalls, M>,
    options: { timeoutMs?: number } = {},
  ): Promise<ReplyOf<AdminCalls, M>> {
    const checked = adminCalls[method].request.safeParse(args);
    if (!checked.success) throw new HoldfastError('BAD_MESSAGE', `${method}: ${checked.error.issues[0]?.message ?? 'malformed arguments'}`);
    const untilMs = this.environment.monotonicMs() + this.waitMs;
    for (;;) {
      const connection = await this.link.open(untilMs - this.environment.monotonicMs());
      try {
        return (await connection.call({ method, args }, options.timeoutMs ?? CALL_TIMEOUT_MS)) as ReplyOf<AdminCalls, M>;
      } catch (error) {
        const mayRepeat = isCode(error, 'NOT_READY', 'OVERLOADED') || (isCode(error, 'UNREACHABLE') && questions.has(method));
        if (!mayRepeat || this.environment.monotonicMs() >= untilMs) throw error;
        await sleep(this.environment, 100);
      }
    }
  }

  watch(
    request: WatchRequest,
    onSnapshot: (snapshot: Snapshot) => void,
    onChanges: (changes: Changes) => void,
    onError?: (error: HoldfastError) => void,
  ): Watch {
    const view: LiveView = {
      request,
      onSnapshot,
      onChanges,
      onError,
      watch: undefined,
      sequence: 0,
      isStopped: false,
      isAsking: false,
      early: [],
    };
    this.views.add(view);
    this.renew(view);
    return {
      stop: () => {
        if (view.isStopped) return;
        view.isStopped = true;
        this.views.delete(view);
        this.forget(view.watch);
      },
    };
  }

  onConnection(listener: (isConnected: boolean, reason: string) => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  close(): void {
    for (const view of this.views) view.isStopped = true;
    this.views.clear();
    this.link.close('closed by us');
  }

  /** Asks for a new snapshot; at most one question per view is under way. */
  private renew(view: LiveView): void {
    const connection = this.link.current;
    if (!connection || view.isStopped || view.isAsking) return;
    const old = view.watch;
    view.watch = undefined;
    view.isAsking = true;
    view.early = [];
    this.forget(old);
    connection.call({ method: 'watch', args: view.request }, CALL_TIMEOUT_MS).then(
      (reply) => {
        view.isAsking = false;
        this.begin(view, connection, reply as Snapshot);
      },
      (error: unknown) => {
        view.isAsking = false;
        if (view.isStopped) return;
        if (this.link.current !== connection) return this.renew(view);
        view.onError?.(error instanceof HoldfastError ? error : new HoldfastError('INTERNAL', String(error)));
        this.environment.setTimer(WATCH_AGAIN_MS, () => {
          if (view.watch === undefined) this.renew(view);
        });
      },
    );
  }

  private begin(view: LiveView, connection: Connection, snapshot: Snapshot): void {
    if (this.link.current !== connection) {
      this.renew(view);
      return;
    }
    if (view.isStopped) {
      this.forget(snapshot.watch);
      return;
    }
    view.watch = snapshot.watch;
    view.sequence = snapshot.sequence;
    view.onSnapshot(snapshot);
    const { early } = view;
    view.early = [];
    for (const changes of early) if (changes.watch === snapshot.watch) this.apply(view, changes);
  }

  private pushed(frame: PushFrame): void {
    if (frame.topic !== 'changes') return;
    const changes = frame.data as Changes;
    for (const view of this.views) {
      if (view.watch === changes.watch) this.apply(view, changes);
      else if (view.isAsking && view.early.length < 100) view.early.push(changes);
    }
  }

  private apply(view: LiveView, changes: Changes): void {
    if (view.isStopped || changes.sequence <= view.sequence) return;
    if (changes.sequence !== view.sequence + 1) {
      this.renew(view);
      return;
    }
    view.sequence = changes.sequence;
    view.onChanges(changes);
  }

  private forget(watch: number | undefined): void {
    if (watch === undefined) return;
    // A watch that is not ended now ends with the connection: nothing to tell anybody.
    this.link.current?.call({ method: 'unwatch', args: { watch } }, 5000).catch(() => {});
  }
}

/**
 * Connects as administrator and waits for the first hello.
 * @throws {HoldfastError} UNREACHABLE after waitMs; UNAUTHORIZED, FORBIDDEN, PROTOCOL_VERSION at once
 */
export async function connectAdmin(options: AdminOptions, parts: AdminParts = {}): Promise<AdminConnection> {
  const environment = parts.environment ?? liveEnvironment();
  const dialer = parts.dialer ?? socketDialer(options.coordinatorUrl, options.tls ? { tls: options.tls } : {});
  const admin = new Admin(options, environment, dialer);
  await admin.start();
  return admin;
}
