/**
 * After a start nothing is deleted and nothing copied until every node that was a member has shown what it holds, or had time enough for it:
 * a coordinator that sees an empty room must not conclude that everything is lost.
 */
import type { Environment } from '../protocol/environment.js';
import type { Membership } from './membership.js';

/** An inventory that is being taken is waited for longer than a node that is silent. */
const INVENTORY_LIMIT_FACTOR = 20;

export class SafeMode {
  private isActive = true;
  private startedMs = 0;

  constructor(
    private readonly environment: Environment,
    private readonly membership: Membership,
    private readonly timeoutMs: number,
    private readonly ended: (reason: string) => void,
  ) {}

  start(): void {
    this.startedMs = this.environment.monotonicMs();
    this.look();
  }
  get active(): boolean {
    return this.isActive;
  }
  /** Nodes that have not shown yet what they hold. */
  get view(): { isActive: boolean; waitingFor: string[] } {
    return { isActive: this.isActive, waitingFor: this.isActive ? this.awaited().map((member) => member.name) : [] };
  }
  /** Ends safe mode when it may. Called when something changed, and from time to time. */
  look(): void {
    if (!this.isActive) return;
    const awaited = this.awaited();
    const passedMs = this.environment.monotonicMs() - this.startedMs;
    if (awaited.length > 0) {
      const isTaking = awaited.some((member) => member.isReachable);
      if (passedMs < this.timeoutMs * (isTaking ? INVENTORY_LIMIT_FACTOR : 1)) return;
    }
    this.isActive = false;
    this.ended(
      awaited.length === 0 ? 'every node has reported' : `${awaited.map((member) => member.name).join(', ')} did not report in time`,
    );
  }

  private awaited() {
    return this.membership.all().filter((member) => !member.isDown && member.inventory !== 'complete');
  }
}
