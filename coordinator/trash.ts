/**
 * Deleted files that can be restored. A file that loses its last name becomes an orphan like any other: programs that have it open notice nothing,
 * its directory can be removed. But while it has a row in `trash` it is not taken apart when the last holder lets go. Its bytes count as space used
 * until its time is over, the trash is emptied, or room runs out, on the nodes or below a quota: then the oldest goes first. It never keeps anybody
 * from writing: quotas look away from what would leave the trash for it (quotas.ts).
 *
 * Programs make and delete files of their own all day: journals, locks, swap files, what compilers pass on, the state they save by rename every
 * few seconds. They cannot be told from others by name, but they do not live long; so what did not is kept for minutes only.
 */
import type { InodeId, VolumeId } from '../protocol/entities.js';
import { HoldfastError } from '../protocol/errors.js';
import { trashDirectory } from '../protocol/hidden.js';
import type { ChangeContext, FileTree, Place } from './file-tree.js';
import { InodeAges } from './inode-ages.js';
import { checkName, isAtOrBelow } from './names.js';
import { NOTHING, type Totals } from './quotas.js';
import { entryKey, type InodeRow, type TrashRow } from './rows.js';
import { nextNumber, type State } from './state.js';
import { TrashOrder } from './trash-order.js';
import { HIDDEN_CHANGES, trashName } from './tree-view.js';

/** More files than this of one volume are not kept: rows live in memory. The oldest go. */
export const MAX_TRASHED_FILES = 200_000;
/** A file that was there for less than this, and how long it is kept at most. */
export const MAX_SHORT_LIFE_MS = 60_000;
export const SHORT_LIVED_KEEP_MS = 600_000;

export interface TrashedFile extends TrashRow {
  readonly inode: InodeId;
  readonly path: string;
  readonly sizeBytes: number;
  /** Some program still has it open. */
  readonly isOpen: boolean;
}
interface Counted {
  readonly volume: VolumeId;
  readonly creator: number | undefined;
  readonly bytes: number;
  /** Nobody has it open: it is gone as soon as it leaves the trash. */
  readonly isFree: boolean;
}

export const pathIn = (directory: string, name: string): string => (directory === '/' ? `/${name}` : `${directory}/${name}`);

export class Trash {
  private readonly counted = new Map<InodeId, Counted>();
  private readonly totals = new Map<VolumeId, Totals>();
  /** What would be free at once: by volume, and by the number of the user who made it. */
  private readonly free = new Map<VolumeId, Totals>();
  private readonly freeOfUser = new Map<number, Totals>();
  private readonly orders = new Map<VolumeId, TrashOrder>();
  private readonly ages: InodeAges;
  private readonly state: State;

  constructor(
    private readonly tree: FileTree,
    private readonly wallMs: () => number,
    monotonicMs: () => number,
  ) {
    const { state } = tree;
    this.state = state;
    this.ages = new InodeAges(state, monotonicMs, MAX_SHORT_LIFE_MS);
    const rows = [...state.table('trash').all()].sort(([, a], [, b]) => a.atMs - b.atMs);
    for (const [inode, row] of rows) this.count(inode, row);
    state.onChange('trash', (inode, _before, after) => this.count(inode, after));
    const recount = (inode: InodeId): void => {
      if (this.counted.has(inode)) this.count(inode, state.get('trash', inode));
    };
    state.onChange('inodes', recount);
    state.onChange('orphans', recount);
    tree.keepInTrash = (context, row, place) => this.keep(context, row, place);
    tree.quotas.trash = { ofVolume: (volume) => this.free.get(volume) ?? NOTHING, ofUser: (user) => this.freeOfUser.get(user) ?? NOTHING };
  }

  /** Call every second or so: how old inodes are is known by what had been made then. */
  look(): void {
    this.ages.look();
  }

  totalsOf(volume: VolumeId): Totals {
    return this.totals.get(volume) ?? NOTHING;
  }

  /** How long ago something was deleted. When the clock was set back since, that is not less than nothing: what is to go at any age goes. */
  ageMs(atMs: number): number {
    return Math.max(0, this.wallMs() - atMs);
  }

  /** Those that keep something. */
  volumes(): VolumeId[] {
    return [...this.totals.keys()];
  }

