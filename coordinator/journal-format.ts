/**
 * Records of the journal as bytes, and what a run of bytes holds.
 *
 *   offset size  field (little endian)
 *        0    4  magic "HFJ1"
 *        4    4  payload length
 *        8    8  sequence, growing by one from record to record
 *       16    8  synced sequence: every record up to it was on stable storage before this one was written
 *       24    4  CRC-32 of the record before (its own field), so that records of two histories never mix
 *       28    4  CRC-32 over bytes 0..28 and the payload
 *       32    …  payload: JSON [[table, key, row | null], ...], all transactions of one group
 */
import { crc32 } from 'node:zlib';
import type { Change } from './rows.js';

const MAGIC = 0x314a4648; // "HFJ1" read as little endian
export const RECORD_HEADER_BYTES = 32;
/** A record claims at most this much; a larger length is damage. */
const MAX_PAYLOAD_BYTES = 1 << 30;

export interface JournalRecord {
  readonly sequence: number;
  readonly syncedSequence: number;
  readonly previousCrc: number;
  readonly crc: number;
  readonly payload: Buffer;
}

export function encodeRecord(
  sequence: number,
  syncedSequence: number,
  previousCrc: number,
  changes: readonly Change[],
): { bytes: Buffer; crc: number } {
  const json = JSON.stringify(changes);
  const payloadBytes = Buffer.byteLength(json);
  const bytes = Buffer.allocUnsafe(RECORD_HEADER_BYTES + payloadBytes);
  bytes.writeUInt32LE(MAGIC, 0);
  bytes.writeUInt32LE(payloadBytes, 4);
  bytes.writeBigUInt64LE(BigInt(sequence), 8);
  bytes.writeBigUInt64LE(BigInt(syncedSequence), 16);
  bytes.writeUInt32LE(previousCrc, 24);
  bytes.write(json, RECORD_HEADER_BYTES, 'utf8');
  const crc = checksum(bytes, payloadBytes);
  bytes.writeUInt32LE(crc, 28);
  return { bytes, crc };
}

const checksum = (record: Buffer, payloadBytes: number): number =>
  crc32(record.subarray(RECORD_HEADER_BYTES, RECORD_HEADER_BYTES + payloadBytes), crc32(record.subarray(0, 28)));

/** The record at `at`, or undefined when there is none that is whole and right. */
export function recordAt(bytes: Buffer, at: number): JournalRecord | undefined {
  if (bytes.length - at < RECORD_HEADER_BYTES || bytes.readUInt32LE(at) !== MAGIC) return undefined;
  const payloadBytes = bytes.readUInt32LE(at + 4);
  if (payloadBytes > MAX_PAYLOAD_BYTES || payloadBytes > bytes.length - at - RECORD_HEADER_BYTES) return undefined;
  const record = bytes.subarray(at, at + RECORD_HEADER_BYTES + payloadBytes);
  const crc = record.readUInt32LE(28);
  if (checksum(record, payloadBytes) !== crc) return undefined;
  return {
    sequence: Number(record.readBigUInt64LE(8)),
    syncedSequence: Number(record.readBigUInt64LE(16)),
    previousCrc: record.readUInt32LE(24),
    crc,
    payload: record.subarray(RECORD_HEADER_BYTES),
  };
}

export const changesOf = (record: JournalRecord): Change[] => JSON.parse(record.payload.toString('utf8')) as Change[];

/** Every whole record that begins at or after `at`, wherever it lies: for telling a torn tail from damage. */
export function* recordsAnywhereAfter(bytes: Buffer, at: number): IterableIterator<JournalRecord> {
  const magic = Buffer.alloc(4);
  magic.writeUInt32LE(MAGIC);
  for (let found = bytes.indexOf(magic, at); found >= 0; found = bytes.indexOf(magic, found + 1)) {
    const record = recordAt(bytes, found);
    if (record) yield record;
  }
}
