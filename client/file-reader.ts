/**
 * Reads one inode: committed extents from chunks, holes as zeros, written bytes that are not committed yet on top. Knows the extents as far as
 * they were asked for, until they are recalled.
 */
import type { ChunkId, ChunkLocation, Extent, InodeAttributes, InodeId } from '../protocol/entities.js';
import { HoldfastError, isCode } from '../protocol/errors.js';
import { LEAF_SIZE_BYTES, MAX_EXTENTS_PER_PAGE } from '../protocol/limits.js';
import { storedLeaves } from './chunk-form.js';
import type { ClientCore } from './core.js';
import { ExtentMap } from './extent-map.js';
import type { Stamp } from './metadata-cache.js';

/** What a read must not miss: bytes that are newer than the extents. */
export interface NewerBytes {
  /** Appended bytes that a read up to `end` would have to show have to be committed first: only then it is sure where they lie. */
  mustCommit(committed: InodeAttributes, end: number): boolean;
  /** Commits everything written so far. @throws {HoldfastError} why that is not possible */
  flush(): Promise<void>;
  /** The file's size with what is not committed yet, appended bytes left aside. */
  readableSize(committed: InodeAttributes): number;
  /** Copies what it has of [offset, offset + into.length) and calls `gap` for every range (relative) it has not. */
  read(offset: number, into: Buffer, gap: (start: number, end: number) => void): void;
}
/** Where one handle reads; decides how far ahead to fetch. */
export class ReadPosition {
  end = 0;
  streak = 0;
  aheadTo = 0;
}
interface ReadPiece {
  readonly extent: Extent;
  readonly from: number;
  readonly to: number;
  readonly location: ChunkLocation;
}
const MAX_AHEAD_CHUNKS = 12;
const MAX_ATTEMPTS = 3;
/** Readers of the kernel come a little out of order; this still counts as sequential. */
const SLACK_BYTES = 1024 * 1024;

export class FileReader {
  private map = new ExtentMap();
  private dataVersion = -1;
  private leaseNumber = 0;
  private loading: Promise<void> | undefined;
  /** The newest attributes that came along with extents. */
  private seen: InodeAttributes | undefined;

  constructor(
    private readonly core: ClientCore,
    readonly inode: InodeId,
  ) {}

  /** The inode was just created: it has no extents. */
  isNew(attributes: InodeAttributes): void {
    this.map = ExtentMap.empty();
    this.dataVersion = attributes.dataVersion;
    this.leaseNumber = this.core.cacheNumber();
  }

  drop(): void {
    this.map = new ExtentMap();
    this.dataVersion = -1;
  }

  get extentCount(): number {
    return this.map.count;
  }

  /** Our own commit was applied: the map follows it without asking. */
  committed(stamp: Stamp, attributes: InodeAttributes, extents: readonly Extent[]): void {
    this.changed(stamp, attributes, (map) => map.overlay(extents));
  }

  /** Our own change of the data was applied; `follow` does the same to the map, unless somebody else changed the file as well. */
  changed(stamp: Stamp, attributes: InodeAttributes, follow: (map: ExtentMap) => void): void {
    if (!this.seen || this.seen.change <= attributes.change) this.seen = attributes;
    if (!this.core.cache.isFresh(stamp, this.inode) || this.leaseNumber !== this.core.cacheNumber()) this.drop();
    else if (this.dataVersion >= 0 && attributes.dataVersion >= this.dataVersion) {
      follow(this.map);
      this.dataVersion = attributes.dataVersion;
    }
  }

