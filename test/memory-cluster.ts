/**
 * The client's interface kept in memory: a cluster that never fails. It is what a mount should look like to programs, without network or disk:
 * tests of the driver mount it, and simulations judge real clusters by it.
 */
import type {
  Cluster,
  CreateRequest,
  DirectoryEntry,
  FileHandle,
  FileTree,
  Identity,
  LockRequest,
  Locks,
  TimeChange,
} from '../client/api.js';
import type { InodeAttributes, InodeId, VolumeSettings } from '../protocol/entities.js';
import { type Environment, timestamp } from '../protocol/environment.js';
import { HoldfastError } from '../protocol/errors.js';
import { MAX_FILE_SIZE_BYTES, MAX_LINKS, MAX_NAME_BYTES } from '../protocol/limits.js';

type Mutable<T> = { -readonly [K in keyof T]: T[K] };
const PAGE_BYTES = 4096;

interface Inode extends Mutable<InodeAttributes> {
  entries?: Map<string, Inode>;
  parent?: Inode;
  /** File bytes by page; an absent page is a hole. */
  pages: Map<number, Buffer>;
  xattrs: Map<string, Buffer>;
  openCount: number;
}

const fail = (code: ConstructorParameters<typeof HoldfastError>[0]): never => {
  throw new HoldfastError(code);
};

export class MemoryCluster implements Cluster {
  readonly sentBytes = 0;
  readonly access = 'admin';
  readonly nodes = [];
  readonly mayBeKeptMs = Infinity;
  readonly volume: VolumeSettings = {
    volume: 1,
    name: 'main',
    root: 1,
    copies: 1,
    chunkSizeBytes: 1024 * 1024,
    quotaBytes: null,
    quotaFiles: null,
    encryption: null,
    trashKeepMs: 0,
  };
  readonly tree: FileTree;
  readonly locks: Locks;
  readonly #inodes = new Map<InodeId, Inode>();
  #nextInode = 1;

  constructor(private readonly environment: Environment) {
    const root = this.#newInode('directory', 0o755, { uid: 0, gid: 0 });
    root.nlink = 2;
    root.parent = root;
    this.tree = this.#makeTree(root.inode);
    this.locks = new MemoryLocks();
  }

