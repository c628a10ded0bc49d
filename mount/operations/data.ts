/** Operations on the bytes of an open file. */
import { constants } from 'node:fs';
import { HoldfastError } from '../../protocol/errors.js';
import { MAX_FILE_SIZE_BYTES } from '../../protocol/limits.js';
import { WRITE_KILL_SUIDGID, writeU64 } from '../kernel-protocol.js';
import type { KernelRequest } from '../kernel-request.js';
import { type Answer, type MountState, mustBeWritable, nodeOfInode } from '../mount-state.js';
import { clearSetId } from './attributes.js';

const EMPTY = Buffer.alloc(0);

/** read(2), a page fault, read-ahead. Verified bytes or an error (P4); short only at the end of the file. */
export async function read(mount: MountState, request: KernelRequest): Promise<Answer> {
  const handle = mount.handles.file(request.u64(0));
  const bytes = await handle.file.read(request.u64(8), request.u32(16));
  mount.known.cached(handle.inode);
  return [EMPTY, bytes];
}

/**
 * write(2), or pages of a mapping going out. On return the bytes are ours, in memory within the dirty budget; flush and fsync make them safe.
 * With O_APPEND they go to the end of the file as the cluster knows it.
 */
export async function write(mount: MountState, request: KernelRequest): Promise<Answer> {
  mustBeWritable(mount);
  const handle = mount.handles.file(request.u64(0));
  const offset = request.u64(8);
  const sizeBytes = request.u32(16);
  if (offset + sizeBytes > MAX_FILE_SIZE_BYTES) throw new HoldfastError('EFBIG', 'files end at 4 PiB');
  if (request.u32(20) & WRITE_KILL_SUIDGID) await clearSetId(mount, handle.inode);
  const bytes = request.payload(40, sizeBytes);
  if (request.u32(32) & constants.O_APPEND) {
    const at = await handle.file.write(offset, bytes, { append: true });
    // Without FOPEN_DIRECT_IO (O_APPEND was set later by fcntl) the kernel now has these bytes at another place. With it the kernel may have read
    // the page where the file ended, for somebody else, and shows zeros in place of these bytes.
    if (handle.isDirect ? mount.known.mayHavePages(handle.inode) : at !== offset) {
      mount.known.distrust(handle.inode);
      void mount.kernel.invalidateInode(nodeOfInode(mount, handle.inode));
    }
  } else {
    await handle.file.write(offset, bytes, { isGiven: request.ownsBytes });
  }
  if (!handle.isDirect) mount.known.cached(handle.inode);
  const out = Buffer.alloc(8);
  out.writeUInt32LE(sizeBytes, 0);
  return out;
}

const FALLOCATE_KEEP_SIZE = 1;
const FALLOCATE_PUNCH_HOLE = 2;
const FALLOCATE_ZERO_RANGE = 16;

/** fallocate(2): reserve, punch a hole, zero a range. The kernel drops the pages of the range. */
export async function fallocate(mount: MountState, request: KernelRequest): Promise<Answer> {
  mustBeWritable(mount);
  const { file } = mount.handles.file(request.u64(0));
  const offset = request.u64(8);
  const length = request.u64(16);
  const mode = request.u32(24);
  if (offset + length > MAX_FILE_SIZE_BYTES) throw new HoldfastError('EFBIG', 'files end at 4 PiB');
  const keepSize = (mode & FALLOCATE_KEEP_SIZE) !== 0;
  switch (mode & ~FALLOCATE_KEEP_SIZE) {
    case 0:
      await file.allocate(offset, length, keepSize);
      return undefined;
    case FALLOCATE_PUNCH_HOLE:
      await file.punch(offset, length, true);
      return undefined;
    case FALLOCATE_ZERO_RANGE:
      await file.punch(offset, length, keepSize);
      return undefined;
    default:
      throw new HoldfastError('EOPNOTSUPP', 'fallocate mode not supported');
  }
}

const SEEK_DATA = 3;
const SEEK_HOLE = 4;

/** lseek(2) with SEEK_DATA or SEEK_HOLE; the kernel does the others itself. */
export async function lseek(mount: MountState, request: KernelRequest): Promise<Answer> {
  const { file } = mount.handles.file(request.u64(0));
  const whence = request.u32(16);
  if (whence !== SEEK_DATA && whence !== SEEK_HOLE) throw new HoldfastError('EINVAL', 'unknown whence');
  const out = Buffer.alloc(8);
  writeU64(out, 0, await file.seek(request.u64(8), whence === SEEK_DATA ? 'data' : 'hole'));
  return out;
}

/** The older reply has room for 32 bits; callers ask again for the rest. */
const MAX_COPY_32_BYTES = 0x7fff_f000;

/** copy_file_range(2): extents are copied, not bytes, so any length costs the same. */
export async function copyFileRange(mount: MountState, request: KernelRequest): Promise<Answer> {
  const copied = await copy(mount, request, MAX_COPY_32_BYTES);
  const out = Buffer.alloc(8);
  out.writeUInt32LE(copied, 0);
  return out;
}

export async function copyFileRange64(mount: MountState, request: KernelRequest): Promise<Answer> {
  const out = Buffer.alloc(8);
  writeU64(out, 0, await copy(mount, request, MAX_FILE_SIZE_BYTES));
  return out;
}

async function copy(mount: MountState, request: KernelRequest, maxBytes: number): Promise<number> {
  mustBeWritable(mount);
  const from = mount.handles.file(request.u64(0));
  const fromOffset = request.u64(8);
  const to = mount.handles.file(request.u64(24));
  const toOffset = request.u64(32);
  const length = Math.min(request.u64(40), maxBytes, MAX_FILE_SIZE_BYTES - fromOffset);
  if (toOffset + Math.min(length, 1) > MAX_FILE_SIZE_BYTES) throw new HoldfastError('EFBIG', 'files end at 4 PiB');
  return from.file.copyRange(fromOffset, to.file, toOffset, Math.min(length, MAX_FILE_SIZE_BYTES - toOffset));
}
