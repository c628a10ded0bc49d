/**
 * Whole trees copied and removed in steps, so that nobody waits long for one of any size. Both happen below a directory without name (the holder)
 * that has a row in `treeTasks`: what a dead process left behind is found there and removed.
 */
import type { ChunkId, Extent, InodeId } from '../protocol/entities.js';
import type { Environment } from '../protocol/environment.js';
import { HoldfastError } from '../protocol/errors.js';
import type { ChangeContext, FileTree } from './file-tree.js';
import type { ChunkKeeper, ClientCaller } from './ports.js';
import { entryKey, extentKey, type InodeRow, xattrKey } from './rows.js';

/** Rows put or removed in one step: a few milliseconds. */
const ROWS_PER_STEP = 400;

export interface TreePorts {
  readonly environment: Environment;
  readonly tree: FileTree;
  readonly keeper: Pick<ChunkKeeper, 'addReferences' | 'dropReferences'>;
  /** One transaction; resolves when it may be relied on and others have been told. @throws {HoldfastError} also ENOSPC, NOT_READY */
  change<T>(caller: ClientCaller, body: (context: ChangeContext) => T): Promise<T>;
  /** Lets others have their turn. */
  pause(): Promise<void>;
}

/** A directory without name that others can be built in, or put into to be removed. */
export function makeHolder(tree: FileTree, context: ChangeContext): InodeId {
  const { tx, caller } = context;
  const inode = tree.nextInode(tx);
  const root = tree.row(caller, tree.resolve(caller.volume, '/'));
  tx.put('inodes', inode, { ...root, inode, mode: 0o700, nlink: 2, parent: 0, name: '', change: 1, dataVersion: 1 });
  tx.put('treeTasks', inode, { volume: caller.volume, kind: 'building' });
  return inode;
}

interface DirectoryWork {
  readonly source: InodeId;
  readonly target: InodeId;
  readonly names: readonly string[];
  at: number;
}
interface FileWork {
  readonly extents: readonly Extent[];
  readonly target: InodeId;
  at: number;
}

/** Copies one tree that does not change meanwhile (of a snapshot): inodes are made anew, extents name the same chunks. */
export class TreeCopy {
  /** Inodes made. */
  count = 0;
  private readonly directories: DirectoryWork[] = [];
  private file: FileWork | undefined;
  /** Files with several names: the copies have as many. */
  private readonly linked = new Map<InodeId, InodeId>();

  constructor(
    private readonly ports: TreePorts,
    private readonly caller: ClientCaller,
  ) {}

  /** Copies `source` to `name` in `parent`, where nothing of that name is. @throws {HoldfastError} EDQUOT, ENOSPC, ESTALE */
  async copy(source: InodeId, parent: InodeId, name: string): Promise<void> {
    const { ports, caller } = this;
    await ports.change(caller, (context) => this.begin(context, source, parent, name));
    while (this.file || this.directories.length > 0) {
      await ports.pause();
      await ports.change(caller, (context) => this.step(context));
    }
  }

  private step(context: ChangeContext): void {
    const { view } = this.ports.tree;
    let left = ROWS_PER_STEP;
    while (left > 0) {
      if (this.file) {
        left -= this.copyExtents(context, this.file, left);
        continue;
      }
      const work = this.directories.at(-1);
      if (!work) return;
      const name = work.names[work.at++];
      if (name === undefined) {
        this.directories.pop();
        continue;
      }
      const child = view.lookup(work.source, name);
      if (child === undefined) throw new HoldfastError('ESTALE', 'what is being copied is gone');
      left -= 3;
      this.begin(context, child, work.target, name);
    }
  }

