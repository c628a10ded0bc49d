/** One open file, as api.ts promises it. */
import type { InodeAttributes, InodeId } from '../protocol/entities.js';
import { HoldfastError } from '../protocol/errors.js';
import { MAX_FILE_SIZE_BYTES } from '../protocol/limits.js';
import type { FileHandle } from './api.js';
import type { ClientCore } from './core.js';
import { ReadPosition } from './file-reader.js';
import type { OpenFile, OpenFiles } from './open-files.js';
import { changesLost } from './session.js';

export class Handle implements FileHandle {
  private readonly position = new ReadPosition();
  /** Losses of data this handle has told its user of. */
  private seenLost: number;
  /** Losses of acknowledged changes at the coordinator this handle has told its user of. */
  private seenLosses: number;
  private isReleased = false;

  constructor(
    private readonly core: ClientCore,
    private readonly files: OpenFiles,
    readonly file: OpenFile,
    private readonly mayWrite: boolean,
  ) {
    this.seenLost = file.writer.lost?.number ?? 0;
    this.seenLosses = core.session.losses;
  }

  get inode(): InodeId {
    return this.file.inode;
  }

  read(offset: number, length: number): Promise<Buffer> {
    return this.file.reader.read(offset, length, this.file.writer, this.position);
  }

  async write(offset: number, data: Buffer, options: { append?: boolean; isGiven?: boolean } = {}): Promise<number> {
    this.needWrite();
    this.tellLoss();
    if (data.length === 0) return offset;
    if (offset + data.length > MAX_FILE_SIZE_BYTES) throw new HoldfastError('EFBIG', `a file holds at most ${MAX_FILE_SIZE_BYTES} bytes`);
    const { writer } = this.file;
    const isAppend = options.append === true;
    let at = writer.write(offset, data, isAppend, () => this.core.cache.attributes(this.inode), options.isGiven);
    if (at === undefined) {
      const attributes = await this.core.attributes(this.inode);
      at = writer.write(offset, data, isAppend, () => attributes, options.isGiven)!;
    }
    if (!this.core.budget.hasRoom) await writer.room();
    return at;
  }

  async attributes(): Promise<InodeAttributes> {
    return this.files.told(this.core.cache.attributes(this.inode) ?? (await this.core.attributes(this.inode)));
  }

  async flush(): Promise<void> {
    await this.told(this.file.writer.flush());
    this.tellLoss();
  }

  async sync(): Promise<void> {
    const { writer } = this.file;
    if (writer.isDirty || !writer.unsynced.isEmpty) {
      await this.told(writer.sync());
      this.file.syncedVersion = writer.committedVersion;
    } else await this.syncClean();
    this.tellLoss();
    // Asked last: the sync itself may have been answered by a coordinator that came back without what it had acknowledged before.
    const { losses } = this.core.session;
    if (losses > this.seenLosses) {
      this.seenLosses = losses;
      writer.forgetLoss();
      throw changesLost();
    }
  }

  async truncate(sizeBytes: number): Promise<void> {
    this.needWrite();
    if (sizeBytes > MAX_FILE_SIZE_BYTES) throw new HoldfastError('EFBIG', `a file holds at most ${MAX_FILE_SIZE_BYTES} bytes`);
    const { writer, reader } = this.file;
    // All of it, also what is about to be cut off: the truncate may be refused, and then the bytes must be there.
    if (writer.isDirty) await this.told(writer.flush());
    const stamp = this.core.cache.stamp();
    const { attributes } = await this.core.session.call('truncate', { inode: this.inode, sizeBytes });
    writer.willReplace();
    if (sizeBytes === 0) writer.forgetLoss();
    this.core.cache.putAttributes(stamp, attributes);
    reader.changed(stamp, attributes, (map) => map.cut(sizeBytes, Infinity));
  }

  async punch(offset: number, length: number, keepSize: boolean): Promise<void> {
    this.needWrite();
    const { writer, reader } = this.file;
    if (writer.isDirty) await this.told(writer.flush());
    const stamp = this.core.cache.stamp();
    const { attributes } = await this.core.session.call('punch', { inode: this.inode, offset, length, keepSize });
    this.core.cache.putAttributes(stamp, attributes);
    reader.changed(stamp, attributes, (map) => map.cut(offset, offset + length));
  }

