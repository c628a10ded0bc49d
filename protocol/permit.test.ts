import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { PERMIT_GENERATIONS_VALID } from './limits.js';
import { checkPermit, KnownPermits, openReceipt, type Permit, type Receipt, sign } from './permit.js';

const key = Buffer.alloc(32, 7);
const otherKey = Buffer.alloc(32, 8);
const permit: Permit = { kind: 'permit', cluster: 'c1', volume: 1, access: 'read', client: 'a'.repeat(32), generation: 100 };
const receipt: Receipt = {
  kind: 'receipt',
  cluster: 'c1',
  chunk: 'f'.repeat(64),
  volume: 1,
  sizeBytes: 5,
  node: 1,
  startId: 's',
  sequence: 9,
  durable: true,
  client: 'a'.repeat(32),
};
const wanted = { cluster: 'c1', access: 'read', now: 100 } as const;

describe('a permit', () => {
  it('opens what it was signed for', () => {
    expect(checkPermit(key, sign(key, permit), wanted)).toEqual(permit);
  });
  it('for reading does not allow writing, while one for writing allows both', () => {
    expect(() => checkPermit(key, sign(key, permit), { ...wanted, access: 'write' })).toThrow(/reading only/);
    const writer = sign(key, { ...permit, access: 'write' });
    expect(checkPermit(key, writer, wanted).access).toBe('write');
    expect(checkPermit(key, writer, { ...wanted, access: 'write' }).access).toBe('write');
  });
  it('of another key, another cluster or of another kind is refused', () => {
    expect(() => checkPermit(key, sign(otherKey, permit), wanted)).toThrow(/not valid/);
    expect(() => checkPermit(key, sign(key, { ...permit, cluster: 'c2' }), wanted)).toThrow(/another cluster/);
    expect(() => checkPermit(key, sign(key, receipt), wanted)).toThrow(/not a permit/);
    expect(() => openReceipt(key, sign(key, permit), 'c1')).toThrow(/not a receipt/);
    expect(() => openReceipt(key, sign(key, receipt), 'c2')).toThrow(/not a receipt/);
    expect(openReceipt(key, sign(key, receipt), 'c1')).toEqual(receipt);
  });
  it('expires by generations, not by a clock, and one from the future is as good as a new one', () => {
    const token = sign(key, permit);
    expect(checkPermit(key, token, { ...wanted, now: 100 + PERMIT_GENERATIONS_VALID }).generation).toBe(100);
    expect(() => checkPermit(key, token, { ...wanted, now: 101 + PERMIT_GENERATIONS_VALID })).toThrow(/expired/);
    expect(checkPermit(key, token, { ...wanted, now: 3 }).generation).toBe(100);
  });
  it('known from before is refused all the same once it is too old, revoked, for reading only or the key is another', () => {
    const known = new KnownPermits();
    const token = sign(key, permit);
    expect(known.check(key, token, wanted)).toEqual(permit);
    expect(known.check(key, token, wanted)).toEqual(permit);
    expect(() => known.check(key, token, { ...wanted, now: 101 + PERMIT_GENERATIONS_VALID })).toThrow(/expired/);
    expect(() => known.check(key, token, { ...wanted, access: 'write' })).toThrow(/reading only/);
    expect(() => known.check(key, token, { ...wanted, cluster: 'c2' })).toThrow(/another cluster/);
    expect(() => known.check(key, token, { ...wanted, isRevoked: () => true })).toThrow(/revoked/);
    expect(() => known.check(otherKey, token, wanted)).toThrow(/not valid/);
    expect(() => known.check(key, `${token.slice(0, -2)}AA`, wanted)).toThrow(/not valid/);
  });
  it('of a revoked client is refused', () => {
    expect(() => checkPermit(key, sign(key, permit), { ...wanted, isRevoked: (client) => client === permit.client })).toThrow(/revoked/);
  });
  it('with any character changed, cut or replaced by garbage is refused', () => {
    const token = sign(key, permit);
    fc.assert(
      fc.property(fc.integer({ min: 0, max: token.length - 1 }), fc.constantFrom(...'AZaz09-_.'), (at, character) => {
        const forged = token.slice(0, at) + character + token.slice(at + 1);
        // The last character of unpadded base64url carries unused bits, so another character there can mean the same bytes.
        if (forged === token || at === token.length - 1) return;
        expect(() => checkPermit(key, forged, wanted)).toThrow();
      }),
    );
    for (const garbage of ['', '.', 'a.b', `${token.split('.')[0]}.`, 'x'.repeat(10_000)])
      expect(() => checkPermit(key, garbage, wanted)).toThrow();
  });
});
