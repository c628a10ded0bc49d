/** Those who wait until everything up to a cut has come somewhere, each settled once. */
import type { HoldfastError } from '../protocol/errors.js';

interface CutWaiter {
  readonly through: number;
  resolve(): void;
  reject(error: HoldfastError): void;
}

export class CutWaiters {
  private waiting: CutWaiter[] = [];

  /** Settled by the first `settle` that reaches this cut. */
  wait(through: number): Promise<void> {
    return new Promise((resolve, reject) => this.waiting.push({ through, resolve, reject }));
  }

  /** Those who wait for a cut up to this one: without an error it is where they want it. */
  settle(through: number, error: HoldfastError | undefined): void {
    const done = this.waiting.filter((waiter) => waiter.through <= through);
    if (done.length === 0) return;
    this.waiting = this.waiting.filter((waiter) => waiter.through > through);
    for (const waiter of done) {
      if (error) waiter.reject(error);
      else waiter.resolve();
    }
  }
}
