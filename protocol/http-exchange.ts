/** One HTTP request to a node and its reply: no redirects, no decoding of bodies, replies capped while they arrive, a deadline for each. */
import type { Dispatcher } from 'undici';
import type { NodeId } from './entities.js';
import { HoldfastError } from './errors.js';

/** Up to this size the pieces of a body are joined: one copy is cheaper than several writes. */
const JOIN_BODY_BYTES = 256 * 1024;

export interface HttpRequest {
  readonly method: 'PUT' | 'POST' | 'GET' | 'HEAD' | 'DELETE';
  readonly path: string;
  readonly permit: string;
  readonly headers?: Record<string, string>;
  readonly body?: readonly Buffer[];
  readonly maxReplyBytes: number;
  readonly timeoutMs: number;
  readonly signal?: AbortSignal;
}
export interface HttpReply {
  readonly status: number;
  readonly body: Buffer;
}

export interface HttpNode {
  readonly node?: NodeId | undefined;
  readonly url: string;
}

/**
 * Sends one request and collects its reply, within a deadline of its own. Straight on the dispatcher, because undici's comfortable calls cost twice
 * the time with small messages.
 * @param node whom to name in errors
 * @throws {HoldfastError} DEADLINE, EINTR (aborted), TOO_LARGE, BAD_MESSAGE; errors of the connection as undici made them
 */
export function exchange(pool: Dispatcher, node: HttpNode, request: HttpRequest, timeoutMs: number): Promise<HttpReply> {
  return new Promise((resolve, reject) => {
    let controller: Dispatcher.DispatchController | undefined;
    let isSettled = false;
    const settle = (): boolean => {
      if (isSettled) return false;
      isSettled = true;
      clearTimeout(timer);
      request.signal?.removeEventListener('abort', onAbort);
      return true;
    };
    const fail = (error: unknown): void => {
      if (settle()) reject(error instanceof Error ? error : new Error(String(error)));
    };
    const giveUp = (error: HoldfastError): void => {
      fail(error);
      controller?.abort(error);
    };
    const onAbort = (): void => giveUp(new HoldfastError('EINTR', 'the transfer was given up'));
    const timer = setTimeout(
      () =>
        giveUp(
          new HoldfastError(
            'DEADLINE',
            `node at ${node.url} did not answer within ${request.timeoutMs} ms`,
            node.node === undefined ? {} : { node: node.node },
          ),
        ),
      timeoutMs,
    );
    if (request.signal?.aborted) {
      onAbort();
      return;
    }
    request.signal?.addEventListener('abort', onAbort, { once: true });

    const headers: Record<string, string> = { authorization: `Bearer ${request.permit}`, ...request.headers };
    let body: Buffer | Iterable<Buffer> | undefined;
    if (request.body) {
      const lengthBytes = request.body.reduce((sum, part) => sum + part.length, 0);
      headers['content-length'] = String(lengthBytes);
      if (request.body.length === 1) body = request.body[0];
      else body = lengthBytes <= JOIN_BODY_BYTES ? Buffer.concat(request.body) : request.body;
    }
    let status = 0;
    let target: Buffer | undefined;
    const pieces: Buffer[] = [];
    let at = 0;
    pool.dispatch(
      { method: request.method, path: request.path, headers, body: body as never, idempotent: true },
      {
        onRequestStart: (started) => {
          controller = started;
          if (isSettled) started.abort(new HoldfastError('DEADLINE', 'given up before it was sent'));
        },
        onResponseStart: (_controller, statusCode, replyHeaders) => {
          status = statusCode;
          if (replyHeaders['content-encoding'] !== undefined) {
            giveUp(new HoldfastError('BAD_MESSAGE', `node at ${node.url} sent an encoded body`));
            return;
          }
          const announced = replyHeaders['content-length'];
          if (announced === undefined) return;
          const lengthBytes = Number(announced);
          // Also what is no number at all.
          if (!(lengthBytes >= 0 && lengthBytes <= request.maxReplyBytes)) giveUp(tooLong(node.url));
          else target = Buffer.allocUnsafe(lengthBytes);
        },
        onResponseData: (_controller, piece) => {
          if (isSettled) return;
          if (at + piece.length > (target?.length ?? request.maxReplyBytes)) {
            giveUp(tooLong(node.url));
            return;
          }
          if (target) piece.copy(target, at);
          else pieces.push(piece);
          at += piece.length;
        },
        onResponseEnd: () => {
          if (target && at !== target.length) {
            fail(Object.assign(new Error('reply was cut off'), { code: 'UND_ERR_SOCKET' }));
            return;
          }
          if (settle()) resolve({ status, body: target ?? Buffer.concat(pieces) });
        },
        onResponseError: (_controller, error) => fail(error),
      },
    );
  });
}

const tooLong = (url: string): HoldfastError => new HoldfastError('TOO_LARGE', `node at ${url} sent more than it was asked for`);
