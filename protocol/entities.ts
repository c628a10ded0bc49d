/** Inode, entry, extent, chunk, replica, node, volume as data, with distinct id types. */
export type InodeId = number;
/** 64 lower-case hexadecimal digits; see chunk.ts. */
export type ChunkId = string;
/** Small integer the coordinator gives to each node for ever; 1 is the first. */
export type NodeId = number;
export type VolumeId = number;
/** 32 hexadecimal digits: the first half of SHA-256 over the client's secret, so only its owner can speak for it. */
export type ClientId = string;

export const ROOT_VOLUME: VolumeId = 1;
export const DEFAULT_VOLUME_NAME = 'main';

export type InodeKind = 'file' | 'directory' | 'symlink' | 'fifo' | 'socket' | 'char' | 'block';

export interface InodeAttributes {
  readonly inode: InodeId;
  readonly volume: VolumeId;
  readonly kind: InodeKind;
  /** The 12 permission bits (07777), without the type bits. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly sizeBytes: number;
  /** Bytes covered by extents (what st_blocks tells). */
  readonly allocatedBytes: number;
  readonly nlink: number;
  readonly rdev: number;
  readonly atimeS: number;
  readonly atimeNs: number;
  readonly mtimeS: number;
  readonly mtimeNs: number;
  readonly ctimeS: number;
  readonly ctimeNs: number;
  /** Grows by every change of attributes, data or entries. */
  readonly change: number;
  /** Grows by every change of the data (extents or size) alone. */
  readonly dataVersion: number;
  /** Symlinks only. */
  readonly target?: string;
  /** True when the inode carries at least one xattr: saves asking for none. */
  readonly hasXattrs: boolean;
}

export interface Entry {
  readonly name: string;
  readonly inode: InodeId;
  readonly kind: InodeKind;
}

/** Bytes [offset, offset+length) of a file lie in `chunk` from `chunkOffset` (in plaintext bytes). Ranges without extent are holes. */
export interface Extent {
  readonly offset: number;
  readonly length: number;
  readonly chunk: ChunkId;
  readonly chunkOffset: number;
}

/** What a reader needs to fetch a chunk. */
export interface ChunkLocation {
  readonly chunk: ChunkId;
  /** Payload bytes as stored. */
  readonly sizeBytes: number;
  readonly nodes: readonly NodeId[];
}

export type NodeState = 'up' | 'suspect' | 'down' | 'draining' | 'removed';

/** What clients must know of a node to read and write. */
export interface NodeContact {
  readonly node: NodeId;
  readonly name: string;
  /** http://host:port */
  readonly url: string;
  readonly state: NodeState;
  /** True when new chunks may be placed there (up, not draining, not full). */
  readonly writable: boolean;
  readonly zone: string;
  readonly capacityBytes: number;
  readonly freeBytes: number;
}

export interface VolumeSettings {
  readonly volume: VolumeId;
  readonly name: string;
  readonly root: InodeId;
  readonly copies: number;
  readonly chunkSizeBytes: number;
  readonly quotaBytes: number | null;
  readonly quotaFiles: number | null;
  /** Wrapped volume key and parameters, opaque to the coordinator; null when the volume is not encrypted. */
  readonly encryption: Record<string, unknown> | null;
  /** How long deleted files stay restorable; 0 switches the trash off. */
  readonly trashKeepMs: number;
  /** When snapshots are taken and how many are kept; null or absent: none are taken by themselves. */
  readonly snapshots?: { readonly everyMs: number; readonly keep: number } | null;
}

export type Health = 'HEALTHY' | 'DEGRADED' | 'AT RISK' | 'DATA LOSS' | 'OFFLINE';
