import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Environment, realEnvironment } from '../protocol/environment.js';
import { chunkOf } from './chunk-store.contract.js';
import type { ChunkToPut } from './chunk-store.js';
import { DiskChunkStore } from './disk-chunk-store.js';
import { SimulatedFiles } from './simulated-files.js';

const ALL = Number.POSITIVE_INFINITY;
const DATA = '/data';

/** Time that moves only when told; timers never fire by themselves, so the tests decide when background work runs. */
function still(): Environment & { advance(ms: number): void; fire(): void } {
  let nowMs = 0;
  let timers: (() => void)[] = [];
  return {
    ...realEnvironment(),
    monotonicMs: () => nowMs,
    setTimer: (_delayMs, callback) => {
      timers.push(callback);
      return {
        cancel: () => {
          timers = timers.filter((other) => other !== callback);
        },
      };
    },
    advance: (ms) => {
      nowMs += ms;
    },
    fire: () => {
      for (const callback of timers.splice(0)) callback();
    },
  };
}

const open = (files: SimulatedFiles, environment: Environment = still()): Promise<DiskChunkStore> =>
  DiskChunkStore.open({ data: DATA, environment, files, reserveBytes: 0 });
const [small, large] = [chunkOf(50, 1), chunkOf(200_000, 2)];
const pool: ChunkToPut[] = Array.from({ length: 6 }, (_, i) => chunkOf(i % 2 ? 140_000 + i : 60 + i, 10 + i));
const pathOf = (chunk: ChunkToPut): string => `${DATA}/chunks/${chunk.id.slice(0, 2)}/${chunk.id}`;