  /** Oldest first. */
  all(volume: VolumeId): TrashedFile[] {
    const found: TrashedFile[] = [];
    for (const [inode, row] of this.state.table('trash').all()) if (row.volume === volume) found.push(this.file(inode, row));
    return found.sort((a, b) => a.atMs - b.atMs || a.inode - b.inode);
  }
  private file(inode: InodeId, row: TrashRow): TrashedFile {
    return {
      ...row,
      inode,
      path: pathIn(row.directoryPath, row.name),
      sizeBytes: this.state.get('inodes', inode)?.sizeBytes ?? 0,
      isOpen: (this.state.get('orphans', inode)?.holders.length ?? 0) > 0,
    };
  }

  /** FileTree.keepInTrash. */
  private keep(context: ChangeContext, row: InodeRow, { directory, name }: Place): boolean {
    if (row.kind !== 'file' && row.kind !== 'symlink') return false;
    const keepMs = this.state.get('volumes', row.volume)?.trashKeepMs ?? 0;
    // Who has deleted a file of no bytes can make it again, and programs that use such files as marks delete them all day.
    if (keepMs === 0 || row.sizeBytes === 0) return false;
    const directoryPath = this.tree.pathOf(directory.inode);
    if (directoryPath === undefined) return false;
    const kept: TrashRow = {
      volume: row.volume,
      atMs: this.wallMs(),
      user: context.caller.user,
      directoryPath,
      name,
      directory: directory.inode,
      directoryMode: directory.mode,
      directoryUid: directory.uid,
      directoryGid: directory.gid,
      ...(this.ages.isYoung(row.inode) ? { isShortLived: true } : {}),
    };
    context.tx.put('trash', row.inode, kept);
    this.touch(context, row.inode, kept);
    return true;
  }
  private touch({ tx, effects }: ChangeContext, inode: InodeId, row: TrashRow): void {
    nextNumber(tx, HIDDEN_CHANGES);
    effects.touch(trashDirectory(row.volume), trashName(inode, row));
  }

  /** For good. Who has it open keeps it until the last close, as with any deleted file. */
  purge(context: ChangeContext, inode: InodeId): void {
    const { tx, effects } = context;
    const row = tx.get('trash', inode);
    if (!row) return;
    tx.remove('trash', inode);
    this.touch(context, inode, row);
    const known = tx.get('orphans', inode)?.holders ?? [];
    // It may have been opened by its name in the trash.
    const others = context.mayHold(inode).filter((client) => !known.includes(client));
    if (others.length > 0) effects.unlinked(inode);
    const holders = [...known, ...others];
    tx.put('orphans', inode, { holders });
    if (holders.length === 0) effects.toReap.push(inode);
  }

  /**
   * Gives a file its name back.
   * @param target where else
   * @throws {HoldfastError} ENOENT it is not in the trash; EEXIST there is something of that name; ENOTDIR
   */
  restore(context: ChangeContext, inode: InodeId, target?: { readonly parent: InodeId; readonly name: string }): string {
    const { tx, caller, effects } = context;
    const row = tx.get('trash', inode);
    const file = tx.get('inodes', inode);
    if (!row || !file || row.volume !== caller.volume) throw new HoldfastError('ENOENT', 'this file is not in the trash (any more)');
    const { parent, name } = target ?? { parent: this.originalDirectory(context, row), name: row.name };
    checkName(name);
    const directory = this.tree.directory(caller, parent);
    if (this.tree.view.lookup(parent, name) !== undefined)
      throw new HoldfastError('EEXIST', `there is another "${name}" by now: choose another place for the restored one`);
    tx.put('entries', entryKey(parent, name), inode);
    tx.remove('trash', inode);
    tx.remove('orphans', inode);
    effects.touch(inode);
    effects.touch(parent, name);
    this.touch(context, inode, row);
    this.tree.update(context, file, { nlink: 1, parent, name });
    this.tree.update(context, directory, { mtimeS: context.now.s, mtimeNs: context.now.ns });
    return pathIn(this.tree.pathOf(parent) ?? '/', name);
  }

  /** Where it was: the same directory wherever that is now, else one of the same path, made again if need be. */
  private originalDirectory(context: ChangeContext, row: TrashRow): InodeId {
    const { caller } = context;
    const same = this.state.get('inodes', row.directory);
    if (same?.kind === 'directory' && same.volume === row.volume && this.tree.pathOf(same.inode) !== undefined) return same.inode;
    const names = row.directoryPath.split('/').filter(Boolean);
    let at = this.tree.resolve(row.volume, '/');
    for (const [depth, name] of names.entries()) {
      const found = this.state.table('entries').lookup(at, name);
      if (found !== undefined) {
        at = this.tree.directory(caller, found).inode;
        continue;
      }
      // Of directories further up only the path is known: nobody may look in who could not before.
      const mode = depth === names.length - 1 ? row.directoryMode : 0o700;
      const as = { uid: row.directoryUid, gid: row.directoryGid };
      at = this.tree.create(context, { parent: at, name, kind: 'directory', mode, as, exclusive: true }).attributes.inode;
    }
    return at;
  }

