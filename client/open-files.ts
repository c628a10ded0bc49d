/**
 * The files this client has open or still has unsaved bytes of. All handles of one inode share one reader and one writer, so what one writes the
 * others read at once.
 */
import type { InodeAttributes, InodeId } from '../protocol/entities.js';
import { sleep, type Timer } from '../protocol/environment.js';
import { HoldfastError, isCode } from '../protocol/errors.js';
import { LEASE_MS, MAX_IDS_PER_CALL } from '../protocol/limits.js';
import type { ClientCore } from './core.js';
import { FileReader } from './file-reader.js';
import { FileWriter } from './file-writer.js';
import { type ChangeMark, changesLost } from './session.js';

/** Written bytes are on their way to nodes after this time even if nobody closes the file. */
const WRITE_BACK_AFTER_MS = 2000;
const TICK_MS = 1000;
/** Written bytes and metadata are on stable storage by then, with room to spare. */
const STABLE_AFTER_MS = 2000;
const LOSS_REMEMBERED_MS = 300_000;
/** How long bytes of a closed file are tried to be saved after close has reported the failure. */
const SAVE_CLOSED_FOR_MS = 60_000;

export interface OpenFile {
  readonly inode: InodeId;
  readonly reader: FileReader;
  readonly writer: FileWriter;
  handles: number;
  /** It has lost its last name; the coordinator keeps it for us until we say otherwise. */
  isOrphan: boolean;
  /** dataVersion that a sync has made stable. */
  syncedVersion: number;
}

export class OpenFiles {
  private readonly files = new Map<InodeId, OpenFile>();
  /** Inodes whose name this client is removing without keeping them: whoever opens one now must first see how that ends. */
  private readonly removals = new Map<InodeId, Promise<unknown>>();
  /** Files written and closed a moment ago: nodes may hold their chunks, and the coordinator their metadata, in memory only. */
  private readonly closedUnsynced = new Map<InodeId, { readonly writer: FileWriter; readonly closedMs: number }>();
  private orphansToRelease: InodeId[] = [];
  private isReleasing = false;
  private timer: Timer | undefined;
  private isClosed = false;

  constructor(private readonly core: () => ClientCore) {}

  get(inode: InodeId): OpenFile | undefined {
    return this.files.get(inode);
  }
  isOpen(inode: InodeId): boolean {
    return (this.files.get(inode)?.handles ?? 0) > 0;
  }

  /** Runs a call that takes away a name of an inode nobody here has open. */
  async removing<T>(inode: InodeId, call: Promise<T>): Promise<T> {
    this.removals.set(inode, call);
    try {
      return await call;
    } finally {
      if (this.removals.get(inode) === call) this.removals.delete(inode);
    }
  }

  /** Before an inode is opened from the cache: waits until our own removal of its name is decided. */
  async settled(inode: InodeId): Promise<void> {
    for (let call = this.removals.get(inode); call; call = this.removals.get(inode)) {
      await call.catch(() => {}); // Its own caller hears of it.
      if (this.removals.get(inode) === call) this.removals.delete(inode);
    }
  }
  get hasRemovals(): boolean {
    return this.removals.size > 0;
  }

  /**
   * Before a file takes the place of another: its chunks become stable, so that a power failure of all machines cannot leave the name with neither
   * the old file nor the new one (P7). Costs nothing for files not written lately.
   * @returns what the new name builds on: when the coordinator loses that with its power, the old file must stay
   * @throws {HoldfastError} EIO, once, when it has been lost already
   */
  async beforeReplacing(inode: InodeId): Promise<ChangeMark | undefined> {
    const writer = this.files.get(inode)?.writer ?? this.closedUnsynced.get(inode)?.writer;
    if (!writer) return undefined;
    if (writer.isDirty) await writer.flush();
    if (writer.hasLostChanges) {
      writer.forgetLoss();
      throw changesLost();
    }
    if (!writer.unsynced.isEmpty) await writer.makeStable();
    this.closedUnsynced.delete(inode);
    return writer.changeMark;
  }
  /** Whether any file was written lately, so that replacing another by it needs care. */
  get hasWritten(): boolean {
    return this.files.size > 0 || this.closedUnsynced.size > 0;
  }
  /** The user of this client has been told that the coordinator lost changes. */
  toldOfLosses(): void {
    for (const { writer } of this.files.values()) writer.forgetLoss();
    for (const { writer } of this.closedUnsynced.values()) writer.forgetLoss();
  }

  /** Attributes with what this client has written and not committed. */
  overlay(attributes: InodeAttributes): InodeAttributes {
    const file = this.files.get(attributes.inode);
    return file ? file.writer.overlayAttributes(attributes) : attributes;
  }

  /** As overlay; appended bytes that are on their way are counted once, whether these attributes have them already or not. */
  told(attributes: InodeAttributes): InodeAttributes | Promise<InodeAttributes> {
    const writer = this.files.get(attributes.inode)?.writer;
    if (!writer) return attributes;
    return writer.place(attributes) ? writer.overlayAttributes(attributes) : this.toldAfterCommit(writer, attributes);
  }
  private async toldAfterCommit(writer: FileWriter, attributes: InodeAttributes): Promise<InodeAttributes> {
    const core = this.core();
    let release: () => void;
    try {
      release = await writer.hold();
    } catch {
      return writer.overlayAttributes(attributes); // They cannot be saved now, which flush and fsync tell: not more than what is surely there.
    }
    try {
      const now = core.cache.attributes(attributes.inode) ?? (await core.attributes(attributes.inode));
      writer.place(now);
      return writer.overlayAttributes(now);
    } finally {
      release();
    }
  }

