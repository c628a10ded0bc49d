import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { chooseMove } from './rebalance.js';
import {
  chooseSurplus,
  chooseTarget,
  judge,
  mayGo,
  needs,
  type PlanNode,
  type PlannedCopy,
  planCopies,
  shownCopies,
} from './repair-plan.js';

const node = (id: number, more: Partial<PlanNode> = {}): PlanNode => ({
  ...{ node: id, zone: '', presence: 'up', isDraining: false, isWritable: true, capacityBytes: 1000, usedBytes: 100 },
  ...more,
});
const mapOf = (...nodes: PlanNode[]): Map<number, PlanNode> => new Map(nodes.map((one) => [one.node, one]));
const chunkId = (n: number): string => n.toString(16).padStart(8, '0').repeat(8);

const anyNodes = fc
  .array(
    fc.record({
      zone: fc.constantFrom('', 'a', 'b', 'c'),
      presence: fc.constantFrom('up', 'up', 'up', 'suspect', 'down' as const),
      isDraining: fc.boolean(),
      isFull: fc.boolean(),
      usedBytes: fc.integer({ min: 0, max: 1000 }),
    }),
    { minLength: 1, maxLength: 8 },
  )
  .map((list) =>
    mapOf(...list.map(({ isFull, ...one }, i) => node(i + 1, { ...one, isWritable: one.presence === 'up' && !one.isDraining && !isFull }))),
  );
const anyReplicas = fc.uniqueArray(fc.integer({ min: 1, max: 8 }), { maxLength: 5 }).map((list) => list.sort((a, b) => a - b));
const anyCopies = fc.integer({ min: 1, max: 4 });

describe('judging a chunk', () => {
  it('counts suspect nodes as copies, but not as readable ones', () => {
    const nodes = mapOf(node(1), node(2, { presence: 'suspect' }), node(3, { presence: 'down' }));
    expect(judge([1, 2], 2, nodes)).toMatchObject({ missing: 0, good: [1] });
    expect(judge([1, 3], 2, nodes)).toMatchObject({ missing: 1, good: [1] });
    expect(shownCopies(judge([2, 3], 2, nodes))).toBe(1);
    expect(shownCopies(judge([3], 2, nodes))).toBe(0);
  });

  it('makes copies for a draining node, and says for which', () => {
    const nodes = mapOf(node(1), node(2, { isDraining: true }), node(3));
    expect(judge([1, 2], 2, nodes)).toMatchObject({ missing: 1, good: [1, 2], drains: 2 });
    expect(judge([2], 2, nodes)).toMatchObject({ missing: 2, drains: undefined });
  });
});

