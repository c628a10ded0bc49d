import { expect, it } from 'vitest';
import { FakeEnvironment } from '../test/fake-environment.js';
import { Collector, type CollectorContext } from './collector.js';
import { Inventory, type InventoryContext } from './inventory.js';
import type { Member } from './member.js';
import { Pins } from './pins.js';
import { Receipts } from './receipts.js';
import { State } from './state.js';

const CHUNK = 'c'.repeat(64);
const LATER = 'd'.repeat(64);

/** A node that holds chunks no metadata names, asked by a coordinator that has just started. */
function asked() {
  const [environment, state, receipts] = [new FakeEnvironment(), new State(), new Receipts()];
  const held = new Set([CHUNK]);
  const aside = new Set<string>();
  const trouble = { isSafeMode: false, failures: 0 };
  const member = {
    ...{ id: 1, name: 'n1', startId: 's', isReachable: true, inventory: 'unknown', connection: { isOpen: true } },
    order: async (method: string, { chunks }: { chunks: string[] }) => {
      if (method === 'inventory') return { items: [...held].sort().map((chunk) => ({ chunk })), isLast: true };
      if (method === 'condemn') return { marked: chunks, missing: [] };
      if (method === 'setAside') {
        if (trouble.failures-- > 0) throw new Error('no answer in time');
        for (const chunk of chunks) aside.add(chunk);
      }
      for (const chunk of chunks) held.delete(chunk);
      return { setAside: chunks, removed: chunks, kept: [], startId: 's', sequence: 1 };
    },
  } as unknown as Member;
  const membership = { get: () => member, all: () => [member] };
  const shared = { environment, state, receipts, membership, events: { note: () => {} } };
  const collector = new Collector({
    ...{ ...shared, pins: new Pins(), graceMs: 0, isSafeMode: () => trouble.isSafeMode, isCopying: () => false, synced: async () => {} },
  } as unknown as CollectorContext);
  const inventory = new Inventory({
    ...{ ...shared, collector, unknownGraceMs: 2000, completed: () => {}, lost: () => {} },
  } as unknown as InventoryContext);
  collector.start();
  inventory.start();
  return { environment, held, aside, trouble, take: () => inventory.take(member) };
}

it('sets aside what was there from the start, and deletes what came later and was never committed', async () => {
  const { environment, held, aside, take } = asked();
  await take();
  held.add(LATER);
  await take();
  await environment.advance(10_000);
  expect([held.size, [...aside]]).toEqual([0, [CHUNK]]);
});

it('does not delete what could not be set aside while safe mode lasted', async () => {
  const { environment, held, aside, trouble, take } = asked();
  trouble.isSafeMode = true;
  await take();
  await environment.advance(10_000);
  expect([...held]).toEqual([CHUNK]);
  trouble.isSafeMode = false;
  await environment.advance(10_000);
  expect([held.size, [...aside]]).toEqual([0, [CHUNK]]);
});

it('does not delete what a node failed to set aside', async () => {
  const { environment, held, aside, trouble, take } = asked();
  trouble.failures = 2;
  await take();
  await environment.advance(30_000);
  expect([held.size, [...aside]]).toEqual([0, [CHUNK]]);
});
