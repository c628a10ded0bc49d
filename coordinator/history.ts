/**
 * How trees used to look. Taking a snapshot writes one row; from then on the first change of any row of the tree keeps what the row was (`history`,
 * see rows.ts), in the very transaction that changes it. A row as of snapshot S is the one kept by S, else by the next newer snapshot, and so on,
 * else the live one: so a snapshot costs what changed after it, whatever the size of the tree, and a cut is exact without stopping anybody.
 *
 *   kept is only what the newest snapshot can see: inodes made later are left out by their number (ids only grow), files without name by nlink 0
 *   an extent that is kept counts as a reference of its chunk, so the collector leaves the chunk alone
 *   a snapshot that goes gives what it kept to the next older one, unless that one (or one in between) has the row already: `dropStep`
 */
import type { ChunkId, Extent, InodeId, VolumeId } from '../protocol/entities.js';
import type { ChunkKeeper } from './ports.js';
import {
  type AnyKey,
  type ChunkRow,
  type HistoryRow,
  historyKey,
  type InodeRow,
  type SnapshotRow,
  type TreeTable,
  treeTables,
} from './rows.js';
import type { State, Transaction } from './state.js';

const tableOfLetter = new Map<string, TreeTable>(Object.entries(treeTables).map(([table, letter]) => [letter, table as TreeTable]));

/** The inode a row of a tree belongs to, and what tells it from the inode's other rows. */
function partsOf(table: TreeTable, key: AnyKey): [owner: InodeId, rest: string] {
  if (table === 'inodes') return [key as number, ''];
  const text = key as string;
  const cut = text.indexOf(table === 'entries' ? '/' : ':');
  return [Number(text.slice(0, cut)), text.slice(cut + 1)];
}
function partsOfHistoryKey(key: string): { table: TreeTable; owner: InodeId; rest: string } {
  const cut = key.indexOf(':');
  const at = key.search(/[a-z]/);
  const table = tableOfLetter.get(key[at] as string) as TreeTable;
  const rest = key.slice(cut + 1);
  return table === 'inodes' ? { table, owner: Number(rest), rest: '' } : { table, owner: Number(key.slice(at + 1, cut)), rest };
}

export class History {
  /** Snapshots of a volume, oldest first, those being deleted included: their rows are still needed to read older ones. */
  private readonly chains = new Map<VolumeId, SnapshotRow[]>();
  /** References of a chunk that are history's. */
  private readonly references = new Map<ChunkId, number>();
  /** Chunks that only history names. */
  private readonly heldChunks = new Map<ChunkId, ChunkRow>();
  private readonly heldBytes = new Map<VolumeId, number>();
  /** Bytes of the extents each snapshot keeps. */
  private readonly changedBytes = new Map<number, number>();
  /** Called after a snapshot came, changed or went. */
  onSnapshots: (() => void) | undefined;

  constructor(
    private readonly state: State,
    private readonly keeper: Pick<ChunkKeeper, 'addReferences' | 'dropReferences'>,
  ) {
    for (const row of state.table('snapshots').values()) this.snapshotChanged(undefined, row);
    for (const [key, row] of state.table('history').all()) this.historyChanged(key, undefined, row);
    state.onChange('snapshots', (_key, before, after) => this.snapshotChanged(before, after));
    state.onChange('history', (key, before, after) => this.historyChanged(key, before, after));
    state.onChange('chunks', (chunk) => {
      if (this.references.has(chunk)) this.countHeld(chunk);
    });
  }

  /** All snapshots of a volume, oldest first. */
  chain(volume: VolumeId): readonly SnapshotRow[] {
    return this.chains.get(volume) ?? [];
  }
  /** Those people see, oldest first. */
  listed(volume: VolumeId): SnapshotRow[] {
    return this.chain(volume).filter((row) => !row.isDeleting && row.origin !== 'internal');
  }
  /** Bytes of distinct chunks that would be free without snapshots. */
  heldBytesOf(volume: VolumeId): number {
    return this.heldBytes.get(volume) ?? 0;
  }
  /** Bytes that were changed or deleted after this snapshot, and before the next one. */
  changedBytesOf(snapshot: number): number {
    return this.changedBytes.get(snapshot) ?? 0;
  }
  referencesOf(chunk: ChunkId): number {
    return this.references.get(chunk) ?? 0;
  }

  // ---- reading ----

  /** What snapshots from this one to the newest keep of a row: the oldest of them tells. undefined = none does, the live row holds. */
  kept(snapshot: SnapshotRow, table: TreeTable, owner: InodeId, rest: string | number = ''): HistoryRow | undefined {
    const history = this.state.table('history');
    for (const { number } of this.from(snapshot)) {
      const row = history.get(historyKey(number, table, owner, rest));
      if (row) return row;
    }
    return undefined;
  }
  /** The rows of one inode in one table that are kept, as `kept` tells them, by the rest of their keys. */
  keptOf(snapshot: SnapshotRow, table: Exclude<TreeTable, 'inodes'>, owner: InodeId): Map<string, HistoryRow> {
    const found = new Map<string, HistoryRow>();
    const history = this.state.table('history');
    for (const { number } of this.from(snapshot))
      for (const [rest, row] of history.of(`${number}${treeTables[table]}${owner}`)) if (!found.has(rest)) found.set(rest, row);
    return found;
  }
  /** An inode as it was; undefined when it was not there, or had no name. */
  inodeAt(snapshot: SnapshotRow, inode: InodeId): InodeRow | undefined {
    if (inode > snapshot.lastInode) return undefined;
    const kept = this.kept(snapshot, 'inodes', inode);
    const row = kept ? (kept.was as InodeRow | undefined) : this.state.get('inodes', inode);
    return row && row.volume === snapshot.volume && row.nlink > 0 ? row : undefined;
  }
  private from(snapshot: SnapshotRow): readonly SnapshotRow[] {
    const chain = this.chain(snapshot.volume);
    return chain.slice(chain.findIndex((row) => row.number === snapshot.number));
  }