  async allocate(offset: number, length: number, keepSize: boolean): Promise<void> {
    this.needWrite();
    const end = offset + length;
    if (end > MAX_FILE_SIZE_BYTES) throw new HoldfastError('EFBIG', `a file holds at most ${MAX_FILE_SIZE_BYTES} bytes`);
    const current = await this.attributes();
    const { freeBytes } = await this.core.session.call('statVolume', {});
    if (Math.max(0, Math.min(length, end - current.allocatedBytes)) > freeBytes)
      throw new HoldfastError('ENOSPC', `the cluster has ${freeBytes} bytes free, not ${length}`);
    if (keepSize || end <= current.sizeBytes) return;
    if (this.file.writer.isDirty) await this.told(this.file.writer.flush());
    const stamp = this.core.cache.stamp();
    const { attributes } = await this.core.session.call('commit', { inode: this.inode, extents: [], receipts: [], sizeBytes: end });
    this.core.cache.putAttributes(stamp, attributes);
    this.file.reader.changed(stamp, attributes, () => {});
  }

  async seek(offset: number, whence: 'data' | 'hole'): Promise<number> {
    const { writer, reader } = this.file;
    if (writer.isDirty) await this.told(writer.flush());
    const { sizeBytes } = await this.attributes();
    if (offset >= sizeBytes || offset < 0) throw new HoldfastError('ENXIO', 'offset is beyond the end of the file');
    let at = offset;
    for (const extent of await reader.extents(offset, sizeBytes)) {
      if (whence === 'data') return Math.max(offset, extent.offset);
      if (extent.offset > at) return at;
      at = extent.offset + extent.length;
    }
    if (whence === 'data') throw new HoldfastError('ENXIO', 'there is no data at or after this offset');
    return Math.min(at, sizeBytes);
  }

  async copyRange(offset: number, to: FileHandle, toOffset: number, length: number): Promise<number> {
    this.needWrite();
    if (this.file.writer.isDirty) await this.told(this.file.writer.flush());
    if (to.inode !== this.inode) await to.flush();
    const stamp = this.core.cache.stamp();
    const { attributes, copiedBytes } = await this.core.session.call('copyRange', {
      from: this.inode,
      fromOffset: offset,
      to: to.inode,
      toOffset,
      length,
    });
    this.core.cache.putAttributes(stamp, attributes);
    const target = this.files.get(to.inode);
    target?.writer.noteChange();
    target?.writer.unsynced.noteAll(this.file.writer.unsynced);
    target?.reader.drop();
    return copiedBytes;
  }

  release(): Promise<void> {
    if (!this.isReleased) {
      this.isReleased = true;
      this.files.release(this.file);
    }
    return Promise.resolve();
  }

  /** Nothing of ours is waiting: bytes others committed lately are made stable before the coordinator says its part is. */
  private async syncClean(): Promise<void> {
    const { core, file } = this;
    const known = core.cache.attributes(file.inode);
    if (known && known.dataVersion === file.syncedVersion) {
      await core.session.call('sync', {});
      return;
    }
    const { recentChunks } = await core.session.call('sync', { inode: file.inode });
    if (recentChunks.length > 0) {
      file.writer.unsynced.noteLocations(recentChunks);
      await file.writer.unsynced.sync([], () => file.reader.chunks());
      await core.session.call('sync', {});
    }
    if (known) file.syncedVersion = known.dataVersion;
  }

  private needWrite(): void {
    if (this.core.refusal) throw this.core.refusal;
    if (!this.mayWrite) throw new HoldfastError('EROFS', 'this client may only read the volume');
  }

  /** Marks a loss as told when the promise itself reports it. */
  private async told(done: Promise<void>): Promise<void> {
    try {
      await done;
    } catch (error) {
      this.seenLost = this.file.writer.lost?.number ?? 0;
      throw error;
    }
  }

  private tellLoss(): void {
    const { lost } = this.file.writer;
    if (!lost || lost.number <= this.seenLost) return;
    this.seenLost = lost.number;
    throw lost.error;
  }
}
