/**
 * Deletion of what nobody refers to, in two steps, so that no upload that is under way can lose its chunk:
 *
 *   1. a chunk's references fall to zero in the transaction that drops them; it rests for the grace
 *   2. `condemn` on every node that holds it: the nodes mark it; any put of the same id from now on lifts the mark
 *   3. the coordinator looks again, synchronously: a reference, a pin or a copy order in between = the chunk lives, nothing more happens
 *   4. from here on commits that name it wait (`settle`)
 *   5. `remove`: each node deletes what is still marked and answers with its receipt sequence: older receipts are void (receipts.ts)
 *   6. the rows lose the replicas that are gone; with none left the chunk row goes; waiting commits continue, and are refused or have new receipts
 *
 * A put before 2 whose commit arrives before 3 revives the chunk. One whose commit arrives after 4 waits, and has a void receipt: UPLOAD_AGAIN.
 * A put after 2 lifts the mark: the node keeps the chunk (`kept`), and its receipt is newer than the removal. There is no fourth case.
 *
 * Nothing is deleted in safe mode, nor on a node whose inventory is not complete. After an error the node is left alone for a while.
 * Replicas on nodes that are away stay in the row; their turn comes when the node is back and its inventory is known.
 */
import type { ChunkId, NodeId } from '../protocol/entities.js';
import type { Environment, Timer } from '../protocol/environment.js';
import { HoldfastError } from '../protocol/errors.js';
import type { EventLog } from './events.js';
import type { Member } from './member.js';
import type { Membership } from './membership.js';
import type { Pins } from './pins.js';
import type { Receipts } from './receipts.js';
import { type ChunkRow, withoutReplica, withReplica } from './rows.js';
import type { State } from './state.js';

const ROUND_CHUNKS = 2_000;
const ORDER_CHUNKS = 500;
const ORDER_TIMEOUT_MS = 15_000;
const SETTLE_MS = 5_000;
const AFTER_ERROR_MS = 5_000;
const RETRY_KEPT_MS = 5_000;

export interface CollectorContext {
  readonly environment: Environment;
  readonly state: State;
  readonly membership: Membership;
  readonly receipts: Receipts;
  readonly pins: Pins;
  readonly events: EventLog;
  readonly graceMs: number;
  /** True while nothing may be deleted. */
  isSafeMode(): boolean;
  /** A copy of the chunk is under way. */
  isCopying(chunk: ChunkId): boolean;
  /** See ClusterContext. */
  /** Everything transacted so far is on stable storage. */
  synced(): Promise<void>;
}

export interface Replica {
  readonly chunk: ChunkId;
  readonly node: NodeId;
}

export class Collector {
  /** Chunk → when its grace ends. Oldest first, because the grace is the same for all. A hint: what counts is looked up at its time. */
  private readonly queue = new Map<ChunkId, number>();
  /** Chunk → when to look at it again; in no order. */
  private readonly retries = new Map<ChunkId, number>();
  private nextRetryMs = Number.POSITIVE_INFINITY;
  /** Unreferenced chunks of which no replica can be removed now, by a node that holds one. */
  private readonly parked = new Map<NodeId, Set<ChunkId>>();
  /** Chunks whose removal is ordered and not answered. */
  private readonly removing = new Set<ChunkId>();
  private waiters: (() => void)[] = [];
  private readonly recorders = new Set<Set<ChunkId>>();
  private readonly avoidUntilMs = new Map<NodeId, number>();
  private timer: Timer | undefined;
  private isRunning = false;
  private isStopped = true;
  private lastErrorEventMs = Number.NEGATIVE_INFINITY;

  constructor(private readonly context: CollectorContext) {}

  start(): void {
    this.isStopped = false;
    const dueMs = this.context.environment.monotonicMs() + this.context.graceMs;
    for (const chunk of this.context.state.index.zeroReferences) this.queue.set(chunk, dueMs);
    this.arm();
  }
  stop(): void {
    this.isStopped = true;
    this.timer?.cancel();
    this.timer = undefined;
  }

