/**
 * Where the journal's bytes lie: segments, each named by the sequence of its first record. The contract, kept by disk and memory alike:
 *
 * - `append` is never called again before it has resolved. When it has, the bytes survive the death of the process; after `sync` also a power loss.
 * - When a segment is full the next one begins; the full one is on stable storage before the first byte of the next is written, so a power loss
 *   can only cost the end of the last segment.
 * - Nothing is appended to a segment that was there at the start: after a restart a new one begins.
 */
import type { Environment } from '../protocol/environment.js';

export interface JournalSegment {
  readonly firstSequence: number;
  readonly bytes: Buffer;
}
export interface JournalStorage {
  /** Segments in ascending order, read one after the other; for recovery, before anything is appended. */
  segments(): AsyncIterable<JournalSegment>;
  /** Cuts a segment to its first `sizeBytes` bytes; without any it keeps its name until it is appended to. Before anything is appended. */
  cut(firstSequence: number, sizeBytes: number): Promise<void>;
  /** Before anything is appended. */
  remove(firstSequence: number): Promise<void>;
  /** Makes everything that is there durable. Before anything is appended. */
  settle(): Promise<void>;
  /** @param sequence of the first record in `bytes` */
  append(bytes: Buffer, sequence: number): Promise<void>;
  sync(): Promise<void>;
  /** Removes segments that hold no record above `sequence`. */
  dropUpTo(sequence: number): Promise<void>;
  close(): Promise<void>;
  /** True while there is no room for another segment: only what frees space should be let in. */
  readonly isFull: boolean;
  /** Bytes of all segments. */
  readonly sizeBytes: number;
}

export const SEGMENT_BYTES = 16 * 1024 * 1024;

interface MemorySegment {
  readonly firstSequence: number;
  /** What was appended, piece by piece. */
  pieces: Buffer[];
  /** Pieces that are on stable storage. */
  syncedPieces: number;
}

/** A journal in memory for simulations. `crash` leaves what a power loss could leave. */
export class MemoryJournalStorage implements JournalStorage {
  isFull = false;
  private kept: MemorySegment[] = [];
  private current: MemorySegment | undefined;
  /** Steps (append, sync, drop) that may still be done; then every call fails as if the process were gone. */
  stepsLeft = Number.POSITIVE_INFINITY;

  constructor(private readonly segmentBytes: number = SEGMENT_BYTES) {}

  private step(): void {
    if (this.stepsLeft <= 0) throw new Error('the process is gone');
    this.stepsLeft--;
  }
  async *segments(): AsyncIterable<JournalSegment> {
    for (const segment of this.kept) yield { firstSequence: segment.firstSequence, bytes: Buffer.concat(segment.pieces) };
  }
  cut(firstSequence: number, sizeBytes: number): Promise<void> {
    const segment = this.kept.find((one) => one.firstSequence === firstSequence);
    if (segment) {
      const bytes = Buffer.concat(segment.pieces).subarray(0, sizeBytes);
      segment.pieces = [bytes];
      segment.syncedPieces = 1;
    }
    return Promise.resolve();
  }
  remove(firstSequence: number): Promise<void> {
    this.kept = this.kept.filter((one) => one.firstSequence !== firstSequence);
    return Promise.resolve();
  }
  settle(): Promise<void> {
    for (const segment of this.kept) segment.syncedPieces = segment.pieces.length;
    return Promise.resolve();
  }
  async append(bytes: Buffer, sequence: number): Promise<void> {
    this.step();
    const size = this.current?.pieces.reduce((sum, piece) => sum + piece.length, 0) ?? Number.POSITIVE_INFINITY;
    if (!this.current || size + bytes.length > this.segmentBytes) {
      if (this.current) this.current.syncedPieces = this.current.pieces.length;
      this.current = { firstSequence: sequence, pieces: [], syncedPieces: 0 };
      // In the place of one that was cut to nothing, if there is one.
      this.kept = [...this.kept.filter((one) => one.firstSequence !== sequence), this.current];
    }
    this.current.pieces.push(Buffer.from(bytes));
  }
  async sync(): Promise<void> {
    this.step();
    if (this.current) this.current.syncedPieces = this.current.pieces.length;
  }
  async dropUpTo(sequence: number): Promise<void> {
    this.step();
    this.kept = this.kept.filter((_segment, i) => {
      const next = this.kept[i + 1];
      return !next || next.firstSequence - 1 > sequence;
    });
  }
  close(): Promise<void> {
    return Promise.resolve();
  }
  get sizeBytes(): number {
    return this.kept.reduce((sum, segment) => sum + segment.pieces.reduce((all, piece) => all + piece.length, 0), 0);
  }

  /**
   * The process or the machine died. `process`: all appended bytes stay. `power`: of what was not synced each piece is there, gone (zeros), or half there.
   * The storage can be opened again afterwards.
   */
  crash(kind: 'process' | 'power', random: Environment['random']): void {
    this.current = undefined;
    this.stepsLeft = Number.POSITIVE_INFINITY;
    for (const segment of this.kept) {
      if (kind === 'power') {
        segment.pieces = segment.pieces.map((piece, i) => {
          if (i < segment.syncedPieces) return piece;
          const kept = random() < 0.4 ? piece.length : random() < 0.5 ? 0 : Math.floor(random() * piece.length);
          const left = Buffer.alloc(piece.length);
          piece.copy(left, 0, 0, kept);
          return left;
        });
        segment.syncedPieces = segment.pieces.length;
      }
    }
  }
}
