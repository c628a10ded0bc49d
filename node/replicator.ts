/** Carries out copy orders: fetches chunks from other nodes, verifies them, keeps them durably. */
import { parseHeader, verifyChunk } from '../protocol/chunk.js';
import type { ChunkPeer } from '../protocol/chunk-http.js';
import type { ChunkId } from '../protocol/entities.js';
import type { Environment } from '../protocol/environment.js';
import { HoldfastError } from '../protocol/errors.js';
import type { CopyResult } from '../protocol/node-calls.js';
import type { ChunkService } from './chunk-service.js';
import type { ChunkToPut } from './chunk-store.js';

/** Few enough that user traffic keeps going, enough to keep a disk busy. */
const PARALLEL_COPIES = 4;
const FETCH_TIMEOUT_MS = 5000;

export interface CopyRequest {
  readonly chunk: ChunkId;
  /** URLs of nodes that should hold it, asked in turn. */
  readonly from: readonly string[];
}

export class Replicator {
  private running = 0;
  private readonly waiting: (() => void)[] = [];

  constructor(
    private readonly service: ChunkService,
    private readonly environment: Environment,
    private readonly peerAt: (url: string) => ChunkPeer,
  ) {}

  /** Copies of all orders together share PARALLEL_COPIES places. Never rejects: each result says how its chunk went. */
  copy(requests: readonly CopyRequest[], permit: string): Promise<CopyResult[]> {
    return Promise.all(requests.map((request) => this.inTurn(() => this.copyOne(request, permit))));
  }

  private async copyOne({ chunk, from }: CopyRequest, permit: string): Promise<CopyResult> {
    try {
      const existing = await this.service.receiptForExisting(chunk, 'coordinator');
      if (existing) return { chunk, receipt: existing };
      const fetched = await this.fetch(chunk, from, permit);
      const [receipt] = await this.service.putVerified([fetched], true, 'coordinator');
      if (typeof receipt === 'string') return { chunk, receipt };
      throw receipt ?? new HoldfastError('INTERNAL', 'the store gave no outcome');
    } catch (error) {
      if (!(error instanceof HoldfastError)) this.environment.log('error', 'a copy failed unexpectedly', { chunk, error: String(error) });
      return { chunk, error: error instanceof HoldfastError ? `${error.code}: ${error.message}` : 'INTERNAL' };
    }
  }

  private async fetch(chunk: ChunkId, from: readonly string[], permit: string): Promise<ChunkToPut> {
    const failures: string[] = [];
    for (const url of from) {
      try {
        const encoded = await this.peerAt(url).get(chunk, 'all', { permit, timeoutMs: FETCH_TIMEOUT_MS });
        // The other node is not trusted either; the header was checked with the rest.
        verifyChunk(chunk, encoded);
        return { id: chunk, encoded, header: parseHeader(encoded) };
      } catch (error) {
        failures.push(`${url}: ${error instanceof HoldfastError ? `${error.code} ${error.message}` : String(error)}`);
      }
    }
    throw new HoldfastError('CHUNK_UNREADABLE', `no good copy to be had (${failures.join('; ')})`.slice(0, 1000), { chunk });
  }

  private async inTurn<T>(work: () => Promise<T>): Promise<T> {
    if (this.running >= PARALLEL_COPIES) await new Promise<void>((resolve) => this.waiting.push(resolve));
    else this.running++;
    try {
      return await work();
    } finally {
      // The place passes straight to the next in line, so that nobody can slip in between.
      const next = this.waiting.shift();
      if (next) next();
      else this.running--;
    }
  }
}
