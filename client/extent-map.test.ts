import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Extent } from '../protocol/entities.js';
import { ExtentMap } from './extent-map.js';

const SPACE = 200;
const chunkName = (n: number): string => n.toString(16).padStart(64, '0');

/** Byte by byte: which byte of which chunk lies at each offset. */
type Model = (string | null)[];
const overlayModel = (model: Model, extent: Extent): void => {
  for (let i = 0; i < extent.length; i++) model[extent.offset + i] = `${extent.chunk}:${extent.chunkOffset + i}`;
};
const bytesOf = (extents: readonly Extent[]): Model => {
  const bytes: Model = new Array(SPACE * 2).fill(null);
  for (const extent of extents) overlayModel(bytes, extent);
  return bytes;
};

const extent = fc
  .record({ offset: fc.nat(SPACE - 1), length: fc.integer({ min: 1, max: 60 }), n: fc.nat(1000), chunkOffset: fc.nat(50) })
  .map(({ offset, length, n, chunkOffset }) => ({ offset, length: Math.min(length, SPACE - offset), chunk: chunkName(n), chunkOffset }));

describe('extent map', () => {
  it('follows overlays and cuts as a byte array would', () => {
    const step = fc.oneof(
      extent.map((one) => ({ kind: 'overlay' as const, extent: one })),
      fc.tuple(fc.nat(SPACE), fc.nat(SPACE)).map(([a, b]) => ({ kind: 'cut' as const, start: Math.min(a, b), end: Math.max(a, b) })),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), fc.nat(SPACE), fc.nat(SPACE), (steps, a, b) => {
        const map = ExtentMap.empty();
        const model: Model = new Array(SPACE * 2).fill(null);
        for (const one of steps) {
          if (one.kind === 'overlay') {
            map.overlay([one.extent]);
            overlayModel(model, one.extent);
          } else {
            map.cut(one.start, one.end);
            model.fill(null, one.start, one.end);
          }
        }
        const all = map.within(0, Infinity);
        for (let i = 1; i < all.length; i++) expect(all[i]!.offset).toBeGreaterThanOrEqual(all[i - 1]!.offset + all[i - 1]!.length);
        expect(bytesOf(all)).toEqual(model);
        const [start, end] = [Math.min(a, b), Math.max(a, b)];
        expect(bytesOf(map.within(start, end)).slice(start, end)).toEqual(model.slice(start, end));
      }),
      { numRuns: 300 },
    );
  });

  it('knows which ranges it was told of', () => {
    const map = new ExtentMap();
    expect(map.firstUnknown(0, 10)).toBe(0);
    map.learn(0, 100, [{ offset: 10, length: 20, chunk: chunkName(1), chunkOffset: 0 }]);
    expect(map.firstUnknown(0, 100)).toBeNull();
    expect(map.firstUnknown(50, 150)).toBe(100);
    map.learn(200, 300, []);
    expect(map.firstUnknown(50, 250)).toBe(100);
    map.learn(100, 200, []);
    expect(map.firstUnknown(0, 300)).toBeNull();
    expect(map.firstUnknown(299, 301)).toBe(300);
  });

  it('takes a page whose first and last extents stick out of it', () => {
    const map = new ExtentMap();
    map.learn(0, 50, [{ offset: 0, length: 60, chunk: chunkName(1), chunkOffset: 0 }]);
    map.learn(50, 100, [
      { offset: 0, length: 60, chunk: chunkName(1), chunkOffset: 0 },
      { offset: 90, length: 30, chunk: chunkName(2), chunkOffset: 0 },
    ]);
    expect(map.within(0, 200).map(({ offset, length }) => [offset, length])).toEqual([
      [0, 60],
      [90, 30],
    ]);
  });
});
