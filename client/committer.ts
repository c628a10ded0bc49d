/**
 * Tells the coordinator which chunks make up a written range, with the nodes' receipts. Repeats with the same bytes uploaded again when the
 * coordinator no longer has what it was promised (a dead node, a collected chunk).
 */
import type { Extent, InodeAttributes, InodeId } from '../protocol/entities.js';
import { sleep, type Timestamp } from '../protocol/environment.js';
import { HoldfastError, isCode } from '../protocol/errors.js';
import { MAX_EXTENTS_PER_COMMIT } from '../protocol/limits.js';
import type { ClientCore } from './core.js';
import type { PendingChunk } from './file-writer.js';

const UPLOAD_AGAIN_FOR_MS = 20_000;
const FIRST_PAUSE_MS = 50;
const LONGEST_PAUSE_MS = 2000;

export interface CommitJob {
  readonly chunks: readonly PendingChunk[];
  readonly appendBase: number | null;
  readonly mtime: Timestamp | undefined;
  /** The session the bytes were written in: they must not come back to life in another one. */
  readonly session: number;
  readonly durable: boolean;
  readonly uploadAgain: (chunks: readonly PendingChunk[], untilMs: number) => Promise<void>;
}
interface Slice {
  readonly extents: Extent[];
  readonly chunks: Set<PendingChunk>;
}

export class Committer {
  constructor(
    private readonly core: ClientCore,
    private readonly inode: InodeId,
  ) {}

  /** Resolves when all is committed; `extents` are as they lie in the file now. @throws {HoldfastError} ENOSPC, EDQUOT, ESTALE, EIO-class */
  async commit(job: CommitJob): Promise<{ attributes: InodeAttributes; shiftedBy: number; extents: Extent[] }> {
    const slices = slicesOf(job.chunks);
    const committed: Extent[] = [];
    let shiftedBy = 0;
    let attributes: InodeAttributes | undefined;
    for (const [index, slice] of slices.entries()) {
      // The first slice of an append tells where all of it goes; the others follow it there.
      const extents = shiftedBy === 0 ? slice.extents : slice.extents.map((extent) => ({ ...extent, offset: extent.offset + shiftedBy }));
      const appendBase = index === 0 ? job.appendBase : null;
      const reply = await this.commitSlice(job, slice, extents, appendBase, job.durable && index === slices.length - 1);
      attributes = reply.attributes;
      shiftedBy += reply.shiftedBy;
      for (const extent of extents) committed.push(reply.shiftedBy === 0 ? extent : { ...extent, offset: extent.offset + reply.shiftedBy });
    }
    return { attributes: attributes!, shiftedBy, extents: committed };
  }

  private async commitSlice(job: CommitJob, slice: Slice, extents: Extent[], appendBase: number | null, durable: boolean) {
    const { environment, session } = this.core;
    const last = extents[extents.length - 1]!;
    let untilMs: number | undefined;
    let pauseMs = FIRST_PAUSE_MS;
    for (;;) {
      try {
        return await session.call(
          'commit',
          {
            inode: this.inode,
            extents,
            receipts: [...slice.chunks].flatMap((chunk) => [...chunk.receipts.values()].map(({ receipt }) => receipt)),
            sizeBytes: extents.reduce((end, extent) => Math.max(end, extent.offset + extent.length), last.offset + last.length),
            ...(appendBase === null ? {} : { appendBase }),
            ...(job.mtime ? { mtime: job.mtime } : {}),
            ...(durable ? { durable } : {}),
          },
          { session: job.session },
        );
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

function slicesOf(chunks: readonly PendingChunk[]): Slice[] {
  const slices: Slice[] = [];
  for (const chunk of chunks) {
    for (const { offset, length, chunkOffset } of chunk.extents) {
      let slice = slices[slices.length - 1];
      if (!slice || slice.extents.length >= MAX_EXTENTS_PER_COMMIT) {
        slice = { extents: [], chunks: new Set() };
        slices.push(slice);
      }
      slice.extents.push({ offset, length, chunk: chunk.id, chunkOffset });
      slice.chunks.add(chunk);
    }
  }
  return slices;
}
