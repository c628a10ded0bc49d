/**
 * The tables of the metadata and what one row of each holds. Rows are small immutable objects: to change one, put a new one. A row is journaled
 * and stored as JSON, so it holds nothing but what JSON keeps exactly (bytes as base64, no undefined that matters, no bigint).
 *
 * Adding a table: one line in `TableRows`, one in `tableKinds`.
 */
import type { Access } from '../protocol/access-calls.js';
import type { ClientId, Extent, InodeAttributes, InodeId, InodeKind, NodeId, VolumeId, VolumeSettings } from '../protocol/entities.js';

/** Attributes as clients see them, except hasXattrs (derived), plus where the inode was last seen in the tree. */
export interface InodeRow extends Omit<InodeAttributes, 'hasXattrs'> {
  /** Directories: the directory it is in (the root: itself). Others: a hint, the directory of the name given last; see `pathOf`. 0 when it has no name. */
  readonly parent: InodeId;
  /** Name in `parent`; exact for directories, a hint for others. '' for a root. */
  readonly name: string;
  /** Number of the user who made it, whose quota it counts against; absent for the cluster's own administrator. */
  readonly creator?: number;
}

/** Key `${directory}/${name}`; see entryKey. */
export type EntryRow = InodeId;

/** Key `${inode}:${offset}`; see extentKey. */
export type ExtentRow = Extent;

/** Key `${inode}:${name}`; the value in base64. */
export type XattrRow = string;

export interface ChunkRow {
  readonly volume: VolumeId;
  /** Payload bytes as stored. */
  readonly sizeBytes: number;
  /** Extents that name it. 0 = waits for deletion (or for the commit of its upload). */
  readonly refs: number;
  /** Nodes that hold it, ascending. Use `withReplica`/`withoutReplica`, which share equal lists. */
  readonly replicas: readonly NodeId[];
}

export interface NodeRow {
  readonly name: string;
  readonly zone: string;
  readonly url: string;
  readonly version: string;
  readonly isDraining: boolean;
  /** Removed nodes keep their row so that their id is never given again. */
  readonly isRemoved: boolean;
  /** Wall clock, milliseconds since 1970; for people. */
  readonly firstSeenMs: number;
  /** SHA-256 of the node's own token, hex; absent for nodes that use the cluster's node token. */
  readonly tokenSha256?: string;
  /** Room for what the keeper of the cluster must remember of a node over restarts (JSON). */
  readonly memory?: Readonly<Record<string, unknown>>;
}

export type VolumeRow = VolumeSettings;

export interface SessionRow {
  readonly user: string;
  readonly volume: VolumeId;
  readonly description: string;
  /** The token it began with; absent for the admin token. */
  readonly token?: string;
  /** Requests below this number are answered and forgotten. */
  readonly answeredBelow: number;
}

/** Key `${client}:${request}`: the stored answer of a change, so that a repeated request is answered the same way. */
export type ReplyRow =
  | { readonly ok: unknown }
  | { readonly error: { readonly code: string; readonly message: string; readonly facts?: Record<string, unknown> } };

/** An inode without name, and the sessions that hold it open. None left = it is being taken apart in the background. */
export interface OrphanRow {
  readonly holders: readonly ClientId[];
}

/** Key `${inode}:${family}:${client}:${owner}`: all locks of one owner on one inode. */
export interface LockRow {
  readonly pid: number;
  /** Sorted, not overlapping; `end` exclusive, Number.MAX_SAFE_INTEGER = to the end. */
  readonly ranges: readonly { readonly kind: 'read' | 'write'; readonly start: number; readonly end: number }[];
}

export interface TokenRow {
  readonly id: string;
  /** SHA-256 of the token, hex. */
  readonly sha256: string;
  readonly label: string;
  readonly createdAtMs: number;
  readonly expiresAtMs: number | null;
}
export interface UserRow {
  /** Never given twice; files remember who made them by it. */
  readonly id: number;
  readonly isAdmin: boolean;
  readonly home: VolumeId | null;
  /** By volume id; `grant` is another number whenever the right is another. */
  readonly access: Readonly<Record<string, { readonly access: Access; readonly grant: number }>>;
  readonly tokens: readonly TokenRow[];
  /** For what this user made, in whatever volume. */
  readonly quotaBytes: number | null;
  readonly quotaFiles: number | null;
  readonly createdAtMs: number;
}

/** A point in the life of a volume's tree that stays readable. Taking one copies nothing: what changes afterwards is kept in `history`. */
export interface SnapshotRow {
  /** As in its inode numbers; see protocol/hidden.ts. Free again when the row is gone. */
  readonly number: number;
  readonly volume: VolumeId;
  readonly name: string;
  /** Wall clock, milliseconds since 1970; for people. */
  readonly atMs: number;
  /** Grows from snapshot to snapshot: which of two is older. */
  readonly order: number;
  /** Inodes made later were not there. */
  readonly lastInode: InodeId;
  /** internal: a cut for the time of one copy or comparison, shown to nobody. */
  readonly origin: 'manual' | 'schedule' | 'restore' | 'internal';
  /** No longer listed; what it keeps is being given to the snapshot before it, or dropped. */
  readonly isDeleting: boolean;
  /** Of the volume when it was taken. */
  readonly files: number;
  readonly logicalBytes: number;
}

/**
 * Key `${snapshot}${table letter}${owner}:${rest}` (see historyKey): a row of the tree as it was when the snapshot was taken, kept when it changed
 * for the first time afterwards. Without `was` there was no such row. An extent kept here counts as a reference of its chunk.
 */
