/**
 * Chunk format 1 and its id.
 *
 * An encoded chunk is what travels over HTTP and lies on a node's disk, byte for byte:
 *
 *   offset size  field (integers little endian)
 *        0    4  magic "HFC1"
 *        4    4  leafSizeBytes    65536, or 65552 in a sealed chunk: each leaf carries an AES-GCM tag
 *        8    4  volume
 *       12    4  payload length
 *       16    4  leaf count       = ceil(length / leafSizeBytes), 0 for length 0
 *       20   32  sealed chunks only: key salt, from which the owner of the volume key derives the key of this chunk (client/volume-cipher.ts)
 *        …   32  SHA-256 of each leaf as stored, leaf count times
 *        …       payload
 *
 * The key salt lies in the header because the header comes with every read: whoever fetches one leaf can open it without fetching anything else.
 *
 * id = hex SHA-256 over "holdfast-chunk-1\0", then the header from byte 4 to its end. The volume is part of it, so equal
 * content in two volumes gives two ids: knowing an id tells nothing about another volume. The id is over the bytes as stored, so a node
 * checks chunks without any key, and a reader can fetch and verify any leaf range with the header alone (a Merkle tree of depth two).
 */
import { createHash } from 'node:crypto';
import type { ChunkId, VolumeId } from './entities.js';
import { HoldfastError } from './errors.js';
import { LEAF_SIZE_BYTES, MAX_CHUNK_SIZE_BYTES, SEALED_LEAF_SIZE_BYTES } from './limits.js';

const MAGIC = 0x31434648; // "HFC1" read as little endian
const FIXED_HEADER_BYTES = 20;
const DIGEST_BYTES = 32;
export const KEY_SALT_BYTES = 32;
const FORMAT_TAG = Buffer.from('holdfast-chunk-1\0', 'latin1');
/** Tags make a sealed chunk a little longer than the largest plaintext chunk. */
const MAX_PAYLOAD_BYTES = (MAX_CHUNK_SIZE_BYTES / LEAF_SIZE_BYTES) * SEALED_LEAF_SIZE_BYTES;

export interface ChunkHeader {
  readonly leafSizeBytes: number;
  readonly volume: VolumeId;
  readonly payloadBytes: number;
  readonly leafCount: number;
  /** Sealed chunks only. */
  readonly keySalt?: Buffer;
  /** leafCount * 32 bytes. */
  readonly digests: Buffer;
  /** Bytes before the payload. */
  readonly headerBytes: number;
}

const sha256 = (data: Uint8Array): Buffer => createHash('sha256').update(data).digest();

export const isChunkId = (text: unknown): text is ChunkId => typeof text === 'string' && /^[0-9a-f]{64}$/.test(text);

/** Where the leaf digests begin. */
const digestsStart = (leafSizeBytes: number): number =>
  FIXED_HEADER_BYTES + (leafSizeBytes === SEALED_LEAF_SIZE_BYTES ? KEY_SALT_BYTES : 0);
/** Header bytes for a payload of that many leaves. */
export const headerBytesFor = (leafCount: number, leafSizeBytes: number): number => digestsStart(leafSizeBytes) + leafCount * DIGEST_BYTES;
export const leafCountFor = (payloadBytes: number, leafSizeBytes: number): number => Math.ceil(payloadBytes / leafSizeBytes);

/**
 * Hashes a payload and builds its header; the payload itself is not copied: send `[header, payload]`.
 * @param keySalt given for a payload of sealed leaves
 * @throws {HoldfastError} TOO_LARGE
 */
export function buildChunk(payload: Buffer, volume: VolumeId, keySalt?: Buffer): { id: ChunkId; header: Buffer } {
  const leafSizeBytes = keySalt ? SEALED_LEAF_SIZE_BYTES : LEAF_SIZE_BYTES;
  if (payload.length > MAX_PAYLOAD_BYTES)
    throw new HoldfastError('TOO_LARGE', `a chunk holds at most ${MAX_PAYLOAD_BYTES} bytes, not ${payload.length}`);
  const leafCount = leafCountFor(payload.length, leafSizeBytes);
  const header = Buffer.allocUnsafe(headerBytesFor(leafCount, leafSizeBytes));
  header.writeUInt32LE(MAGIC, 0);
  header.writeUInt32LE(leafSizeBytes, 4);
  header.writeUInt32LE(volume, 8);
  header.writeUInt32LE(payload.length, 12);
  header.writeUInt32LE(leafCount, 16);
  if (keySalt) {
    if (keySalt.length !== KEY_SALT_BYTES) throw new HoldfastError('EINVAL', `a key salt has ${KEY_SALT_BYTES} bytes`);
    keySalt.copy(header, FIXED_HEADER_BYTES);
  }
  const digestsAt = digestsStart(leafSizeBytes);
  for (let leaf = 0; leaf < leafCount; leaf++) {
    sha256(payload.subarray(leaf * leafSizeBytes, (leaf + 1) * leafSizeBytes)).copy(header, digestsAt + leaf * DIGEST_BYTES);
  }
  return { id: idOfHeader(header), header };
}

