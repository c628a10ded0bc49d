/**
 * fcntl and flock locks, held at the coordinator for all mounts. A call that waits holds up nobody else and ends when its caller is interrupted.
 *
 * Locks carry data along: before an unlock what was written goes to the cluster, and with a new lock the kernel's pages go, so the next holder
 * sees what the last one wrote although neither closes the file.
 */
import type { LockRequest } from '../../client/api.js';
import { HoldfastError } from '../../protocol/errors.js';
import { MAX_FILE_SIZE_BYTES } from '../../protocol/limits.js';
import { LOCK_IS_FLOCK, writeU64 } from '../kernel-protocol.js';
import type { KernelRequest } from '../kernel-request.js';
import { type Answer, type MountState, nodeOfInode } from '../mount-state.js';

const READ_LOCK = 0;
const WRITE_LOCK = 1;
const UNLOCK = 2;
/** "To the end of the file", as the kernel says it. */
const TO_THE_END = 0x7fff_ffff_ffff_ffffn;

function decode(request: KernelRequest): LockRequest {
  const start = request.u64(16);
  const end = request.u64(24);
  const type = request.u32(32);
  const family = request.u32(40) & LOCK_IS_FLOCK ? 'flock' : 'posix';
  if (start > MAX_FILE_SIZE_BYTES) throw new HoldfastError('EINVAL', 'a lock beyond the largest file');
  return {
    family,
    owner: request.token(8),
    pid: request.u32(36),
    kind: type === READ_LOCK ? 'read' : type === WRITE_LOCK ? 'write' : 'unlock',
    start: family === 'flock' ? 0 : start,
    length: family === 'flock' || end >= MAX_FILE_SIZE_BYTES ? 0 : end - start + 1,
  };
}

/** fcntl(F_GETLK). */
export async function getlk(mount: MountState, request: KernelRequest): Promise<Answer> {
  const { inode } = mount.handles.file(request.u64(0));
  const conflict = await mount.cluster.locks.test(inode, decode(request));
  const out = Buffer.alloc(24);
  if (!conflict) {
    out.writeUInt32LE(UNLOCK, 16);
    return out;
  }
  writeU64(out, 0, conflict.start);
  if (conflict.length === 0) out.writeBigUInt64LE(TO_THE_END, 8);
  else writeU64(out, 8, conflict.start + conflict.length - 1);
  out.writeUInt32LE(conflict.kind === 'read' ? READ_LOCK : WRITE_LOCK, 16);
  out.writeUInt32LE(conflict.pid, 20);
  return out;
}

/** fcntl(F_SETLK), flock(LOCK_NB), and every unlock. */
export function setlk(mount: MountState, request: KernelRequest): Promise<Answer> {
  return take(mount, request, false);
}

/** fcntl(F_SETLKW), flock(2) without LOCK_NB: for ever, or until a signal. */
export function setlkWaiting(mount: MountState, request: KernelRequest): Promise<Answer> {
  return take(mount, request, true);
}

async function take(mount: MountState, request: KernelRequest, wait: boolean): Promise<Answer> {
  const { inode, file, isWritable } = mount.handles.file(request.u64(0));
  const lock = decode(request);
  if (lock.kind === 'unlock') {
    if (isWritable) await file.flush();
    await mount.cluster.locks.lock(inode, lock, { wait: false });
    return undefined;
  }
  await mount.cluster.locks.lock(inode, lock, wait ? { wait, signal: request.signal } : { wait });
  if (lock.family === 'posix') mount.locks.took(inode, lock.owner);
  if (mount.known.mayHavePages(inode)) await mount.kernel.invalidateInode(nodeOfInode(mount, inode));
  else await mount.kernel.invalidateInode(nodeOfInode(mount, inode), true);
  return undefined;
}
