/** Extended attributes. Namespaces and permission (user.*, trusted.*, security.*) are the kernel's business. */
import { HoldfastError } from '../../protocol/errors.js';
import { MAX_XATTR_NAME_BYTES, MAX_XATTR_VALUE_BYTES } from '../../protocol/limits.js';
import type { KernelRequest } from '../kernel-request.js';
import { type Answer, inodeOfNode, type MountState, mustBeWritable } from '../mount-state.js';

const XATTR_CREATE = 1;
const XATTR_REPLACE = 2;

function nameAt(request: KernelRequest, at: number): { text: string; next: number } {
  const name = request.text(at);
  if (name.next - at - 1 > MAX_XATTR_NAME_BYTES) throw new HoldfastError('ERANGE', 'an attribute name may have 255 bytes');
  // Not kept, so that acl tools say so instead of believing in rules nobody applies.
  if (name.text.startsWith('system.')) throw new HoldfastError('EOPNOTSUPP', 'system attributes are not supported');
  return name;
}

/** setxattr(2). */
export async function setxattr(mount: MountState, request: KernelRequest): Promise<Answer> {
  mustBeWritable(mount);
  const sizeBytes = request.u32(0);
  const flags = request.u32(4);
  const { text: name, next } = nameAt(request, 8);
  if (sizeBytes > MAX_XATTR_VALUE_BYTES) throw new HoldfastError('E2BIG', 'an attribute may have 64 KiB');
  const how = flags & XATTR_CREATE ? 'create' : flags & XATTR_REPLACE ? 'replace' : 'any';
  // A copy: the request's buffer must not live as long as the value might.
  await mount.cluster.tree.setXattr(inodeOfNode(mount, request.node), name, Buffer.from(request.payload(next, sizeBytes)), how);
  return undefined;
}

/** getxattr(2). An inode without any is answered without asking anybody: ls, cp and the kernel ask often. */
export async function getxattr(mount: MountState, request: KernelRequest): Promise<Answer> {
  const inode = inodeOfNode(mount, request.node);
  const { text: name } = nameAt(request, 8);
  const { tree } = mount.cluster;
  const { hasXattrs } = await tree.getAttributes(inode);
  if (!hasXattrs) throw new HoldfastError('ENODATA', 'no such attribute');
  return sized(request.u32(0), await tree.getXattr(inode, name));
}

/** listxattr(2). */
export async function listxattr(mount: MountState, request: KernelRequest): Promise<Answer> {
  const inode = inodeOfNode(mount, request.node);
  const { tree } = mount.cluster;
  const { hasXattrs } = await tree.getAttributes(inode);
  const names = hasXattrs ? await tree.listXattrs(inode) : [];
  return sized(request.u32(0), Buffer.from(names.map((name) => `${name}\0`).join(''), 'utf8'));
}

/** removexattr(2). */
export async function removexattr(mount: MountState, request: KernelRequest): Promise<Answer> {
  mustBeWritable(mount);
  const { text: name } = nameAt(request, 0);
  await mount.cluster.tree.removeXattr(inodeOfNode(mount, request.node), name);
  return undefined;
}

/** With room for nothing the caller asks how much there is. */
function sized(roomBytes: number, value: Buffer): Buffer {
  if (roomBytes === 0) {
    const out = Buffer.alloc(8);
    out.writeUInt32LE(value.length, 0);
    return out;
  }
  if (value.length > roomBytes) throw new HoldfastError('ERANGE', 'the buffer is too small');
  return value;
}
