/**
 * Root squash: on a machine whose root is not trusted, root is nobody in the mount. The kernel lets root pass wherever it checks permissions for us, so
 * for root's requests they are checked here, as they are for everybody else, with the user and group that stand for it. What goes by an open file or
 * directory was checked when it was opened.
 *
 * Names may not be answered by the kernel itself meanwhile, or a path would not be walked before our eyes: such a mount keeps none (see mounted.ts).
 */
import type { Identity } from '../client/api.js';
import type { InodeAttributes } from '../protocol/entities.js';
import { HoldfastError } from '../protocol/errors.js';
import { Opcode, SetAttribute } from './kernel-protocol.js';
import type { KernelRequest } from './kernel-request.js';
import { inodeOfNode, type MountState } from './mount-state.js';

export const NOBODY: Identity = { uid: 65534, gid: 65534 };

const READ = 4;
const WRITE = 2;
const ENTER = 1;
const O_ACCMODE = 3;
const O_TRUNC = 0o1000;
/** The kernel's own mark of an open for execution. */
const FMODE_EXEC = 0x20;

/** What a request needs: permission bits on nodes, or to own one. */
interface Need {
  readonly node: number;
  readonly bits?: number;
  readonly isOwner?: boolean;
}

/** Pure. What root's request would need of anybody else; nothing for what goes by something that is open. */
export function needsOf(request: Pick<KernelRequest, 'opcode' | 'node' | 'u32' | 'u64'>): Need[] {
  const { opcode, node } = request;
  switch (opcode) {
    case Opcode.LOOKUP:
      return [{ node, bits: ENTER }];
    case Opcode.SYMLINK:
    case Opcode.MKNOD:
    case Opcode.MKDIR:
    case Opcode.UNLINK:
    case Opcode.RMDIR:
    case Opcode.CREATE:
      return [{ node, bits: WRITE | ENTER }];
    case Opcode.RENAME:
    case Opcode.RENAME2:
      return [
        { node, bits: WRITE | ENTER },
        { node: request.u64(0), bits: WRITE | ENTER },
      ];
    case Opcode.LINK:
      // As with protected hard links: only of what one could change anyway.
      return [
        { node, bits: WRITE | ENTER },
        { node: request.u64(0), bits: READ | WRITE },
      ];
    case Opcode.OPEN: {
      const flags = request.u32(0);
      const access = flags & O_ACCMODE;
      const reads = access !== 1 ? READ : 0;
      const writes = access !== 0 || flags & O_TRUNC ? WRITE : 0;
      return [{ node, bits: flags & FMODE_EXEC ? ENTER : reads | writes }];
    }
    case Opcode.OPENDIR:
    case Opcode.GETXATTR:
    case Opcode.LISTXATTR:
      return [{ node, bits: READ }];
    case Opcode.SETXATTR:
    case Opcode.REMOVEXATTR:
      return [{ node, isOwner: true }];
    case Opcode.SETATTR:
      return needsOfSetattr(node, request.u32(0));
    default:
      return [];
  }
}

function needsOfSetattr(node: number, valid: number): Need[] {
  const needs: Need[] = [];
  if (valid & SetAttribute.SIZE && !(valid & SetAttribute.HANDLE)) needs.push({ node, bits: WRITE });
  const isNow = (of: number, now: number): boolean => (valid & of) === 0 || (valid & now) !== 0;
  const touches = (valid & (SetAttribute.ATIME | SetAttribute.MTIME)) !== 0;
  const areNow = isNow(SetAttribute.ATIME, SetAttribute.ATIME_NOW) && isNow(SetAttribute.MTIME, SetAttribute.MTIME_NOW);
  if (valid & (SetAttribute.MODE | SetAttribute.UID | SetAttribute.GID) || (touches && !areNow)) needs.push({ node, isOwner: true });
  else if (touches) needs.push({ node, bits: WRITE });
  return needs;
}

/** Pure. Whether somebody without privilege has these permission bits. */
export function mayAccess({ uid, gid, mode }: Pick<InodeAttributes, 'uid' | 'gid' | 'mode'>, who: Identity, bits: number): boolean {
  const shift = uid === who.uid ? 6 : gid === who.gid ? 3 : 0;
  return ((mode >> shift) & bits) === bits;
}

/** Makes root's request that of `who`, if `who` may. @throws {HoldfastError} EACCES, EPERM */
export async function squash(mount: MountState, request: KernelRequest, who: Identity): Promise<void> {
  request.uid = who.uid;
  request.gid = who.gid;
  if (request.opcode === Opcode.SETATTR && request.u32(0) & (SetAttribute.UID | SetAttribute.GID))
    throw new HoldfastError('EPERM', 'root owns nothing here and gives nothing away');
  for (const { node, bits, isOwner } of needsOf(request)) {
    const attributes = await mount.cluster.tree.getAttributes(inodeOfNode(mount, node));
    if (isOwner && attributes.uid !== who.uid) throw new HoldfastError('EPERM', 'root is nobody here');
    if (bits !== undefined && !mayAccess(attributes, who, bits)) throw new HoldfastError('EACCES', 'root is nobody here');
  }
}
