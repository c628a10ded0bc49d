/** Says "disk full" before the disk is: a part is kept free so that deleting, moving and the coordinator's metadata copies always work. */
import type { Environment } from '../protocol/environment.js';
import { HoldfastError } from '../protocol/errors.js';
import type { DiskFiles } from './disk-files.js';

export interface SpaceLimits {
  /** Bytes of the disk never used for chunks. */
  readonly reserveBytes?: number;
  /** Most bytes of chunks to keep, whatever the disk could hold. */
  readonly capacityBytes?: number;
  /** Names the file system, equal for every node that is on it (file-system-id.ts). */
  readonly diskId?: string;
}
export interface Room {
  readonly freeBytes: number;
  readonly capacityBytes: number;
  /** Of the whole file system, when it has a name. */
  readonly disk?: { readonly id: string; readonly capacityBytes: number; readonly freeBytes: number };
}
/** Between two looks at the disk the bytes written since are counted instead. */
const LOOK_AGAIN_AFTER_MS = 200;
const MIN_FREE_INODES = 64;
const MIB = 1024 * 1024;

/** 1 % of the disk, at least 64 MiB and at most 1 GiB; but never more than an eighth of a very small disk. */
export const defaultReserveBytes = (totalBytes: number): number =>
  Math.floor(Math.min(Math.max(64 * MIB, Math.min(totalBytes / 100, 1024 * MIB)), totalBytes / 8));

export class Space {
  private lookedAtMs = Number.NEGATIVE_INFINITY;
  private look: Awaited<ReturnType<DiskFiles['statfs']>> | undefined;
  private writtenSinceBytes = 0;
  private looking: Promise<void> | undefined;

  constructor(
    private readonly files: DiskFiles,
    private readonly path: string,
    private readonly limits: SpaceLimits,
    private readonly environment: Environment,
  ) {}

  /** @returns what may still be put and what there could be at most, given what chunks use now */
  async room(usedBytes: number): Promise<Room> {
    if (!this.look || this.environment.monotonicMs() - this.lookedAtMs > LOOK_AGAIN_AFTER_MS) {
      this.looking ??= this.lookNow().finally(() => {
        this.looking = undefined;
      });
      await this.looking;
    }
    return this.lastRoom(usedBytes);
  }

  /** Undefined when `bytes` more fit, without asking the disk when it was asked a moment ago. */
  refusal(bytes: number, usedBytes: number): HoldfastError | undefined | Promise<HoldfastError | undefined> {
    if (this.look && this.environment.monotonicMs() - this.lookedAtMs <= LOOK_AGAIN_AFTER_MS)
      return this.judge(bytes, this.lastRoom(usedBytes).freeBytes);
    return this.room(usedBytes).then(({ freeBytes }) => this.judge(bytes, freeBytes));
  }

  /** Counts bytes on their way to the disk. */
  wrote(bytes: number): void {
    this.writtenSinceBytes += bytes;
  }
  /** After something was freed or the disk said it is full: look before the next answer. */
  forget(): void {
    this.lookedAtMs = Number.NEGATIVE_INFINITY;
  }

  private judge(bytes: number, freeBytes: number): HoldfastError | undefined {
    if (freeBytes >= bytes) return undefined;
    return new HoldfastError('ENOSPC', 'this node has no room for more chunks: free space on it or add a node');
  }

  private async lookNow(): Promise<void> {
    const writtenBefore = this.writtenSinceBytes;
    const look = await this.files.statfs(this.path);
    this.look = look;
    this.writtenSinceBytes -= writtenBefore;
    this.lookedAtMs = this.environment.monotonicMs();
  }

  private lastRoom(usedBytes: number): Room {
    const look = this.look!;
    const reserveBytes = this.limits.reserveBytes ?? defaultReserveBytes(look.totalBytes);
    let freeBytes = look.freeBytes - reserveBytes - this.writtenSinceBytes;
    // Some file systems (btrfs) have no fixed number of inodes and say 0.
    if (look.totalInodes > 0 && look.freeInodes < MIN_FREE_INODES) freeBytes = 0;
    let capacityBytes = Math.max(0, look.totalBytes - reserveBytes);
    const { diskId } = this.limits;
    const disk = diskId === undefined ? {} : { disk: { id: diskId, capacityBytes, freeBytes: Math.max(0, freeBytes) } };
    if (this.limits.capacityBytes !== undefined) {
      freeBytes = Math.min(freeBytes, this.limits.capacityBytes - usedBytes);
      capacityBytes = Math.min(capacityBytes, this.limits.capacityBytes);
    }
    return { freeBytes: Math.max(0, freeBytes), capacityBytes, ...disk };
  }
}
