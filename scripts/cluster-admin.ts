/** The coordinator of a local cluster, asked as its administrator: one connection per call, so that nothing has to be kept while it comes and goes. */
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { AdminCalls, ClusterStatus } from '../protocol/admin-calls.js';
import type { ReplyOf, RequestOf } from '../protocol/call.js';
import { PROTOCOL_VERSION } from '../protocol/limits.js';
import { socketDialer } from '../protocol/socket.js';
import { ClusterError, waitUntil } from './local-process.js';

export class ClusterAdmin {
  private readonly secret = randomBytes(32).toString('hex');

  constructor(
    private readonly url: string,
    private readonly tokenFile: string,
  ) {}

  /** @throws {HoldfastError} */
  async call<M extends keyof AdminCalls & string>(
    method: M,
    request: RequestOf<AdminCalls, M>,
    timeoutMs: number,
  ): Promise<ReplyOf<AdminCalls, M>> {
    const token = readFileSync(this.tokenFile, 'utf8').trim();
    const handshake = { protocol: PROTOCOL_VERSION, token, clientSecret: this.secret, description: `local cluster pid ${process.pid}` };
    const connection = await socketDialer(this.url).dial('admin', handshake, timeoutMs);
    try {
      return (await connection.call({ method, args: request }, timeoutMs)) as ReplyOf<AdminCalls, M>;
    } finally {
      connection.close('done');
    }
  }

  /** Waits until the status fulfils a condition; the coordinator may be away meanwhile. @throws {ClusterError} with the last sentence seen */
  async waitFor(isTrue: (status: ClusterStatus) => boolean, timeoutMs: number, what: string): Promise<ClusterStatus> {
    let last: ClusterStatus | undefined;
    let problem = 'no answer';
    const came = await waitUntil(
      async () => {
        try {
          last = await this.call('status', {}, 5000);
          problem = last.sentence;
          return isTrue(last);
        } catch (error) {
          problem = (error as Error).message;
          return false;
        }
      },
      timeoutMs,
      100,
    );
    if (!came || !last) throw new ClusterError(`the cluster did not reach ${what} within ${timeoutMs / 1000} s: ${problem}`);
    return last;
  }
}
