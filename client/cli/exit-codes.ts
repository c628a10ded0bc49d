/** The exit codes of `holdfast`, and which error ends with which. Scripts rely on them: never renumber. */
import { type ErrorCode, HoldfastError } from '../../protocol/errors.js';

export const EXIT = {
  ok: 0,
  error: 1,
  usage: 2,
  /** Some of several things were done. */
  partial: 3,
  notFound: 4,
  /** Coordinator or nodes out of reach; the same command may work later. */
  unreachable: 5,
  /** Data cannot be read, or is not what it should be. */
  corrupt: 6,
  /** Exists already, or somebody else was quicker. */
  conflict: 7,
  denied: 8,
} as const;

export const exitCodeHelp = `Exit codes: 0 ok, 1 error, 2 called wrongly, 3 done in part, 4 not found, 5 unreachable (try again),
            6 data unreadable or corrupt, 7 exists, conflict or refused, 8 denied, 130/143 ended by a signal`;

const byCode: Partial<Record<ErrorCode, number>> = {
  ENOENT: EXIT.notFound,
  EEXIST: EXIT.conflict,
  ENOTEMPTY: EXIT.conflict,
  EBUSY: EXIT.conflict,
  ESTALE: EXIT.conflict,
  EAGAIN: EXIT.conflict,
  REFUSED: EXIT.conflict,
  EPERM: EXIT.denied,
  EACCES: EXIT.denied,
  EROFS: EXIT.denied,
  UNAUTHORIZED: EXIT.denied,
  FORBIDDEN: EXIT.denied,
  UNREACHABLE: EXIT.unreachable,
  DEADLINE: EXIT.unreachable,
  NOT_READY: EXIT.unreachable,
  NO_NODES: EXIT.unreachable,
  OVERLOADED: EXIT.unreachable,
  SESSION_LOST: EXIT.unreachable,
  CHUNK_UNREADABLE: EXIT.corrupt,
  CHUNK_MISSING: EXIT.corrupt,
  CHUNK_CORRUPT: EXIT.corrupt,
  EIO: EXIT.corrupt,
};

/** An error the command line itself found; shown without a stack. */
export class CliError extends Error {
  override readonly name = 'CliError';
  constructor(
    message: string,
    readonly exitCode: number = EXIT.error,
    /** Stable word for --json. */
    readonly code = 'USAGE',
  ) {
    super(message);
  }
}

export function exitCodeOf(error: unknown): number {
  if (error instanceof CliError) return error.exitCode;
  if (error instanceof HoldfastError) return byCode[error.code] ?? EXIT.error;
  return EXIT.error;
}

const meaning: Partial<Record<ErrorCode, string>> = {
  ENOENT: 'no such file or directory',
  EEXIST: 'it exists already',
  ENOTDIR: 'a part of the path is not a directory',
  EISDIR: 'it is a directory',
  ENOTEMPTY: 'the directory is not empty',
  ENOSPC: 'the cluster is full',
  EDQUOT: 'the quota of the volume is used up',
  ENAMETOOLONG: 'the name is longer than 255 bytes',
  EACCES: 'permission denied',
  EPERM: 'not permitted',
};

/** What to do next, where we know it. */
function advice(error: HoldfastError, url: string | undefined): string | undefined {
  switch (error.code) {
    case 'UNREACHABLE':
    case 'DEADLINE':
    case 'NOT_READY':
      return `Is the coordinator${url ? ` at ${url}` : ''} running? "scripts/up" starts a local cluster, "holdfast doctor" looks for the trouble.`;
    case 'UNAUTHORIZED':
      return 'The token is not one of this cluster: give the right file with --token-file, or the cluster with --state.';
    case 'PROTOCOL_VERSION':
      return 'Program and coordinator are of different versions: use the same on both sides.';
    case 'NO_NODES':
      return 'Start more nodes ("scripts/node start NAME"); "holdfast status" shows which are down.';
    case 'CHUNK_UNREADABLE':
      return 'Every node that holds this data is out of reach or has lost it: "holdfast why PATH" tells which.';
    case 'ENOSPC':
      return 'Delete something or add a node ("scripts/node add").';
    default:
      return undefined;
  }
}

/** A message that names only what it is about: what happened is to be added. */
const isBarePath = (message: string): boolean =>
  /^"?\//.test(message) && !message.includes(': ') && !/ (is|does|has|was|exists|in the) /.test(message);

export interface ToldError {
  readonly code: string;
  readonly message: string;
  readonly advice?: string;
  readonly exitCode: number;
}

/** An error in words. Unknown exceptions keep their text: they come from this machine, not from a peer. */
export function tellError(error: unknown, url?: string): ToldError {
  const exitCode = exitCodeOf(error);
  if (error instanceof CliError) return { code: error.code, message: error.message, exitCode };
  if (error instanceof HoldfastError) {
    const words = meaning[error.code];
    const message =
      error.message === error.code
        ? (words ?? error.code)
        : words && isBarePath(error.message) && error.facts?.volumeKey === undefined
          ? `${error.message}: ${words}`
          : error.message;
    const next = advice(error, url);
    return { code: error.code, message, exitCode, ...(next ? { advice: next } : {}) };
  }
  const { code, message, path } = error as NodeJS.ErrnoException;
  // "ENOENT: no such file or directory, lstat 'x'" is for programmers.
  const known = code !== undefined && path !== undefined ? meaning[code as ErrorCode] : undefined;
  return {
    code: code ?? 'ERROR',
    message: known ? `${path}: ${known}` : (message ?? String(error)),
    exitCode: code === 'ENOENT' ? EXIT.notFound : exitCode,
  };
}
