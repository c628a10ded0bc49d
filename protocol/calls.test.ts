import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { adminCalls } from './admin-calls.js';
import { type CallTable, callFrameOf } from './call.js';
import { clientCalls, clientServes } from './client-calls.js';
import { errorFacts, fromWire, HoldfastError, toWire } from './errors.js';
import { nodeCalls, nodeServes } from './node-calls.js';

const tables: Record<string, CallTable> = { clientCalls, clientServes, nodeCalls, nodeServes, adminCalls };

describe('every message schema', () => {
  for (const [tableName, table] of Object.entries(tables))
    for (const [method, definition] of Object.entries(table))
      it(`${tableName}.${method} answers garbage with a verdict, never with an exception or a polluted prototype`, () => {
        fc.assert(
          fc.property(fc.anything({ withBigInt: true, withNullPrototype: true, maxDepth: 3 }), (garbage) => {
            expect(typeof definition.request.safeParse(garbage).success).toBe('boolean');
          }),
          { numRuns: 40 },
        );
        const polluted = definition.request.safeParse(
          JSON.parse('{"__proto__": {"polluted": 1}, "constructor": {"prototype": {"polluted": 1}}}'),
        );
        expect(typeof polluted.success).toBe('boolean');
        expect(({} as Record<string, unknown>).polluted).toBeUndefined();
      });
  it('refuses chunk ids that are not exactly 64 lower-case hex digits', () => {
    for (const bad of ['', 'f'.repeat(63), 'f'.repeat(65), 'F'.repeat(64), `${'f'.repeat(63)}\n`, '../'.repeat(21), 5, null])
      expect(clientCalls.have.request.safeParse({ chunks: [bad] }).success).toBe(false);
    expect(clientCalls.have.request.safeParse({ chunks: ['f'.repeat(64)] }).success).toBe(true);
  });
  it('refuses negative, fractional and huge offsets', () => {
    for (const bad of [-1, 0.5, 2 ** 53, Number.NaN, Number.POSITIVE_INFINITY, '0'])
      expect(clientCalls.truncate.request.safeParse({ inode: 1, sizeBytes: bad }).success).toBe(false);
  });
  it('takes a call frame apart only when its shape is right', () => {
    expect(callFrameOf({ method: 'lookup', args: {}, more: 1 })).toEqual({ method: 'lookup', args: {} });
    const change = { method: 'create', request: 7, answeredBelow: 6, args: { name: 'a' } };
    expect(callFrameOf(change)).toEqual(change);
    for (const wrong of [
      { method: 5 },
      { method: 'x'.repeat(65) },
      { request: -1 },
      { request: 1.5 },
      { request: '1' },
      { answeredBelow: null },
    ])
      expect(callFrameOf({ method: 'lookup', args: {}, ...wrong })).toBeUndefined();
    for (const nothing of [undefined, null, 'lookup', 5]) expect(callFrameOf(nothing)).toBeUndefined();
  });
});

describe('an error', () => {
  it('crosses the wire with code, message and facts', () => {
    for (const code of Object.keys(errorFacts) as (keyof typeof errorFacts)[]) {
      const back = fromWire(JSON.parse(JSON.stringify(toWire(new HoldfastError(code, 'why', { chunk: 'x' })))));
      expect(back).toMatchObject({ code, message: 'why', facts: { chunk: 'x' }, errno: errorFacts[code].errno });
    }
  });
  it('that nobody foresaw crosses without its text, which could hold a secret', () => {
    expect(JSON.stringify(toWire(new Error('token abc123')))).not.toContain('abc123');
  });
  it('with a code this version does not know becomes INTERNAL', () => {
    expect(fromWire({ code: 'NEW' as never, message: 'm' }).code).toBe('INTERNAL');
    expect(fromWire({ code: 'toString' as never, message: 'm' }).code).toBe('INTERNAL');
  });
});

describe('what a peer may say of itself', () => {
  it('is bounded: the opaque encryption of a volume in size and levels, a node in its space and address', () => {
    const setVolume = (encryption: unknown): boolean => adminCalls.setVolume.request.safeParse({ volume: 'v', encryption }).success;
    expect(setVolume({ format: 1, wrappings: [{ salt: 'x'.repeat(100) }] })).toBe(true);
    const deep = JSON.parse(`${'['.repeat(20_000)}${']'.repeat(20_000)}`) as unknown;
    for (const wrong of [{ a: deep }, { a: 'x'.repeat(100_000) }, { a: Array(3000).fill(0) }, { a: Buffer.alloc(1) }])
      expect(setVolume(wrong)).toBe(false);
    const node = {
      ...{ name: 'n', startId: 's', url: 'http://127.0.0.1:4710', zone: '', version: '0' },
      ...{ capacityBytes: 1, freeBytes: 1, usedBytes: 1, chunkCount: 1 },
    };
    const register = (change: object): boolean => nodeCalls.register.request.safeParse({ ...node, ...change }).success;
    expect(register({})).toBe(true);
    for (const url of ['javascript:alert(1)', 'file:///etc/passwd', `http://${'x'.repeat(300)}`, 'nothing'])
      expect(register({ url })).toBe(false);
    expect(register({ capacityBytes: 1e308 })).toBe(false);
  });
});
