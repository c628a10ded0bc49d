/** flock and fcntl locks, held at the coordinator. It never lets a call wait; we ask again when it says the lock may be free, and twice a second. */
import type { InodeId } from '../protocol/entities.js';
import { HoldfastError, isCode } from '../protocol/errors.js';
import type { LockRequest, Locks } from './api.js';
import type { ClientCore } from './core.js';
import type { OpenFiles } from './open-files.js';

const ASK_AGAIN_MS = 500;

export class ClientLocks implements Locks {
  private readonly waiting = new Map<InodeId, Set<() => void>>();

  constructor(
    private readonly core: ClientCore,
    private readonly files: OpenFiles,
  ) {}

  async lock(inode: InodeId, request: LockRequest, options: { wait: boolean; signal?: AbortSignal }): Promise<void> {
    if (request.kind === 'unlock') await this.flush(inode);
    for (;;) {
      if (options.signal?.aborted) throw interrupted();
      try {
        await this.core.session.call('lock', { inode, ...request });
        break;
      } catch (error) {
        if (!options.wait || !isCode(error, 'EAGAIN')) throw error;
        await this.unlockedOrLater(inode, options.signal);
      }
    }
    if (request.kind === 'unlock') return;
    if (options.signal?.aborted) {
      await this.core.session.call('lock', { inode, ...request, kind: 'unlock' });
      throw interrupted();
    }
    // What the last holder wrote is seen from now on.
    this.core.cache.recall(inode);
    this.files.get(inode)?.reader.drop();
  }

  async test(inode: InodeId, request: LockRequest): Promise<(LockRequest & { pid: number }) | null> {
    const { conflict } = await this.core.session.call('testLock', { inode, ...request });
    return conflict ? { family: request.family, owner: '', ...conflict } : null;
  }

  async drop(inode: InodeId, family: 'flock' | 'posix', owner: string): Promise<void> {
    await this.flush(inode);
    await this.core.session.call('dropLocks', { inode, family, owner });
  }

  /** Pushed by the coordinator: these may be free now. */
  unlocked(inodes: readonly InodeId[]): void {
    for (const inode of inodes) for (const wake of [...(this.waiting.get(inode) ?? [])]) wake();
  }

  /** The next holder must find our bytes. A failure stays for the handle's own flush to tell. */
  private async flush(inode: InodeId): Promise<void> {
    const file = this.files.get(inode);
    if (file?.writer.isDirty) await file.writer.flush().catch(() => {});
  }

  private unlockedOrLater(inode: InodeId, signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve) => {
      const wakers = this.waiting.get(inode) ?? new Set();
      this.waiting.set(inode, wakers);
      const done = (): void => {
        timer.cancel();
        signal?.removeEventListener('abort', done);
        wakers.delete(done);
        if (wakers.size === 0) this.waiting.delete(inode);
        resolve();
      };
      const timer = this.core.environment.setTimer(ASK_AGAIN_MS, done);
      signal?.addEventListener('abort', done);
      wakers.add(done);
    });
  }
}

const interrupted = (): HoldfastError => new HoldfastError('EINTR', 'waiting for a lock was interrupted');
