import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Change, type ChunkRow, entryKey, extentKey, tableNames, withoutReplica, withReplica } from './rows.js';
import { nextNumber, State } from './state.js';
import { compareNames, EntriesTable } from './tables.js';

const chunkId = (n: number): string => n.toString(16).padStart(64, '0');

/** Everything the indexes should say, counted from the rows. */
function counted(state: State) {
  const bySet = new Map<string, Set<string>>();
  const zero = new Set<string>();
  const nodes = new Map<number, { replicas: number; bytes: number }>();
  for (const [chunk, row] of state.table('chunks').all()) {
    if (row.refs > 0) {
      const key = `${row.volume}/${row.replicas.join(',')}`;
      bySet.set(key, (bySet.get(key) ?? new Set()).add(chunk));
    } else zero.add(chunk);
    for (const node of row.replicas) {
      const one = nodes.get(node) ?? { replicas: 0, bytes: 0 };
      nodes.set(node, { replicas: one.replicas + 1, bytes: one.bytes + row.sizeBytes });
    }
  }
  return { bySet, zero, nodes };
}

function expectIndexes(state: State): void {
  const { bySet, zero, nodes } = counted(state);
  expect(state.index.byReplicaSet).toEqual(bySet);
  expect(state.index.zeroReferences).toEqual(zero);
  for (const node of [1, 2, 3, 4]) expect(state.index.ofNode(node)).toEqual(nodes.get(node) ?? { replicas: 0, bytes: 0 });
}

const dump = (state: State): string =>
  JSON.stringify(
    tableNames.map((name) => [
      name,
      [...state.table(name).all()].map(([k, v]) => [k, v]).sort((a, b) => (String(a[0]) < String(b[0]) ? -1 : 1)),
    ]),
  );

describe('state', () => {
  it('undoes everything a failed transaction did, indexes included, and journals nothing', () => {
    const operation = fc.record({
      table: fc.constantFrom('chunks', 'entries', 'extents', 'settings', 'xattrs' as const),
      id: fc.integer({ min: 0, max: 5 }),
      refs: fc.integer({ min: 0, max: 2 }),
      replicas: fc.uniqueArray(fc.integer({ min: 1, max: 4 }), { maxLength: 3 }),
      isRemoval: fc.boolean(),
    });
    fc.assert(
      fc.property(
        fc.array(fc.record({ operations: fc.array(operation, { maxLength: 8 }), fails: fc.boolean() }), { maxLength: 12 }),
        (transactions) => {
          const state = new State();
          const replayed = new State();
          state.onCommit = (changes: readonly Change[]) => {
            for (const [table, key, row] of JSON.parse(JSON.stringify(changes)) as Change[]) replayed.load(table, key, row);
          };
          for (const { operations, fails } of transactions) {
            const before = dump(state);
            const run = (): void =>
              state.transact((tx) => {
                for (const { table, id, refs, replicas, isRemoval } of operations) {
                  if (table === 'chunks') {
                    if (isRemoval) tx.remove('chunks', chunkId(id));
                    else tx.put('chunks', chunkId(id), { volume: 1, sizeBytes: 10 + id, refs, replicas });
                  } else if (table === 'entries') {
                    if (isRemoval) tx.remove('entries', entryKey(1, `n${id}`));
                    else tx.put('entries', entryKey(1, `n${id}`), refs + 1);
                  } else if (table === 'extents') {
                    if (isRemoval) tx.remove('extents', extentKey(7, id * 10));
                    else
                      tx.put('extents', extentKey(7, id * 10), { offset: id * 10, length: refs + 1, chunk: chunkId(id), chunkOffset: 0 });
                  } else if (table === 'xattrs') {
                    if (isRemoval) tx.remove('xattrs', `3:user.${id}`);
                    else tx.put('xattrs', `3:user.${id}`, String(refs));
                  } else nextNumber(tx, 'next');
                }
                if (fails) throw new Error('no');
              });
            if (fails) {
              expect(run).toThrow('no');
              expect(dump(state)).toBe(before);
            } else run();
            expectIndexes(state);
          }
          expect(dump(replayed)).toBe(dump(state));
          expectIndexes(replayed);
        },
      ),
    );
  });

  it('tells of afterwards-actions only when the transaction succeeded', () => {
    const state = new State();
    const told: string[] = [];
    state.transact((tx) => tx.afterwards(() => told.push('good')));
    expect(() =>
      state.transact((tx) => {
        tx.afterwards(() => told.push('bad'));
        throw new Error('no');
      }),
    ).toThrow();
    expect(told).toEqual(['good']);
  });

  it('adds and removes replicas in order and shares equal lists', () => {
    const row: ChunkRow = { volume: 1, sizeBytes: 1, refs: 1, replicas: [] };
    const a = withReplica(withReplica(row, 3), 1);
    const b = withReplica(withReplica(row, 1), 3);
    expect(a.replicas).toEqual([1, 3]);
    expect(a.replicas).toBe(b.replicas);
    expect(withoutReplica(a, 3).replicas).toEqual([1]);
    expect(withReplica(a, 3)).toBe(a);
  });
});

describe('entries', () => {
  it('list names in the order of their UTF-8 bytes, whatever came and went between listings', () => {
    const name = fc.string({ unit: fc.constantFrom('a', 'b', 'é', '\ue000', '\uffee', '😀', '𝒳'), minLength: 1, maxLength: 4 });
    fc.assert(
      fc.property(fc.array(fc.tuple(name, fc.boolean(), fc.boolean()), { maxLength: 60 }), (steps) => {
        const table = new EntriesTable();
        const model = new Set<string>();
        for (const [one, isAdded, lists] of steps) {
          if (isAdded) {
            table.put(entryKey(1, one), 5);
            model.add(one);
          } else {
            table.remove(entryKey(1, one));
            model.delete(one);
          }
          if (lists) expect(table.sorted(1)).toEqual([...model].sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b))));
        }
        expect(table.size).toBe(model.size);
        expect([...table.sorted(1)].sort(compareNames)).toEqual(table.sorted(1));
      }),
    );
  });
});
