/**
 * Operations on names: find, make, move, remove.
 *
 * The kernel holds the directory's lock during all that change it, has checked permissions by the attributes we gave it (default_permissions, sticky bit
 * included), and has looked both names up. Another mount may have changed the directory since, so the coordinator judges again.
 * On return the change is committed (P3).
 */
import { HoldfastError } from '../../protocol/errors.js';
import { MAX_SYMLINK_BYTES } from '../../protocol/limits.js';
import { kindOf } from '../attributes.js';
import type { KernelRequest } from '../kernel-request.js';
import { type Answer, callerOf, entryAnswer, inodeOfNode, type MountState, mustBeWritable, nodeOfInode } from '../mount-state.js';

const RENAME_NOREPLACE = 1;
const RENAME_EXCHANGE = 2;

/** Any call with a path, once per component the kernel does not know. Answered from the client's cache while its lease holds. */
export async function lookup(mount: MountState, request: KernelRequest): Promise<Answer> {
  const { text: name } = request.name(0);
  const parent = inodeOfNode(mount, request.node);
  const attributes = await mount.cluster.tree.lookup(parent, name);
  // No negative answer with a timeout: a file another mount makes must be found at once.
  if (!attributes) throw new HoldfastError('ENOENT', 'no such entry');
  return entryAnswer(mount, attributes, parent, name);
}

/** The kernel dropped an inode from its memory. No answer. */
export function forget(mount: MountState, request: KernelRequest): Answer {
  mount.known.forget(inodeOfNode(mount, request.node), request.u64(0));
  return undefined;
}

export function forgetMany(mount: MountState, request: KernelRequest): Answer {
  const count = request.u32(0);
  for (let index = 0; index < count; index++) {
    mount.known.forget(inodeOfNode(mount, request.u64(8 + index * 16)), request.u64(16 + index * 16));
  }
  return undefined;
}

/** readlink(2) and every walk through the link. The kernel keeps the target: it never changes for an inode. */
export async function readlink(mount: MountState, request: KernelRequest): Promise<Answer> {
  const { kind, target } = await mount.cluster.tree.getAttributes(inodeOfNode(mount, request.node));
  if (kind !== 'symlink' || target === undefined) throw new HoldfastError('EINVAL', 'not a symbolic link');
  return Buffer.from(target, 'utf8');
}

/** symlink(2). */
export async function symlink(mount: MountState, request: KernelRequest): Promise<Answer> {
  mustBeWritable(mount);
  const { text: name, next } = request.name(0);
  const { text: target } = request.text(next);
  if (Buffer.byteLength(target) > MAX_SYMLINK_BYTES) throw new HoldfastError('ENAMETOOLONG', 'the target is too long');
  const parent = inodeOfNode(mount, request.node);
  const { attributes } = await mount.cluster.tree.create({
    parent,
    name,
    kind: 'symlink',
    mode: 0o777,
    as: callerOf(request),
    exclusive: true,
    target,
  });
  return entryAnswer(mount, attributes, parent, name);
}

/** mkdir(2). The kernel applied the umask. */
export async function mkdir(mount: MountState, request: KernelRequest): Promise<Answer> {
  mustBeWritable(mount);
  const { text: name } = request.name(8);
  const parent = inodeOfNode(mount, request.node);
  const { attributes } = await mount.cluster.tree.create({
    parent,
    name,
    kind: 'directory',
    mode: request.u32(0) & 0o7777,
    as: callerOf(request),
    exclusive: true,
  });
  return entryAnswer(mount, attributes, parent, name);
}

/** mknod(2), mkfifo(3), bind(2) of a local socket. Devices only by root: the kernel checked. */
export async function mknod(mount: MountState, request: KernelRequest): Promise<Answer> {
  mustBeWritable(mount);
  const mode = request.u32(0);
  const { text: name } = request.name(16);
  const kind = kindOf(mode);
  if (!kind || kind === 'directory' || kind === 'symlink') throw new HoldfastError('EINVAL', 'mknod cannot make that');
  const parent = inodeOfNode(mount, request.node);
  const { attributes } = await mount.cluster.tree.create({
    parent,
    name,
    kind,
    mode: mode & 0o7777,
    as: callerOf(request),
    exclusive: true,
    ...(kind === 'char' || kind === 'block' ? { rdev: request.u32(4) } : {}),
  });
  return entryAnswer(mount, attributes, parent, name);
}

/** link(2). Both names lead to one kernel inode, hence to the same pages. */
export async function link(mount: MountState, request: KernelRequest): Promise<Answer> {
  mustBeWritable(mount);
  const { text: name } = request.name(8);
  const parent = inodeOfNode(mount, request.node);
  const attributes = await mount.cluster.tree.link(inodeOfNode(mount, request.u64(0)), parent, name);
  return entryAnswer(mount, attributes, parent, name);
}

/** unlink(2). A file that is open here or elsewhere lives on without a name, and nowhere under another one. */
export async function unlink(mount: MountState, request: KernelRequest): Promise<Answer> {
  mustBeWritable(mount);
  const { text: name } = request.name(0);
  await mount.cluster.tree.unlink(inodeOfNode(mount, request.node), name, callerOf(request));
  return undefined;
}

/** rmdir(2). Who stands in the directory goes on standing in a directory without entries and links. */
export async function rmdir(mount: MountState, request: KernelRequest): Promise<Answer> {
  mustBeWritable(mount);
  const { text: name } = request.name(0);
  const parent = inodeOfNode(mount, request.node);
  const { tree } = mount.cluster;
  const attributes = await tree.lookup(parent, name);
  await tree.removeDirectory(parent, name, callerOf(request));
  if (attributes) mount.known.remove(attributes);
  return undefined;
}

/** rename(2). Others see the old or the new file under the name, never none. */
export function rename(mount: MountState, request: KernelRequest): Promise<Answer> {
  return move(mount, request, 8, 0);
}

/** renameat2(2) with RENAME_NOREPLACE or RENAME_EXCHANGE. */
export function renameWithFlags(mount: MountState, request: KernelRequest): Promise<Answer> {
  return move(mount, request, 16, request.u32(8));
}

async function move(mount: MountState, request: KernelRequest, namesAt: number, flags: number): Promise<Answer> {
  mustBeWritable(mount);
  if (flags !== 0 && flags !== RENAME_NOREPLACE && flags !== RENAME_EXCHANGE) throw new HoldfastError('EINVAL', 'unknown rename flags');
  const { text: from, next } = request.name(namesAt);
  const { text: to } = request.name(next);
  const fromParent = inodeOfNode(mount, request.node);
  const toParent = inodeOfNode(mount, request.u64(0));
  const { tree } = mount.cluster;
  const how = flags === RENAME_NOREPLACE ? 'noreplace' : flags === RENAME_EXCHANGE ? 'exchange' : 'replace';
  const replaced = how === 'replace' ? await tree.lookup(toParent, to) : null;
  await tree.rename({ parent: fromParent, name: from }, { parent: toParent, name: to }, how, callerOf(request));
  if (replaced?.kind === 'directory') mount.known.remove(replaced);
  // A replaced file that somebody has open lost a link; the kernel must ask to see it.
  if (replaced && mount.known.has(replaced.inode)) void mount.kernel.invalidateInode(nodeOfInode(mount, replaced.inode), true);
  return undefined;
}
