/**
 * Brings chunks back to their copies: orders nodes to copy from each other, several orders at a time, and lets go of surplus. What to do next is
 * decided in repair-plan.ts from the sets of chunks with equal replicas, so nothing here looks at every chunk.
 *
 * Users come first: while commits arrive or nodes serve readers, a node gets one order at a time and rests half as long as the order took (see `paceOf`).
 */
import type { RepairSpeed } from '../protocol/admin-calls.js';
import type { ChunkId, NodeId } from '../protocol/entities.js';
import type { Environment, Timer } from '../protocol/environment.js';
import { openReceipt } from '../protocol/permit.js';
import { partsOfSetKey } from './chunk-index.js';
import type { Collector } from './collector.js';
import type { EventLog } from './events.js';
import type { Job, JobBook } from './jobs.js';
import type { Membership } from './membership.js';
import type { Permits } from './permits.js';
import type { Receipts } from './receipts.js';
import {
  type ChunkClass,
  type ClassNeed,
  chooseSurplus,
  judge,
  mayGo,
  needs,
  type PlanNode,
  type PlannedCopy,
  planCopies,
} from './repair-plan.js';
import { withReplica } from './rows.js';
import type { State } from './state.js';
import { bytesInWords, countOf, durationInWords } from './words.js';

const ORDER_CHUNKS = 64;
const ORDER_BYTES = 8 * 1024 * 1024;
const ORDER_TIMEOUT_MS = 60_000;
const TICK_MS = 1_000;
const FAILED_FOR_MS = 5_000;
const LOOK_AT_MOST = 20_000;
const TRIM_AT_ONCE = 1_000;
/** Surplus is let go only when nodes have been steady for a while: what looks too much may be needed in a moment. */
const STEADY_BEFORE_TRIM_MS = 10_000;
const USERS_BUSY_MS = 1_500;
/** A node from which less than this is read counts as unused: somebody looking at a file now and then waits for nothing. */
const USERS_BUSY_READ_BYTES_PER_S = 256 * 1024;
const SPEED_SETTING = 'repairSpeed';

export interface Pace {
  readonly ordersPerNode: number;
  /** Rest after an order, as a multiple of the time it took. */
  readonly restFactor: number;
}
export function paceOf(speed: RepairSpeed, areUsersBusy: boolean): Pace {
  if (speed === 'urgent') return { ordersPerNode: 4, restFactor: 0 };
  if (speed === 'gentle') return { ordersPerNode: 1, restFactor: areUsersBusy ? 4 : 1 };
  return areUsersBusy ? { ordersPerNode: 1, restFactor: 0.5 } : { ordersPerNode: 3, restFactor: 0 };
}

export interface RepairContext {
  readonly environment: Environment;
  readonly state: State;
  readonly cluster: string;
  readonly accessKey: Buffer;
  readonly membership: Membership;
  readonly permits: Permits;
  readonly receipts: Receipts;
  readonly collector: Collector;
  readonly jobs: JobBook;
  readonly events: EventLog;
  isSafeMode(): boolean;
  /** A copy was made and entered. */
  copied(chunk: ChunkId, to: NodeId): void;
  /** None of these nodes gave good bytes. */
  unreadable(chunk: ChunkId, from: readonly NodeId[]): void;
}

interface Order {
  readonly to: NodeId;
  readonly copies: PlannedCopy[];
  bytes: number;
}

export class Repair {
  speed: RepairSpeed = 'normal';
  /** Bytes copied since the start. */
  copiedBytes = 0;
  private readonly copying = new Map<ChunkId, NodeId[]>();
  private readonly failedUntilMs = new Map<ChunkId, number>();
  private readonly ordersOn = new Map<NodeId, number>();
  private readonly restingUntilMs = new Map<NodeId, number>();
  private timer: Timer | undefined;
  private soon: Timer | undefined;
  private isStopped = true;
  private isTrimming = false;
  private lastUserBytesMs = Number.NEGATIVE_INFINITY;
  private lastChangeMs = 0;
  private job: Job | undefined;
  private jobStartedMs = 0;
  private readonly drainJobs = new Map<NodeId, Job>();
  private readonly cancelledDrains = new Set<NodeId>();
  private isCancelled = false;

