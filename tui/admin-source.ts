/**
 * The live views of the coordinator as messages for the screen: connects, says what it tried and why it failed, subscribes to exactly the views
 * the screen wants, and asks for everything anew after a loss. Gaps in numbered changes are client/admin.ts's business.
 */
import { type AdminConnection, connectAdmin, type Watch } from '../client/admin.js';
import type { WatchRequest } from '../protocol/admin-calls.js';
import type { Dialer } from '../protocol/call.js';
import { type Environment, sleep } from '../protocol/environment.js';
import { HoldfastError } from '../protocol/errors.js';
import type { Message } from './model.js';
import { requestKey } from './topics.js';

export interface Target {
  readonly url: string;
  readonly token: string;
}
export interface AdminSourceParts {
  readonly environment: Environment;
  /** Asked again before every try: a coordinator may come back under another address. @throws when no cluster can be made out */
  readonly target: () => Target;
  readonly dialerFor: (url: string) => Dialer;
  readonly emit: (message: Message) => void;
}

/** client/admin.ts tries at least once a second. */
const RETRY_MS = 1000;
/** How long one call, and one round of first tries, waits for the coordinator. */
const WAIT_MS = 5000;

export class AdminSource {
  private connection: AdminConnection | undefined;
  private readonly watches = new Map<string, Watch>();
  private wanted: readonly WatchRequest[] = [];
  private isClosed = false;
  private attempts = 0;
  private offlineSinceMs: number;
  private url = '';

  constructor(private readonly parts: AdminSourceParts) {
    this.offlineSinceMs = parts.environment.monotonicMs();
  }

  /** Connects and stays connected until `close`. Never rejects: failures become messages. */
  async run(): Promise<void> {
    while (!this.isClosed) {
      try {
        const connection = await connectAdmin(
          { coordinatorUrl: 'http://unused', token: '', description: `screen pid ${process.pid}`, waitMs: WAIT_MS },
          { environment: this.parts.environment, dialer: this.dialer() },
        );
        if (this.isClosed) return connection.close();
        this.connection = connection;
        connection.onConnection((isConnected, reason) => {
          if (isConnected) this.up(connection);
          else this.down(reason);
        });
        this.up(connection);
        return;
      } catch {
        // The dialer has told already why; a refusal (wrong token) may be put right while we wait.
        await sleep(this.parts.environment, RETRY_MS);
      }
    }
  }

  /** Dials the target as it is now, with its token, and counts. */
  private dialer(): Dialer {
    return {
      dial: async (namespace, handshake, timeoutMs) => {
        try {
          const target = this.parts.target();
          this.url = target.url;
          return await this.parts.dialerFor(target.url).dial(namespace, { ...handshake, token: target.token }, timeoutMs);
        } catch (error) {
          this.attempts += 1;
          this.tell(error instanceof Error ? error.message : String(error));
          throw error instanceof HoldfastError
            ? error
            : new HoldfastError('UNREACHABLE', error instanceof Error ? error.message : String(error));
        }
      },
    };
  }

  private tell(error: string): void {
    if (this.isClosed) return;
    const nowMs = this.parts.environment.monotonicMs();
    this.parts.emit({
      kind: 'link',
      link: { kind: 'offline', sinceMs: this.offlineSinceMs, url: this.url, error, attempt: this.attempts, nextTryAtMs: nowMs + RETRY_MS },
    });
  }

  private up(connection: AdminConnection): void {
    this.attempts = 0;
    const { user, isAdmin } = connection.hello;
    this.parts.emit({
      kind: 'link',
      link: { kind: 'live', sinceMs: this.parts.environment.monotonicMs(), url: this.url, user, isAdmin },
    });
    this.subscribe();
  }

  private down(reason: string): void {
    this.offlineSinceMs = this.parts.environment.monotonicMs();
    this.tell(`connection lost: ${reason}`);
  }

  /** Says which views are wanted from now on; what is no longer wanted is unsubscribed. */
  want(requests: readonly WatchRequest[]): void {
    this.wanted = requests;
    this.subscribe();
  }

  /** Every view from its snapshot again; while the coordinator is away, a try to reach it now. */
  refresh(): void {
    if (this.connection && !this.connection.isConnected) {
      this.connection.redial();
      return;
    }
    for (const watch of this.watches.values()) watch.stop();
    this.watches.clear();
    this.subscribe();
  }

  private subscribe(): void {
    const { connection } = this;
    if (!connection) return;
    const wanted = new Map(this.wanted.map((request) => [requestKey(request), request]));
    for (const [key, watch] of this.watches) {
      if (wanted.has(key)) continue;
      watch.stop();
      this.watches.delete(key);
    }
    for (const [key, request] of wanted) {
      if (this.watches.has(key)) continue;
      const { emit } = this.parts;
      this.watches.set(
        key,
        connection.watch(
          request,
          ({ head, rows }) => emit({ kind: 'snapshot', request, head, rows }),
          ({ head, upserts, removes }) => emit({ kind: 'changes', request, head, upserts, removes }),
          (error) => emit({ kind: 'refused', request, reason: `${error.message} (${error.code})` }),
        ),
      );
    }
  }

  /**
   * One call of protocol/admin-calls.ts by name.
   * @throws {HoldfastError} as the coordinator answers; UNREACHABLE while it is away
   */
  call(method: string, args: Record<string, unknown>): Promise<unknown> {
    const { connection } = this;
    if (!connection?.isConnected) return Promise.reject(new HoldfastError('UNREACHABLE', 'the coordinator is not connected'));
    // The table checks arguments at run time on both sides; here they come from a table of actions.
    return connection.call(method as 'status', args as Record<string, never>, { timeoutMs: 120_000 });
  }

  close(): void {
    this.isClosed = true;
    this.watches.clear();
    this.connection?.close();
  }
}
