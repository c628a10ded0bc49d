/** For what may happen thousands of times a second and is worth one line of the log a minute. */
const AGAIN_AFTER_MS = 60_000;

export class Seldom {
  private lastMs = Number.NEGATIVE_INFINITY;
  /** @param nowMs a clock that never goes back */
  constructor(private readonly nowMs: () => number) {}

  /** True when it was not for the last minute; then it counts as done. */
  isDue(): boolean {
    const nowMs = this.nowMs();
    if (nowMs - this.lastMs < AGAIN_AFTER_MS) return false;
    this.lastMs = nowMs;
    return true;
  }
}