  constructor(private readonly context: RepairContext) {}

  /** Takes over the speed that was set before. Call once the state is loaded. */
  load(): void {
    const speed = this.context.state.get('settings', SPEED_SETTING);
    if (speed === 'gentle' || speed === 'normal' || speed === 'urgent') this.speed = speed;
  }
  setSpeed(speed: RepairSpeed): void {
    this.context.state.transact((tx) => tx.put('settings', SPEED_SETTING, speed));
    this.speed = speed;
    this.lookSoon();
  }
  start(): void {
    this.isStopped = false;
    this.arm();
  }
  stop(): void {
    this.isStopped = true;
    this.timer?.cancel();
    this.soon?.cancel();
  }

  /** Something changed that may make or end work: nodes, replicas, settings. */
  kick(): void {
    this.isCancelled = false;
    this.lastChangeMs = this.context.environment.monotonicMs();
    this.failedUntilMs.clear();
    this.lookSoon();
  }
  /** Users are writing. (That they read, the heartbeats of the nodes tell.) */
  usersWrote(): void {
    this.lastUserBytesMs = this.context.environment.monotonicMs();
  }
  /** Users write, or read from any node as its last heartbeat told. */
  get areUsersBusy(): boolean {
    const { environment, membership } = this.context;
    if (environment.monotonicMs() - this.lastUserBytesMs < USERS_BUSY_MS) return true;
    return membership.all().some((member) => member.isUp && member.userReadBytesPerS >= USERS_BUSY_READ_BYTES_PER_S);
  }
  isCopying(chunk: ChunkId): boolean {
    return this.copying.has(chunk);
  }
  copyTargets(chunk: ChunkId): readonly NodeId[] {
    return this.copying.get(chunk) ?? [];
  }
  /** Stops this job's copies until something changes. True when the job is one of repair's. */
  cancel(job: Job): boolean {
    if (job === this.job) {
      this.isCancelled = true;
      this.end(job, 'cancelled');
      this.job = undefined;
      return true;
    }
    for (const [node, drain] of this.drainJobs) {
      if (drain !== job) continue;
      this.cancelledDrains.add(node);
      this.drainJobs.delete(node);
      job.end('cancelled');
      return true;
    }
    return false;
  }
  drainBegins(node: NodeId): Job {
    this.cancelledDrains.delete(node);
    const known = this.drainJobs.get(node);
    if (known) return known;
    const job = this.context.jobs.open('drain', `${this.context.membership.get(node)?.name ?? node}`);
    this.drainJobs.set(node, job);
    this.kick();
    return job;
  }
  drainEnds(node: NodeId): void {
    this.drainJobs.get(node)?.end('cancelled');
    this.drainJobs.delete(node);
    this.kick();
  }

  planNodes(): Map<NodeId, PlanNode> {
    const nodes = new Map<NodeId, PlanNode>();
    for (const member of this.context.membership.all()) {
      nodes.set(member.id, {
        node: member.id,
        zone: member.row.zone,
        presence: member.liveness.presence,
        isDraining: member.row.isDraining,
        isWritable: member.isWritable && member.isReachable,
        capacityBytes: member.space.capacityBytes,
        usedBytes: this.context.state.index.ofNode(member.id).bytes,
      });
    }
    return nodes;
  }
  *classes(): IterableIterator<ChunkClass> {
    const { state } = this.context;
    for (const [key, chunks] of state.index.byReplicaSet) {
      const { volume, nodes } = partsOfSetKey(key);
      yield { volume, replicas: nodes, copies: state.get('volumes', volume)?.copies ?? 1, chunks };
    }
  }
  /** Chunks that have no copy elsewhere than on this node and those leaving with it, as many as are wished. */
  drainLeft(node: NodeId): number {
    const nodes = this.planNodes();
    let left = 0;
    for (const one of this.classes())
      if (one.replicas.includes(node) && judge(one.replicas, one.copies, nodes).missing > 0) left += one.chunks.size;
    return left;
  }

