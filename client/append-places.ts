/**
 * Where appended bytes lie while the coordinator has not said so yet.
 *
 * An O_APPEND write has no offset of its own: it goes to the end of the file as it is when the write is committed, and other clients append too.
 * So between write and commit its place is a belief, and this is how a belief never becomes a wrong byte:
 *
 *  1. Appended bytes gather in a run that begins at the believed end (`appendBase`) and has no gaps: later appends continue the run, whatever
 *     the file's size is said to be by then. A run becomes a cut of its own, and each cut is a commit of its own.
 *  2. The commit gives the extents relative to its `appendBase`. The coordinator moves all of it by exactly what lies between that base and
 *     the real end, up or down, and answers by how much. So a commit is right whatever was believed, and asked again it is still right.
 *  3. Nobody is shown appended bytes at a believed place: a read that reaches them commits them first, and sees no bytes appended after that.
 *     A reader that goes through a file in several reads would otherwise meet bytes twice, or miss some, when they move in between.
 *  4. The size that is shown does count them (a program that appends and asks for the size must not wait for a commit each time). It follows from
 *     one rule: start with a size the coordinator told, go through what is not committed in order of writing, and put each append at the end
 *     reached so far. This is done anew whenever another version of the file becomes known (`place`): the size the file would
 *     have if everything here were committed at that moment.
 *  5. While a commit of appended bytes is on its way nobody here knows whether a version told meanwhile has these bytes already, and they must not
 *     be counted twice: programs read zeros up to a size that is too large. Who asks then waits for the answer, and holds the next commit of
 *     appended bytes back until it has looked (`hold`), or else two busy writers could keep it waiting for ever.
 *
 * The kernel needs no word of its own about a moved append: it only moved because somebody else changed the file, and that change recalled
 * what the kernel holds.
 */
import type { InodeAttributes } from '../protocol/entities.js';

/** The version of the file that the places of appended bytes follow from. */
export interface PlacedOn {
  readonly dataVersion: number;
  readonly sizeBytes: number;
}
/** Bytes that are not committed, in order of writing. */
export interface Uncommitted {
  /** Where its first byte is believed to be when it is an append; null when the writer chose the place. */
  readonly appendBase: number | null;
  readonly end: number;
  moveBy(bytes: number): void;
}

export const isPlacedOn = (placed: PlacedOn | undefined, { dataVersion, sizeBytes }: InodeAttributes): boolean =>
  placed !== undefined && placed.dataVersion === dataVersion && placed.sizeBytes === sizeBytes;

/** Puts every append at the end of what comes before it, beginning with a committed file of `sizeBytes`. */
export function placeAppends(sizeBytes: number, uncommitted: Iterable<Uncommitted>): void {
  let end = sizeBytes;
  for (const bytes of uncommitted) {
    if (bytes.appendBase !== null && bytes.appendBase !== end) bytes.moveBy(end - bytes.appendBase);
    end = Math.max(end, bytes.end);
  }
}
