/**
 * Writes one inode: takes bytes, cuts them into chunks, uploads in the background while the writer goes on, commits in order.
 *
 *   written bytes ──cut──▶ uploading ──▶ uploaded ──commit──▶ committed (forgotten here; until then kept in memory, whatever happens)
 *
 * Commits of one file never overtake each other: a later write to the same place must win. Uploads run in parallel.
 * A failed write-back keeps its bytes and tells every later flush until one succeeds; only data the cluster can no longer take (the file is
 * gone, the session was forgotten) is dropped, and then every handle hears of it once.
 */
import type { ChunkId, InodeAttributes, InodeId } from '../protocol/entities.js';
import { type Timestamp, timestamp } from '../protocol/environment.js';
import { HoldfastError, isCode } from '../protocol/errors.js';
import { LEAF_SIZE_BYTES, MAX_EXTENTS_PER_COMMIT } from '../protocol/limits.js';
import { isPlacedOn, type PlacedOn, placeAppends, type Uncommitted } from './append-places.js';
import { Commit } from './committer.js';
import type { ClientCore } from './core.js';
import { CutWaiters } from './cut-waiters.js';
import { DirtyOverlay, type Piece } from './dirty-overlay.js';
import type { FileReader, NewerBytes } from './file-reader.js';
import { type PendingChunk, PendingCut, readCuts } from './pending-cut.js';
import { PendingUploads } from './pending-uploads.js';
import type { ChangeMark } from './session.js';
import { UnsyncedChunks } from './unsynced-chunks.js';

/** An idle writer's pieces are cut when they hold this much. */
const CUT_BYTES = 8 * 1024 * 1024;
/** Uploaded bytes waiting for a commit that nobody asked for yet. */
const COMMIT_BYTES = 16 * 1024 * 1024;
const COMMIT_EXTENTS = MAX_EXTENTS_PER_COMMIT / 2;
/** How long a writer waits for the bytes of other files before it goes on without a share of the budget, and how often it looks. */
const ROOM_PATIENCE_MS = 1000;
const ROOM_LOOK_MS = 100;
/** Between tries to save bytes of a failed write-back that others need the room of. */
const FIRST_RETRY_PAUSE_MS = 1000;
const LONGEST_RETRY_PAUSE_MS = 10_000;

export class FileWriter implements NewerBytes {
  readonly unsynced: UnsyncedChunks;
  /** Data that could not be saved and was given up; each handle tells it once. */
  lost: { readonly error: HoldfastError; readonly number: number } | undefined;
  /** Of the last write that is not committed. */
  mtime: Timestamp | undefined;
  /** When the oldest bytes not yet cut were written. */
  dirtySinceMs = 0;
  private readonly pendingUploads: PendingUploads;
  private overlay: DirtyOverlay;
  private appendBase: number | null = null;
  private placedOn: PlacedOn | undefined;
  /** Readers that hold back the next commit of appended bytes, and those that wait for the one under way to end. */
  private holds = 0;
  private commitEnds: (() => void)[] = [];
  private cuts: PendingCut[] = [];
  private nextCut = 1;
  private commitThrough = 0;
  /** The commit that reaches this cut is answered only when it is on stable storage. */
  private durableThrough = 0;
  private isCommitting = false;
  /** The commit under way, or the one that failed and comes before all others. */
  private unfinished: { readonly batch: readonly PendingCut[]; readonly commit: Commit; readonly mustBeStable: boolean } | undefined;
  /**
   * The bytes written now take the place of others that may have been synced. If all machines lost power between the commit and the moment the
   * new chunks are stable, the file would have neither the old bytes nor the new ones (P7). So such chunks are made stable before their commit;
   * bytes of a new file need not be: there is no older state to come back to.
   */
  private replaces = false;
  private failure: HoldfastError | undefined;
  private retryAtMs = 0;
  private retryPauseMs = FIRST_RETRY_PAUSE_MS;
  private readonly commits = new CutWaiters();
  private readonly uploads = new CutWaiters();
  private newest: InodeAttributes | undefined;
  /** Behind the newest change of the data that was acknowledged; stays at the first one that was lost until somebody has been told. */
  private changed: ChangeMark | undefined;
  /** The session these bytes were written in. */
  private session: number;