  private arm(): void {
    this.timer = this.context.environment.setTimer(TICK_MS, () => {
      this.look();
      this.trimSoon();
      if (!this.isStopped) this.arm();
    });
  }
  private lookSoon(): void {
    if (this.isStopped) return;
    this.soon ??= this.context.environment.setTimer(0, () => {
      this.soon = undefined;
      this.look();
    });
  }

  /** Orders as much as the pace allows, and keeps the jobs' figures. */
  private look(): void {
    if (this.isStopped || this.context.isSafeMode()) return;
    const { environment, state } = this.context;
    const nodes = this.planNodes();
    const ordered = needs(this.classes(), nodes).filter(
      ({ judgement }) => !(judgement.drains === undefined ? this.isCancelled : this.cancelledDrains.has(judgement.drains)),
    );
    this.keepJobs(ordered);
    if (ordered.length === 0) return;
    const nowMs = environment.monotonicMs();
    const pace = paceOf(this.speed, this.areUsersBusy);
    const open = new Map<NodeId, Order>();
    const slots = new Map<NodeId, number>();
    for (const node of nodes.values()) {
      const isResting = (this.restingUntilMs.get(node.node) ?? 0) > nowMs;
      if (node.isWritable && !isResting) slots.set(node.node, Math.max(0, pace.ordersPerNode - (this.ordersOn.get(node.node) ?? 0)));
    }
    const ready: Order[] = [];
    planCopies(ordered, nodes, {
      taking: (chunk) => this.copying.get(chunk) ?? [],
      isSkipped: (chunk) => (this.failedUntilMs.get(chunk) ?? 0) > nowMs || this.context.collector.isRemoving(chunk),
      hasRoom: (node) => (slots.get(node) ?? 0) > 0,
      isFull: () => ![...slots.values()].some((count) => count > 0),
      lookAtMost: LOOK_AT_MOST,
      take: (copy) => {
        const order: Order = open.get(copy.to) ?? { to: copy.to, copies: [], bytes: 0 };
        open.set(copy.to, order);
        order.copies.push(copy);
        order.bytes += state.get('chunks', copy.chunk)?.sizeBytes ?? 0;
        this.copying.set(copy.chunk, [...(this.copying.get(copy.chunk) ?? []), copy.to]);
        if (order.copies.length < ORDER_CHUNKS && order.bytes < ORDER_BYTES) return;
        open.delete(copy.to);
        slots.set(copy.to, (slots.get(copy.to) ?? 1) - 1);
        ready.push(order);
      },
    });
    for (const order of [...ready, ...open.values()]) {
      this.ordersOn.set(order.to, (this.ordersOn.get(order.to) ?? 0) + 1);
      this.carryOut(order, pace).catch((error: unknown) => environment.log('error', 'a copy order failed', { error: String(error) }));
    }
  }

  private async carryOut(order: Order, pace: Pace): Promise<void> {
    const { environment } = this.context;
    const startedMs = environment.monotonicMs();
    try {
      const done = await this.copy(order.to, order.copies);
      for (const copy of order.copies) {
        const job = this.jobOf(copy);
        const error = done.errors.get(copy.chunk);
        if (error === undefined) {
          job?.progressed(1, this.context.state.get('chunks', copy.chunk)?.sizeBytes ?? 0);
        } else {
          job?.failedOnce(error);
          if (error.startsWith('CHUNK_UNREADABLE')) this.context.unreadable(copy.chunk, copy.from);
          this.failedUntilMs.set(copy.chunk, environment.monotonicMs() + FAILED_FOR_MS);
        }
      }
    } finally {
      for (const { chunk } of order.copies) {
        const left = (this.copying.get(chunk) ?? []).filter((node) => node !== order.to);
        if (left.length > 0) this.copying.set(chunk, left);
        else this.copying.delete(chunk);
      }
      this.ordersOn.set(order.to, (this.ordersOn.get(order.to) ?? 1) - 1);
      const restMs =
        (environment.monotonicMs() - startedMs) *
        (this.areUsersBusy ? Math.max(pace.restFactor, paceOf(this.speed, true).restFactor) : pace.restFactor);
      if (restMs > 0) {
        this.restingUntilMs.set(order.to, environment.monotonicMs() + restMs);
        // Timers count whole milliseconds and may be early by a part of one: then the node would seem to rest until the next tick.
        environment.setTimer(Math.ceil(restMs) + 1, () => this.lookSoon());
      } else this.lookSoon();
    }
  }

