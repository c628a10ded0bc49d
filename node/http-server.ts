/** The node's HTTP port: what protocol/chunk-http.ts says, over ChunkService and MetadataStore. Limits come before reading, permits before answering. */
import { createServer as createHttpServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import { isChunkId } from '../protocol/chunk.js';
import { DURABLE_HEADER, decodeBatch, encodeBatch, SHA256_HEADER, statusOf } from '../protocol/chunk-http.js';
import type { Environment } from '../protocol/environment.js';
import { HoldfastError, toWire } from '../protocol/errors.js';
import { MAX_BATCH_CHUNKS, MAX_IDS_PER_CALL, MAX_PUT_BODY_BYTES } from '../protocol/limits.js';
import { limitPeers } from '../protocol/peer-limit.js';
import type { Permit } from '../protocol/permit.js';
import { type PeerTls, serverTls } from '../protocol/tls.js';
import { BodyBuffers } from './body-buffers.js';
import type { ChunkService } from './chunk-service.js';
import { MetadataStore } from './metadata-store.js';
import type { NodeMetrics } from './metrics.js';
import { Shares } from './shares.js';

const MAX_CONNECTIONS = 2000;
/** Behind one address there may be many mounts, of eight connections each. */
const MAX_CONNECTIONS_PER_ADDRESS = 1000;
/** Sent without waiting for replies. Nobody of ours sends a second one. */
const MAX_REQUESTS_PER_CONNECTION = 8;
/** A connection of which no byte moves for this long, either way, is closed. */
const SILENCE_MS = 60_000;
/** A body of which nothing comes for this long is given up. */
const BODY_SILENCE_MS = 10_000;
/** Longer than any client of ours keeps an idle connection, so it is the client who closes and never meets a connection just gone. */
const KEEP_ALIVE_MS = 30_000;
const MAX_SYNC_BODY_BYTES = MAX_IDS_PER_CALL * 70;

export interface ChunkServerOptions {
  readonly service: ChunkService;
  readonly metadata?: MetadataStore;
  readonly metrics?: NodeMetrics;
  readonly environment: Environment;
  /** Who answers here, for /healthz. The cluster is null until a coordinator took the node in for the first time. */
  readonly identity?: () => { name: string; cluster: string | null };
  /** Reasons why the node cannot serve right now; empty = ready. */
  readonly unreadyReasons: () => string[];
  /** With a certificate the port speaks HTTPS. */
  readonly tls?: PeerTls;
}

/** An HTTP server not yet listening. */
export function createChunkServer(options: ChunkServerOptions): Server {
  const requests = new ChunkRequests(options);
  const timeouts = {
    // Slow senders are cut: headers within 10 s, the whole request within 60 s.
    headersTimeout: 10_000,
    requestTimeout: 60_000,
    connectionsCheckingInterval: 2000,
    keepAliveTimeout: KEEP_ALIVE_MS,
    noDelay: true,
    highWaterMark: 256 * 1024,
  };
  const listener = (request: IncomingMessage, response: ServerResponse): void => requests.handle(request, response);
  const tls = serverTls(options.tls);
  const server = tls ? createHttpsServer({ ...timeouts, ...tls }, listener) : createHttpServer(timeouts, listener);
  server.maxConnections = MAX_CONNECTIONS;
  // And slow readers: no byte moved either way for this long.
  server.timeout = SILENCE_MS;
  limitPeers(server, { maxPerAddress: MAX_CONNECTIONS_PER_ADDRESS, speaksPlainHttp: !tls, log: options.environment.log });
  return server;
}

interface Body {
  readonly bytes: Buffer;
  readonly release: () => void;
  readonly reuse: () => void;
}

class ChunkRequests {
  private readonly buffers = new BodyBuffers();
  private readonly receiving: Shares;
  private readonly sending: Shares;
  private readonly underWay = new WeakMap<object, number>();
  constructor(private readonly options: ChunkServerOptions) {
    this.receiving = new Shares('receiving', options.environment);
    this.sending = new Shares('sending', options.environment);
  }

  handle(request: IncomingMessage, response: ServerResponse): void {
    const { socket } = request;
    const underWay = (this.underWay.get(socket) ?? 0) + 1;
    this.underWay.set(socket, underWay);
    response.once('close', () => this.underWay.set(socket, (this.underWay.get(socket) ?? 1) - 1));
    if (underWay > MAX_REQUESTS_PER_CONNECTION) {
      this.fail(request, response, new HoldfastError('OVERLOADED', 'too many requests of this connection are unanswered: wait for some'));
      return;
    }
    const end = this.options.metrics?.started(request.method ?? '');
    if (end) response.once('close', () => end(response.statusCode));
    this.route(request, response).catch((error: unknown) => this.fail(request, response, error));
  }

  private async route(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { service } = this.options;
    const url = request.url ?? '/';
    const cut = url.indexOf('?');
    const path = cut < 0 ? url : url.slice(0, cut);
    const { method } = request;
    if (method === 'GET' && path === '/healthz') return json(response, 200, { ok: true, ...this.options.identity?.() });
    if (method === 'GET' && path === '/readyz') {
      const reasons = this.options.unreadyReasons();
      return json(response, reasons.length === 0 ? 200 : 503, { ready: reasons.length === 0, reasons });
    }
    if (method === 'GET' && path === '/metrics' && this.options.metrics) {
      service.authorizeMetrics(bearerOf(request, 'the metrics token of the cluster'));
      const text = await this.options.metrics.text();
      response.writeHead(200, { 'content-type': this.options.metrics.contentType });
      response.end(text);
      return;
    }
    const permitText = bearerOf(request);
    if (request.headers['content-encoding'] !== undefined)
      throw new HttpFailure(415, new HoldfastError('BAD_MESSAGE', 'content-encoding is not accepted: send chunks as they are'));
    const query = (): URLSearchParams => new URLSearchParams(cut < 0 ? '' : url.slice(cut + 1));

    if (path.startsWith('/metadata/')) return this.metadata(request, response, permitText, path.slice(10), query());
    if (path === '/chunks' && method === 'POST') {
      const permit = service.authorize(permitText, 'write');
      const body = await this.body(request, MAX_PUT_BODY_BYTES, permit);
      try {
        const results = await service.put(permit, decodeBatch(body.bytes, MAX_BATCH_CHUNKS), isDurable(request));
        body.reuse();
        return json(response, 200, { receipts: results.map((result) => (typeof result === 'string' ? result : toWire(result))) });
      } finally {
        body.release();
      }
    }
    if (path === '/chunks/read' && method === 'POST') {
      const permit = service.authorize(permitText, 'read');
      const body = await this.body(request, MAX_SYNC_BODY_BYTES, permit);
      try {
        const parts = encodeBatch(await service.getSmall(permit, idsOf(body.bytes), MAX_PUT_BODY_BYTES));
        const bytes = Buffer.concat(parts);
        this.send(response, permit, bytes);
        return;
      } finally {
        body.release();
      }
    }
    if (path === '/sync' && method === 'POST') {
      const permit = service.authorize(permitText, 'write');
      const body = await this.body(request, MAX_SYNC_BODY_BYTES, permit);
      try {
        return json(response, 200, { missing: await service.sync(permit, idsOf(body.bytes)) });
      } finally {
        body.release();
      }
    }
    if (!path.startsWith('/chunks/')) {
      service.authorize(permitText, 'read');
      throw new HttpFailure(404, new HoldfastError('BAD_MESSAGE', 'no such path'));
    }
    const id = path.slice(8);
    if (method === 'PUT') {
      const permit = service.authorize(permitText, 'write');
      if (!isChunkId(id)) throw new HoldfastError('BAD_MESSAGE', 'not a chunk id');
      const body = await this.body(request, MAX_PUT_BODY_BYTES, permit);
      try {
        const [result] = await service.put(permit, [{ id, encoded: body.bytes }], isDurable(request));
        body.reuse();
        if (result instanceof HoldfastError) throw result.code === 'CHUNK_CORRUPT' ? new HttpFailure(422, result) : result;
        return json(response, 201, { receipt: result });
      } finally {
        body.release();
      }
    }
    const permit = service.authorize(permitText, 'read');
    if (!isChunkId(id)) throw new HoldfastError('BAD_MESSAGE', 'not a chunk id');
    if (method === 'GET') {
      const parameters = cut < 0 ? undefined : query();
      const first = numberOf(parameters, 'first', 0);
      const bytes = await service.get(permit, id, first, numberOf(parameters, 'count', Number.POSITIVE_INFINITY));
      this.send(response, permit, bytes);
    } else if (method === 'HEAD') {
      response.writeHead((await service.head(permit, id)) ? 200 : 404);
      response.end();
    } else throw new HttpFailure(405, new HoldfastError('BAD_MESSAGE', `${method} is not served here`));
  }

  /** Counts as under way until the other side has it, or is gone. @throws {HoldfastError} OVERLOADED */
  private send(response: ServerResponse, permit: Permit, bytes: Buffer): void {
    const release = this.sending.take(permit, bytes.length);
    response.once('close', release);
    // It went away while the chunk was read: its end came before anybody listened.
    if (response.destroyed) release();
    response.writeHead(200, { 'content-type': 'application/octet-stream', 'content-length': bytes.length });
    response.end(bytes);
  }

  private async metadata(
    request: IncomingMessage,
    response: ServerResponse,
    permitText: string,
    name: string,
    query: URLSearchParams,
  ): Promise<void> {
    const { service, metadata } = this.options;
    const { method } = request;
    const permit = service.authorizeCoordinator(permitText);
    if (!metadata) throw new HttpFailure(404, new HoldfastError('ENOENT', 'this node keeps no metadata copies'));
    if (method === 'GET' && name === 'list') return json(response, 200, { items: metadata.list() });
    if (method === 'POST' && name === 'append') {
      const target = MetadataStore.checkName(query.get('name') ?? '');
      const offset = numberOf(query, 'offset', Number.NaN);
      const epoch = numberOf(query, 'epoch', Number.NaN);
      const body = await this.body(request, MAX_PUT_BODY_BYTES, permit);
      try {
        return json(response, 200, await metadata.append(target, offset, epoch, body.bytes, query.get('sync') === '1'));
      } catch (error) {
        throw error instanceof HoldfastError && error.code === 'EINVAL' ? new HttpFailure(409, error) : error;
      } finally {
        body.release();
      }
    }
    MetadataStore.checkName(name);
    if (method === 'PUT') {
      const digest = request.headers[SHA256_HEADER];
      if (typeof digest !== 'string' || !/^[0-9a-f]{64}$/i.test(digest))
        throw new HoldfastError('BAD_MESSAGE', `the header ${SHA256_HEADER} must hold the SHA-256 of the body`);
      const pieces = request as AsyncIterable<Buffer>;
      try {
        return json(response, 201, await metadata.put(name, numberOf(query, 'epoch', Number.NaN), digest, pieces));
      } catch (error) {
        throw error instanceof HoldfastError && error.code === 'CHUNK_CORRUPT' ? new HttpFailure(422, error) : error;
      }
    }
    if (method === 'DELETE') return json(response, 200, { removed: await metadata.remove(name, numberOf(query, 'epoch', Number.NaN)) });
    if (method !== 'GET') throw new HttpFailure(405, new HoldfastError('BAD_MESSAGE', `${method} is not served here`));
    const { sizeBytes, pieces } = metadata.read(name);
    response.writeHead(200, { 'content-type': 'application/octet-stream', 'content-length': sizeBytes });
    for await (const piece of pieces) {
      if (!response.write(piece)) await new Promise<void>((resolve) => onceEither(response, resolve));
      if (response.destroyed) return;
    }
    response.end();
  }

  /**
   * Reads a whole body, refusing it before the first byte when it is too large or too much is being read already. `release` it when done, in any
   * case; `reuse` it when surely nobody looks at its bytes any more: a later body overwrites them.
   */
  private async body(request: IncomingMessage, maxBytes: number, permit: Permit): Promise<Body> {
    const announced = request.headers['content-length'];
    const tooLarge = (): HoldfastError => new HoldfastError('TOO_LARGE', `a body here holds at most ${maxBytes} bytes`);
    const lengthBytes = announced === undefined ? undefined : Number(announced);
    if (lengthBytes !== undefined && lengthBytes > maxBytes) throw tooLarge();
    const countedBytes = lengthBytes ?? maxBytes;
    const release = this.receiving.take(permit, countedBytes);
    let target = lengthBytes === undefined ? undefined : this.buffers.take(lengthBytes);
    const reuse = (): void => {
      if (target) this.buffers.giveBack(target);
      target = undefined;
    };
    try {
      return { bytes: await readBody(request, target, maxBytes, tooLarge), release, reuse };
    } catch (error) {
      release();
      throw error;
    }
  }

  private fail(request: IncomingMessage, response: ServerResponse, error: unknown): void {
    const cause = error instanceof HttpFailure ? error.cause : error;
    if (!(cause instanceof HoldfastError))
      this.options.environment.log('error', 'a request failed unexpectedly', {
        error: cause instanceof Error ? cause.stack : String(cause),
      });
    if (response.headersSent || response.destroyed) {
      response.destroy();
      return;
    }
    const wire = toWire(cause);
    const status = error instanceof HttpFailure ? error.status : (statusOf[wire.code] ?? 500);
    // A body that was not read to its end would be taken for the next request.
    if (!request.complete) {
      response.setHeader('connection', 'close');
      response.once('finish', () => request.destroy());
    }
    json(response, status, wire);
  }
}

/** A failure with a status that its code alone does not tell. */
class HttpFailure extends Error {
  constructor(
    readonly status: number,
    override readonly cause: HoldfastError,
  ) {
    super(cause.message);
  }
}

/** @param target as long as the body announced itself; undefined when it did not */
function readBody(request: IncomingMessage, target: Buffer | undefined, maxBytes: number, tooLarge: () => HoldfastError): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const pieces: Buffer[] = [];
    let at = 0;
    // Whoever sends a little now and then has the time that the server gives a whole request.
    request.setTimeout(BODY_SILENCE_MS, () => reject(new HoldfastError('BAD_MESSAGE', 'the body did not come')));
    request.on('data', (piece: Buffer) => {
      if (at + piece.length > (target?.length ?? maxBytes)) {
        request.removeAllListeners('data');
        request.pause();
        reject(tooLarge());
        return;
      }
      if (target) piece.copy(target, at);
      else pieces.push(piece);
      at += piece.length;
    });
    let isEnded = false;
    request.once('end', () => {
      isEnded = true;
      request.socket.setTimeout(SILENCE_MS);
      if (target && at !== target.length) reject(new HoldfastError('BAD_MESSAGE', 'the body was cut off'));
      else resolve(target ?? Buffer.concat(pieces));
    });
    const cutOff = (): void => {
      // After the end this comes as well; an error costs its stack trace, so none is made for nothing.
      if (!isEnded) reject(new HoldfastError('BAD_MESSAGE', 'the body was cut off'));
    };
    request.once('error', cutOff);
    request.once('close', cutOff);
  });
}

