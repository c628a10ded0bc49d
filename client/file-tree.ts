/** The file tree by inode: answers from the cache while it counts, otherwise asks the coordinator and keeps what it hears. */
import type { Entry, InodeAttributes, InodeId } from '../protocol/entities.js';
import { HoldfastError, isCode } from '../protocol/errors.js';
import { isHiddenDirectory, isHiddenName } from '../protocol/hidden.js';
import { MAX_ENTRIES_PER_PAGE } from '../protocol/limits.js';
import type { CreateRequest, DirectoryEntry, FileTree, Identity, TimeChange } from './api.js';
import type { ClientCore } from './core.js';
import { Handle } from './file-handle.js';
import type { OpenFiles } from './open-files.js';
import type { ChangeMark } from './session.js';

/** Directories up to this size are listed from the cache when it knows all of them. */
const LISTED_FROM_CACHE = 2000;

export class ClientFileTree implements FileTree {
  /** Listings read page by page: when all pages tell of the same state, the whole directory is known. */
  private readonly listings = new Map<InodeId, { change: number; after: string; stamp: number }>();

  constructor(
    private readonly core: ClientCore,
    private readonly files: OpenFiles,
    private readonly mayWrite: () => boolean,
  ) {}

  private subdirectory: InodeId | undefined;

  get root(): InodeId {
    return this.subdirectory ?? this.core.volume.root;
  }

  /** Makes a directory the root, for good. @throws {HoldfastError} ENOENT, ENOTDIR */
  async enter(path: string): Promise<void> {
    const { inode, kind } = await this.resolve(path);
    if (kind !== 'directory') throw new HoldfastError('ENOTDIR', `${JSON.stringify(path)} is not a directory`);
    this.subdirectory = inode;
  }

  async lookup(parent: InodeId, name: string): Promise<InodeAttributes | null> {
    // The directory above the root is the root.
    if (name === '..' && parent === this.root) return this.getAttributes(parent);
    const { cache, session } = this.core;
    // Reachable without being listed, and changed by others' and our own deletions: always asked for.
    if (isHiddenName(name) || isHiddenDirectory(parent)) {
      const asked = cache.stamp();
      const found = (await session.call('lookup', { parent, name })).attributes;
      return found ? this.keep(asked, found) : null;
    }
    const known = cache.entry(parent, name);
    if (known === null) return null;
    if (known !== undefined) {
      const cached = cache.attributes(known);
      if (cached) return this.files.told(cached);
    }
    const stamp = cache.stamp();
    const { parent: directory, attributes } = await session.call('lookup', { parent, name });
    cache.putEntry(stamp, directory, name, attributes?.inode ?? null);
    return attributes ? this.keep(stamp, attributes) : null;
  }

  async resolve(path: string): Promise<InodeAttributes> {
    let at = await this.getAttributes(this.root);
    for (const name of path.split('/')) {
      if (name === '') continue;
      if (at.kind !== 'directory') throw new HoldfastError('ENOTDIR', `a part of ${JSON.stringify(path)} is not a directory`);
      const next = await this.lookup(at.inode, name);
      if (!next) throw new HoldfastError('ENOENT', `${JSON.stringify(path)} does not exist`);
      at = next;
    }
    return at;
  }

  async getAttributes(inode: InodeId): Promise<InodeAttributes> {
    const cached = this.core.cache.attributes(inode);
    // Without a name it is gone with the last handle, of whichever client, and nobody is told of that.
    const isSure = cached !== undefined && (cached.nlink > 0 || this.files.isOpen(inode));
    return this.files.told(isSure ? cached : await this.core.attributes(inode));
  }

  async readDirectory(inode: InodeId, after: string, limit: number): Promise<{ entries: DirectoryEntry[]; isLast: boolean }> {
    const cached = isHiddenDirectory(inode) ? undefined : this.listFromCache(inode, after, limit);
    if (cached) return cached;
    const { cache, session } = this.core;
    const stamp = cache.stamp();
    const asked = Math.min(limit, MAX_ENTRIES_PER_PAGE);
    const page = await session.call('readDirectory', { inode, after, limit: asked });
    if (isHiddenDirectory(inode)) return this.listed(stamp, page);
    const before = this.listings.get(inode);
    const isUnbroken =
      after === '' ||
      (before !== undefined && before.after === after && before.change === page.directory.change && cache.isFresh(before.stamp, inode));
    cache.putEntries(
      stamp,
      page.directory,
      page.entries.map((entry) => [entry.name, entry.inode] as const),
      isUnbroken && page.isLast,
    );
    const last = page.entries[page.entries.length - 1];
    if (isUnbroken && !page.isLast && last) {
      const begun = after === '' ? stamp : before!.stamp;
      this.listings.set(inode, { change: page.directory.change, after: last.name, stamp: begun });
    } else this.listings.delete(inode);
    return this.listed(stamp, page);
  }
  private listed(
    stamp: number,
    page: { readonly entries: readonly Entry[]; readonly attributes: readonly InodeAttributes[]; readonly isLast: boolean },
  ): { entries: DirectoryEntry[]; isLast: boolean } {
    const byInode = new Map<InodeId, InodeAttributes>();
    for (const attributes of page.attributes) {
      this.core.cache.putAttributes(stamp, attributes);
      byInode.set(attributes.inode, this.files.overlay(attributes));
    }
    const entries: DirectoryEntry[] = [];
    for (const { name, inode: child } of page.entries) {
      const attributes = byInode.get(child);
      if (attributes) entries.push({ name, attributes });
    }
    return { entries, isLast: page.isLast };
  }