  /** Orders copies and enters what succeeded. Never throws; every chunk without an error has its replica. Also used for rebalancing. */
  async copy(
    to: NodeId,
    copies: readonly { readonly chunk: ChunkId; readonly from: readonly NodeId[] }[],
  ): Promise<{ errors: Map<ChunkId, string> }> {
    const { membership, state, accessKey, cluster } = this.context;
    const errors = new Map<ChunkId, string>();
    const target = membership.get(to);
    const orders = copies.map(({ chunk, from }) => ({
      chunk,
      from: from.map((node) => membership.get(node)?.row.url).filter((url): url is string => url !== undefined),
      sizeBytes: state.get('chunks', chunk)?.sizeBytes,
    }));
    try {
      if (!target) throw new Error('the node is gone');
      const { results } = await target.order('copy', { chunks: orders, permit: this.context.permits.forOrders() }, ORDER_TIMEOUT_MS);
      const byChunk = new Map(results.map((result) => [result.chunk, result]));
      const added: { chunk: ChunkId; volume: number; sizeBytes: number }[] = [];
      for (const { chunk } of copies) {
        const result = byChunk.get(chunk);
        if (!result?.receipt) {
          errors.set(chunk, result?.error ?? `node ${target.name} did not answer for it`);
          continue;
        }
        try {
          const receipt = openReceipt(accessKey, result.receipt, cluster);
          if (receipt.chunk !== chunk || receipt.node !== to || !this.context.receipts.counts(receipt))
            errors.set(chunk, 'the receipt does not fit');
          else added.push({ chunk, volume: receipt.volume, sizeBytes: receipt.sizeBytes });
        } catch (error) {
          errors.set(chunk, error instanceof Error ? error.message : String(error));
        }
      }
      state.transact((tx) => {
        for (const { chunk, volume, sizeBytes } of added) {
          const row = tx.get('chunks', chunk);
          // Its last reference may have gone meanwhile: the row without references makes the collector delete the copy.
          if (row) tx.put('chunks', chunk, withReplica(row, to));
          else {
            tx.put('chunks', chunk, { volume, sizeBytes, refs: 0, replicas: [to] });
            tx.afterwards(() => this.context.collector.enqueue(chunk));
          }
        }
      });
      for (const { chunk, sizeBytes } of added) {
        this.copiedBytes += sizeBytes;
        this.context.copied(chunk, to);
      }
    } catch (error) {
      const text = error instanceof Error ? error.message : String(error);
      for (const { chunk } of copies) errors.set(chunk, text);
    }
    return { errors };
  }

  private jobOf(copy: PlannedCopy): Job | undefined {
    return copy.drains === undefined ? this.job : this.drainJobs.get(copy.drains);
  }

