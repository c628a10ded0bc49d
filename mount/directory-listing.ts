import type { DirectoryEntry, FileTree } from '../client/api.js';
import type { InodeId } from '../protocol/entities.js';

interface Page {
  /** Position of its first entry in the listing. */
  readonly first: number;
  /** Name before the first entry; '' at the start. */
  readonly after: string;
  readonly entries: readonly DirectoryEntry[];
  readonly isLast: boolean;
}

/**
 * One open directory, read page by page; only the current page is held. Positions count entries from 0 and stay true while names come and go,
 * because each page continues after the last name of the one before.
 */
export class DirectoryListing {
  #page: Page | undefined;
  /** Where earlier pages began, so that a seek back finds them again. */
  #starts: { first: number; after: string }[] = [{ first: 0, after: '' }];

  constructor(
    private readonly tree: FileTree,
    readonly inode: InodeId,
  ) {}

  /** Starts anew, as rewinddir(3) must. */
  rewind(): void {
    this.#page = undefined;
    this.#starts = [{ first: 0, after: '' }];
  }

  /**
   * Entries from `position` on: empty at the end. `isFresh` tells that their attributes were read by this very call.
   * @param limit how many entries to ask for when a new page is needed
   */
  async entriesFrom(position: number, limit: number): Promise<{ entries: readonly DirectoryEntry[]; isFresh: boolean }> {
    let isFresh = false;
    let page = this.#page;
    if (!page || position < page.first) {
      const start = this.#starts.findLast((one) => one.first <= position)!;
      page = await this.#load(start.first, start.after, limit);
      isFresh = true;
    }
    while (position >= page.first + page.entries.length) {
      if (page.isLast) return { entries: [], isFresh };
      page = await this.#load(page.first + page.entries.length, page.entries.at(-1)?.name ?? page.after, limit);
      isFresh = true;
    }
    return { entries: page.entries.slice(position - page.first), isFresh };
  }

  async #load(first: number, after: string, limit: number): Promise<Page> {
    const { entries, isLast } = await this.tree.readDirectory(this.inode, after, limit);
    // A page without entries that is not the last one would never end.
    const page = { first, after, entries, isLast: isLast || entries.length === 0 };
    this.#page = page;
    if (this.#starts.at(-1)!.first < first) this.#starts.push({ first, after });
    return page;
  }
}
