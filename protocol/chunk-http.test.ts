import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { decodeBatch, encodeBatch } from './chunk-http.js';

const item = fc.record({
  id: fc.uint8Array({ minLength: 32, maxLength: 32 }).map((b) => Buffer.from(b).toString('hex')),
  parts: fc.array(
    fc.uint8Array({ maxLength: 50 }).map((b) => Buffer.from(b)),
    { minLength: 1, maxLength: 3 },
  ),
});

describe('a batch body', () => {
  it('comes back as it went', () => {
    fc.assert(
      fc.property(fc.array(item, { maxLength: 10 }), (chunks) => {
        const decoded = decodeBatch(Buffer.concat(encodeBatch(chunks)), 10);
        expect(decoded.map((d) => [d.id, d.encoded.toString('hex')])).toEqual(
          chunks.map((c) => [c.id, Buffer.concat(c.parts).toString('hex')]),
        );
      }),
    );
  });
  it('of random bytes is refused or adds up, and never reads outside', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (random) => {
        try {
          const decoded = decodeBatch(Buffer.from(random), 5);
          expect(decoded.reduce((sum, d) => sum + d.encoded.length + 68, 0)).toBe(random.length);
        } catch (error) {
          expect((error as { code?: string }).code).toBe('BAD_MESSAGE');
        }
      }),
    );
  });
  it('with more chunks than allowed is refused', () => {
    const body = Buffer.concat(encodeBatch(Array.from({ length: 3 }, () => ({ id: 'a'.repeat(64), parts: [Buffer.from('x')] }))));
    expect(() => decodeBatch(body, 2)).toThrow(/malformed/);
  });
});