describe('disk chunk store: order of durability', () => {
  it("syncs a durable chunk's bytes before its name and the directory after", async () => {
    const files = new SimulatedFiles();
    const store = await open(files);
    files.trace.length = 0;
    await store.put([large], true);
    const steps = files.trace.map((line) => line.split(' ')[0]);
    expect(steps).toEqual(['open', 'write', 'fdatasync', 'rename', 'syncDirectory']);
    expect(files.trace[3]).toBe(`rename ${pathOf(large)}`);
  });

  it('makes a whole group of small durable chunks stable with one write and one sync', async () => {
    const files = new SimulatedFiles();
    const store = await open(files);
    await store.put([chunkOf(1, 99)], true);
    files.trace.length = 0;
    await store.put(
      Array.from({ length: 50 }, (_, i) => chunkOf(40, i)),
      true,
    );
    expect(files.trace.map((line) => line.split(' ')[0])).toEqual(['write', 'fdatasync']);
  });

  it('loses no durable or synced chunk in a power loss, at any moment, whatever else survives', async () => {
    const step = fc.record({
      kind: fc.constantFrom('put', 'putDurable', 'putDurable', 'remove', 'sync', 'pass', 'move', 'crash'),
      which: fc.nat(pool.length - 1),
    });
    await fc.assert(
      fc.asyncProperty(
        fc.array(step, { minLength: 3, maxLength: 20 }),
        fc.infiniteStream(fc.boolean()),
        fc.nat(60),
        async (steps, coins, stopAt) => {
          const files = new SimulatedFiles();
          const chance = (): boolean => coins.next().value as boolean;
          let environment = still();
          let store = await open(files, environment);
          /** true = must survive; false = must not be promised. */
          const stable = new Set<string>();
          let stepsLeft = stopAt;
          // At some step the power goes: that step and all later ones fail.
          files.onStep = () => {
            if (stepsLeft-- <= 0) throw Object.assign(new Error('power is gone'), { code: 'EIO' });
          };
          const crash = async (): Promise<void> => {
            await store.abandon();
            files.onStep = undefined;
            files.powerLoss(chance);
            environment = still();
            store = await open(files, environment);
            for (const id of stable) {
              expect(store.has(id)).toBe(true);
              expect(await store.check(id)).toMatchObject({ state: 'good' });
            }
            // Whatever else came back is either right or found to be wrong; a second put heals it.
            for (const chunk of pool) {
              if (!store.has(chunk.id)) continue;
              const { state } = await store.check(chunk.id);
              if (state === 'good') expect((await store.read(chunk.id, 0, ALL)).equals(chunk.encoded)).toBe(true);
              else expect(stable.has(chunk.id)).toBe(false);
            }
          };
          for (const { kind, which } of steps) {
            const chunk = pool[which]!;
            if (kind === 'put' || kind === 'putDurable') {
              const [failure] = await store.put([chunk], kind === 'putDurable');
              if (failure) stable.delete(chunk.id);
              else if (kind === 'putDurable') stable.add(chunk.id);
            } else if (kind === 'remove') {
              stable.delete(chunk.id);
              await store.remove(chunk.id).catch(() => {});
            } else if (kind === 'sync') {
              if ((await store.sync([chunk.id])).length === 0) stable.add(chunk.id);
            } else if (kind === 'move') await store.moveSmallChunks();
            else if (kind === 'pass') {
              environment.advance(600);
              environment.fire();
            } else await crash();
          }
          await crash();
          for (const chunk of pool) {
            expect(await store.put([chunk], true)).toEqual([undefined]);
            expect((await store.read(chunk.id, 0, ALL)).equals(chunk.encoded)).toBe(true);
          }
        },
      ),
      { numRuns: 100 },
    );
  }, 120_000);

  it('syncs what a killed process had only written, and does not call stable what a power loss has emptied', async () => {
    const files = new SimulatedFiles();
    let store = await open(files);
    await store.put([large], false);
    await store.abandon();
    // kill -9: the bytes are the kernel's, not yet the disk's.
    store = await open(files);
    expect(await store.sync([large.id])).toEqual([]);
    await store.abandon();
    files.powerLoss(() => false);
    store = await open(files);
    expect(await store.check(large.id)).toMatchObject({ state: 'good' });

    const emptied = chunkOf(200_000, 77);
    await store.put([emptied], false);
    await store.abandon();
    // The name makes it, the bytes do not.
    const coins = [true, true];
    files.powerLoss(() => coins.shift() ?? true);
    store = await open(files);
    expect(store.has(emptied.id)).toBe(true);
    expect(await store.sync([large.id, emptied.id])).toEqual([emptied.id]);
    expect(await store.put([emptied], true)).toEqual([undefined]);
    expect(await store.check(emptied.id)).toMatchObject({ state: 'good' });
  });

  it('starts after kill -9 at every single step of puts and a move, and still has everything it promised', async () => {
    for (let stopAt = 0; ; stopAt++) {
      const files = new SimulatedFiles();
      let store = await open(files);
      let left = stopAt;
      let isStopped = false;
      files.onStep = () => {
        if (left-- > 0) return;
        isStopped = true;
        throw Object.assign(new Error('killed'), { code: 'EIO' });
      };
      const promised: ChunkToPut[] = [];
      for (const chunk of [small, large, ...pool]) {
        const [failure] = await store.put([chunk], chunk !== large);
        if (!failure) promised.push(chunk);
      }
      await store.moveSmallChunks();
      await store.abandon();
      files.onStep = undefined;
      store = await open(files);
      for (const chunk of promised) expect((await store.read(chunk.id, 0, ALL)).equals(chunk.encoded)).toBe(true);
      expect(await files.readdir(`${DATA}/tmp`)).toEqual([]);
      if (!isStopped) break;
    }
  }, 120_000);
});