  constructor(
    private readonly core: ClientCore,
    readonly inode: InodeId,
    private readonly reader: FileReader,
  ) {
    this.overlay = new DirtyOverlay(core.volume.chunkSizeBytes);
    this.unsynced = new UnsyncedChunks(core);
    this.pendingUploads = new PendingUploads(core);
    this.session = core.session.number;
  }

  get isDirty(): boolean {
    return !this.overlay.isEmpty || this.cuts.length > 0;
  }
  get hasUncut(): boolean {
    return !this.overlay.isEmpty;
  }

  /** dataVersion after our last commit; -1 when there was none. */
  get committedVersion(): number {
    return this.newest?.dataVersion ?? -1;
  }

  /** What a change that builds on the data written here builds on. */
  get changeMark(): ChangeMark | undefined {
    return this.changed;
  }
  /** The coordinator came back without data it had acknowledged, and nobody has been told yet. */
  get hasLostChanges(): boolean {
    return this.changed !== undefined && this.core.session.isLost(this.changed);
  }
  /** A change of the data has been acknowledged just now. */
  noteChange(): void {
    if (!this.hasLostChanges) this.changed = this.core.session.mark();
  }
  /** Whoever wrote it has been told, or none of it matters any more. */
  forgetLoss(): void {
    if (this.hasLostChanges) this.changed = undefined;
  }

  /** Attributes with what is not committed yet. */
  overlayAttributes(attributes: InodeAttributes): InodeAttributes {
    const base = this.newerOf(attributes);
    if (!this.isDirty) return base;
    const sizeBytes = Math.max(base.sizeBytes, this.end());
    const time = this.mtime;
    return {
      ...base,
      sizeBytes,
      allocatedBytes: Math.max(base.allocatedBytes, Math.min(sizeBytes, base.allocatedBytes + this.dirtyBytes())),
      ...(time ? { mtimeS: time.s, mtimeNs: time.ns, ctimeS: time.s, ctimeNs: time.ns } : {}),
    };
  }

  size(committed: InodeAttributes): number {
    return Math.max(this.newerOf(committed).sizeBytes, this.end());
  }

  private newerOf(attributes: InodeAttributes): InodeAttributes {
    return this.newest && this.newest.change > attributes.change ? this.newest : attributes;
  }

  readableSize(committed: InodeAttributes): number {
    let end = this.newerOf(committed).sizeBytes;
    for (const bytes of this.uncommitted()) if (bytes.appendBase === null) end = Math.max(end, bytes.end);
    return end;
  }

  mustCommit(committed: InodeAttributes, end: number): boolean {
    if (!this.hasAppends) return false;
    if (!this.place(committed)) return true;
    for (const { appendBase } of this.uncommitted()) if (appendBase !== null && appendBase < end) return true;
    return false;
  }

  /**
   * Puts appended bytes where they lie behind this version of the file (append-places.ts). False when that cannot be told, since it may have some
   * of them already.
   */
  place(attributes: InodeAttributes): boolean {
    if (!this.hasAppends) return true;
    const base = this.newerOf(attributes);
    if (isPlacedOn(this.placedOn, base)) return true;
    if (this.isAppendOnItsWay) return false;
    placeAppends(base.sizeBytes, this.uncommitted());
    this.placedOn = base;
    return true;
  }

  /**
   * Until the returned function is called, `place` can tell of any version that is asked for from now on.
   * @throws {HoldfastError} when appended bytes that may be committed cannot be
   */
  async hold(): Promise<() => void> {
    this.holds++;
    let isHeld = true;
    const release = (): void => {
      if (!isHeld) return;
      isHeld = false;
      this.holds--;
      this.pump();
    };
    for (let tries = 0; this.isAppendOnItsWay; tries++) {
      if (!this.isCommitting && tries === 0) {
        this.retry();
        this.pump();
      }
      if (!this.isCommitting) {
        release();
        throw this.failure ?? new HoldfastError('EIO', 'bytes appended here could not be saved yet');
      }
      await this.nextCommitEnd();
    }
    return release;
  }

