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
  /** Reads and writes of this handle pass the page cache by. */
  readonly isDirect: boolean;
}

export class Handles {
  #next = 1;
  readonly #files = new Map<number, OpenFile>();
  readonly #directories = new Map<number, DirectoryListing>();
  readonly #openCounts = new Map<InodeId, number>();

  addFile(file: FileHandle, isWritable: boolean, isDirect: boolean): OpenFile {
    const open = { number: this.#next++, inode: file.inode, file, isWritable, isDirect };
    this.#files.set(open.number, open);
    this.#openCounts.set(open.inode, (this.#openCounts.get(open.inode) ?? 0) + 1);
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
    const left = (this.#openCounts.get(open.inode) ?? 1) - 1;
    if (left > 0) this.#openCounts.set(open.inode, left);
    else this.#openCounts.delete(open.inode);
    return open;
  }
  isOpen(inode: InodeId): boolean {
    return this.#openCounts.has(inode);
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
