import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Extent } from '../protocol/entities.js';
import { clearRange, copiedExtents, type ExtentChanges, endOf, pageOf } from './extents.js';
import { ExtentsTable } from './tables.js';

/** Every byte of the file is (chunk, offset in chunk) or undefined for a hole. */
type Model = (string | undefined)[];

function apply(table: ExtentsTable, changes: ExtentChanges): void {
  for (const extent of changes.removed) expect(table.remove(`1:${extent.offset}`)).toEqual(extent);
  for (const extent of changes.put) expect(table.put(`1:${extent.offset}`, extent)).toBeUndefined();
}
function bytesOf(extents: readonly Extent[]): Model {
  const model: Model = [];
  let last = 0;
  for (const extent of extents) {
    expect(extent.offset).toBeGreaterThanOrEqual(last);
    expect(extent.length).toBeGreaterThan(0);
    last = endOf(extent);
    for (let i = 0; i < extent.length; i++) model[extent.offset + i] = `${extent.chunk}@${extent.chunkOffset + i}`;
  }
  return model;
}
const trimmed = (model: Model): string =>
  JSON.stringify(Array.from(model, (byte) => byte ?? null))
    .replace(/(,null)+\]$/, ']')
    .replace('[null]', '[]');

const step = fc.oneof(
  fc.record({ what: fc.constant('write' as const), start: fc.nat(60), length: fc.integer({ min: 1, max: 30 }), other: fc.nat(9) }),
  fc.record({ what: fc.constant('clear' as const), start: fc.nat(60), length: fc.nat(40), other: fc.nat(9) }),
  fc.record({ what: fc.constant('copy' as const), start: fc.nat(60), length: fc.nat(30), other: fc.nat(60) }),
);

describe('extents', () => {
  it('hold after any overlays, cuts and copies exactly the bytes a plain array holds', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 25 }), (steps) => {
        const table = new ExtentsTable();
        let model: Model = [];
        let chunk = 0;
        for (const { what, start, length, other } of steps) {
          if (what === 'write') {
            chunk++;
            apply(table, clearRange(table.of(1), start, start + length));
            const extent = { offset: start, length, chunk: `c${chunk}`, chunkOffset: other };
            expect(table.put(`1:${start}`, extent)).toBeUndefined();
            for (let i = 0; i < length; i++) model[start + i] = `c${chunk}@${other + i}`;
          } else if (what === 'clear') {
            apply(table, clearRange(table.of(1), start, start + length));
            for (let i = 0; i < length; i++) model[start + i] = undefined;
          } else {
            if (other < start + length && start < other + length) continue;
            const { copies, reached } = copiedExtents(table.of(1), start, start + length, other, 1000);
            expect(reached).toBe(start + length);
            const source = model.slice(start, start + length);
            apply(table, clearRange(table.of(1), other, other + length));
            for (const extent of copies) expect(table.put(`1:${extent.offset}`, extent)).toBeUndefined();
            model = [...model];
            for (let i = 0; i < length; i++) model[other + i] = source[i];
          }
          expect(trimmed(bytesOf(table.of(1)))).toBe(trimmed(model));
        }
        expect([...table.all()].length).toBe(table.size);
      }),
      { numRuns: 500 },
    );
  });

  it('come in pages that together are the whole list from the asked offset on', () => {
    const extents: Extent[] = [0, 10, 25, 40].map((offset) => ({ offset, length: 10, chunk: 'c', chunkOffset: 0 }));
    expect(pageOf(extents, 0, 2)).toEqual({ page: extents.slice(0, 2), nextOffset: 25 });
    expect(pageOf(extents, 25, 2)).toEqual({ page: extents.slice(2), nextOffset: null });
    expect(pageOf(extents, 12, 9).page[0]?.offset).toBe(10);
    expect(pageOf(extents, 20, 9).page[0]?.offset).toBe(25);
    expect(pageOf(extents, 99, 9)).toEqual({ page: [], nextOffset: null });
  });

  it('are copied up to a limit, and the offset reached says where to go on', () => {
    const extents: Extent[] = [0, 10, 25, 40].map((offset) => ({ offset, length: 10, chunk: 'c', chunkOffset: 0 }));
    expect(copiedExtents(extents, 0, 50, 100, 2)).toEqual({
      copies: [
        { offset: 100, length: 10, chunk: 'c', chunkOffset: 0 },
        { offset: 110, length: 10, chunk: 'c', chunkOffset: 0 },
      ],
      reached: 25,
    });
  });
});
