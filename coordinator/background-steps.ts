/** Work that is done in small steps by itself, one after the other, with a pause before each in which others have their turn. */
export class BackgroundSteps {
  private running: Promise<void> | undefined;
  private isStopped = false;

  constructor(
    private readonly pause: () => Promise<void>,
    /** Does some of it; false when there is nothing (more) to do. */
    private readonly step: () => boolean | Promise<boolean>,
  ) {}

  /** There may be something to do. */
  begin(): void {
    if (this.isStopped) return;
    this.running ??= this.run().finally(() => {
      this.running = undefined;
    });
  }
  /** No further step begins. */
  stop(): void {
    this.isStopped = true;
  }
  /** Resolves when nothing is being done any more. */
  async settled(): Promise<void> {
    while (this.running) await this.running;
  }

  private async run(): Promise<void> {
    do {
      await this.pause();
    } while (!this.isStopped && (await this.step()));
  }
}
