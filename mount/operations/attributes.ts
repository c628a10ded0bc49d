/** Operations on attributes: stat, chmod, chown, utimes, truncate; and the space left. */
import type { TimeChange } from '../../client/api.js';
import type { InodeAttributes, InodeId } from '../../protocol/entities.js';
import { HoldfastError, isCode } from '../../protocol/errors.js';
import { MAX_FILE_SIZE_BYTES, MAX_NAME_BYTES } from '../../protocol/limits.js';
import { Mode, SetAttribute, writeU64 } from '../kernel-protocol.js';
import type { KernelRequest } from '../kernel-request.js';
import { type Answer, inodeOfNode, type MountState, mustBeWritable } from '../mount-state.js';

/** stat(2), fstat(2) and the kernel's own curiosity. Includes what open files of this mount have not committed yet. */
export async function getattr(mount: MountState, request: KernelRequest): Promise<Answer> {
  return mount.timeouts.attributesReply(await currentAttributes(mount, inodeOfNode(mount, request.node)));
}

async function currentAttributes(mount: MountState, inode: InodeId): Promise<InodeAttributes> {
  try {
    return await mount.cluster.tree.getAttributes(inode);
  } catch (error) {
    const removed = mount.known.removed(inode);
    if (removed && isCode(error, 'ENOENT', 'ESTALE')) return removed;
    throw error;
  }
}

/**
 * chmod(2), chown(2), utimensat(2), truncate(2), ftruncate(2) and O_TRUNC without open. The kernel checked permission; several changes may come at
 * once. A truncate through a descriptor goes to the open file, so it hits the right inode even when its name leads elsewhere by now.
 */
export async function setattr(mount: MountState, request: KernelRequest): Promise<Answer> {
  const inode = inodeOfNode(mount, request.node);
  mustBeWritable(mount, inode);
  const valid = request.u32(0);
  const { tree } = mount.cluster;

  if (valid & SetAttribute.SIZE) {
    const sizeBytes = request.u64(16);
    if (sizeBytes > MAX_FILE_SIZE_BYTES) throw new HoldfastError('EFBIG', 'files end at 4 PiB');
    if (valid & SetAttribute.HANDLE) await mount.handles.file(request.u64(8)).file.truncate(sizeBytes);
    else await tree.truncate(inode, sizeBytes);
    if (valid & SetAttribute.KILL_SUIDGID) await clearSetId(mount, inode);
  }

  const atime = timeOf(request, valid, SetAttribute.ATIME, SetAttribute.ATIME_NOW, 32, 56);
  const mtime = timeOf(request, valid, SetAttribute.MTIME, SetAttribute.MTIME_NOW, 40, 60);
  const changesOwner = (valid & (SetAttribute.UID | SetAttribute.GID)) !== 0;
  if (valid & SetAttribute.MODE || changesOwner || atime !== undefined || mtime !== undefined) {
    // POSIX: a file that changes hands loses its setuid and setgid bits. The kernel leaves that to us (HANDLE_KILLPRIV_V2).
    const losesSetId = changesOwner && (await mayCarrySetId(mount, inode));
    await tree.setAttributes(inode, {
      ...(valid & SetAttribute.MODE ? { mode: request.u32(68) & 0o7777 } : {}),
      ...(valid & SetAttribute.UID ? { uid: request.u32(76) } : {}),
      ...(valid & SetAttribute.GID ? { gid: request.u32(80) } : {}),
      ...(atime !== undefined ? { atime } : {}),
      ...(mtime !== undefined ? { mtime } : {}),
      ...(losesSetId ? { clearSetId: true } : {}),
    });
  }
  return mount.timeouts.attributesReply(await currentAttributes(mount, inode));
}

function timeOf(
  request: KernelRequest,
  valid: number,
  bit: number,
  nowBit: number,
  secondsAt: number,
  nsAt: number,
): TimeChange | undefined {
  if (!(valid & bit)) return undefined;
  if (valid & nowBit) return 'now';
  return { s: request.i64(secondsAt), ns: request.u32(nsAt) };
}

async function mayCarrySetId(mount: MountState, inode: InodeId): Promise<boolean> {
  const { kind, mode } = await mount.cluster.tree.getAttributes(inode);
  return kind === 'file' && (mode & (Mode.SETUID | Mode.SETGID)) !== 0;
}

/** Clears the bits if the file carries any: one cached look, and a call only when needed. */
export async function clearSetId(mount: MountState, inode: InodeId): Promise<void> {
  if (await mayCarrySetId(mount, inode)) await mount.cluster.tree.setAttributes(inode, { clearSetId: true });
}

const STATFS_BLOCK_BYTES = 4096;

/** statfs(2), df(1). */
export async function statfs(mount: MountState): Promise<Answer> {
  const { totalBytes, freeBytes, files, filesFree } = await mount.cluster.statVolume();
  const out = Buffer.alloc(80);
  writeU64(out, 0, Math.floor(totalBytes / STATFS_BLOCK_BYTES));
  writeU64(out, 8, Math.floor(freeBytes / STATFS_BLOCK_BYTES));
  writeU64(out, 16, Math.floor(freeBytes / STATFS_BLOCK_BYTES));
  writeU64(out, 24, files + filesFree);
  writeU64(out, 32, filesFree);
  out.writeUInt32LE(STATFS_BLOCK_BYTES, 40);
  out.writeUInt32LE(MAX_NAME_BYTES, 44);
  out.writeUInt32LE(STATFS_BLOCK_BYTES, 48);
  return out;
}
