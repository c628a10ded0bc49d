import { expect, it } from 'vitest';
import { FakeEnvironment } from '../test/fake-environment.js';
import { Collector, type CollectorContext } from './collector.js';
import { Pins } from './pins.js';
import { State } from './state.js';

const CHUNK = 'c'.repeat(64);

/** Three nodes that remove what they are told to, after a while. */
function collected() {
  const [environment, state] = [new FakeEnvironment(), new State()];
  const held = new Map([1, 2, 3].map((node) => [node, new Set([CHUNK])]));
  const member = (id: number) => ({
    ...{ id, name: `n${id}`, startId: 's', isReachable: true, inventory: 'complete', disconnect: () => {} },
    order: async (method: string, { chunks }: { chunks: string[] }) => {
      await new Promise<void>((resolve) => {
        environment.setTimer(10, resolve);
      });
      if (method === 'condemn') return { marked: chunks, missing: [] };
      for (const chunk of chunks) held.get(id)?.delete(chunk);
      return { removed: chunks, kept: [], startId: 's', sequence: 1 };
    },
  });
  const members = new Map([1, 2, 3].map((id) => [id, member(id)]));
  const collector = new Collector({
    ...{ environment, state, pins: new Pins(), graceMs: 0, membership: { get: (id: number) => members.get(id) } },
    ...{ receipts: { removed: () => {} }, events: { note: () => {} } },
    isSafeMode: () => false,
    isCopying: () => false,
    synced: async () => {},
  } as unknown as CollectorContext);
  state.transact((tx) => tx.put('chunks', CHUNK, { volume: 1, sizeBytes: 10, refs: 1, replicas: [1, 2, 3] }));
  collector.start();
  const dropReference = (): void => {
    state.transact((tx) => tx.put('chunks', CHUNK, { ...state.get('chunks', CHUNK)!, refs: 0 }));
    collector.enqueue(CHUNK);
  };
  return { environment, state, held, collector, dropReference };
}

it('removes every replica of what nobody refers to, and its row', async () => {
  const { environment, state, held, dropReference } = collected();
  dropReference();
  await environment.advance(1000);
  expect([...held.values()].every((chunks) => chunks.size === 0)).toBe(true);
  expect(state.get('chunks', CHUNK)).toBeUndefined();
});

it('removes what lost its last reference while a surplus replica was being trimmed', async () => {
  const { environment, state, held, collector, dropReference } = collected();
  const trimmed = collector.trim([{ chunk: CHUNK, node: 3 }], () => true);
  await environment.advance(15);
  expect(collector.isRemoving(CHUNK)).toBe(true);
  dropReference();
  await environment.advance(60_000);
  expect(await trimmed).toBe(1);
  expect([...held.values()].every((chunks) => chunks.size === 0)).toBe(true);
  expect(state.get('chunks', CHUNK)).toBeUndefined();
});
