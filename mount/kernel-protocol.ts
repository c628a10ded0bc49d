/**
 * The FUSE kernel protocol (linux/fuse.h, version 7) as far as Holdfast speaks it: operation codes, flags, and where the fields of each
 * structure lie. All integers are little-endian here: the session refuses to start on a big-endian machine.
 */
export const ROOT_NODE = 1;
export const IN_HEADER_BYTES = 40;
export const OUT_HEADER_BYTES = 16;
export const KERNEL_MAJOR = 7;
/** The version whose structures are written here; the kernel adapts to an older one. */
export const KERNEL_MINOR = 38;

export const Opcode = {
  LOOKUP: 1,
  FORGET: 2,
  GETATTR: 3,
  SETATTR: 4,
  READLINK: 5,
  SYMLINK: 6,
  MKNOD: 8,
  MKDIR: 9,
  UNLINK: 10,
  RMDIR: 11,
  RENAME: 12,
  LINK: 13,
  OPEN: 14,
  READ: 15,
  WRITE: 16,
  STATFS: 17,
  RELEASE: 18,
  FSYNC: 20,
  SETXATTR: 21,
  GETXATTR: 22,
  LISTXATTR: 23,
  REMOVEXATTR: 24,
  FLUSH: 25,
  INIT: 26,
  OPENDIR: 27,
  READDIR: 28,
  RELEASEDIR: 29,
  FSYNCDIR: 30,
  GETLK: 31,
  SETLK: 32,
  SETLKW: 33,
  CREATE: 35,
  INTERRUPT: 36,
  DESTROY: 38,
  IOCTL: 39,
  BATCH_FORGET: 42,
  FALLOCATE: 43,
  READDIRPLUS: 44,
  RENAME2: 45,
  LSEEK: 46,
  COPY_FILE_RANGE: 47,
  COPY_FILE_RANGE_64: 53,
} as const;

/** Abilities agreed on at INIT. Bits from 32 up travel in a second word. */
export const InitFlag = {
  /** Several reads of one file at a time. */
  ASYNC_READ: 1 << 0,
  POSIX_LOCKS: 1 << 1,
  /** O_TRUNC arrives with OPEN instead of as a SETATTR of its own. */
  ATOMIC_O_TRUNC: 1 << 3,
  BIG_WRITES: 1 << 5,
  FLOCK_LOCKS: 1 << 10,
  DO_READDIRPLUS: 1 << 13,
  READDIRPLUS_AUTO: 1 << 14,
  ASYNC_DIO: 1 << 15,
  /** Lookups in one directory do not wait for each other. */
  PARALLEL_DIROPS: 1 << 18,
  /** Requests of up to max_pages pages: 1 MiB. */
  MAX_PAGES: 1 << 22,
  CACHE_SYMLINKS: 1 << 23,
  /** We clear setuid and setgid bits; spares a getxattr of security.capability on every write. */
  HANDLE_KILLPRIV_V2: 1 << 28,
  /** The second word of flags counts. */
  INIT_EXT: 1 << 30,
} as const;
export const InitFlag2 = {
  /** Shared mappings of files opened with FOPEN_DIRECT_IO. */
  DIRECT_IO_ALLOW_MMAP: 1 << 4,
} as const;

export const OpenReply = { DIRECT_IO: 1, KEEP_CACHE: 2 } as const;
export const SetAttribute = {
  MODE: 1,
  UID: 2,
  GID: 4,
  SIZE: 8,
  ATIME: 16,
  MTIME: 32,
  HANDLE: 64,
  ATIME_NOW: 128,
  MTIME_NOW: 256,
  KILL_SUIDGID: 2048,
} as const;
export const WRITE_KILL_SUIDGID = 4;
export const OPEN_KILL_SUIDGID = 1;
export const RELEASE_FLOCK_UNLOCK = 2;
export const LOCK_IS_FLOCK = 1;
export const Notify = { INVALIDATE_INODE: 2, INVALIDATE_ENTRY: 3 } as const;

export const ATTRIBUTES_BYTES = 88;
export const ENTRY_BYTES = 128;
export const DIRENT_HEADER_BYTES = 24;
/** Directory entries start at multiples of eight bytes. */
export const align8 = (sizeBytes: number): number => (sizeBytes + 7) & ~7;

export const MAX_REQUEST_BYTES = 1024 * 1024;
/** Room for one request: the largest write and its headers. */
export const REQUEST_BUFFER_BYTES = MAX_REQUEST_BYTES + 4096;

export const Mode = {
  TYPE: 0o170000,
  SOCKET: 0o140000,
  SYMLINK: 0o120000,
  FILE: 0o100000,
  BLOCK: 0o060000,
  DIRECTORY: 0o040000,
  CHAR: 0o020000,
  FIFO: 0o010000,
  SETUID: 0o4000,
  SETGID: 0o2000,
} as const;

const HIGH = 0x1_0000_0000;
/** An unsigned 64 bit number; beyond 2^53 (only "to the end" of a lock range) it loses its low bits. */
export const readU64 = (bytes: Buffer, at: number): number => bytes.readUInt32LE(at + 4) * HIGH + bytes.readUInt32LE(at);
export const readI64 = (bytes: Buffer, at: number): number => bytes.readInt32LE(at + 4) * HIGH + bytes.readUInt32LE(at);
export function writeU64(bytes: Buffer, at: number, value: number): void {
  bytes.writeUInt32LE(value % HIGH, at);
  bytes.writeUInt32LE(Math.floor(value / HIGH), at + 4);
}
export function writeI64(bytes: Buffer, at: number, value: number): void {
  const high = Math.floor(value / HIGH);
  bytes.writeUInt32LE(value - high * HIGH, at);
  bytes.writeInt32LE(high, at + 4);
}