describe('the plan of copies', () => {
  it('puts the most endangered first, and repair before drain', () => {
    const nodes = mapOf(node(1), node(2), node(3, { isDraining: true }), node(4, { presence: 'down' }));
    const classes = [
      { replicas: [1, 3], copies: 2, chunks: new Set([chunkId(1)]) },
      { replicas: [1, 2, 4], copies: 3, chunks: new Set([chunkId(2)]) },
      { replicas: [1, 4], copies: 3, chunks: new Set([chunkId(3)]) },
      { replicas: [4], copies: 2, chunks: new Set([chunkId(4)]) },
    ];
    expect(needs(classes, nodes).map((need) => [...need.chunks][0])).toEqual([chunkId(3), chunkId(2), chunkId(1)]);
  });

  it('never makes a second copy on a node, never writes to one that may not take it, never reads from one that is not up', () => {
    fc.assert(
      fc.property(
        anyNodes,
        fc.array(fc.tuple(anyReplicas, anyCopies, fc.integer({ min: 1, max: 5 })), { maxLength: 6 }),
        fc.integer({ min: 0, max: 4 }),
        (nodes, list, room) => {
          let next = 1;
          const classes = list.map(([replicas, copies, count]) => ({
            ...{ replicas, copies },
            chunks: new Set(Array.from({ length: count }, () => chunkId(next++))),
          }));
          const taken: PlannedCopy[] = [];
          const used = new Map<number, number>();
          planCopies(needs(classes, nodes), nodes, {
            taking: (chunk) => taken.filter((copy) => copy.chunk === chunk).map((copy) => copy.to),
            isSkipped: () => false,
            hasRoom: (id) => (used.get(id) ?? 0) < room,
            isFull: () => false,
            lookAtMost: 1_000,
            take: (copy) => {
              taken.push(copy);
              used.set(copy.to, (used.get(copy.to) ?? 0) + 1);
            },
          });
          for (const { replicas, copies, chunks } of classes) {
            for (const chunk of chunks) {
              const of = taken.filter((copy) => copy.chunk === chunk);
              const places = [...replicas, ...of.map((copy) => copy.to)];
              expect(new Set(places).size).toBe(places.length);
              for (const copy of of) {
                expect(nodes.get(copy.to)?.isWritable).toBe(true);
                expect(copy.from.length).toBeGreaterThan(0);
                for (const source of copy.from) {
                  expect(replicas).toContain(source);
                  expect(nodes.get(source)?.presence).toBe('up');
                }
              }
              // Never more copies than are missing, and as many as there are nodes for when nothing limits them.
              const { missing, good } = judge(replicas, copies, nodes);
              expect(of.length).toBeLessThanOrEqual(missing);
              if (room === 4 && taken.length < 4 && good.length > 0) {
                const free = [...nodes.values()].filter((one) => one.isWritable && !replicas.includes(one.node)).length;
                expect(of.length).toBe(Math.min(missing, free));
              }
            }
          }
          for (const count of used.values()) expect(count).toBeLessThanOrEqual(room);
        },
      ),
    );
  });

  it('goes to a zone without a copy when there is one', () => {
    const nodes = mapOf(node(1, { zone: 'a' }), node(2, { zone: 'a' }), node(3, { zone: 'b' }));
    for (let i = 0; i < 50; i++) expect(chooseTarget(chunkId(i), [1], [1], nodes, () => true)).toBe(3);
  });
});

describe('surplus', () => {
  it('leaves enough good copies on nodes that stay, in as many zones', () => {
    fc.assert(
      fc.property(anyNodes, anyReplicas, anyCopies, (nodes, replicas, copies) => {
        const going = chooseSurplus(replicas, copies, nodes);
        const up = (id: number): boolean => {
          const one = nodes.get(id);
          return one?.presence === 'up' && !one.isDraining;
        };
        const before = replicas.filter(up);
        const after = before.filter((id) => !going.includes(id));
        const zones = (ids: number[]): number => new Set(ids.map((id) => nodes.get(id)?.zone)).size;
        for (const id of going) expect(before).toContain(id);
        if (going.length === 0) return;
        expect(after.length).toBeGreaterThanOrEqual(copies);
        expect(zones(after)).toBeGreaterThanOrEqual(Math.min(copies, zones(before)));
        // The last word agrees with the choice, one after the other.
        let left = replicas;
        for (const id of going) {
          expect(mayGo(id, left, copies, nodes)).toBe(true);
          left = left.filter((one) => one !== id);
        }
      }),
    );
  });

  it('is given up by the fullest node', () => {
    const nodes = mapOf(node(1, { usedBytes: 100 }), node(2, { usedBytes: 900 }), node(3, { usedBytes: 500 }));
    expect(chooseSurplus([1, 2, 3], 2, nodes)).toEqual([2]);
    expect(chooseSurplus([1, 3], 2, nodes)).toEqual([]);
  });
});

describe('rebalancing', () => {
  it('moves from the fullest to the emptiest, and ends when they are even', () => {
    fc.assert(
      fc.property(anyNodes, (given) => {
        const nodes = new Map(given);
        for (let moves = 0; ; moves++) {
          expect(moves).toBeLessThan(1_000);
          const move = chooseMove(nodes.values());
          if (!move) break;
          const from = nodes.get(move.from)!;
          const to = nodes.get(move.to)!;
          expect(move.bytes).toBeGreaterThan(0);
          expect(to.isWritable).toBe(true);
          nodes.set(move.from, { ...from, usedBytes: from.usedBytes - move.bytes });
          nodes.set(move.to, { ...to, usedBytes: to.usedBytes + move.bytes });
        }
      }),
    );
  });
});
