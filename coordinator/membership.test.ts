import { expect, it } from 'vitest';
import { FakeEnvironment } from '../test/fake-environment.js';
import { Membership } from './membership.js';
import { State } from './state.js';

const roomWith = (...nodes: { freeBytes: number; isDraining?: boolean }[]) => {
  const [environment, state] = [new FakeEnvironment(), new State()];
  state.transact((tx) => {
    for (const [at, { freeBytes, isDraining = false }] of nodes.entries())
      tx.put('nodes', at + 1, {
        ...{ name: `n${at}`, zone: '', url: '', version: '', isDraining, isRemoved: false, firstSeenMs: 0 },
        memory: { capacityBytes: 1e9, freeBytes, usedBytes: 0, chunkCount: 0 },
      });
  });
  const membership = new Membership({ environment, state } as never, {} as never);
  membership.load();
  return membership.space(1);
};

// The trash is given up for want of room: nobody answers here, as for a moment after a restart.
it('has the room that silent nodes had, and that of a draining one only while it is needed', () => {
  expect(roomWith({ freeBytes: 8e8 }, { freeBytes: 7e8 })).toEqual({ totalBytes: 2e9, freeBytes: 15e8 });
  expect(roomWith({ freeBytes: 8e8, isDraining: true }, { freeBytes: 7e8 })).toEqual({ totalBytes: 2e9, freeBytes: 15e8 });
  expect(roomWith({ freeBytes: 8e8, isDraining: true }, { freeBytes: 7e8 }, { freeBytes: 1e8 }).freeBytes).toBe(8e8);
  expect(roomWith({ freeBytes: 1000 }, { freeBytes: 1000 })).toEqual({ totalBytes: 2e9, freeBytes: 0 });
});
