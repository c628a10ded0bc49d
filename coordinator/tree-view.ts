/**
 * The rows of a tree by inode number, wherever the number leads: the live tables, a snapshot, or a hidden directory (protocol/hidden.ts). Whoever
 * reads a tree reads it through here; only the live part can be changed.
 */
import type { Extent, InodeId, VolumeId } from '../protocol/entities.js';
import {
  inSnapshot,
  isLiveInode,
  isTrashDirectory,
  originalInode,
  SNAPSHOTS_NAME,
  snapshotOfInode,
  snapshotsDirectory,
  TRASH_NAME,
  trashDirectory,
  volumeOfHidden,
} from '../protocol/hidden.js';
import { MAX_NAME_BYTES } from '../protocol/limits.js';
import type { History } from './history.js';
import type { EntryRow, InodeRow, SnapshotRow, TrashRow } from './rows.js';
import { numberSetting, type State } from './state.js';
import { compareNames } from './tables.js';

/** Grows by every change of a hidden directory. */
export const HIDDEN_CHANGES = 'hiddenChanges';
/** Merged lists of rows that never change again; asked for page by page. */
const MAX_REMEMBERED = 16;

interface Names {
  readonly children: ReadonlyMap<string, InodeId>;
  readonly sorted: readonly string[];
}

/** How a deleted file is called in `.trash`: its number makes it unique. */
export function trashName(inode: InodeId, { name }: Pick<TrashRow, 'name'>): string {
  const suffix = `.~${inode}`;
  let start = name;
  while (Buffer.byteLength(start) + suffix.length > MAX_NAME_BYTES) start = [...start].slice(0, -1).join('');
  return start + suffix;
}

export class TreeView {
  private readonly names = new Map<InodeId, Names>();
  private readonly extentLists = new Map<InodeId, readonly Extent[]>();
  private trashNames: { readonly change: number; readonly volume: VolumeId; readonly names: Names } | undefined;

  constructor(
    private readonly state: State,
    readonly history: History,
  ) {
    // Numbers of snapshots are used again some day.
    history.onSnapshots = () => {
      this.names.clear();
      this.extentLists.clear();
    };
  }

  inode(inode: InodeId): InodeRow | undefined {
    if (isLiveInode(inode)) return this.state.get('inodes', inode);
    const number = snapshotOfInode(inode);
    if (number === undefined) return this.hiddenDirectory(inode);
    const snapshot = this.snapshot(number);
    const row = snapshot && this.history.inodeAt(snapshot, originalInode(inode));
    if (!snapshot || !row) return undefined;
    const isRoot = row.parent === row.inode;
    return {
      ...row,
      inode,
      parent: isRoot ? snapshotsDirectory(row.volume) : inSnapshot(number, row.parent),
      ...(isRoot ? { name: snapshot.name } : {}),
    };
  }

  /** Inode of an entry, hidden names of a root included. */
  lookup(directory: InodeId, name: string): InodeId | undefined {
    if (isLiveInode(directory)) {
      const found = this.state.table('entries').lookup(directory, name);
      if (found !== undefined || !name.startsWith('.')) return found;
      return this.hidden(directory, name);
    }
    const number = snapshotOfInode(directory);
    if (number !== undefined) {
      const snapshot = this.snapshot(number);
      if (!snapshot) return undefined;
      const owner = originalInode(directory);
      const kept = this.history.kept(snapshot, 'entries', owner, name);
      const found = kept ? (kept.was as EntryRow | undefined) : this.state.table('entries').lookup(owner, name);
      return found === undefined || found > snapshot.lastInode ? undefined : inSnapshot(number, found);
    }
    const volume = volumeOfHidden(directory);
    if (isTrashDirectory(directory)) {
      const inode = Number(/\.~(\d+)$/.exec(name)?.[1] ?? Number.NaN);
      const row = Number.isNaN(inode) ? undefined : this.state.get('trash', inode);
      return row && row.volume === volume && trashName(inode, row) === name ? inode : undefined;
    }
    const snapshot = this.history.listed(volume).find((one) => one.name === name);
    return snapshot && inSnapshot(snapshot.number, this.rootOf(volume));
  }

  /** The hidden directory a name leads to in the root of a volume; no other directory has any. */
  hidden(directory: InodeId, name: string): InodeId | undefined {
    if (name !== SNAPSHOTS_NAME && name !== TRASH_NAME) return undefined;
    const row = this.state.get('inodes', directory);
    if (!row || row.parent !== row.inode || this.rootOf(row.volume) !== directory) return undefined;
    return name === TRASH_NAME ? trashDirectory(row.volume) : snapshotsDirectory(row.volume);
  }

  /** Names of a directory in byte order, without the hidden ones. */
  sorted(directory: InodeId): readonly string[] {
    return isLiveInode(directory) ? this.state.table('entries').sorted(directory) : this.listing(directory).sorted;
  }
  /** Entries of a directory, in no order. Must not be changed, and not kept over a transaction. */
  children(directory: InodeId): ReadonlyMap<string, InodeId> {
    return isLiveInode(directory) ? this.state.table('entries').of(directory) : this.listing(directory).children;
  }