  // ---- keeping ----

  /** State.keepBefore. */
  private readonly keep = (tx: Transaction, table: TreeTable, key: AnyKey, before: unknown, after: unknown): void => {
    const [owner, rest] = partsOf(table, key);
    const now = this.state.get('inodes', owner) ?? (table === 'inodes' ? (before as InodeRow | undefined) : undefined);
    const chain = now && this.chains.get(now.volume);
    if (!chain) return;
    let at = chain.length - 1;
    while (at >= 0 && chain[at]?.isDeleting) at--;
    const last = chain[at];
    if (!last || owner > last.lastInode) return;
    const seen = (row: unknown): unknown => (table === 'entries' && (row as number) > last.lastInode ? undefined : row);
    const was = seen(before);
    if (was === undefined && seen(after) === undefined) return;
    const history = this.state.table('history');
    for (let i = at; i < chain.length; i++)
      if (history.get(historyKey((chain[i] as SnapshotRow).number, table, owner, rest)) !== undefined) return;
    const then = table === 'inodes' ? (before as InodeRow | undefined) : this.inodeAt(last, owner);
    if (!then || then.nlink === 0) return;
    tx.put('history', historyKey(last.number, table, owner, rest), was === undefined ? {} : { was });
    if (table === 'extents' && was !== undefined) this.keeper.addReferences(tx, (was as Extent).chunk, 1);
  };

  /** One bounded step of giving a snapshot up (its row says isDeleting). True when nothing is left of it, its row included. */
  dropStep(tx: Transaction, snapshot: SnapshotRow, limit: number): boolean {
    const chain = this.chain(snapshot.volume);
    const at = chain.findIndex((row) => row.number === snapshot.number);
    let heirAt = at - 1;
    while (heirAt >= 0 && chain[heirAt]?.isDeleting) heirAt--;
    const heir = chain[heirAt];
    const history = this.state.table('history');
    const keys = history.keysOf(snapshot.number, limit);
    for (const key of keys) {
      const row = history.get(key) as HistoryRow;
      const { table, owner, rest } = partsOfHistoryKey(key);
      const isNeeded =
        heir !== undefined &&
        owner <= heir.lastInode &&
        chain.slice(heirAt, at).every(({ number }) => history.get(historyKey(number, table, owner, rest)) === undefined) &&
        (table !== 'extents' || this.inodeAt(heir, owner) !== undefined);
      tx.remove('history', key);
      if (isNeeded) tx.put('history', historyKey(heir.number, table, owner, rest), row);
      else if (table === 'extents' && row.was !== undefined) this.keeper.dropReferences(tx, (row.was as Extent).chunk, 1);
    }
    if (keys.length === limit) return false;
    tx.remove('snapshots', snapshot.number);
    return true;
  }

  // ---- indexes ----

  private snapshotChanged(before: SnapshotRow | undefined, after: SnapshotRow | undefined): void {
    const row = (after ?? before) as SnapshotRow;
    const chain = this.chain(row.volume).filter((one) => one.number !== row.number);
    if (after) chain.push(after);
    chain.sort((a, b) => a.order - b.order);
    if (chain.length > 0) this.chains.set(row.volume, chain);
    else this.chains.delete(row.volume);
    this.state.keepBefore = this.chains.size > 0 ? this.keep : undefined;
    this.onSnapshots?.();
  }

  private historyChanged(key: string, before: HistoryRow | undefined, after: HistoryRow | undefined): void {
    const { table } = partsOfHistoryKey(key);
    if (table !== 'extents') return;
    const snapshot = Number.parseInt(key, 10);
    for (const [row, sign] of [
      [before, -1],
      [after, 1],
    ] as const) {
      if (row?.was === undefined) continue;
      const { chunk, length } = row.was as Extent;
      const bytes = this.changedBytesOf(snapshot) + sign * length;
      if (bytes > 0) this.changedBytes.set(snapshot, bytes);
      else this.changedBytes.delete(snapshot);
      const count = this.referencesOf(chunk) + sign;
      if (count > 0) this.references.set(chunk, count);
      else this.references.delete(chunk);
      this.countHeld(chunk);
    }
  }
  private countHeld(chunk: ChunkId): void {
    const row = this.state.get('chunks', chunk);
    const counted = this.heldChunks.get(chunk);
    const isHeld = row !== undefined && row.refs > 0 && row.refs === this.references.get(chunk);
    if (counted && isHeld) return;
    if (counted) {
      this.heldChunks.delete(chunk);
      this.heldBytes.set(counted.volume, this.heldBytesOf(counted.volume) - counted.sizeBytes);
    } else if (isHeld) {
      this.heldChunks.set(chunk, row);
      this.heldBytes.set(row.volume, this.heldBytesOf(row.volume) + row.sizeBytes);
    }
  }
}
