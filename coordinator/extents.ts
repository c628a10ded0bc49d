/**
 * What an overlay or a cut does to a file's extents: pure functions over a list in order of offset without overlaps. They answer with what is
 * removed and put, so that the caller journals only what changed; finding the place is a binary search, never a walk over the file.
 */
import type { Extent } from '../protocol/entities.js';
import { positionOfOffset } from './tables.js';

export interface ExtentChanges {
  /** Extents that are gone (their offset holds no extent afterwards, unless `put` has one there). */
  readonly removed: readonly Extent[];
  /** Extents that are new or shorter than before. */
  readonly put: readonly Extent[];
}

export const endOf = (extent: Extent): number => extent.offset + extent.length;

/** Index of the first extent that reaches beyond `offset`. */
export function firstReaching(extents: readonly Extent[], offset: number): number {
  const at = positionOfOffset(extents, offset);
  const before = extents[at - 1];
  return before && endOf(before) > offset ? at - 1 : at;
}

/** Makes [start, end) a hole. An extent that spans the whole range is split in two. */
export function clearRange(extents: readonly Extent[], start: number, end: number): ExtentChanges {
  const removed: Extent[] = [];
  const put: Extent[] = [];
  if (end <= start) return { removed, put };
  for (let i = firstReaching(extents, start); i < extents.length; i++) {
    const extent = extents[i] as Extent;
    if (extent.offset >= end) break;
    removed.push(extent);
    if (extent.offset < start) put.push({ ...extent, length: start - extent.offset });
    const extentEnd = endOf(extent);
    if (extentEnd > end) {
      put.push({ offset: end, length: extentEnd - end, chunk: extent.chunk, chunkOffset: extent.chunkOffset + (end - extent.offset) });
    }
  }
  return { removed, put };
}

/** The extents of [start, end) as seen from `start` moved to `target`: parts of extents are cut to fit. At most `limit` of them. */
export function copiedExtents(
  extents: readonly Extent[],
  start: number,
  end: number,
  target: number,
  limit: number,
): { copies: Extent[] /** Source offset up to which everything is covered by `copies`. */; reached: number } {
  const copies: Extent[] = [];
  if (end <= start) return { copies, reached: start };
  for (let i = firstReaching(extents, start); i < extents.length; i++) {
    const extent = extents[i] as Extent;
    if (extent.offset >= end) break;
    if (copies.length === limit) return { copies, reached: Math.max(start, extent.offset) };
    const from = Math.max(extent.offset, start);
    const to = Math.min(endOf(extent), end);
    copies.push({
      offset: target + (from - start),
      length: to - from,
      chunk: extent.chunk,
      chunkOffset: extent.chunkOffset + (from - extent.offset),
    });
  }
  return { copies, reached: end };
}

/** Extents that reach into [fromOffset, ...), at most `limit`, and where the next page begins (null = nothing more). */
export function pageOf(
  extents: readonly Extent[],
  fromOffset: number,
  limit: number,
): { page: readonly Extent[]; nextOffset: number | null } {
  const first = firstReaching(extents, fromOffset);
  const page = extents.slice(first, first + limit);
  const next = extents[first + limit];
  return { page, nextOffset: next ? next.offset : null };
}
