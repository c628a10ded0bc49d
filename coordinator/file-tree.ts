/**
 * The file tree: names and inodes, with POSIX rules and the errnos ext4 gives. Every method works inside one transaction and is synchronous.
 * Data of files is in file-data.ts, extended attributes in xattrs.ts.
 *
 * The mount's kernel has checked permissions of paths (default_permissions); what is checked here again is what depends on the state at the
 * moment of the change: existence, kinds, emptiness, loops, sticky directories.
 */
import type { ReplyOf, RequestOf } from '../protocol/call.js';
import type { ClientCalls } from '../protocol/client-calls.js';
import type { ClientId, Entry, InodeAttributes, InodeId, InodeKind, VolumeId } from '../protocol/entities.js';
import type { Timestamp } from '../protocol/environment.js';
import { type ErrorCode, HoldfastError } from '../protocol/errors.js';
import { isLiveInode, MAX_LIVE_INODES } from '../protocol/hidden.js';
import { MAX_ENTRIES_PER_PAGE, MAX_LINKS, MAX_SYMLINK_BYTES } from '../protocol/limits.js';
import type { Effects } from './effects.js';
import { History } from './history.js';
import { checkName, isCleanText, isDotName } from './names.js';
import type { ChunkKeeper, ClientCaller } from './ports.js';
import { Quotas } from './quotas.js';
import { attributesOf, entryKey, extentKey, type InodeRow, xattrKey } from './rows.js';
import { nextNumber, numberSetting, type State, type Transaction } from './state.js';
import { positionOf } from './tables.js';
import { TreeView } from './tree-view.js';

export const INODE_COUNTER = 'nextInode';
/** An inode with up to this many extents is taken apart in the transaction that removes it; larger ones in steps of this size. */
export const EXTENTS_PER_STEP = 2000;

const S_ISGID = 0o2000;
const S_ISVTX = 0o1000;

type Request<M extends keyof ClientCalls> = RequestOf<ClientCalls, M>;
type Reply<M extends keyof ClientCalls> = ReplyOf<ClientCalls, M>;

/** One change being applied. */
export interface ChangeContext {
  readonly tx: Transaction;
  readonly caller: ClientCaller;
  readonly now: Timestamp;
  readonly effects: Effects;
  /** Other sessions that may hold the inode open (asked by a recall afterwards). */
  readonly mayHold: (inode: InodeId) => readonly ClientId[];
  /** What loses its last name is gone at once, whatever the volume's trash says. */
  readonly isWithoutTrash?: boolean;
}

/** Where a name was that goes. */
export interface Place {
  readonly directory: InodeRow;
  readonly name: string;
}

const fail = (code: ErrorCode, message: string): never => {
  throw new HoldfastError(code, message);
};

export class FileTree {
  /** For reading: the live tree, snapshots and hidden directories alike. */
  readonly view: TreeView;
  /** Set by the coordinator: a file that loses its last name may be kept for a while. True = it is. */
  keepInTrash: ((context: ChangeContext, row: InodeRow, place: Place) => boolean) | undefined;

  readonly quotas: Quotas;

  constructor(
    readonly state: State,
    private readonly keeper: Pick<ChunkKeeper, 'addReferences' | 'dropReferences'>,
  ) {
    this.view = new TreeView(state, new History(state, keeper));
    this.quotas = new Quotas(state);
  }

  // ---- reading ----

  /**
   * The one door to an inode that a caller names: those of other volumes cannot be told from those that are gone.
   * @throws {HoldfastError} ESTALE for an inode that is gone or of another volume, ENOENT for one that never was
   */
  row(caller: { readonly volume: VolumeId }, inode: InodeId): InodeRow {
    const row = this.view.inode(inode);
    if (row && row.volume === caller.volume) return row;
    if (!isLiveInode(inode)) return fail('ESTALE', 'the snapshot is gone');
    if (inode <= numberSetting(this.state, INODE_COUNTER)) return fail('ESTALE', `inode ${inode} is gone`);
    return fail('ENOENT', `there is no inode ${inode}`);
  }
  directory(caller: { readonly volume: VolumeId }, inode: InodeId): InodeRow {
    const row = this.row(caller, inode);
    if (row.kind !== 'directory') fail('ENOTDIR', `inode ${inode} is not a directory`);
    return row;
  }
  /** @param asker who is told; nobody in particular when absent */
  attributes(row: InodeRow, asker?: ClientCaller): InodeAttributes {
    // In the trash it has one name, but not for a program that has it open and deleted it.
    const isInTrash = row.nlink === 0 && this.isTrashed(row.inode) && !this.isHeld(row.inode, asker?.client);
    return attributesOf(isInTrash ? { ...row, nlink: 1 } : row, this.view.xattrs(row.inode).size > 0);
  }

