/**
 * How rows lie in memory: one class per shape of table, all with the same four methods, so transactions, journal and database need not know more.
 * Nested tables keep the rows of one owner (directory, inode, client) together, because that is how they are asked for.
 */
import type { InodeId } from '../protocol/entities.js';
import type { AnyKey, EntryRow, ExtentRow, HistoryRow } from './rows.js';

export interface Table<Key extends AnyKey, Row> {
  get(key: Key): Row | undefined;
  /** Returns the row before. */
  put(key: Key, row: Row): Row | undefined;
  /** Returns the row before. */
  remove(key: Key): Row | undefined;
  readonly size: number;
  all(): IterableIterator<[Key, Row]>;
}

/** Key to row, nothing else. */
export class PlainTable<Key extends AnyKey, Row> implements Table<Key, Row> {
  private readonly rows = new Map<Key, Row>();
  get(key: Key): Row | undefined {
    return this.rows.get(key);
  }
  put(key: Key, row: Row): Row | undefined {
    const before = this.rows.get(key);
    this.rows.set(key, row);
    return before;
  }
  remove(key: Key): Row | undefined {
    const before = this.rows.get(key);
    this.rows.delete(key);
    return before;
  }
  get size(): number {
    return this.rows.size;
  }
  all(): IterableIterator<[Key, Row]> {
    return this.rows.entries();
  }
  values(): IterableIterator<Row> {
    return this.rows.values();
  }
}

/** Keys `${owner}:${rest}`, kept per owner. The owner is a number or hexadecimal text, so the first colon ends it. */
export class NestedTable<Row> implements Table<string, Row> {
  protected readonly owners = new Map<string, Map<string, Row>>();
  private count = 0;
  get(key: string): Row | undefined {
    const cut = key.indexOf(':');
    return this.owners.get(key.slice(0, cut))?.get(key.slice(cut + 1));
  }
  put(key: string, row: Row): Row | undefined {
    const cut = key.indexOf(':');
    const owner = key.slice(0, cut);
    const rest = key.slice(cut + 1);
    let rows = this.owners.get(owner);
    if (!rows) {
      rows = new Map();
      this.owners.set(owner, rows);
    }
    const before = rows.get(rest);
    rows.set(rest, row);
    if (before === undefined) this.count++;
    return before;
  }
  remove(key: string): Row | undefined {
    const cut = key.indexOf(':');
    const owner = key.slice(0, cut);
    const rows = this.owners.get(owner);
    const rest = key.slice(cut + 1);
    const before = rows?.get(rest);
    if (!rows || before === undefined) return undefined;
    rows.delete(rest);
    if (rows.size === 0) this.owners.delete(owner);
    this.count--;
    return before;
  }
  /** Rows of one owner by the rest of their keys. Must not be changed, and not kept over a transaction. */
  of(owner: string | number): ReadonlyMap<string, Row> {
    return this.owners.get(String(owner)) ?? (empty as ReadonlyMap<string, Row>);
  }
  get size(): number {
    return this.count;
  }
  *all(): IterableIterator<[string, Row]> {
    for (const [owner, rows] of this.owners) for (const [rest, row] of rows) yield [`${owner}:${rest}`, row];
  }
}
const empty: ReadonlyMap<string, unknown> = new Map();