  acquire(attributes: InodeAttributes): OpenFile {
    const { inode } = attributes;
    let file = this.files.get(inode);
    if (!file) {
      const core = this.core();
      const reader = new FileReader(core, inode);
      // No byte of it is covered by an extent: nothing to ask the coordinator about.
      if (attributes.allocatedBytes === 0 && core.cache.attributes(inode)?.change === attributes.change) reader.isNew(attributes);
      file = {
        inode,
        reader,
        writer: new FileWriter(core, inode, reader),
        handles: 0,
        isOrphan: attributes.nlink === 0,
        syncedVersion: -1,
      };
      // A sync through it has to make stable what was written before, too (P1).
      const closed = this.closedUnsynced.get(inode);
      if (closed) file.writer.succeed(closed.writer);
      this.closedUnsynced.delete(inode);
      this.files.set(inode, file);
      this.schedule();
    }
    file.handles++;
    return file;
  }

  release(file: OpenFile): void {
    file.handles--;
    if (file.handles > 0) return;
    if (file.isOrphan) {
      file.writer.discard(undefined);
      this.files.delete(file.inode);
      this.releaseOrphan(file.inode);
    } else if (file.writer.isDirty) void this.drain(file);
    else this.forget(file);
  }

  private forget(file: OpenFile): void {
    this.files.delete(file.inode);
    if (!file.writer.unsynced.isEmpty || file.writer.changeMark)
      this.closedUnsynced.set(file.inode, { writer: file.writer, closedMs: this.core().environment.monotonicMs() });
  }

  /** Tells the coordinator that nobody here needs this orphan any more; many are told in one call. */
  releaseOrphan(inode: InodeId): void {
    this.orphansToRelease.push(inode);
    if (!this.isReleasing) void this.tellReleased();
  }

  /** Everything that is not committed starts on its way. */
  writeBackAll(): void {
    for (const file of this.files.values()) if (file.writer.isDirty) file.writer.writeBack();
  }

  dirty(): OpenFile[] {
    return [...this.files.values()].filter((file) => file.writer.isDirty);
  }
  all(): OpenFile[] {
    return [...this.files.values()];
  }

  /** Somebody else changed it. Returns true when it lost its last name and is open here. */
  recalled(inode: InodeId, isUnlinked: boolean): boolean {
    const file = this.files.get(inode);
    if (!file) return false;
    file.reader.drop();
    if (!isUnlinked || file.handles === 0) return false;
    file.isOrphan = true;
    return true;
  }

  /** The coordinator has forgotten our session: what was not committed may contradict what others did since. */
  lost(): void {
    for (const file of this.files.values()) {
      file.writer.discard(new HoldfastError('SESSION_LOST', 'this client was away for too long; bytes written before were not saved'));
      file.isOrphan = false;
    }
  }

  close(): void {
    this.isClosed = true;
    this.timer?.cancel();
  }

  private async drain(file: OpenFile): Promise<void> {
    const { environment } = this.core();
    const untilMs = environment.monotonicMs() + SAVE_CLOSED_FOR_MS;
    for (;;) {
      try {
        await file.writer.flush();
        break;
      } catch (error) {
        if (file.handles > 0 || this.isClosed) return;
        // Whoever wrote it heard of this from flush; the memory is needed by others.
        const isFull = isCode(error, 'ENOSPC', 'EDQUOT');
        if (isFull || environment.monotonicMs() >= untilMs) {
          file.writer.discard(error instanceof HoldfastError ? error : new HoldfastError('EIO', String(error)));
          break;
        }
        await sleep(environment, TICK_MS);
      }
    }
    // One that was given up may still be applied: another writer of the file must not commit before it.
    await file.writer.commitOver();
    if (file.handles === 0 && !file.writer.isDirty && this.files.get(file.inode) === file) this.forget(file);
  }

  private async tellReleased(): Promise<void> {
    this.isReleasing = true;
    try {
      while (this.orphansToRelease.length > 0) {
        const inodes = this.orphansToRelease.splice(0, MAX_IDS_PER_CALL);
        await this.core().session.call('releaseOrphans', { inodes });
      }
    } catch {
      // They end with the session at the latest.
    } finally {
      this.isReleasing = false;
    }
  }

  /**
   * Nodes and coordinator make everything stable within a second by themselves. That they lived to do so is known from a lease that was renewed
   * since; a loss is remembered a while longer, for whoever has yet to be told.
   */
  private forgetClosed(): void {
    const { environment, session } = this.core();
    if (!session.isLeaseValid) return;
    const nowMs = environment.monotonicMs();
    for (const [inode, { writer, closedMs }] of this.closedUnsynced) {
      if (closedMs > nowMs - LEASE_MS - STABLE_AFTER_MS) break;
      if (!writer.hasLostChanges || closedMs < nowMs - LOSS_REMEMBERED_MS) this.closedUnsynced.delete(inode);
    }
  }

  private schedule(): void {
    if (this.timer || this.isClosed) return;
    this.timer = this.core().environment.setTimer(TICK_MS, () => {
      this.timer = undefined;
      const beforeMs = this.core().environment.monotonicMs() - WRITE_BACK_AFTER_MS;
      for (const { writer } of this.files.values()) {
        if (writer.hasUncut && writer.dirtySinceMs < beforeMs) writer.writeBack();
        writer.resume();
      }
      this.forgetClosed();
      if (this.files.size > 0 || this.closedUnsynced.size > 0) this.schedule();
    });
  }
}