  lookup(caller: ClientCaller, { parent, name }: Request<'lookup'>): Reply<'lookup'> {
    const directory = this.directory(caller, parent);
    const attributes = (row: InodeRow | undefined) => ({
      parent: this.attributes(directory),
      attributes: row ? this.attributes(row, caller) : null,
    });
    if (name === '.') return attributes(directory);
    if (name === '..') return attributes(this.row(caller, directory.parent));
    checkName(name);
    const inode = this.view.lookup(parent, name);
    return attributes(inode === undefined ? undefined : this.view.inode(inode));
  }

  readDirectory(caller: ClientCaller, { inode, after, limit }: Request<'readDirectory'>): Reply<'readDirectory'> {
    const directory = this.directory(caller, inode);
    const names = this.view.sorted(inode);
    let at = after === '' ? 0 : positionOf(names, after);
    if (names[at] === after) at++;
    const end = Math.min(names.length, at + Math.min(limit, MAX_ENTRIES_PER_PAGE));
    const children = this.view.children(inode);
    const entries: Entry[] = [];
    const attributes: InodeAttributes[] = [];
    for (; at < end; at++) {
      const name = names[at] as string;
      const row = this.view.inode(children.get(name) as InodeId);
      if (!row) continue;
      entries.push({ name, inode: row.inode, kind: row.kind });
      attributes.push(this.attributes(row, caller));
    }
    return { directory: this.attributes(directory), entries, attributes, isLast: end === names.length };
  }

  /** Inode at an absolute path, symlinks not followed. @throws {HoldfastError} ENOENT, ENOTDIR */
  resolve(volume: VolumeId, path: string): InodeId {
    const settings = this.state.get('volumes', volume) ?? fail('ENOENT', `there is no volume ${volume}`);
    let inode = settings.root;
    for (const name of path.split('/')) {
      if (name === '' || name === '.') continue;
      const directory = this.directory({ volume }, inode);
      const next = name === '..' ? directory.parent : this.view.lookup(inode, name);
      inode = next ?? fail('ENOENT', `${path}: no such file or directory`);
    }
    return inode;
  }

  /** Absolute path of an inode in its volume (one of them, for hard links); undefined when it has no name. */
  pathOf(inode: InodeId): string | undefined {
    const names: string[] = [];
    let row = this.view.inode(inode);
    while (row) {
      if (row.kind === 'directory' && row.parent === row.inode) return `/${names.reverse().join('/')}`;
      const found = this.nameIn(row);
      if (found === undefined) return undefined;
      names.push(found.name);
      row = this.view.inode(found.directory);
    }
    return undefined;
  }

  /** The hint in the row may be outdated for files with several names; then all directories are searched (rare, and only for people). */
  private nameIn(row: InodeRow): { directory: InodeId; name: string } | undefined {
    const entries = this.state.table('entries');
    if (row.nlink === 0) return undefined;
    if (this.view.lookup(row.parent, row.name) === row.inode) return { directory: row.parent, name: row.name };
    if (row.kind === 'directory' || !isLiveInode(row.inode)) return undefined;
    for (const [key, inode] of entries.all()) {
      if (inode !== row.inode) continue;
      const cut = key.indexOf('/');
      return { directory: Number(key.slice(0, cut)), name: key.slice(cut + 1) };
    }
    return undefined;
  }

  // ---- changing ----

  /** Puts a changed inode: ctime and change counter move with every change. */
  update(context: Pick<ChangeContext, 'tx' | 'now'>, row: InodeRow, changed: Partial<InodeRow>): InodeRow {
    const after = { ...row, ctimeS: context.now.s, ctimeNs: context.now.ns, change: row.change + 1, ...changed };
    context.tx.put('inodes', row.inode, after);
    return after;
  }
  /** A directory whose entries changed. */
  private updateDirectory(context: ChangeContext, row: InodeRow, changed: Partial<InodeRow>, ...names: string[]): InodeRow {
    context.effects.touch(row.inode, ...names);
    return this.update(context, row, { mtimeS: context.now.s, mtimeNs: context.now.ns, ...changed });
  }

