/**
 * Brings chunks to enough nodes. A group of chunks goes to the same nodes (one request each); nodes that fail or are late are replaced at once
 * by the next in placement order; the first receipts from enough distinct nodes win.
 */
import type { ChunkPeer } from '../protocol/chunk-http.js';
import type { ChunkId, NodeId } from '../protocol/entities.js';
import type { Environment, Timer } from '../protocol/environment.js';
import { HoldfastError, isCode } from '../protocol/errors.js';
import type { NodePool } from './node-pool.js';

const PUT_TIMEOUT_MS = 10_000;
/** Requests under way at once, each to all its nodes. */
const MAX_GROUPS = 16;
const RECHECK_MS = 250;
const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 1000;

export interface NodeReceipt {
  readonly receipt: string;
  readonly isDurable: boolean;
}
export interface UploadChunk {
  readonly id: ChunkId;
  /** Header and payload. */
  readonly parts: readonly Buffer[];
  /** Filled by `upload`. */
  readonly receipts: Map<NodeId, NodeReceipt>;
}
export interface Permits {
  readonly permit: string;
  renewPermit(): Promise<void>;
}

export class ChunkUploader {
  private running = 0;
  private sent = 0;
  private readonly queue: (() => void)[] = [];

  constructor(
    private readonly environment: Environment,
    private readonly pool: NodePool,
    private readonly permits: Permits,
    private readonly copies: () => number,
    /** Told of uploads given up without an answer: the node may hold what nobody counts. */
    private readonly stray: (node: NodeId, chunks: readonly ChunkId[]) => void = () => {},
  ) {}

  /** Bytes of chunks that went to nodes so far, each chunk counted once however many copies it has. */
  get sentBytes(): number {
    return this.sent;
  }

  /**
   * Resolves when every chunk of the group has receipts from enough distinct nodes (durable ones if asked).
   * @throws {HoldfastError} ENOSPC when every node is full; NO_NODES when by `untilMs` too few nodes took them
   */
  async upload(group: readonly UploadChunk[], options: { durable: boolean; untilMs: number }): Promise<void> {
    if (this.running >= MAX_GROUPS) await new Promise<void>((resolve) => this.queue.push(resolve));
    this.running++;
    try {
      let pauseMs = FIRST_PAUSE_MS;
      for (;;) {
        const round = new UploadRound(this.environment, this.pool, this.permits, this.copies(), group, options.durable, this.stray);
        const outcome = await round.run();
        if (outcome === 'done') {
          for (const { parts } of group) for (const part of parts) this.sent += part.length;
          return;
        }
        if (outcome === 'full') throw new HoldfastError('ENOSPC', 'every storage node is full; delete files or add a node');
        if (this.environment.monotonicMs() >= options.untilMs)
          throw new HoldfastError(
            'NO_NODES',
            `too few storage nodes take data: ${round.lastError?.message ?? 'none is writable'}; check the nodes with "holdfast status"`,
          );
        await this.pool.news(pauseMs);
        pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS);
      }
    } finally {
      this.running--;
      this.queue.shift()?.();
    }
  }
}

type Outcome = 'done' | 'full' | 'failed';

/** One pass over the candidates. */
class UploadRound {
  lastError: HoldfastError | undefined;
  private readonly candidates: NodeId[];
  private next = 0;
  private active = 0;
  private fullNodes = 0;
  private otherFailures = 0;
  private isSettled = false;
  private readonly abort = new AbortController();
  private readonly timers = new Set<Timer>();
  private settle!: (outcome: Outcome) => void;

  constructor(
    private readonly environment: Environment,
    private readonly pool: NodePool,
    private readonly permits: Permits,
    private readonly copies: number,
    private readonly group: readonly UploadChunk[],
    private readonly durable: boolean,
    private readonly stray: (node: NodeId, chunks: readonly ChunkId[]) => void,
  ) {
    this.candidates = pool.candidates(group[0]!.id);
  }

  run(): Promise<Outcome> {
    return new Promise((resolve) => {
      this.settle = resolve;
      const start = Math.max(1, this.wanted - this.fewestReceipts());
      for (let i = 0; i < start; i++) this.startNext();
      this.check();
    });
  }

  private get wanted(): number {
    return Math.max(1, Math.min(this.copies, this.pool.writableCount));
  }

