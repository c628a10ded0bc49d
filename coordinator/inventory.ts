/**
 * What a node really holds, compared with what the rows say. Taken after every registration, and again from time to time.
 *
 * Pages come in ascending order of ids and may overlap with puts, copies and removals: every chunk whose row changed for this node while the
 * inventory ran is left out of the judgement (`touched`), as are chunks whose removal was under way when it began.
 *   in the rows, not on the node   → the replica is dropped; repair makes another
 *   on the node, not in its row    → the replica is added (a surplus is trimmed later, a chunk without references deleted later)
 *   on the node, no row at all     → remembered: an upload whose commit may still come. After 15 minutes it is set aside for days when it was there
 *                                    from the start (the metadata may be an old backup), and deleted when it came while this coordinator ran
 *                                    (an upload that was never committed)
 */
import type { ChunkId, NodeId } from '../protocol/entities.js';
import { type Environment, sleep, type Timer } from '../protocol/environment.js';
import { HoldfastError } from '../protocol/errors.js';
import { MAX_IDS_PER_CALL } from '../protocol/limits.js';
import type { Collector } from './collector.js';
import type { EventLog } from './events.js';
import type { Member } from './member.js';
import type { Membership } from './membership.js';
import type { Receipts } from './receipts.js';
import { type ChunkRow, withoutReplica, withReplica } from './rows.js';
import type { State } from './state.js';
import { countOf } from './words.js';

const PAGE_TIMEOUT_MS = 30_000;
const RETRY_MS = 200;
/** Chunks no metadata names rest this long: their commit may still be on its way. */
export const DEFAULT_UNKNOWN_GRACE_MS = 15 * 60_000;
const SWEEP_MS = 30_000;
const REPEAT_MS = 30 * 60_000;
const SLICE = 20_000;
const DROP_AT_ONCE = 5_000;

interface Running {
  readonly touched: Set<ChunkId>;
}

export interface InventoryContext {
  readonly environment: Environment;
  readonly state: State;
  readonly membership: Membership;
  readonly receipts: Receipts;
  readonly collector: Collector;
  readonly events: EventLog;
  readonly unknownGraceMs?: number;
  /** A node's inventory is complete for its present connection. */
  completed(member: Member): void;
  /** Replicas turned out to be missing: the chunks need copies. */
  lost(count: number): void;
}

export class Inventory {
  private readonly running = new Map<NodeId, Running>();
  /** Nodes whose inventory was complete once in this run: what is unknown there later was never committed. */
  private readonly takenOnce = new Set<NodeId>();
  /** Unknown chunks that were there when a node was first asked. */
  private readonly strangers = new Map<NodeId, Set<ChunkId>>();
  private readonly takenAtMs = new Map<NodeId, number>();
  private timer: Timer | undefined;
  private isStopped = false;

  private readonly unknownGraceMs: number;

  constructor(private readonly context: InventoryContext) {
    this.unknownGraceMs = context.unknownGraceMs ?? DEFAULT_UNKNOWN_GRACE_MS;
    context.state.onChange('chunks', (chunk, before, after) => this.rowChanged(chunk, before, after));
  }

  start(): void {
    this.timer = this.context.environment.setTimer(Math.min(SWEEP_MS, this.unknownGraceMs), () => {
      this.sweep()
        .catch((error: unknown) => this.context.environment.log('warn', 'setting unknown chunks aside failed', { error: String(error) }))
        .finally(() => {
          if (!this.isStopped) this.start();
        });
    });
  }
  stop(): void {
    this.isStopped = true;
    this.timer?.cancel();
  }

  /** Asks the node for all it holds, again and again until it succeeds or the connection is another one. Never throws. */
  async take(member: Member): Promise<void> {
    const { connection } = member;
    if (!connection) return;
    const isCurrent = (): boolean => !this.isStopped && member.connection === connection && connection.isOpen;
    member.inventory = 'running';
    while (isCurrent()) {
      try {
        await this.once(member, isCurrent);
        return;
      } catch (error) {
        if (!isCurrent()) return;
        const text = error instanceof Error ? error.message : String(error);
        this.context.environment.log('warn', 'taking an inventory failed; trying again', { node: member.name, error: text });
        if (error instanceof HoldfastError && error.code === 'STALE_EPOCH') {
          this.context.events.note({
            level: 'error',
            kind: 'coordinator.stale',
            text: `node ${member.name} obeys a newer coordinator than this one: stop this one, it runs on an old copy of the metadata`,
            node: member.name,
          });
          return;
        }
        await sleep(this.context.environment, RETRY_MS);
      }
    }
  }

