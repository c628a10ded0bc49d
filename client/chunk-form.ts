/** The form chunks of a volume are stored in: as they are, or sealed (volume-cipher.ts). Everything between cutting and uploading, and between fetching and reading, goes through one. */
import { buildChunk, type ChunkHeader } from '../protocol/chunk.js';
import type { ChunkId, VolumeId } from '../protocol/entities.js';
import { HoldfastError } from '../protocol/errors.js';
import { LEAF_SIZE_BYTES } from '../protocol/limits.js';

export interface StoredChunk {
  readonly id: ChunkId;
  readonly header: Buffer;
  /** What follows the header. The plaintext itself (not a copy) when the form changes nothing. */
  readonly payload: Buffer;
}

export interface ChunkForm {
  /** Of a stored leaf; every leaf holds LEAF_SIZE_BYTES of plaintext, the last one of a chunk may hold fewer. */
  readonly leafSizeBytes: number;
  /** The same bytes always give the same chunk, so that they are stored once. */
  store(plaintext: Buffer, volume: VolumeId): StoredChunk;
  /**
   * Plaintext of a stored leaf that was checked against the header.
   * @throws {HoldfastError} EIO when it is of another form or sealed with another key
   */
  open(header: ChunkHeader, leaf: number, stored: Buffer): Buffer;
}

export const plainForm: ChunkForm = {
  leafSizeBytes: LEAF_SIZE_BYTES,
  store: (plaintext, volume) => ({ ...buildChunk(plaintext, volume), payload: plaintext }),
  open: (header, _leaf, stored) => {
    if (header.keySalt) throw new HoldfastError('EIO', 'a chunk of a volume without encryption is encrypted; see "holdfast check"');
    return stored;
  },
};

/** How many leaves a chunk of so many stored bytes has. */
export const storedLeaves = (form: ChunkForm, storedBytes: number): number => Math.ceil(storedBytes / form.leafSizeBytes);
