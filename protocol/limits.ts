/** Every limit and interval of the protocol, units in the names. Both ends import these: a limit that only one side knows is a bug. */

/** Raised whenever a message changes so that an older peer would misread it; checked at the handshake. */
export const PROTOCOL_VERSION = 1;

export const LEAF_SIZE_BYTES = 64 * 1024;
/** An encrypted leaf carries its 16 byte AES-GCM tag, so a plaintext leaf stays 64 KiB. */
export const SEALED_LEAF_SIZE_BYTES = LEAF_SIZE_BYTES + 16;
export const DEFAULT_CHUNK_SIZE_BYTES = 1024 * 1024;
export const MIN_CHUNK_SIZE_BYTES = LEAF_SIZE_BYTES;
export const MAX_CHUNK_SIZE_BYTES = 8 * 1024 * 1024;
/** Largest body of one HTTP put: one chunk, its header and its tags, or one batch of small chunks. */
export const MAX_PUT_BODY_BYTES = MAX_CHUNK_SIZE_BYTES + 64 * 1024;
/** Chunks up to this size travel in batches (one HTTP request for many). */
export const SMALL_CHUNK_BYTES = 128 * 1024;
export const MAX_BATCH_CHUNKS = 512;

export const MAX_NAME_BYTES = 255;
export const MAX_SYMLINK_BYTES = 4095;
export const MAX_XATTR_NAME_BYTES = 255;
export const MAX_XATTR_VALUE_BYTES = 65536;
export const MAX_XATTRS_PER_INODE_BYTES = 1024 * 1024;
export const MAX_LINKS = 65000;
/** Offsets are JavaScript numbers; 2^52 leaves room to add two of them. */
export const MAX_FILE_SIZE_BYTES = 2 ** 52;

export const MAX_EXTENTS_PER_COMMIT = 512;
export const MAX_ENTRIES_PER_PAGE = 2000;
export const MAX_EXTENTS_PER_PAGE = 2000;
export const MAX_IDS_PER_CALL = 2000;
export const MAX_MESSAGE_BYTES = 4 * 1024 * 1024;

/** How long a new cluster keeps deleted files, unless told otherwise. */
export const DEFAULT_TRASH_KEEP_MS = 86_400_000;

export const HEARTBEAT_INTERVAL_MS = 1000;
/** Beats a node may miss before it is `suspect`: no new writes, reads go elsewhere. */
export const HEARTBEATS_MISSED_SUSPECT = 3;
export const DEFAULT_DOWN_AFTER_MS = 30_000;
/** Grace after a node said goodbye (clean stop): a restart must not start a repair. */
export const DEFAULT_STOPPED_GRACE_MS = 300_000;

export const DEFAULT_CALL_TIMEOUT_MS = 30_000;
/** A client renews its lease this often; what it cached counts only while the lease holds. */
export const LEASE_RENEW_INTERVAL_MS = 400;
/** A client may use its caches this long after it SENT the last answered renewal. */
export const LEASE_MS = 1600;
/** The coordinator waits this long for a client to acknowledge a recall; longer than LEASE_MS so a silent client's caches are void by then. */
export const RECALL_TIMEOUT_MS = 2000;
/** A session without connection is forgotten (locks, orphans, replies) after this time. */
export const DEFAULT_SESSION_TIMEOUT_MS = 60_000;

/** Permits are valid for this many generations; the coordinator starts a new generation every PERMIT_GENERATION_MS. No wall clock is involved. */
export const PERMIT_GENERATION_MS = 60_000;
export const PERMIT_GENERATIONS_VALID = 10;

/** Metadata and un-fsynced chunks reach stable storage within this time at the latest. */
export const BACKGROUND_SYNC_INTERVAL_MS = 500;
