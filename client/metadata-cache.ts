/**
 * Attributes and directory entries as the coordinator told them, kept while the lease holds and until recalled.
 *
 * A reply that was under way when a recall for the same inode came in may be older than the change behind the recall, so it must not be kept:
 * callers take a `stamp` before they ask and give it back with the answer. Of two answers the one with the higher change counter wins.
 */
import type { InodeAttributes, InodeId } from '../protocol/entities.js';

const MAX_INODES = 100_000;
const MAX_ENTRIES = 200_000;
const MAX_RECALLS_REMEMBERED = 10_000;

/** When a question was asked, in recalls seen so far. */
export type Stamp = number;

interface DirectoryEntries {
  /** Change counter of the directory these entries are known as of. */
  change: number;
  /** null = surely absent. */
  readonly names: Map<string, InodeId | null>;
  /** Every present name is in `names`. */
  isComplete: boolean;
}

export class MetadataCache {
  private readonly inodes = new Map<InodeId, InodeAttributes>();
  private readonly directories = new Map<InodeId, DirectoryEntries>();
  private entryCount = 0;
  private clock = 0;
  private readonly recalledAt = new Map<InodeId, number>();
  /** Answers to questions stamped before this are not kept, whatever they are about. */
  private floor = 0;

  constructor(private readonly isLeaseValid: () => boolean) {}

  stamp(): Stamp {
    return this.clock;
  }

  attributes(inode: InodeId): InodeAttributes | undefined {
    return this.isLeaseValid() ? this.inodes.get(inode) : undefined;
  }

  /** The inode a name leads to, null when the name is surely absent, undefined when not known. */
  entry(parent: InodeId, name: string): InodeId | null | undefined {
    if (!this.isLeaseValid()) return undefined;
    const directory = this.directories.get(parent);
    if (!directory) return undefined;
    const inode = directory.names.get(name);
    // Its last name is gone, and this one is still here because the answer to what took it (an own rename, perhaps) is under way.
    if (typeof inode === 'number' && this.inodes.get(inode)?.nlink === 0) return undefined;
    return inode === undefined && directory.isComplete ? null : inode;
  }

  /** All present names when they are all known. */
  listing(parent: InodeId): ReadonlyMap<string, InodeId | null> | undefined {
    if (!this.isLeaseValid()) return undefined;
    const directory = this.directories.get(parent);
    return directory?.isComplete ? directory.names : undefined;
  }

  isFresh(stamp: Stamp, inode: InodeId): boolean {
    return stamp >= this.floor && (this.recalledAt.get(inode) ?? -1) <= stamp;
  }

  putAttributes(stamp: Stamp, attributes: InodeAttributes): void {
    const { inode } = attributes;
    const known = this.inodes.get(inode);
    if (!this.isFresh(stamp, inode)) {
      // Not good enough to keep, yet it shows that what we keep is older still (our own change, say).
      if (known && known.change < attributes.change) this.inodes.delete(inode);
      return;
    }
    if (known) {
      if (known.change > attributes.change) return;
      this.inodes.delete(inode);
    } else if (this.inodes.size >= MAX_INODES) {
      const [oldest] = this.inodes.keys();
      if (oldest !== undefined) this.inodes.delete(oldest);
    }
    this.inodes.set(inode, attributes);
  }

  /** `parent` as of the reply that told about the entry. */
  putEntry(stamp: Stamp, parent: InodeAttributes, name: string, inode: InodeId | null): void {
    this.putAttributes(stamp, parent);
    const directory = this.isFresh(stamp, parent.inode) ? this.directory(parent) : undefined;
    if (!directory) {
      this.forgetEntry(parent.inode, name);
      return;
    }
    if (!directory.names.has(name)) this.entryCount++;
    directory.names.set(name, inode);
    this.evictDirectories(parent.inode);
  }

  /** Entries of one page; `isWhole` when they are all the directory has. */
  putEntries(stamp: Stamp, parent: InodeAttributes, entries: Iterable<readonly [string, InodeId]>, isWhole: boolean): void {
    this.putAttributes(stamp, parent);
    if (!this.isFresh(stamp, parent.inode)) return;
    const directory = this.directory(parent);
    if (!directory) return;
    for (const [name, inode] of entries) {
      if (!directory.names.has(name)) this.entryCount++;
      directory.names.set(name, inode);
    }
    if (isWhole) directory.isComplete = true;
    this.evictDirectories(parent.inode);
  }

  dropAttributes(inode: InodeId): void {
    this.inodes.delete(inode);
  }

  /**
   * Forgets all that is known of an inode. Of a directory every name goes, also when the recall was about some: the coordinator recalls once and
   * then counts us as knowing nothing, so a name kept here could change unheard.
   */
  recall(inode: InodeId): void {
    this.clock++;
    if (this.recalledAt.size >= MAX_RECALLS_REMEMBERED) {
      this.recalledAt.clear();
      this.floor = this.clock;
    }
    this.recalledAt.set(inode, this.clock);
    this.inodes.delete(inode);
    const directory = this.directories.get(inode);
    if (!directory) return;
    this.dropDirectory(inode, directory);
  }

  forgetAll(): void {
    this.clock++;
    this.floor = this.clock;
    this.recalledAt.clear();
    this.inodes.clear();
    this.directories.clear();
    this.entryCount = 0;
  }

  /** What a name leads to is no longer known. */
  forgetEntry(parent: InodeId, name: string): void {
    const directory = this.directories.get(parent);
    if (!directory) return;
    if (directory.names.delete(name)) this.entryCount--;
    directory.isComplete = false;
  }

  private directory(parent: InodeAttributes): DirectoryEntries | undefined {
    const known = this.directories.get(parent.inode);
    if (known) {
      if (known.change > parent.change) return undefined;
      known.change = parent.change;
      return known;
    }
    const created: DirectoryEntries = { change: parent.change, names: new Map(), isComplete: false };
    this.directories.set(parent.inode, created);
    return created;
  }

  private dropDirectory(inode: InodeId, directory: DirectoryEntries): void {
    this.directories.delete(inode);
    this.entryCount -= directory.names.size;
  }

  private evictDirectories(keep: InodeId): void {
    if (this.entryCount <= MAX_ENTRIES) return;
    for (const [inode, directory] of this.directories) {
      if (inode === keep && this.directories.size > 1) continue;
      this.dropDirectory(inode, directory);
      if (this.entryCount <= MAX_ENTRIES) return;
    }
  }
}