describe('disk chunk store: a disk that fails', () => {
  const failing = (files: SimulatedFiles, step: string, code = 'EIO'): void => {
    files.onStep = (name, path) => {
      if (name === step && !path.includes('/tmp/replace')) throw Object.assign(new Error(code), { code });
    };
  };

  for (const chunk of [small, large]) {
    const size = chunk === small ? 'small' : 'large';
    it(`a failed sync fails a durable put of a ${size} chunk, which is then neither there nor called good later`, async () => {
      const files = new SimulatedFiles();
      let store = await open(files);
      failing(files, 'fdatasync');
      expect((await store.put([chunk], true))[0]).toMatchObject({ code: 'EIO' });
      expect(store.has(chunk.id)).toBe(false);
      files.onStep = undefined;
      expect(await store.sync([chunk.id])).toEqual([chunk.id]);
      expect(await store.put([chunk], true)).toEqual([undefined]);
      await store.abandon();
      files.powerLoss(() => false);
      store = await open(files);
      expect(await store.check(chunk.id)).toMatchObject({ state: 'good' });
    });

    it(`a failed background sync drops a ${size} chunk and reports it`, async () => {
      const files = new SimulatedFiles();
      const store = await open(files);
      const damaged: string[] = [];
      store.onDamaged = (id, problem) => damaged.push(`${problem} ${id}`);
      await store.put([chunk], false);
      failing(files, 'fdatasync');
      expect(await store.sync([chunk.id])).toEqual([chunk.id]);
      expect(damaged).toEqual([`io-error ${chunk.id}`]);
    });
  }

  it('several large chunks put durably together survive a power loss; one whose sync fails fails alone', async () => {
    const files = new SimulatedFiles();
    let store = await open(files);
    const chunks = Array.from({ length: 6 }, (_, i) => chunkOf(150_000, 70 + i));
    const together = [...chunks, small];
    let syncs = 0;
    files.onStep = (name, path) => {
      if (name === 'fdatasync' && path.includes('/chunks/') && ++syncs === 3) throw Object.assign(new Error('EIO'), { code: 'EIO' });
    };
    const outcomes = await store.put(together, true);
    files.onStep = undefined;
    const failed = together.filter((_, i) => outcomes[i]);
    expect(failed.length).toBe(1);
    expect(outcomes.find((outcome) => outcome)).toMatchObject({ code: 'EIO' });
    expect(store.has(failed[0]!.id)).toBe(false);
    await store.abandon();
    files.powerLoss(() => false);
    store = await open(files);
    for (const chunk of together) if (chunk !== failed[0]) expect(await store.check(chunk.id)).toMatchObject({ state: 'good' });
  });

  it('keeps what was synced before when a later sync of the same log fails', async () => {
    const files = new SimulatedFiles();
    const store = await open(files);
    const [before, after] = [chunkOf(30, 1), chunkOf(30, 2)];
    await store.put([before], true);
    failing(files, 'fdatasync');
    expect((await store.put([after], true))[0]).toMatchObject({ code: 'EIO' });
    files.onStep = undefined;
    expect((await store.read(before.id, 0, ALL)).equals(before.encoded)).toBe(true);
    expect(store.has(after.id)).toBe(false);
  });

  it('becomes read-only after repeated failures: puts say EROFS, reads go on', async () => {
    const files = new SimulatedFiles();
    const store = await open(files);
    await store.put([large], true);
    failing(files, 'write');
    for (let i = 0; i < 3; i++) expect((await store.put([chunkOf(200_000, 50 + i)], true))[0]).toMatchObject({ code: 'EIO' });
    files.onStep = undefined;
    expect((await store.put([small], true))[0]).toMatchObject({ code: 'EROFS' });
    expect(await store.usage()).toMatchObject({ isReadOnly: true, freeBytes: 0 });
    expect((await store.read(large.id, 0, ALL)).equals(large.encoded)).toBe(true);
  });

  it('says EIO for a read that fails, and CHUNK_MISSING once for a file that disappeared', async () => {
    const files = new SimulatedFiles();
    const store = await open(files);
    const damaged: string[] = [];
    store.onDamaged = (id, problem) => damaged.push(`${problem} ${id}`);
    await store.put([large], true);
    failing(files, 'read');
    await expect(store.read(large.id, 0, ALL)).rejects.toMatchObject({ code: 'EIO' });
    files.onStep = undefined;
    await files.unlink(pathOf(large));
    await expect(store.read(large.id, 0, ALL)).rejects.toMatchObject({ code: 'CHUNK_MISSING' });
    expect(damaged).toEqual([`missing ${large.id}`]);
    expect(await store.put([large], true)).toEqual([undefined]);
  });

  it('says ENOSPC when the disk is full, takes chunks again when there is room, and deletes at 0 bytes free', async () => {
    const files = new SimulatedFiles();
    const environment = still();
    const store = await open(files, environment);
    await store.put([small, large], true);
    files.freeBytes = 0;
    for (const chunk of [chunkOf(40, 7), chunkOf(300_000, 8)])
      expect((await store.put([chunk], true))[0]).toMatchObject({ code: 'ENOSPC' });
    expect(await store.remove(large.id)).toBe(true);
    environment.advance(1000);
    expect(files.freeBytes).toBeGreaterThan(100_000);
    expect(await store.put([chunkOf(40, 7)], true)).toEqual([undefined]);
    expect((await store.usage()).isReadOnly).toBe(false);
  });

  it('keeps within --capacity', async () => {
    const store = await DiskChunkStore.open({
      data: DATA,
      environment: still(),
      files: new SimulatedFiles(),
      reserveBytes: 0,
      capacityBytes: 300_000,
    });
    expect(await store.put([large], true)).toEqual([undefined]);
    expect((await store.put([chunkOf(200_000, 5)], true))[0]).toMatchObject({ code: 'ENOSPC' });
    expect(await store.usage()).toMatchObject({ capacityBytes: 300_000, freeBytes: 300_000 - large.encoded.length });
  });
});

