/**
 * Verified leaves of chunks from whichever replica gives good bytes first: next replica at once on any error, a second one asked when the
 * first is late. What a node sends is checked against the id before anybody sees it.
 */
import { type ChunkHeader, leafMatches, verifyHeader } from '../protocol/chunk.js';
import type { ChunkId, ChunkLocation, NodeId } from '../protocol/entities.js';
import type { Environment, Timer } from '../protocol/environment.js';
import { sleep } from '../protocol/environment.js';
import { HoldfastError, isCode } from '../protocol/errors.js';
import { type ChunkForm, plainForm } from './chunk-form.js';
import type { Permits } from './chunk-uploader.js';
import type { LeafCache } from './leaf-cache.js';
import type { NodePool } from './node-pool.js';

const GET_TIMEOUT_MS = 4000;
/** Nothing readable within this time is an error (P5 promises EIO within 10 s). */
const GIVE_UP_MS = 8000;
const PAUSE_MS = 200;
/** So long a chunk counts as unreadable without another try. */
const UNREADABLE_FOR_MS = 1000;
/** A replica that kept us waiting this long while another one answered in a fraction of that time is called slow. */
const SLOW_MS = 100;
const SLOW_TIMES = 4;

export interface LeafRange {
  readonly first: number;
  readonly count: number;
}
interface Flight extends LeafRange {
  readonly done: Promise<void>;
}
type Problem = 'corrupt' | 'missing' | 'unreachable' | 'slow';

export class ChunkFetcher {
  private readonly flights = new Map<ChunkId, Flight[]>();
  /** Chunks that could not be read a moment ago: the kernel lets many readers of a page try one after the other, and each would wait anew. */
  private readonly unreadable = new Map<ChunkId, { error: HoldfastError; untilMs: number }>();

  constructor(
    private readonly environment: Environment,
    private readonly pool: NodePool,
    private readonly permits: Permits,
    private readonly leaves: LeafCache,
    private readonly report: (chunk: ChunkId, node: NodeId, problem: Problem) => void,
    private readonly form: () => ChunkForm = () => plainForm,
  ) {}

  /**
   * Makes the leaves [first, first+count) of a chunk and gives each to `take`, from the cache or from a replica.
   * @throws {HoldfastError} EIO when it was not written with the key of the volume; CHUNK_MISSING when every replica answered that it has no good copy (the extents may have changed: ask again);
   *   CHUNK_UNREADABLE when none answered in time
   */
  async read(location: ChunkLocation, range: LeafRange, take: (leaf: number, data: Buffer) => void): Promise<void> {
    const { chunk } = location;
    const untilMs = this.environment.monotonicMs() + GIVE_UP_MS;
    const got = new Map<number, Buffer>();
    for (;;) {
      let first = -1;
      let last = -1;
      for (let leaf = range.first; leaf < range.first + range.count; leaf++) {
        if (got.has(leaf)) continue;
        const cached = this.leaves.get(chunk, leaf);
        if (cached) got.set(leaf, cached);
        else {
          if (first < 0) first = leaf;
          last = leaf;
        }
      }
      if (first < 0) break;
      const underWay = this.flights.get(chunk)?.find((flight) => flight.first <= first && flight.first + flight.count > first);
      if (underWay) {
        await underWay.done.catch(() => {}); // Its owner reports; if it failed we try ourselves below.
        if (this.leaves.get(chunk, first)) continue;
      }
      for (const [leaf, data] of await this.fetch(location, { first, count: last - first + 1 }, untilMs)) got.set(leaf, data);
    }
    this.leaves.touch(chunk);
    for (const [leaf, data] of got) take(leaf, data);
  }

  /** Reads ahead into the cache; failures are the business of whoever needs the bytes. */
  prefetch(location: ChunkLocation, range: LeafRange): Promise<void> {
    if (this.leaves.has(location.chunk, range.first, range.count)) return Promise.resolve();
    return this.read(location, range, () => {}).catch(() => {});
  }