  /** The root directory of a new volume. */
  createRoot(tx: Transaction, volume: VolumeId, now: Timestamp): InodeId {
    const inode = nextNumber(tx, INODE_COUNTER);
    tx.put('inodes', inode, { ...newInode(inode, volume, 'directory', 0o755, 0, 0, now), parent: inode, nlink: 2 });
    return inode;
  }

  nextInode(tx: Transaction): InodeId {
    const inode = nextNumber(tx, INODE_COUNTER);
    return inode < MAX_LIVE_INODES ? inode : fail('ENOSPC', 'this cluster has given out all its inode numbers');
  }

  create(context: ChangeContext, request: Request<'create'>): Reply<'create'> {
    const { tx, caller, now } = context;
    const { parent, name, kind, as } = request;
    const directory = this.directory(caller, parent);
    if (isDotName(name)) fail('EEXIST', `"${name}" is always there`);
    checkName(name);
    const existing = this.state.table('entries').lookup(parent, name);
    if (existing !== undefined) {
      const row = this.row(caller, existing);
      if (request.exclusive || kind !== 'file') fail('EEXIST', `"${name}" is there already`);
      if (row.kind === 'directory') fail('EISDIR', `"${name}" is a directory`);
      return { attributes: this.attributes(row), parent: this.attributes(directory), isNew: false };
    }
    this.quotas.checkFiles(caller.volume, caller.userId);
    const isInherited = (directory.mode & S_ISGID) !== 0;
    const gid = isInherited ? directory.gid : as.gid;
    const mode = kind === 'symlink' ? 0o777 : isInherited && kind === 'directory' ? request.mode | S_ISGID : request.mode;
    const inode = this.nextInode(tx);
    const row: InodeRow = {
      ...newInode(inode, caller.volume, kind, mode, as.uid, gid, now),
      parent,
      name,
      ...(caller.userId === undefined ? {} : { creator: caller.userId }),
      nlink: kind === 'directory' ? 2 : 1,
      rdev: kind === 'char' || kind === 'block' ? (request.rdev ?? 0) : 0,
      ...(kind === 'symlink' ? symlinkFields(request.target) : {}),
    };
    tx.put('inodes', inode, row);
    tx.put('entries', entryKey(parent, name), inode);
    const after = this.updateDirectory(context, directory, kind === 'directory' ? { nlink: directory.nlink + 1 } : {}, name);
    return { attributes: this.attributes(row), parent: this.attributes(after), isNew: true };
  }

  link(context: ChangeContext, { inode, parent, name }: Request<'link'>): Reply<'link'> {
    const { tx, caller } = context;
    const row = this.row(caller, inode);
    const directory = this.directory(caller, parent);
    if (row.kind === 'directory') fail('EPERM', 'a directory has one name only');
    if (isDotName(name)) fail('EEXIST', `"${name}" is always there`);
    checkName(name);
    if (this.state.table('entries').lookup(parent, name) !== undefined) fail('EEXIST', `"${name}" is there already`);
    if (row.nlink === 0) fail('ENOENT', 'the file has been deleted');
    if (row.nlink >= MAX_LINKS) fail('EMLINK', `a file has at most ${MAX_LINKS} names`);
    tx.put('entries', entryKey(parent, name), inode);
    context.effects.touch(inode);
    const linked = this.update(context, row, { nlink: row.nlink + 1, parent, name });
    const after = this.updateDirectory(context, directory, {}, name);
    return { attributes: this.attributes(linked), parent: this.attributes(after), isNew: true };
  }

  unlink(context: ChangeContext, { parent, name, keepOpen, expected, as }: Request<'unlink'>): Reply<'unlink'> {
    const { tx, caller } = context;
    const directory = this.directory(caller, parent);
    if (isDotName(name)) fail('EISDIR', `"${name}" is a directory`);
    checkName(name);
    const row = this.entry(caller, directory, name);
    if (expected !== undefined && expected !== row.inode) fail('ESTALE', `"${name}" is another file by now`);
    if (row.kind === 'directory') fail('EISDIR', `"${name}" is a directory`);
    checkSticky(directory, row, as);
    tx.remove('entries', entryKey(parent, name));
    const left = this.dropName(context, row, keepOpen, { directory, name });
    const after = this.updateDirectory(context, directory, {}, name);
    return { parent: this.attributes(after), attributes: this.attributes(left) };
  }