describe('disk chunk store: damage found at rest', () => {
  const overwrite = async (files: SimulatedFiles, chunk: ChunkToPut, bytes: Buffer): Promise<void> => {
    const fd = await files.open(pathOf(chunk), 'w');
    await files.write(fd, [bytes], 0);
    await files.close(fd);
  };
  const flipped = Buffer.from(large.encoded);
  flipped[150_000]! ^= 4;
  const cases: [string, Buffer][] = [
    ['a flipped bit', flipped],
    ['a truncated file', large.encoded.subarray(0, 100_000)],
    ['an empty file', Buffer.alloc(0)],
    ["another chunk's bytes", chunkOf(200_000, 77).encoded],
  ];
  for (const [what, bytes] of cases) {
    it(`${what} is found by check, and a put after a restart replaces it`, async () => {
      const files = new SimulatedFiles();
      let store = await open(files);
      await store.put([large], true);
      await overwrite(files, large, bytes);
      expect(await store.check(large.id)).toMatchObject({ state: 'corrupt' });
      await store.abandon();
      store = await open(files);
      expect(store.idsAfter('', 10).ids).toEqual([large.id]);
      expect(await store.put([large], true)).toEqual([undefined]);
      expect(await store.check(large.id)).toMatchObject({ state: 'good' });
    });
  }

  it('a damaged record in the log of small chunks costs that chunk only', async () => {
    const files = new SimulatedFiles();
    let store = await open(files);
    const chunks = [chunkOf(100, 1), chunkOf(100, 2), chunkOf(100, 3)];
    for (const chunk of chunks) await store.put([chunk], true);
    await store.abandon();
    const fd = await files.open(`${DATA}/small/1.log`, 'r+');
    await files.write(fd, [Buffer.from([255])], 40 + chunks[0]!.encoded.length + 40 + 60);
    await files.close(fd);
    store = await open(files);
    expect(chunks.map(({ id }) => store.has(id))).toEqual([true, false, true]);
  });

  it('a torn end of the log is left out, and new chunks do not get lost behind it', async () => {
    const files = new SimulatedFiles();
    let store = await open(files);
    await store.put([chunkOf(100, 1)], true);
    await store.put([chunkOf(100, 2)], true);
    await store.abandon();
    const fd = await files.open(`${DATA}/small/1.log`, 'r+');
    await files.truncate(fd, 230);
    await files.close(fd);
    store = await open(files);
    expect([1, 2].map((seed) => store.has(chunkOf(100, seed).id))).toEqual([true, false]);
    await store.put([chunkOf(100, 3)], true);
    await store.abandon();
    store = await open(files);
    expect([1, 2, 3].map((seed) => store.has(chunkOf(100, seed).id))).toEqual([true, false, true]);
  });
});

describe('disk chunk store: housekeeping', () => {
  it('moves small chunks to files of their own when things are quiet, and drops the log', async () => {
    const files = new SimulatedFiles();
    const store = await open(files);
    await store.put(pool, true);
    await store.moveSmallChunks();
    expect(await files.readdir(`${DATA}/small`)).toEqual([]);
    for (const chunk of pool) {
      expect(await files.sizeOf(pathOf(chunk))).toBe(chunk.encoded.length);
      expect((await store.read(chunk.id, 0, ALL)).equals(chunk.encoded)).toBe(true);
    }
  });

  it('does not bring back a chunk that was removed while it was being moved', async () => {
    const files = new SimulatedFiles();
    let store = await open(files);
    await store.put([small], true);
    let removal: Promise<boolean> | undefined;
    files.onStep = (step, path) => {
      if (step === 'rename' && path === pathOf(small)) removal ??= store.remove(small.id);
    };
    await store.moveSmallChunks();
    expect(await removal).toBe(true);
    files.onStep = undefined;
    expect(store.has(small.id)).toBe(false);
    await store.abandon();
    store = await open(files);
    expect(store.has(small.id)).toBe(false);
  });

  it('knows sizes and volumes after a clean stop without opening a chunk', async () => {
    const files = new SimulatedFiles();
    let store = await open(files);
    await store.put(pool, true);
    await store.moveSmallChunks();
    await store.close();
    store = await open(files);
    files.trace.length = 0;
    const { items } = await store.list('', 100);
    expect(items).toHaveLength(pool.length);
    expect(files.trace).toEqual([]);
    await store.abandon();
    store = await open(files);
    expect((await store.list('', 100)).items).toEqual(items);
  });
});