  async create(request: CreateRequest): Promise<{ attributes: InodeAttributes; isNew: boolean }> {
    this.needWrite();
    const { cache, session } = this.core;
    const stamp = cache.stamp();
    const { attributes, parent, isNew } = await this.taking(request.parent, request.name, session.call('create', { ...request }));
    cache.putEntry(stamp, parent, request.name, attributes.inode);
    const kept = this.keep(stamp, attributes);
    if (isNew && attributes.kind === 'directory') cache.putEntries(stamp, attributes, [], true);
    return { attributes: await kept, isNew };
  }

  /**
   * A refusal overtakes the reply to an earlier change that waits for the journal: when a name is taken, what the cache says of it (absent) is
   * older, even when it was this client that made it.
   */
  private async taking<T>(parent: InodeId, name: string, call: Promise<T>): Promise<T> {
    try {
      return await call;
    } catch (error) {
      if (isCode(error, 'EEXIST')) this.core.cache.forgetEntry(parent, name);
      throw error;
    }
  }

  async link(inode: InodeId, parent: InodeId, name: string): Promise<InodeAttributes> {
    this.needWrite();
    const { cache, session } = this.core;
    const stamp = cache.stamp();
    const reply = await this.taking(parent, name, session.call('link', { inode, parent, name }));
    cache.putEntry(stamp, reply.parent, name, inode);
    return this.keep(stamp, reply.attributes);
  }

  async unlink(parent: InodeId, name: string, as: Identity): Promise<void> {
    this.needWrite();
    const { cache, session } = this.core;
    const stamp = cache.stamp();
    const target = cache.entry(parent, name);
    const keepOpen = this.mustKeep(target);
    const reply = await this.removing(target, keepOpen, session.call('unlink', { parent, name, keepOpen, as }));
    cache.putEntry(stamp, reply.parent, name, null);
    this.unlinked(stamp, target ?? undefined, reply.attributes, keepOpen);
  }

  async removeDirectory(parent: InodeId, name: string, as: Identity): Promise<void> {
    this.needWrite();
    const { cache, session } = this.core;
    const stamp = cache.stamp();
    const target = cache.entry(parent, name);
    const reply = await session.call('removeDirectory', { parent, name, as });
    cache.putEntry(stamp, reply.parent, name, null);
    if (target) cache.recall(target);
  }

  async rename(
    from: { parent: InodeId; name: string },
    to: { parent: InodeId; name: string },
    how: 'replace' | 'noreplace' | 'exchange',
    as: Identity,
  ): Promise<void> {
    this.needWrite();
    const { cache, session } = this.core;
    let buildsOn: ChangeMark | undefined;
    if (how !== 'noreplace' && this.files.hasWritten && cache.entry(to.parent, to.name) !== null) {
      // After an outage the cache knows no names, yet a file written before it needs the same care.
      const known = cache.entry(from.parent, from.name);
      const source = known === undefined ? (await this.lookup(from.parent, from.name))?.inode : known;
      if (source) buildsOn = await this.files.beforeReplacing(source);
    }
    const stamp = cache.stamp();
    const target = cache.entry(to.parent, to.name);
    const keepReplacedOpen = how === 'replace' && this.mustKeep(target);
    const call = session.call(
      'rename',
      { fromParent: from.parent, fromName: from.name, toParent: to.parent, toName: to.name, how, keepReplacedOpen, as },
      { buildsOn },
    );
    const reply = await (how === 'replace' ? this.removing(target, keepReplacedOpen, call) : call);
    const { moved, replaced } = reply;
    // Two names of one inode: nothing happens and both stay. The reply does not tell this from a name that was absent.
    const mayBeSameFile = how !== 'exchange' && replaced === null && moved.nlink > 1 && target !== null;
    if (mayBeSameFile) {
      cache.putAttributes(stamp, reply.from);
      cache.forgetEntry(from.parent, from.name);
    } else cache.putEntry(stamp, reply.from, from.name, how === 'exchange' ? (replaced ?? moved).inode : null);
    cache.putEntry(stamp, reply.to, to.name, moved.inode);
    cache.putAttributes(stamp, moved);
    if (how === 'exchange' && replaced) cache.putAttributes(stamp, replaced);
    else if (how === 'replace' && target !== moved.inode) this.unlinked(stamp, target ?? undefined, replaced, keepReplacedOpen);
  }