/** Keys `${snapshot}${letter}${owner}:${rest}`: nested by what is before the colon, and all owners of one snapshot at hand. */
export class HistoryTable extends NestedTable<HistoryRow> {
  private readonly ofSnapshots = new Map<number, Set<string>>();
  override put(key: string, row: HistoryRow): HistoryRow | undefined {
    const snapshot = Number.parseInt(key, 10);
    let owners = this.ofSnapshots.get(snapshot);
    if (!owners) {
      owners = new Set();
      this.ofSnapshots.set(snapshot, owners);
    }
    owners.add(key.slice(0, key.indexOf(':')));
    return super.put(key, row);
  }
  override remove(key: string): HistoryRow | undefined {
    const before = super.remove(key);
    const owner = key.slice(0, key.indexOf(':'));
    if (before === undefined || this.owners.has(owner)) return before;
    const snapshot = Number.parseInt(key, 10);
    const owners = this.ofSnapshots.get(snapshot);
    owners?.delete(owner);
    if (owners?.size === 0) this.ofSnapshots.delete(snapshot);
    return before;
  }
  /** Some keys of a snapshot, at most `limit`; none = it keeps nothing. */
  keysOf(snapshot: number, limit: number): string[] {
    const keys: string[] = [];
    for (const owner of this.ofSnapshots.get(snapshot) ?? []) {
      for (const rest of this.of(owner).keys()) {
        if (keys.length === limit) return keys;
        keys.push(`${owner}:${rest}`);
      }
    }
    return keys;
  }
}

/** Names of a directory in the order of their UTF-8 bytes (UTF-16 order differs where surrogates meet U+E000 and above). */
export function compareNames(a: string, b: string): number {
  const length = Math.min(a.length, b.length);
  for (let i = 0; i < length; i++) {
    let x = a.charCodeAt(i);
    let y = b.charCodeAt(i);
    if (x === y) continue;
    if (x >= 0xd800 && y >= 0xd800) {
      // Surrogates stand for code points above every other unit: move them to the top.
      x = x >= 0xe000 ? x - 0x800 : x + 0x2000;
      y = y >= 0xe000 ? y - 0x800 : y + 0x2000;
    }
    return x - y;
  }
  return a.length - b.length;
}

interface Directory {
  readonly names: Map<string, InodeId>;
  /** Names in byte order, built when somebody lists, kept up while it is cheap. */
  sorted: string[] | undefined;
  /** Changes of `sorted` since somebody listed. */
  unreadChanges: number;
}

/** Keys `${directory}/${name}`. */
export class EntriesTable implements Table<string, EntryRow> {
  private readonly directories = new Map<InodeId, Directory>();
  private count = 0;

  get(key: string): EntryRow | undefined {
    const cut = key.indexOf('/');
    return this.lookup(Number(key.slice(0, cut)), key.slice(cut + 1));
  }
  lookup(directory: InodeId, name: string): InodeId | undefined {
    return this.directories.get(directory)?.names.get(name);
  }
  put(key: string, row: EntryRow): EntryRow | undefined {
    const cut = key.indexOf('/');
    const inode = Number(key.slice(0, cut));
    const name = key.slice(cut + 1);
    let directory = this.directories.get(inode);
    if (!directory) {
      directory = { names: new Map(), sorted: undefined, unreadChanges: 0 };
      this.directories.set(inode, directory);
    }
    const before = directory.names.get(name);
    directory.names.set(name, row);
    if (before === undefined) {
      this.count++;
      this.keepSorted(directory, name, true);
    }
    return before;
  }
  remove(key: string): EntryRow | undefined {
    const cut = key.indexOf('/');
    const inode = Number(key.slice(0, cut));
    const name = key.slice(cut + 1);
    const directory = this.directories.get(inode);
    const before = directory?.names.get(name);
    if (!directory || before === undefined) return undefined;
    directory.names.delete(name);
    this.count--;
    if (directory.names.size === 0) this.directories.delete(inode);
    else this.keepSorted(directory, name, false);
    return before;
  }
  /** Entries of a directory, in no order. Must not be changed, and not kept over a transaction. */
  of(directory: InodeId): ReadonlyMap<string, InodeId> {
    return this.directories.get(directory)?.names ?? (empty as ReadonlyMap<string, InodeId>);
  }
  countOf(directory: InodeId): number {
    return this.directories.get(directory)?.names.size ?? 0;
  }
  /** Names in byte order. Must not be changed, and not kept over a transaction. */
  sorted(inode: InodeId): readonly string[] {
    const directory = this.directories.get(inode);
    if (!directory) return [];
    directory.unreadChanges = 0;
    if (!directory.sorted) {
      const names = [...directory.names.keys()];
      // The built-in order is right, and several times faster, when no name holds a unit above the ASCII-like planes.
      if (names.some((name) => /[\ud800-\uffff]/.test(name))) names.sort(compareNames);
      else names.sort();
      directory.sorted = names;
    }
    return directory.sorted;
  }
  get size(): number {
    return this.count;
  }
  *all(): IterableIterator<[string, EntryRow]> {
    for (const [inode, directory] of this.directories) for (const [name, row] of directory.names) yield [`${inode}/${name}`, row];
  }