  private get hasAppends(): boolean {
    return this.appendBase !== null || this.cuts.some((cut) => cut.appendBase !== null);
  }
  /** A commit of appended bytes may have been applied, and its answer is not here. */
  private get isAppendOnItsWay(): boolean {
    return this.unfinished !== undefined && this.unfinished.batch[0]!.appendBase !== null;
  }
  private *uncommitted(): Generator<Uncommitted> {
    yield* this.cuts;
    if (this.overlay.isEmpty) return;
    const moveBy = (bytes: number): void => {
      this.appendBase! += bytes;
      this.overlay.shift(bytes);
    };
    yield { appendBase: this.appendBase, end: this.overlay.end, moveBy };
  }
  /** Resolves when no commit is on its way. */
  async commitOver(): Promise<void> {
    while (this.isCommitting) await this.nextCommitEnd();
  }
  private nextCommitEnd(): Promise<void> {
    return new Promise((resolve) => {
      this.commitEnds.push(resolve);
    });
  }
  private commitEnded(): void {
    const waiting = this.commitEnds;
    this.commitEnds = [];
    for (const wake of waiting) wake();
  }

  read(offset: number, into: Buffer, gap: (start: number, end: number) => void): void {
    if (!this.isDirty) {
      gap(0, into.length);
      return;
    }
    const older = (start: number, end: number): void => readCuts(this.cuts, offset, into, start, end, gap);
    if (this.appendBase === null) this.overlay.read(offset, into, older);
    else older(0, into.length);
  }

  /** Takes a copy; waits while the budget is spent. `committed` must be as of now. Returns where the bytes went. */
  write(
    offset: number,
    data: Buffer,
    isAppend: boolean,
    committed: () => InodeAttributes | undefined,
    isGiven?: boolean,
  ): number | undefined {
    if (this.failure && isCode(this.failure, 'ENOSPC', 'EDQUOT') && this.cuts.length > 0) {
      const error = this.failure;
      this.retry(); // Space may be free again: the next write or flush will see.
      throw error;
    }
    if (!this.isDirty) this.session = this.core.session.number;
    let at = offset;
    if (isAppend && this.appendBase !== null) at = this.overlay.end;
    else if (isAppend && this.hasAppends) {
      this.freeze(false);
      at = Math.max(this.placedOn?.sizeBytes ?? 0, this.end());
      this.appendBase = at;
    } else if (isAppend) {
      const known = committed();
      if (!known) return undefined;
      this.freeze(false);
      this.placedOn = this.newerOf(known);
      at = this.size(known);
      this.appendBase = at;
    } else {
      if (this.appendBase !== null) this.freeze(false);
      if (!this.replaces && at < ((this.newest ?? committed())?.sizeBytes ?? 0)) this.replaces = true;
    }
    if (this.overlay.isEmpty) this.dirtySinceMs = this.core.environment.monotonicMs();
    const heldBefore = this.overlay.heldBytes;
    this.overlay.write(at, data, isGiven);
    this.mtime = timestamp(this.core.environment);
    this.core.budget.change(this.overlay.heldBytes - heldBefore);
    this.cutWhatIsReady();
    return at;
  }

  /** After a write: waits until the budget has room. @throws {HoldfastError} when the waiting cannot end because this file's write-back failed */
  async room(): Promise<void> {
    const { budget, environment } = this.core;
    const patientUntilMs = environment.monotonicMs() + ROOM_PATIENCE_MS;
    let isWoken = true;
    while (!budget.hasRoom) {
      const patientForMs = patientUntilMs - environment.monotonicMs();
      // Bytes of others that cannot be saved may hold all of it for long. Then this file does without: each write is saved before the next.
      if (!this.isDirty && patientForMs <= 0) return;
      if (isWoken) budget.press();
      isWoken = await budget.wait(environment, Math.max(patientForMs, ROOM_LOOK_MS));
      if (this.failure && this.cuts.length > 0 && !budget.hasRoom) throw this.failure;
    }
  }

  /** Cuts everything and lets it be committed in the background. */
  writeBack(): void {
    this.freeze(false);
    if (this.failure) return;
    this.commitThrough = this.nextCut - 1;
    this.pump();
  }

  /** Resolves when everything written so far is committed. @throws {HoldfastError} why it is not; the data stays for another try */
  flush(durable = false): Promise<void> {
    this.freeze(durable);
    if (this.failure) this.retry();
    if (this.cuts.length === 0) return Promise.resolve();
    const through = this.nextCut - 1;
    const done = this.commits.wait(through);
    this.commitThrough = through;
    this.pump();
    return done;
  }