  removeDirectory(context: ChangeContext, { parent, name, as }: Request<'removeDirectory'>): Reply<'removeDirectory'> {
    const { tx, caller } = context;
    const directory = this.directory(caller, parent);
    if (name === '.') fail('EINVAL', '"." cannot be removed');
    if (name === '..') fail('ENOTEMPTY', '".." is not empty');
    checkName(name);
    const row = this.entry(caller, directory, name);
    if (row.kind !== 'directory') fail('ENOTDIR', `"${name}" is not a directory`);
    checkSticky(directory, row, as);
    if (this.state.table('entries').countOf(row.inode) > 0) fail('ENOTEMPTY', `"${name}" is not empty`);
    tx.remove('entries', entryKey(parent, name));
    this.dropDirectory(context, row);
    const after = this.updateDirectory(context, directory, { nlink: directory.nlink - 1 }, name);
    return { parent: this.attributes(after) };
  }

  rename(context: ChangeContext, request: Request<'rename'>): Reply<'rename'> {
    const { tx, caller } = context;
    const { fromParent, fromName, toParent, toName, how } = request;
    const from = this.directory(caller, fromParent);
    const to = this.directory(caller, toParent);
    if (isDotName(fromName) || isDotName(toName)) fail('EBUSY', '"." and ".." cannot be renamed');
    checkName(fromName);
    checkName(toName);
    const moved = this.entry(caller, from, fromName);
    const target = this.state.table('entries').lookup(toParent, toName);
    if (how === 'noreplace' && target !== undefined) fail('EEXIST', `"${toName}" is there already`);
    if (how === 'exchange' && target === undefined) fail('ENOENT', `"${toName}" is not there`);
    const replaced = target === undefined ? undefined : this.row(caller, target);
    const answer = (fromRow: InodeRow, toRow: InodeRow, movedRow: InodeRow, replacedRow: InodeRow | undefined): Reply<'rename'> => ({
      from: this.attributes(fromRow),
      to: this.attributes(toRow),
      moved: this.attributes(movedRow),
      replaced: replacedRow ? this.attributes(replacedRow) : null,
    });
    if (moved.kind === 'directory' && this.isInside(to, moved.inode)) fail('EINVAL', 'a directory cannot be moved into itself');
    if (replaced?.kind === 'directory' && this.isInside(from, replaced.inode)) {
      if (how === 'exchange') fail('EINVAL', 'a directory cannot be exchanged with one inside it');
      if (replaced.inode !== moved.inode) fail('ENOTEMPTY', `"${toName}" is not empty`);
    }
    // Two names of one file: POSIX says both stay.
    if (replaced && replaced.inode === moved.inode) return answer(from, to, moved, undefined);
    checkSticky(from, moved, request.as);
    if (replaced) checkSticky(to, replaced, request.as);
    if (how === 'exchange' && replaced) return this.exchange(context, request, from, to, moved, replaced, answer);
    if (replaced) {
      if (moved.kind === 'directory' && replaced.kind !== 'directory') fail('ENOTDIR', `"${toName}" is not a directory`);
      if (moved.kind !== 'directory' && replaced.kind === 'directory') fail('EISDIR', `"${toName}" is a directory`);
      if (replaced.kind === 'directory' && this.state.table('entries').countOf(replaced.inode) > 0)
        fail('ENOTEMPTY', `"${toName}" is not empty`);
    }
    tx.remove('entries', entryKey(fromParent, fromName));
    tx.put('entries', entryKey(toParent, toName), moved.inode);
    let replacedLeft: InodeRow | undefined;
    if (replaced)
      replacedLeft =
        replaced.kind === 'directory'
          ? this.dropDirectory(context, replaced)
          : this.dropName(context, replaced, request.keepReplacedOpen, { directory: to, name: toName });
    context.effects.touch(moved.inode);
    const movedAfter = this.update(context, moved, { parent: toParent, name: toName });
    const isDirectory = moved.kind === 'directory';
    // Subdirectories count as links of their directory; the one that is replaced goes.
    const lost = isDirectory ? 1 : 0;
    const gained = lost - (replaced?.kind === 'directory' ? 1 : 0);
    if (fromParent === toParent) {
      const after = this.updateDirectory(context, from, { nlink: from.nlink - lost + gained }, fromName, toName);
      return answer(after, after, movedAfter, replacedLeft);
    }
    const fromAfter = this.updateDirectory(context, from, { nlink: from.nlink - lost }, fromName);
    const toAfter = this.updateDirectory(context, to, { nlink: to.nlink + gained }, toName);
    return answer(fromAfter, toAfter, movedAfter, replacedLeft);
  }