  #newInode(kind: InodeAttributes['kind'], mode: number, as: Identity): Inode {
    const { s, ns } = timestamp(this.environment);
    const inode: Inode = {
      inode: this.#nextInode++,
      volume: 1,
      kind,
      mode,
      uid: as.uid,
      gid: as.gid,
      sizeBytes: 0,
      allocatedBytes: 0,
      nlink: 1,
      rdev: 0,
      atimeS: s,
      atimeNs: ns,
      mtimeS: s,
      mtimeNs: ns,
      ctimeS: s,
      ctimeNs: ns,
      change: 1,
      dataVersion: 1,
      hasXattrs: false,
      pages: new Map(),
      xattrs: new Map(),
      openCount: 0,
      ...(kind === 'directory' ? { entries: new Map() } : {}),
    };
    this.#inodes.set(inode.inode, inode);
    return inode;
  }

  #inode(id: InodeId): Inode {
    return this.#inodes.get(id) ?? fail('ESTALE');
  }
  #directory(id: InodeId): Inode & { entries: Map<string, Inode> } {
    const inode = this.#inode(id);
    if (!inode.entries) fail('ENOTDIR');
    return inode as Inode & { entries: Map<string, Inode> };
  }
  #checkName(name: string): void {
    if (Buffer.byteLength(name) > MAX_NAME_BYTES) fail('ENAMETOOLONG');
    if (name === '' || name.includes('/') || name.includes('\0')) fail('EINVAL');
  }
  #changed(inode: Inode, data = false): void {
    const { s, ns } = timestamp(this.environment);
    inode.ctimeS = s;
    inode.ctimeNs = ns;
    inode.change++;
    if (data) {
      inode.mtimeS = s;
      inode.mtimeNs = ns;
      inode.dataVersion++;
    }
  }
  #attributes(inode: Inode): InodeAttributes {
    const { entries: _e, parent: _p, pages, xattrs, openCount: _o, ...attributes } = inode;
    return { ...attributes, allocatedBytes: pages.size * PAGE_BYTES, hasXattrs: xattrs.size > 0 };
  }
  #dropIfUnused(inode: Inode): void {
    if (inode.nlink === 0 && inode.openCount === 0) this.#inodes.delete(inode.inode);
  }
  #addEntry(directory: Inode & { entries: Map<string, Inode> }, name: string, inode: Inode): void {
    directory.entries.set(name, inode);
    if (inode.kind === 'directory') {
      directory.nlink++;
      inode.parent = directory;
    }
    this.#changed(directory, true);
  }
  #removeEntry(directory: Inode & { entries: Map<string, Inode> }, name: string, inode: Inode): void {
    directory.entries.delete(name);
    if (inode.kind === 'directory') directory.nlink--;
    this.#changed(directory, true);
  }
  #unlinked(inode: Inode): void {
    inode.nlink = inode.kind === 'directory' ? 0 : inode.nlink - 1;
    this.#changed(inode);
    this.#dropIfUnused(inode);
  }

  #makeTree(root: InodeId): FileTree {
    const now = (change: TimeChange): { s: number; ns: number } => (change === 'now' ? timestamp(this.environment) : change);
    const tree: FileTree = {
      root,
      lookup: async (parent, name) => {
        this.#checkName(name);
        const found = this.#directory(parent).entries.get(name);
        return found ? this.#attributes(found) : null;
      },
      resolve: async (path) => {
        let inode = this.#inode(root);
        for (const name of path.split('/').filter((part) => part !== '')) {
          inode = this.#directory(inode.inode).entries.get(name) ?? fail('ENOENT');
        }
        return this.#attributes(inode);
      },
      getAttributes: async (id) => this.#attributes(this.#inode(id)),
      readDirectory: async (id, after, limit) => {
        const names = [...this.#directory(id).entries.keys()].sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
        const rest = names.filter((name) => Buffer.compare(Buffer.from(name), Buffer.from(after)) > 0);
        const entries: DirectoryEntry[] = rest
          .slice(0, limit)
          .map((name) => ({ name, attributes: this.#attributes(this.#directory(id).entries.get(name)!) }));
        return { entries, isLast: rest.length <= limit };
      },
      create: async (request) => this.#create(request),
      link: async (id, parentId, name) => {
        this.#checkName(name);
        const inode = this.#inode(id);
        const parent = this.#directory(parentId);
        if (parent.nlink === 0) fail('ENOENT');
        if (inode.kind === 'directory') fail('EPERM');
        if (inode.nlink === 0) fail('ENOENT');
        if (inode.nlink >= MAX_LINKS) fail('EMLINK');
        if (parent.entries.has(name)) fail('EEXIST');
        inode.nlink++;
        this.#changed(inode);
        this.#addEntry(parent, name, inode);
        return this.#attributes(inode);
      },
      unlink: async (parentId, name) => {
        const parent = this.#directory(parentId);
        const inode = parent.entries.get(name) ?? fail('ENOENT');
        if (inode.kind === 'directory') fail('EISDIR');
        this.#removeEntry(parent, name, inode);
        this.#unlinked(inode);
      },
      removeDirectory: async (parentId, name) => {
        const parent = this.#directory(parentId);
        const inode = parent.entries.get(name) ?? fail('ENOENT');
        if (!inode.entries) fail('ENOTDIR');
        if (inode.entries!.size > 0) fail('ENOTEMPTY');
        this.#removeEntry(parent, name, inode);
        this.#unlinked(inode);
      },
      rename: async (from, to, how) => this.#rename(from, to, how),
      setAttributes: async (id, change) => {
        const inode = this.#inode(id);
        if (change.mode !== undefined) inode.mode = change.mode;
        if (change.uid !== undefined) inode.uid = change.uid;
        if (change.gid !== undefined) inode.gid = change.gid;
        if (change.clearSetId) inode.mode &= ~(0o4000 | (inode.mode & 0o010 ? 0o2000 : 0));
        this.#changed(inode);
        if (change.atime !== undefined) ({ s: inode.atimeS, ns: inode.atimeNs } = now(change.atime));
        if (change.mtime !== undefined) ({ s: inode.mtimeS, ns: inode.mtimeNs } = now(change.mtime));
        return this.#attributes(inode);
      },
      truncate: async (id, sizeBytes) => {
        this.#truncate(this.#inode(id), sizeBytes);
        return this.#attributes(this.#inode(id));
      },
      listXattrs: async (id) => [...this.#inode(id).xattrs.keys()],
      getXattr: async (id, name) => this.#inode(id).xattrs.get(name) ?? fail('ENODATA'),
      setXattr: async (id, name, value, how) => {
        const inode = this.#inode(id);
        if (how === 'create' && inode.xattrs.has(name)) fail('EEXIST');
        if (how === 'replace' && !inode.xattrs.has(name)) fail('ENODATA');
        inode.xattrs.set(name, Buffer.from(value));
        this.#changed(inode);
      },
      removeXattr: async (id, name) => {
        if (!this.#inode(id).xattrs.delete(name)) fail('ENODATA');
        this.#changed(this.#inode(id));
      },
    };
    return tree;
  }

  #create(request: CreateRequest): { attributes: InodeAttributes; isNew: boolean } {
    this.#checkName(request.name);
    const parent = this.#directory(request.parent);
    if (parent.nlink === 0) fail('ENOENT');
    const existing = parent.entries.get(request.name);
    if (existing) {
      if (request.exclusive) fail('EEXIST');
      return { attributes: this.#attributes(existing), isNew: false };
    }
    const inheritsGroup = (parent.mode & 0o2000) !== 0;
    const isDirectory = request.kind === 'directory';
    const inode = this.#newInode(request.kind, request.mode | (inheritsGroup && isDirectory ? 0o2000 : 0), {
      uid: request.as.uid,
      gid: inheritsGroup ? parent.gid : request.as.gid,
    });
    if (isDirectory) inode.nlink = 2;
    if (request.rdev !== undefined) inode.rdev = request.rdev;
    if (request.target !== undefined) {
      inode.target = request.target;
      inode.sizeBytes = Buffer.byteLength(request.target);
    }
    this.#addEntry(parent, request.name, inode);
    return { attributes: this.#attributes(inode), isNew: true };
  }

  #rename(from: { parent: InodeId; name: string }, to: { parent: InodeId; name: string }, how: 'replace' | 'noreplace' | 'exchange'): void {
    this.#checkName(to.name);
    const fromParent = this.#directory(from.parent);
    const toParent = this.#directory(to.parent);
    const moved = fromParent.entries.get(from.name) ?? fail('ENOENT');
    const replaced = toParent.entries.get(to.name);
    if (how === 'noreplace' && replaced) fail('EEXIST');
    if (how === 'exchange' && !replaced) fail('ENOENT');
    const isAbove = (inode: Inode, of: Inode): boolean => {
      for (let at = of; ; at = at.parent!) {
        if (at === inode) return true;
        if (at.parent === at || !at.parent) return false;
      }
    };
    if (moved.kind === 'directory' && isAbove(moved, toParent)) fail('EINVAL');
    if (how === 'exchange') {
      if (replaced!.kind === 'directory' && isAbove(replaced!, fromParent)) fail('EINVAL');
      this.#removeEntry(fromParent, from.name, moved);
      this.#removeEntry(toParent, to.name, replaced!);
      this.#addEntry(toParent, to.name, moved);
      this.#addEntry(fromParent, from.name, replaced!);
      this.#changed(moved);
      this.#changed(replaced!);
      return;
    }
    if (moved === replaced) return;
    if (replaced) {
      if (moved.kind === 'directory' && replaced.kind !== 'directory') fail('ENOTDIR');
      if (moved.kind !== 'directory' && replaced.kind === 'directory') fail('EISDIR');
      if (replaced.entries && replaced.entries.size > 0) fail('ENOTEMPTY');
      this.#removeEntry(toParent, to.name, replaced);
      this.#unlinked(replaced);
    }
    this.#removeEntry(fromParent, from.name, moved);
    this.#addEntry(toParent, to.name, moved);
    this.#changed(moved);
  }

  #truncate(inode: Inode, sizeBytes: number): void {
    if (inode.kind === 'directory') fail('EISDIR');
    if (sizeBytes > MAX_FILE_SIZE_BYTES) fail('EFBIG');
    if (sizeBytes < inode.sizeBytes) this.#clear(inode, sizeBytes, inode.sizeBytes - sizeBytes);
    inode.sizeBytes = sizeBytes;
    this.#changed(inode, true);
  }
  /** Zeros a range; whole pages become holes. */
  #clear(inode: Inode, offset: number, length: number): void {
    const end = offset + length;
    for (const [page, bytes] of [...inode.pages]) {
      const at = page * PAGE_BYTES;
      if (at + PAGE_BYTES <= offset || at >= end) continue;
      if (at >= offset && at + PAGE_BYTES <= end) inode.pages.delete(page);
      else bytes.fill(0, Math.max(0, offset - at), Math.min(PAGE_BYTES, end - at));
    }
  }
  #write(inode: Inode, offset: number, data: Buffer): void {
    for (let done = 0; done < data.length; ) {
      const page = Math.floor((offset + done) / PAGE_BYTES);
      const within = (offset + done) % PAGE_BYTES;
      let bytes = inode.pages.get(page);
      if (!bytes) {
        bytes = Buffer.alloc(PAGE_BYTES);
        inode.pages.set(page, bytes);
      }
      done += data.copy(bytes, within, done, Math.min(data.length, done + PAGE_BYTES - within));
    }
    inode.sizeBytes = Math.max(inode.sizeBytes, offset + data.length);
    this.#changed(inode, true);
  }
  #read(inode: Inode, offset: number, length: number): Buffer {
    const out = Buffer.alloc(Math.max(0, Math.min(length, inode.sizeBytes - offset)));
    for (let done = 0; done < out.length; ) {
      const within = (offset + done) % PAGE_BYTES;
      const part = Math.min(PAGE_BYTES - within, out.length - done);
      inode.pages.get(Math.floor((offset + done) / PAGE_BYTES))?.copy(out, done, within, within + part);
      done += part;
    }
    return out;
  }
  #seek(inode: Inode, offset: number, whence: 'data' | 'hole'): number {
    if (offset >= inode.sizeBytes) fail('ENXIO');
    const pages = [...inode.pages.keys()].sort((a, b) => a - b);
    const first = Math.floor(offset / PAGE_BYTES);
    if (whence === 'data') {
      const page = pages.find((one) => one >= first) ?? fail('ENXIO');
      const at = Math.max(offset, page * PAGE_BYTES);
      return at < inode.sizeBytes ? at : fail('ENXIO');
    }
    let page = first;
    while (inode.pages.has(page)) page++;
    return Math.min(inode.sizeBytes, Math.max(offset, page * PAGE_BYTES));
  }

  async open(id: InodeId): Promise<FileHandle> {
    const inode = this.#inode(id);
    inode.openCount++;
    const fileOf = (handle: FileHandle) => this.#inode(handle.inode);
    return {
      inode: id,
      read: async (offset, length) => this.#read(inode, offset, length),
      write: async (offset, data, options) => {
        const at = options?.append ? inode.sizeBytes : offset;
        this.#write(inode, at, data);
        return at;
      },
      attributes: async () => this.#attributes(inode),
      flush: async () => {},
      sync: async () => {},
      truncate: async (sizeBytes) => this.#truncate(inode, sizeBytes),
      punch: async (offset, length, keepSize) => {
        this.#clear(inode, offset, length);
        if (!keepSize) inode.sizeBytes = Math.max(inode.sizeBytes, offset + length);
        this.#changed(inode, true);
      },
      allocate: async (offset, length, keepSize) => {
        if (!keepSize) inode.sizeBytes = Math.max(inode.sizeBytes, offset + length);
        this.#changed(inode, true);
      },
      seek: async (offset, whence) => this.#seek(inode, offset, whence),
      copyRange: async (offset, to, toOffset, length) => {
        const target = fileOf(to);
        if (target === inode && offset < toOffset + length && toOffset < offset + length) fail('EINVAL');
        const data = this.#read(inode, offset, Math.min(length, 16 * 1024 * 1024));
        this.#write(target, toOffset, data);
        return data.length;
      },
      release: async () => {
        inode.openCount--;
        this.#dropIfUnused(inode);
      },
    };
  }

  async statVolume(): Promise<{ totalBytes: number; freeBytes: number; files: number; filesFree: number }> {
    const used = [...this.#inodes.values()].reduce((sum, inode) => sum + inode.pages.size * PAGE_BYTES, 0);
    return { totalBytes: 2 ** 40, freeBytes: 2 ** 40 - used, files: this.#inodes.size, filesFree: 2 ** 32 };
  }
  async flushAll(): Promise<{ failed: [] }> {
    return { failed: [] };
  }
  async syncTree(): Promise<void> {}
  onChanged(): void {}
  onConnection(): void {}
  async close(): Promise<void> {}
}

interface HeldLock {
  readonly owner: string;
  readonly pid: number;
  readonly kind: 'read' | 'write';
  readonly start: number;
  readonly end: number;
}

class MemoryLocks implements Locks {
  readonly #held = new Map<string, HeldLock[]>();
  #waiting: (() => void)[] = [];

  #list(inode: InodeId, family: string): HeldLock[] {
    const key = `${family} ${inode}`;
    let list = this.#held.get(key);
    if (!list) {
      list = [];
      this.#held.set(key, list);
    }
    return list;
  }
  #conflict(inode: InodeId, request: LockRequest): HeldLock | undefined {
    if (request.kind === 'unlock') return undefined;
    const [start, end] = rangeOf(request);
    return this.#list(inode, request.family).find(
      (one) => one.owner !== request.owner && one.start < end && start < one.end && (one.kind === 'write' || request.kind === 'write'),
    );
  }

  async lock(inode: InodeId, request: LockRequest, options: { wait: boolean; signal?: AbortSignal }): Promise<void> {
    while (this.#conflict(inode, request)) {
      if (!options.wait) fail('EAGAIN');
      if (options.signal?.aborted) fail('EINTR');
      await new Promise<void>((resolve) => {
        this.#waiting.push(resolve);
        options.signal?.addEventListener('abort', () => resolve(), { once: true });
      });
      if (options.signal?.aborted) fail('EINTR');
    }
    const [start, end] = rangeOf(request);
    const list = this.#list(inode, request.family);
    const kept = list.flatMap((one) => {
      if (one.owner !== request.owner || one.end <= start || one.start >= end) return [one];
      const pieces: HeldLock[] = [];
      if (one.start < start) pieces.push({ ...one, end: start });
      if (one.end > end) pieces.push({ ...one, start: end });
      return pieces;
    });
    if (request.kind !== 'unlock') kept.push({ owner: request.owner, pid: request.pid, kind: request.kind, start, end });
    list.splice(0, list.length, ...kept);
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const wake of waiting) wake();
  }
  async test(inode: InodeId, request: LockRequest): Promise<(LockRequest & { pid: number }) | null> {
    const found = this.#conflict(inode, request);
    if (!found) return null;
    const length = found.end === Number.POSITIVE_INFINITY ? 0 : found.end - found.start;
    return { family: request.family, owner: found.owner, pid: found.pid, kind: found.kind, start: found.start, length };
  }
  async drop(inode: InodeId, family: 'flock' | 'posix', owner: string): Promise<void> {
    await this.lock(inode, { family, owner, pid: 0, kind: 'unlock', start: 0, length: 0 }, { wait: false });
  }
}

const rangeOf = ({ start, length }: LockRequest): [number, number] => [start, length === 0 ? Number.POSITIVE_INFINITY : start + length];
