/**
 * What is reachable in a volume but no part of its live tree: `.snapshots/NAME/...` and `.trash` at the root. Both are hidden: a listing of the
 * root does not show them. The number of an inode tells where it belongs, so whoever has a number needs no context:
 *
 *   number = slot * 2^34 + n     slot 0: the live tree; slot 1...: the snapshot of that number, n being the inode it was;
 *                                the last slot: the hidden directories themselves, two for each volume
 */
import type { InodeId, VolumeId } from './entities.js';

/** More inodes than this are never made: a thousand a second for half a year of nothing else. */
export const MAX_LIVE_INODES = 2 ** 34;
const HIDDEN_SLOT = 2 ** 18 - 1;
export const MAX_SNAPSHOT_NUMBER = HIDDEN_SLOT - 1;

export const SNAPSHOTS_NAME = '.snapshots';
export const TRASH_NAME = '.trash';
/** Names of a volume's root that are there without being listed. */
export const isHiddenName = (name: string): boolean => name === SNAPSHOTS_NAME || name === TRASH_NAME;

export const isLiveInode = (inode: InodeId): boolean => inode < MAX_LIVE_INODES;
/** The inode as it appears in a snapshot. */
export const inSnapshot = (snapshot: number, inode: InodeId): InodeId => snapshot * MAX_LIVE_INODES + inode;
/** Number of the snapshot an inode is in; 0 for the live tree, undefined for hidden directories. */
export function snapshotOfInode(inode: InodeId): number | undefined {
  const slot = Math.floor(inode / MAX_LIVE_INODES);
  return slot === HIDDEN_SLOT ? undefined : slot;
}
/** The inode a snapshot's inode was when the snapshot was taken. */
export const originalInode = (inode: InodeId): InodeId => inode % MAX_LIVE_INODES;

export const snapshotsDirectory = (volume: VolumeId): InodeId => HIDDEN_SLOT * MAX_LIVE_INODES + volume * 2;
export const trashDirectory = (volume: VolumeId): InodeId => HIDDEN_SLOT * MAX_LIVE_INODES + volume * 2 + 1;
/** `.snapshots` or `.trash` itself. */
export const isHiddenDirectory = (inode: InodeId): boolean => Math.floor(inode / MAX_LIVE_INODES) === HIDDEN_SLOT;
export const isTrashDirectory = (inode: InodeId): boolean => isHiddenDirectory(inode) && inode % 2 === 1;
/** The volume whose hidden directory this is. */
export const volumeOfHidden = (inode: InodeId): VolumeId => Math.floor((inode % MAX_LIVE_INODES) / 2);