  /** Short at the end of the file. @throws {HoldfastError} CHUNK_UNREADABLE (EIO) when no replica gives good bytes in time */
  async read(offset: number, length: number, newer: NewerBytes, position: ReadPosition): Promise<Buffer> {
    let isCommitted = false;
    let missing = 0;
    for (let attempt = 0; ; attempt++) {
      // Without a break since the last question: an answer counts once even if the lease lapsed or a recall came while it travelled.
      const isRelaxed = attempt >= MAX_ATTEMPTS;
      const attributes = isRelaxed ? this.seen : this.core.cache.attributes(this.inode);
      if (!attributes || this.firstUnknown(offset, offset + length, isRelaxed) !== null) {
        await this.know(offset, offset + length, attributes === undefined);
        continue;
      }
      // What is appended from now on need not be shown.
      if (!isCommitted && newer.mustCommit(attributes, offset + length)) {
        await newer.flush();
        isCommitted = true;
        continue;
      }
      // From here to the plan nothing is awaited, so bytes that become committed cannot fall between `newer` and the extents.
      const size = newer.readableSize(attributes);
      const end = Math.min(offset + length, size);
      if (end <= offset) return Buffer.alloc(0);
      const into = Buffer.allocUnsafe(end - offset);
      const pieces = this.plan(offset, into, gapsOf(newer, offset, into));
      try {
        if (pieces.length === 0) return into;
        const isSequential = this.advance(position, offset, end);
        if (pieces.length === 1) await this.readPiece(pieces[0]!, offset, into, isSequential);
        else await Promise.all(pieces.map((piece) => this.readPiece(piece, offset, into, isSequential)));
        if (isSequential) this.readAhead(position, end, size);
        return into;
      } catch (error) {
        // The file may have been rewritten and its old chunks deleted since its extents were fetched: look once more before giving up.
        if (!isCode(error, 'CHUNK_MISSING')) throw error;
        this.drop();
        if (++missing > 2)
          throw new HoldfastError('CHUNK_UNREADABLE', `no good replica is left: ${error.message}; see "holdfast why PATH"`, error.facts);
      }
    }
  }

  /** Which parts of which chunks fill the gaps; holes are filled with zeros here. */
  private plan(offset: number, into: Buffer, gaps: readonly { start: number; end: number }[]): ReadPiece[] {
    const pieces: ReadPiece[] = [];
    for (const gap of gaps) {
      let at = offset + gap.start;
      const gapEnd = offset + gap.end;
      for (const extent of this.map.within(at, gapEnd)) {
        if (extent.offset > at) into.fill(0, at - offset, extent.offset - offset);
        const from = Math.max(at, extent.offset);
        const to = Math.min(gapEnd, extent.offset + extent.length);
        const location = this.core.locations.get(extent.chunk) ?? unknownLocation(extent);
        pieces.push({ extent, from, to, location });
        at = to;
      }
      if (at < gapEnd) into.fill(0, at - offset, gapEnd - offset);
    }
    return pieces;
  }

  /** Extents touching [start, end), loaded if needed. */
  async extents(start: number, end: number): Promise<Extent[]> {
    for (let attempt = 0; this.firstUnknown(start, end, attempt >= MAX_ATTEMPTS) !== null; attempt++) await this.know(start, end, false);
    return this.map.within(start, end);
  }

  /** The chunks the file consists of now, as the coordinator says. */
  async chunks(): Promise<Set<ChunkId>> {
    this.drop();
    return new Set((await this.extents(0, Infinity)).map((extent) => extent.chunk));
  }

  private firstUnknown(start: number, end: number, isRelaxed: boolean): number | null {
    if (!isRelaxed && (!this.core.isLeaseValid() || this.leaseNumber !== this.core.cacheNumber())) this.drop();
    return this.map.firstUnknown(start, end);
  }

  /** Asks the coordinator for what is not known of the range; one question at a time. */
  private async know(start: number, end: number, needsAttributes: boolean): Promise<void> {
    while (this.loading) await this.loading.catch(() => {}); // Its own caller reports the error.
    const at = this.map.firstUnknown(start, end);
    if (at === null && !needsAttributes) return;
    this.loading = (at === null ? this.loadAttributes() : this.load(at, end)).finally(() => {
      this.loading = undefined;
    });
    await this.loading;
  }

  private async loadAttributes(): Promise<void> {
    this.seen = await this.core.attributes(this.inode);
    // Extents that came before the change these attributes tell of: together they would give zeros where the new bytes are.
    if (this.dataVersion >= 0 && this.dataVersion !== this.seen.dataVersion) this.drop();
  }