/** The id that a whole header (fixed part and digests) stands for. */
export function idOfHeader(header: Buffer): ChunkId {
  return createHash('sha256').update(FORMAT_TAG).update(header.subarray(4)).digest('hex');
}

/**
 * Reads the header at the start of `bytes` (which may hold more). Says nothing about the payload.
 * @throws {HoldfastError} CHUNK_CORRUPT when it is not a header of this format or is cut off
 */
export function parseHeader(bytes: Buffer): ChunkHeader {
  const bad = (why: string): never => {
    throw new HoldfastError('CHUNK_CORRUPT', `not a chunk: ${why}`);
  };
  if (bytes.length < FIXED_HEADER_BYTES) return bad('shorter than a header');
  if (bytes.readUInt32LE(0) !== MAGIC) return bad('wrong magic');
  const leafSizeBytes = bytes.readUInt32LE(4);
  if (leafSizeBytes !== LEAF_SIZE_BYTES && leafSizeBytes !== SEALED_LEAF_SIZE_BYTES) return bad('unknown leaf size');
  const payloadBytes = bytes.readUInt32LE(12);
  const leafCount = bytes.readUInt32LE(16);
  if (payloadBytes > MAX_PAYLOAD_BYTES) return bad('too long');
  if (leafCount !== leafCountFor(payloadBytes, leafSizeBytes)) return bad('leaf count does not fit the length');
  const headerBytes = headerBytesFor(leafCount, leafSizeBytes);
  if (bytes.length < headerBytes) return bad('header is cut off');
  return {
    leafSizeBytes,
    volume: bytes.readUInt32LE(8),
    payloadBytes,
    leafCount,
    ...(leafSizeBytes === SEALED_LEAF_SIZE_BYTES
      ? { keySalt: bytes.subarray(FIXED_HEADER_BYTES, FIXED_HEADER_BYTES + KEY_SALT_BYTES) }
      : {}),
    digests: bytes.subarray(digestsStart(leafSizeBytes), headerBytes),
    headerBytes,
  };
}

/** Bytes to read from a file so that parseHeader surely succeeds on an intact chunk of the largest size. */
export const MAX_HEADER_BYTES = headerBytesFor(Math.ceil(MAX_PAYLOAD_BYTES / LEAF_SIZE_BYTES), SEALED_LEAF_SIZE_BYTES);

/** True when `leaf` (bytes of leaf number `index`) is what the header promises. */
export function leafMatches(header: ChunkHeader, index: number, leaf: Uint8Array): boolean {
  const expectedBytes = Math.min(header.leafSizeBytes, header.payloadBytes - index * header.leafSizeBytes);
  return leaf.length === expectedBytes && sha256(leaf).equals(header.digests.subarray(index * DIGEST_BYTES, (index + 1) * DIGEST_BYTES));
}

/**
 * Checks a whole encoded chunk against the id it should have and returns its header.
 * @throws {HoldfastError} CHUNK_CORRUPT
 */
export function verifyChunk(id: ChunkId, encoded: Buffer): ChunkHeader {
  const header = parseHeader(encoded);
  if (encoded.length !== header.headerBytes + header.payloadBytes)
    throw new HoldfastError('CHUNK_CORRUPT', 'length does not fit the header', { chunk: id });
  if (idOfHeader(encoded.subarray(0, header.headerBytes)) !== id)
    throw new HoldfastError('CHUNK_CORRUPT', 'header does not hash to the id', { chunk: id });
  for (let leaf = 0; leaf < header.leafCount; leaf++) {
    const start = header.headerBytes + leaf * header.leafSizeBytes;
    if (!leafMatches(header, leaf, encoded.subarray(start, Math.min(start + header.leafSizeBytes, encoded.length))))
      throw new HoldfastError('CHUNK_CORRUPT', `leaf ${leaf} does not match its digest`, { chunk: id, leaf });
  }
  return header;
}

/** Checks that a header belongs to an id. @throws {HoldfastError} CHUNK_CORRUPT */
export function verifyHeader(id: ChunkId, headerAndMore: Buffer): ChunkHeader {
  const header = parseHeader(headerAndMore);
  if (idOfHeader(headerAndMore.subarray(0, header.headerBytes)) !== id)
    throw new HoldfastError('CHUNK_CORRUPT', 'header does not hash to the id', { chunk: id });
  return header;
}
