import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type NodeRoom, roomOf } from './room.js';

const node = (
  capacityBytes: number,
  freeBytes: number,
  disk?: { id: string; capacityBytes: number; freeBytes: number },
  isWritable = true,
) => ({
  space: { capacityBytes, freeBytes, usedBytes: 0, chunkCount: 0, ...(disk && { disk }) },
  isWritable,
});

describe('the room of nodes together', () => {
  const disk = { id: 'a', capacityBytes: 1000, freeBytes: 600 };

  it('counts a disk that three nodes share once', () => {
    const three = [node(1000, 600, disk), node(1000, 600, disk), node(1000, 600, disk)];
    expect(roomOf(three)).toEqual({ totalBytes: 1000, freeBytes: 600 });
    expect(roomOf([...three, node(500, 100, { id: 'b', capacityBytes: 500, freeBytes: 100 })])).toEqual({
      totalBytes: 1500,
      freeBytes: 700,
    });
  });
  it('adds what nodes are limited to while the disk holds all of it', () => {
    expect(roomOf([node(300, 250, disk), node(300, 250, disk)])).toEqual({ totalBytes: 600, freeBytes: 500 });
    expect(roomOf([node(300, 250, disk), node(300, 300, disk), node(300, 290, disk)])).toEqual({ totalBytes: 900, freeBytes: 600 });
  });
  it('has nothing free on nodes that take no chunks, and adds nodes that say nothing of their disk', () => {
    expect(roomOf([node(1000, 600, disk, false)])).toEqual({ totalBytes: 1000, freeBytes: 0 });
    expect(roomOf([node(10, 5), node(10, 5)])).toEqual({ totalBytes: 20, freeBytes: 10 });
  });
  it('is never more than the nodes say, nor than their disks have', () => {
    const someDisk = fc.record({ id: fc.constantFrom('a', 'b'), capacityBytes: fc.nat(1000), freeBytes: fc.nat(1000) });
    const some = fc.record({
      capacityBytes: fc.nat(1000),
      freeBytes: fc.nat(1000),
      disk: fc.option(someDisk, { nil: undefined }),
      isWritable: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.array(some, { maxLength: 8 }), (all) => {
        const nodes: NodeRoom[] = all.map(({ capacityBytes, freeBytes, disk: under, isWritable }) =>
          node(capacityBytes, freeBytes, under, isWritable),
        );
        const { totalBytes, freeBytes } = roomOf(nodes);
        expect(totalBytes).toBeLessThanOrEqual(nodes.reduce((sum, { space }) => sum + space.capacityBytes, 0));
        expect(freeBytes).toBeLessThanOrEqual(nodes.reduce((sum, { space, isWritable }) => sum + (isWritable ? space.freeBytes : 0), 0));
        const onlyA = nodes.filter(({ space }) => space.disk?.id === 'a');
        const mostFree = Math.max(0, ...onlyA.map(({ space }) => space.disk?.freeBytes ?? 0));
        expect(roomOf(onlyA).freeBytes).toBeLessThanOrEqual(mostFree);
      }),
    );
  });
});