  private fetch(location: ChunkLocation, range: LeafRange, untilMs: number): Promise<Map<number, Buffer>> {
    const { chunk } = location;
    const fetched = this.fetchUntil(location, range, untilMs);
    const flight: Flight = { ...range, done: fetched.then(() => {}) };
    flight.done.catch(() => {});
    const flights = this.flights.get(chunk) ?? [];
    flights.push(flight);
    this.flights.set(chunk, flights);
    return fetched.finally(() => {
      const left = (this.flights.get(chunk) ?? []).filter((one) => one !== flight);
      if (left.length > 0) this.flights.set(chunk, left);
      else this.flights.delete(chunk);
    });
  }

  private async fetchUntil(location: ChunkLocation, range: LeafRange, untilMs: number): Promise<Map<number, Buffer>> {
    const known = this.unreadable.get(location.chunk);
    if (known) {
      if (this.environment.monotonicMs() < known.untilMs) throw known.error;
      this.unreadable.delete(location.chunk);
    }
    const form = this.form();
    for (;;) {
      const round = new FetchRound(this.environment, this.pool, this.permits, location, range, this.report, form.leafSizeBytes);
      const outcome = await round.run();
      if (!(outcome instanceof HoldfastError)) {
        const opened = new Map<number, Buffer>();
        for (const [leaf, stored] of outcome.leaves) {
          const data = form.open(outcome.header, leaf, stored);
          this.leaves.put(location.chunk, leaf, data);
          opened.set(leaf, data);
        }
        return opened;
      }
      if (outcome.code === 'CHUNK_MISSING') throw outcome;
      if (this.environment.monotonicMs() >= untilMs) {
        const error = new HoldfastError(
          'CHUNK_UNREADABLE',
          `no replica of chunk ${location.chunk.slice(0, 12)} could be read: ${outcome.message}; see "holdfast status"`,
          { chunk: location.chunk },
        );
        this.remember(location.chunk, error);
        throw error;
      }
      await sleep(this.environment, PAUSE_MS);
    }
  }

  private remember(chunk: ChunkId, error: HoldfastError): void {
    const nowMs = this.environment.monotonicMs();
    for (const [one, { untilMs }] of this.unreadable) if (untilMs <= nowMs) this.unreadable.delete(one);
    this.unreadable.set(chunk, { error, untilMs: nowMs + UNREADABLE_FOR_MS });
  }
}

interface Verified {
  readonly header: ChunkHeader;
  /** As stored. */
  readonly leaves: Map<number, Buffer>;
}

/** One pass over the replicas. Resolves with verified leaves, or with the error that stands for all failures. */
class FetchRound {
  private readonly order: NodeId[];
  private next = 0;
  private active = 0;
  private isSettled = false;
  private readonly timers = new Set<Timer>();
  private abort: AbortController | undefined;
  private lastError = new HoldfastError('CHUNK_UNREADABLE', 'the coordinator knows no node that holds it');
  private unanswered = 0;
  /** Nodes that have not answered yet, and since when they are asked. */
  private readonly asked = new Map<NodeId, number>();
  private settle!: (outcome: Verified | HoldfastError) => void;

  constructor(
    private readonly environment: Environment,
    private readonly pool: NodePool,
    private readonly permits: Permits,
    private readonly location: ChunkLocation,
    private readonly range: LeafRange,
    private readonly report: (chunk: ChunkId, node: NodeId, problem: Problem) => void,
    private readonly leafSizeBytes: number,
  ) {
    this.order = pool.readOrder(location.nodes);
  }

  run(): Promise<Verified | HoldfastError> {
    return new Promise((resolve) => {
      this.settle = resolve;
      this.startNext();
    });
  }

  private finish(outcome: Verified | HoldfastError, tookMs?: number): void {
    if (this.isSettled) return;
    if (tookMs !== undefined) this.tellSlow(tookMs);
    this.isSettled = true;
    for (const timer of this.timers) timer.cancel();
    if (this.active > 0) this.abort?.abort();
    this.settle(outcome);
  }

  /** Others should know which nodes were overtaken; the coordinator believes it when it hears it repeatedly. */
  private tellSlow(tookMs: number): void {
    const nowMs = this.environment.monotonicMs();
    for (const [node, startedMs] of this.asked) {
      const waitedMs = nowMs - startedMs;
      if (waitedMs >= SLOW_MS && waitedMs >= tookMs * SLOW_TIMES) this.report(this.location.chunk, node, 'slow');
    }
  }

