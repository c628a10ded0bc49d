/** Turns errors of the operating system into answers, counts them, and decides when a disk is no longer to be written to. */
import type { Environment } from '../protocol/environment.js';
import { HoldfastError } from '../protocol/errors.js';
import { errnoOf } from './disk-files.js';

/** Disk errors of writes in a row after which puts are refused. */
const READ_ONLY_AFTER_FAILURES = 3;

export class DiskHealth {
  /** Disk errors since start, a full disk not counted. */
  errorCount = 0;
  isReadOnly = false;
  private failuresInARow = 0;

  constructor(
    private readonly environment: Environment,
    private readonly data: string,
    private readonly onFull: () => void,
  ) {}

  wrote(): void {
    this.failuresInARow = 0;
  }

  /** The answer to who wanted a write, sync or delete that failed. */
  failure(error: unknown, what: string): HoldfastError {
    if (error instanceof HoldfastError) return error;
    const errno = errnoOf(error);
    if (errno === 'ENOSPC' || errno === 'EDQUOT') {
      this.onFull();
      return new HoldfastError('ENOSPC', `${what}: the disk of this node is full`);
    }
    this.errorCount++;
    this.failuresInARow++;
    this.environment.log('error', `${what} failed`, { error: String(error) });
    if (this.failuresInARow >= READ_ONLY_AFTER_FAILURES && !this.isReadOnly) {
      this.isReadOnly = true;
      this.environment.log('error', 'the disk keeps failing: no new chunks are taken until the node is restarted', { data: this.data });
    }
    return new HoldfastError('EIO', `${what} failed: ${errno || 'unexpected error'}`);
  }
}