  /** Extents of a file in order of offset. Must not be changed, and not kept over a transaction. */
  extents(inode: InodeId): readonly Extent[] {
    const live = this.state.table('extents');
    if (isLiveInode(inode)) return live.of(inode);
    const known = this.extentLists.get(inode);
    if (known) return known;
    const number = snapshotOfInode(inode);
    const snapshot = number === undefined ? undefined : this.snapshot(number);
    if (!snapshot) return [];
    const owner = originalInode(inode);
    const kept = this.history.keptOf(snapshot, 'extents', owner);
    if (kept.size === 0) return live.of(owner);
    const merged = live.of(owner).filter((extent) => !kept.has(String(extent.offset)));
    for (const { was } of kept.values()) if (was !== undefined) merged.push(was as Extent);
    merged.sort((a, b) => a.offset - b.offset);
    remember(this.extentLists, inode, merged);
    return merged;
  }

  /** Extended attributes by name. */
  xattrs(inode: InodeId): ReadonlyMap<string, string> {
    const live = this.state.table('xattrs');
    if (isLiveInode(inode)) return live.of(inode);
    const number = snapshotOfInode(inode);
    const snapshot = number === undefined ? undefined : this.snapshot(number);
    if (!snapshot) return new Map();
    const owner = originalInode(inode);
    const kept = this.history.keptOf(snapshot, 'xattrs', owner);
    if (kept.size === 0) return live.of(owner);
    const merged = new Map(live.of(owner));
    for (const [name, { was }] of kept) {
      if (was === undefined) merged.delete(name);
      else merged.set(name, was as string);
    }
    return merged;
  }

  private snapshot(number: number): SnapshotRow | undefined {
    const row = this.state.get('snapshots', number);
    return row && !row.isDeleting ? row : undefined;
  }
  private rootOf(volume: VolumeId): InodeId {
    return this.state.get('volumes', volume)?.root ?? 0;
  }

  private hiddenDirectory(inode: InodeId): InodeRow | undefined {
    const volume = volumeOfHidden(inode);
    const root = this.state.get('inodes', this.rootOf(volume));
    if (!root) return undefined;
    const isTrash = isTrashDirectory(inode);
    // Snapshots keep the permissions everything had. The trash shows all deleted files side by side, so it is for the owner of the tree alone.
    return {
      ...root,
      inode,
      mode: isTrash ? 0o700 : 0o555,
      nlink: 2 + (isTrash ? 0 : this.history.listed(volume).length),
      change: 1 + numberSetting(this.state, HIDDEN_CHANGES),
      dataVersion: 1,
      parent: root.inode,
      name: isTrash ? TRASH_NAME : SNAPSHOTS_NAME,
    };
  }

  private listing(directory: InodeId): Names {
    const known = this.names.get(directory);
    if (known) return known;
    const number = snapshotOfInode(directory);
    if (number === undefined) return this.hiddenListing(directory);
    const snapshot = this.snapshot(number);
    const children = new Map<string, InodeId>();
    if (snapshot) {
      const owner = originalInode(directory);
      const kept = this.history.keptOf(snapshot, 'entries', owner);
      const add = (name: string, inode: InodeId | undefined): void => {
        if (inode !== undefined && inode <= snapshot.lastInode) children.set(name, inSnapshot(number, inode));
      };
      for (const [name, inode] of this.state.table('entries').of(owner)) if (!kept.has(name)) add(name, inode);
      for (const [name, { was }] of kept) add(name, was as EntryRow | undefined);
    }
    const names = { children, sorted: [...children.keys()].sort(compareNames) };
    remember(this.names, directory, names);
    return names;
  }

  private hiddenListing(directory: InodeId): Names {
    const volume = volumeOfHidden(directory);
    const change = numberSetting(this.state, HIDDEN_CHANGES);
    const children = new Map<string, InodeId>();
    if (!isTrashDirectory(directory)) {
      for (const { name, number } of this.history.listed(volume)) children.set(name, inSnapshot(number, this.rootOf(volume)));
      return { children, sorted: [...children.keys()].sort(compareNames) };
    }
    if (this.trashNames?.change === change && this.trashNames.volume === volume) return this.trashNames.names;
    for (const [inode, row] of this.state.table('trash').all()) if (row.volume === volume) children.set(trashName(inode, row), inode);
    const names = { children, sorted: [...children.keys()].sort(compareNames) };
    this.trashNames = { change, volume, names };
    return names;
  }
}

function remember<T>(lists: Map<InodeId, T>, inode: InodeId, list: T): void {
  if (lists.size >= MAX_REMEMBERED) {
    const [oldest] = lists.keys();
    if (oldest !== undefined) lists.delete(oldest);
  }
  lists.set(inode, list);
}
