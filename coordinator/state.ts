/**
 * All metadata, in memory. Every operation is decided and applied in one synchronous `transact`: it sees a consistent state, nothing interleaves,
 * and when it throws everything it did is undone. What it changed is handed to `onCommit` (the journal). Indexes follow every change, undoing included.
 */
import { ChunkIndex } from './chunk-index.js';
import {
  type AnyKey,
  type Change,
  type ChunkRow,
  type KeyOf,
  shareReplicas,
  type TableName,
  type TableRows,
  type TreeTable,
  tableKinds,
  tableNames,
  treeTables,
} from './rows.js';
import { EntriesTable, ExtentsTable, HistoryTable, NestedTable, PlainTable, type Table } from './tables.js';

/** The table classes by name: nested ones can be asked for all rows of one owner with `of`. */
export type Tables = {
  [T in TableName]: (typeof tableKinds)[T] extends 'entries'
    ? EntriesTable
    : (typeof tableKinds)[T] extends 'extents'
      ? ExtentsTable
      : (typeof tableKinds)[T] extends 'history'
        ? HistoryTable
        : (typeof tableKinds)[T] extends 'nested'
          ? NestedTable<TableRows[T]>
          : PlainTable<KeyOf<T>, TableRows[T]>;
};
type AnyTable = Table<AnyKey, unknown>;
/** Called after a row changed, also while a failed transaction is undone (then with the old row as `after`) and while rows are loaded. */
export type ChangeHook<T extends TableName> = (key: KeyOf<T>, before: TableRows[T] | undefined, after: TableRows[T] | undefined) => void;
type AnyHook = (key: AnyKey, before: unknown, after: unknown) => void;

/** What the body of a `transact` may do. Not to be kept beyond it. */
export interface Transaction {
  get<T extends TableName>(table: T, key: KeyOf<T>): TableRows[T] | undefined;
  put<T extends TableName>(table: T, key: KeyOf<T>, row: TableRows[T]): void;
  /** Removing what is not there is no change. */
  remove<T extends TableName>(table: T, key: KeyOf<T>): void;
  /** Runs when the transaction has succeeded, before `transact` returns; must not throw. For what lives in memory only. */
  afterwards(action: () => void): void;
}

export class State {
  /** For reading. Change rows only in `transact`. */
  readonly tables: Tables;
  readonly index = new ChunkIndex();
  /** Gets every successful transaction's changes, in order. A change may name a row twice; the last counts. */
  onCommit: ((changes: readonly Change[]) => void) | undefined;
  /** Called within a transaction after a row of a tree changed: keeps what it was for snapshots. Set while there are any. */
  keepBefore: ((tx: Transaction, table: TreeTable, key: AnyKey, before: unknown, after: unknown) => void) | undefined;
  private readonly hooks: Partial<Record<TableName, AnyHook[]>> = {};
  private isInTransaction = false;

  constructor() {
    const tables: Partial<Record<TableName, unknown>> = {};
    for (const name of tableNames) {
      const kind = tableKinds[name];
      tables[name] =
        kind === 'entries'
          ? new EntriesTable()
          : kind === 'extents'
            ? new ExtentsTable()
            : kind === 'nested'
              ? new NestedTable()
              : kind === 'history'
                ? new HistoryTable()
                : new PlainTable();
    }
    this.tables = tables as Tables;
    this.onChange('chunks', (key, before, after) => this.index.chunkChanged(key, before, after));
    this.onChange('inodes', (_key, before, after) => this.index.inodeChanged(before, after));
  }

  table<T extends TableName>(name: T): Tables[T] {
    return this.tables[name];
  }
  get<T extends TableName>(table: T, key: KeyOf<T>): TableRows[T] | undefined {
    return (this.tables[table] as unknown as AnyTable).get(key) as TableRows[T] | undefined;
  }

  /** Keeps an index of one's own: see ChangeHook. Register before rows are loaded. */
  onChange<T extends TableName>(table: T, hook: ChangeHook<T>): void {
    const hooks: AnyHook[] = this.hooks[table] ?? [];
    hooks.push(hook as unknown as AnyHook);
    this.hooks[table] = hooks;
  }

  /** Puts or removes a row without telling `onCommit`: while starting, from the database and the journal. */
  load(table: TableName, key: AnyKey, row: unknown): void {
    const rows = this.tables[table] as unknown as AnyTable;
    const before = row === null || row === undefined ? rows.remove(key) : rows.put(key, prepared(table, row));
    this.run(table, key, before, row ?? undefined);
  }

  /**
   * Applies `body` at once and as a whole. `body` must be synchronous. What it throws is thrown on, with all its changes undone.
   */
  transact<Result>(body: (tx: Transaction) => Result): Result {
    if (this.isInTransaction) throw new Error('a transaction inside a transaction');
    this.isInTransaction = true;
    const changes: Change[] = [];
    const befores: unknown[] = [];
    let actions: (() => void)[] | undefined;
    const change = (table: TableName, key: AnyKey, row: unknown, before: unknown): void => {
      changes.push([table, key, row]);
      befores.push(before);
      this.run(table, key, before, row ?? undefined);
      if (this.keepBefore && Object.hasOwn(treeTables, table)) this.keepBefore(tx, table as TreeTable, key, before, row ?? undefined);
    };
    const tx: Transaction = {
      get: (table, key) => this.get(table, key),
      put: (table, key, row) => {
        const kept = prepared(table, row);
        const before = (this.tables[table] as unknown as AnyTable).put(key, kept);
        if (before !== kept) change(table, key, kept, before);
      },
      remove: (table, key) => {
        const before = (this.tables[table] as unknown as AnyTable).remove(key);
        if (before !== undefined) change(table, key, null, before);
      },
      afterwards: (action) => {
        actions ??= [];
        actions.push(action);
      },
    };
    let result: Result;
    try {
      result = body(tx);
    } catch (error) {
      for (let i = changes.length - 1; i >= 0; i--) {
        const [table, key, row] = changes[i] as Change;
        const before = befores[i];
        const rows = this.tables[table] as unknown as AnyTable;
        if (before === undefined) rows.remove(key);
        else rows.put(key, before);
        this.run(table, key, row ?? undefined, before);
      }
      throw error;
    } finally {
      this.isInTransaction = false;
    }
    if (changes.length > 0) this.onCommit?.(changes);
    if (actions) for (const action of actions) action();
    return result;
  }

  private run(table: TableName, key: AnyKey, before: unknown, after: unknown): void {
    const hooks = this.hooks[table];
    if (hooks) for (const hook of hooks) hook(key, before, after);
  }
}

/** Rows come from everywhere; equal replica lists must be one object (see ChunkIndex). */
function prepared(table: TableName, row: unknown): unknown {
  if (table !== 'chunks') return row;
  const chunk = row as ChunkRow;
  const replicas = shareReplicas(chunk.replicas);
  return replicas === chunk.replicas ? chunk : ({ ...chunk, replicas } satisfies ChunkRow);
}

/** Number `key` of settings, 0 when never set. */
export const numberSetting = (state: State, key: string): number => (state.get('settings', key) as number | undefined) ?? 0;

/**
 * Next number of a counter in settings; never given twice, also not after a crash, because it is journaled with what uses it.
 */
export function nextNumber(tx: Transaction, key: string): number {
  const next = ((tx.get('settings', key) as number | undefined) ?? 0) + 1;
  tx.put('settings', key, next);
  return next;
}