  private async load(start: number, end: number): Promise<void> {
    const { core, inode } = this;
    let fromOffset: number | null = start;
    while (fromOffset !== null && fromOffset < end) {
      const stamp = core.cache.stamp();
      const number = core.cacheNumber();
      const asked: number = fromOffset;
      const page = await core.session.call('getExtents', { inode, fromOffset: asked, limit: MAX_EXTENTS_PER_PAGE });
      core.cache.putAttributes(stamp, page.attributes);
      core.locations.learn(page.locations);
      this.seen = page.attributes;
      if (this.leaseNumber !== number || (this.dataVersion >= 0 && this.dataVersion !== page.attributes.dataVersion)) this.drop();
      this.leaseNumber = number;
      this.dataVersion = page.attributes.dataVersion;
      this.map.learn(asked, page.nextOffset ?? Infinity, page.extents);
      // Recalled while the answer was under way: good for the read that asked, not to be kept beyond.
      if (!core.cache.isFresh(stamp, inode) || number !== core.cacheNumber()) this.leaseNumber = -1;
      fromOffset = page.nextOffset;
    }
  }

  private async readPiece(piece: ReadPiece, offset: number, into: Buffer, isSequential: boolean): Promise<void> {
    const { extent, from, to, location } = piece;
    const start = extent.chunkOffset + (from - extent.offset);
    const end = start + (to - from);
    const first = Math.floor(start / LEAF_SIZE_BYTES);
    const last = Math.floor((end - 1) / LEAF_SIZE_BYTES);
    const copy = (leaf: number, data: Buffer): void => {
      const leafStart = leaf * LEAF_SIZE_BYTES;
      const copyFrom = Math.max(start, leafStart);
      const copyTo = Math.min(end, leafStart + data.length);
      if (copyTo > copyFrom) data.copy(into, from - offset + (copyFrom - start), copyFrom - leafStart, copyTo - leafStart);
    };
    // A sequential reader will want the rest of the chunk in a moment; one request for all of it is cheaper.
    const whole = { first: 0, count: storedLeaves(this.core.form, location.sizeBytes) };
    await this.core.fetcher.read(location, isSequential ? whole : { first, count: last - first + 1 }, (leaf, data) => {
      if (leaf >= first && leaf <= last) copy(leaf, data);
    });
  }

  private advance(position: ReadPosition, offset: number, end: number): boolean {
    const isNear = offset <= position.end + SLACK_BYTES && end + SLACK_BYTES >= position.end;
    if (isNear) position.streak++;
    else {
      position.streak = 0;
      position.aheadTo = 0;
    }
    position.end = isNear ? Math.max(position.end, end) : end;
    return position.streak >= 2;
  }

  private readAhead(position: ReadPosition, end: number, size: number): void {
    const window = Math.min(MAX_AHEAD_CHUNKS, Math.max(1, position.streak >> 1)) * this.core.volume.chunkSizeBytes;
    const target = Math.min(end + window, size);
    const start = Math.max(position.aheadTo, end);
    if (start >= target || this.map.firstUnknown(start, target) !== null) return;
    position.aheadTo = target;
    for (const extent of this.map.within(start, target)) {
      const location = this.core.locations.get(extent.chunk);
      if (location) void this.core.fetcher.prefetch(location, { first: 0, count: storedLeaves(this.core.form, location.sizeBytes) });
    }
  }
}

function gapsOf(newer: NewerBytes, offset: number, into: Buffer): { start: number; end: number }[] {
  const gaps: { start: number; end: number }[] = [];
  newer.read(offset, into, (start, end) => gaps.push({ start, end }));
  return gaps;
}

/** Nobody told where it lies: read as missing, so that the extents are asked for again before it counts as lost. */
const unknownLocation = (extent: Extent): ChunkLocation => ({
  chunk: extent.chunk,
  sizeBytes: extent.chunkOffset + extent.length,
  nodes: [],
});