  private exchange(
    context: ChangeContext,
    { fromParent, fromName, toParent, toName }: Request<'rename'>,
    from: InodeRow,
    to: InodeRow,
    moved: InodeRow,
    other: InodeRow,
    answer: (from: InodeRow, to: InodeRow, moved: InodeRow, replaced: InodeRow) => Reply<'rename'>,
  ): Reply<'rename'> {
    const { tx } = context;
    tx.put('entries', entryKey(toParent, toName), moved.inode);
    tx.put('entries', entryKey(fromParent, fromName), other.inode);
    context.effects.touch(moved.inode);
    context.effects.touch(other.inode);
    const movedAfter = this.update(context, moved, { parent: toParent, name: toName });
    const otherAfter = this.update(context, other, { parent: fromParent, name: fromName });
    if (fromParent === toParent) {
      const after = this.updateDirectory(context, from, {}, fromName, toName);
      return answer(after, after, movedAfter, otherAfter);
    }
    const balance = (moved.kind === 'directory' ? 1 : 0) - (other.kind === 'directory' ? 1 : 0);
    const fromAfter = this.updateDirectory(context, from, { nlink: from.nlink - balance }, fromName);
    const toAfter = this.updateDirectory(context, to, { nlink: to.nlink + balance }, toName);
    return answer(fromAfter, toAfter, movedAfter, otherAfter);
  }

  setAttributes(context: ChangeContext, request: Request<'setAttributes'>): Reply<'setAttributes'> {
    const row = this.row(context.caller, request.inode);
    const changed: { -readonly [K in keyof InodeRow]?: InodeRow[K] } = {};
    if (request.mode !== undefined) changed.mode = request.mode;
    if (request.uid !== undefined) changed.uid = request.uid;
    if (request.gid !== undefined) changed.gid = request.gid;
    if (request.clearSetId) changed.mode = withoutSetId({ kind: row.kind, mode: changed.mode ?? row.mode });
    if (request.atime !== undefined) {
      const time = request.atime === 'now' ? context.now : request.atime;
      changed.atimeS = time.s;
      changed.atimeNs = time.ns;
    }
    if (request.mtime !== undefined) {
      const time = request.mtime === 'now' ? context.now : request.mtime;
      changed.mtimeS = time.s;
      changed.mtimeNs = time.ns;
    }
    context.effects.touch(row.inode);
    return { attributes: this.attributes(this.update(context, row, changed)) };
  }

  releaseOrphans(context: ChangeContext, { inodes }: Request<'releaseOrphans'>): Reply<'releaseOrphans'> {
    for (const inode of inodes) this.dropHolders(context, inode, [context.caller.client]);
    return {};
  }

  // ---- orphans ----

  /** These sessions no longer hold the orphan. The last one gone, it is taken apart. */
  dropHolders(context: Pick<ChangeContext, 'tx' | 'effects'>, inode: InodeId, clients: readonly ClientId[]): void {
    const orphan = context.tx.get('orphans', inode);
    if (!orphan) return;
    const holders = orphan.holders.filter((holder) => !clients.includes(holder));
    if (holders.length === orphan.holders.length && holders.length > 0) return;
    context.tx.put('orphans', inode, { holders });
    if (holders.length === 0 && !this.isTrashed(inode) && !this.reapStep(context.tx, inode)) context.effects.toReap.push(inode);
  }

  /** Takes an orphan without holders apart, at most EXTENTS_PER_STEP extents at a time. True when nothing is left of it. */
  reapStep(tx: Transaction, inode: InodeId): boolean {
    const extents = this.state.table('extents').of(inode);
    const end = Math.max(0, extents.length - EXTENTS_PER_STEP);
    for (let i = extents.length - 1; i >= end; i--) {
      const extent = extents[i]!;
      tx.remove('extents', extentKey(inode, extent.offset));
      this.keeper.dropReferences(tx, extent.chunk, 1);
    }
    if (end > 0) return false;
    for (const name of [...this.state.table('xattrs').of(inode).keys()]) tx.remove('xattrs', xattrKey(inode, name));
    tx.remove('inodes', inode);
    tx.remove('orphans', inode);
    return true;
  }

