/** Which function answers which request of the kernel. */
import { Opcode } from '../kernel-protocol.js';
import type { Operation } from '../mount-state.js';
import { getattr, setattr, statfs } from './attributes.js';
import { copyFileRange, copyFileRange64, fallocate, lseek, read, write } from './data.js';
import { fsyncdir, opendir, readdir, readdirplus, releasedir } from './directories.js';
import { getlk, setlk, setlkWaiting } from './locks.js';
import { forget, forgetMany, link, lookup, mkdir, mknod, readlink, rename, renameWithFlags, rmdir, symlink, unlink } from './names.js';
import { create, flush, fsync, open, release } from './open-files.js';
import { getxattr, listxattr, removexattr, setxattr } from './xattrs.js';

/** What is missing here is answered ENOSYS, after which the kernel does without. */
export const operations = new Map<number, Operation>([
  [Opcode.LOOKUP, lookup],
  [Opcode.FORGET, forget],
  [Opcode.BATCH_FORGET, forgetMany],
  [Opcode.GETATTR, getattr],
  [Opcode.SETATTR, setattr],
  [Opcode.READLINK, readlink],
  [Opcode.SYMLINK, symlink],
  [Opcode.MKNOD, mknod],
  [Opcode.MKDIR, mkdir],
  [Opcode.UNLINK, unlink],
  [Opcode.RMDIR, rmdir],
  [Opcode.RENAME, rename],
  [Opcode.RENAME2, renameWithFlags],
  [Opcode.LINK, link],
  [Opcode.OPEN, open],
  [Opcode.CREATE, create],
  [Opcode.READ, read],
  [Opcode.WRITE, write],
  [Opcode.STATFS, statfs],
  [Opcode.RELEASE, release],
  [Opcode.FSYNC, fsync],
  [Opcode.FLUSH, flush],
  [Opcode.SETXATTR, setxattr],
  [Opcode.GETXATTR, getxattr],
  [Opcode.LISTXATTR, listxattr],
  [Opcode.REMOVEXATTR, removexattr],
  [Opcode.OPENDIR, opendir],
  [Opcode.READDIR, readdir],
  [Opcode.READDIRPLUS, readdirplus],
  [Opcode.RELEASEDIR, releasedir],
  [Opcode.FSYNCDIR, fsyncdir],
  [Opcode.GETLK, getlk],
  [Opcode.SETLK, setlk],
  [Opcode.SETLKW, setlkWaiting],
  [Opcode.FALLOCATE, fallocate],
  [Opcode.LSEEK, lseek],
  [Opcode.COPY_FILE_RANGE, copyFileRange],
  [Opcode.COPY_FILE_RANGE_64, copyFileRange64],
]);

/** Requests that get no answer. */
export const unanswered: ReadonlySet<number> = new Set([Opcode.FORGET, Opcode.BATCH_FORGET]);
