/**
 * Tells the coordinator which chunks make up a written range, with the nodes' receipts. Repeats with the same bytes uploaded again when the
 * coordinator no longer has what it was promised (a dead node, a collected chunk).
 */
import type { RequestOf } from '../protocol/call.js';
import type { ClientCalls } from '../protocol/client-calls.js';
import type { ChunkLocation, Extent, InodeAttributes, InodeId } from '../protocol/entities.js';
import { sleep, type Timestamp } from '../protocol/environment.js';
import { HoldfastError, isCode } from '../protocol/errors.js';
import { MAX_EXTENTS_PER_COMMIT } from '../protocol/limits.js';
import type { ClientCore } from './core.js';
import type { PendingChunk } from './pending-cut.js';
import { AskedChange } from './session.js';

const UPLOAD_AGAIN_FOR_MS = 20_000;
const FIRST_PAUSE_MS = 50;
const LONGEST_PAUSE_MS = 2000;

export interface CommitJob {
  readonly chunks: readonly PendingChunk[];
  /** The bytes go to the end of the file; their offsets only tell their order (append-places.ts). */
  readonly isAppend: boolean;
  readonly mtime: Timestamp | undefined;
  /** The session the bytes were written in: they must not come back to life in another one. */
  readonly session: number;
  readonly durable: boolean;
  readonly uploadAgain: (chunks: readonly PendingChunk[], untilMs: number) => Promise<void>;
  /** Whoever wrote the bytes has been told that they are lost: they must not take the place of what was written after that. */
  readonly isGivenUp: () => boolean;
}
interface Slice {
  readonly extents: Extent[];
  readonly chunks: Set<PendingChunk>;
}

/**
 * One commit of a batch, in as many calls as it takes. When `run` fails, running it again goes on where it stopped: what was committed is not
 * committed a second time (appended bytes would be there twice), and a call whose reply never came is asked again under its own number.
 */
export class Commit {
  private readonly slices: readonly Slice[];
  private done = 0;
  private attributes: InodeAttributes | undefined;
  private readonly committed: Extent[] = [];
  private readonly ofOthers: ChunkLocation[] = [];
  private readonly asked = new AskedChange();
  private args: RequestOf<ClientCalls, 'commit'> | undefined;

  constructor(
    private readonly core: ClientCore,
    private readonly inode: InodeId,
    private readonly job: CommitJob,
  ) {
    this.slices = slicesOf(job);
  }

  /** Some of it is committed or may be: only this very commit may be asked again. */
  get isBegun(): boolean {
    return this.done > 0 || this.asked.request !== undefined;
  }

  /**
   * Resolves when all is committed; `extents` are as they lie in the file now, `ofOthers` chunks that other clients committed lately, when this
   * commit is to be durable. @throws {HoldfastError} ENOSPC, EDQUOT, ESTALE, EIO-class
   */
  async run(): Promise<{ attributes: InodeAttributes; extents: Extent[]; ofOthers: readonly ChunkLocation[] }> {
    const { slices, job } = this;
    while (this.done < slices.length) {
      const slice = slices[this.done]!;
      const { attributes, shiftedBy, recentChunks } = await this.commitSlice(slice, job.durable && this.done === slices.length - 1);
      this.done++;
      this.attributes = attributes;
      if (recentChunks) this.ofOthers.push(...recentChunks);
      for (const extent of slice.extents) this.committed.push(shiftedBy === 0 ? extent : { ...extent, offset: extent.offset + shiftedBy });
    }
    return { attributes: this.attributes!, extents: this.committed, ofOthers: this.ofOthers };
  }

  /** It will not be run again. */
  abandon(): void {
    this.core.session.abandon(this.asked);
  }

  private async commitSlice(slice: Slice, durable: boolean) {
    const { environment, session } = this.core;
    const { job, asked } = this;
    const { extents } = slice;
    let untilMs: number | undefined;
    let pauseMs = FIRST_PAUSE_MS;
    for (;;) {
      if (job.isGivenUp()) throw new HoldfastError('EIO', 'these bytes were given up');
      if (asked.request === undefined || !this.args)
        this.args = {
          inode: this.inode,
          extents,
          receipts: [...slice.chunks].flatMap((chunk) => [...chunk.receipts.values()].map(({ receipt }) => receipt)),
          sizeBytes: extents.reduce((end, extent) => Math.max(end, extent.offset + extent.length), 0),
          // Somebody else's bytes may come between two slices of an append: each goes to the end by itself.
          ...(job.isAppend ? { appendBase: extents[0]!.offset } : {}),
          ...(job.mtime ? { mtime: job.mtime } : {}),
          ...(durable ? { durable } : {}),
        };
      try {
        return await session.call('commit', this.args, { session: job.session, asked });
      } catch (error) {
        if (!isCode(error, 'UPLOAD_AGAIN')) throw error;
        untilMs ??= environment.monotonicMs() + UPLOAD_AGAIN_FOR_MS;
        if (environment.monotonicMs() >= untilMs)
          throw new HoldfastError(
            'NO_NODES',
            `the cluster did not keep uploaded chunks: ${error.message}; see "holdfast status"`,
            error.facts,
          );
        const named = new Set(Array.isArray(error.facts?.chunks) ? (error.facts.chunks as string[]) : []);
        const again = [...slice.chunks].filter((chunk) => named.size === 0 || named.has(chunk.id));
        if (pauseMs > FIRST_PAUSE_MS) await sleep(environment, pauseMs);
        pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS);
        await job.uploadAgain(again.length > 0 ? again : [...slice.chunks], untilMs);
      }
    }
  }
}

function slicesOf({ chunks, isAppend }: CommitJob): Slice[] {
  const all = chunks.flatMap((chunk) =>
    chunk.extents.map(({ offset, length, chunkOffset }) => ({ chunk, extent: { offset, length, chunk: chunk.id, chunkOffset } })),
  );
  // A slice of an append must have no gaps.
  if (isAppend) all.sort((a, b) => a.extent.offset - b.extent.offset);
  const slices: Slice[] = [];
  for (const { chunk, extent } of all) {
    let slice = slices[slices.length - 1];
    if (!slice || slice.extents.length >= MAX_EXTENTS_PER_COMMIT) {
      slice = { extents: [], chunks: new Set() };
      slices.push(slice);
    }
    slice.extents.push(extent);
    slice.chunks.add(chunk);
  }
  return slices;
}
