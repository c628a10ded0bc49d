import { createHash, randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseHeader, verifyChunk } from '../protocol/chunk.js';
import { LEAF_SIZE_BYTES, SEALED_LEAF_SIZE_BYTES } from '../protocol/limits.js';
import { plainForm } from './chunk-form.js';
import { VolumeCipher } from './volume-cipher.js';

const key = Buffer.alloc(32, 7);
const cipher = new VolumeCipher(key);
const MARKER = Buffer.from('a sentence that must not be found');

const leafOf = (payload: Buffer, leaf: number): Buffer =>
  payload.subarray(leaf * SEALED_LEAF_SIZE_BYTES, (leaf + 1) * SEALED_LEAF_SIZE_BYTES);
/** Around the borders of leaves, where mistakes are made. */
const lengths = fc.oneof(
  fc.integer({ min: 1, max: 5000 }),
  fc.tuple(fc.integer({ min: 1, max: 4 }), fc.integer({ min: -17, max: 17 })).map(([leaves, by]) => leaves * LEAF_SIZE_BYTES + by),
);

describe('a sealed chunk', () => {
  it('gives back every leaf, opened alone, and is a valid chunk for nodes that have no key', () => {
    fc.assert(
      fc.property(lengths, fc.integer({ min: 1, max: 99 }), (length, volume) => {
        const plaintext = randomBytes(length);
        const { id, header: headerBytes, payload } = cipher.store(plaintext, volume);
        const header = verifyChunk(id, Buffer.concat([headerBytes, payload]));
        expect(header.leafCount).toBe(Math.ceil(length / LEAF_SIZE_BYTES));
        expect(payload.length).toBe(length + 16 * header.leafCount);
        for (let leaf = header.leafCount - 1; leaf >= 0; leaf--) {
          const opened = cipher.open(header, leaf, leafOf(payload, leaf));
          expect(opened.equals(plaintext.subarray(leaf * LEAF_SIZE_BYTES, (leaf + 1) * LEAF_SIZE_BYTES))).toBe(true);
        }
      }),
      { numRuns: 40 },
    );
  });

  it('is the same for the same bytes and key, so that they are stored once, and shares nothing with that of another key', () => {
    const plaintext = randomBytes(70_000);
    const [one, again] = [cipher.store(plaintext, 1), new VolumeCipher(Buffer.from(key)).store(Buffer.from(plaintext), 1)];
    expect(again.id).toBe(one.id);
    expect(again.payload.equals(one.payload)).toBe(true);
    const other = new VolumeCipher(Buffer.alloc(32, 8)).store(plaintext, 1);
    expect(other.id).not.toBe(one.id);
    expect(parseHeader(other.header).keySalt).not.toEqual(parseHeader(one.header).keySalt);
    expect(other.payload.subarray(0, 32)).not.toEqual(one.payload.subarray(0, 32));
  });

  it('never uses one key for two plaintexts, not even when they differ by their last byte or their length', () => {
    const plaintext = Buffer.alloc(3 * LEAF_SIZE_BYTES, 1);
    const changed = Buffer.from(plaintext);
    changed[changed.length - 1] = 2;
    const salts = [plaintext, changed, plaintext.subarray(0, 2 * LEAF_SIZE_BYTES), plaintext.subarray(1)].map((bytes) =>
      parseHeader(cipher.store(bytes, 1).header).keySalt?.toString('hex'),
    );
    expect(new Set(salts).size).toBe(salts.length);
    // Equal leaves of one chunk differ as well.
    const { payload } = cipher.store(plaintext, 1);
    expect(leafOf(payload, 0).equals(leafOf(payload, 1))).toBe(false);
  });

  it('shows neither the plaintext nor any plain hash of it', () => {
    const plaintext = Buffer.concat([randomBytes(40_000), MARKER, Buffer.alloc(60_000, MARKER)]);
    const { id, header, payload } = cipher.store(plaintext, 1);
    const encoded = Buffer.concat([header, payload]);
    expect(encoded.includes(MARKER)).toBe(false);
    const leaves = [plaintext.subarray(0, LEAF_SIZE_BYTES), plaintext.subarray(LEAF_SIZE_BYTES)];
    for (const hashed of [plaintext, ...leaves]) {
      const digest = createHash('sha256').update(hashed).digest();
      expect(encoded.includes(digest)).toBe(false);
      expect(id).not.toBe(digest.toString('hex'));
    }
    expect(id).not.toBe(plainForm.store(plaintext, 1).id);
  });

  it('opens under no other key, at no other place and with no bit changed', () => {
    const plaintext = randomBytes(2 * LEAF_SIZE_BYTES);
    const { header: headerBytes, payload } = cipher.store(plaintext, 1);
    const header = parseHeader(headerBytes);
    const leaf = leafOf(payload, 0);
    expect(() => new VolumeCipher(Buffer.alloc(32, 8)).open(header, 0, leaf)).toThrow(/not sealed with this volume's key/);
    expect(() => cipher.open(header, 1, leaf)).toThrow(/not sealed/);
    expect(() => cipher.open({ ...header, keySalt: Buffer.alloc(32) }, 0, leaf)).toThrow(/not sealed/);
    expect(() => cipher.open(header, 0, leaf.subarray(0, 10))).toThrow(/too short/);
    fc.assert(
      fc.property(fc.integer({ min: 0, max: leaf.length * 8 - 1 }), (bit) => {
        const damaged = Buffer.from(leaf);
        damaged.writeUInt8(damaged.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3);
        expect(() => cipher.open(header, 0, damaged)).toThrow(/not sealed/);
      }),
      { numRuns: 40 },
    );
  });

  it('is not taken for a plain one, nor a plain one for it', () => {
    const plaintext = randomBytes(1000);
    const sealed = cipher.store(plaintext, 1);
    const plain = plainForm.store(plaintext, 1);
    expect(() => cipher.open(parseHeader(plain.header), 0, plain.payload)).toThrow(/not encrypted/);
    expect(() => plainForm.open(parseHeader(sealed.header), 0, sealed.payload)).toThrow(/is encrypted/);
  });

  it('has a known form for known bytes and key (the format must never change silently)', () => {
    const { id, header, payload } = cipher.store(Buffer.from('hello'), 1);
    expect({ id, salt: parseHeader(header).keySalt?.toString('hex'), payload: payload.toString('hex') }).toMatchInlineSnapshot(`
      {
        "id": "e998a1e9317d61f04ef36e10f65c9425ed64d3c00e9a1281cef305917af0fd32",
        "payload": "2beebaf97aa689cbab1f0446660eefb332e341c32a",
        "salt": "d1e92a0c1f00a41818d35301bd1808d075e154f5714c27e9f7cad43bd3a6da67",
      }
    `);
  });
});
