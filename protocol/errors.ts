/**
 * The closed list of errors. Each code knows the errno a file system call gives for it and whether the same call may succeed later.
 * Thrown deep, turned into a reply in one place (`toWire`), and back into an exception in one place (`fromWire`).
 */
interface ErrorFacts {
  /** Name of the errno the mount answers. */
  readonly errno: string;
  /** True when repeating the very same request (same id) can help. */
  readonly retryable: boolean;
}

const posix = <T extends string>(...codes: T[]): Record<T, ErrorFacts> =>
  Object.fromEntries(codes.map((code) => [code, { errno: code, retryable: false }])) as unknown as Record<T, ErrorFacts>;

export const errorFacts = {
  ...posix(
    'ENOENT',
    'EEXIST',
    'ENOTDIR',
    'EISDIR',
    'ENOTEMPTY',
    'EPERM',
    'EACCES',
    'EINVAL',
    'EXDEV',
    'ELOOP',
    'EMLINK',
    'ENAMETOOLONG',
    'EILSEQ',
    'EFBIG',
    'ENOSPC',
    'EDQUOT',
    'EROFS',
    'ENODATA',
    'E2BIG',
    'ERANGE',
    'EAGAIN',
    'EINTR',
    'ESTALE',
    'EBADF',
    'EBUSY',
    'ENXIO',
    'EOPNOTSUPP',
    'ENOLCK',
    'EDEADLK',
    'EIO',
    'ETIMEDOUT',
  ),
  /** Chunks named in a commit are not (or no longer) there: upload them and commit again. facts.chunks: string[] */
  UPLOAD_AGAIN: { errno: 'EIO', retryable: false },
  /** No good replica of a chunk could be read. facts.chunk */
  CHUNK_UNREADABLE: { errno: 'EIO', retryable: true },
  /** The node does not hold this chunk (or not for this volume). */
  CHUNK_MISSING: { errno: 'EIO', retryable: false },
  /** Bytes do not hash to the id. */
  CHUNK_CORRUPT: { errno: 'EIO', retryable: false },
  /** Too few nodes are up to place the copies. */
  NO_NODES: { errno: 'EIO', retryable: true },
  /** Peer not reachable right now. */
  UNREACHABLE: { errno: 'EIO', retryable: true },
  /** The deadline of a call passed. */
  DEADLINE: { errno: 'EIO', retryable: true },
  /** The coordinator is starting, in safe mode, or shutting down. */
  NOT_READY: { errno: 'EIO', retryable: true },
  /** The session was forgotten (too long away): handles, locks and dirty state of it are void. */
  SESSION_LOST: { errno: 'ESTALE', retryable: false },
  UNAUTHORIZED: { errno: 'EACCES', retryable: false },
  /** Permit too old: fetch a new one. */
  PERMIT_EXPIRED: { errno: 'EACCES', retryable: true },
  FORBIDDEN: { errno: 'EPERM', retryable: false },
  PROTOCOL_VERSION: { errno: 'EIO', retryable: false },
  WRONG_CLUSTER: { errno: 'EIO', retryable: false },
  /** An order came from a coordinator with a lower epoch than one already obeyed. */
  STALE_EPOCH: { errno: 'EIO', retryable: false },
  BAD_MESSAGE: { errno: 'EINVAL', retryable: false },
  TOO_LARGE: { errno: 'EFBIG', retryable: false },
  OVERLOADED: { errno: 'EAGAIN', retryable: true },
  /** An admin action that would lose data or makes no sense now; the message says why. */
  REFUSED: { errno: 'EPERM', retryable: false },
  INTERNAL: { errno: 'EIO', retryable: false },
} satisfies Record<string, ErrorFacts>;

export type ErrorCode = keyof typeof errorFacts;

export interface WireError {
  readonly code: ErrorCode;
  readonly message: string;
  readonly facts?: Record<string, unknown>;
}

/** The only exception that crosses a boundary of Holdfast. */
export class HoldfastError extends Error {
  override readonly name = 'HoldfastError';
  constructor(
    readonly code: ErrorCode,
    message: string = code,
    readonly facts?: Record<string, unknown>,
  ) {
    super(message);
  }
  get errno(): string {
    return errorFacts[this.code].errno;
  }
  get retryable(): boolean {
    return errorFacts[this.code].retryable;
  }
}

/** Turns anything thrown into what may be sent to a peer; unknown exceptions become INTERNAL without their text (it could hold secrets or paths). */
export function toWire(error: unknown): WireError {
  if (error instanceof HoldfastError) return { code: error.code, message: error.message, ...(error.facts ? { facts: error.facts } : {}) };
  return { code: 'INTERNAL', message: 'internal error; the log of the answering process has the details' };
}

/** The exception for a received error; a code this version does not know becomes INTERNAL. */
export function fromWire(wire: WireError): HoldfastError {
  const code = Object.hasOwn(errorFacts, wire.code) ? wire.code : 'INTERNAL';
  return new HoldfastError(code, String(wire.message ?? code), wire.facts);
}

export const isCode = (error: unknown, ...codes: ErrorCode[]): error is HoldfastError =>
  error instanceof HoldfastError && codes.includes(error.code);