  /** Everything written so far is at its nodes (stable if it was not on its way before), not committed. */
  uploaded(durable: boolean): Promise<void> {
    this.freeze(durable);
    if (this.failure) this.retry();
    if (this.cuts.every((cut) => cut.state === 'uploaded')) return Promise.resolve();
    return this.uploads.wait(this.nextCut - 1);
  }

  /**
   * Everything in the file so far is committed and on stable storage (P1), whoever wrote it. Order: chunks stable at their nodes first, the
   * coordinator's sync last, because metadata that outlives its chunks would make a synced file unreadable. What others committed is made stable
   * when the coordinator has named it.
   */
  async sync(): Promise<void> {
    await this.uploaded(true);
    // A commit that was begun without being durable may cover these cuts.
    if (this.unsynced.isEmpty && this.cuts.length > 0 && !this.unfinished) {
      this.durableThrough = this.nextCut - 1;
      await this.flush(true);
      // What others committed, which the reply has named, and what was uploaded again for the commit.
      return this.makeStable();
    }
    await Promise.all([this.flush(true), this.makeStable()]);
    // What a commit had to upload again lies at other nodes than those that were asked.
    await this.makeStable();
    const { recentChunks } = await this.core.session.call('sync', { inode: this.inode, ofOthers: true });
    if (recentChunks.length === 0) return;
    this.unsynced.noteLocations(recentChunks);
    await this.makeStable(new Set(recentChunks.map(({ chunk }) => chunk)));
  }

  /** Takes on what was written through a writer of the same inode that is given up for this one: what is not stable, what was acknowledged. */
  succeed(former: FileWriter): void {
    this.unsynced.noteAll(former.unsynced);
    this.changed = former.changed;
  }

  /** What was uploaded or committed since the last sync, or of it these chunks alone, is on stable storage at its nodes. */
  makeStable(which?: ReadonlySet<ChunkId>): Promise<void> {
    return this.unsynced.sync(this.pendingChunks(), () => this.reader.chunks(), which);
  }

  /** The file was cut: what is written until the next flush replaces what was there. */
  willReplace(): void {
    this.replaces = true;
  }

  /** Gives up everything that is not committed; every handle hears of it once. */
  discard(error: HoldfastError | undefined): void {
    const wasDirty = this.isDirty;
    this.core.budget.change(-this.overlay.heldBytes - this.cuts.reduce((sum, cut) => sum + cut.heldBytes, 0));
    this.overlay = new DirtyOverlay(this.core.volume.chunkSizeBytes);
    this.cuts = [];
    if (!this.isCommitting) this.unfinished?.commit.abandon();
    this.unfinished = undefined;
    this.appendBase = null;
    this.failure = undefined;
    this.mtime = undefined;
    this.replaces = false;
    if (error && wasDirty) {
      this.lost = { error, number: (this.lost?.number ?? 0) + 1 };
      this.core.environment.log('error', 'written data could not be saved and is given up', { inode: this.inode, reason: error.message });
    }
    this.commits.settle(Infinity, error);
    this.settleUploads(error);
    this.commitEnded();
  }

  private end(): number {
    let end = this.overlay.end;
    for (const cut of this.cuts) end = Math.max(end, cut.end);
    return end;
  }

  private dirtyBytes(): number {
    return this.overlay.heldBytes + this.cuts.reduce((sum, cut) => sum + cut.heldBytes, 0);
  }

  private *pendingChunks(): Generator<PendingChunk> {
    for (const cut of this.cuts) yield* cut.chunks;
  }

  private cutWhatIsReady(): void {
    const { overlay } = this;
    const heldBefore = overlay.heldBytes;
    // Appends keep their order: a full window is only cut together with what comes before it.
    const full = overlay.takeFull();
    if (full.length > 0 && this.appendBase !== null) {
      const base = this.appendBase;
      const pieces = [...full, ...overlay.takeAll()].sort((a, b) => a.offset - b.offset);
      this.startCut(pieces, base, heldBefore, false);
      this.appendBase = null;
    } else if (full.length > 0) this.startCut(full, null, heldBefore - overlay.heldBytes, false);
    else if (overlay.heldBytes >= CUT_BYTES) this.freeze(false);
  }

