import { describe, expect, it } from 'vitest';
import { FakeEnvironment, settle } from '../test/fake-environment.js';
import { Checkpointer } from './checkpoint.js';
import { Journal, recoverJournal } from './journal.js';
import { MemoryJournalStorage } from './journal-storage.js';
import { MemoryMetadataStore } from './metadata-store.js';
import { State } from './state.js';

describe('a checkpoint', () => {
  it('loses nothing that joins the open record after its rows were taken', async () => {
    const environment = new FakeEnvironment();
    const storage = new MemoryJournalStorage();
    const store = new MemoryMetadataStore();
    const state = new State();
    const fatal = (error: Error): void => {
      throw error;
    };
    const journal = new Journal(storage, environment, { sequence: 0, crc: 0 }, fatal);
    const checkpointer = new Checkpointer(state, journal, storage, store, environment, fatal);
    state.onCommit = (changes) => {
      journal.append(changes);
      checkpointer.note(changes);
    };
    const put = (key: string, value: number): void => state.transact((tx) => tx.put('settings', key, value));
    put('first', 1);
    // Its record is being written from here on; the next one gathers.
    await Promise.resolve();
    put('second', 1);
    const done = checkpointer.run();
    put('second', 2);
    put('third', 1);
    await done;
    await journal.written();
    await settle();
    storage.crash('process', () => 0);

    const after = new State();
    const applied = await store.load((table, key, row) => after.load(table, key, row));
    await recoverJournal(storage, applied, ([table, key, row]) => after.load(table, key, row));
    expect(['first', 'second', 'third'].map((key) => after.get('settings', key))).toEqual([1, 2, 1]);
  });
});
