/** The cases every chunk store must pass. */
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { buildChunk, KEY_SALT_BYTES, parseHeader } from '../protocol/chunk.js';
import { LEAF_SIZE_BYTES, SEALED_LEAF_SIZE_BYTES } from '../protocol/limits.js';
import type { ChunkStore, ChunkToPut } from './chunk-store.js';

/** A chunk of `sizeBytes` whose content follows from `seed`. */
export function chunkOf(sizeBytes: number, seed: number, volume = 1, leafSizeBytes = LEAF_SIZE_BYTES): ChunkToPut {
  const payload = Buffer.allocUnsafe(sizeBytes);
  let state = (seed * 2654435761 + 1) >>> 0;
  for (let i = 0; i < sizeBytes; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    payload[i] = state >>> 24;
  }
  const { id, header } = buildChunk(payload, volume, leafSizeBytes === LEAF_SIZE_BYTES ? undefined : Buffer.alloc(KEY_SALT_BYTES, seed));
  const encoded = Buffer.concat([header, payload]);
  return { id, encoded, header: parseHeader(encoded) };
}

const ALL = Number.POSITIVE_INFINITY;

export interface ContractSubject {
  readonly store: ChunkStore;
  /** Ends the store without any goodbye (kill -9) and opens what it left. Undefined when it keeps nothing across processes. */
  readonly reopen?: () => Promise<ChunkStore>;
  readonly end: () => Promise<void>;
}

