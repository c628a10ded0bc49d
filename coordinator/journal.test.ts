import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, describe, expect, it } from 'vitest';
import { FakeEnvironment, settle } from '../test/fake-environment.js';
import { Journal, recoverJournal } from './journal.js';
import { JournalFiles } from './journal-files.js';
import { type JournalStorage, MemoryJournalStorage } from './journal-storage.js';
import type { Change } from './rows.js';

const failed = (error: Error): void => {
  throw error;
};
const numbered = (value: number): Change => ['settings', 'last', value] as unknown as Change;

/** What the journal has after the applied sequence, as the numbers that were appended. */
async function recovered(storage: JournalStorage, appliedSequence: number): Promise<{ numbers: number[]; sequence: number; crc: number }> {
  const numbers: number[] = [];
  const { sequence, crc } = await recoverJournal(storage, appliedSequence, ([, , row]) => numbers.push(Number(row)));
  return { numbers, sequence, crc };
}

describe('recovery of the journal', () => {
  it('after any loss of power goes on from what was synced, however much the database has and wherever a segment ends', async () => {
    let torn = 0;
    const step = fc.constantFrom('append', 'append', 'append', 'sync', 'save');
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.array(step, { maxLength: 15 }), { minLength: 1, maxLength: 4 }),
        fc.integer({ min: 100, max: 400 }),
        fc.nat(1_000_000),
        fc.nat(3),
        async (lives, segmentBytes, seed, recoverySteps) => {
          const environment = new FakeEnvironment(seed);
          const storage = new MemoryJournalStorage(segmentBytes);
          let position = { sequence: 0, crc: 0 };
          // One record each, numbered as its sequence.
          let applied = 0;
          for (const life of lives) {
            const journal = new Journal(storage, environment, position, failed);
            let synced = position.sequence;
            for (const what of life) {
              if (what === 'append') {
                journal.append([numbered(journal.sequence + 1)]);
                await journal.written();
                continue;
              }
              await journal.syncedLocally();
              synced = journal.position.sequence;
              if (what === 'sync') continue;
              applied = synced;
              // More is written while the database saves, perhaps into a new segment.
              journal.append([numbered(journal.sequence + 1)]);
              await journal.written();
              await storage.dropUpTo(applied);
            }
            const written = journal.position.sequence;
            journal.abandon();
            storage.crash('power', () => environment.random());
            // The first start after it dies as well, somewhere on its way.
            let left = recoverySteps;
            const dying: JournalStorage = Object.create(storage, {
              cut: {
                value: async (first: number, size: number) => (left-- > 0 ? storage.cut(first, size) : Promise.reject(new Error('killed'))),
              },
              remove: { value: async (first: number) => (left-- > 0 ? storage.remove(first) : Promise.reject(new Error('killed'))) },
            });
            await recovered(dying, applied).catch((error: Error) => expect(error.message).toBe('killed'));
            const found = await recovered(storage, applied);
            expect(found.numbers).toEqual(Array.from({ length: found.sequence - applied }, (_, i) => applied + 1 + i));
            expect(found.sequence).toBeGreaterThanOrEqual(synced);
            if (found.sequence < written) torn++;
            position = found;
          }
        },
      ),
      { numRuns: 500 },
    );
    // Losses of power that cost nothing would prove nothing.
    expect(torn).toBeGreaterThan(100);
  });

  it('tells a journal that lacks what the database has, or what it does not have', async () => {
    const storage = new MemoryJournalStorage(1);
    const journal = new Journal(storage, new FakeEnvironment(), { sequence: 0, crc: 0 }, failed);
    for (let number = 1; number <= 4; number++) {
      journal.append([numbered(number)]);
      await journal.written();
    }
    await journal.syncedLocally();
    await expect(recovered(storage, 5)).rejects.toThrow('ends with record 4, but the database holds record 5');
    await storage.dropUpTo(2);
    await expect(recovered(storage, 1)).rejects.toThrow('records 2 to 2 are missing');
    expect((await recovered(storage, 2)).numbers).toEqual([3, 4]);
    await expect(recovered(new MemoryJournalStorage(), 1)).rejects.toThrow('ends with record 0, but the database holds record 1');
  });
});

describe('the journal on disk', () => {
  const directory = mkdtempSync(join(tmpdir(), 'holdfast-journal-'));
  afterEach(() => rmSync(directory, { recursive: true, force: true }));

  it('keeps the name of a segment that lost all it had, until the same record is written again', async () => {
    const options = { segmentBytes: 4096 };
    const open = async () => {
      const storage = await JournalFiles.open(directory, options);
      const found = await recovered(storage, 2);
      return { storage, found, journal: new Journal(storage, new FakeEnvironment(), found, failed) };
    };
    const before = await JournalFiles.open(directory, options);
    await recovered(before, 0);
    const journal = new Journal(before, new FakeEnvironment(), { sequence: 2, crc: 0 }, failed);
    journal.append([numbered(3)]);
    await journal.written();
    await before.close();
    const [segment] = readdirSync(directory);
    expect(segment).toBe('0000000000000003.log');
    // Nothing of its only record reached the disk.
    const emptied = await JournalFiles.open(directory, options);
    await emptied.cut(3, 0);
    await emptied.close();

    const first = await open();
    expect(first.found).toMatchObject({ numbers: [], sequence: 2 });
    await first.storage.close();
    const second = await open();
    expect(second.found).toMatchObject({ numbers: [], sequence: 2 });
    second.journal.append([numbered(3)]);
    await second.journal.written();
    await second.storage.dropUpTo(2);
    await second.storage.close();
    await settle();
    const third = await open();
    expect(third.found).toMatchObject({ numbers: [3], sequence: 3 });
    await third.storage.close();
  });
});
