/** Brings the chunks of one file's writer to nodes: small ones together, large ones only when they are not there already. */
import { MAX_BATCH_CHUNKS } from '../protocol/limits.js';
import type { ClientCore } from './core.js';
import type { PendingChunk } from './pending-cut.js';

const GROUP_BYTES = 4 * 1024 * 1024;
/** After so many large chunks that were nowhere yet only one of ASK_EVERY is asked about, until one exists. */
const NEW_IN_A_ROW = 8;
const ASK_EVERY = 8;

export interface PendingUploadOptions {
  /** Receipts only for what is on stable storage. */
  readonly durable: boolean;
  /** On the environment's monotonic clock. */
  readonly untilMs: number;
  /** false: upload even what the coordinator says is there. */
  readonly mayDeduplicate?: boolean;
}

export class PendingUploads {
  /** Answers in a row that said: not there. */
  private newInARow = 0;
  private largeChunks = 0;

  constructor(private readonly core: ClientCore) {}

  /** Resolves when each chunk has its receipts, or is known to be present. @throws {HoldfastError} of the uploader */
  async upload(chunks: readonly PendingChunk[], options: PendingUploadOptions): Promise<void> {
    const { deduplicateFromBytes } = this.core;
    const small = chunks.filter((chunk) => chunk.payloadBytes < deduplicateFromBytes);
    const work: Promise<void>[] = groupsOf(small).map((group) => this.core.uploader.upload(group, options));
    for (const chunk of chunks) if (chunk.payloadBytes >= deduplicateFromBytes) work.push(this.uploadLarge(chunk, options));
    if (work.length === 1) await work[0];
    else await Promise.all(work);
  }

  private async uploadLarge(chunk: PendingChunk, options: PendingUploadOptions): Promise<void> {
    if ((options.mayDeduplicate ?? true) && this.asksFirst()) {
      chunk.present = await this.core.deduplicator.find(chunk.id);
      this.newInARow = chunk.present ? 0 : this.newInARow + 1;
      if (chunk.present) return;
    }
    await this.core.uploader.upload([chunk], options);
  }

  /** A file that goes on being new is asked about now and then only: uploading what exists costs bytes on the wire, and nothing else. */
  private asksFirst(): boolean {
    return this.newInARow < NEW_IN_A_ROW || this.largeChunks++ % ASK_EVERY === 0;
  }
}

/** Small chunks that travel together, to the same nodes. */
function groupsOf(chunks: readonly PendingChunk[]): PendingChunk[][] {
  const groups: PendingChunk[][] = [];
  let bytes = 0;
  for (const chunk of chunks) {
    const last = groups[groups.length - 1];
    if (last && last.length < MAX_BATCH_CHUNKS && bytes + chunk.payloadBytes <= GROUP_BYTES) last.push(chunk);
    else {
      groups.push([chunk]);
      bytes = 0;
    }
    bytes += chunk.payloadBytes;
  }
  return groups;
}
