import { describe, expect, it } from 'vitest';
import { FakeEnvironment } from '../test/fake-environment.js';
import { ChunkService } from './chunk-service.js';
import { chunkOf } from './chunk-store.contract.js';
import { MemoryChunkStore } from './memory-chunk-store.js';
import { memoryNodeState, type NodeState } from './node-state.js';
import { Scrubber } from './scrubber.js';

async function make(state: NodeState = memoryNodeState(), store = new MemoryChunkStore()) {
  const environment = new FakeEnvironment(1);
  const service = new ChunkService(store, environment);
  const scrubber = new Scrubber(service, environment, state);
  const verified: string[] = [];
  const bad: string[] = [];
  scrubber.onVerified = (chunks) => verified.push(...chunks);
  service.onBadReplica = (chunk, problem, _detail, foundBy) => bad.push(`${problem} ${foundBy} ${chunk}`);
  const chunks = Array.from({ length: 10 }, (_, i) => chunkOf(1000, i));
  await store.put(chunks, true);
  await scrubber.start();
  return { environment, store, scrubber, verified, bad, ids: chunks.map(({ id }) => id).sort() };
}

describe('scrubber', () => {
  it('reads no faster than its rate and tells what is good once the round ends', async () => {
    const { environment, scrubber, verified, ids } = await make();
    scrubber.setBackgroundRate(1000);
    await environment.advance(4500);
    expect(scrubber.scrubbedChunks).toBeGreaterThanOrEqual(4);
    expect(scrubber.scrubbedChunks).toBeLessThanOrEqual(6);
    await environment.advance(10_000);
    expect(verified).toEqual(ids);
    await environment.advance(60_000);
    expect(scrubber.scrubbedChunks).toBe(10);
    await scrubber.stop();
  });

  it('sets bad replicas aside and reports them', async () => {
    const { environment, scrubber, store, bad, ids, verified } = await make();
    store.damage(ids[3]!);
    store.damage(ids[7]!, 'truncate');
    scrubber.startFull(1e9);
    await environment.advance(1000);
    expect(bad).toEqual([`corrupt scrub ${ids[3]}`, `corrupt scrub ${ids[7]}`]);
    expect(verified).toHaveLength(8);
    expect(store.has(ids[3]!)).toBe(false);
    expect(scrubber.isFullRunning).toBe(false);
    await scrubber.stop();
  });

  it('goes on where it was after a restart', async () => {
    const state = memoryNodeState();
    const first = await make(state);
    first.scrubber.setBackgroundRate(1000);
    await first.environment.advance(4500);
    const done = first.scrubber.scrubbedChunks;
    await first.scrubber.stop();
    const second = await make(state, first.store);
    second.scrubber.setBackgroundRate(1e9);
    await second.environment.advance(1000);
    expect(second.verified).toEqual(second.ids.slice(done));
    await second.scrubber.stop();
  });

  it('rests while its rate is 0', async () => {
    const { environment, scrubber } = await make();
    await environment.advance(100_000);
    expect(scrubber.scrubbedChunks).toBe(0);
    await scrubber.stop();
  });
});