  /** The chunk has no references (any more). */
  enqueue(chunk: ChunkId): void {
    this.queue.delete(chunk);
    this.queue.set(chunk, this.context.environment.monotonicMs() + this.context.graceMs);
    this.arm();
  }
  /** Safe mode ended, or a node's inventory is complete: look again. */
  wake(node?: NodeId): void {
    const nowMs = this.context.environment.monotonicMs();
    for (const [one, chunks] of this.parked) {
      if (node !== undefined && one !== node) continue;
      this.parked.delete(one);
      for (const chunk of chunks) this.queue.set(chunk, nowMs);
    }
    if (node !== undefined) this.avoidUntilMs.delete(node);
    this.arm();
  }

  isRemoving(chunk: ChunkId): boolean {
    return this.removing.has(chunk);
  }
  /** @see ChunkKeeper.settle */
  settle(chunks: readonly ChunkId[]): Promise<void> | undefined {
    if (this.removing.size === 0 || !chunks.some((chunk) => this.removing.has(chunk))) return undefined;
    return new Promise((resolve) => {
      let isDone = false;
      const finish = (): void => {
        if (isDone) return;
        isDone = true;
        deadline.cancel();
        resolve();
      };
      const look = (): void => {
        if (isDone) return;
        if (chunks.some((chunk) => this.removing.has(chunk))) this.waiters.push(look);
        else finish();
      };
      // After the deadline the commit is tried anyway and refused with UPLOAD_AGAIN.
      const deadline = this.context.environment.setTimer(SETTLE_MS, finish);
      look();
    });
  }
  get waiting(): { waiting: number; bytes: number } {
    const { zeroReferences } = this.context.state.index;
    let bytes = 0;
    let looked = 0;
    // An estimate from the first thousand is good enough for a line on a screen.
    for (const chunk of zeroReferences) {
      bytes += this.context.state.get('chunks', chunk)?.sizeBytes ?? 0;
      if (++looked === 1_000) break;
    }
    return { waiting: zeroReferences.size, bytes: looked === 0 ? 0 : Math.round((bytes / looked) * zeroReferences.size) };
  }

  /**
   * Removes single replicas of chunks that live (or not). `mayTrim` is asked at the last moment, synchronously; it must say no unless enough
   * other good replicas stay. The rows lose the replica before the node deletes it, so no reader is sent there and no other decision counts on it.
   * @returns how many are gone
   */
  async trim(replicas: readonly Replica[], mayTrim: (replica: Replica, row: ChunkRow) => boolean): Promise<number> {
    const byNode = new Map<NodeId, ChunkId[]>();
    for (const { chunk, node } of replicas) {
      if (!this.canRemoveOn(node) || this.removing.has(chunk)) continue;
      const chunks = byNode.get(node);
      if (chunks) chunks.push(chunk);
      else byNode.set(node, [chunk]);
    }
    let gone = 0;
    for (const [node, chunks] of byNode)
      for (let at = 0; at < chunks.length; at += ORDER_CHUNKS)
        gone += await this.trimOn(node, chunks.slice(at, at + ORDER_CHUNKS), mayTrim);
    return gone;
  }

  private async trimOn(node: NodeId, chunks: ChunkId[], mayTrim: (replica: Replica, row: ChunkRow) => boolean): Promise<number> {
    const { state, membership } = this.context;
    const member = membership.get(node);
    if (!member) return 0;
    const condemned = await this.condemn(member, chunks);
    if (!condemned || !this.canRemoveOn(node)) return 0;
    const going = state.transact((tx) =>
      chunks.filter((chunk) => {
        const row = tx.get('chunks', chunk);
        if (!row?.replicas.includes(node) || this.removing.has(chunk) || !mayTrim({ chunk, node }, row)) return false;
        tx.put('chunks', chunk, withoutReplica(row, node));
        return true;
      }),
    );
    if (going.length === 0) return 0;
    for (const chunk of going) this.removing.add(chunk);
    try {
      await this.context.synced();
      const answer = await this.remove(member, going, condemned.missing);
      if (!answer) return 0;
      const kept = new Set(answer.kept);
      if (kept.size > 0)
        state.transact((tx) => {
          for (const chunk of kept) {
            const row = tx.get('chunks', chunk);
            // Somebody stored it there again: it is there.
            if (row && !condemned.missing.has(chunk)) tx.put('chunks', chunk, withReplica(row, node));
          }
        });
      return answer.removed.length;
    } finally {
      this.release(going);
    }
  }

