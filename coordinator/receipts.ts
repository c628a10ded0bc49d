/**
 * Which receipts still count. A receipt says that a node held a chunk when it was given; the node may have been told to delete the chunk since.
 * The danger is a client that uploads, is slow, and commits after the chunk was deleted as unreferenced: its commit must be refused.
 *
 * Every receipt carries the node's `startId` (random per start of its process) and a `sequence` that grows with every receipt; every removal
 * answers with both as they were when the removal was done. So a receipt is void when it is not newer than a removal of the same chunk there:
 *   - removals are remembered per node and chunk (tombstones); the oldest are folded into the node's `floor`, below which nothing counts any more
 *     (refusing too much is harmless: the client uploads again and gets a new receipt);
 *   - a coordinator that has just started knows no tombstones of its predecessor: it asks each node for its present sequence once and makes that the
 *     floor. Receipts from before count only for chunks that the node's inventory has shown since (`seen`);
 *   - a removal that was ordered but not answered counts as done, with every sequence, until the node is asked again (`unsure`).
 */
import type { ChunkId, NodeId } from '../protocol/entities.js';
import type { Receipt } from '../protocol/permit.js';

const MOST_TOMBSTONES_PER_NODE = 200_000;
const MOST_SEEN = 500_000;

interface NodeStarts {
  /** The process that runs now. */
  startId: string;
  /** Receipts of this start up to here are void. Infinity until the node has told its sequence. */
  floor: number;
  /** True while the floor must be asked for. */
  needsFloor: boolean;
  /** Starts this coordinator has seen before the present one, each with its last floor. */
  readonly earlier: Map<string, number>;
  /** Of the present start: chunk → sequence of its removal. Oldest first. */
  tombstones: Map<ChunkId, number>;
  /** Chunks removed from the node in earlier starts. */
  earlierTombstones: Set<ChunkId>;
  isInventoryComplete: boolean;
}

export interface SeenChunk {
  readonly chunk: ChunkId;
  readonly nodes: Set<NodeId>;
  readonly sinceMs: number;
}

export class Receipts {
  private readonly nodes = new Map<NodeId, NodeStarts>();
  /** Chunks that inventories showed and no row names: uploads whose commit may still come, or strangers. */
  readonly seen = new Map<ChunkId, SeenChunk>();

  /** A node registered. Returns true when its sequence must be asked for and told by `floorIs`. */
  registered(node: NodeId, startId: string): boolean {
    const known = this.nodes.get(node);
    if (!known) {
      this.nodes.set(node, {
        startId,
        floor: Number.POSITIVE_INFINITY,
        needsFloor: true,
        earlier: new Map(),
        tombstones: new Map(),
        earlierTombstones: new Set(),
        isInventoryComplete: false,
      });
      return true;
    }
    known.isInventoryComplete = false;
    if (known.startId !== startId) {
      known.earlier.set(known.startId, known.floor);
      for (const chunk of known.tombstones.keys()) known.earlierTombstones.add(chunk);
      known.tombstones = new Map();
      known.startId = startId;
      // This process began while this coordinator was watching, so nobody else ordered removals from it.
      known.floor = -1;
      known.needsFloor = false;
    }
    return known.needsFloor;
  }
  /** The node's present sequence: what was given up to here is judged by inventory alone. */
  floorIs(node: NodeId, startId: string, sequence: number): void {
    const known = this.nodes.get(node);
    if (known?.startId !== startId) return;
    known.floor = known.floor === Number.POSITIVE_INFINITY ? sequence : Math.max(known.floor, sequence);
    known.needsFloor = false;
  }
  inventoryComplete(node: NodeId): void {
    const known = this.nodes.get(node);
    if (!known) return;
    known.isInventoryComplete = true;
    // What the inventory did not show is void anyway from here on.
    known.earlierTombstones = new Set();
  }

  /** Chunks are gone from a node; receipts of this start up to `sequence` are void for them. */
  removed(node: NodeId, startId: string, sequence: number, chunks: readonly ChunkId[]): void {
    const known = this.nodes.get(node);
    if (!known) return;
    for (const chunk of chunks) {
      this.forgetSeen(chunk, node);
      if (known.startId !== startId) known.earlierTombstones.add(chunk);
      else {
        known.tombstones.delete(chunk);
        known.tombstones.set(chunk, sequence);
      }
    }
    while (known.tombstones.size > MOST_TOMBSTONES_PER_NODE) {
      const [oldest, itsSequence] = known.tombstones.entries().next().value as [ChunkId, number];
      known.tombstones.delete(oldest);
      known.floor = Math.max(known.floor, itsSequence);
    }
  }
  /** A removal was ordered and its answer is lost: nothing the node has said so far counts any more, until it tells its sequence again. */
  unsure(node: NodeId): void {
    const known = this.nodes.get(node);
    if (!known) return;
    known.floor = Number.POSITIVE_INFINITY;
    known.needsFloor = true;
    known.isInventoryComplete = false;
  }

  /** True when the chunk may be counted on the receipt's node. Signature, cluster, client and volume are the caller's business. */
  counts(receipt: Pick<Receipt, 'chunk' | 'node' | 'startId' | 'sequence'>): boolean {
    if (this.seen.get(receipt.chunk)?.nodes.has(receipt.node)) return true;
    const known = this.nodes.get(receipt.node);
    if (!known) return false;
    if (receipt.startId === known.startId)
      return receipt.sequence > known.floor && receipt.sequence > (known.tombstones.get(receipt.chunk) ?? -1);
    // Given by an earlier process of the node: its files are still there (a power loss is found by the inventory).
    const floor = known.earlier.get(receipt.startId);
    return (
      floor !== undefined &&
      receipt.sequence > floor &&
      !known.isInventoryComplete &&
      !known.earlierTombstones.has(receipt.chunk) &&
      !known.tombstones.has(receipt.chunk)
    );
  }

  /** An inventory showed a chunk that no row names. */
  see(chunk: ChunkId, node: NodeId, nowMs: number): void {
    const known = this.seen.get(chunk);
    if (known) known.nodes.add(node);
    else if (this.seen.size < MOST_SEEN) this.seen.set(chunk, { chunk, nodes: new Set([node]), sinceMs: nowMs });
  }
  forgetSeen(chunk: ChunkId, node: NodeId): void {
    const known = this.seen.get(chunk);
    if (!known) return;
    known.nodes.delete(node);
    if (known.nodes.size === 0) this.seen.delete(chunk);
  }
  /** Before an inventory of a node: what an earlier one showed says nothing now. */
  forgetSeenOf(node: NodeId, except: (chunk: ChunkId) => boolean): void {
    for (const [chunk, { nodes }] of this.seen) {
      if (except(chunk)) continue;
      nodes.delete(node);
      if (nodes.size === 0) this.seen.delete(chunk);
    }
  }
}
