/** Open files and directory listings, by the number the kernel repeats in every call on them. */
import type { FileHandle } from '../client/api.js';
import type { InodeId } from '../protocol/entities.js';
import { HoldfastError } from '../protocol/errors.js';
import type { DirectoryListing } from './directory-listing.js';

export interface OpenFile {
  readonly number: number;
  readonly inode: InodeId;
  readonly file: FileHandle;
  readonly isWritable: boolean;
  /** Opened for writing with O_APPEND. */
  readonly isAppending: boolean;
  /** Reads and writes of this handle pass the page cache by. */
  readonly isDirect: boolean;
}

export class Handles {
  #next = 1;
  readonly #files = new Map<number, OpenFile>();
  readonly #directories = new Map<number, DirectoryListing>();
  readonly #openCounts = new Map<InodeId, number>();
  readonly #appenders = new Map<InodeId, number>();

  addFile(file: FileHandle, kind: Pick<OpenFile, 'isWritable' | 'isAppending' | 'isDirect'>): OpenFile {
    const open = { number: this.#next++, inode: file.inode, file, ...kind };
    this.#files.set(open.number, open);
    count(this.#openCounts, open.inode, 1);
    if (open.isAppending) count(this.#appenders, open.inode, 1);
    return open;
  }
  /** @throws EBADF */
  file(number: number): OpenFile {
    const open = this.#files.get(number);
    if (!open) throw new HoldfastError('EBADF', 'no such open file');
    return open;
  }
  removeFile(number: number): OpenFile {
    const open = this.file(number);
    this.#files.delete(number);
    count(this.#openCounts, open.inode, -1);
    if (open.isAppending) count(this.#appenders, open.inode, -1);
    return open;
  }
  isOpen(inode: InodeId): boolean {
    return this.#openCounts.has(inode);
  }
  /** Somebody here has it open with O_APPEND. */
  isAppendedTo(inode: InodeId): boolean {
    return this.#appenders.has(inode);
  }
  get openFiles(): Iterable<OpenFile> {
    return this.#files.values();
  }

  addDirectory(listing: DirectoryListing): number {
    const number = this.#next++;
    this.#directories.set(number, listing);
    return number;
  }
  /** @throws EBADF */
  directory(number: number): DirectoryListing {
    const listing = this.#directories.get(number);
    if (!listing) throw new HoldfastError('EBADF', 'no such open directory');
    return listing;
  }
  removeDirectory(number: number): void {
    this.#directories.delete(number);
  }
}

function count(counts: Map<InodeId, number>, inode: InodeId, by: 1 | -1): void {
  const left = (counts.get(inode) ?? 0) + by;
  if (left > 0) counts.set(inode, left);
  else counts.delete(inode);
}
