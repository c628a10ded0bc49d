/** Ranges of one lock owner on one file. */
export interface LockedRange {
  readonly kind: 'read' | 'write';
  readonly start: number;
  /** Exclusive; LOCKED_TO_THE_END when the range has no end. */
  readonly end: number;
}
export const LOCKED_TO_THE_END = Number.MAX_SAFE_INTEGER;

/** Sets [start, end) to a kind (undefined = unlocked) in a list of ranges; neighbours of one kind become one. Pure. */
export function withRange(ranges: readonly LockedRange[], kind: 'read' | 'write' | undefined, start: number, end: number): LockedRange[] {
  const result: LockedRange[] = [];
  const add = (range: LockedRange): void => {
    const last = result.at(-1);
    if (last && last.kind === range.kind && last.end === range.start) result[result.length - 1] = { ...last, end: range.end };
    else result.push(range);
  };
  const before: LockedRange[] = [];
  const after: LockedRange[] = [];
  for (const range of ranges) {
    if (range.start < start) before.push({ ...range, end: Math.min(range.end, start) });
    if (range.end > end) after.push({ ...range, start: Math.max(range.start, end) });
  }
  for (const range of before) add(range);
  if (kind !== undefined) add({ kind, start, end });
  for (const range of after) add(range);
  return result;
}

/** The range a lock request names; flock is about the whole file. */
export function rangeOf(request: { family: 'flock' | 'posix'; start: number; length: number }): [start: number, end: number] {
  if (request.family === 'flock') return [0, LOCKED_TO_THE_END];
  return [request.start, request.length === 0 ? LOCKED_TO_THE_END : request.start + request.length];
}
