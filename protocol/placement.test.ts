import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type PlacementNode, placementOrder } from './placement.js';

const chunk = fc.uint8Array({ minLength: 32, maxLength: 32 }).map((bytes) => Buffer.from(bytes).toString('hex'));
const nodes = fc.uniqueArray(
  fc.record({
    node: fc.integer({ min: 1, max: 500 }),
    zone: fc.constantFrom('', 'a', 'b', 'c'),
    weight: fc.integer({ min: 1, max: 1000 }),
  }),
  { selector: (n) => n.node, maxLength: 12 },
);
const ids = (count: number): string[] =>
  Array.from({ length: count }, (_, i) =>
    Buffer.from(`chunk number ${i} of many, long enough`).toString('hex').padEnd(64, '0').slice(0, 64),
  );
// Real ids are hashes: mix the counter so that the first 16 digits vary.
const hashed = (count: number): string[] =>
  ids(count).map(
    (_, i) =>
      (Math.imul(i + 1, 0x9e3779b1) >>> 0).toString(16).padStart(8, '0') +
      (Math.imul(i + 7, 0x85ebca6b) >>> 0).toString(16).padStart(8, '0') +
      '0'.repeat(48),
  );

describe('placement', () => {
  it('orders each candidate exactly once, whatever order they come in', () => {
    fc.assert(
      fc.property(chunk, nodes, (id, candidates) => {
        const order = placementOrder(id, candidates);
        expect([...order].sort((a, b) => a - b)).toEqual(candidates.map((n) => n.node).sort((a, b) => a - b));
        expect(placementOrder(id, [...candidates].reverse())).toEqual(order);
      }),
    );
  });
  it('uses as many zones as it can before it uses one twice', () => {
    fc.assert(
      fc.property(chunk, nodes, (id, candidates) => {
        const zoneOf = new Map(candidates.map((n) => [n.node, n.zone]));
        const zones = new Set(zoneOf.values()).size;
        expect(
          new Set(
            placementOrder(id, candidates)
              .slice(0, zones)
              .map((n) => zoneOf.get(n)),
          ).size,
        ).toBe(zones);
      }),
    );
  });
  it('moves only what it must when a node goes', () => {
    const all: PlacementNode[] = [1, 2, 3, 4].map((node) => ({ node, zone: '', weight: 1 }));
    for (const id of hashed(200)) {
      const before = placementOrder(id, all).filter((node) => node !== 2);
      expect(
        placementOrder(
          id,
          all.filter((n) => n.node !== 2),
        ),
      ).toEqual(before);
    }
  });
  it('gives a node chunks in proportion to its weight', () => {
    const candidates: PlacementNode[] = [
      { node: 1, zone: '', weight: 1 },
      { node: 2, zone: '', weight: 1 },
      { node: 3, zone: '', weight: 2 },
    ];
    const first = new Map<number, number>();
    for (const id of hashed(8000)) {
      const node = placementOrder(id, candidates)[0] as number;
      first.set(node, (first.get(node) ?? 0) + 1);
    }
    expect((first.get(3) ?? 0) / 8000).toBeGreaterThan(0.45);
    expect((first.get(3) ?? 0) / 8000).toBeLessThan(0.55);
    expect((first.get(1) ?? 0) / 8000).toBeGreaterThan(0.2);
  });
});
