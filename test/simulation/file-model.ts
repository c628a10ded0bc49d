/**
 * What the bytes of one file may be. The file is written by one program at a time, so its history is a line of versions; how far back on that
 * line a reader may find it depends on what was promised: nobody sees anything older than the last flush that returned (P2), and after a power
 * loss nothing older than the last sync that returned (P1). Everything newer may be there or not, but as whole writes (P7).
 *
 * The line breaks when the coordinator loses power: it goes back to some version since the last sync, and what clients had not committed by then
 * is committed on top of that one.
 */
export type Certainty = 'exact' | 'flushed' | 'synced';

/** @param found what it is to be compared with, when it may have made one of several things */
type Operation = (before: Buffer, found?: Buffer) => Buffer;

let nextId = 1;

export class FileModel {
  readonly id = nextId++;
  versions: Buffer[] = [Buffer.alloc(0)];
  /** What made each version of the one before it; nothing is known about the first. */
  private operations: Operation[] = [(before) => before];
  /** How often the coordinator lost power since everything was certain. */
  private losses = 0;
  /** Index of the oldest version a reader elsewhere may see. */
  flushed = 0;
  /** Index of the oldest version there may be after a power loss. */
  synced = 0;
  /** An operation on it ended without an answer: nobody touches it until the next verification. */
  isPoisoned = false;
  /** Data may still be in a client's memory. */
  certainty: Certainty = 'exact';
  lastChangeMs = 0;

  constructor(private readonly chunkSizeBytes = Number.MAX_SAFE_INTEGER) {}

  get latest(): Buffer {
    return this.versions[this.versions.length - 1] as Buffer;
  }
  get sizeBytes(): number {
    return this.latest.length;
  }
  get isDirty(): boolean {
    return this.flushed < this.versions.length - 1;
  }

  private push(operation: Operation, nowMs: number): void {
    this.versions.push(operation(this.latest));
    this.operations.push(operation);
    this.lastChangeMs = nowMs;
    this.forgetOld();
  }
  /** @param isAppend it goes exactly to the end of whatever is there when it is committed, also when that is less than it was */
  write(offset: number, data: Buffer, nowMs: number, isAppend = false): void {
    // A write over the edge of a chunk is whole on each side of it, but the sides may become visible one after the other.
    for (let at = offset, end = offset + data.length; at < end; ) {
      const edge = Math.min(end, (Math.floor(at / this.chunkSizeBytes) + 1) * this.chunkSizeBytes);
      const usual = at;
      const part = data.subarray(at - offset, edge - offset);
      this.push((before) => overlaid(before, isAppend ? before.length : usual, part), nowMs);
      at = edge;
    }
  }
  /** @param parts what the file it is copied from may have held there, the newest first */
  copy(offset: number, parts: readonly Buffer[], nowMs: number): void {
    const newest = parts[0] as Buffer;
    if (parts.length === 1) {
      this.write(offset, newest, nowMs);
      return;
    }
    const longestFirst = [...parts].sort((a, b) => b.length - a.length);
    this.push((before, found) => {
      const part = longestFirst.find((one) => found?.subarray(offset, offset + one.length).equals(one)) ?? newest;
      return overlaid(before, offset, part);
    }, nowMs);
  }
  truncate(sizeBytes: number, nowMs: number): void {
    this.push((before) => {
      const next = Buffer.alloc(sizeBytes);
      before.copy(next, 0, 0, sizeBytes);
      return next;
    }, nowMs);
  }
  punch(offset: number, length: number, nowMs: number): void {
    this.push((before) => Buffer.from(before).fill(0, Math.min(offset, before.length), Math.min(offset + length, before.length)), nowMs);
  }
  coordinatorLostPower(): void {
    this.losses++;
  }
  /** Which version a flush that is asked for now will have made visible. */
  get mark(): number {
    return this.base + this.versions.length - 1;
  }
  flushedTo(mark: number): void {
    this.flushed = Math.max(this.flushed, mark - this.base);
    this.forgetOld();
  }
  syncedTo(mark: number): void {
    this.synced = Math.max(this.synced, mark - this.base);
    this.flushedTo(mark);
  }
  /** What is known for sure after everything has healed. */
  settleAs(bytes: Buffer): void {
    this.base += this.versions.length;
    this.versions = [bytes];
    this.operations = [(before) => before];
    this.losses = 0;
    this.flushed = 0;
    this.synced = 0;
    this.isPoisoned = false;
    this.certainty = 'exact';
  }
  private base = 0;
  private forgetOld(): void {
    const oldest = Math.min(this.flushed, this.synced);
    if (oldest === 0) return;
    this.versions.splice(0, oldest);
    this.operations.splice(0, oldest);
    this.base += oldest;
    this.flushed -= oldest;
    this.synced -= oldest;
  }

