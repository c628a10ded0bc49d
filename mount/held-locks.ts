import type { InodeId } from '../protocol/entities.js';

/** Who took byte range locks through this mount, so that a close of a file without any costs no call to the coordinator. */
export class HeldLocks {
  readonly #owners = new Map<InodeId, Set<string>>();

  took(inode: InodeId, owner: string): void {
    const owners = this.#owners.get(inode);
    if (owners) owners.add(owner);
    else this.#owners.set(inode, new Set([owner]));
  }
  /** True when the owner may hold locks; it is forgotten. */
  takeAway(inode: InodeId, owner: string): boolean {
    const owners = this.#owners.get(inode);
    if (!owners?.delete(owner)) return false;
    if (owners.size === 0) this.#owners.delete(inode);
    return true;
  }
}
