/** Lets one piece of work at a time touch a chunk id. Work on several ids takes them all at once or waits, so nothing waits in a circle. */
export class IdLocks {
  private readonly held = new Map<string, Promise<void>>();

  async with<T>(ids: readonly string[], work: () => Promise<T>): Promise<T> {
    for (;;) {
      let busy: Promise<void> | undefined;
      for (const id of ids) {
        busy = this.held.get(id);
        if (busy) break;
      }
      if (!busy) break;
      await busy;
    }
    let release!: () => void;
    const released = new Promise<void>((resolve) => {
      release = resolve;
    });
    for (const id of ids) this.held.set(id, released);
    try {
      return await work();
    } finally {
      for (const id of ids) this.held.delete(id);
      release();
    }
  }
}
