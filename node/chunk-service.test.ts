import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { ChunkId } from '../protocol/entities.js';
import { realEnvironment } from '../protocol/environment.js';
import { HoldfastError } from '../protocol/errors.js';
import { openReceipt, type Permit, sign } from '../protocol/permit.js';
import { ChunkService } from './chunk-service.js';
import { chunkOf } from './chunk-store.contract.js';
import type { ChunkStore, ChunkToPut } from './chunk-store.js';
import { FaultyChunkStore } from './faulty-chunk-store.js';
import { MemoryChunkStore } from './memory-chunk-store.js';

const KEY = Buffer.alloc(32, 1);
const CLUSTER = 'c';
const claims: Permit = { kind: 'permit', cluster: CLUSTER, volume: 1, access: 'write', client: 'me', generation: 20 };
const everyVolume: Permit = { ...claims, volume: 0, client: 'coordinator' };

function make<S extends ChunkStore = MemoryChunkStore>(
  store: S = new MemoryChunkStore() as unknown as S,
): { service: ChunkService; store: S } {
  const service = new ChunkService(store, realEnvironment());
  service.setMembership({ cluster: CLUSTER, node: 3, accessKey: KEY, generation: 20, revokedClients: new Set(['gone']) });
  return { service, store };
}

describe('chunk service: permits', () => {
  const code = (service: ChunkService, permit: string, access: 'read' | 'write' = 'write'): string => {
    try {
      service.authorize(permit, access);
      return 'ok';
    } catch (error) {
      return (error as HoldfastError).code;
    }
  };
  it('lets in what the coordinator signed, and nothing forged, foreign, expired, revoked or too weak', () => {
    const { service } = make();
    const signed = (change: Partial<Permit> = {}, key = KEY): string => sign(key, { ...claims, ...change });
    expect(code(service, signed())).toBe('ok');
    expect(code(service, signed({ access: 'read' }), 'read')).toBe('ok');
    expect(code(service, signed({ access: 'read' }))).toBe('FORBIDDEN');
    expect(code(service, signed({}, Buffer.alloc(32, 2)))).toBe('UNAUTHORIZED');
    expect(code(service, signed({ cluster: 'other' }))).toBe('UNAUTHORIZED');
    expect(code(service, signed({ generation: 9 }))).toBe('PERMIT_EXPIRED');
    expect(code(service, signed({ client: 'gone' }))).toBe('UNAUTHORIZED');
    for (const bad of ['', '.', 'a.b', signed().slice(0, -2), `${signed()}x`, 'x'.repeat(5000)])
      expect(code(service, bad)).toBe('UNAUTHORIZED');
    service.renew(31, []);
    expect(code(service, signed())).toBe('PERMIT_EXPIRED');
  });

  it('is not ready before it belongs to a cluster', () => {
    const service = new ChunkService(new MemoryChunkStore(), realEnvironment());
    expect(code(service, sign(KEY, claims))).toBe('NOT_READY');
  });
});

describe('chunk service: a disk that fails', () => {
  it('reports what cannot be read and keeps it for when it can be; what reads wrong goes', async () => {
    const inner = new MemoryChunkStore();
    const store = new FaultyChunkStore(inner, realEnvironment());
    const { service } = make(store);
    const reports: string[] = [];
    service.onBadReplica = (chunk, problem) => reports.push(`${problem} ${chunk}`);
    const chunk = chunkOf(10, 1);
    await service.put(claims, [chunk], true);
    store.faults = { readEio: 1 };
    await expect(service.get(claims, chunk.id, 0, 1)).rejects.toMatchObject({ code: 'EIO' });
    expect(reports).toEqual([`io-error ${chunk.id}`]);
    expect(await service.verify([chunk.id])).toMatchObject({ good: [], bad: [{ problem: 'io-error' }] });
    store.faults = {};
    expect(await service.verify([chunk.id])).toEqual({ good: [chunk.id], bad: [] });
    expect((await service.get(claims, chunk.id, 0, 1)).length).toBeGreaterThan(0);
  });

  it('has what read wrong for a while in service again when the coordinator asks, and nothing that is damaged', async () => {
    const inner = new MemoryChunkStore();
    const store = new FaultyChunkStore(inner, realEnvironment());
    const { service } = make(store);
    const [whole, damaged] = [chunkOf(10, 1), chunkOf(10, 2)];
    await service.put(claims, [whole, damaged], true);
    inner.damage(damaged.id);
    store.faults = { readFlip: 1 };
    expect((await service.verify([whole.id, damaged.id])).good).toEqual([]);
    expect(store.has(whole.id)).toBe(false);
    expect((await service.verify([whole.id])).good).toEqual([]);
    store.faults = {};
    expect(await service.verify([whole.id, damaged.id])).toMatchObject({
      good: [whole.id],
      bad: [{ chunk: damaged.id, problem: 'missing' }],
    });
    expect((await service.get(claims, whole.id, 0, 1)).length).toBeGreaterThan(0);
  });
});