  /**
   * Gets rid of chunks on one node that no row names (any more): deletes them, or sets them aside for days where they might be wanted by metadata
   * newer than ours. @returns how many are gone
   */
  async discard(node: NodeId, chunks: readonly ChunkId[], how: 'remove' | 'setAside'): Promise<number> {
    const { state, membership } = this.context;
    const member = membership.get(node);
    if (!member || !this.canRemoveOn(node)) return 0;
    const isUnwanted = (chunk: ChunkId): boolean => state.get('chunks', chunk) === undefined && !this.removing.has(chunk);
    let gone = 0;
    for (let at = 0; at < chunks.length; at += ORDER_CHUNKS) {
      const part = chunks.slice(at, at + ORDER_CHUNKS).filter(isUnwanted);
      const condemned = await this.condemn(member, part);
      if (!condemned || !this.canRemoveOn(node)) return gone;
      const going = part.filter(isUnwanted);
      if (going.length === 0) continue;
      for (const chunk of going) this.removing.add(chunk);
      try {
        if (how === 'setAside') {
          const answer = await member.order('setAside', { chunks: going }, ORDER_TIMEOUT_MS);
          gone += answer.setAside.length;
          // A removal of nothing tells the sequence up to which receipts are void.
          const { startId, sequence } = await member.order('remove', { chunks: [] }, ORDER_TIMEOUT_MS);
          this.context.receipts.removed(node, startId, sequence, answer.setAside);
          continue;
        }
        const answer = await this.remove(member, going, condemned.missing);
        if (!answer) return gone;
        gone += answer.removed.length;
      } catch (error) {
        this.avoid(member, error);
        return gone;
      } finally {
        this.release(going);
      }
    }
    return gone;
  }

  private canRemoveOn(node: NodeId): boolean {
    const member = this.context.membership.get(node);
    return (
      !this.isStopped &&
      !this.context.isSafeMode() &&
      member?.isReachable === true &&
      member.inventory === 'complete' &&
      (this.avoidUntilMs.get(node) ?? 0) <= this.context.environment.monotonicMs()
    );
  }

  private arm(): void {
    if (this.isStopped || this.isRunning || this.context.isSafeMode()) return;
    const first = this.queue.values().next();
    const dueMs = Math.min(first.done ? Number.POSITIVE_INFINITY : first.value, this.nextRetryMs);
    if (dueMs === Number.POSITIVE_INFINITY) return;
    this.timer?.cancel();
    const waitMs = Math.max(0, dueMs - this.context.environment.monotonicMs());
    this.timer = this.context.environment.setTimer(waitMs, () => {
      this.isRunning = true;
      this.round()
        .catch((error: unknown) => this.failed('the coordinator itself', error))
        .finally(() => {
          this.isRunning = false;
          this.arm();
        });
    });
  }