  private freeze(durable: boolean): void {
    if (this.overlay.isEmpty) return;
    const { heldBytes } = this.overlay;
    this.startCut(this.overlay.takeAll(), this.appendBase, heldBytes, durable);
    this.appendBase = null;
  }

  private startCut(pieces: readonly Piece[], appendBase: number | null, heldBytes: number, durable: boolean): void {
    const cut = new PendingCut(pieces, this.core.volume.chunkSizeBytes, this.core.form, this.core.volume.volume, {
      number: this.nextCut++,
      appendBase,
      mustBeStable: this.replaces,
    });
    this.core.budget.change(cut.heldBytes - heldBytes);
    this.cuts.push(cut);
    this.startUpload(cut, durable || cut.mustBeStable);
  }

  private startUpload(cut: PendingCut, durable: boolean): void {
    cut.state = 'uploading';
    const untilMs = this.core.environment.monotonicMs() + this.core.session.outageTimeoutMs;
    this.pendingUploads.upload(cut.chunks, { durable, untilMs }).then(
      () => {
        if (!this.cuts.includes(cut)) return;
        cut.state = 'uploaded';
        for (const chunk of cut.chunks) this.unsynced.note(chunk);
        this.settleUploads(undefined);
        this.pump();
      },
      (error: unknown) => {
        if (!this.cuts.includes(cut)) return;
        cut.state = 'failed';
        this.fail(asHoldfast(error));
      },
    );
  }

  /** Starts failed uploads again. */
  private retry(): void {
    this.failure = undefined;
    for (const cut of this.cuts) if (cut.state === 'failed') this.startUpload(cut, cut.mustBeStable);
  }

  private pump(): void {
    if (this.isCommitting || this.failure) return;
    this.unfinished ??= this.nextCommit();
    const { unfinished } = this;
    if (!unfinished) return;
    this.isCommitting = true;
    this.commit(unfinished).then(
      () => {
        this.isCommitting = false;
        this.commitEnded();
        this.pump();
      },
      (error: unknown) => {
        this.isCommitting = false;
        if (this.unfinished === unfinished) {
          // Nothing of it is there: the next try may take more along.
          if (!unfinished.commit.isBegun) this.unfinished = undefined;
          this.fail(asHoldfast(error));
        } else {
          unfinished.commit.abandon(); // Its bytes were given up meanwhile.
          this.pump();
        }
        this.commitEnded();
      },
    );
  }

  /**
   * Tries again though nobody flushes: a commit whose reply never came, as the coordinator keeps the replies to all later changes until then; and
   * when the budget is spent, whatever failed, since others wait for it.
   */
  resume(): void {
    if (!this.failure || this.isCommitting) return;
    const isPressed = !this.core.budget.hasRoom && this.core.environment.monotonicMs() >= this.retryAtMs;
    if (!this.unfinished && !isPressed) return;
    this.retry();
    this.pump();
  }

  /** The uploaded cuts at the head that may go in one commit: in order, not overlapping each other. */
  private readyToCommit(): PendingCut[] {
    const batch: PendingCut[] = [];
    let bytes = 0;
    let extents = 0;
    let end = -1;
    for (const cut of this.cuts) {
      if (cut.state !== 'uploaded') break;
      if (batch.length > 0) {
        const isAfter = cut.start >= end;
        if (!isAfter || cut.appendBase !== null || batch[0]!.appendBase !== null || extents + cut.extentCount > MAX_EXTENTS_PER_COMMIT)
          break;
      }
      batch.push(cut);
      bytes += cut.heldBytes;
      extents += cut.extentCount;
      end = cut.end;
    }
    const [first] = batch;
    if (!first || (first.appendBase !== null && this.holds > 0)) return [];
    const isAsked = first.number <= this.commitThrough || !this.core.budget.hasRoom;
    return isAsked || bytes >= COMMIT_BYTES || extents >= COMMIT_EXTENTS ? batch : [];
  }

