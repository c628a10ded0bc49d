/**
 * Chunks and their replicas as the file tree sees them: commits with receipts, reference counts, what is there already, where to read.
 * Everything here is synchronous and in memory.
 */
import type { ChunkId, ChunkLocation, ClientId, NodeId, VolumeId } from '../protocol/entities.js';
import type { Environment } from '../protocol/environment.js';
import { HoldfastError } from '../protocol/errors.js';
import { openReceipt, type Receipt } from '../protocol/permit.js';
import type { Collector } from './collector.js';
import type { Member } from './member.js';
import type { Membership } from './membership.js';
import type { Pins } from './pins.js';
import type { ClientCaller } from './ports.js';
import type { Receipts } from './receipts.js';
import { type ChunkRow, shareReplicas } from './rows.js';
import type { State, Transaction } from './state.js';

/** Longer than nodes take to bring an unsynced put to stable storage by themselves. */
const SOFT_FOR_MS = 10_000;
/** Copies that every close waits for. */
const MOST_WRITTEN_COPIES = 2;

export interface ChunkBookContext {
  readonly environment: Environment;
  readonly state: State;
  readonly cluster: string;
  readonly accessKey: Buffer;
  readonly membership: Membership;
  readonly receipts: Receipts;
  readonly pins: Pins;
  readonly collector: Collector;
  /** A commit brought chunks with fewer replicas than the volume wants, or user data at all. */
  committed(bytes: number): void;
}

export class ChunkBook {
  /** Chunks committed lately that were not on stable storage everywhere: when that was. Oldest first. */
  private readonly soft = new Map<ChunkId, number>();

  constructor(private readonly context: ChunkBookContext) {}

  /** Copies a write of this volume must reach before it counts: fewer than 2 only when fewer nodes take writes. */
  writtenCopies(volume: VolumeId): number {
    const copies = this.context.state.get('volumes', volume)?.copies ?? MOST_WRITTEN_COPIES;
    return Math.min(copies, MOST_WRITTEN_COPIES, Math.max(1, this.context.membership.writable().length));
  }

  /** @see ChunkKeeper.acceptCommit */
  acceptCommit(tx: Transaction, caller: ClientCaller, chunks: readonly ChunkId[], receipts: readonly string[]): readonly ChunkId[] {
    if (chunks.length === 0) return [];
    const { environment, collector, pins, membership } = this.context;
    const nowMs = environment.monotonicMs();
    const named = new Set(chunks);
    const byChunk = this.openReceipts(caller, named, receipts);
    const needed = this.writtenCopies(caller.volume);
    const again: ChunkId[] = [];
    const soft: ChunkId[] = [];
    let uploadedBytes = 0;
    for (const chunk of named) {
      const row = tx.get('chunks', chunk);
      const uploads = byChunk.get(chunk) ?? [];
      if (collector.isRemoving(chunk) || (row && row.volume !== caller.volume)) {
        again.push(chunk);
        continue;
      }
      // A row without references only tells what is to be deleted where. It counts when this client was promised that the chunk stays.
      const isLiving = row !== undefined && (row.refs > 0 || pins.isPinnedBy(caller.client, chunk, nowMs));
      const counted = new Set<NodeId>();
      if (isLiving) for (const node of row.replicas) if (this.isAlive(membership.get(node))) counted.add(node);
      const sizeBytes = row?.sizeBytes ?? uploads[0]?.sizeBytes ?? 0;
      const stored = uploads.filter((receipt) => receipt.sizeBytes === sizeBytes);
      for (const receipt of stored) counted.add(receipt.node);
      if (counted.size < needed) {
        again.push(chunk);
        continue;
      }
      if (stored.length > 0 || !row) {
        const seen = this.context.receipts.seen.get(chunk)?.nodes ?? [];
        // A removal on a node that has not shown what it holds since may have been carried out though nobody heard of it.
        const known = (row?.replicas ?? []).filter((node) => isLiving || membership.get(node)?.inventory === 'complete');
        const nodes = new Set([...known, ...stored.map((receipt) => receipt.node), ...seen]);
        const replicas = shareReplicas([...nodes].sort((a, b) => a - b));
        if (!row) tx.put('chunks', chunk, { volume: caller.volume, sizeBytes, refs: 0, replicas });
        else if (replicas !== row.replicas) tx.put('chunks', chunk, { ...row, replicas });
        uploadedBytes += sizeBytes;
      }
      if (!this.isStable(chunk, stored, isLiving, needed, nowMs)) soft.push(chunk);
    }
    if (again.length > 0)
      throw new HoldfastError('UPLOAD_AGAIN', `${again.length} of the chunks are not stored well enough (any more): upload them again`, {
        chunks: again,
      });
    tx.afterwards(() => {
      for (const chunk of named) {
        pins.unpin(caller.client, chunk);
        this.context.receipts.seen.delete(chunk);
      }
      for (const chunk of soft) {
        this.soft.delete(chunk);
        this.soft.set(chunk, nowMs);
      }
      if (uploadedBytes > 0) this.context.committed(uploadedBytes);
    });
    return soft;
  }