export interface HistoryRow {
  readonly was?: unknown;
}

/** A deleted file that can be restored; key = its inode, which lives on with nlink 0. */
export interface TrashRow {
  readonly volume: VolumeId;
  /** Wall clock, milliseconds since 1970. */
  readonly atMs: number;
  readonly user: string;
  /** Where it was: path of its directory then, and its name. */
  readonly directoryPath: string;
  readonly name: string;
  /** The directory, should it still be there under whatever path; and how it is to be made again if not. */
  readonly directory: InodeId;
  readonly directoryMode: number;
  readonly directoryUid: number;
  readonly directoryGid: number;
  /** It had not been there for long: see MAX_SHORT_LIFE_MS. */
  readonly isShortLived?: true;
}

/** A tree that is being built (clone, restore) or taken apart in steps below a directory without name; key = that directory's inode. */
export interface TreeTaskRow {
  readonly volume: VolumeId;
  readonly kind: 'building' | 'removing';
}

export interface TableRows {
  inodes: InodeRow;
  entries: EntryRow;
  extents: ExtentRow;
  xattrs: XattrRow;
  chunks: ChunkRow;
  nodes: NodeRow;
  volumes: VolumeRow;
  sessions: SessionRow;
  replies: ReplyRow;
  orphans: OrphanRow;
  locks: LockRow;
  users: UserRow;
  /** Anything that is one value: next ids, permit generation, ... (key → JSON). */
  settings: unknown;
  /** The latest events, kept over restarts; key = sequence number as text. */
  events: unknown;
  snapshots: SnapshotRow;
  history: HistoryRow;
  trash: TrashRow;
  treeTasks: TreeTaskRow;
}
export type TableName = keyof TableRows;

/** How a table is kept in memory and keyed in the database. */
export const tableKinds = {
  inodes: 'number',
  entries: 'entries',
  extents: 'extents',
  xattrs: 'nested',
  chunks: 'text',
  nodes: 'number',
  volumes: 'number',
  sessions: 'text',
  replies: 'nested',
  orphans: 'number',
  locks: 'nested',
  users: 'text',
  settings: 'text',
  events: 'text',
  snapshots: 'number',
  history: 'history',
  trash: 'number',
  treeTasks: 'number',
} as const satisfies Record<TableName, 'number' | 'text' | 'nested' | 'entries' | 'extents' | 'history'>;
export const tableNames = Object.keys(tableKinds) as TableName[];

export type KeyOf<T extends TableName> = (typeof tableKinds)[T] extends 'number' ? number : string;
export type AnyKey = number | string;
/** One row changed: [table, key, row], row null = removed. What a journal record holds. */
export type Change = readonly [table: TableName, key: AnyKey, row: unknown];

export const entryKey = (directory: InodeId, name: string): string => `${directory}/${name}`;
export const extentKey = (inode: InodeId, offset: number): string => `${inode}:${offset}`;
export const xattrKey = (inode: InodeId, name: string): string => `${inode}:${name}`;
export const replyKey = (client: ClientId, request: number): string => `${client}:${request}`;
export const lockKey = (inode: InodeId, family: 'flock' | 'posix', client: ClientId, owner: string): string =>
  `${inode}:${family}:${client}:${owner}`;

/** The tables that make up a tree, by the letter they have in keys of `history`. */
export const treeTables = { inodes: 'i', entries: 'e', extents: 'x', xattrs: 'a' } as const;
export type TreeTable = keyof typeof treeTables;
/** `rest`: name of an entry or attribute, offset of an extent, nothing for the inode itself. */
export const historyKey = (snapshot: number, table: TreeTable, owner: InodeId, rest: string | number = ''): string =>
  table === 'inodes' ? `${snapshot}i:${owner}` : `${snapshot}${treeTables[table]}${owner}:${rest}`;

/** The extent that a row of history keeps, if it is one. */
export function keptExtent(key: string, row: HistoryRow): ExtentRow | undefined {
  return row.was !== undefined && /^\d+x/.test(key) ? (row.was as ExtentRow) : undefined;
}

export function attributesOf(row: InodeRow, hasXattrs: boolean): InodeAttributes {
  const { parent: _parent, name: _name, creator: _creator, ...attributes } = row;
  return { ...attributes, hasXattrs };
}

/** Equal replica lists are one array in memory: a million chunks know only a handful of different ones. */
const sharedReplicas = new Map<string, readonly NodeId[]>();
export function shareReplicas(replicas: readonly NodeId[]): readonly NodeId[] {
  const key = replicas.join(',');
  const known = sharedReplicas.get(key);
  if (known) return known;
  const sorted = Object.freeze([...new Set(replicas)].sort((a, b) => a - b));
  const sortedKey = sorted.join(',');
  const shared = sharedReplicas.get(sortedKey) ?? sorted;
  sharedReplicas.set(sortedKey, shared);
  return shared;
}
export const withReplica = (row: ChunkRow, node: NodeId): ChunkRow =>
  row.replicas.includes(node) ? row : { ...row, replicas: shareReplicas([...row.replicas, node].sort((a, b) => a - b)) };
export const withoutReplica = (row: ChunkRow, node: NodeId): ChunkRow =>
  row.replicas.includes(node) ? { ...row, replicas: shareReplicas(row.replicas.filter((one) => one !== node)) } : row;

export const isDirectory = (row: { readonly kind: InodeKind }): boolean => row.kind === 'directory';
