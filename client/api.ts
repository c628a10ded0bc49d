/**
 * The cluster as a library: what mount, command line and TUI use. `connect` in index.ts gives a Cluster.
 *
 * Every method rejects with HoldfastError (protocol/errors.ts). While the coordinator is away calls wait up to `outageTimeoutMs`
 * (30 s by default, without end when `hard`) and then reject with EIO-class errors; nothing waits without a deadline otherwise.
 */
import type { InodeAttributes, InodeId, InodeKind, NodeContact, VolumeSettings } from '../protocol/entities.js';
import type { PeerTls } from '../protocol/tls.js';

export interface Identity {
  readonly uid: number;
  readonly gid: number;
}
/** What opens an encrypted volume: one of the two. */
export interface Unlock {
  readonly passphrase?: string;
  /** Content of a key file. */
  readonly keyFile?: Buffer;
}
export interface ConnectOptions {
  /** http://host:port of the coordinator. */
  readonly coordinatorUrl: string;
  readonly token: string;
  readonly volume?: string;
  /** Path of a directory of the volume that is to be the root: nothing above it can be reached. It goes with the directory when that is moved. */
  readonly subdirectory?: string;
  /** For people: shown in sessions and events. */
  readonly description: string;
  /** How long calls wait for an absent coordinator; 30 s by default. */
  readonly outageTimeoutMs?: number;
  /** Wait for ever instead. */
  readonly hard?: boolean;
  /** Bytes of written data that may be in memory, not yet at nodes; 64 MiB by default. A writer that is faster waits. */
  readonly dirtyBudgetBytes?: number;
  /** Bytes of verified leaves kept for reading; 256 MiB by default. */
  readonly cacheBudgetBytes?: number;
  /** Before a chunk of this size or a larger one is sent, the cluster is asked whether it has it; 256 KiB by default, as a question costs a round trip. */
  readonly deduplicateFromBytes?: number;
  /** For https URLs. */
  readonly tls?: PeerTls;
  /** Opens an encrypted volume; refused when the volume is not encrypted, so that nobody writes in the clear who meant not to. */
  readonly unlock?: Unlock;
  /** Without `unlock` an encrypted volume may be entered all the same: names, sizes and deleting work, file content does not. */
  readonly namesOnly?: boolean;
}
export interface DirectoryEntry {
  readonly name: string;
  readonly attributes: InodeAttributes;
}
export interface CreateRequest {
  readonly parent: InodeId;
  readonly name: string;
  readonly kind: InodeKind;
  /** Permission bits with the umask applied. */
  readonly mode: number;
  readonly as: Identity;
  /** Fail with EEXIST when the name is there. */
  readonly exclusive: boolean;
  readonly rdev?: number;
  /** Symlinks only. */
  readonly target?: string;
}
export type TimeChange = { readonly s: number; readonly ns: number } | 'now';

/** File tree by inode. Answers come from the cache while the lease holds. */
export interface FileTree {
  readonly root: InodeId;
  /** null when the name is not there. Sizes and times include what open files of this client have not committed yet. */
  lookup(parent: InodeId, name: string): Promise<InodeAttributes | null>;
  /** Follows no symlinks. Components joined by "/", leading one optional. @throws ENOENT, ENOTDIR, ENAMETOOLONG */
  resolve(path: string): Promise<InodeAttributes>;
  getAttributes(inode: InodeId): Promise<InodeAttributes>;
  /** One page of entries after name `after` ('' starts), in byte order of names. */
  readDirectory(inode: InodeId, after: string, limit: number): Promise<{ entries: DirectoryEntry[]; isLast: boolean }>;
  create(request: CreateRequest): Promise<{ attributes: InodeAttributes; isNew: boolean }>;
  link(inode: InodeId, parent: InodeId, name: string): Promise<InodeAttributes>;
  /** When the inode is open in this client it lives on as an orphan until the last handle is released. */
  unlink(parent: InodeId, name: string, as: Identity): Promise<void>;
  removeDirectory(parent: InodeId, name: string, as: Identity): Promise<void>;
  rename(
    from: { parent: InodeId; name: string },
    to: { parent: InodeId; name: string },
    how: 'replace' | 'noreplace' | 'exchange',
    as: Identity,
  ): Promise<void>;
  setAttributes(
    inode: InodeId,
    change: { mode?: number; uid?: number; gid?: number; atime?: TimeChange; mtime?: TimeChange; clearSetId?: boolean },
  ): Promise<InodeAttributes>;
  truncate(inode: InodeId, sizeBytes: number): Promise<InodeAttributes>;
  listXattrs(inode: InodeId): Promise<string[]>;
  getXattr(inode: InodeId, name: string): Promise<Buffer>;
  setXattr(inode: InodeId, name: string, value: Buffer, how: 'any' | 'create' | 'replace'): Promise<void>;
  removeXattr(inode: InodeId, name: string): Promise<void>;
}

