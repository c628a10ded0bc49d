/** Which bytes of an encoded chunk are which leaves. */
import { type ChunkHeader, parseHeader } from '../protocol/chunk.js';
import { HoldfastError } from '../protocol/errors.js';

/** Byte range in the encoded chunk of the leaves [first, first + count), cut at the last leaf. @throws {HoldfastError} BAD_MESSAGE */
export function leafRange(header: ChunkHeader, first: number, count: number): { start: number; end: number } {
  // A chunk of no bytes has no leaves, yet asking for its first is asking for all of it.
  if (first < 0 || (first >= header.leafCount && first > 0))
    throw new HoldfastError('BAD_MESSAGE', `leaf ${first} asked of a chunk with ${header.leafCount}`);
  const end = Math.min((first + count) * header.leafSizeBytes, header.payloadBytes);
  return { start: header.headerBytes + first * header.leafSizeBytes, end: header.headerBytes + end };
}

/** Header and the asked leaves of a whole encoded chunk. @throws {HoldfastError} BAD_MESSAGE, CHUNK_CORRUPT */
export function cutLeaves(encoded: Buffer, first: number, count: number): Buffer {
  const header = parseHeader(encoded);
  if (encoded.length !== header.headerBytes + header.payloadBytes)
    throw new HoldfastError('CHUNK_CORRUPT', 'length does not fit the header');
  const { start, end } = leafRange(header, first, count);
  if (start === header.headerBytes && end === encoded.length) return encoded;
  return Buffer.concat([encoded.subarray(0, header.headerBytes), encoded.subarray(start, end)]);
}