  private begin(context: ChangeContext, source: InodeId, parent: InodeId, name: string): void {
    const { tree } = this.ports;
    const { tx, caller, now } = context;
    const row = tree.row(caller, source);
    tx.put('entries', entryKey(parent, name), this.linkedCopy(context, row) ?? this.nextCopy(context, row, parent, name));
    // A directory that stays without name until all is there: only its links have to be right.
    const target = row.kind === 'directory' ? tx.get('inodes', parent) : undefined;
    if (target?.parent === 0) tx.put('inodes', parent, { ...target, nlink: target.nlink + 1, ctimeS: now.s, ctimeNs: now.ns });
  }
  private linkedCopy(context: ChangeContext, row: InodeRow): InodeId | undefined {
    const known = row.kind === 'directory' || row.nlink === 1 ? undefined : this.linked.get(row.inode);
    const copied = known === undefined ? undefined : context.tx.get('inodes', known);
    if (copied) context.tx.put('inodes', copied.inode, { ...copied, nlink: copied.nlink + 1 });
    return known;
  }
  private nextCopy(context: ChangeContext, row: InodeRow, parent: InodeId, name: string): InodeId {
    const { tree } = this.ports;
    const { tx, now, caller } = context;
    tree.quotas.checkFiles(context.caller.volume, context.caller.userId);
    const inode = tree.nextInode(tx);
    this.count++;
    const isDirectory = row.kind === 'directory';
    // A directory will have as many subdirectories as its source. Other names of a file are counted as they come.
    const times = { ctimeS: now.s, ctimeNs: now.ns, change: 1, dataVersion: 1 };
    // It counts against the quota of who copies.
    const { creator: _creator, ...copied } = row;
    const creator = caller.userId === undefined ? {} : { creator: caller.userId };
    tx.put('inodes', inode, {
      ...copied,
      ...times,
      ...creator,
      inode,
      parent,
      name,
      nlink: isDirectory ? row.nlink : 1,
      allocatedBytes: 0,
    });
    for (const [attribute, value] of tree.view.xattrs(row.inode)) tx.put('xattrs', xattrKey(inode, attribute), value);
    if (isDirectory) this.directories.push({ source: row.inode, target: inode, names: tree.view.sorted(row.inode), at: 0 });
    else if (row.kind === 'file') {
      if (row.nlink > 1) this.linked.set(row.inode, inode);
      const extents = tree.view.extents(row.inode);
      if (extents.length > 0) this.file = { extents, target: inode, at: 0 };
    }
    return inode;
  }

  private copyExtents(context: ChangeContext, work: FileWork, limit: number): number {
    const { tree, keeper } = this.ports;
    const { tx } = context;
    const references = new Map<ChunkId, number>();
    const end = Math.min(work.extents.length, work.at + limit);
    const row = tx.get('inodes', work.target);
    if (!row) throw new HoldfastError('ESTALE', 'the copy is gone');
    let bytes = 0;
    const copied = end - work.at;
    for (; work.at < end; work.at++) {
      const extent = work.extents[work.at] as Extent;
      tx.put('extents', extentKey(work.target, extent.offset), extent);
      references.set(extent.chunk, (references.get(extent.chunk) ?? 0) + 1);
      bytes += extent.length;
    }
    for (const [chunk, count] of references) keeper.addReferences(tx, chunk, count);
    tree.quotas.checkBytes(row, bytes);
    tx.put('inodes', row.inode, { ...row, allocatedBytes: row.allocatedBytes + bytes });
    if (work.at === work.extents.length) this.file = undefined;
    return copied + 1;
  }
}

/** One step of removing what is in a holder, and at last the holder. True when it is gone. */
export function removeStep(tree: FileTree, context: ChangeContext, holder: InodeId): boolean {
  const { tx } = context;
  const entries = tree.state.table('entries');
  const without = { ...context, isWithoutTrash: true };
  const path = [holder];
  let left = ROWS_PER_STEP;
  while (left > 0) {
    const inode = path.at(-1) as InodeId;
    const directory = tx.get('inodes', inode);
    if (!directory) return true;
    const names = firstOf(entries.of(inode), left);
    if (names.length === 0) {
      if (path.length === 1) {
        tx.remove('inodes', holder);
        tx.remove('treeTasks', holder);
        return true;
      }
      path.pop();
      tx.remove('entries', entryKey(path.at(-1) as InodeId, directory.name));
      tree.dropDirectory(context, directory);
      left--;
    }
    for (const [name, child] of names) {
      const row = tx.get('inodes', child);
      if (row?.kind === 'directory' && entries.countOf(child) > 0) {
        path.push(child);
        break;
      }
      tx.remove('entries', entryKey(inode, name));
      // A removed file is a handful of rows: entry, inode, extents with their chunks, and what a snapshot keeps of each.
      left -= 4 + 2 * tree.state.table('extents').of(child).length;
      if (row?.kind === 'directory') tree.dropDirectory(context, row);
      else if (row) tree.dropName(without, row, false, { directory, name });
      if (left <= 0) break;
    }
  }
  return false;
}

function firstOf(names: ReadonlyMap<string, InodeId>, limit: number): [string, InodeId][] {
  const found: [string, InodeId][] = [];
  for (const entry of names) {
    if (found.length === limit) break;
    found.push(entry);
  }
  return found;
}