/** One open file. All handles of one inode in this client share the same dirty data, so what one writes the others read at once. */
export interface FileHandle {
  readonly inode: InodeId;
  /** Short at the end of the file; holes are zeros. Bytes are verified. */
  read(offset: number, length: number): Promise<Buffer>;
  /**
   * Takes the bytes (a copy; those that are `isGiven` may be kept themselves: nobody changes that memory any more) and returns when they are within
   * the dirty budget. `append`: at the end of the file as this client knows it, and moved further if others append at the same time. Returns the
   * offset.
   */
  write(offset: number, data: Buffer, options?: { append?: boolean; isGiven?: boolean }): Promise<number>;
  /** Attributes with uncommitted size and mtime. */
  attributes(): Promise<InodeAttributes>;
  /** Everything written so far is at enough nodes and committed (P2). Rejects once for each failed write-back, sticky per handle until reported. */
  flush(): Promise<void>;
  /** As flush, and on stable storage at nodes, coordinator and metadata copies (P1). */
  sync(): Promise<void>;
  truncate(sizeBytes: number): Promise<void>;
  punch(offset: number, length: number, keepSize: boolean): Promise<void>;
  /** keepSize as in fallocate(2) mode 0 or KEEP_SIZE. @throws ENOSPC when the cluster has not that much room */
  allocate(offset: number, length: number, keepSize: boolean): Promise<void>;
  /** SEEK_DATA / SEEK_HOLE. @throws ENXIO beyond the end */
  seek(offset: number, whence: 'data' | 'hole'): Promise<number>;
  /** Extents, not bytes; both handles' dirty data is committed first. Returns bytes copied. */
  copyRange(offset: number, to: FileHandle, toOffset: number, length: number): Promise<number>;
  /** Flushes in the background if needed; errors were the business of flush. Releases an orphan with its last handle. */
  release(): Promise<void>;
}

export interface LockRequest {
  readonly family: 'flock' | 'posix';
  readonly owner: string;
  readonly pid: number;
  readonly kind: 'read' | 'write' | 'unlock';
  readonly start: number;
  /** 0 = to the end. */
  readonly length: number;
}
export interface Locks {
  /** `wait`: until granted or `signal` aborts (EINTR). Otherwise EAGAIN. Getting a lock drops the inode's caches, so what the last holder wrote is seen. */
  lock(inode: InodeId, request: LockRequest, options: { wait: boolean; signal?: AbortSignal }): Promise<void>;
  test(inode: InodeId, request: LockRequest): Promise<(LockRequest & { pid: number }) | null>;
  drop(inode: InodeId, family: 'flock' | 'posix', owner: string): Promise<void>;
}

export interface Cluster {
  readonly tree: FileTree;
  readonly locks: Locks;
  readonly volume: VolumeSettings;
  readonly access: 'read' | 'write' | 'admin';
  readonly nodes: readonly NodeContact[];
  /** Bytes of chunks sent to nodes so far, each chunk counted once: what the cluster had already is not among them. */
  readonly sentBytes: number;
  /** Opens by inode. Needs no call to the coordinator when the inode is cached. */
  open(inode: InodeId): Promise<FileHandle>;
  statVolume(): Promise<{ totalBytes: number; freeBytes: number; files: number; filesFree: number }>;
  /** Every dirty file flushed; with `durable` also synced. Names what could not be saved. */
  flushAll(options: { durable: boolean; timeoutMs?: number }): Promise<{ failed: { inode: InodeId; error: Error }[] }>;
  /** Namespace calls acknowledged so far are on stable storage (fsync of a directory). */
  syncTree(): Promise<void>;
  /** Called when somebody else changed an inode or a directory's entry (so that a mount may tell the kernel). */
  onChanged(listener: (change: { inode: InodeId; names?: readonly string[] }) => void | Promise<void>): void;
  /** How long answers given now may be kept by somebody who hears of changes (`onChanged`): for longer nobody would ask before changing what they say. */
  readonly mayBeKeptMs: number;
  /** Called when the coordinator is lost or back. */
  onConnection(listener: (isConnected: boolean, reason: string) => void): void;
  /** Flushes, ends the session, closes connections. */
  close(): Promise<void>;
}
