/** Syncs directories, many callers per sync: who asks while one runs shares the next one (the running one may have missed their change). */
import type { DiskFiles } from './disk-files.js';

interface Queue {
  next: Promise<void> | undefined;
  running: Promise<void>;
}

export class DirectorySyncs {
  private readonly queues = new Map<string, Queue>();
  constructor(private readonly files: DiskFiles) {}

  /** Resolves when every change made to the directory before this call is stable. */
  sync(path: string): Promise<void> {
    const queue = this.queues.get(path);
    if (!queue) {
      const started: Queue = { next: undefined, running: this.files.syncDirectory(path) };
      this.queues.set(path, started);
      this.whenDone(path, started);
      return started.running;
    }
    queue.next ??= queue.running.catch(() => {}).then(() => this.files.syncDirectory(path));
    return queue.next;
  }

  private whenDone(path: string, queue: Queue): void {
    const advance = (): void => {
      if (queue.next) {
        queue.running = queue.next;
        queue.next = undefined;
        this.whenDone(path, queue);
      } else this.queues.delete(path);
    };
    queue.running.then(advance, advance);
  }
}