  private nextCommit(): FileWriter['unfinished'] {
    const batch = this.readyToCommit();
    const [first] = batch;
    if (!first) return undefined;
    const isDurable = first.number <= this.durableThrough && batch[batch.length - 1]!.number >= this.durableThrough;
    const mustBeStable = batch.some((cut) => cut.mustBeStable);
    const commit: Commit = new Commit(this.core, this.inode, {
      chunks: batch.flatMap((cut) => cut.chunks),
      isAppend: first.appendBase !== null,
      mtime: this.mtime,
      session: this.session,
      durable: isDurable,
      uploadAgain: async (chunks, untilMs) => {
        for (const chunk of chunks) {
          chunk.receipts.clear();
          chunk.present = undefined;
        }
        await this.pendingUploads.upload(chunks, { durable: isDurable || mustBeStable, untilMs, mayDeduplicate: false });
        for (const chunk of chunks) this.unsynced.note(chunk);
      },
      isGivenUp: () => this.unfinished?.commit !== commit,
    });
    return { batch, commit, mustBeStable };
  }

  private async commit(unfinished: NonNullable<FileWriter['unfinished']>): Promise<void> {
    const { batch, commit, mustBeStable } = unfinished;
    // Chunks found at nodes already may be there in memory only. Before a commit that may have been applied already there is nothing to wait for.
    if (mustBeStable && !this.unsynced.isEmpty && !commit.isBegun)
      await this.makeStable(new Set(batch.flatMap(({ chunks }) => chunks.map(({ id }) => id))));
    const stamp = this.core.cache.stamp();
    const last = batch[batch.length - 1]!;
    const { attributes, extents, ofOthers } = await commit.run();
    this.unsynced.noteLocations(ofOthers);
    if (this.unfinished !== unfinished) return; // Given up meanwhile.
    this.unfinished = undefined;
    this.retryPauseMs = FIRST_RETRY_PAUSE_MS;
    this.noteChange();
    this.committed(batch);
    this.newest = attributes;
    this.place(attributes);
    this.core.cache.putAttributes(stamp, attributes);
    this.reader.committed(stamp, attributes, extents);
    if (!this.isDirty) {
      this.mtime = undefined;
      this.replaces = false;
    }
    this.commits.settle(last.number, undefined);
  }

  private committed(batch: readonly PendingCut[]): void {
    this.cuts = this.cuts.filter((cut) => !batch.includes(cut));
    for (const cut of batch) {
      this.core.budget.change(-cut.heldBytes);
      for (const chunk of cut.chunks) {
        this.core.locations.learn([
          { chunk: chunk.id, sizeBytes: chunk.payloadBytes, nodes: chunk.present?.nodes ?? [...chunk.receipts.keys()] },
        ]);
        this.keepForReading(chunk.id, chunk.plaintext);
      }
    }
  }

  /** What was just written is often read next; its hash was computed here, so it is as good as verified. */
  private keepForReading(chunk: ChunkId, plaintext: Buffer): void {
    for (let leaf = 0; leaf * LEAF_SIZE_BYTES < plaintext.length; leaf++)
      this.core.leaves.put(chunk, leaf, plaintext.subarray(leaf * LEAF_SIZE_BYTES, (leaf + 1) * LEAF_SIZE_BYTES));
  }

  private fail(error: HoldfastError): void {
    if (isHopeless(error)) {
      this.discard(error);
      return;
    }
    this.failure = error;
    this.retryAtMs = this.core.environment.monotonicMs() + this.retryPauseMs;
    this.retryPauseMs = Math.min(this.retryPauseMs * 2, LONGEST_RETRY_PAUSE_MS);
    this.core.environment.log('warn', 'write-back failed; the data is kept and will be tried again', {
      inode: this.inode,
      reason: error.message,
    });
    this.commits.settle(Infinity, error);
    this.settleUploads(error);
    this.core.budget.wake();
  }

  /** Those who wait for uploads: with an error all of them, as everything here is tried again only when somebody asks. */
  private settleUploads(error: HoldfastError | undefined): void {
    const firstMissing = this.cuts.find((cut) => cut.state !== 'uploaded')?.number ?? Infinity;
    this.uploads.settle(error ? Infinity : firstMissing - 1, error);
  }
}

/** Errors that trying again cannot cure: the file or the right to write it is gone. */
const isHopeless = (error: HoldfastError): boolean =>
  isCode(error, 'SESSION_LOST', 'ESTALE', 'ENOENT', 'EFBIG', 'EROFS', 'EPERM', 'EACCES', 'EINVAL', 'FORBIDDEN');

const asHoldfast = (error: unknown): HoldfastError =>
  error instanceof HoldfastError
    ? error
    : new HoldfastError('INTERNAL', error instanceof Error ? (error.stack ?? error.message) : String(error));
