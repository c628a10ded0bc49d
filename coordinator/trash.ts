/**
 * Deleted files that can be restored. A file that loses its last name becomes an orphan like any other: programs that have it open notice nothing,
 * its directory can be removed. But while it has a row in `trash` it is not taken apart when the last holder lets go. Its bytes count as space used
 * (for quotas too) until its time is over, the trash is emptied, or room runs out: then the oldest goes first.
 */
import type { InodeId, VolumeId } from '../protocol/entities.js';
import { HoldfastError } from '../protocol/errors.js';
import { trashDirectory } from '../protocol/hidden.js';
import type { ChangeContext, FileTree, Place } from './file-tree.js';
import { checkName, isAtOrBelow } from './names.js';
import { entryKey, type InodeRow, type TrashRow } from './rows.js';
import { nextNumber, type State } from './state.js';
import { HIDDEN_CHANGES, trashName } from './tree-view.js';

/** More files than this of one volume are not kept: rows live in memory. The oldest go. */
export const MAX_TRASHED_FILES = 200_000;

export interface TrashedFile extends TrashRow {
  readonly inode: InodeId;
  readonly path: string;
  readonly sizeBytes: number;
  /** Some program still has it open. */
  readonly isOpen: boolean;
}
interface Totals {
  files: number;
  bytes: number;
}

export const pathIn = (directory: string, name: string): string => (directory === '/' ? `/${name}` : `${directory}/${name}`);

export class Trash {
  private readonly counted = new Map<InodeId, { volume: VolumeId; bytes: number }>();
  private readonly totals = new Map<VolumeId, Totals>();
  /** Nothing in the trash of the volume is older; so that usually nobody has to look. */
  private readonly oldestMs = new Map<VolumeId, number>();
  private readonly state: State;

  constructor(
    private readonly tree: FileTree,
    private readonly wallMs: () => number,
  ) {
    const { state } = tree;
    this.state = state;
    for (const [inode, row] of state.table('trash').all()) this.count(inode, row);
    state.onChange('trash', (inode, _before, after) => this.count(inode, after));
    state.onChange('inodes', (inode) => {
      const known = this.counted.get(inode);
      if (known) this.count(inode, state.get('trash', inode));
    });
    tree.keepInTrash = (context, row, place) => this.keep(context, row, place);
  }

  totalsOf(volume: VolumeId): Readonly<Totals> {
    return this.totals.get(volume) ?? { files: 0, bytes: 0 };
  }

  /** Those that keep something. */
  volumes(): VolumeId[] {
    return [...this.totals].filter(([, { files }]) => files > 0).map(([volume]) => volume);
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
  due(volume: VolumeId, wanted: { readonly bytes: number; readonly files: number }, limit: number): InodeId[] {
    const { files } = this.totalsOf(volume);
    if (files === 0) return [];
    const keepMs = this.state.get('volumes', volume)?.trashKeepMs ?? 0;
    const nowMs = this.wallMs();
    const found: InodeId[] = [];
    let surplus = Math.max(files - MAX_TRASHED_FILES, wanted.files);
    let left = wanted.bytes;
    // Looking at all of it takes a moment, so it is done for several at once.
    const slackMs = Math.min(60_000, keepMs / 100);
    if (surplus <= 0 && left <= 0 && keepMs > 0 && nowMs - (this.oldestMs.get(volume) ?? 0) < keepMs + slackMs) return [];
    for (const { inode, atMs } of this.all(volume)) {
      const isOver = keepMs === 0 || nowMs - atMs >= keepMs;
      this.oldestMs.set(volume, atMs);
      if ((!isOver && surplus <= 0 && left <= 0) || found.length === limit) break;
      found.push(inode);
      surplus--;
      left -= this.counted.get(inode)?.bytes ?? 0;
    }
    return found;
  }

  private count(inode: InodeId, row: TrashRow | undefined): void {
    const before = this.counted.get(inode);
    if (before) {
      const totals = this.totals.get(before.volume) as Totals;
      totals.files--;
      totals.bytes -= before.bytes;
      this.counted.delete(inode);
    }
    if (!row) return;
    const counted = { volume: row.volume, bytes: this.state.get('inodes', inode)?.allocatedBytes ?? 0 };
    const totals = this.totals.get(row.volume) ?? { files: 0, bytes: 0 };
    totals.files++;
    totals.bytes += counted.bytes;
    this.oldestMs.set(row.volume, totals.files === 1 ? row.atMs : Math.min(row.atMs, this.oldestMs.get(row.volume) ?? row.atMs));
    this.totals.set(row.volume, totals);
    this.counted.set(inode, counted);
  }
}
