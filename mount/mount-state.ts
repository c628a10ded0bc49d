/** What every operation of one mount works on. */
import type { Cluster, Identity } from '../client/api.js';
import type { InodeAttributes, InodeId } from '../protocol/entities.js';
import { HoldfastError } from '../protocol/errors.js';
import { isLiveInode } from '../protocol/hidden.js';
import { inodeOf, type KernelTimeouts, nodeOf } from './attributes.js';
import type { Handles } from './handles.js';
import type { HeldLocks } from './held-locks.js';
import type { KernelChannel } from './kernel-channel.js';
import type { KernelRequest } from './kernel-request.js';
import type { KnownInodes } from './known-inodes.js';

/** The kernel counts in jiffies, from when its caller takes the answer. */
export const KERNEL_CLOCK_MS = 50;

export interface MountState {
  readonly cluster: Cluster;
  readonly kernel: KernelChannel;
  readonly timeouts: KernelTimeouts;
  readonly handles: Handles;
  readonly known: KnownInodes;
  readonly locks: HeldLocks;
  readonly isReadOnly: boolean;
}

/** Nothing, one piece, or a head and the bytes that follow it. */
export type Answer = Buffer | readonly [head: Buffer, tail: Buffer] | undefined;
export type Operation = (mount: MountState, request: KernelRequest) => Answer | Promise<Answer>;

export const inodeOfNode = (mount: MountState, node: number): InodeId => inodeOf(mount.cluster.tree.root, node);
export const nodeOfInode = (mount: MountState, inode: InodeId): number => nodeOf(mount.cluster.tree.root, inode);
export const callerOf = (request: KernelRequest): Identity => ({ uid: request.uid, gid: request.gid });

/** The answer that makes the kernel know an inode under a name; it will be given back by FORGET. */
export function entryAnswer(mount: MountState, attributes: InodeAttributes, parent: InodeId, name: string): Buffer {
  toldKernel(mount, attributes, parent, name);
  return mount.timeouts.entryReply(nodeOfInode(mount, attributes.inode), attributes);
}

/** Just before the kernel gets an entry of this name. */
export function toldKernel(mount: MountState, attributes: InodeAttributes, parent: InodeId, name: string): void {
  mount.known.remember(attributes.inode, parent, name);
  if (attributes.kind === 'directory') mount.known.keepsName(parent, name, performance.now(), mount.timeouts.nowMs + KERNEL_CLOCK_MS);
}

/** @throws EROFS the mount may only read, or `inode` is of a snapshot (told here, since a write would only be refused when it is saved) */
export function mustBeWritable(mount: MountState, inode?: InodeId): void {
  if (mount.isReadOnly) throw new HoldfastError('EROFS', 'mounted read-only');
  if (inode !== undefined && !isLiveInode(inode)) throw new HoldfastError('EROFS', 'a snapshot cannot be changed');
}
