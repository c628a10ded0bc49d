import { describe, expect, it } from 'vitest';
import { Receipts } from './receipts.js';

const chunk = 'c'.repeat(64);
const receipt = (startId: string, sequence: number) => ({ chunk, node: 1, startId, sequence });

function known(startId = 'a', floor = 0): Receipts {
  const receipts = new Receipts();
  expect(receipts.registered(1, startId)).toBe(true);
  receipts.floorIs(1, startId, floor);
  receipts.inventoryComplete(1);
  return receipts;
}

describe('a receipt', () => {
  it('counts when its node is known and nothing was removed since', () => {
    expect(known().counts(receipt('a', 1))).toBe(true);
    expect(known().counts({ ...receipt('a', 1), node: 2 })).toBe(false);
    expect(known().counts(receipt('forged', 1))).toBe(false);
  });

  it('from before this coordinator knew the node counts only when the inventory shows the chunk', () => {
    const receipts = known('a', 10);
    expect(receipts.counts(receipt('a', 10))).toBe(false);
    expect(receipts.counts(receipt('a', 11))).toBe(true);
    receipts.see(chunk, 1, 0);
    expect(receipts.counts(receipt('a', 10))).toBe(true);
  });

  it('is void up to the removal of its chunk, and valid again after it', () => {
    const receipts = known();
    receipts.removed(1, 'a', 5, [chunk]);
    expect(receipts.counts(receipt('a', 5))).toBe(false);
    expect(receipts.counts(receipt('a', 6))).toBe(true);
    expect(receipts.counts({ ...receipt('a', 5), chunk: 'd'.repeat(64) })).toBe(true);
  });

  it('of an earlier process of the node counts until that node has shown what it holds', () => {
    const receipts = known();
    receipts.registered(1, 'b');
    expect(receipts.counts(receipt('a', 3))).toBe(true);
    receipts.inventoryComplete(1);
    expect(receipts.counts(receipt('a', 3))).toBe(false);
  });

  it('of an earlier process is void when the chunk was removed then', () => {
    const receipts = known();
    receipts.removed(1, 'a', 5, [chunk]);
    receipts.registered(1, 'b');
    expect(receipts.counts(receipt('a', 9))).toBe(false);
    expect(receipts.counts(receipt('b', 1))).toBe(true);
  });

  it('counts for nothing after a removal without an answer, until the node tells its sequence', () => {
    const receipts = known();
    receipts.unsure(1);
    expect(receipts.counts(receipt('a', 100))).toBe(false);
    expect(receipts.registered(1, 'a')).toBe(true);
    receipts.floorIs(1, 'a', 100);
    expect(receipts.counts(receipt('a', 100))).toBe(false);
    expect(receipts.counts(receipt('a', 101))).toBe(true);
  });

  it('of a process that ended with a removal unanswered never counts', () => {
    const receipts = known();
    receipts.unsure(1);
    receipts.registered(1, 'b');
    expect(receipts.counts(receipt('a', 100))).toBe(false);
    expect(receipts.counts(receipt('b', 1))).toBe(true);
  });
});
