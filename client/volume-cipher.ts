/**
 * Sealed chunks: what leaves the client of an encrypted volume.
 *
 *   dedup key  = HKDF-SHA256(volume key, info "holdfast-1 dedup")
 *   chunk root = HKDF-SHA256(volume key, info "holdfast-1 chunk")
 *   key salt   = HMAC-SHA256(dedup key, plaintext of the whole chunk)        in the chunk's header, in the clear
 *   chunk key  = HMAC-SHA256(chunk root, key salt)
 *   leaf i     = AES-256-GCM(chunk key, nonce = i as 96 bits, associated data = none, 64 KiB of plaintext) + 16 byte tag
 *
 * Why this is safe: the salt is a keyed hash, so without the volume key it can be neither guessed from known content nor told from random bytes;
 * nor can the id, which is a plain hash over salt and ciphertext. A chunk key is used for one plaintext only (another plaintext has another
 * salt), and the leaves of it differ in their nonce, so no pair of key and nonce ever seals two messages: GCM's one condition. The tag
 * of leaf i opens under nonce i only, so leaves cannot be exchanged. (Convergent encryption, made private to the volume by the keyed hash: as Tahoe-LAFS does
 * with its convergence secret, https://tahoe-lafs.readthedocs.io/en/latest/convergence-secret.html. One key and a counter for the pieces of one
 * message: the STREAM construction, https://eprint.iacr.org/2015/189.)
 *
 * What it does not hide: how many bytes were written where and when, names, and that two chunks of one volume are equal.
 *
 * Equal plaintext in one volume gives equal chunks, so it is stored once. The salt lies in the header, which comes with every read: a random read
 * fetches its leaf and nothing else. Plaintext offset p lies in leaf floor(p / 65536), as in a volume without encryption.
 */
import { createCipheriv, createDecipheriv, createHmac, hkdfSync } from 'node:crypto';
import { buildChunk, type ChunkHeader } from '../protocol/chunk.js';
import type { VolumeId } from '../protocol/entities.js';
import { HoldfastError } from '../protocol/errors.js';
import { LEAF_SIZE_BYTES, SEALED_LEAF_SIZE_BYTES } from '../protocol/limits.js';
import type { ChunkForm, StoredChunk } from './chunk-form.js';

const CIPHER = 'aes-256-gcm';
const TAG_BYTES = SEALED_LEAF_SIZE_BYTES - LEAF_SIZE_BYTES;
const NONCE_BYTES = 12;
export const VOLUME_KEY_BYTES = 32;

/** Seals and opens the chunks of one volume. Pure: the same key and bytes always give the same. */
export class VolumeCipher implements ChunkForm {
  readonly leafSizeBytes = SEALED_LEAF_SIZE_BYTES;
  private readonly dedupKey: Buffer;
  private readonly chunkRoot: Buffer;

  constructor(volumeKey: Buffer) {
    if (volumeKey.length !== VOLUME_KEY_BYTES) throw new HoldfastError('EINVAL', `a volume key has ${VOLUME_KEY_BYTES} bytes`);
    const derive = (purpose: string): Buffer => Buffer.from(hkdfSync('sha256', volumeKey, '', `holdfast-1 ${purpose}`, 32));
    this.dedupKey = derive('dedup');
    this.chunkRoot = derive('chunk');
  }

  store(plaintext: Buffer, volume: VolumeId): StoredChunk {
    const keySalt = createHmac('sha256', this.dedupKey).update(plaintext).digest();
    const key = this.keyOf(keySalt);
    const leafCount = Math.ceil(plaintext.length / LEAF_SIZE_BYTES);
    const payload = Buffer.allocUnsafe(plaintext.length + leafCount * TAG_BYTES);
    for (let leaf = 0; leaf < leafCount; leaf++) {
      const cipher = createCipheriv(CIPHER, key, nonceOf(leaf));
      const at = leaf * SEALED_LEAF_SIZE_BYTES;
      const sealed = cipher.update(plaintext.subarray(leaf * LEAF_SIZE_BYTES, (leaf + 1) * LEAF_SIZE_BYTES));
      cipher.final();
      sealed.copy(payload, at);
      cipher.getAuthTag().copy(payload, at + sealed.length);
    }
    return { ...buildChunk(payload, volume, keySalt), payload };
  }

  open(header: ChunkHeader, leaf: number, stored: Buffer): Buffer {
    if (!header.keySalt)
      throw new HoldfastError('EIO', 'a chunk of this encrypted volume is not encrypted: somebody else than its owner has written it');
    if (stored.length <= TAG_BYTES) throw new HoldfastError('EIO', 'a leaf is too short to be a sealed one');
    const decipher = createDecipheriv(CIPHER, this.keyOf(header.keySalt), nonceOf(leaf), { authTagLength: TAG_BYTES });
    decipher.setAuthTag(stored.subarray(stored.length - TAG_BYTES));
    const plaintext = decipher.update(stored.subarray(0, stored.length - TAG_BYTES));
    try {
      decipher.final();
    } catch {
      throw new HoldfastError('EIO', "a chunk was not sealed with this volume's key: somebody else than its owner has written it");
    }
    return plaintext;
  }

  private keyOf(keySalt: Buffer): Buffer {
    return createHmac('sha256', this.chunkRoot).update(keySalt).digest();
  }
}

function nonceOf(leaf: number): Buffer {
  const nonce = Buffer.alloc(NONCE_BYTES);
  nonce.writeUInt32BE(leaf, NONCE_BYTES - 4);
  return nonce;
}
