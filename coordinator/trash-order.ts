/**
 * Deleted files of one volume by the time they were deleted, so that nobody has to look at all of them to find the oldest. Files come at the end,
 * unless the clock was set back; those that left the trash in whatever way are passed over when they are met.
 */
import type { InodeId } from '../protocol/entities.js';

interface Item {
  readonly inode: InodeId;
  readonly atMs: number;
}
/** Still in the trash, since that time. */
type IsThere = (inode: InodeId, atMs: number) => boolean;

/** Items that are passed over are cut off when they are so many. */
const CUT_AT = 1024;

class Row {
  private items: Item[] = [];
  private first = 0;

  add(item: Item): void {
    const { items } = this;
    // What a clock that was ahead left at the end must not stand before this one until that time comes.
    if ((items.at(-1)?.atMs ?? 0) <= item.atMs) items.push(item);
    else items.splice(this.placeOf(item.atMs), 0, item);
  }
  /** Behind all that are as old or older. */
  private placeOf(atMs: number): number {
    let [low, high] = [this.first, this.items.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.items[middle] as Item).atMs <= atMs) low = middle + 1;
      else high = middle;
    }
    return low;
  }
  /** Position of the oldest at or after a position that is still there; what is gone before all others is forgotten. */
  next(at: number | undefined, isThere: IsThere): number {
    let position = at ?? this.first;
    for (let item = this.items[position]; item && !isThere(item.inode, item.atMs); item = this.items[position]) position++;
    if (at === undefined) {
      this.first = position;
      if (this.first >= CUT_AT && this.first * 2 >= this.items.length) {
        this.items = this.items.slice(this.first);
        this.first = 0;
        return 0;
      }
    }
    return position;
  }
  at(position: number): Item | undefined {
    return this.items[position];
  }
}

/** One walk over what is in the trash, oldest first. */
export interface OldestFirst {
  /** The next whose time is over; else, when more is wanted, the oldest there is. undefined = none. */
  next(isOver: (atMs: number, isShortLived: boolean) => boolean, isMoreWanted: boolean): InodeId | undefined;
}

export class TrashOrder {
  /** Those that were there for a short time only end earlier, so they stand in a row of their own. */
  private readonly rows = { short: new Row(), long: new Row() };

  add(inode: InodeId, atMs: number, isShortLived: boolean): void {
    this.rows[isShortLived ? 'short' : 'long'].add({ inode, atMs });
  }

  /** The trash must not be changed while it is walked over. */
  oldest(isThere: IsThere): OldestFirst {
    const { short, long } = this.rows;
    const seen = new Set<InodeId>();
    const isNew: IsThere = (inode, atMs) => !seen.has(inode) && isThere(inode, atMs);
    let [shortAt, longAt] = [short.next(undefined, isThere), long.next(undefined, isThere)];
    return {
      next: (isOver, isMoreWanted) => {
        // A change that was undone leaves a file here twice.
        shortAt = short.next(shortAt, isNew);
        longAt = long.next(longAt, isNew);
        const [a, b] = [short.at(shortAt), long.at(longAt)];
        const older = !a || (b && b.atMs < a.atMs) ? b : a;
        const chosen = a && isOver(a.atMs, true) ? a : b && isOver(b.atMs, false) ? b : isMoreWanted ? older : undefined;
        if (!chosen) return undefined;
        seen.add(chosen.inode);
        return chosen.inode;
      },
    };
  }
}
