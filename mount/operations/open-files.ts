/** The life of an open file: create or open, flush at each close, fsync, release after the last one. */
import { constants } from 'node:fs';
import type { FileHandle } from '../../client/api.js';
import { HoldfastError } from '../../protocol/errors.js';
import { ENTRY_BYTES, OPEN_KILL_SUIDGID, OpenReply, RELEASE_FLOCK_UNLOCK, writeU64 } from '../kernel-protocol.js';
import type { KernelRequest } from '../kernel-request.js';
import { type Answer, callerOf, inodeOfNode, type MountState, mustBeWritable, nodeOfInode } from '../mount-state.js';
import { clearSetId } from './attributes.js';

const OPEN_OUT_BYTES = 16;
const ACCESS_MODE = constants.O_WRONLY | constants.O_RDWR;

/**
 * open(2) of a file that exists. The kernel checked permission. On return reads see everything that any mount had closed or synced before
 * this call (close-to-open): the kernel drops the pages it has, unless the data is the same as at the last open.
 */
export async function open(mount: MountState, request: KernelRequest): Promise<Answer> {
  const inode = inodeOfNode(mount, request.node);
  const flags = request.u32(0);
  const isWritable = (flags & ACCESS_MODE) !== constants.O_RDONLY;
  if (isWritable || flags & constants.O_TRUNC) mustBeWritable(mount, inode);

  const file = await mount.cluster.open(inode);
  try {
    if (flags & constants.O_TRUNC) {
      await file.truncate(0);
      if (request.u32(4) & OPEN_KILL_SUIDGID) await clearSetId(mount, inode);
    }
    const attributes = await file.attributes();
    const keepsPages = mount.known.openedAt(inode, attributes.dataVersion) && !(flags & constants.O_TRUNC);
    const out = Buffer.alloc(OPEN_OUT_BYTES);
    addHandle(mount, file, isWritable, flags, keepsPages, out, 0);
    return out;
  } catch (error) {
    await file.release();
    throw error;
  }
}

/**
 * open(2) with O_CREAT of a name the kernel does not know. When another mount made it meanwhile and O_EXCL was not asked for,
 * ESTALE makes the kernel look the name up again and check permission of what is there.
 */
export async function create(mount: MountState, request: KernelRequest): Promise<Answer> {
  mustBeWritable(mount);
  const flags = request.u32(0);
  const { text: name } = request.name(16);
  const parent = inodeOfNode(mount, request.node);
  const { attributes, isNew } = await mount.cluster.tree.create({
    parent,
    name,
    kind: 'file',
    mode: request.u32(4) & 0o7777,
    as: callerOf(request),
    exclusive: (flags & constants.O_EXCL) !== 0,
  });
  if (!isNew) throw new HoldfastError('ESTALE', 'the name was just made by somebody else');
  const file = await mount.cluster.open(attributes.inode);
  const out = Buffer.alloc(ENTRY_BYTES + OPEN_OUT_BYTES);
  mount.known.remember(attributes.inode, parent, name);
  mount.known.openedAt(attributes.inode, attributes.dataVersion);
  mount.timeouts.writeEntry(out, 0, nodeOfInode(mount, attributes.inode), attributes);
  addHandle(mount, file, (flags & ACCESS_MODE) !== constants.O_RDONLY, flags, false, out, ENTRY_BYTES);
  return out;
}

function addHandle(
  mount: MountState,
  file: FileHandle,
  isWritable: boolean,
  flags: number,
  keepsPages: boolean,
  out: Buffer,
  at: number,
): void {
  // An append lands where the file ends for everybody, which need not be where this kernel thinks. Through the page cache its bytes would also
  // appear at the wrong place. Who reads meanwhile passes it by as well: the kernel reads pages only up to the size it believes in.
  const isAppending = isWritable && (flags & constants.O_APPEND) !== 0;
  const isDirect = isAppending || (!isWritable && mount.handles.isAppendedTo(file.inode));
  const handle = mount.handles.addFile(file, { isWritable, isAppending, isDirect });
  writeU64(out, at, handle.number);
  out.writeUInt32LE((isDirect ? OpenReply.DIRECT_IO : 0) | (keepsPages ? OpenReply.KEEP_CACHE : 0), at + 8);
}

/**
 * close(2), for each descriptor that leads to the handle. On return everything written is at enough nodes and committed (P2); an error of
 * any earlier write of this handle is told here. The owner's byte range locks go, after its data is where others find it.
 */
export async function flush(mount: MountState, request: KernelRequest): Promise<Answer> {
  const handle = mount.handles.file(request.u64(0));
  const owner = request.token(16);
  try {
    if (handle.isWritable) await handle.file.flush();
  } catch (error) {
    // The pages show what was not saved.
    mount.known.distrust(handle.inode);
    throw error;
  } finally {
    if (mount.locks.takeAway(handle.inode, owner)) await mount.cluster.locks.drop(handle.inode, 'posix', owner);
  }
  return undefined;
}

/** fsync(2), fdatasync(2), msync(2). On return everything written is on stable storage (P1). */
export async function fsync(mount: MountState, request: KernelRequest): Promise<Answer> {
  const handle = mount.handles.file(request.u64(0));
  try {
    await handle.file.sync();
  } catch (error) {
    mount.known.distrust(handle.inode);
    throw error;
  }
  return undefined;
}

/** After the last close and the last mapping. Nobody sees an error from here: flush told it. A file without names goes now. */
export async function release(mount: MountState, request: KernelRequest): Promise<Answer> {
  const handle = mount.handles.removeFile(request.u64(0));
  if (request.u32(12) & RELEASE_FLOCK_UNLOCK) {
    if (handle.isWritable) await handle.file.flush().catch(() => {});
    await mount.cluster.locks.drop(handle.inode, 'flock', request.token(16)).catch(() => {});
  }
  await handle.file.release();
  return undefined;
}
