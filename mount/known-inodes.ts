/** What the kernel knows of our inodes: which it holds, and of which it may hold pages. */
import type { InodeAttributes, InodeId } from '../protocol/entities.js';

interface KnownInode {
  /** Where it was last seen, for messages. */
  parent: InodeId;
  name: string;
  /** References the kernel took by lookups and gives back by FORGET. */
  references: number;
  /** dataVersion at the last open: pages read since then are of it or newer. */
  openedVersion?: number;
  /** A read or write went through the page cache. */
  mayHavePages: boolean;
  /** Set once a directory was removed here: someone may still stand in it and ask. */
  removed?: InodeAttributes;
}

export class KnownInodes {
  readonly #inodes = new Map<InodeId, KnownInode>();
  /** Names of directories the kernel was told, and until when it may find them without asking; oldest first. */
  readonly #keptNames = new Map<string, number>();

  remember(inode: InodeId, parent: InodeId, name: string): void {
    const known = this.#inodes.get(inode);
    if (known) {
      known.references++;
      known.parent = parent;
      known.name = name;
    } else this.#inodes.set(inode, { references: 1, parent, name, mayHavePages: false });
  }
  /** The kernel was told that this name leads to a directory and may go on by itself for `keptMs`. */
  keepsName(parent: InodeId, name: string, nowMs: number, keptMs: number): void {
    const key = `${parent}/${name}`;
    this.#keptNames.delete(key);
    this.#keptNames.set(key, nowMs + keptMs);
    for (const [oldest, untilMs] of this.#keptNames) {
      if (untilMs > nowMs) break;
      this.#keptNames.delete(oldest);
    }
  }
  /** Whether the kernel may still find this name without asking us. */
  isNameKept(parent: InodeId, name: string, nowMs: number): boolean {
    return (this.#keptNames.get(`${parent}/${name}`) ?? 0) > nowMs;
  }

  /** The path an inode was last seen under, from the root of the volume; by number when that is not known. */
  pathOf(inode: InodeId, root: InodeId): string {
    const names: string[] = [];
    for (let at = inode, depth = 0; at !== root && depth < 4096; depth++) {
      const known = this.#inodes.get(at);
      if (!known) return `inode ${inode}`;
      names.unshift(known.name);
      at = known.parent;
    }
    return `/${names.join('/')}`;
  }
  forget(inode: InodeId, count: number): void {
    const known = this.#inodes.get(inode);
    if (!known) return;
    known.references -= count;
    if (known.references <= 0) this.#inodes.delete(inode);
  }
  has(inode: InodeId): boolean {
    return this.#inodes.has(inode);
  }

  /**
   * For an open that finds the file at `dataVersion`: may the kernel go on using the pages it has? Only when the data is the same as at the last
   * open. Pages may be newer than that (our own writes), never older.
   */
  openedAt(inode: InodeId, dataVersion: number): boolean {
    const known = this.#inodes.get(inode);
    if (!known) return false;
    const isUnchanged = known.openedVersion === dataVersion;
    known.openedVersion = dataVersion;
    return isUnchanged;
  }
  /** The pages may differ from what is stored: the next open must drop them. */
  distrust(inode: InodeId): void {
    const known = this.#inodes.get(inode);
    if (known) known.openedVersion = undefined;
  }

  cached(inode: InodeId): void {
    const known = this.#inodes.get(inode);
    if (known) known.mayHavePages = true;
  }
  mayHavePages(inode: InodeId): boolean {
    return this.#inodes.get(inode)?.mayHavePages ?? false;
  }

  remove(attributes: InodeAttributes): void {
    const known = this.#inodes.get(attributes.inode);
    if (known) known.removed = { ...attributes, nlink: 0 };
  }
  removed(inode: InodeId): InodeAttributes | undefined {
    return this.#inodes.get(inode)?.removed;
  }
}