  private receiptsOf(chunk: UploadChunk): number {
    if (!this.durable) return chunk.receipts.size;
    let count = 0;
    for (const receipt of chunk.receipts.values()) if (receipt.isDurable) count++;
    return count;
  }

  private fewestReceipts(): number {
    let fewest = Infinity;
    for (const chunk of this.group) fewest = Math.min(fewest, this.receiptsOf(chunk));
    return fewest;
  }

  private finish(outcome: Outcome): void {
    this.isSettled = true;
    for (const timer of this.timers) timer.cancel();
    // Late requests are given up: a stalled node must not hold our memory.
    if (this.active > 0) this.abort.abort();
    this.settle(outcome);
  }

  private check(): void {
    if (this.isSettled) return;
    const fewest = this.fewestReceipts();
    if (fewest >= this.wanted) {
      this.finish('done');
      return;
    }
    if (this.active > 0 || this.next < this.candidates.length) return;
    // Nobody left to ask. What P2 promises is enough; more copies are the coordinator's to make.
    if (fewest >= Math.min(this.copies, 2)) this.finish('done');
    else this.finish(this.fullNodes > 0 && this.otherFailures === 0 ? 'full' : 'failed');
  }

  private startNext(): void {
    while (!this.isSettled && this.next < this.candidates.length) {
      const node = this.candidates[this.next++]!;
      const todo = this.group.filter((chunk) => {
        const known = chunk.receipts.get(node);
        return this.receiptsOf(chunk) < this.wanted && (!known || (this.durable && !known.isDurable));
      });
      if (todo.length === 0) continue;
      const peer = this.pool.peer(node);
      if (!peer) continue;
      this.attempt(node, peer, todo);
      return;
    }
  }

  private attempt(node: NodeId, peer: ChunkPeer, todo: readonly UploadChunk[]): void {
    const startedMs = this.environment.monotonicMs();
    this.active++;
    const late = this.environment.setTimer(this.pool.putIsLateMs, () => {
      this.timers.delete(late);
      if (this.isSettled) return;
      this.pool.distrust(node);
      this.startNext();
      this.recheckLater();
    });
    this.timers.add(late);
    const ended = (): void => {
      this.active--;
      late.cancel();
      this.timers.delete(late);
    };
    this.put(peer, todo, true).then(
      (results) => {
        ended();
        this.pool.notePut(this.environment.monotonicMs() - startedMs);
        let failed: HoldfastError | undefined;
        results.forEach((result, index) => {
          if (typeof result === 'string') todo[index]!.receipts.set(node, { receipt: result, isDurable: this.durable });
          else failed = result;
        });
        if (failed) this.failed(node, failed);
        else this.pool.trust(node);
        this.check();
      },
      (error: unknown) => {
        ended();
        // Cut off by us or by its deadline. A node that could not be reached has nothing.
        if (this.isSettled || isCode(error, 'DEADLINE'))
          this.stray(
            node,
            todo.map(({ id }) => id),
          );
        this.failed(node, error instanceof HoldfastError ? error : new HoldfastError('INTERNAL', String(error)));
        this.check();
      },
    );
  }

  private async put(peer: ChunkPeer, todo: readonly UploadChunk[], mayRenew: boolean): Promise<(string | HoldfastError)[]> {
    const options = { permit: this.permits.permit, durable: this.durable, timeoutMs: PUT_TIMEOUT_MS, signal: this.abort.signal };
    try {
      const results = await peer.put(todo, options);
      if (mayRenew && results.some((result) => isCode(result, 'PERMIT_EXPIRED')))
        throw new HoldfastError('PERMIT_EXPIRED', 'permit has expired');
      return results;
    } catch (error) {
      if (!mayRenew || !isCode(error, 'PERMIT_EXPIRED')) throw error;
      await this.permits.renewPermit();
      return this.put(peer, todo, false);
    }
  }

  private failed(node: NodeId, error: HoldfastError): void {
    if (this.isSettled) return;
    this.lastError = error;
    if (error.code === 'ENOSPC') this.fullNodes++;
    else {
      this.otherFailures++;
      this.pool.distrust(node);
    }
    this.startNext();
  }

  /** While somebody is late the coordinator may find out that fewer nodes are up, so that fewer receipts are enough. */
  private recheckLater(): void {
    const timer = this.environment.setTimer(RECHECK_MS, () => {
      this.timers.delete(timer);
      this.check();
      if (!this.isSettled) this.recheckLater();
    });
    this.timers.add(timer);
  }
}