  private startNext(): void {
    if (this.isSettled) return;
    const node = this.order[this.next++];
    if (node === undefined) {
      if (this.active > 0) return;
      // Every replica answered and none is good: the chunk may have been deleted since we learnt of it.
      const isGone = this.order.length === 0 || this.unanswered === 0;
      this.finish(isGone ? new HoldfastError('CHUNK_MISSING', this.lastError.message, { chunk: this.location.chunk }) : this.lastError);
      return;
    }
    this.active++;
    const startedMs = this.environment.monotonicMs();
    this.asked.set(node, startedMs);
    let isLate = false;
    const isLast = this.next >= this.order.length;
    const late = isLast
      ? undefined
      : this.environment.setTimer(this.pool.getIsLateMs(node), () => {
          isLate = true;
          this.startNext();
        });
    if (late) this.timers.add(late);
    this.get(node, true).then(
      (verified) => {
        this.active--;
        late?.cancel();
        this.asked.delete(node);
        const tookMs = this.environment.monotonicMs() - startedMs;
        this.pool.noteGet(node, tookMs);
        this.pool.trust(node);
        this.finish(verified, tookMs);
      },
      (error: unknown) => {
        this.active--;
        late?.cancel();
        this.asked.delete(node);
        this.failed(node, error, isLate);
      },
    );
  }

  private failed(node: NodeId, thrown: unknown, isLate: boolean): void {
    if (this.isSettled) {
      // Overtaken by a quicker replica: remember that this node was slower than its usual.
      this.pool.noteGet(node, this.pool.getIsLateMs(node) * 2);
      return;
    }
    const error = thrown instanceof HoldfastError ? thrown : new HoldfastError('INTERNAL', String(thrown));
    this.lastError = error;
    if (error.code === 'CHUNK_CORRUPT') this.report(this.location.chunk, node, 'corrupt');
    else if (error.code === 'CHUNK_MISSING') this.report(this.location.chunk, node, 'missing');
    else {
      this.unanswered++;
      this.pool.distrust(node);
    }
    if (!isLate || this.active === 0) this.startNext();
  }

  private async get(node: NodeId, mayRenew: boolean): Promise<Verified> {
    const peer = this.pool.peer(node);
    if (!peer) throw new HoldfastError('UNREACHABLE', `node ${node} is not known`);
    if (this.order.length > 1) this.abort ??= new AbortController();
    const { range, location } = this;
    const leafCount = Math.ceil(location.sizeBytes / this.leafSizeBytes);
    const leaves = range.first === 0 && range.count >= leafCount ? ('all' as const) : range;
    let answer: Buffer;
    try {
      answer = await peer.get(location.chunk, leaves, {
        permit: this.permits.permit,
        timeoutMs: GET_TIMEOUT_MS,
        ...(this.abort ? { signal: this.abort.signal } : {}),
      });
    } catch (error) {
      if (!mayRenew || !isCode(error, 'PERMIT_EXPIRED')) throw error;
      await this.permits.renewPermit();
      return this.get(node, false);
    }
    return verifiedLeaves(location.chunk, answer, range);
  }
}

/** @throws {HoldfastError} CHUNK_CORRUPT */
function verifiedLeaves(chunk: ChunkId, answer: Buffer, range: LeafRange): Verified {
  const header = verifyHeader(chunk, answer);
  const leaves = new Map<number, Buffer>();
  let at = header.headerBytes;
  for (let leaf = range.first; leaf < range.first + range.count && leaf < header.leafCount; leaf++) {
    const size = Math.min(header.leafSizeBytes, header.payloadBytes - leaf * header.leafSizeBytes);
    const data = answer.subarray(at, at + size);
    if (!leafMatches(header, leaf, data))
      throw new HoldfastError('CHUNK_CORRUPT', `leaf ${leaf} of chunk ${chunk.slice(0, 12)} does not match its digest`, { chunk, leaf });
    leaves.set(leaf, data);
    at += size;
  }
  return { header, leaves };
}