  /** One name less; with the last one the inode becomes an orphan, or is gone at once when nobody can hold it open. Answers the inode as of now. */
  dropName(context: ChangeContext, row: InodeRow, keepOpen: boolean, place: Place): InodeRow {
    const { tx, caller, effects } = context;
    effects.touch(row.inode);
    const after = this.update(context, row, { nlink: row.nlink - 1 });
    if (after.nlink > 0) return after;
    const others = row.kind === 'file' ? context.mayHold(row.inode) : [];
    if (others.length > 0) effects.unlinked(row.inode);
    const holders = keepOpen ? [caller.client, ...others] : [...others];
    const isKept = !context.isWithoutTrash && this.keepInTrash?.(context, row, place) === true;
    if (holders.length === 0 && !isKept && this.reapStep(tx, row.inode)) return after;
    tx.put('orphans', row.inode, { holders });
    if (holders.length === 0 && !isKept) effects.toReap.push(row.inode);
    return after;
  }

  /** By the session, or by anybody at all. */
  private isHeld(inode: InodeId, client: ClientId | undefined): boolean {
    const holders = this.state.get('orphans', inode)?.holders ?? [];
    return client === undefined ? holders.length > 0 : holders.includes(client);
  }
  isTrashed(inode: InodeId): boolean {
    return this.state.get('trash', inode) !== undefined;
  }

  dropDirectory(context: ChangeContext, row: InodeRow): InodeRow {
    context.effects.touch(row.inode);
    const gone = { ...row, nlink: 0, change: row.change + 1 };
    for (const name of [...this.state.table('xattrs').of(row.inode).keys()]) context.tx.remove('xattrs', xattrKey(row.inode, name));
    context.tx.remove('inodes', row.inode);
    return gone;
  }

  private entry(caller: ClientCaller, directory: InodeRow, name: string): InodeRow {
    const inode = this.state.table('entries').lookup(directory.inode, name) ?? fail('ENOENT', `"${name}" is not there`);
    return this.row(caller, inode);
  }

  /** True when `directory` is `ancestor` or lies below it. */
  private isInside(directory: InodeRow, ancestor: InodeId): boolean {
    for (let row: InodeRow | undefined = directory; row; row = this.state.get('inodes', row.parent)) {
      if (row.inode === ancestor) return true;
      if (row.parent === row.inode) return false;
    }
    return false;
  }
}

/** Deletion and renaming in a sticky directory is for the owner of the file, of the directory, and root. */
function checkSticky(directory: InodeRow, row: InodeRow, as: { readonly uid: number } | undefined): void {
  if ((directory.mode & S_ISVTX) === 0 || as === undefined || as.uid === 0) return;
  if (as.uid !== row.uid && as.uid !== directory.uid) fail('EPERM', 'the directory is sticky and the file belongs to somebody else');
}

/** Mode after a write or chown by somebody without privilege: no setuid, no setgid on what the group may execute. */
export function withoutSetId({ kind, mode }: { readonly kind: InodeKind; readonly mode: number }): number {
  if (kind === 'directory') return mode;
  return mode & ~0o4000 & ~((mode & 0o010) !== 0 ? 0o2000 : 0);
}

function symlinkFields(target: string | undefined): Partial<InodeRow> {
  if (target === undefined || target === '') return fail('ENOENT', 'a symbolic link needs a target');
  const sizeBytes = Buffer.byteLength(target);
  if (sizeBytes > MAX_SYMLINK_BYTES) fail('ENAMETOOLONG', `a target has at most ${MAX_SYMLINK_BYTES} bytes`);
  if (target.includes('\0')) fail('EINVAL', 'a target holds no NUL');
  if (!isCleanText(target)) fail('EILSEQ', 'the target is not valid UTF-8');
  return { target, sizeBytes };
}

function newInode(inode: InodeId, volume: VolumeId, kind: InodeKind, mode: number, uid: number, gid: number, now: Timestamp): InodeRow {
  return {
    inode,
    volume,
    kind,
    mode,
    uid,
    gid,
    sizeBytes: 0,
    allocatedBytes: 0,
    nlink: 1,
    rdev: 0,
    atimeS: now.s,
    atimeNs: now.ns,
    mtimeS: now.s,
    mtimeNs: now.ns,
    ctimeS: now.s,
    ctimeNs: now.ns,
    change: 1,
    dataVersion: 1,
    parent: 0,
    name: '',
  };
}
