/**
 * A node seen over HTTP (chunk-http.ts): what clients and nodes move chunks with. One pool of connections per node. No redirects, no decoding of
 * bodies, replies capped while they arrive, every request with a deadline. A request that met a connection the node had just closed (the usual
 * race of keep-alive) is sent once more; all requests here may be repeated, since chunks are named by their hash.
 */
import { Pool } from 'undici';
import { type ChunkPeer, DURABLE_HEADER, decodeBatch, type EncodedChunk, encodeBatch } from './chunk-http.js';
import type { ChunkId, NodeId } from './entities.js';
import { fromWire, HoldfastError, type WireError } from './errors.js';
import { exchange, type HttpReply, type HttpRequest } from './http-exchange.js';
import { MAX_PUT_BODY_BYTES } from './limits.js';
import { clientTls, type PeerTls, tlsReason } from './tls.js';

/** JSON replies: 512 receipts of about 600 bytes, or 2000 ids, with room to spare. */
const MAX_JSON_BYTES = 1024 * 1024;
/** Shorter than the node's, so that normally it is this side that closes. */
const KEEP_ALIVE_MS = 10_000;
/** What undici says when a kept-alive connection turned out closed. */
const STALE_SOCKET = new Set(['UND_ERR_SOCKET', 'ECONNRESET', 'EPIPE']);

export interface HttpChunkPeerOptions {
  readonly node: NodeId;
  /** http(s)://host:port */
  readonly url: string;
  /** Most connections at a time; default 8. */
  readonly connections?: number;
  /** For https. */
  readonly tls?: PeerTls;
  readonly connectTimeoutMs?: number;
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
        ...clientTls(options.tls),
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

  private async send(request: HttpRequest): Promise<HttpReply> {
    const deadlineMs = performance.now() + request.timeoutMs;
    try {
      return await exchange(this.pool, this, request, request.timeoutMs);
    } catch (error) {
      const leftMs = deadlineMs - performance.now();
      if (!STALE_SOCKET.has((error as { code?: string }).code ?? '') || leftMs <= 0 || request.signal?.aborted) throw this.failure(error);
    }
    try {
      return await exchange(this.pool, this, request, Math.max(1, deadlineMs - performance.now()));
    } catch (error) {
      throw this.failure(error);
    }
  }

  private failure(error: unknown): HoldfastError {
    if (error instanceof HoldfastError) return error;
    const { code, message } = error as { code?: string; message?: string };
    const reason = tlsReason(message ?? '');
    const why = reason === message ? (code ?? message) : reason || 'unknown reason';
    return new HoldfastError('UNREACHABLE', `node at ${this.url} cannot be reached: ${why}`, { node: this.node });
  }
}

const malformed = (): HoldfastError => new HoldfastError('BAD_MESSAGE', "the node's reply is malformed");

function parsed(body: Buffer): unknown {
  try {
    return JSON.parse(body.toString());
  } catch {
    throw malformed();
  }
}

function succeeded(reply: HttpReply): object {
  if (reply.status !== 200 && reply.status !== 201) throw failureOf(reply);
  const value = parsed(reply.body);
  if (typeof value !== 'object' || value === null) throw malformed();
  return value;
}

function failureOf(reply: HttpReply): HoldfastError {
  let wire: unknown;
  try {
    wire = JSON.parse(reply.body.toString());
  } catch {
    wire = undefined;
  }
  if (typeof wire === 'object' && wire !== null && typeof (wire as WireError).code === 'string') return fromWire(wire as WireError);
  return new HoldfastError('BAD_MESSAGE', `unexpected reply with status ${reply.status}`);
}
