/**
 * The node's HTTP port: paths, headers and bodies, shared by server and callers. Every request but /healthz and /readyz carries
 * `authorization: Bearer <permit>`, /metrics the metrics token (metricsTokenOf). Errors are JSON WireError bodies with a fitting status; nothing is said about existence before the permit is checked.
 *
 *   PUT  /chunks/:id                 body: encoded chunk            → 201 {receipt}            header x-holdfast-durable: 1 = fsync before reply
 *   POST /chunks                     body: batch of encoded chunks  → 200 {receipts: (string | WireError)[]}, in order; durable header as above
 *                                    batch = for each chunk: u32le length, 64 bytes hex id, encoded chunk
 *   GET  /chunks/:id?first=&count=   → 200 header + the leaves [first, first+count) (all without query); CHUNK_MISSING 404, CHUNK_CORRUPT 409
 *   POST /chunks/read                {ids}                          → 200 batch, as above, of those that are here, whole as far as can be seen and of at most
 *                                    SMALL_CHUNK_BYTES, in order; stops before MAX_PUT_BODY_BYTES. What is left out is asked for singly
 *   HEAD /chunks/:id                 → 200 or 404
 *   POST /sync                       {ids}                          → 200 {missing: ids}: every named chunk that is there is on stable storage now
 *   GET    /metadata/list                                         → 200 {items: {name, sizeBytes, epoch}[]}
 *   PUT    /metadata/:name?epoch=            body: whole content    → 201 {name, sizeBytes, epoch}; header x-holdfast-sha256 = its digest; durable. 422 when it does not match
 *   POST   /metadata/append?name=&offset=&epoch=&sync=  body: bytes → 200 {name, sizeBytes, epoch}; sync=1 = on stable storage before the reply (that of all earlier appends too).
 *                                                                     409 EINVAL with facts.sizeBytes when offset is not the length
 *   GET    /metadata/:name                                        → 200 content; ENOENT 404
 *   DELETE /metadata/:name?epoch=                                 → 200 {removed}
 *                      Copies of the coordinator's metadata, only for permits of client `coordinator`. Names: ^[A-Za-z0-9._-]{1,128}$. A lower epoch than a name has seen: 409 STALE_EPOCH
 *                      Served also by a node that has not registered since its start (it knows its cluster from its data directory): that is how a lost
 *                      coordinator's metadata is found again. Then only permits of the highest generation count, which only the coordinator's own has
 *   GET  /healthz      → 200 {ok, name, cluster: string | null}
 *   GET  /readyz /metrics
 *
 * Status codes: 400 BAD_MESSAGE, 401 UNAUTHORIZED and PERMIT_EXPIRED, 403 FORBIDDEN, 404, 409 CHUNK_CORRUPT, 413 TOO_LARGE, 415 any content-encoding, 422 body does not hash to the id, 507 ENOSPC, 503 NOT_READY/OVERLOADED, 500.
 */
import type { ChunkId, NodeId } from './entities.js';
import type { ErrorCode } from './errors.js';
import { HoldfastError } from './errors.js';

export const DURABLE_HEADER = 'x-holdfast-durable';
/** SHA-256 in hex of the body of PUT /metadata/:name. */
export const SHA256_HEADER = 'x-holdfast-sha256';

export const statusOf: Partial<Record<ErrorCode, number>> = {
  BAD_MESSAGE: 400,
  UNAUTHORIZED: 401,
  PERMIT_EXPIRED: 401,
  FORBIDDEN: 403,
  CHUNK_MISSING: 404,
  CHUNK_CORRUPT: 409,
  STALE_EPOCH: 409,
  ENOENT: 404,
  TOO_LARGE: 413,
  ENOSPC: 507,
  NOT_READY: 503,
  OVERLOADED: 503,
};

const BATCH_ITEM_HEADER_BYTES = 4 + 64;

export interface EncodedChunk {
  readonly id: ChunkId;
  /** Header and payload in pieces, not joined. */
  readonly parts: readonly Buffer[];
}

/** Pieces of a batch body, ready to be written one after the other. */
export function encodeBatch(chunks: readonly EncodedChunk[]): Buffer[] {
  const parts: Buffer[] = [];
  for (const chunk of chunks) {
    const head = Buffer.allocUnsafe(BATCH_ITEM_HEADER_BYTES);
    head.writeUInt32LE(
      chunk.parts.reduce((sum, part) => sum + part.length, 0),
      0,
    );
    head.write(chunk.id, 4, 'latin1');
    parts.push(head, ...chunk.parts);
  }
  return parts;
}

/** @throws {HoldfastError} BAD_MESSAGE when lengths do not add up or there are more than maxChunks */
export function decodeBatch(body: Buffer, maxChunks: number): { id: string; encoded: Buffer }[] {
  const items: { id: string; encoded: Buffer }[] = [];
  let at = 0;
  while (at < body.length) {
    if (body.length - at < BATCH_ITEM_HEADER_BYTES || items.length >= maxChunks) throw new HoldfastError('BAD_MESSAGE', 'malformed batch');
    const length = body.readUInt32LE(at);
    const start = at + BATCH_ITEM_HEADER_BYTES;
    if (length > body.length - start) throw new HoldfastError('BAD_MESSAGE', 'malformed batch');
    items.push({ id: body.toString('latin1', at + 4, start), encoded: body.subarray(start, start + length) });
    at = start + length;
  }
  return items;
}

/**
 * A node as seen by somebody who moves chunks: over HTTP (client/http-chunk-peer.ts, node's own copy), or straight into a node's service in the
 * simulation. All methods reject with HoldfastError: UNREACHABLE, DEADLINE, or what the node answered. They do not retry and do not verify;
 * the caller does both.
 */
export interface ChunkPeer {
  readonly node: NodeId;
  /** Resolves with one receipt or error per chunk, in order. One chunk goes as PUT, several as a batch. */
  put(
    chunks: readonly EncodedChunk[],
    options: { permit: string; durable: boolean; timeoutMs: number; signal?: AbortSignal },
  ): Promise<(string | HoldfastError)[]>;
  /** Encoded header followed by the asked leaves. */
  get(
    chunk: ChunkId,
    leaves: { first: number; count: number } | 'all',
    options: { permit: string; timeoutMs: number; signal?: AbortSignal },
  ): Promise<Buffer>;
  /** The small ones among these chunks, whole and encoded, with one request; others are left out, as are those the node does not have. */
  getSmall?(
    chunks: readonly ChunkId[],
    options: { permit: string; timeoutMs: number; signal?: AbortSignal },
  ): Promise<Map<ChunkId, Buffer>>;
  sync(chunks: readonly ChunkId[], options: { permit: string; timeoutMs: number; signal?: AbortSignal }): Promise<{ missing: ChunkId[] }>;
}
