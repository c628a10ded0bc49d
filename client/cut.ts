/**
 * The rule by which written pieces become chunks. Pure.
 *
 * A full aligned window becomes a chunk of its own, so equal content becomes equal chunks wherever it was written. So does every other large
 * run: the tail of a file written from front to back. Small pieces (random writes) share chunks: far fewer chunks than pieces.
 */
import type { Piece } from './dirty-overlay.js';

/** Small pieces share chunks of up to this size: large enough to be few, small enough that one living piece does not hold much dead space. */
const PACK_SIZE_BYTES = 256 * 1024;
/** A run of at least this size is a chunk alone. */
const ALONE_SIZE_BYTES = 128 * 1024;

export interface CutExtent {
  offset: number;
  readonly length: number;
  readonly chunkOffset: number;
}
export interface CutChunk {
  readonly payload: Buffer;
  /** In order of offset, laid one after the other in the payload. */
  readonly extents: CutExtent[];
}

/** @param pieces in order of offset, not overlapping, none crossing a window border unless shifted */
export function cutPieces(pieces: readonly Piece[], windowBytes: number): CutChunk[] {
  const chunks: CutChunk[] = [];
  let pack: Piece[] = [];
  let packBytes = 0;
  const closePack = (): void => {
    if (pack.length > 0) chunks.push(chunkOf(pack, packBytes));
    pack = [];
    packBytes = 0;
  };
  for (const run of runsOf(pieces, windowBytes)) {
    const runBytes = run.reduce((sum, piece) => sum + piece.data.length, 0);
    if (runBytes >= ALONE_SIZE_BYTES) {
      chunks.push(chunkOf(run, runBytes));
      continue;
    }
    if (packBytes + runBytes > PACK_SIZE_BYTES) closePack();
    pack.push(...run);
    packBytes += runBytes;
  }
  closePack();
  return chunks;
}

/** Groups touching pieces of one window. */
function runsOf(pieces: readonly Piece[], windowBytes: number): Piece[][] {
  const runs: Piece[][] = [];
  let end = -1;
  let window = -1;
  let bytes = 0;
  for (const piece of pieces) {
    const pieceWindow = Math.floor(piece.offset / windowBytes);
    const last = runs[runs.length - 1];
    if (last && piece.offset === end && pieceWindow === window && bytes + piece.data.length <= windowBytes) {
      last.push(piece);
      bytes += piece.data.length;
    } else {
      runs.push([piece]);
      bytes = piece.data.length;
    }
    window = pieceWindow;
    end = piece.offset + piece.data.length;
  }
  return runs;
}

function chunkOf(pieces: readonly Piece[], totalBytes: number): CutChunk {
  const [only] = pieces;
  const payload = pieces.length === 1 && only ? only.data : Buffer.allocUnsafe(totalBytes);
  const extents: CutExtent[] = [];
  let at = 0;
  for (const piece of pieces) {
    if (pieces.length > 1) piece.data.copy(payload, at);
    const last = extents[extents.length - 1];
    if (last && last.offset + last.length === piece.offset) {
      extents[extents.length - 1] = { offset: last.offset, length: last.length + piece.data.length, chunkOffset: last.chunkOffset };
    } else extents.push({ offset: piece.offset, length: piece.data.length, chunkOffset: at });
    at += piece.data.length;
  }
  return { payload, extents };
}
