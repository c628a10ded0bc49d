/**
 * After a restart nobody knows who cached what. A client that has not noticed the restart may serve from its cache until its lease ends, so changes
 * are not acknowledged before each client of before either has connected again (it dropped its caches first) or cannot have a lease any more.
 *
 * Which clients there were is known for certain: a session's row is on stable storage before its first lease is granted.
 */
import type { ClientId } from '../protocol/entities.js';
import type { Environment, Timer } from '../protocol/environment.js';
import { LEASE_MS } from '../protocol/limits.js';

export class OldCaches {
  private readonly away: Set<ClientId>;
  private readonly timer: Timer | undefined;
  private finish = (): void => {};
  /** Resolves when no cache of before can be served any more; undefined once that is so. */
  over: Promise<void> | undefined;

  /** @param deadSinceMs when the coordinator of before had surely granted its last lease (monotonic clock) */
  constructor(environment: Environment, clients: Iterable<ClientId>, deadSinceMs: number) {
    this.away = new Set(clients);
    const leftMs = deadSinceMs + LEASE_MS - environment.monotonicMs();
    if (this.away.size === 0 || leftMs <= 0) return;
    this.over = new Promise((resolve) => {
      this.finish = resolve;
    });
    this.timer = environment.setTimer(leftMs, () => this.end());
  }

  /** This client said hello on a new connection. */
  returned(client: ClientId): void {
    if (this.away.delete(client) && this.away.size === 0) this.end();
  }

  private end(): void {
    this.timer?.cancel();
    this.over = undefined;
    this.finish();
  }
}
