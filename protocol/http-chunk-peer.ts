/**
 * A node seen over HTTP (chunk-http.ts): what clients and nodes move chunks with. One pool of connections per node. No redirects, no decoding of
 * bodies, replies capped while they arrive, every request with a deadline. A request that met a connection the node had just closed (the usual
 * race of keep-alive) is sent once more; all requests here may be repeated, since chunks are named by their hash.
 */
import { type Dispatcher, Pool } from 'undici';
import { type ChunkPeer, DURABLE_HEADER, decodeBatch, type EncodedChunk, encodeBatch } from './chunk-http.js';
import type { ChunkId, NodeId } from './entities.js';
import { fromWire, HoldfastError, type WireError } from './errors.js';
import { MAX_PUT_BODY_BYTES } from './limits.js';

/** JSON replies: 512 receipts of about 600 bytes, or 2000 ids, with room to spare. */
const MAX_JSON_BYTES = 1024 * 1024;
/** Shorter than the node's, so that normally it is this side that closes. */
const KEEP_ALIVE_MS = 10_000;
/** Up to this size the pieces of a body are joined: one copy is cheaper than several writes. */
const JOIN_BODY_BYTES = 256 * 1024;
/** What undici says when a kept-alive connection turned out closed. */
const STALE_SOCKET = new Set(['UND_ERR_SOCKET', 'ECONNRESET', 'EPIPE']);

export interface HttpChunkPeerOptions {
  readonly node: NodeId;
  /** http(s)://host:port */
  readonly url: string;
  /** Most connections at a time; default 8. */
  readonly connections?: number;
  /** Certificates to trust, PEM, for https. */
  readonly ca?: string | Buffer;
  readonly connectTimeoutMs?: number;
}

interface Request {
  readonly method: 'PUT' | 'POST' | 'GET' | 'HEAD' | 'DELETE';
  readonly path: string;
  readonly permit: string;
  readonly headers?: Record<string, string>;
  readonly body?: readonly Buffer[];
  readonly maxReplyBytes: number;
  readonly timeoutMs: number;
  readonly signal?: AbortSignal;
}
interface Reply {
  readonly status: number;
  readonly body: Buffer;
}

export class HttpChunkPeer implements ChunkPeer {
  readonly node: NodeId;
  readonly url: string;
  private readonly pool: Pool;

  constructor(options: HttpChunkPeerOptions) {
    this.node = options.node;
    this.url = options.url;
    this.pool = new Pool(new URL(options.url).origin, {
      connections: options.connections ?? 8,
      pipelining: 1,
      keepAliveTimeout: KEEP_ALIVE_MS,
      keepAliveMaxTimeout: KEEP_ALIVE_MS,
      // The deadline of each request is its own timer below.
      headersTimeout: 0,
      bodyTimeout: 0,
      connect: {
        timeout: options.connectTimeoutMs ?? 2000,
        ...(options.ca === undefined ? {} : { ca: options.ca }),
      },
    });
  }

  async put(
    chunks: readonly EncodedChunk[],
    options: { permit: string; durable: boolean; timeoutMs: number; signal?: AbortSignal },
  ): Promise<(string | HoldfastError)[]> {
    const headers = options.durable ? { [DURABLE_HEADER]: '1' } : undefined;
    const only = chunks.length === 1 ? chunks[0] : undefined;
    const request = only
      ? ({ method: 'PUT', path: `/chunks/${only.id}`, body: only.parts } as const)
      : ({ method: 'POST', path: '/chunks', body: encodeBatch(chunks) } as const);
    const reply = await this.send({ ...request, ...options, ...(headers ? { headers } : {}), maxReplyBytes: MAX_JSON_BYTES });
    const answer = succeeded(reply) as { receipt?: unknown; receipts?: unknown };
    const receipts = only ? [answer.receipt] : answer.receipts;
    if (!Array.isArray(receipts) || receipts.length !== chunks.length) throw malformed();
    return receipts.map((receipt) => {
      if (typeof receipt === 'string') return receipt;
      if (typeof receipt !== 'object' || receipt === null) throw malformed();
      return fromWire(receipt as WireError);
    });
  }

  async get(
    chunk: ChunkId,
    leaves: { first: number; count: number } | 'all',
    options: { permit: string; timeoutMs: number; signal?: AbortSignal },
  ): Promise<Buffer> {
    const query = leaves === 'all' ? '' : `?first=${leaves.first}&count=${leaves.count}`;
    const reply = await this.send({ method: 'GET', path: `/chunks/${chunk}${query}`, ...options, maxReplyBytes: MAX_PUT_BODY_BYTES });
    if (reply.status !== 200) throw failureOf(reply);
    return reply.body;
  }

