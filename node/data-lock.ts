/**
 * One process per data directory. The lock is a listening abstract Unix socket whose name follows from the directory's real path: the kernel frees
 * it the moment the process ends, however it ends, so there is never a stale lock to clear. (Processes in different network namespaces do not see
 * each other's; the identity check at the coordinator catches those.)
 */
import { createHash } from 'node:crypto';
import { realpathSync } from 'node:fs';
import { createServer } from 'node:net';
import { HoldfastError } from '../protocol/errors.js';

/** @returns what lets go of the lock. @throws {HoldfastError} EBUSY when another process holds it */
export function lockDataDirectory(data: string): Promise<() => Promise<void>> {
  const digest = createHash('sha256').update(realpathSync(data)).digest('hex').slice(0, 32);
  const server = createServer((socket) => socket.destroy());
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      reject(
        error.code === 'EADDRINUSE'
          ? new HoldfastError('EBUSY', `another node is running on ${data}: stop it first, or choose another --data directory`)
          : error,
      );
    });
    server.listen(`\0holdfast-node-${digest}`, () => {
      server.unref();
      resolve(() => new Promise((done) => server.close(() => done())));
    });
  });
}
