/** Ranges of a file that are sorted by offset and do not overlap. */
export interface Range {
  readonly offset: number;
  readonly length: number;
}

/** Index of the first one whose end is > offset; their number when there is none. */
export function firstEndingAfter(ranges: readonly Range[], offset: number): number {
  let low = 0;
  let high = ranges.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const range = ranges[middle]!;
    if (range.offset + range.length > offset) high = middle;
    else low = middle + 1;
  }
  return low;
}