  /** Deleted files to restore for a path: the file deleted last under it, or for each path below it the one deleted last. */
  below(volume: VolumeId, path: string): TrashedFile[] {
    const latest = new Map<string, TrashedFile>();
    const isMeant = isAtOrBelow(path);
    for (const [inode, row] of this.state.table('trash').all()) {
      if (row.volume !== volume) continue;
      const whole = pathIn(row.directoryPath, row.name);
      if (!isMeant(whole)) continue;
      const before = latest.get(whole);
      if (!before || before.atMs <= row.atMs) latest.set(whole, this.file(inode, row));
    }
    return [...latest.values()].sort((a, b) => (a.path < b.path ? -1 : 1));
  }

  /**
   * What has to go now, oldest first: what is older than it may be, what is too much, and what makes as much room as is wanted.
   * @returns at most `limit` files
   */
  due(volume: VolumeId, wanted: Totals, limit: number): InodeId[] {
    const order = this.orders.get(volume);
    const { files } = this.totalsOf(volume);
    if (files === 0 || !order) return [];
    const keepMs = this.state.get('volumes', volume)?.trashKeepMs ?? 0;
    const found: InodeId[] = [];
    let surplus = Math.max(files - MAX_TRASHED_FILES, wanted.files);
    let left = wanted.bytes;
    const oldest = order.oldest((inode, atMs) => this.state.get('trash', inode)?.atMs === atMs);
    const isOver = (atMs: number, isShortLived: boolean): boolean =>
      this.ageMs(atMs) >= (isShortLived ? Math.min(keepMs, SHORT_LIVED_KEEP_MS) : keepMs);
    while (found.length < limit) {
      const next = oldest.next(isOver, surplus > 0 || left > 0);
      if (next === undefined) break;
      found.push(next);
      surplus--;
      left -= this.counted.get(next)?.bytes ?? 0;
    }
    return found;
  }

  /** What has to go, oldest first, so that a user's files take so much less, in whatever volume they are. */
  dueOfUser(user: number, wanted: Totals, limit: number): { volume: VolumeId; inode: InodeId }[] {
    if ((this.freeOfUser.get(user)?.files ?? 0) === 0) return [];
    const all: { inode: InodeId; volume: VolumeId; atMs: number; bytes: number }[] = [];
    for (const [inode, { creator, bytes, isFree, volume }] of this.counted)
      if (creator === user && isFree) all.push({ inode, volume, bytes, atMs: this.state.get('trash', inode)?.atMs ?? 0 });
    all.sort((a, b) => a.atMs - b.atMs || a.inode - b.inode);
    let { files, bytes } = wanted;
    const found: { volume: VolumeId; inode: InodeId }[] = [];
    for (const one of all) {
      if ((files <= 0 && bytes <= 0) || found.length === limit) break;
      found.push({ volume: one.volume, inode: one.inode });
      files--;
      bytes -= one.bytes;
    }
    return found;
  }

  private count(inode: InodeId, row: TrashRow | undefined): void {
    const before = this.counted.get(inode);
    if (before) {
      this.add(before, -1);
      this.counted.delete(inode);
    }
    if (!row) return;
    const file = this.state.get('inodes', inode);
    const isFree = (this.state.get('orphans', inode)?.holders.length ?? 0) === 0;
    const counted: Counted = { volume: row.volume, creator: file?.creator, bytes: file?.allocatedBytes ?? 0, isFree };
    this.add(counted, 1);
    this.counted.set(inode, counted);
    if (before) return;
    const order = this.orders.get(row.volume) ?? new TrashOrder();
    this.orders.set(row.volume, order);
    order.add(inode, row.atMs, row.isShortLived === true);
  }
  private add({ volume, creator, bytes, isFree }: Counted, sign: 1 | -1): void {
    const put = <K>(totals: Map<K, Totals>, key: K): void => {
      const { files, bytes: sum } = totals.get(key) ?? NOTHING;
      const after = { files: files + sign, bytes: sum + sign * bytes };
      if (after.files === 0) totals.delete(key);
      else totals.set(key, after);
    };
    put(this.totals, volume);
    if (!isFree) return;
    put(this.free, volume);
    if (creator !== undefined) put(this.freeOfUser, creator);
  }
}
