/**
 * Brings changed rows from memory to the store in the background, so that the journal stays short. Order of one checkpoint:
 *
 *   1. note which rows changed and the sequence of the last closed group; take the rows (immutable objects) at that very moment
 *   2. sync the journal up to there: the store must never be ahead of it, or a power loss would leave a store without its history
 *   3. save rows and sequence in one transaction
 *   4. drop journal segments that hold nothing newer
 *
 * A crash between any two steps loses nothing: the journal is replayed from the sequence the store names.
 */
import type { Environment, Timer } from '../protocol/environment.js';
import type { Journal } from './journal.js';
import type { JournalStorage } from './journal-storage.js';
import { type MetadataStore, SaveCancelled, StoreFull } from './metadata-store.js';
import type { AnyKey, Change, TableName } from './rows.js';
import type { State } from './state.js';
import type { Table } from './tables.js';

const CHECKPOINT_INTERVAL_MS = 2000;
/** A stop must not take long. */
const MAX_ROWS_AT_STOP = 20_000;

export class Checkpointer {
  private dirty = new Map<TableName, Set<AnyKey>>();
  private timer: Timer | undefined;
  private running: Promise<void> | undefined;
  private isStopped = false;
  private isLast = false;
  /** True while the store has no room: the journal keeps everything meanwhile. */
  isFull = false;

  constructor(
    private readonly state: State,
    private readonly journal: Journal,
    private readonly storage: JournalStorage,
    private readonly store: MetadataStore,
    private readonly environment: Environment,
    private readonly onFatal: (error: Error) => void,
  ) {}

  /** Notes which rows changed. */
  readonly note = (changes: readonly Change[]): void => {
    for (const [table, key] of changes) this.noteRow(table, key);
  };
  noteRow(table: TableName, key: AnyKey): void {
    let keys = this.dirty.get(table);
    if (!keys) {
      keys = new Set();
      this.dirty.set(table, keys);
    }
    keys.add(key);
  }

  start(): void {
    this.timer = this.environment.setTimer(CHECKPOINT_INTERVAL_MS, () => {
      void this.run().then(() => {
        if (!this.isStopped) this.start();
      });
    });
  }
  /** Ends the background work, with a last checkpoint if that is short; otherwise the next start replays the journal, which has everything. */
  async stop(): Promise<void> {
    this.isStopped = true;
    this.timer?.cancel();
    await this.running;
    let count = 0;
    for (const keys of this.dirty.values()) count += keys.size;
    if (count > MAX_ROWS_AT_STOP) return;
    this.isLast = true;
    await this.run();
  }
  abandon(): void {
    this.isStopped = true;
    this.timer?.cancel();
  }

  /** One checkpoint; joins the one that is running. Never rejects: failures end the process, a full disk is tried again later. */
  run(): Promise<void> {
    this.running ??= this.checkpoint().finally(() => {
      this.running = undefined;
    });
    return this.running;
  }

  private async checkpoint(): Promise<void> {
    const { dirty } = this;
    if (dirty.size === 0) return;
    // The rows may be newer than that (the open record is replayed over them, which changes nothing), never older.
    const sequence = this.journal.closedSequence;
    this.dirty = new Map();
    const rows = new Map<TableName, Map<AnyKey, unknown>>();
    for (const [table, keys] of dirty) {
      const source = this.state.tables[table] as unknown as Table<AnyKey, unknown>;
      const taken = new Map<AnyKey, unknown>();
      for (const key of keys) taken.set(key, source.get(key) ?? null);
      rows.set(table, taken);
    }
    try {
      await this.journal.syncedLocally();
      await this.store.save(rows, sequence, () => this.isStopped && !this.isLast);
      this.isFull = false;
      await this.storage.dropUpTo(sequence);
    } catch (error) {
      // What could not be saved is still to be saved.
      for (const [table, keys] of dirty) for (const key of keys) this.noteRow(table, key);
      if (error instanceof StoreFull) {
        if (!this.isFull)
          this.environment.log('error', 'no space left for the metadata database: changes are refused until there is room again');
        this.isFull = true;
      } else if (!this.isStopped && !(error instanceof SaveCancelled)) {
        this.environment.log('error', 'saving the metadata failed', { error: (error as Error).message });
        this.onFatal(error as Error);
      }
    }
  }
}
