import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { buildChunk, idOfHeader, isChunkId, leafMatches, parseHeader, verifyChunk, verifyHeader } from './chunk.js';
import { LEAF_SIZE_BYTES, MAX_CHUNK_SIZE_BYTES, SEALED_LEAF_SIZE_BYTES } from './limits.js';

const bytes = (length: number, seed = 1): Buffer =>
  Buffer.from(Uint8Array.from({ length }, (_, i) => (i * 31 + seed * 7 + (i >> 8) + (i >> 16) * 13) & 255));

describe('an encoded chunk', () => {
  it('has a known id for known content (the format must never change silently)', () => {
    expect(buildChunk(Buffer.from('hello'), 1).id).toBe('73ed3376487572834d631e64681cf753175af8fa9484b9261826255aa5cc3f3e');
  });
  it('verifies against its own id, whatever its length', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 3 * LEAF_SIZE_BYTES + 5 }),
        fc.integer({ min: 1, max: 1000 }),
        fc.constantFrom(LEAF_SIZE_BYTES, SEALED_LEAF_SIZE_BYTES),
        (length, volume, leafSize) => {
          const payload = bytes(length);
          const { id, header } = buildChunk(payload, volume, leafSize === LEAF_SIZE_BYTES ? undefined : bytes(32, 9));
          expect(isChunkId(id)).toBe(true);
          const parsed = verifyChunk(id, Buffer.concat([header, payload]));
          expect(parsed).toMatchObject({ volume, payloadBytes: length, leafSizeBytes: leafSize, leafCount: Math.ceil(length / leafSize) });
        },
      ),
      { numRuns: 30 },
    );
  });
  it.each([
    ['plain', undefined],
    ['sealed', bytes(32, 5)],
  ])('(%s) with any one bit flipped, cut or extended is refused', (_name, keySalt) => {
    const payload = bytes(LEAF_SIZE_BYTES + 100);
    const { id, header } = buildChunk(payload, 3, keySalt);
    const encoded = Buffer.concat([header, payload]);
    fc.assert(
      fc.property(fc.integer({ min: 0, max: encoded.length * 8 - 1 }), (bit) => {
        const damaged = Buffer.from(encoded);
        damaged.writeUInt8(damaged.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3);
        expect(() => verifyChunk(id, damaged)).toThrow();
      }),
      { numRuns: 60 },
    );
    expect(() => verifyChunk(id, encoded.subarray(0, encoded.length - 1))).toThrow(/length/);
    expect(() => verifyChunk(id, Buffer.concat([encoded, Buffer.alloc(1)]))).toThrow(/length/);
    expect(() => verifyChunk(id, Buffer.alloc(0))).toThrow(/header/);
  });
  it('gets another id in another volume, so an id tells nothing about other volumes', () => {
    expect(buildChunk(bytes(10), 1).id).not.toBe(buildChunk(bytes(10), 2).id);
  });
  it('lets each leaf be checked by the header alone', () => {
    const payload = bytes(2 * LEAF_SIZE_BYTES + 1);
    const { id, header } = buildChunk(payload, 1);
    const parsed = verifyHeader(id, Buffer.concat([header, payload.subarray(0, 5)]));
    expect(leafMatches(parsed, 1, payload.subarray(LEAF_SIZE_BYTES, 2 * LEAF_SIZE_BYTES))).toBe(true);
    expect(leafMatches(parsed, 2, payload.subarray(2 * LEAF_SIZE_BYTES))).toBe(true);
    expect(leafMatches(parsed, 0, payload.subarray(LEAF_SIZE_BYTES, 2 * LEAF_SIZE_BYTES))).toBe(false);
    expect(leafMatches(parsed, 1, payload.subarray(LEAF_SIZE_BYTES, 2 * LEAF_SIZE_BYTES - 1))).toBe(false);
  });
  it('never makes the parser read outside random bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (random) => {
        const withMagic = Buffer.concat([Buffer.from('HFC1'), Buffer.from(random)]);
        for (const input of [Buffer.from(random), withMagic]) {
          try {
            const header = parseHeader(input);
            expect(header.headerBytes).toBeLessThanOrEqual(input.length);
          } catch (error) {
            expect((error as { code?: string }).code).toBe('CHUNK_CORRUPT');
          }
        }
      }),
    );
  });
  it('is refused above the largest size', () => {
    expect(() => buildChunk(Buffer.alloc(MAX_CHUNK_SIZE_BYTES + 4096), 1)).toThrow(/at most/);
    expect(idOfHeader(buildChunk(Buffer.alloc(0), 1).header)).toBe(buildChunk(Buffer.alloc(0), 1).id);
  });
});
