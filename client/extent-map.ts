/**
 * The committed extents of one inode, as far as they are known: a sorted list, and the ranges it is complete for (a huge file is loaded in
 * pages where it is read). Pure data.
 */
import type { Extent } from '../protocol/entities.js';
import { firstEndingAfter } from './ranges.js';

interface Range {
  start: number;
  end: number;
}
const MAX_EXTENTS = 100_000;

export class ExtentMap {
  private extents: Extent[] = [];
  /** Sorted, not touching. */
  private known: Range[] = [];

  /** The map of a file without data. */
  static empty(): ExtentMap {
    const map = new ExtentMap();
    map.known = [{ start: 0, end: Infinity }];
    return map;
  }

  get count(): number {
    return this.extents.length;
  }

  /** First offset in [start, end) that nothing is known of, or null when all of it is known. */
  firstUnknown(start: number, end: number): number | null {
    for (const range of this.known) {
      if (range.start > start) return start;
      if (range.end > start) {
        if (range.end >= end) return null;
        return range.end;
      }
    }
    return start < end ? start : null;
  }

  /** A page from the coordinator: complete for [start, end). */
  learn(start: number, end: number, extents: readonly Extent[]): void {
    if (this.extents.length > MAX_EXTENTS) {
      this.extents = [];
      this.known = [];
    }
    // The first and last extent may stick out of the page.
    const first = extents[0];
    const last = extents[extents.length - 1];
    this.replace(Math.min(start, first?.offset ?? start), last ? Math.max(end, last.offset + last.length) : end, extents);
    const merged: Range = { start, end };
    this.known = this.known.filter((range) => {
      if (range.end < merged.start || range.start > merged.end) return true;
      merged.start = Math.min(merged.start, range.start);
      merged.end = Math.max(merged.end, range.end);
      return false;
    });
    this.known.push(merged);
    this.known.sort((a, b) => a.start - b.start);
  }

  /** Our own commit: new extents over the old ones. */
  overlay(extents: readonly Extent[]): void {
    for (const extent of extents) this.replace(extent.offset, extent.offset + extent.length, [extent]);
  }

  cut(start: number, end: number): void {
    this.replace(start, end, []);
  }

  /** Extents that touch [start, end), whole. */
  within(start: number, end: number): Extent[] {
    const found: Extent[] = [];
    for (let i = firstEndingAfter(this.extents, start); i < this.extents.length; i++) {
      const extent = this.extents[i]!;
      if (extent.offset >= end) break;
      found.push(extent);
    }
    return found;
  }

  private replace(start: number, end: number, by: readonly Extent[]): void {
    const first = firstEndingAfter(this.extents, start);
    let last = first;
    while (last < this.extents.length && this.extents[last]!.offset < end) last++;
    const inserted: Extent[] = [];
    const head = this.extents[first];
    if (head && first < last && head.offset < start) inserted.push({ ...head, length: start - head.offset });
    inserted.push(...by);
    const tail = this.extents[last - 1];
    if (tail && first < last && tail.offset + tail.length > end) {
      const skipped = end - tail.offset;
      inserted.push({ offset: end, length: tail.length - skipped, chunk: tail.chunk, chunkOffset: tail.chunkOffset + skipped });
    }
    this.extents.splice(first, last - first, ...inserted);
  }
}
