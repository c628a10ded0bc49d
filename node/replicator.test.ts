import { describe, expect, it } from 'vitest';
import type { ChunkPeer } from '../protocol/chunk-http.js';
import { realEnvironment } from '../protocol/environment.js';
import { HoldfastError } from '../protocol/errors.js';
import { MAX_PUT_BODY_BYTES } from '../protocol/limits.js';
import { openReceipt, type Permit, sign } from '../protocol/permit.js';
import { ChunkService } from './chunk-service.js';
import { chunkOf } from './chunk-store.contract.js';
import type { ChunkToPut } from './chunk-store.js';
import { MemoryChunkStore } from './memory-chunk-store.js';
import { type CopyRequest, Replicator } from './replicator.js';

const KEY = Buffer.alloc(32, 1);
const permit = sign(KEY, {
  kind: 'permit',
  cluster: 'c',
  volume: 0,
  access: 'write',
  client: 'coordinator',
  generation: 1,
} satisfies Permit);

/** Counts puts, and fails those of chunks it is told to. */
class WatchedStore extends MemoryChunkStore {
  readonly groups: number[] = [];
  readonly refused = new Set<string>();
  override async put(chunks: readonly ChunkToPut[], durable: boolean): Promise<(HoldfastError | undefined)[]> {
    this.groups.push(chunks.length);
    const outcomes = await super.put(
      chunks.filter(({ id }) => !this.refused.has(id)),
      durable,
    );
    return chunks.map(({ id }) => (this.refused.has(id) ? new HoldfastError('ENOSPC', 'full') : outcomes.shift()));
  }
}

interface Source {
  readonly service: ChunkService;
  readonly asked: string[];
}

function serviceOf(node: number, store: MemoryChunkStore): ChunkService {
  const service = new ChunkService(store, realEnvironment());
  service.setMembership({ cluster: 'c', node, accessKey: KEY, generation: 1, revokedClients: new Set() });
  return service;
}

async function make(sources: readonly (readonly ChunkToPut[])[], knowsBatches = true) {
  const nodes: Source[] = [];
  for (const [i, chunks] of sources.entries()) {
    const store = new MemoryChunkStore();
    await store.put(chunks, true);
    nodes.push({ service: serviceOf(i + 1, store), asked: [] });
  }
  const peerAt = (url: string): ChunkPeer => {
    const { service, asked } = nodes[Number(url.slice('http://n'.length)) - 1]!;
    return {
      node: 0,
      put: () => Promise.reject(new HoldfastError('UNREACHABLE')),
      sync: () => Promise.reject(new HoldfastError('UNREACHABLE')),
      get: (chunk) => {
        asked.push(chunk);
        return service.get(service.authorize(permit, 'read'), chunk, 0, Number.POSITIVE_INFINITY);
      },
      ...(knowsBatches
        ? {
            getSmall: async (ids: readonly string[]) => {
              asked.push(`${ids.length} at once`);
              const found = await service.getSmall(service.authorize(permit, 'read'), ids, MAX_PUT_BODY_BYTES);
              return new Map(found.map(({ id, parts }) => [id, Buffer.concat(parts)]));
            },
          }
        : {}),
    };
  };
  const store = new WatchedStore();
  return { nodes, store, replicator: new Replicator(serviceOf(9, store), realEnvironment(), peerAt) };
}

const requestOf = (chunk: ChunkToPut, ...sources: number[]): CopyRequest => ({
  chunk: chunk.id,
  from: sources.map((source) => `http://n${source}`),
  sizeBytes: chunk.header.payloadBytes,
});
const small = (from: number, count: number): ChunkToPut[] => Array.from({ length: count }, (_, i) => chunkOf(2000, from + i));

describe('copying by order', () => {
  for (const knowsBatches of [true, false])
    it(`stores an order together and durably${knowsBatches ? ', small chunks fetched with one request a source' : ', from nodes that know no batches'}`, async () => {
      const [first, second, large] = [small(1, 20), small(100, 12), [chunkOf(300_000, 7), chunkOf(200_000, 8)]];
      const { nodes, store, replicator } = await make([[...first, ...large], second], knowsBatches);
      const all = [...[...first, ...large].map((chunk) => requestOf(chunk, 1)), ...second.map((chunk) => requestOf(chunk, 2))];
      const results = await replicator.copy(all, permit);
      expect(results.map(({ chunk }) => chunk)).toEqual(all.map(({ chunk }) => chunk));
      for (const { chunk, receipt } of results) {
        expect(openReceipt(KEY, receipt ?? '', 'c')).toMatchObject({ chunk, node: 9, durable: true, client: 'coordinator' });
        expect(await store.check(chunk)).toMatchObject({ state: 'good' });
      }
      expect(store.groups).toEqual([34]);
      if (!knowsBatches) return;
      expect(nodes[0]!.asked.sort()).toEqual(['20 at once', ...large.map(({ id }) => id)].sort());
      expect(nodes[1]!.asked).toEqual(['12 at once']);
    });

  it('takes from the next source what the first has not or has damaged, and says what nobody has', async () => {
    const chunks = small(1, 6);
    const [absent, damaged, lost] = [chunks[0]!, chunks[1]!, chunks[2]!];
    const { nodes, replicator, store } = await make([chunks.filter((chunk) => chunk !== absent && chunk !== lost), [absent, damaged]]);
    const wrong = Buffer.from(damaged.encoded);
    wrong[wrong.length - 1]! ^= 1;
    nodes[0]!.service.store.read = (
      (read) => async (id: string, from: number, count: number) =>
        id === damaged.id ? wrong : read(id, from, count)
    )(nodes[0]!.service.store.read.bind(nodes[0]!.service.store));
    const results = await replicator.copy(
      chunks.map((chunk) => requestOf(chunk, 1, 2)),
      permit,
    );
    for (const { chunk, receipt, error } of results) {
      if (chunk === lost.id) expect(error).toContain('CHUNK_UNREADABLE');
      else expect(receipt, error).toBeDefined();
    }
    expect(store.has(lost.id)).toBe(false);
    expect(await store.check(damaged.id)).toMatchObject({ state: 'good' });
  });

  it('a chunk that cannot be stored fails alone, one that is here already is not fetched, one named twice is copied once', async () => {
    const chunks = small(1, 5);
    const [full, here] = [chunks[0]!, chunks[1]!];
    const { nodes, replicator, store } = await make([chunks]);
    store.refused.add(full.id);
    await store.put([here], true);
    const results = await replicator.copy(
      [...chunks, chunks[4]!].map((chunk) => requestOf(chunk, 1)),
      permit,
    );
    expect(results.length).toBe(6);
    for (const { chunk, receipt, error } of results) {
      if (chunk === full.id) expect(error).toContain('ENOSPC');
      else expect(receipt, error).toBeDefined();
    }
    expect(nodes[0]!.asked).toEqual(['4 at once']);
    expect(nodes[0]!.service.counters.repairReadBytes).toBe(nodes[0]!.service.counters.readBytes);
  });
});
