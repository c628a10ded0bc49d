import type { Environment } from '../protocol/environment.js';

/** How many written bytes may wait in memory, over all files of a client. A writer that is faster than the nodes waits here. */
export class DirtyBudget {
  usedBytes = 0;
  private readonly waiters = new Set<() => void>();

  /** @param press for when the budget is spent: has every file write back what it holds */
  constructor(
    readonly limitBytes: number,
    readonly press: () => void,
  ) {}

  change(byBytes: number): void {
    this.usedBytes += byBytes;
    if (byBytes < 0 && this.hasRoom) this.wake();
  }

  get hasRoom(): boolean {
    return this.usedBytes <= this.limitBytes;
  }

  /** Resolves true when there may be room or somebody's write-back has failed, callers check which; false when this time has passed. */
  wait(environment: Environment, atMostMs: number): Promise<boolean> {
    return new Promise((resolve) => {
      const wake = (): void => {
        timer.cancel();
        resolve(true);
      };
      const timer = environment.setTimer(atMostMs, () => {
        this.waiters.delete(wake);
        resolve(false);
      });
      this.waiters.add(wake);
    });
  }

  /** Lets everybody who waits look again. */
  wake(): void {
    const waiting = [...this.waiters];
    this.waiters.clear();
    for (const resolve of waiting) resolve();
  }
}