  /** Takes what is due, once. */
  private async round(): Promise<void> {
    const { environment, state, pins } = this.context;
    const nowMs = environment.monotonicMs();
    const perNode = new Map<NodeId, ChunkId[]>();
    const withoutReplicas: ChunkId[] = [];
    for (const chunk of this.takeDue(nowMs)) {
      const row = state.get('chunks', chunk);
      if (!row || row.refs > 0) continue;
      // A surplus replica of it is being trimmed.
      if (this.removing.has(chunk)) {
        this.retry([chunk]);
        continue;
      }
      const pinnedUntilMs = pins.pinnedUntilMs(chunk, nowMs);
      if (pinnedUntilMs > 0 || this.context.isCopying(chunk)) {
        this.lookAgain(chunk, Math.max(pinnedUntilMs, nowMs + 1_000));
        continue;
      }
      if (row.replicas.length === 0) withoutReplicas.push(chunk);
      let isTaken = row.replicas.length === 0;
      for (const node of row.replicas) {
        if (!this.canRemoveOn(node)) continue;
        isTaken = true;
        const chunks = perNode.get(node);
        if (chunks) chunks.push(chunk);
        else perNode.set(node, [chunk]);
      }
      if (!isTaken) this.parkOrRetry(chunk, row);
    }
    if (withoutReplicas.length > 0)
      state.transact((tx) => {
        for (const chunk of withoutReplicas) {
          const row = tx.get('chunks', chunk);
          if (row && row.refs === 0 && row.replicas.length === 0) tx.remove('chunks', chunk);
        }
      });
    if (perNode.size === 0) return;

    const marked = new Map<Member, { chunks: ChunkId[]; missing: Set<ChunkId> }>();
    await Promise.all(
      [...perNode].map(async ([node, chunks]) => {
        const member = this.context.membership.get(node) as Member;
        const condemned = await this.condemn(member, chunks);
        if (condemned) marked.set(member, { chunks, missing: condemned.missing });
        else this.retry(chunks);
      }),
    );

    // What dropped the last references must be on stable storage first: after a loss of power the coordinator could come back to a state that
    // still names these chunks.
    if (marked.size > 0) await this.context.synced();
    // The second look. From here to the orders nothing is awaited, so no commit can slip in between.
    const lookMs = environment.monotonicMs();
    const going = new Set<ChunkId>();
    const orders: [Member, ChunkId[]][] = [];
    for (const [member, { chunks }] of marked) {
      if (!this.canRemoveOn(member.id)) {
        this.retry(chunks);
        continue;
      }
      const still = chunks.filter((chunk) => {
        const row = state.get('chunks', chunk);
        // In the queue again: it was referenced and dropped once more meanwhile, and that drop may not be synced yet.
        if (!row || row.refs > 0 || this.queue.has(chunk)) return false;
        if (going.has(chunk)) return row.replicas.includes(member.id);
        if (this.removing.has(chunk) || this.context.isCopying(chunk) || pins.pinnedUntilMs(chunk, lookMs) > 0) {
          this.retry([chunk]);
          return false;
        }
        if (row.replicas.includes(member.id)) return true;
        // Found bad meanwhile: with its last replica gone the row still has to go.
        this.retry([chunk]);
        return false;
      });
      for (const chunk of still) {
        going.add(chunk);
        this.removing.add(chunk);
      }
      if (still.length > 0) orders.push([member, still]);
    }
    try {
      await Promise.all(orders.map(([member, chunks]) => this.removeReferenced(member, chunks, marked.get(member)?.missing ?? new Set())));
    } finally {
      this.release([...going]);
    }
    // What is left of each chunk: gone, kept by a node because it was stored again, or waiting for a node that is away.
    const leftOver: ChunkId[] = [];
    state.transact((tx) => {
      for (const chunk of going) {
        const row = tx.get('chunks', chunk);
        if (!row || row.refs > 0) continue;
        if (row.replicas.length === 0) tx.remove('chunks', chunk);
        else leftOver.push(chunk);
      }
    });
    for (const chunk of leftOver) {
      this.parkOrRetry(chunk, state.get('chunks', chunk) as ChunkRow);
    }
  }

  private async removeReferenced(member: Member, chunks: ChunkId[], missing: ReadonlySet<ChunkId>): Promise<void> {
    for (let at = 0; at < chunks.length; at += ORDER_CHUNKS) {
      const part = chunks.slice(at, at + ORDER_CHUNKS);
      const answer = await this.remove(member, part, missing);
      if (!answer) {
        this.retry(chunks.slice(at));
        return;
      }
      // What was not there when it was to be condemned is as gone as what was removed.
      const gone = [...answer.removed, ...part.filter((chunk) => missing.has(chunk))];
      this.context.state.transact((tx) => {
        for (const chunk of gone) {
          const row = tx.get('chunks', chunk);
          if (row) tx.put('chunks', chunk, withoutReplica(row, member.id));
        }
      });
    }
  }

  private async condemn(member: Member, chunks: readonly ChunkId[]): Promise<{ missing: Set<ChunkId> } | undefined> {
    const missing = new Set<ChunkId>();
    try {
      for (let at = 0; at < chunks.length; at += ORDER_CHUNKS) {
        const part = chunks.slice(at, at + ORDER_CHUNKS);
        const answer = await member.order('condemn', { chunks: part }, ORDER_TIMEOUT_MS);
        const asked = new Set(part);
        if (
          answer.marked.length + answer.missing.length !== part.length ||
          ![...answer.marked, ...answer.missing].every((c) => asked.has(c))
        )
          throw new HoldfastError('BAD_MESSAGE', `node ${member.name} did not account for every chunk it was to condemn`);
        for (const chunk of answer.missing) missing.add(chunk);
      }
      return { missing };
    } catch (error) {
      this.avoid(member, error);
      return undefined;
    }
  }