export function testChunkStoreContract(name: string, make: () => Promise<ContractSubject>): void {
  describe(`${name} keeps the contract of a chunk store`, () => {
    let subject: ContractSubject;
    let store: ChunkStore;
    beforeEach(async () => {
      subject = await make();
      store = subject.store;
    });
    afterEach(() => subject.end());

    for (const durable of [true, false]) {
      it(`gives back what was put, ${durable ? 'durable' : 'not durable'}, of every size and both leaf sizes`, async () => {
        const chunks = [
          chunkOf(0, 1),
          chunkOf(1, 2),
          chunkOf(4096, 3),
          chunkOf(LEAF_SIZE_BYTES, 4),
          chunkOf(LEAF_SIZE_BYTES + 1, 5),
          chunkOf(300_000, 6),
          chunkOf(2 * SEALED_LEAF_SIZE_BYTES + 5, 7, 2, SEALED_LEAF_SIZE_BYTES),
        ];
        expect(await store.put(chunks, durable)).toEqual(chunks.map(() => undefined));
        for (const { id, encoded, header } of chunks) {
          expect(store.has(id)).toBe(true);
          expect((await store.read(id, 0, ALL)).equals(encoded)).toBe(true);
          expect(await store.check(id)).toEqual({ state: 'good', sizeBytes: header.payloadBytes });
          expect(await store.describe(id)).toEqual({ chunk: id, volume: header.volume, sizeBytes: header.payloadBytes });
        }
      });
    }

    it('reads any range of leaves with the header before it, cut at the end', async () => {
      for (const chunk of [chunkOf(5 * LEAF_SIZE_BYTES + 7, 1), chunkOf(LEAF_SIZE_BYTES + 9, 2)]) {
        await store.put([chunk], false);
        const { header, encoded } = chunk;
        for (let first = 0; first < header.leafCount; first++) {
          for (const count of [1, 2, ALL]) {
            const start = header.headerBytes + first * LEAF_SIZE_BYTES;
            const expected = Buffer.concat([
              encoded.subarray(0, header.headerBytes),
              encoded.subarray(start, Math.min(encoded.length, start + count * LEAF_SIZE_BYTES)),
            ]);
            expect((await store.read(chunk.id, first, count)).equals(expected)).toBe(true);
          }
        }
        await expect(store.read(chunk.id, header.leafCount, 1)).rejects.toMatchObject({ code: 'BAD_MESSAGE' });
      }
    });

    it('answers CHUNK_MISSING for what it does not hold, everywhere', async () => {
      const { id } = chunkOf(10, 1);
      expect(store.has(id)).toBe(false);
      await expect(store.read(id, 0, 1)).rejects.toMatchObject({ code: 'CHUNK_MISSING' });
      expect(await store.describe(id)).toBeUndefined();
      expect(await store.check(id)).toMatchObject({ state: 'missing' });
      expect(await store.sync([id])).toEqual([id]);
      expect(await store.remove(id)).toBe(false);
      expect(await store.setAside(id, 'unknown')).toBe(false);
    });

    it('keeps one copy of a chunk put twice, also at the same time', async () => {
      const small = chunkOf(100, 1);
      const large = chunkOf(200_000, 2);
      for (const chunk of [small, large]) {
        expect(await store.put([chunk], false)).toEqual([undefined]);
        expect(await store.put([chunk], true)).toEqual([undefined]);
        expect((await store.read(chunk.id, 0, ALL)).equals(chunk.encoded)).toBe(true);
      }
      const usage = await store.usage();
      expect(usage.chunkCount).toBe(2);
      expect(usage.usedBytes).toBe(small.encoded.length + large.encoded.length);
    });

    it('forgets what was removed or set aside, and takes it again', async () => {
      for (const chunk of [chunkOf(100, 1), chunkOf(200_000, 2)]) {
        await store.put([chunk], true);
        expect(await store.remove(chunk.id)).toBe(true);
        expect(store.has(chunk.id)).toBe(false);
        await store.put([chunk], true);
        expect(await store.setAside(chunk.id, 'unknown')).toBe(true);
        await expect(store.read(chunk.id, 0, 1)).rejects.toMatchObject({ code: 'CHUNK_MISSING' });
        await store.put([chunk], true);
        expect((await store.read(chunk.id, 0, ALL)).equals(chunk.encoded)).toBe(true);
      }
      expect((await store.usage()).chunkCount).toBe(2);
    });

    it('takes back what was set aside as corrupt and is whole, and nothing else', async () => {
      for (const chunk of [chunkOf(100, 1), chunkOf(200_000, 2)]) {
        expect(await store.takeBack(chunk.id)).toBe(false);
        await store.put([chunk], true);
        await store.setAside(chunk.id, 'unknown');
        expect(await store.takeBack(chunk.id)).toBe(false);
        await store.put([chunk], true);
        await store.setAside(chunk.id, 'corrupt');
        expect(await store.takeBack(chunk.id)).toBe(true);
        expect(await store.takeBack(chunk.id)).toBe(false);
        expect((await store.read(chunk.id, 0, ALL)).equals(chunk.encoded)).toBe(true);
        expect(await store.check(chunk.id)).toMatchObject({ state: 'good' });
      }
      expect((await store.usage()).chunkCount).toBe(2);
    });

    it('lists everything once, ascending, in pages of any size', async () => {
      const chunks = Array.from({ length: 40 }, (_, i) => chunkOf(i === 7 ? 150_000 : 20, i));
      await store.put(chunks, false);
      const sorted = chunks.map(({ id }) => id).sort();
      for (const limit of [1, 7, 40, 100]) {
        const seen: string[] = [];
        let after = '';
        for (let isLast = false; !isLast; ) {
          const page = await store.list(after, limit);
          expect(page.items.length).toBeLessThanOrEqual(limit);
          seen.push(...page.items.map(({ chunk }) => chunk));
          after = page.items.at(-1)?.chunk ?? after;
          isLast = page.isLast;
        }
        expect(seen).toEqual(sorted);
      }
    });

    it('behaves like a set of chunks under any sequence of operations', async () => {
      const pool = Array.from({ length: 6 }, (_, i) => chunkOf(i % 2 === 0 ? 50 + i : 140_000 + i, 100 + i));
      const step = fc.record({
        kind: fc.constantFrom('put', 'putDurable', 'remove', 'setAside', 'sync', 'read', 'reopen'),
        which: fc.nat(pool.length - 1),
      });
      await fc.assert(
        fc.asyncProperty(fc.array(step, { maxLength: 25 }), async (steps) => {
          const present = new Set<string>();
          for (const { id } of pool) await store.remove(id);
          for (const { kind, which } of steps) {
            const chunk = pool[which]!;
            const { id } = chunk;
            if (kind === 'put' || kind === 'putDurable') {
              expect(await store.put([chunk], kind === 'putDurable')).toEqual([undefined]);
              present.add(id);
            } else if (kind === 'remove') expect(await store.remove(id)).toBe(present.delete(id));
            else if (kind === 'setAside') expect(await store.setAside(id, 'corrupt')).toBe(present.delete(id));
            else if (kind === 'sync') expect(await store.sync([id])).toEqual(present.has(id) ? [] : [id]);
            else if (kind === 'reopen' && subject.reopen) {
              store = await subject.reopen();
              // What was removed may come back after a crash (the contract allows it); what was put must be there.
              for (const other of pool) {
                if (present.has(other.id)) expect(store.has(other.id)).toBe(true);
                else await store.remove(other.id);
              }
            } else if (present.has(id)) expect((await store.read(id, 0, ALL)).equals(chunk.encoded)).toBe(true);
            else expect(store.has(id)).toBe(false);
          }
          const { items } = await store.list('', 100);
          expect(new Set(items.map(({ chunk }) => chunk))).toEqual(present);
        }),
        { numRuns: 25 },
      );
    }, 120_000);
  });
}