  private async once(member: Member, isCurrent: () => boolean): Promise<void> {
    const { state, receipts, collector, environment } = this.context;
    const node = member.id;
    if (receipts.registered(node, member.startId)) {
      const { startId, sequence } = await member.order('remove', { chunks: [] }, PAGE_TIMEOUT_MS);
      receipts.floorIs(node, startId, sequence);
    }
    const running: Running = { touched: new Set() };
    this.running.set(node, running);
    try {
      const expected = new Set<ChunkId>();
      let sliced = 0;
      for (const [chunk, row] of state.table('chunks').all()) {
        if (row.replicas.includes(node)) expected.add(chunk);
        // The table may change between slices; what changes for this node is in `touched`.
        if (++sliced % SLICE === 0) await sleep(environment, 0);
      }
      receipts.forgetSeenOf(node, (chunk) => collector.isRemoving(chunk));
      let after = '';
      let held = 0;
      for (let isLast = false; !isLast; ) {
        // Removals that were under way when the page was asked for may be done by the time it is judged.
        const goneMeanwhile = collector.recordReleases();
        const page = await member.order('inventory', { after, limit: MAX_IDS_PER_CALL }, PAGE_TIMEOUT_MS).finally(goneMeanwhile);
        const gone = goneMeanwhile();
        if (!isCurrent()) return;
        const added: ChunkId[] = [];
        for (const { chunk } of page.items) {
          if (chunk <= after) throw new HoldfastError('BAD_MESSAGE', `the inventory of ${member.name} is not in order`);
          after = chunk;
          held++;
          if (expected.delete(chunk) || running.touched.has(chunk) || collector.isRemoving(chunk) || gone.has(chunk)) continue;
          if (state.get('chunks', chunk)) added.push(chunk);
          else this.seen(node, chunk);
        }
        if (!page.isLast && page.items.length === 0)
          throw new HoldfastError('BAD_MESSAGE', `the inventory of ${member.name} does not go on`);
        isLast = page.isLast;
        if (added.length > 0) this.change(added, (row) => withReplica(row, node));
      }
      const missing = [...expected].filter((chunk) => !running.touched.has(chunk) && state.get('chunks', chunk)?.replicas.includes(node));
      this.running.delete(node);
      for (let at = 0; at < missing.length; at += DROP_AT_ONCE) {
        this.change(missing.slice(at, at + DROP_AT_ONCE), (row) => withoutReplica(row, node));
        if (missing.length > DROP_AT_ONCE) await sleep(environment, 0);
      }
      if (!isCurrent()) return;
      if (missing.length > 0) {
        this.context.events.note({
          level: 'warn',
          kind: 'replica.bad',
          text: `node ${member.name} does not hold ${countOf(missing.length, 'replica')} it should hold; they are made again from other copies`,
          node: member.name,
        });
        this.context.lost(missing.length);
      }
      environment.log('info', 'inventory taken', { node: member.name, held, missing: missing.length });
      this.takenOnce.add(node);
      this.takenAtMs.set(node, environment.monotonicMs());
      receipts.inventoryComplete(node);
      member.inventory = 'complete';
      this.context.completed(member);
    } finally {
      if (this.running.get(node) === running) this.running.delete(node);
    }
  }

  private change(chunks: readonly ChunkId[], how: (row: ChunkRow) => ChunkRow): void {
    this.context.state.transact((tx) => {
      for (const chunk of chunks) {
        const row = tx.get('chunks', chunk);
        if (row) tx.put('chunks', chunk, how(row));
      }
    });
  }

  private seen(node: NodeId, chunk: ChunkId): void {
    this.context.receipts.see(chunk, node, this.context.environment.monotonicMs());
    if (this.takenOnce.has(node)) return;
    const strangers = this.strangers.get(node) ?? new Set();
    this.strangers.set(node, strangers.add(chunk));
  }

  private rowChanged(chunk: ChunkId, before: ChunkRow | undefined, after: ChunkRow | undefined): void {
    if (this.running.size === 0 || before?.replicas === after?.replicas) return;
    for (const [node, { touched }] of this.running) {
      if ((before?.replicas.includes(node) ?? false) !== (after?.replicas.includes(node) ?? false)) touched.add(chunk);
    }
  }

  /** Unknown chunks whose time is up go; nodes that were not asked for long are asked again. */
  private async sweep(): Promise<void> {
    const { environment, receipts, state, membership, collector, events } = this.context;
    const nowMs = environment.monotonicMs();
    const due = new Map<NodeId, { strangers: ChunkId[]; uncommitted: ChunkId[] }>();
    for (const { chunk, nodes, sinceMs } of [...receipts.seen.values()]) {
      if (state.get('chunks', chunk)) {
        receipts.seen.delete(chunk);
        continue;
      }
      if (nowMs - sinceMs < this.unknownGraceMs) continue;
      for (const node of nodes) {
        const lists = due.get(node) ?? { strangers: [], uncommitted: [] };
        due.set(node, lists);
        (this.strangers.get(node)?.has(chunk) ? lists.strangers : lists.uncommitted).push(chunk);
      }
    }
    for (const [node, { strangers, uncommitted }] of due) {
      const name = membership.get(node)?.name ?? String(node);
      const aside = await collector.discard(node, strangers, 'setAside');
      // What could not be set aside now stays a stranger: as an upload that was never committed it would be deleted the next time.
      for (const chunk of strangers) if (!receipts.seen.get(chunk)?.nodes.has(node)) this.strangers.get(node)?.delete(chunk);
      if (aside > 0)
        events.note({
          level: 'warn',
          kind: 'replica.unknown',
          text: `${countOf(aside, 'chunk')} on ${name} that no metadata names set aside; kept there for some days, in case the metadata is from an old backup`,
          node: name,
        });
      const removed = await collector.discard(node, uncommitted, 'remove');
      if (removed > 0) environment.log('info', 'uploads that were never committed deleted', { node: name, chunks: removed });
    }
    const oldest = membership
      .all()
      .filter(
        (member) => member.isReachable && member.inventory === 'complete' && nowMs - (this.takenAtMs.get(member.id) ?? 0) >= REPEAT_MS,
      )
      .sort((a, b) => (this.takenAtMs.get(a.id) ?? 0) - (this.takenAtMs.get(b.id) ?? 0))[0];
    if (oldest) await this.take(oldest);
  }
}
