/**
 * The data of files as extents over chunks: commit, truncate, punch, copyRange and the pages readers get. References of chunks are counted in the
 * same transaction: one reference for every extent that names a chunk.
 */
import type { ReplyOf, RequestOf } from '../protocol/call.js';
import type { ClientCalls } from '../protocol/client-calls.js';
import type { ChunkId, ClientId, Extent, InodeId } from '../protocol/entities.js';
import { HoldfastError } from '../protocol/errors.js';
import { MAX_EXTENTS_PER_PAGE, MAX_FILE_SIZE_BYTES, SEALED_LEAF_SIZE_BYTES } from '../protocol/limits.js';
import { clearRange, copiedExtents, endOf, firstReaching, pageOf } from './extents.js';
import { type ChangeContext, EXTENTS_PER_STEP, type FileTree, withoutSetId } from './file-tree.js';
import type { ChunkKeeper, ClientCaller } from './ports.js';
import { type ChunkRow, extentKey, type InodeRow } from './rows.js';

type Request<M extends keyof ClientCalls> = RequestOf<ClientCalls, M>;
type Reply<M extends keyof ClientCalls> = ReplyOf<ClientCalls, M>;

/** Bytes of plaintext in a chunk: of an encrypted volume each leaf carries a 16 byte tag. */
function plaintextBytes(row: ChunkRow, isEncrypted: boolean): number {
  return isEncrypted ? row.sizeBytes - 16 * Math.ceil(row.sizeBytes / SEALED_LEAF_SIZE_BYTES) : row.sizeBytes;
}

/** Edits one file's extents within a transaction and adds up what that means for references and allocated bytes. */
class ExtentEdit {
  allocatedBytes: number;
  private readonly references = new Map<ChunkId, number>();
  constructor(
    private readonly context: ChangeContext,
    private readonly tree: FileTree,
    private readonly row: InodeRow,
  ) {
    this.allocatedBytes = row.allocatedBytes;
  }
  get extents(): readonly Extent[] {
    return this.tree.state.table('extents').of(this.row.inode);
  }
  clear(start: number, end: number): void {
    const { removed, put } = clearRange(this.extents, start, end);
    for (const extent of removed) {
      if (!put.some((one) => one.offset === extent.offset)) this.context.tx.remove('extents', extentKey(this.row.inode, extent.offset));
      this.count(extent, -1);
    }
    for (const extent of put) this.put(extent);
  }
  /** Where nothing is. */
  put(extent: Extent): void {
    this.context.tx.put('extents', extentKey(this.row.inode, extent.offset), extent);
    this.count(extent, 1);
  }
  overlay(extent: Extent): void {
    this.clear(extent.offset, endOf(extent));
    this.put(extent);
  }
  /** Brings the counted changes of references to the keeper of chunks. */
  finish(keeper: Pick<ChunkKeeper, 'addReferences' | 'dropReferences'>): void {
    for (const [chunk, count] of this.references) {
      if (count > 0) keeper.addReferences(this.context.tx, chunk, count);
      else if (count < 0) keeper.dropReferences(this.context.tx, chunk, -count);
    }
  }
  private count(extent: Extent, sign: 1 | -1): void {
    this.allocatedBytes += sign * extent.length;
    this.references.set(extent.chunk, (this.references.get(extent.chunk) ?? 0) + sign);
  }
}

type RecentCommit = { readonly atS: number; readonly by: ClientId };
type RecentChunks = Map<ChunkId, RecentCommit>;

export class FileData {
  /** Chunks committed lately that may not be on stable storage yet, by inode: what `sync` names to the caller. */
  private readonly recent = new Map<InodeId, RecentChunks>();

  constructor(
    private readonly tree: FileTree,
    private readonly keeper: ChunkKeeper,
  ) {}

  private file(caller: ClientCaller, inode: InodeId): InodeRow {
    const row = this.tree.row(caller, inode);
    if (row.kind === 'directory') throw new HoldfastError('EISDIR', `inode ${inode} is a directory`);
    if (row.kind !== 'file') throw new HoldfastError('EINVAL', `inode ${inode} is a ${row.kind}, it has no data`);
    return row;
  }

  getExtents(caller: ClientCaller, { inode, fromOffset, limit }: Request<'getExtents'>): Reply<'getExtents'> {
    const row = this.file(caller, inode);
    const { page, nextOffset } = pageOf(this.tree.view.extents(inode), fromOffset, Math.min(limit, MAX_EXTENTS_PER_PAGE));
    const chunks = new Set<ChunkId>();
    for (const extent of page) chunks.add(extent.chunk);
    return { attributes: this.tree.attributes(row, caller), extents: page, locations: this.keeper.locations([...chunks]), nextOffset };
  }

