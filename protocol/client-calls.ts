/**
 * What clients ask of the coordinator (namespace /client) and what the coordinator says to clients.
 *
 * Every reply that names an inode carries its attributes as of the reply, and registers the caller's interest in that inode: from then on the
 * coordinator recalls it (call `recall`) BEFORE a change by somebody else is acknowledged to that somebody. A client may therefore answer from
 * its cache for as long as its lease holds (renewed by `renew`), and must drop everything cached when the lease lapses or the connection is new.
 * "Interest in a directory" covers its attributes and all of its entries, present and absent.
 * A recall that arrives while a call is in flight also voids what that call's reply will say of the recalled inodes: use it, do not cache it.
 *
 * Request numbers of changes begin at 1 in every session and grow by one. A welcome with `resumed` false means a new session: changes sent before and
 * never answered may or may not have been applied, and numbering begins again (old numbers get SESSION_LOST).
 */
import { z } from 'zod';
import { change, query } from './call.js';
import { isChunkId } from './chunk.js';
import type { ChunkId, ChunkLocation, Entry, Extent, InodeAttributes, InodeId, NodeContact, VolumeSettings } from './entities.js';
import { MAX_EXTENTS_PER_COMMIT, MAX_FILE_SIZE_BYTES, MAX_IDS_PER_CALL, MAX_XATTR_NAME_BYTES, PROTOCOL_VERSION } from './limits.js';

export const inodeId = z.number().int().positive().max(Number.MAX_SAFE_INTEGER);
export const chunkId = z.custom<ChunkId>(isChunkId, 'not a chunk id');
/** Length in bytes, NUL, "/" , "." and ".." are judged by the file tree, which has the right errno for each. */
export const entryName = z.string().max(1024);
const offset = z.number().int().min(0).max(MAX_FILE_SIZE_BYTES);
const nanoseconds = z.number().int().min(0).max(999_999_999);
const time = z.object({ s: z.number().int(), ns: nanoseconds });
const owner = z.object({ uid: z.number().int().min(0).max(0xffffffff), gid: z.number().int().min(0).max(0xffffffff) });
const mode = z.number().int().min(0).max(0o7777);
const kind = z.enum(['file', 'directory', 'symlink', 'fifo', 'socket', 'char', 'block']);
/** Seconds and nanoseconds, or 'now' for the coordinator's clock; absent means unchanged. */
const timeChange = z.union([time, z.literal('now')]).optional();

export const extent = z.object({
  offset,
  length: z.number().int().positive().max(MAX_FILE_SIZE_BYTES),
  chunk: chunkId,
  chunkOffset: z.number().int().min(0),
});

/** Sent in the handshake (Socket.IO `auth`). */
export const clientHandshake = z.object({
  protocol: z.literal(PROTOCOL_VERSION, `this coordinator speaks protocol ${PROTOCOL_VERSION}`),
  token: z.string().max(512),
  /** 64 hex digits made by the client at its start and kept for its life; the client id is derived from it (see clientIdOf). */
  clientSecret: z.string().regex(/^[0-9a-f]{64}$/),
  /** For people: "mount /root/holdfast pid 123". */
  description: z.string().max(256),
  /** Volume to work in. */
  volume: z.string().max(64).optional(),
});

export interface Welcome {
  readonly cluster: string;
  readonly epoch: number;
  readonly client: string;
  /** False when the coordinator knew no session of this client (first connect, or forgotten): nothing cached or locked before counts. */
  readonly resumed: boolean;
  /**
   * Highest number of a change of this session that was applied (0 = none). Lower than one the client has an acknowledgement for: the coordinator
   * lost power and with it changes that were acknowledged but not yet on stable storage.
   */
  readonly lastRequest?: number;
  readonly volume: VolumeSettings;
  readonly access: 'read' | 'write' | 'admin';
  readonly user: string;
  readonly nodes: readonly NodeContact[];
  /** Opaque, for nodes; see permit.ts. Renewed by `renew`. */
  readonly permit: string;
}

export interface LockRange {
  readonly kind: 'read' | 'write' | 'unlock';
  /** Inclusive start, length 0 = to the end. */
  readonly start: number;
  readonly length: number;
}
const lockRequest = z.object({
  inode: inodeId,
  /** 'flock' locks whole files by handle; 'posix' are byte ranges by owner. */
  family: z.enum(['flock', 'posix']),
  /** The kernel's lock owner, unique within the client. */
  owner: z.string().max(64),
  pid: z.number().int(),
  kind: z.enum(['read', 'write', 'unlock']),
  start: offset,
  length: z.number().int().min(0),
});

