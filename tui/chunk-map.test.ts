import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { FileChunk, ReplicaHealth } from '../protocol/admin-calls.js';
import { chunkRows, sampleChunk, sampleFileHead, WALL_MS } from '../test/tui-sample.js';
import {
  copiesRow,
  cursorRow,
  firstVisible,
  goodReplicas,
  type MapView,
  nextProblem,
  nodeRow,
  nodesInView,
  rulerRow,
  summarise,
} from './chunk-map.js';
import { rowText, rowWidth } from './draw.js';
import { fromSnapshot } from './topics.js';

const state = fc.constantFrom<ReplicaHealth>('good', 'unchecked', 'suspect', 'down', 'corrupt', 'missing', 'copying');
const chunksOf = fc
  .array(fc.uniqueArray(fc.tuple(fc.constantFrom('n1', 'n2', 'n3', 'n10'), state), { selector: ([name]) => name, maxLength: 4 }), {
    minLength: 1,
    maxLength: 120,
  })
  .map((all) => all.map((replicas, index) => sampleChunk(index, replicas, (index % 3) + 1)));
const viewOf = (chunks: readonly FileChunk[], more: Partial<MapView> = {}): MapView => ({
  at: (index) => chunks[index],
  chunkCount: chunks.length,
  copies: 3,
  zoom: 1,
  cursor: 0,
  columns: 40,
  mode: 'state',
  wallMs: WALL_MS,
  ...more,
});
const topicOf = (chunks: readonly FileChunk[]) =>
  fromSnapshot({ topic: 'file', inode: 100 }, sampleFileHead(chunks.length), chunkRows(chunks), 0);

describe('the chunk map', () => {
  it('shows one sign per chunk and node, and the number of good copies without colour', () => {
    const chunks = [
      sampleChunk(0, [
        ['n1', 'good'],
        ['n2', 'unchecked'],
      ]),
      sampleChunk(1, [
        ['n1', 'down'],
        ['n2', 'good'],
      ]),
      sampleChunk(2, [['n1', 'corrupt']]),
      sampleChunk(3, [['n3', 'copying']]),
    ];
    const view = viewOf(chunks);
    expect(rowText(copiesRow(view))).toBe('2100');
    expect(rowText(nodeRow(view, 'n1'))).toBe('#x!.');
    expect(rowText(nodeRow(view, 'n2'))).toBe('o#..');
    expect(rowText(nodeRow(view, 'n3'))).toBe('...~');
  });

  it('shows in a cell of several chunks the worst of them', () => {
    fc.assert(
      fc.property(chunksOf, fc.constantFrom(2, 4, 8), (chunks, zoom) => {
        const fine = rowText(copiesRow(viewOf(chunks, { columns: 200 })));
        const coarse = rowText(copiesRow(viewOf(chunks, { columns: 200, zoom })));
        for (let cell = 0; cell < coarse.length; cell += 1) {
          const digits = [...fine.slice(cell * zoom, (cell + 1) * zoom)].map(Number);
          expect(Number(coarse[cell])).toBe(Math.min(...digits));
        }
      }),
    );
  });

  it('has the same number of cells in every row, never more than fit, and the cursor over one of them', () => {
    fc.assert(
      fc.property(chunksOf, fc.constantFrom(1, 2, 4), fc.integer({ min: 1, max: 50 }), fc.nat(), (chunks, zoom, columns, position) => {
        const cursor = position % chunks.length;
        const view = viewOf(chunks, { zoom, columns, cursor });
        const cells = rowWidth(copiesRow(view));
        expect(cells).toBeLessThanOrEqual(columns);
        expect(rowWidth(nodeRow(view, 'n1'))).toBe(cells);
        expect(rulerRow(view).length).toBeLessThanOrEqual(cells);
        expect(cursorRow(view).length).toBeLessThanOrEqual(cells);
        expect(firstVisible(view)).toBeLessThanOrEqual(cursor);
      }),
    );
  });

  it('counts per node and per number of copies what the chunks say', () => {
    fc.assert(
      fc.property(chunksOf, (chunks) => {
        const summary = summarise(topicOf(chunks))!;
        expect(summary.loaded).toBe(chunks.length);
        expect(summary.byGood.reduce((sum, value) => sum + value, 0)).toBe(chunks.length);
        expect([...summary.goodByNode.values()].reduce((sum, value) => sum + value, 0)).toBe(
          chunks.reduce((sum, chunk) => sum + goodReplicas(chunk), 0),
        );
        expect(nodesInView(viewOf(chunks, { columns: 200 }), summary.nodes)).toEqual(summary.nodes);
      }),
    );
  });

  it('orders nodes as people count: n2 before n10', () => {
    const chunks = [
      sampleChunk(0, [
        ['n10', 'good'],
        ['n2', 'good'],
        ['n1', 'good'],
      ]),
    ];
    expect(summarise(topicOf(chunks))!.nodes).toEqual(['n1', 'n2', 'n10']);
  });

  it('finds the next problem after the cursor, going round, and none when there is none', () => {
    fc.assert(
      fc.property(chunksOf, fc.nat(), (chunks, position) => {
        const from = position % chunks.length;
        const found = nextProblem((index) => chunks[index], from, 0, chunks.length, 2);
        const bad = chunks.filter((one) => goodReplicas(one) < 2).map((one) => one.index);
        if (bad.length === 0) expect(found).toBeNull();
        else expect(found).toBe(bad.find((index) => index > from) ?? bad[0]);
      }),
    );
  });
});
