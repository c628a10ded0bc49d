/**
 * Written bytes that are not cut into chunks yet: pieces that do not overlap, in order of offset, none crossing a border of a chunk-size
 * window. Pure data, no clock, no network.
 *
 * Small adjacent writes grow one piece instead of making many; a sequential writer fills one window-size buffer with a single copy.
 */
import { firstEndingAfter } from './ranges.js';

export interface Piece {
  readonly offset: number;
  readonly data: Buffer;
}

interface Segment {
  offset: number;
  length: number;
  /** May be longer than `length`: room to grow. */
  buffer: Buffer;
}

export class DirtyOverlay {
  private segments: Segment[] = [];
  private lastEnd = -1;
  /** True when a piece fills its window: saves looking for one after every write. */
  private mayHaveFull = false;
  /** Bytes of memory held. */
  heldBytes = 0;

  constructor(private readonly windowBytes: number) {}

  get isEmpty(): boolean {
    return this.segments.length === 0;
  }
  /** End of the last written byte; 0 when nothing is written. */
  get end(): number {
    const last = this.segments[this.segments.length - 1];
    return last ? last.offset + last.length : 0;
  }

  /** Takes a copy of the bytes; of a whole window it keeps `data` itself when that `isGiven`. */
  write(offset: number, data: Buffer, isGiven = false): void {
    const isSequential = offset === this.lastEnd;
    let at = 0;
    while (at < data.length) {
      const start = offset + at;
      const windowEnd = (Math.floor(start / this.windowBytes) + 1) * this.windowBytes;
      const length = Math.min(data.length - at, windowEnd - start);
      this.writeInWindow(start, data.subarray(at, at + length), windowEnd, isSequential || at > 0, isGiven);
      at += length;
    }
    this.lastEnd = offset + data.length;
  }

  /** Copies what is written of [offset, offset + into.length) into the buffer and calls `gap` for each range (relative to the buffer) that is not. */
  read(offset: number, into: Buffer, gap: (start: number, end: number) => void): void {
    const end = offset + into.length;
    let at = offset;
    for (let i = firstEndingAfter(this.segments, offset); i < this.segments.length; i++) {
      const segment = this.segments[i]!;
      if (segment.offset >= end) break;
      if (segment.offset > at) gap(at - offset, segment.offset - offset);
      const from = Math.max(at, segment.offset);
      const to = Math.min(end, segment.offset + segment.length);
      segment.buffer.copy(into, from - offset, from - segment.offset, to - segment.offset);
      at = to;
    }
    if (at < end) gap(at - offset, end - offset);
  }

  /** Forgets everything at or beyond sizeBytes. */
  clip(sizeBytes: number): void {
    const kept: Segment[] = [];
    for (const segment of this.segments) {
      if (segment.offset >= sizeBytes) this.heldBytes -= segment.buffer.length;
      else {
        segment.length = Math.min(segment.length, sizeBytes - segment.offset);
        kept.push(segment);
      }
    }
    this.segments = kept;
    this.lastEnd = -1;
  }

  /** Moves everything up: an append turned out to begin further on. Pieces may then cross window borders, which only costs alignment. */
  shift(byBytes: number): void {
    for (const segment of this.segments) segment.offset += byBytes;
    if (this.lastEnd >= 0) this.lastEnd += byBytes;
  }

  /** Removes and returns every piece that fills a whole aligned window. */
  takeFull(): Piece[] {
    const taken: Piece[] = [];
    if (!this.mayHaveFull) return taken;
    this.mayHaveFull = false;
    this.segments = this.segments.filter((segment) => {
      if (!this.isFull(segment)) return true;
      taken.push({ offset: segment.offset, data: segment.buffer });
      this.heldBytes -= segment.buffer.length;
      return false;
    });
    return taken;
  }

  /** Removes and returns everything, in order of offset. */
  takeAll(): Piece[] {
    const pieces = this.segments.map(({ offset, length, buffer }) => ({ offset, data: buffer.subarray(0, length) }));
    this.segments = [];
    this.heldBytes = 0;
    return pieces;
  }

  private isFull(segment: Segment): boolean {
    return segment.length === this.windowBytes && segment.offset % this.windowBytes === 0;
  }

  private writeInWindow(offset: number, data: Buffer, windowEnd: number, isSequential: boolean, isGiven: boolean): void {
    const end = offset + data.length;
    let index = firstEndingAfter(this.segments, offset);
    const before = this.segments[index - 1];
    // A piece that ends exactly here in the same window grows; so does one that this write begins inside of.
    if (before && before.offset + before.length === offset && before.offset >= windowEnd - this.windowBytes) index--;
    let segment = this.segments[index];
    let isKept = false;
    if (!segment || segment.offset > offset) {
      const startsWindow = offset === windowEnd - this.windowBytes;
      isKept = isGiven && startsWindow && data.length === this.windowBytes;
      const capacity = isSequential && startsWindow ? this.windowBytes : data.length;
      segment = { offset, length: 0, buffer: isKept ? data : Buffer.allocUnsafe(capacity) };
      this.heldBytes += capacity;
      this.segments.splice(index, 0, segment);
    }
    this.reserve(segment, end - segment.offset, windowEnd);
    if (!isKept) data.copy(segment.buffer, offset - segment.offset);
    segment.length = Math.max(segment.length, end - segment.offset);
    this.absorb(index, windowEnd);
    if (segment.length === this.windowBytes) this.mayHaveFull = true;
  }

  private reserve(segment: Segment, length: number, windowEnd: number): void {
    if (length <= segment.buffer.length) return;
    const room = Math.max(windowEnd - segment.offset, length);
    const capacity = Math.min(room, Math.max(length, segment.buffer.length * 2, Math.min(16 * 1024, room)));
    const grown = Buffer.allocUnsafe(capacity);
    segment.buffer.copy(grown, 0, 0, segment.length);
    this.heldBytes += capacity - segment.buffer.length;
    segment.buffer = grown;
  }

  /** Later pieces overlapped by the one at `index`: what sticks out is joined to it, the rest is gone. */
  private absorb(index: number, windowEnd: number): void {
    const segment = this.segments[index]!;
    let count = 0;
    for (;;) {
      const next = this.segments[index + 1 + count];
      const end = segment.offset + segment.length;
      if (!next || next.offset >= end) break;
      const nextEnd = next.offset + next.length;
      if (nextEnd > end) {
        this.reserve(segment, nextEnd - segment.offset, windowEnd);
        next.buffer.copy(segment.buffer, segment.length, end - next.offset, next.length);
        segment.length = nextEnd - segment.offset;
      }
      this.heldBytes -= next.buffer.length;
      count++;
    }
    if (count > 0) this.segments.splice(index + 1, count);
  }
}