  /** What the coordinator may hold of it now that everything is flushed, the newest first. */
  possible(): Buffer[] {
    if (this.losses === 0) return [this.latest];
    return [this.latest, ...this.versions.slice(this.synced), ...this.afterLosses(this.synced)];
  }

  /** Undefined when a reader may see these bytes; otherwise what is wrong with them. */
  judge(bytes: Buffer, certainty: Certainty): string | undefined {
    const from = certainty === 'exact' ? this.versions.length - 1 : certainty === 'flushed' ? this.flushed : this.synced;
    const allowed = this.versions.slice(from);
    if (isOneOf(allowed, bytes)) return undefined;
    if (certainty !== 'exact' && this.isWholeByChunk(bytes, allowed)) return undefined;
    if (certainty === 'synced' && this.losses > 0) {
      const broken = this.afterLosses(from, bytes);
      if (isOneOf(broken, bytes) || this.isWholeByChunk(bytes, broken)) return undefined;
    }
    return this.difference(bytes, from);
  }

  /**
   * What there may be when the coordinator lost power: from each version since the sync on, operations in their order, of which each loss took some
   * that were committed one after the other; some of the last may not have been committed at all.
   */
  private afterLosses(from: number, found?: Buffer): Buffer[] {
    interface State {
      readonly bytes: Buffer;
      readonly gaps: number;
      readonly isInGap: boolean;
    }
    const all: Buffer[] = [];
    let states: State[] = [{ bytes: this.versions[from] as Buffer, gaps: 0, isInGap: false }];
    for (const operation of this.operations.slice(from + 1)) {
      const next = new Map<string, State>();
      const add = (state: State): void => {
        next.set(`${state.bytes.toString('latin1')} ${state.gaps} ${state.isInGap}`, state);
      };
      for (const { bytes, gaps, isInGap } of states) {
        add({ bytes: operation(bytes, found), gaps, isInGap: false });
        if (isInGap || gaps < this.losses) add({ bytes, gaps: isInGap ? gaps : gaps + 1, isInGap: true });
      }
      states = [...next.values()];
      for (const { bytes } of states) all.push(bytes);
    }
    return all;
  }

  /**
   * Chunks of one file may become visible one after the other, each as of some version. When one behind the old end of the file is there first,
   * what lies between is a hole. The first one alone is such a chunk when it is full: a client lets go of a full one before older bytes behind it.
   */
  private isWholeByChunk(bytes: Buffer, allowed: readonly Buffer[]): boolean {
    const { chunkSizeBytes } = this;
    if (bytes.length < chunkSizeBytes || !allowed.some((one) => one.length === bytes.length)) return false;
    for (let at = 0; at < bytes.length; at += chunkSizeBytes) {
      const end = Math.min(at + chunkSizeBytes, bytes.length);
      const found = bytes.subarray(at, end);
      const isLast = end === bytes.length;
      if (!allowed.some((one) => (one.length >= end || !isLast) && upTo(one, at, end).equals(found))) return false;
    }
    return true;
  }

  private difference(bytes: Buffer, from: number): string {
    const allowed = this.versions.slice(from);
    const sizes = [...new Set(allowed.map((one) => one.length))];
    const old = this.versions.slice(0, from).findIndex((one) => one.equals(bytes));
    let wrongAt = -1;
    let wrongBytes = 0;
    for (let at = 0; at < bytes.length; at++) {
      if (allowed.some((one) => at < one.length && one[at] === bytes[at])) continue;
      if (wrongAt < 0) wrongAt = at;
      wrongBytes++;
    }
    const stale = old >= 0 ? `; it is the older version ${old - from} before what was promised` : '';
    const where =
      wrongAt >= 0
        ? `${wrongBytes} bytes are of none of them, the first at ${wrongAt} (${bytes.subarray(wrongAt, wrongAt + 8).toString('hex')}, latest ${this.latest.subarray(wrongAt, wrongAt + 8).toString('hex')})`
        : 'each byte is of one of them, but no version is whole';
    return `${bytes.length} bytes are none of ${allowed.length} allowed versions (sizes ${sizes.join(', ')}): ${where}${stale}`;
  }
}

const overlaid = (before: Buffer, start: number, part: Buffer): Buffer => {
  if (part.length === 0) return before;
  const next = Buffer.alloc(Math.max(before.length, start + part.length));
  before.copy(next);
  part.copy(next, start);
  return next;
};
/** These bytes of a version, zeros behind its end. */
const upTo = (version: Buffer, at: number, end: number): Buffer => {
  const there = version.subarray(at, end);
  return there.length === end - at ? there : Buffer.concat([there], end - at);
};
const isOneOf = (allowed: readonly Buffer[], bytes: Buffer): boolean => allowed.some((one) => one.equals(bytes));