  /** @see ChunkKeeper.addReferences */
  addReferences(tx: Transaction, chunk: ChunkId, count: number): void {
    if (count === 0) return;
    const row = tx.get('chunks', chunk);
    if (!row || (row.refs === 0 && this.context.collector.isRemoving(chunk)))
      throw new HoldfastError('UPLOAD_AGAIN', 'a chunk is not there any more: upload it again', { chunks: [chunk] });
    tx.put('chunks', chunk, { ...row, refs: row.refs + count });
  }

  /** @see ChunkKeeper.dropReferences */
  dropReferences(tx: Transaction, chunk: ChunkId, count: number): void {
    if (count === 0) return;
    const row = tx.get('chunks', chunk);
    if (!row) return;
    if (row.refs < count) this.context.environment.log('error', 'more references dropped than counted', { chunk, refs: row.refs, count });
    const refs = Math.max(0, row.refs - count);
    tx.put('chunks', chunk, { ...row, refs });
    if (refs === 0)
      tx.afterwards(() => {
        this.soft.delete(chunk);
        this.context.collector.enqueue(chunk);
      });
  }

  /** @see ChunkKeeper.have */
  have(caller: ClientCaller, chunks: readonly ChunkId[]): ChunkLocation[] {
    const { environment, state, pins, collector } = this.context;
    const nowMs = environment.monotonicMs();
    const needed = this.writtenCopies(caller.volume);
    const present: ChunkLocation[] = [];
    for (const chunk of chunks) {
      const row = state.get('chunks', chunk);
      if (!row || row.volume !== caller.volume || row.refs === 0 || collector.isRemoving(chunk)) continue;
      let good = 0;
      for (const node of row.replicas) if (this.context.membership.get(node)?.isUp) good++;
      if (good < needed || !pins.pin(caller.client, chunk, nowMs)) continue;
      present.push({ chunk, sizeBytes: row.sizeBytes, nodes: this.readOrder(row) });
    }
    return present;
  }

  /** @see ChunkKeeper.locations */
  locations(chunks: readonly ChunkId[]): ChunkLocation[] {
    const found: ChunkLocation[] = [];
    // Files name few distinct replica sets, so the order is worked out once for each.
    const orders = new Map<readonly NodeId[], readonly NodeId[]>();
    for (const chunk of chunks) {
      const row = this.context.state.get('chunks', chunk);
      if (!row) continue;
      let nodes = orders.get(row.replicas);
      if (!nodes) {
        nodes = this.readOrder(row);
        orders.set(row.replicas, nodes);
      }
      found.push({ chunk, sizeBytes: row.sizeBytes, nodes });
    }
    return found;
  }

  /** Good nodes first: up, up but slow, suspect, down. Removed ones are not named. */
  private readOrder(row: ChunkRow): NodeId[] {
    const rank = (member: Member | undefined): number => {
      if (!member || member.row.isRemoved) return 9;
      if (member.isUp) return member.isSlow ? 1 : 0;
      return member.liveness.presence === 'suspect' ? 2 : 3;
    };
    return row.replicas
      .map((node) => ({ node, rank: rank(this.context.membership.get(node)) }))
      .filter((one) => one.rank < 9)
      .sort((a, b) => a.rank - b.rank || a.node - b.node)
      .map((one) => one.node);
  }

  /** Counts towards the copies of a write: a node that is only suspect has not lost anything yet. */
  private isAlive(member: Member | undefined): boolean {
    return member !== undefined && !member.isDown;
  }

  private openReceipts(caller: ClientCaller, named: ReadonlySet<ChunkId>, receipts: readonly string[]): Map<ChunkId, Receipt[]> {
    const { accessKey, cluster, membership } = this.context;
    const byChunk = new Map<ChunkId, Receipt[]>();
    for (const token of receipts) {
      const receipt = openReceipt(accessKey, token, cluster);
      if (receipt.client !== caller.client || receipt.volume !== caller.volume || !named.has(receipt.chunk)) continue;
      const member = membership.get(receipt.node);
      if (!member || member.isDown || !this.context.receipts.counts(receipt)) continue;
      const known = byChunk.get(receipt.chunk);
      if (known) known.push(receipt);
      else byChunk.set(receipt.chunk, [receipt]);
    }
    return byChunk;
  }

  private isStable(chunk: ChunkId, stored: readonly Receipt[], isLiving: boolean, needed: number, nowMs: number): boolean {
    const durable = new Set(stored.filter((receipt) => receipt.durable).map((receipt) => receipt.node));
    if (durable.size >= needed) return true;
    for (const [oldest, atMs] of this.soft) {
      if (nowMs - atMs < SOFT_FOR_MS) break;
      this.soft.delete(oldest);
    }
    // Committed longer ago than nodes take to sync by themselves, and nothing new about it.
    return isLiving && stored.length === 0 && !this.soft.has(chunk);
  }

  /** @see ChunkKeeper.sessionEnded */
  sessionEnded(client: ClientId): void {
    this.context.pins.unpinAll(client);
  }
}