  /** @throws {HoldfastError} UPLOAD_AGAIN, EDQUOT, EFBIG, EINVAL, ESTALE */
  commit(context: ChangeContext, request: Request<'commit'>): Reply<'commit'> {
    const { caller, tx } = context;
    const row = this.file(caller, request.inode);
    const base = request.appendBase;
    // An append goes exactly to the end: behind what others appended meanwhile, and back to where others cut the file.
    const shiftedBy = base === undefined ? 0 : row.sizeBytes - base;
    if (base !== undefined && [...request.extents, ...(request.holes ?? [])].some(({ offset }) => offset < base))
      throw new HoldfastError('EINVAL', 'an append has an extent before the offset where it begins');
    const sizeBytes = Math.max(row.sizeBytes, request.sizeBytes + shiftedBy);
    if (sizeBytes > MAX_FILE_SIZE_BYTES) throw new HoldfastError('EFBIG', `a file has at most ${MAX_FILE_SIZE_BYTES} bytes`);
    const chunks = [...new Set(request.extents.map((extent) => extent.chunk))];
    const unsynced = chunks.length > 0 ? this.keeper.acceptCommit(tx, caller, chunks, request.receipts) : [];
    const isEncrypted = (this.tree.state.get('volumes', caller.volume)?.encryption ?? null) !== null;
    const edit = new ExtentEdit(context, this.tree, row);
    for (const hole of request.holes ?? []) edit.clear(hole.offset + shiftedBy, hole.offset + hole.length + shiftedBy);
    for (const extent of request.extents) {
      const chunk = tx.get('chunks', extent.chunk);
      if (!chunk || chunk.volume !== caller.volume)
        throw new HoldfastError('UPLOAD_AGAIN', 'a chunk is not there', { chunks: [extent.chunk] });
      if (extent.chunkOffset + extent.length > plaintextBytes(chunk, isEncrypted))
        throw new HoldfastError('EINVAL', 'an extent reaches beyond its chunk', { chunk: extent.chunk });
      if (extent.offset + extent.length > request.sizeBytes)
        throw new HoldfastError('EINVAL', 'an extent reaches beyond the size that was given');
      edit.overlay({
        offset: extent.offset + shiftedBy,
        length: extent.length,
        chunk: extent.chunk,
        chunkOffset: extent.chunkOffset,
      });
    }
    edit.finish(this.keeper);
    this.tree.quotas.checkBytes(row, edit.allocatedBytes - row.allocatedBytes);
    const mtime = request.mtime === undefined || request.mtime === 'now' ? context.now : request.mtime;
    const after = this.dataChanged(context, row, {
      sizeBytes,
      allocatedBytes: edit.allocatedBytes,
      mtimeS: mtime.s,
      mtimeNs: mtime.ns,
      ...(request.clearSetId ? { mode: withoutSetId(row) } : {}),
    });
    const commit: RecentCommit = { atS: context.now.s, by: caller.client };
    if (unsynced.length > 0) tx.afterwards(() => this.remember(row.inode, unsynced, () => commit));
    const recent = request.durable === true ? this.recentChunks(row.inode, caller.client) : [];
    return {
      attributes: this.tree.attributes(after),
      shiftedBy,
      ...(recent.length > 0 && { recentChunks: this.keeper.locations(recent) }),
    };
  }

  truncate(context: ChangeContext, request: Request<'truncate'>): Reply<'truncate'> {
    const row = this.file(context.caller, request.inode);
    const edit = new ExtentEdit(context, this.tree, row);
    if (request.sizeBytes < row.sizeBytes) edit.clear(request.sizeBytes, row.sizeBytes);
    edit.finish(this.keeper);
    const after = this.dataChanged(context, row, {
      sizeBytes: request.sizeBytes,
      allocatedBytes: edit.allocatedBytes,
      ...(request.clearSetId ? { mode: withoutSetId(row) } : {}),
    });
    return { attributes: this.tree.attributes(after) };
  }

  punch(context: ChangeContext, { inode, offset, length, keepSize }: Request<'punch'>): Reply<'punch'> {
    const row = this.file(context.caller, inode);
    const end = offset + length;
    if (end > MAX_FILE_SIZE_BYTES) throw new HoldfastError('EFBIG', `a file has at most ${MAX_FILE_SIZE_BYTES} bytes`);
    const edit = new ExtentEdit(context, this.tree, row);
    edit.clear(offset, end);
    edit.finish(this.keeper);
    const after = this.dataChanged(context, row, {
      sizeBytes: keepSize ? row.sizeBytes : Math.max(row.sizeBytes, end),
      allocatedBytes: edit.allocatedBytes,
    });
    return { attributes: this.tree.attributes(after) };
  }

