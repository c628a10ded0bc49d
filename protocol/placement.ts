/**
 * Which nodes should hold a chunk: weighted rendezvous hashing (Thaler and Ravishankar 1998; weights by -w/ln(h) as in Schindelhauer and Schomaker 2005).
 * Pure: the same nodes and id give the same order everywhere, so coordinator and clients agree without talking.
 */
import type { ChunkId, NodeId } from './entities.js';

export interface PlacementNode {
  readonly node: NodeId;
  readonly zone: string;
  /** Larger nodes get more chunks: usually capacityBytes. Must be positive. */
  readonly weight: number;
}

function score(chunk: ChunkId, node: PlacementNode): number {
  // An id is a hash already, so 6 of its bytes mixed with the node are enough; a few multiplications are much cheaper than another SHA-256.
  let h = (Number.parseInt(chunk.slice(0, 8), 16) ^ Math.imul(node.node, 0x9e3779b1)) >>> 0;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b) >>> 0;
  h = (h ^ Number.parseInt(chunk.slice(8, 16), 16)) >>> 0;
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35) >>> 0;
  h = (h ^ (h >>> 16)) >>> 0;
  return -Math.max(node.weight, 1) / Math.log((h + 0.5) / 2 ** 32);
}

/**
 * Every candidate, best first, such that a prefix of any length spreads over as many zones as possible.
 * The caller filters candidates (up, writable, not full) before.
 */
export function placementOrder(chunk: ChunkId, candidates: readonly PlacementNode[]): NodeId[] {
  const ranked = candidates
    .map((node) => ({ node, score: score(chunk, node) }))
    .sort((a, b) => b.score - a.score || a.node.node - b.node.node);
  const zones = new Set(ranked.map((r) => r.node.zone)).size;
  if (zones <= 1) return ranked.map((r) => r.node.node);
  const order: NodeId[] = [];
  let left = ranked;
  while (left.length > 0) {
    const used = new Set<string>();
    const rest: typeof left = [];
    for (const r of left) {
      if (used.has(r.node.zone)) rest.push(r);
      else {
        used.add(r.node.zone);
        order.push(r.node.node);
      }
    }
    left = rest;
  }
  return order;
}