describe('chunk service: put and get', () => {
  it('gives receipts for good chunks and an error for each bad one of a batch, which is not stored', async () => {
    const { service, store } = make();
    const [good, other, foreign] = [chunkOf(10, 1), chunkOf(10, 2), chunkOf(10, 3, 2)];
    const results = await service.put(
      claims,
      [
        good,
        { id: other.id, encoded: good.encoded },
        { id: '../etc/passwd', encoded: good.encoded },
        { id: other.id, encoded: other.encoded.subarray(0, -1) },
        foreign,
        good,
      ],
      true,
    );
    const codes = results.map((result) => (result instanceof HoldfastError ? result.code : 'ok'));
    expect(codes).toEqual(['ok', 'CHUNK_CORRUPT', 'BAD_MESSAGE', 'CHUNK_CORRUPT', 'FORBIDDEN', 'ok']);
    const receipt = openReceipt(KEY, results[0] as string, CLUSTER);
    expect(receipt).toMatchObject({ chunk: good.id, volume: 1, sizeBytes: 10, node: 3, durable: true, client: 'me' });
    expect(receipt.startId).toBe(service.startId);
    expect([good, other, foreign].map(({ id }) => store.has(id))).toEqual([true, false, false]);
  });

  it("shows a chunk of another volume to nobody but the coordinator's own", async () => {
    const { service } = make();
    const foreign = chunkOf(10, 3, 2);
    await service.put(everyVolume, [foreign], true);
    await expect(service.get(claims, foreign.id, 0, 1)).rejects.toMatchObject({ code: 'CHUNK_MISSING' });
    expect(await service.head(claims, foreign.id)).toBe(false);
    expect(await service.sync(claims, [foreign.id])).toEqual([foreign.id]);
    expect((await service.get(everyVolume, foreign.id, 0, 1)).equals(foreign.encoded)).toBe(true);
    expect(await service.sync(everyVolume, [foreign.id])).toEqual([]);
  });

  it('takes a replica out of service and reports it when a read meets its damage', async () => {
    const { service, store } = make();
    const chunk = chunkOf(10, 1);
    const reports: string[] = [];
    service.onBadReplica = (id, problem, _detail, foundBy) => reports.push(`${problem} ${foundBy} ${id}`);
    await service.put(claims, [chunk], true);
    store.damage(chunk.id, 'truncate');
    await expect(service.get(claims, chunk.id, 0, 1)).rejects.toMatchObject({ code: 'CHUNK_CORRUPT' });
    expect(reports).toEqual([`corrupt read ${chunk.id}`]);
    expect(store.setAsideChunks.get(chunk.id)?.why).toBe('corrupt');
    await expect(service.get(claims, chunk.id, 0, 1)).rejects.toMatchObject({ code: 'CHUNK_MISSING' });
  });
});

/** A store whose put and remove take as many turns as it is told, so that they overlap in every way. */
class SlowStore extends MemoryChunkStore {
  constructor(private readonly scheduler: fc.Scheduler) {
    super();
  }
  override async put(chunks: readonly ChunkToPut[], durable: boolean): Promise<(HoldfastError | undefined)[]> {
    // Looked at before, acted upon after: as a disk store decides that a chunk is there already.
    const missing = chunks.filter(({ id }) => !this.has(id));
    await this.scheduler.schedule(Promise.resolve(), 'put: looked');
    const outcomes = await super.put(missing, durable);
    await this.scheduler.schedule(Promise.resolve(), 'put: written');
    return chunks.map((chunk) => outcomes[missing.indexOf(chunk)]);
  }
  override async remove(id: ChunkId): Promise<boolean> {
    await this.scheduler.schedule(Promise.resolve(), 'remove: begins');
    const wasThere = await super.remove(id);
    await this.scheduler.schedule(Promise.resolve(), 'remove: done');
    return wasThere;
  }
}

describe('chunk service: deletion while chunks are being put', () => {
  it('never deletes a chunk whose receipt counts, in whatever way puts, condemns and removes overlap', async () => {
    const pool = [chunkOf(5, 1), chunkOf(5, 2)];
    const action = fc.record({ kind: fc.constantFrom('put', 'putBoth', 'condemn', 'remove'), which: fc.nat(1) });
    await fc.assert(
      fc.asyncProperty(fc.scheduler(), fc.array(action, { minLength: 2, maxLength: 14 }), async (scheduler, actions) => {
        const store = new SlowStore(scheduler);
        const { service } = make(store);
        const receipts: { chunk: ChunkId; sequence: number }[] = [];
        const voided: { chunk: ChunkId; upTo: number }[] = [];
        const put = async (chunks: readonly ChunkToPut[]): Promise<void> => {
          for (const receipt of await service.put(claims, chunks, true)) receipts.push(openReceipt(KEY, receipt as string, CLUSTER));
        };
        const work = actions.map(({ kind, which }) =>
          scheduler.schedule(Promise.resolve(), kind).then(async () => {
            if (kind === 'put') await put([pool[which]!]);
            else if (kind === 'putBoth') await put(pool);
            else if (kind === 'condemn') service.condemn(pool.map(({ id }) => id));
            else {
              const reply = await service.remove(pool.map(({ id }) => id));
              for (const chunk of reply.removed) voided.push({ chunk, upTo: reply.sequence });
            }
          }),
        );
        await scheduler.waitFor(Promise.all(work));
        for (const { chunk, sequence } of receipts) {
          const isVoid = voided.some((other) => other.chunk === chunk && sequence <= other.upTo);
          if (!isVoid) expect(store.has(chunk)).toBe(true);
        }
      }),
      { numRuns: 500 },
    );
  }, 120_000);

  it('answers a remove repeated after a lost reply as done, and one without condemn as kept', async () => {
    const { service } = make();
    const [a, b] = [chunkOf(5, 1), chunkOf(5, 2)];
    await service.put(claims, [a, b], true);
    service.condemn([a.id]);
    expect(await service.remove([a.id, b.id])).toMatchObject({ removed: [a.id], kept: [b.id], sequence: 2 });
    expect(await service.remove([a.id])).toMatchObject({ removed: [a.id], kept: [] });
  });
});