export interface ExtentsPage {
  readonly attributes: InodeAttributes;
  /** In order of offset, not overlapping, from `fromOffset` on. */
  readonly extents: readonly Extent[];
  readonly locations: readonly ChunkLocation[];
  /** Offset to ask for next; null when this page reaches the end. */
  readonly nextOffset: number | null;
}
export interface Created {
  readonly attributes: InodeAttributes;
  /** The directory after the change. */
  readonly parent: InodeAttributes;
  /** False only for create without `exclusive` when the name was there. */
  readonly isNew: boolean;
}

export const clientCalls = {
  /** First call on every connection. */
  hello: query<Welcome>()(z.object({})),
  /** Every LEASE_RENEW_INTERVAL_MS. Returns a fresh permit and nothing else that changes. */
  renew: query<{ permit: string; generation: number }>()(z.object({})),

  // File tree. `as` is the caller's identity: owner of what it creates.
  /** One name. attributes null = the name is not there (which the caller may cache, too). */
  lookup: query<{ parent: InodeAttributes; attributes: InodeAttributes | null }>()(z.object({ parent: inodeId, name: entryName })),
  /** @throws ENOENT when the inode is gone (ESTALE for an inode that existed) */
  getAttributes: query<{ attributes: InodeAttributes }>()(z.object({ inode: inodeId })),
  /** Entries after name `after` in byte order of names, with attributes of each child. `after` '' starts. */
  readDirectory: query<{ directory: InodeAttributes; entries: Entry[]; attributes: InodeAttributes[]; isLast: boolean }>()(
    z.object({ inode: inodeId, after: entryName, limit: z.number().int().min(1) }),
  ),
  /** mode already has the umask applied. A set-group-id directory gives its group (and directories the bit). */
  create: change<Created>()(
    z.object({
      parent: inodeId,
      name: entryName,
      kind,
      mode,
      as: owner,
      exclusive: z.boolean(),
      rdev: z.number().int().min(0).optional(),
      target: z.string().optional(),
    }),
  ),
  link: change<Created>()(z.object({ inode: inodeId, parent: inodeId, name: entryName })),
  /**
   * Removes a name. When it was the last one, the inode lives on as an orphan while any session holds it open: the caller says so by
   * `keepOpen`, others by their answer to the recall. `expected`, when given, makes the call fail with ESTALE if the name leads elsewhere by now.
   */
  unlink: change<{ parent: InodeAttributes; attributes: InodeAttributes | null }>()(
    z.object({ parent: inodeId, name: entryName, keepOpen: z.boolean(), expected: inodeId.optional(), as: owner.optional() }),
  ),
  removeDirectory: change<{ parent: InodeAttributes }>()(z.object({ parent: inodeId, name: entryName, as: owner.optional() })),
  rename: change<{ from: InodeAttributes; to: InodeAttributes; moved: InodeAttributes; replaced: InodeAttributes | null }>()(
    z.object({
      fromParent: inodeId,
      fromName: entryName,
      toParent: inodeId,
      toName: entryName,
      how: z.enum(['replace', 'noreplace', 'exchange']),
      keepReplacedOpen: z.boolean(),
      as: owner.optional(),
    }),
  ),
  /** chmod, chown, utimens. `clearSetId` clears setuid/setgid as chown and write by a non-owner must. */
  setAttributes: change<{ attributes: InodeAttributes }>()(
    z.object({
      inode: inodeId,
      mode: mode.optional(),
      uid: z.number().int().min(0).max(0xffffffff).optional(),
      gid: z.number().int().min(0).max(0xffffffff).optional(),
      atime: timeChange,
      mtime: timeChange,
      clearSetId: z.boolean().optional(),
    }),
  ),
  listXattrs: query<{ names: string[] }>()(z.object({ inode: inodeId })),
  getXattr: query<{ value: Buffer }>()(z.object({ inode: inodeId, name: z.string().max(MAX_XATTR_NAME_BYTES) })),
  setXattr: change<{ attributes: InodeAttributes }>()(
    z.object({
      inode: inodeId,
      name: z.string().min(1).max(1024),
      value: z.instanceof(Uint8Array),
      how: z.enum(['any', 'create', 'replace']),
    }),
  ),
  removeXattr: change<{ attributes: InodeAttributes }>()(z.object({ inode: inodeId, name: z.string().min(1).max(1024) })),
  /** The sessions that hold it no longer want these orphans. */
  releaseOrphans: change<Record<string, never>>()(z.object({ inodes: z.array(inodeId).max(MAX_IDS_PER_CALL) })),

  // File data.
  getExtents: query<ExtentsPage>()(z.object({ inode: inodeId, fromOffset: offset, limit: z.number().int().min(1) })),
  /** Which of these chunks the volume has already with enough copies. The caller's session pins the answered ones until its next commit or for a minute. */
  have: query<{ present: ChunkLocation[] }>()(z.object({ chunks: z.array(chunkId).max(MAX_IDS_PER_CALL) })),
  /**
   * Puts uploaded bytes into a file: extents overlay what was there. All or nothing.
   * `appendBase`: the offsets are those of an O_APPEND write and count from here; none may be lower. All extents (and sizeBytes) are moved, up
   * or down, so that this offset comes to the end of the file as it is now: appends never overwrite each other, and never leave a gap.
   * `shiftedBy` tells by how much.
   * `sizeBytes`: the file is at least that long afterwards. `clearSetId` as in setAttributes. mtime absent = now.
   * `durable`: the reply waits until the commit is on stable storage, as `sync` would (the caller has made the chunks stable before).
   * @throws UPLOAD_AGAIN facts.chunks: neither a valid receipt nor a living chunk; ENOSPC, EDQUOT, EFBIG, ESTALE
   */
  commit: change<{ attributes: InodeAttributes; shiftedBy: number; recentChunks?: ChunkLocation[] }>()(
    z.object({
      inode: inodeId,
      extents: z.array(extent).max(MAX_EXTENTS_PER_COMMIT),
      receipts: z.array(z.string().max(1024)).max(MAX_EXTENTS_PER_COMMIT * 4),
      holes: z
        .array(z.object({ offset, length: z.number().int().positive() }))
        .max(MAX_EXTENTS_PER_COMMIT)
        .optional(),
      sizeBytes: offset,
      appendBase: offset.optional(),
      mtime: timeChange,
      clearSetId: z.boolean().optional(),
      durable: z.boolean().optional(),
    }),
  ),
  /** Cuts or extends (with a hole). */
  truncate: change<{ attributes: InodeAttributes }>()(z.object({ inode: inodeId, sizeBytes: offset, clearSetId: z.boolean().optional() })),
  /** Removes extents in a range; with `keepSize` false the file grows to the range's end if shorter. (fallocate: punch hole, zero range, allocate.) */
  punch: change<{ attributes: InodeAttributes }>()(
    z.object({ inode: inodeId, offset, length: z.number().int().min(0), keepSize: z.boolean() }),
  ),
  /** Copies extents, not bytes. Ranges of one file must not overlap. Returns what was copied (short at the source's end). */
  copyRange: change<{ attributes: InodeAttributes; copiedBytes: number }>()(
    z.object({ from: inodeId, fromOffset: offset, to: inodeId, toOffset: offset, length: offset }),
  ),
  /**
   * Everything acknowledged to this client so far is on stable storage (and in the metadata copies) when this returns; for `inode`, the chunks
   * committed lately (`ofOthers`: by other clients) are named so that the caller can make nodes sync them.
   */
  sync: query<{ recentChunks: ChunkLocation[]; metadataCopies: number }>()(
    z.object({ inode: inodeId.optional(), ofOthers: z.boolean().optional() }),
  ),

  // Locks.
  /** Never waits: EAGAIN when somebody else holds it. */
  lock: change<Record<string, never>>()(lockRequest),
  testLock: query<{ conflict: (LockRange & { pid: number }) | null }>()(lockRequest),
  /** Drops every lock of an owner (close, or the owner's end). */
  dropLocks: change<Record<string, never>>()(z.object({ inode: inodeId, family: z.enum(['flock', 'posix']), owner: z.string().max(64) })),

  // The rest.
  /** Clean end of a session: its locks and what it held open are given up at once, not when the session times out. Nothing is said after it. */
  leave: query<Record<string, never>>()(z.object({})),
  statVolume: query<{ totalBytes: number; freeBytes: number; files: number; filesFree: number }>()(z.object({})),
  /**
   * Which copies of a chunk turned out bad or unreachable to a reader: the coordinator has the node check it. `stray`: an upload to that node was
   * given up without an answer, so it may hold a replica that nobody knows.
   */
  reportReplica: query<Record<string, never>>()(
    z.object({ chunk: chunkId, node: z.number().int(), problem: z.enum(['corrupt', 'missing', 'unreachable', 'slow', 'stray']) }),
  ),
};
export type ClientCalls = typeof clientCalls;

/** What the coordinator asks of clients. */
export const clientServes = {
  /**
   * Forget what is cached of these inodes (attributes, extents, and for directories the named entries, or all when `names` is absent), then
   * acknowledge. `unlinked` marks inodes that lost their last name: the answer lists those the client holds open; they stay until it calls releaseOrphans.
   */
  recall: query<{ holding: InodeId[] }>()(
    z.object({ inodes: z.array(z.object({ inode: inodeId, names: z.array(z.string()).optional(), isUnlinked: z.boolean().optional() })) }),
  ),
};
export type ClientServes = typeof clientServes;

/** Pushes (no answer): topic → data. */
export interface ClientPushes {
  /** The whole list, whenever a node's state or contact changed. */
  nodes: readonly NodeContact[];
  /** Locks this client once failed to get (EAGAIN) may be free now: inodes. */
  unlocked: readonly InodeId[];
  /** Settings of the volume changed. */
  volume: VolumeSettings;
}
