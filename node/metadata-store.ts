/**
 * Copies of the coordinator's metadata: named append-only blobs. What is in them is the coordinator's business. Every name carries the epoch of
 * its last writer; a writer of a lower epoch is refused, so a coordinator that was replaced cannot write into its successor's copy.
 *
 * Files: metadata/<name> and metadata-epochs.json (name → epoch). The epoch is made stable before the bytes that carry it, so after a crash a
 * name's epoch is never lower than that of any byte in it.
 */
import { createHash } from 'node:crypto';
import { z } from 'zod';
import { HoldfastError } from '../protocol/errors.js';
import { type DiskFiles, errnoOf, nodeFiles, replaceFile } from './disk-files.js';
import { temporaryDirectory } from './disk-layout.js';

export interface MetadataItem {
  readonly name: string;
  readonly sizeBytes: number;
  readonly epoch: number;
}
interface Blob {
  sizeBytes: number;
  epoch: number;
  /** Open for appending; undefined until the first append. */
  fd: number | undefined;
}

const NAME = /^[A-Za-z0-9._-]{1,128}$/;
const epochsSchema = z.record(z.string(), z.number().int().nonnegative());
const READ_PIECE_BYTES = 1024 * 1024;

export class MetadataStore {
  private readonly blobs = new Map<string, Blob>();
  private readonly tails = new Map<string, Promise<void>>();
  private savingEpochs: Promise<void> = Promise.resolve();
  private temporaryNumber = 0;

  private constructor(
    private readonly data: string,
    private readonly files: DiskFiles,
    private readonly epochs: Record<string, number>,
  ) {}

  /** The directories of the data directory exist already (the chunk store made them). */
  static async open(data: string, files: DiskFiles = nodeFiles): Promise<MetadataStore> {
    await files.mkdir(`${data}/metadata`);
    await files.syncDirectory(data);
    const store = new MetadataStore(data, files, await loadEpochs(data, files));
    for (const name of await files.readdir(`${data}/metadata`)) {
      if (!isName(name)) continue;
      store.blobs.set(name, { sizeBytes: await files.sizeOf(store.path(name)), epoch: store.epochs[name] ?? 0, fd: undefined });
    }
    return store;
  }

