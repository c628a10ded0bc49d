/**
 * The lasting store behind the journal: rows as of one journal record. `save` is all or nothing and durable when it resolves; `load` comes first, once.
 */
import { type AnyKey, type TableName, tableNames } from './rows.js';

/** The store is there but cannot be trusted: the message says what is wrong. */
export class StoreDamaged extends Error {
  override readonly name = 'StoreDamaged';
}
/** There is no room on the disk; nothing was saved. */
export class StoreFull extends Error {
  override readonly name = 'StoreFull';
}

/** The save was given up on request; nothing was saved. */
export class SaveCancelled extends Error {
  override readonly name = 'SaveCancelled';
}

export type RowsByTable = ReadonlyMap<TableName, ReadonlyMap<AnyKey, unknown>>;

export interface MetadataStore {
  /** @returns the sequence of the last journal record whose changes are in the rows; 0 for a new store. @throws {StoreDamaged} */
  load(apply: (table: TableName, key: AnyKey, row: unknown) => void): Promise<number>;
  /**
   * Rows to write (null or undefined = remove), and the sequence they are as of.
   * @param isCancelled asked now and then; true = give up, leaving everything as it was
   * @throws {StoreFull} @throws {SaveCancelled}
   */
  save(rows: RowsByTable, appliedSequence: number, isCancelled?: () => boolean): Promise<void>;
  close(): Promise<void>;
  /** Bytes on disk. */
  readonly sizeBytes: number;
}

/** For simulations: what was saved survives every crash. */
export class MemoryMetadataStore implements MetadataStore {
  readonly sizeBytes = 0;
  isFull = false;
  /** Saves that may still be done; then every call fails as if the process were gone. */
  stepsLeft = Number.POSITIVE_INFINITY;
  private readonly rows = new Map<TableName, Map<AnyKey, string>>(tableNames.map((name) => [name, new Map()]));
  private appliedSequence = 0;

  async load(apply: (table: TableName, key: AnyKey, row: unknown) => void): Promise<number> {
    await Promise.resolve();
    for (const [table, rows] of this.rows) for (const [key, row] of rows) apply(table, key, JSON.parse(row));
    return this.appliedSequence;
  }
  async save(rows: RowsByTable, appliedSequence: number): Promise<void> {
    await Promise.resolve();
    if (this.stepsLeft <= 0) throw new Error('the process is gone');
    this.stepsLeft--;
    if (this.isFull) throw new StoreFull('no space left');
    for (const [table, changed] of rows) {
      const kept = this.rows.get(table) as Map<AnyKey, string>;
      for (const [key, row] of changed) {
        if (row === null || row === undefined) kept.delete(key);
        else kept.set(key, JSON.stringify(row));
      }
    }
    this.appliedSequence = appliedSequence;
  }
  close(): Promise<void> {
    return Promise.resolve();
  }
}