  /**
   * One bounded step of a truncate or punch that removes very many extents, taken before the call itself so that nothing else has to wait long.
   * A truncate's steps shorten the file from its end, as ext4 does; a crash in between leaves a file that is cut, but not yet far enough.
   * @returns false when the call itself is small enough by now
   */
  cutStep(context: ChangeContext, inode: InodeId, start: number, end: number, isTruncate: boolean): boolean {
    this.file(context.caller, inode);
    const extents = this.tree.state.table('extents').of(inode);
    const first = firstReaching(extents, start);
    const last = firstReaching(extents, end);
    if (last - first <= EXTENTS_PER_STEP) return false;
    const cut = (extents[last - EXTENTS_PER_STEP] as Extent).offset;
    if (isTruncate) this.truncate(context, { inode, sizeBytes: Math.max(cut, start) });
    else this.punch(context, { inode, offset: cut, length: Math.min(end, endOf(extents.at(-1) as Extent)) - cut, keepSize: true });
    return true;
  }

  copyRange(context: ChangeContext, request: Request<'copyRange'>): Reply<'copyRange'> {
    const source = this.file(context.caller, request.from);
    const target = this.file(context.caller, request.to);
    const { fromOffset, toOffset } = request;
    const wantedBytes = Math.max(0, Math.min(request.length, source.sizeBytes - fromOffset));
    if (source.inode === target.inode && fromOffset < toOffset + wantedBytes && toOffset < fromOffset + wantedBytes)
      throw new HoldfastError('EINVAL', 'the ranges overlap');
    if (toOffset + wantedBytes > MAX_FILE_SIZE_BYTES) throw new HoldfastError('EFBIG', `a file has at most ${MAX_FILE_SIZE_BYTES} bytes`);
    const { copies, reached } = copiedExtents(
      this.tree.view.extents(source.inode),
      fromOffset,
      fromOffset + wantedBytes,
      toOffset,
      EXTENTS_PER_STEP,
    );
    const copiedBytes = reached - fromOffset;
    if (copiedBytes === 0) return { attributes: this.tree.attributes(target), copiedBytes };
    const edit = new ExtentEdit(context, this.tree, target);
    edit.clear(toOffset, toOffset + copiedBytes);
    for (const extent of copies) edit.put(extent);
    edit.finish(this.keeper);
    this.tree.quotas.checkBytes(target, edit.allocatedBytes - target.allocatedBytes);
    const after = this.dataChanged(context, target, {
      sizeBytes: Math.max(target.sizeBytes, toOffset + copiedBytes),
      allocatedBytes: edit.allocatedBytes,
    });
    // Who syncs the copy is promised no less than who syncs the file it was made from.
    const recent = this.recent.get(source.inode);
    if (recent)
      context.tx.afterwards(() =>
        this.remember(
          target.inode,
          copies.map(({ chunk }) => chunk),
          (chunk) => recent.get(chunk),
        ),
      );
    return { attributes: this.tree.attributes(after), copiedBytes };
  }

  /** Chunks of an inode committed lately that may not be on stable storage yet. @param except by whom those are not meant */
  recentChunks(inode: InodeId, except?: ClientId): ChunkId[] {
    return [...(this.recent.get(inode) ?? [])].filter(([, { by }]) => by !== except).map(([chunk]) => chunk);
  }
  /** Forgets what was committed before `beforeS` (seconds): nodes have made it stable by then. */
  forgetRecent(beforeS: number): void {
    for (const [inode, chunks] of this.recent) {
      for (const [chunk, { atS }] of chunks) if (atS < beforeS) chunks.delete(chunk);
      if (chunks.size === 0) this.recent.delete(inode);
    }
  }

  private remember(inode: InodeId, chunks: readonly ChunkId[], commitOf: (chunk: ChunkId) => RecentCommit | undefined): void {
    const known: RecentChunks = this.recent.get(inode) ?? new Map();
    for (const chunk of chunks) {
      const commit = commitOf(chunk);
      if (commit) known.set(chunk, commit);
    }
    if (known.size > 0) this.recent.set(inode, known);
  }

  private dataChanged(context: ChangeContext, row: InodeRow, changed: Partial<InodeRow>): InodeRow {
    context.effects.touch(row.inode);
    return this.tree.update(context, row, {
      mtimeS: context.now.s,
      mtimeNs: context.now.ns,
      dataVersion: row.dataVersion + 1,
      ...changed,
    });
  }
}
