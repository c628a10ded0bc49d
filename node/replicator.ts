/**
 * Carries out copy orders: fetches chunks from other nodes, verifies them, keeps them durably.
 *
 * The chunks of an order are fetched side by side (small ones of one source with one request) and stored together: one durable put costs the disk a few syncs however many chunks it holds, so
 * a group of 64 small chunks costs what one does. An order is bounded (64 chunks; the coordinator keeps it to about 8 MiB), and so is memory here.
 */
import { verifyChunk } from '../protocol/chunk.js';
import type { ChunkPeer } from '../protocol/chunk-http.js';
import type { ChunkId } from '../protocol/entities.js';
import type { Environment } from '../protocol/environment.js';
import { HoldfastError } from '../protocol/errors.js';
import { SMALL_CHUNK_BYTES } from '../protocol/limits.js';
import type { CopyResult } from '../protocol/node-calls.js';
import type { ChunkService } from './chunk-service.js';
import type { ChunkToPut } from './chunk-store.js';

/** Fetches under way, of all orders together. */
const PARALLEL_FETCHES = 16;
/** Fetched bytes are stored when they come to this much, so that an order of very large chunks does not lie in memory as a whole. */
const PUT_GROUP_BYTES = 16 * 1024 * 1024;
const FETCH_TIMEOUT_MS = 5000;

export interface CopyRequest {
  readonly chunk: ChunkId;
  /** URLs of nodes that should hold it, asked in turn. */
  readonly from: readonly string[];
  /** Of the payload, as far as the coordinator knows. */
  readonly sizeBytes?: number | undefined;
}

export class Replicator {
  private running = 0;
  private readonly waiting: (() => void)[] = [];

  constructor(
    private readonly service: ChunkService,
    private readonly environment: Environment,
    private readonly peerAt: (url: string) => ChunkPeer,
  ) {}

  /** Fetches of all orders together share PARALLEL_FETCHES places. Never rejects: each result says how its chunk went; one result per chunk. */
  async copy(requests: readonly CopyRequest[], permit: string): Promise<CopyResult[]> {
    const results = new Map<ChunkId, CopyResult>();
    const puts: Promise<void>[] = [];
    let group: ChunkToPut[] = [];
    let groupBytes = 0;
    const store = (): void => {
      if (group.length > 0) puts.push(this.store(group, results));
      group = [];
      groupBytes = 0;
    };
    const keep = (fetched: ChunkToPut): void => {
      group.push(fetched);
      groupBytes += fetched.encoded.length;
      if (groupBytes >= PUT_GROUP_BYTES) store();
    };
    const one = (request: CopyRequest): Promise<void> =>
      this.inTurn(async () => {
        const { chunk, from } = request;
        try {
          const existing = this.service.store.has(chunk) ? await this.service.receiptForExisting(chunk, 'coordinator') : undefined;
          if (existing === undefined) keep(await this.fetch(chunk, from, permit));
          else results.set(chunk, { chunk, receipt: existing });
        } catch (error) {
          results.set(chunk, this.failed(chunk, error));
        }
      });
    const several = async (source: string, wanted: readonly CopyRequest[]): Promise<void> => {
      const got = await this.inTurn(() => this.fetchSmall(source, wanted, permit));
      for (const fetched of got.values()) keep(fetched);
      // What could not be had this way is asked for singly, at all its sources.
      await Promise.all(wanted.filter(({ chunk }) => !got.has(chunk)).map(one));
    };

    const work: Promise<void>[] = [];
    const bySource = new Map<string, CopyRequest[]>();
    // A chunk named twice is one copy: two fetches of it would only wait for each other.
    for (const request of new Map(requests.map((each) => [each.chunk, each])).values()) {
      const [source] = request.from;
      const isSmall = request.sizeBytes !== undefined && request.sizeBytes <= SMALL_CHUNK_BYTES;
      if (!isSmall || source === undefined || this.service.store.has(request.chunk)) work.push(one(request));
      else {
        const known = bySource.get(source);
        if (known) known.push(request);
        else bySource.set(source, [request]);
      }
    }
    for (const [source, wanted] of bySource) work.push(several(source, wanted));
    await Promise.all(work);
    store();
    await Promise.all(puts);
    return requests.map(({ chunk }) => results.get(chunk) ?? { chunk, error: 'INTERNAL' });
  }

  /** Those of these chunks that the source gave good bytes of, with one request. Never rejects. */
  private async fetchSmall(source: string, wanted: readonly CopyRequest[], permit: string): Promise<Map<ChunkId, ChunkToPut>> {
    const good = new Map<ChunkId, ChunkToPut>();
    const peer = this.peerAt(source);
    if (!peer.getSmall || wanted.length < 2) return good;
    try {
      const ids = wanted.map(({ chunk }) => chunk);
      const answers = await peer.getSmall(ids, { permit, timeoutMs: FETCH_TIMEOUT_MS });
      for (const id of ids) {
        const encoded = answers.get(id);
        if (!encoded) continue;
        try {
          good.set(id, { id, encoded, header: verifyChunk(id, encoded) });
        } catch {
          // Bad bytes: asked for singly, whose failure tells the coordinator.
        }
      }
    } catch {
      // The source cannot be reached or is of an older release: singly, and from the other sources.
    }
    return good;
  }

  private async store(group: readonly ChunkToPut[], results: Map<ChunkId, CopyResult>): Promise<void> {
    try {
      const outcomes = await this.service.putVerified(group, true, 'coordinator');
      group.forEach(({ id }, i) => {
        const outcome = outcomes[i] ?? new HoldfastError('INTERNAL', 'the store gave no outcome');
        results.set(id, typeof outcome === 'string' ? { chunk: id, receipt: outcome } : this.failed(id, outcome));
      });
    } catch (error) {
      for (const { id } of group) results.set(id, this.failed(id, error));
    }
  }

  private failed(chunk: ChunkId, error: unknown): CopyResult {
    if (error instanceof HoldfastError) return { chunk, error: `${error.code}: ${error.message}` };
    this.environment.log('error', 'a copy failed unexpectedly', { chunk, error: String(error) });
    return { chunk, error: 'INTERNAL' };
  }

  private async fetch(chunk: ChunkId, from: readonly string[], permit: string): Promise<ChunkToPut> {
    const failures: string[] = [];
    for (const url of from) {
      try {
        const encoded = await this.peerAt(url).get(chunk, 'all', { permit, timeoutMs: FETCH_TIMEOUT_MS });
        // The other node is not trusted either.
        return { id: chunk, encoded, header: verifyChunk(chunk, encoded) };
      } catch (error) {
        failures.push(`${url}: ${error instanceof HoldfastError ? `${error.code} ${error.message}` : String(error)}`);
      }
    }
    throw new HoldfastError('CHUNK_UNREADABLE', `no good copy to be had (${failures.join('; ')})`.slice(0, 1000), { chunk });
  }

  private async inTurn<T>(work: () => Promise<T>): Promise<T> {
    if (this.running >= PARALLEL_FETCHES) await new Promise<void>((resolve) => this.waiting.push(resolve));
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
