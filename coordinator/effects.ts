/** What one change touched, gathered while it is applied: the other clients that cached any of it are told before the change is acknowledged. */
import type { InodeId } from '../protocol/entities.js';

export interface Touched {
  readonly inode: InodeId;
  /** Names of a directory that changed; absent = all of it. Empty = attributes only. */
  readonly names?: readonly string[];
  readonly isUnlinked?: boolean;
}

export class Effects {
  private readonly byInode = new Map<InodeId, Touched>();
  /** Orphans without holders, to be taken apart in the background. */
  readonly toReap: InodeId[] = [];

  touch(inode: InodeId, ...names: string[]): void {
    const before = this.byInode.get(inode);
    this.byInode.set(inode, { ...before, inode, names: before?.names ? [...before.names, ...names] : names });
  }
  /** The inode lost its last name. */
  unlinked(inode: InodeId): void {
    this.byInode.set(inode, { ...this.byInode.get(inode), inode, isUnlinked: true });
  }
  get touched(): IterableIterator<Touched> {
    return this.byInode.values();
  }
}