  /** Opens, updates and ends the jobs according to what is left. */
  private keepJobs(ordered: readonly ClassNeed[]): void {
    const { jobs, events, environment, membership } = this.context;
    const left = new Map<NodeId | 'repair', number>();
    for (const { judgement, chunks } of ordered) {
      const key = judgement.drains ?? 'repair';
      left.set(key, (left.get(key) ?? 0) + judgement.missing * chunks.size);
    }
    const averageBytes = this.averageChunkBytes();
    const repairs = left.get('repair') ?? 0;
    if (repairs > 0) {
      if (!this.job) {
        this.job = jobs.open('repair', this.repairSubject());
        this.jobStartedMs = environment.monotonicMs();
        events.note({
          level: 'info',
          kind: 'repair.started',
          text: `repair ${this.job.id} started: ${countOf(repairs, 'copy').replace('copys', 'copies')} to make`,
        });
      }
      this.job.leaves(repairs, repairs * averageBytes);
    } else if (this.job && this.copying.size === 0) {
      const { job } = this;
      this.job = undefined;
      this.end(job, 'done');
    }
    for (const [node, job] of this.drainJobs) {
      const chunks = left.get(node) ?? 0;
      job.leaves(chunks, chunks * averageBytes);
      const member = membership.get(node);
      if (chunks > 0 || !member || this.drainLeft(node) > 0) continue;
      this.drainJobs.delete(node);
      job.end('done');
      events.note({
        level: 'info',
        kind: 'drain.finished',
        text: `node ${member.name} is drained: every chunk on it has its copies elsewhere, it may be stopped and removed`,
        node: member.name,
      });
    }
    for (const member of membership.all())
      if (member.row.isDraining && !this.drainJobs.has(member.id) && !this.cancelledDrains.has(member.id) && (left.get(member.id) ?? 0) > 0)
        this.drainJobs.set(member.id, jobs.open('drain', member.name));
  }
  private repairSubject(): string {
    const away = this.context.membership.all().filter((member) => member.isDown);
    return away.length > 0 ? away.map((member) => member.name).join(', ') : 'missing copies';
  }
  private end(job: Job, state: 'done' | 'cancelled'): void {
    job.end(state);
    const tookMs = this.context.environment.monotonicMs() - this.jobStartedMs;
    this.context.events.note({
      level: 'info',
      kind: 'repair.finished',
      text: `repair ${job.id} ${state === 'done' ? 'finished' : 'cancelled'}: ${job.doneChunks} copies made, ${bytesInWords(job.doneBytes)} in ${durationInWords(tookMs)}`,
    });
  }
  private averageChunkBytes(): number {
    const { uniqueBytes, chunks } = this.context.state.index.total;
    return chunks === 0 ? 0 : Math.round(uniqueBytes / chunks);
  }

  private trimSoon(): void {
    const { environment, collector, membership } = this.context;
    if (
      this.isTrimming ||
      this.isStopped ||
      this.context.isSafeMode() ||
      environment.monotonicMs() - this.lastChangeMs < STEADY_BEFORE_TRIM_MS
    )
      return;
    if (membership.all().some((member) => member.liveness.presence === 'suspect' || (member.isUp && member.inventory !== 'complete')))
      return;
    const nodes = this.planNodes();
    const surplus: { chunk: ChunkId; node: NodeId }[] = [];
    for (const { replicas, copies, chunks } of this.classes()) {
      const going = chooseSurplus(replicas, copies, nodes);
      if (going.length === 0) continue;
      for (const chunk of chunks) {
        if (surplus.length >= TRIM_AT_ONCE) break;
        if (!this.copying.has(chunk)) for (const node of going) surplus.push({ chunk, node });
      }
    }
    if (surplus.length === 0) return;
    this.isTrimming = true;
    collector
      .trim(surplus, ({ chunk, node }, row) => this.mayTrim(chunk, node, row))
      .catch((error: unknown) => environment.log('warn', 'letting go of surplus failed', { error: String(error) }))
      .finally(() => {
        this.isTrimming = false;
      });
  }
  /** The last word before a replica of a living chunk goes. */
  mayTrim(
    chunk: ChunkId,
    node: NodeId,
    row: { readonly refs: number; readonly volume: number; readonly replicas: readonly NodeId[] },
  ): boolean {
    const copies = this.context.state.get('volumes', row.volume)?.copies ?? 1;
    return row.refs > 0 && !this.copying.has(chunk) && mayGo(node, row.replicas, copies, this.planNodes());
  }
}
