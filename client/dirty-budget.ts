/** How many written bytes may wait in memory, over all files of a client. A writer that is faster than the nodes waits here. */
export class DirtyBudget {
  usedBytes = 0;
  private readonly waiters = new Set<() => void>();

  /** @param onPressure called when the budget is spent: every file should write back what it holds */
  constructor(
    readonly limitBytes: number,
    private readonly onPressure: () => void,
  ) {}

  change(byBytes: number): void {
    this.usedBytes += byBytes;
    if (byBytes < 0 && this.hasRoom) this.wake();
  }

  get hasRoom(): boolean {
    return this.usedBytes <= this.limitBytes;
  }

  /** Resolves when there is room or somebody's write-back has failed: callers check which. */
  wait(): Promise<void> {
    return new Promise((resolve) => {
      this.waiters.add(resolve);
      this.onPressure();
    });
  }

  /** Lets everybody who waits look again. */
  wake(): void {
    const waiting = [...this.waiters];
    this.waiters.clear();
    for (const resolve of waiting) resolve();
  }
}