  async getSmall(
    chunks: readonly ChunkId[],
    options: { permit: string; timeoutMs: number; signal?: AbortSignal },
  ): Promise<Map<ChunkId, Buffer>> {
    const body = [Buffer.from(JSON.stringify({ ids: chunks }))];
    const reply = await this.send({ method: 'POST', path: '/chunks/read', ...options, body, maxReplyBytes: MAX_PUT_BODY_BYTES });
    if (reply.status !== 200) throw failureOf(reply);
    return new Map(decodeBatch(reply.body, chunks.length).map(({ id, encoded }) => [id, encoded]));
  }

  async sync(
    chunks: readonly ChunkId[],
    options: { permit: string; timeoutMs: number; signal?: AbortSignal },
  ): Promise<{ missing: ChunkId[] }> {
    const body = [Buffer.from(JSON.stringify({ ids: chunks }))];
    const reply = await this.send({ method: 'POST', path: '/sync', ...options, body, maxReplyBytes: MAX_JSON_BYTES });
    const { missing } = succeeded(reply) as { missing?: unknown };
    if (!Array.isArray(missing)) throw malformed();
    return { missing: missing as ChunkId[] };
  }

  /** Ends all connections; requests under way fail. */
  close(): Promise<void> {
    return this.pool.destroy();
  }

  private async send(request: Request): Promise<Reply> {
    const deadlineMs = performance.now() + request.timeoutMs;
    try {
      return await this.sendOnce(request, request.timeoutMs);
    } catch (error) {
      const leftMs = deadlineMs - performance.now();
      if (!STALE_SOCKET.has((error as { code?: string }).code ?? '') || leftMs <= 0 || request.signal?.aborted) throw this.failure(error);
    }
    try {
      return await this.sendOnce(request, Math.max(1, deadlineMs - performance.now()));
    } catch (error) {
      throw this.failure(error);
    }
  }

  private failure(error: unknown): HoldfastError {
    if (error instanceof HoldfastError) return error;
    const { code, message } = error as { code?: string; message?: string };
    return new HoldfastError('UNREACHABLE', `node at ${this.url} cannot be reached: ${code ?? message ?? 'unknown reason'}`, {
      node: this.node,
    });
  }

  private sendOnce(request: Request, timeoutMs: number): Promise<Reply> {
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
          giveUp(new HoldfastError('DEADLINE', `node at ${this.url} did not answer within ${request.timeoutMs} ms`, { node: this.node })),
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
      this.pool.dispatch(
        { method: request.method, path: request.path, headers, body: body as never, idempotent: true },
        {
          onRequestStart: (started) => {
            controller = started;
            if (isSettled) started.abort(new HoldfastError('DEADLINE', 'given up before it was sent'));
          },
          onResponseStart: (_controller, statusCode, replyHeaders) => {
            status = statusCode;
            if (replyHeaders['content-encoding'] !== undefined) {
              giveUp(new HoldfastError('BAD_MESSAGE', `node at ${this.url} sent an encoded body`));
              return;
            }
            const announced = replyHeaders['content-length'];
            if (announced === undefined) return;
            const lengthBytes = Number(announced);
            if (lengthBytes > request.maxReplyBytes) giveUp(tooLong(this.url));
            else target = Buffer.allocUnsafe(lengthBytes);
          },
          onResponseData: (_controller, piece) => {
            if (isSettled) return;
            if (at + piece.length > (target?.length ?? request.maxReplyBytes)) {
              giveUp(tooLong(this.url));
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
}

const malformed = (): HoldfastError => new HoldfastError('BAD_MESSAGE', "the node's reply is malformed");
const tooLong = (url: string): HoldfastError => new HoldfastError('TOO_LARGE', `node at ${url} sent more than it was asked for`);

function parsed(body: Buffer): unknown {
  try {
    return JSON.parse(body.toString());
  } catch {
    throw malformed();
  }
}

function succeeded(reply: Reply): object {
  if (reply.status !== 200 && reply.status !== 201) throw failureOf(reply);
  const value = parsed(reply.body);
  if (typeof value !== 'object' || value === null) throw malformed();
  return value;
}

function failureOf(reply: Reply): HoldfastError {
  let wire: unknown;
  try {
    wire = JSON.parse(reply.body.toString());
  } catch {
    wire = undefined;
  }
  if (typeof wire === 'object' && wire !== null && typeof (wire as WireError).code === 'string') return fromWire(wire as WireError);
  return new HoldfastError('BAD_MESSAGE', `unexpected reply with status ${reply.status}`);
}