  list(): MetadataItem[] {
    return [...this.blobs].map(([name, { sizeBytes, epoch }]) => ({ name, sizeBytes, epoch })).sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  /**
   * Replaces a blob as a whole, on stable storage when it resolves; a crash or failure leaves the old one.
   * @param sha256 hex digest the content must have
   * @throws {HoldfastError} CHUNK_CORRUPT when it does not, STALE_EPOCH, ENOSPC, EIO
   */
  put(name: string, epoch: number, sha256: string, content: AsyncIterable<Buffer>): Promise<MetadataItem> {
    return this.alone(name, async () => {
      this.checkEpoch(name, epoch);
      const temporary = `${temporaryDirectory(this.data)}/metadata-${this.temporaryNumber++}`;
      const fd = await this.files.open(temporary, 'wx+');
      let sizeBytes = 0;
      try {
        const hash = createHash('sha256');
        for await (const piece of content) {
          hash.update(piece);
          await this.files.write(fd, [piece], sizeBytes);
          sizeBytes += piece.length;
        }
        if (hash.digest('hex') !== sha256.toLowerCase())
          throw new HoldfastError('CHUNK_CORRUPT', 'the content does not have the digest that was announced');
        await this.files.fdatasync(fd);
        await this.raiseEpoch(name, epoch);
        await this.files.rename(temporary, this.path(name));
        await this.files.syncDirectory(`${this.data}/metadata`);
      } catch (error) {
        await this.files.close(fd);
        await this.files.unlink(temporary).catch(() => {});
        throw failure(error);
      }
      const old = this.blobs.get(name);
      if (old?.fd !== undefined) await this.files.close(old.fd);
      this.blobs.set(name, { sizeBytes, epoch, fd });
      return { name, sizeBytes, epoch };
    });
  }

  /**
   * Appends at exactly this offset; a new name starts at 0. Bytes that are there already (an append repeated after a lost reply) must be
   * repeated by the caller from the length in the error.
   * @throws {HoldfastError} EINVAL with facts.sizeBytes when the offset is not the length; STALE_EPOCH, ENOSPC, EIO
   */
  append(name: string, offset: number, epoch: number, bytes: Buffer, isSynced: boolean): Promise<MetadataItem> {
    return this.alone(name, async () => {
      this.checkEpoch(name, epoch);
      const sizeBytes = this.blobs.get(name)?.sizeBytes ?? 0;
      if (offset !== sizeBytes) throw new HoldfastError('EINVAL', `${name} is ${sizeBytes} bytes long, not ${offset}`, { sizeBytes });
      try {
        const blob = await this.openForAppend(name, epoch);
        try {
          await this.files.write(blob.fd!, [bytes], offset);
          if (isSynced) await this.files.fdatasync(blob.fd!);
        } catch (error) {
          // What was written in part goes; should even that fail, the next append writes over it.
          await this.files.truncate(blob.fd!, offset).catch(() => {});
          throw error;
        }
        blob.sizeBytes = offset + bytes.length;
        return { name, sizeBytes: blob.sizeBytes, epoch };
      } catch (error) {
        throw failure(error);
      }
    });
  }

  /** @throws {HoldfastError} ENOENT */
  read(name: string): { sizeBytes: number; pieces: AsyncIterable<Buffer> } {
    const blob = this.blobs.get(name);
    if (!blob) throw new HoldfastError('ENOENT', `no metadata copy named ${name}`);
    return { sizeBytes: blob.sizeBytes, pieces: this.pieces(name, blob.sizeBytes) };
  }

  /** @throws {HoldfastError} STALE_EPOCH */
  remove(name: string, epoch: number): Promise<boolean> {
    return this.alone(name, async () => {
      this.checkEpoch(name, epoch);
      const blob = this.blobs.get(name);
      if (!blob) return false;
      this.blobs.delete(name);
      if (blob.fd !== undefined) await this.files.close(blob.fd);
      await this.files.unlink(this.path(name));
      return true;
    });
  }

  async close(): Promise<void> {
    await Promise.all(this.tails.values());
    for (const blob of this.blobs.values()) {
      if (blob.fd === undefined) continue;
      await this.files.fdatasync(blob.fd);
      await this.files.close(blob.fd);
      blob.fd = undefined;
    }
  }

  /** The names are file names, so they are checked before anything else. @throws {HoldfastError} BAD_MESSAGE */
  static checkName(name: string): string {
    if (!isName(name)) throw new HoldfastError('BAD_MESSAGE', 'not a name of a metadata copy: 1 to 128 of A-Z a-z 0-9 . _ -');
    return name;
  }

  private async openForAppend(name: string, epoch: number): Promise<Blob> {
    await this.raiseEpoch(name, epoch);
    let blob = this.blobs.get(name);
    if (!blob) {
      const fd = await this.files.open(this.path(name), 'w+');
      await this.files.syncDirectory(`${this.data}/metadata`);
      blob = { sizeBytes: 0, epoch, fd };
      this.blobs.set(name, blob);
    }
    blob.fd ??= await this.files.open(this.path(name), 'r+');
    blob.epoch = epoch;
    return blob;
  }

  private async *pieces(name: string, sizeBytes: number): AsyncGenerator<Buffer> {
    const fd = await this.files.open(this.path(name), 'r');
    try {
      for (let at = 0; at < sizeBytes; ) {
        const piece = await this.files.read(fd, Math.min(READ_PIECE_BYTES, sizeBytes - at), at);
        if (piece.length === 0) throw new HoldfastError('EIO', `${name} is shorter than it was`);
        yield piece;
        at += piece.length;
      }
    } finally {
      await this.files.close(fd);
    }
  }

  private checkEpoch(name: string, epoch: number): void {
    const known = this.epochs[name] ?? 0;
    if (epoch < known) throw new HoldfastError('STALE_EPOCH', `${name} was written by epoch ${known} already`, { epoch: known });
  }

  private async raiseEpoch(name: string, epoch: number): Promise<void> {
    if (this.epochs[name] === epoch) return;
    this.epochs[name] = epoch;
    this.savingEpochs = this.savingEpochs
      .catch(() => {})
      .then(() => replaceFile(this.files, epochsPath(this.data), temporaryDirectory(this.data), Buffer.from(JSON.stringify(this.epochs))));
    await this.savingEpochs;
  }

  /** One change of a name at a time, in the order they came. */
  private alone<T>(name: string, work: () => Promise<T>): Promise<T> {
    const result = (this.tails.get(name) ?? Promise.resolve()).then(work);
    const tail = result.then(
      () => {},
      () => {},
    );
    this.tails.set(name, tail);
    void tail.then(() => {
      if (this.tails.get(name) === tail) this.tails.delete(name);
    });
    return result;
  }

  private path(name: string): string {
    return `${this.data}/metadata/${name}`;
  }
}

const epochsPath = (data: string): string => `${data}/metadata-epochs.json`;
/** "." and ".." pass the pattern but are no file names. */
const isName = (name: string): boolean => NAME.test(name) && name !== '.' && name !== '..';

async function loadEpochs(data: string, files: DiskFiles): Promise<Record<string, number>> {
  let fd: number;
  try {
    fd = await files.open(epochsPath(data), 'r');
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return {};
    throw error;
  }
  try {
    return epochsSchema.parse(JSON.parse((await files.read(fd, await files.sizeOf(epochsPath(data)), 0)).toString()));
  } finally {
    await files.close(fd);
  }
}

function failure(error: unknown): HoldfastError {
  if (error instanceof HoldfastError) return error;
  const errno = errnoOf(error);
  if (errno === 'ENOSPC' || errno === 'EDQUOT') return new HoldfastError('ENOSPC', 'the disk of this node is full');
  return new HoldfastError('EIO', `writing a metadata copy failed: ${errno || 'unexpected error'}`);
}