  private async remove(
    member: Member,
    chunks: readonly ChunkId[],
    missing: ReadonlySet<ChunkId>,
  ): Promise<{ removed: readonly ChunkId[]; kept: readonly ChunkId[] } | undefined> {
    const { startId } = member;
    try {
      const answer = await member.order('remove', { chunks: [...chunks] }, ORDER_TIMEOUT_MS);
      // What was kept has a newer receipt. What was missing already has none that is true, unless it is newer still.
      const kept = new Set(answer.kept.filter((chunk) => !missing.has(chunk)));
      this.context.receipts.removed(
        member.id,
        answer.startId,
        answer.sequence,
        chunks.filter((chunk) => !kept.has(chunk)),
      );
      return answer;
    } catch (error) {
      this.avoid(member, error);
      // It may have been done: nothing the node said counts until it has registered again and shown what it holds.
      if (member.startId === startId) {
        this.context.receipts.unsure(member.id);
        member.inventory = 'unknown';
        member.disconnect('a removal was not answered');
      }
      return undefined;
    }
  }

  /** Begins to write down which removals end; the answer ends it and tells them. */
  recordReleases(): () => ReadonlySet<ChunkId> {
    const released = new Set<ChunkId>();
    this.recorders.add(released);
    return () => {
      this.recorders.delete(released);
      return released;
    };
  }

  private release(chunks: readonly ChunkId[]): void {
    for (const chunk of chunks) {
      this.removing.delete(chunk);
      for (const released of this.recorders) released.add(chunk);
    }
    const { waiters } = this;
    this.waiters = [];
    for (const look of waiters) look();
  }
  private retry(chunks: readonly ChunkId[]): void {
    const dueMs = this.context.environment.monotonicMs() + Math.max(this.context.graceMs, RETRY_KEPT_MS);
    for (const chunk of chunks) this.lookAgain(chunk, dueMs);
  }
  private lookAgain(chunk: ChunkId, dueMs: number): void {
    this.retries.set(chunk, dueMs);
    this.nextRetryMs = Math.min(this.nextRetryMs, dueMs);
  }
  private takeDue(nowMs: number): ChunkId[] {
    const due: ChunkId[] = [];
    for (const [chunk, dueMs] of this.queue) {
      if (dueMs > nowMs || due.length >= ROUND_CHUNKS) break;
      this.queue.delete(chunk);
      due.push(chunk);
    }
    if (this.nextRetryMs <= nowMs && due.length < ROUND_CHUNKS) {
      this.nextRetryMs = Number.POSITIVE_INFINITY;
      for (const [chunk, dueMs] of this.retries) {
        if (dueMs <= nowMs && due.length < ROUND_CHUNKS) {
          this.retries.delete(chunk);
          due.push(chunk);
        } else this.nextRetryMs = Math.min(this.nextRetryMs, dueMs);
      }
    }
    return due;
  }
  /** Nodes that are away, or whose inventory is not complete, wake their chunks themselves; the others are asked again after a while. */
  private parkOrRetry(chunk: ChunkId, row: ChunkRow): void {
    const isReady = (node: NodeId): boolean => {
      const member = this.context.membership.get(node);
      return member?.isReachable === true && member.inventory === 'complete';
    };
    if (row.replicas.some(isReady)) {
      this.retry([chunk]);
      return;
    }
    for (const node of row.replicas) {
      const chunks = this.parked.get(node);
      if (chunks) chunks.add(chunk);
      else this.parked.set(node, new Set([chunk]));
    }
  }
  private avoid(member: Member, error: unknown): void {
    this.avoidUntilMs.set(member.id, this.context.environment.monotonicMs() + AFTER_ERROR_MS);
    // A node that just went away is told elsewhere.
    if (member.isReachable) this.failed(`node ${member.name}`, error);
  }
  private failed(where: string, error: unknown): void {
    const nowMs = this.context.environment.monotonicMs();
    const text = error instanceof Error ? error.message : String(error);
    this.context.environment.log('warn', 'deletion stopped after an error', { where, error: text });
    if (nowMs - this.lastErrorEventMs < 60_000) return;
    this.lastErrorEventMs = nowMs;
    this.context.events.note({
      level: 'warn',
      kind: 'coordinator.deletion',
      text: `deletion on ${where} paused after an error (${text}); nothing is lost, it is tried again in a few seconds`,
    });
  }
}