  async setAttributes(
    inode: InodeId,
    change: { mode?: number; uid?: number; gid?: number; atime?: TimeChange; mtime?: TimeChange; clearSetId?: boolean },
  ): Promise<InodeAttributes> {
    this.needWrite();
    const { cache, session } = this.core;
    // A commit sets the time of the last write, so bytes written before this call must not be committed after it.
    const file = this.files.get(inode);
    if (change.mtime !== undefined && file?.writer.isDirty) await file.writer.flush();
    const stamp = cache.stamp();
    const { attributes } = await session.call('setAttributes', { inode, ...change });
    return this.keep(stamp, attributes);
  }

  async truncate(inode: InodeId, sizeBytes: number): Promise<InodeAttributes> {
    const file = this.files.acquire(this.core.cache.attributes(inode) ?? (await this.core.attributes(inode)));
    try {
      const handle = new Handle(this.core, this.files, file, this.mayWrite());
      await handle.truncate(sizeBytes);
      return await handle.attributes();
    } finally {
      this.files.release(file);
    }
  }

  async listXattrs(inode: InodeId): Promise<string[]> {
    if (!(await this.getAttributes(inode)).hasXattrs) return [];
    return (await this.core.session.call('listXattrs', { inode })).names;
  }

  async getXattr(inode: InodeId, name: string): Promise<Buffer> {
    if (!(await this.getAttributes(inode)).hasXattrs) throw new HoldfastError('ENODATA', 'no such attribute');
    return asBuffer((await this.core.session.call('getXattr', { inode, name })).value);
  }

  async setXattr(inode: InodeId, name: string, value: Buffer, how: 'any' | 'create' | 'replace'): Promise<void> {
    this.needWrite();
    const stamp = this.core.cache.stamp();
    const { attributes } = await this.core.session.call('setXattr', { inode, name, value: Buffer.from(value), how });
    this.core.cache.putAttributes(stamp, attributes);
  }

  async removeXattr(inode: InodeId, name: string): Promise<void> {
    this.needWrite();
    const stamp = this.core.cache.stamp();
    const { attributes } = await this.core.session.call('removeXattr', { inode, name });
    this.core.cache.putAttributes(stamp, attributes);
  }

  private keep(stamp: number, attributes: InodeAttributes): InodeAttributes | Promise<InodeAttributes> {
    this.core.cache.putAttributes(stamp, attributes);
    return this.files.told(attributes);
  }

  /** Whether an inode that loses a name may be open here. Not knowing which inode it is, we keep it, and say at once when nobody needs it. */
  private mustKeep(target: InodeId | null | undefined): boolean {
    return target === undefined || (target !== null && this.files.isOpen(target));
  }

  private removing<T>(target: InodeId | null | undefined, isKept: boolean, call: Promise<T>): Promise<T> {
    return target && !isKept ? this.files.removing(target, call) : call;
  }

  /** After a name went away: `attributes` of what it led to as of now, null when that is gone. */
  private unlinked(stamp: number, target: InodeId | undefined, attributes: InodeAttributes | null, wasKept: boolean): void {
    if (!attributes) {
      if (target !== undefined) this.core.cache.dropAttributes(target);
      return;
    }
    this.core.cache.putAttributes(stamp, attributes);
    if (attributes.nlink > 0 || attributes.kind === 'directory') return;
    const file = this.files.get(attributes.inode);
    if (file && file.handles > 0) {
      file.isOrphan = true;
      return;
    }
    // Without name and handle here: others may hold it, we have no business with it. Bytes still on their way nobody can ever read.
    this.core.cache.dropAttributes(attributes.inode);
    file?.writer.discard(undefined);
    if (wasKept) this.files.releaseOrphan(attributes.inode);
  }

  private listFromCache(inode: InodeId, after: string, limit: number): { entries: DirectoryEntry[]; isLast: boolean } | undefined {
    const { cache } = this.core;
    const names = cache.listing(inode);
    if (!names || names.size > LISTED_FROM_CACHE) return undefined;
    const start = Buffer.from(after);
    const found: { key: Buffer; name: string; inode: InodeId }[] = [];
    for (const [name, child] of names) {
      if (child === null) continue;
      const key = Buffer.from(name);
      if (after === '' || key.compare(start) > 0) found.push({ key, name, inode: child });
    }
    found.sort((a, b) => a.key.compare(b.key));
    const entries: DirectoryEntry[] = [];
    for (const { name, inode: child } of found.slice(0, limit)) {
      const attributes = cache.attributes(child);
      if (!attributes) return undefined;
      entries.push({ name, attributes: this.files.overlay(attributes) });
    }
    return { entries, isLast: found.length <= limit };
  }

  private needWrite(): void {
    if (!this.mayWrite()) throw new HoldfastError('EROFS', 'this client may only read the volume');
  }
}

/** Socket.IO gives Buffers; a simulated network may give plain byte arrays. */
const asBuffer = (value: Uint8Array): Buffer =>
  Buffer.isBuffer(value) ? value : Buffer.from(value.buffer, value.byteOffset, value.byteLength);
