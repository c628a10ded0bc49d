import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { expect, it } from 'vitest';
import { realEnvironment } from '../protocol/environment.js';
import { chunkOf, testChunkStoreContract } from './chunk-store.contract.js';
import { DiskChunkStore } from './disk-chunk-store.js';
import { FaultyChunkStore } from './faulty-chunk-store.js';
import { MemoryChunkStore } from './memory-chunk-store.js';

testChunkStoreContract('memory store', async () => {
  const store = new MemoryChunkStore({ environment: realEnvironment() });
  return { store, end: () => store.close() };
});

testChunkStoreContract('faulty store without faults', async () => {
  const store = new FaultyChunkStore(new MemoryChunkStore(), realEnvironment());
  return { store, end: () => store.close() };
});

testChunkStoreContract('disk store', async () => {
  const data = await mkdtemp(`${tmpdir()}/hf-node-store-`);
  const open = (): Promise<DiskChunkStore> => DiskChunkStore.open({ data, environment: realEnvironment(), reserveBytes: 0 });
  const stores = [await open()];
  return {
    store: stores[0]!,
    reopen: async () => {
      // The former store is abandoned as it is, as by kill -9: nothing is synced or saved.
      await stores.at(-1)!.abandon();
      stores.push(await open());
      return stores.at(-1)!;
    },
    end: async () => {
      await stores.at(-1)!.close();
      await rm(data, { recursive: true });
    },
  };
});

it('memory store: a crash takes what was not synced and nothing else', async () => {
  const store = new MemoryChunkStore();
  const [a, b, c] = [chunkOf(10, 1), chunkOf(10, 2), chunkOf(10, 3)];
  await store.put([a], true);
  await store.put([b, c], false);
  await store.sync([c.id]);
  store.crash();
  expect([a, b, c].map(({ id }) => store.has(id))).toEqual([true, false, true]);
});

it('faulty store: fails as told, and only then', async () => {
  const store = new FaultyChunkStore(new MemoryChunkStore(), realEnvironment());
  const chunk = chunkOf(1000, 1);
  store.faults = { putEnospc: 1 };
  expect((await store.put([chunk], true))[0]).toMatchObject({ code: 'ENOSPC' });
  store.faults = { putEio: 1 };
  expect((await store.put([chunk], true))[0]).toMatchObject({ code: 'EIO' });
  store.faults = {};
  expect(await store.put([chunk], true)).toEqual([undefined]);
  store.faults = { readEio: 1 };
  await expect(store.read(chunk.id, 0, 1)).rejects.toMatchObject({ code: 'EIO' });
  store.faults = { readFlip: 1 };
  expect((await store.read(chunk.id, 0, 1)).equals(chunk.encoded)).toBe(false);
});