  private keepSorted(directory: Directory, name: string, isAdded: boolean): void {
    const { sorted } = directory;
    if (!sorted) return;
    // Nobody has listed for long: stop paying for it.
    if (++directory.unreadChanges > 1000) {
      directory.sorted = undefined;
      return;
    }
    const at = positionOf(sorted, name);
    if (isAdded) sorted.splice(at, 0, name);
    else sorted.splice(at, 1);
  }
}

/** First position whose name is not before `name` in byte order. */
export function positionOf(sorted: readonly string[], name: string): number {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (compareNames(sorted[middle] as string, name) < 0) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** First position in a list sorted by offset whose offset is not below `offset`. */
export function positionOfOffset(extents: readonly { readonly offset: number }[], offset: number): number {
  let low = 0;
  let high = extents.length;
  // Most writers append: look at the end first.
  if (high === 0 || (extents[high - 1] as { offset: number }).offset < offset) return high;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((extents[middle] as { offset: number }).offset < offset) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Keys `${inode}:${offset}`; per inode one array in order of offset. */
export class ExtentsTable implements Table<string, ExtentRow> {
  private readonly files = new Map<InodeId, ExtentRow[]>();
  private count = 0;

  get(key: string): ExtentRow | undefined {
    const cut = key.indexOf(':');
    const extents = this.files.get(Number(key.slice(0, cut)));
    if (!extents) return undefined;
    const offset = Number(key.slice(cut + 1));
    const found = extents[positionOfOffset(extents, offset)];
    return found?.offset === offset ? found : undefined;
  }
  put(key: string, row: ExtentRow): ExtentRow | undefined {
    const cut = key.indexOf(':');
    const inode = Number(key.slice(0, cut));
    let extents = this.files.get(inode);
    if (!extents) {
      extents = [];
      this.files.set(inode, extents);
    }
    const at = positionOfOffset(extents, row.offset);
    const found = extents[at];
    if (found?.offset === row.offset) {
      extents[at] = row;
      return found;
    }
    if (at === extents.length) extents.push(row);
    else extents.splice(at, 0, row);
    this.count++;
    return undefined;
  }
  remove(key: string): ExtentRow | undefined {
    const cut = key.indexOf(':');
    const inode = Number(key.slice(0, cut));
    const extents = this.files.get(inode);
    if (!extents) return undefined;
    const offset = Number(key.slice(cut + 1));
    const at = positionOfOffset(extents, offset);
    const found = extents[at];
    if (found?.offset !== offset) return undefined;
    if (at === extents.length - 1) extents.pop();
    else extents.splice(at, 1);
    if (extents.length === 0) this.files.delete(inode);
    this.count--;
    return found;
  }
  /** Extents of a file in order of offset, not overlapping. Must not be changed, and not kept over a transaction. */
  of(inode: InodeId): readonly ExtentRow[] {
    return this.files.get(inode) ?? [];
  }
  get size(): number {
    return this.count;
  }
  *all(): IterableIterator<[string, ExtentRow]> {
    for (const [inode, extents] of this.files) for (const extent of extents) yield [`${inode}:${extent.offset}`, extent];
  }
}
