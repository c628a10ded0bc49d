/**
 * What a clean stop leaves behind: volume and sizes of every chunk, so that the next start need not open each file for its header.
 * Only a hint: the directory listing decides what is there, and the file is removed as soon as it was read, so an unclean stop leaves none.
 *
 * File: "HFI1", then per chunk 32 bytes id, u32le volume, u32le payload bytes, u32le encoded bytes; at the end SHA-256 of all before.
 */
import { createHash } from 'node:crypto';
import type { ChunkId } from '../protocol/entities.js';
import { type DiskFiles, errnoOf, replaceFile } from './disk-files.js';

const MAGIC = Buffer.from('HFI1', 'latin1');
const RECORD_BYTES = 44;
const DIGEST_BYTES = 32;

export interface IndexRecord {
  readonly id: ChunkId;
  readonly volume: number;
  readonly sizeBytes: number;
  readonly encodedBytes: number;
}

export async function saveIndexFile(
  files: DiskFiles,
  path: string,
  temporaryDirectory: string,
  records: Iterable<IndexRecord>,
  count: number,
): Promise<void> {
  const content = Buffer.allocUnsafe(MAGIC.length + count * RECORD_BYTES + DIGEST_BYTES);
  let at = MAGIC.copy(content);
  for (const { id, volume, sizeBytes, encodedBytes } of records) {
    content.write(id, at, 'hex');
    content.writeUInt32LE(volume, at + 32);
    content.writeUInt32LE(sizeBytes, at + 36);
    content.writeUInt32LE(encodedBytes, at + 40);
    at += RECORD_BYTES;
  }
  createHash('sha256').update(content.subarray(0, at)).digest().copy(content, at);
  await replaceFile(files, path, temporaryDirectory, content.subarray(0, at + DIGEST_BYTES));
}

/** Reads and removes the file. Nothing when there is none or it is damaged. */
export async function takeIndexFile(files: DiskFiles, path: string): Promise<IndexRecord[]> {
  let content: Buffer;
  try {
    const fd = await files.open(path, 'r');
    try {
      content = await files.read(fd, await files.sizeOf(path), 0);
    } finally {
      await files.close(fd);
    }
    await files.unlink(path);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return [];
    throw error;
  }
  const end = content.length - DIGEST_BYTES;
  const isWhole =
    end >= MAGIC.length &&
    (end - MAGIC.length) % RECORD_BYTES === 0 &&
    content.subarray(0, MAGIC.length).equals(MAGIC) &&
    createHash('sha256').update(content.subarray(0, end)).digest().equals(content.subarray(end));
  if (!isWhole) return [];
  const records: IndexRecord[] = [];
  for (let at = MAGIC.length; at < end; at += RECORD_BYTES)
    records.push({
      id: content.toString('hex', at, at + 32),
      volume: content.readUInt32LE(at + 32),
      sizeBytes: content.readUInt32LE(at + 36),
      encodedBytes: content.readUInt32LE(at + 40),
    });
  return records;
}