function json(response: ServerResponse, status: number, value: unknown): void {
  const text = JSON.stringify(value);
  response.writeHead(status, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) });
  response.end(text);
}

function onceEither(response: ServerResponse, then: () => void): void {
  const done = (): void => {
    response.off('drain', done);
    response.off('close', done);
    then();
  };
  response.on('drain', done);
  response.on('close', done);
}

function bearerOf(request: IncomingMessage, what = 'a permit'): string {
  const { authorization } = request.headers;
  if (!authorization?.startsWith('Bearer '))
    throw new HoldfastError('UNAUTHORIZED', `this needs ${what}, in a header "authorization: Bearer ..."`);
  return authorization.slice(7);
}

const isDurable = (request: IncomingMessage): boolean => request.headers[DURABLE_HEADER] === '1';

function numberOf(query: URLSearchParams | undefined, name: string, absent: number): number {
  const text = query?.get(name) ?? undefined;
  if (text === undefined && !Number.isNaN(absent)) return absent;
  if (text === undefined || !/^\d{1,15}$/.test(text)) throw new HoldfastError('BAD_MESSAGE', `${name} must be a whole number`);
  return Number(text);
}

function idsOf(body: Buffer): string[] {
  let value: unknown;
  try {
    value = JSON.parse(body.toString());
  } catch {
    value = undefined;
  }
  const ids = (value as { ids?: unknown } | null | undefined)?.ids;
  if (!Array.isArray(ids) || ids.length > MAX_IDS_PER_CALL || !ids.every(isChunkId))
    throw new HoldfastError('BAD_MESSAGE', `expected {ids: [...]} with at most ${MAX_IDS_PER_CALL} chunk ids`);
  return ids;
}
