/**
 * What was written to one inode in one go, cut into chunks that are on their way to nodes and not committed yet.
 *
 * Cuts lie over one another in the order they were made: where several have the same bytes of the file, the youngest one's count.
 */
import type { ChunkLocation, NodeId, VolumeId } from '../protocol/entities.js';
import type { ChunkForm } from './chunk-form.js';
import type { NodeReceipt, UploadChunk } from './chunk-uploader.js';
import { type CutExtent, cutPieces } from './cut.js';
import type { Piece } from './dirty-overlay.js';
import { firstEndingAfter } from './ranges.js';

export interface PendingChunk extends UploadChunk {
  /** What was written; what goes to nodes (`parts`) may be the same bytes sealed. */
  readonly plaintext: Buffer;
  /** As stored. */
  readonly payloadBytes: number;
  readonly extents: CutExtent[];
  readonly receipts: Map<NodeId, NodeReceipt>;
  /** Where it was already when we asked. */
  present: ChunkLocation | undefined;
}
/** Where a range of the file lies among pending chunks. */
interface Span {
  offset: number;
  readonly length: number;
  readonly payload: Buffer;
  readonly payloadOffset: number;
}
export interface CutOptions {
  readonly number: number;
  /** Where the first byte of appended ones is believed to be (see append-places.ts); null for positional writes. */
  readonly appendBase: number | null;
  /** It takes the place of bytes that may have been synced: see FileWriter.replaces. */
  readonly mustBeStable: boolean;
}

export class PendingCut {
  readonly number: number;
  appendBase: number | null;
  readonly mustBeStable: boolean;
  readonly chunks: readonly PendingChunk[];
  /** Of memory, until it is committed. */
  readonly heldBytes: number;
  state: 'uploading' | 'uploaded' | 'failed' = 'uploading';
  private readonly spans: readonly Span[];

  /** @param pieces as cutPieces wants them; not empty */
  constructor(pieces: readonly Piece[], chunkSizeBytes: number, form: ChunkForm, volume: VolumeId, options: CutOptions) {
    this.number = options.number;
    this.appendBase = options.appendBase;
    this.mustBeStable = options.mustBeStable;
    this.chunks = cutPieces(pieces, chunkSizeBytes).map(({ payload, extents }): PendingChunk => {
      const stored = form.store(payload, volume);
      return {
        id: stored.id,
        plaintext: payload,
        parts: [stored.header, stored.payload],
        payloadBytes: stored.payload.length,
        extents,
        receipts: new Map(),
        present: undefined,
      };
    });
    this.spans = this.chunks.flatMap(spansOf).sort((a, b) => a.offset - b.offset);
    this.heldBytes = this.chunks.reduce((sum, chunk) => sum + keptBytes(chunk), 0);
  }

  get start(): number {
    return this.spans[0]!.offset;
  }
  get end(): number {
    const last = this.spans[this.spans.length - 1]!;
    return last.offset + last.length;
  }
  get extentCount(): number {
    return this.spans.length;
  }

  /** Puts appended bytes elsewhere. */
  moveBy(bytes: number): void {
    this.appendBase! += bytes;
    for (const span of this.spans) span.offset += bytes;
    for (const chunk of this.chunks) for (const extent of chunk.extents) extent.offset += bytes;
  }

  /** Copies what it has of the file from `offset + start` up to `offset + end` into `into`, and names every range it does not have. */
  read(offset: number, into: Buffer, start: number, end: number, gap: (start: number, end: number) => void): void {
    const to = offset + end;
    let at = offset + start;
    for (let i = firstEndingAfter(this.spans, at); i < this.spans.length; i++) {
      const span = this.spans[i]!;
      if (span.offset >= to) break;
      if (span.offset > at) gap(at - offset, span.offset - offset);
      const copyFrom = Math.max(at, span.offset);
      const copyTo = Math.min(to, span.offset + span.length);
      const shift = span.payloadOffset - span.offset;
      span.payload.copy(into, copyFrom - offset, copyFrom + shift, copyTo + shift);
      at = copyTo;
    }
    if (at < to) gap(at - offset, end);
  }
}

/**
 * Reads through the first `count` cuts, youngest first: what a younger one has, an older one need not give. Appended bytes are left out: they are
 * read when they are committed, from where they are then.
 */
export function readCuts(
  cuts: readonly PendingCut[],
  offset: number,
  into: Buffer,
  start: number,
  end: number,
  gap: (start: number, end: number) => void,
  count = cuts.length,
): void {
  let layer = count - 1;
  while (layer >= 0 && cuts[layer]!.appendBase !== null) layer--;
  if (layer < 0) gap(start, end);
  else cuts[layer]!.read(offset, into, start, end, (from, to) => readCuts(cuts, offset, into, from, to, gap, layer));
}

const spansOf = (chunk: PendingChunk): Span[] =>
  chunk.extents.map(({ offset, length, chunkOffset }) => ({ offset, length, payload: chunk.plaintext, payloadOffset: chunkOffset }));

/** Sealed bytes are kept beside the written ones. */
const keptBytes = (chunk: PendingChunk): number => chunk.payloadBytes + (chunk.parts[1] === chunk.plaintext ? 0 : chunk.plaintext.length);
