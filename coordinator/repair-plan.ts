/**
 * Where copies are missing and where there are too many: pure, from the set of nodes that hold a chunk and what is known of the nodes.
 * All chunks with equal replicas and equal wish are judged at once; only the choice of the target looks at the single chunk.
 *
 *   counts as a copy   the node is up, or suspect (it has lost nothing yet), and not draining
 *   good               the node is up (a draining one as well): it can be read, so it can be a source
 */
import type { ChunkId, NodeId, VolumeId } from '../protocol/entities.js';
import { placementOrder } from '../protocol/placement.js';

export interface PlanNode {
  readonly node: NodeId;
  readonly zone: string;
  readonly presence: 'up' | 'suspect' | 'down';
  readonly isDraining: boolean;
  /** New chunks may go there: up, not draining, not full, not read-only. */
  readonly isWritable: boolean;
  readonly capacityBytes: number;
  readonly usedBytes: number;
}
export type PlanNodes = ReadonlyMap<NodeId, PlanNode>;

export interface Judgement {
  /** Copies that count. */
  readonly counted: readonly NodeId[];
  /** Nodes to read from. */
  readonly good: readonly NodeId[];
  /** Suspect nodes that hold one. */
  readonly suspect: readonly NodeId[];
  /** Copies to make. */
  readonly missing: number;
  /** The draining node for whose sake copies are made; undefined when copies are missing anyway. */
  readonly drains: NodeId | undefined;
}

/** How chunks on exactly these nodes stand. Nodes that are not in the map (removed) hold nothing that counts. */
export function judge(replicas: readonly NodeId[], copies: number, nodes: PlanNodes): Judgement {
  const counted: NodeId[] = [];
  const good: NodeId[] = [];
  const suspect: NodeId[] = [];
  let drains: NodeId | undefined;
  let draining = 0;
  for (const id of replicas) {
    const node = nodes.get(id);
    if (!node || node.presence === 'down') continue;
    if (node.presence === 'up') good.push(id);
    else suspect.push(id);
    if (node.isDraining) {
      draining++;
      drains ??= id;
    } else counted.push(id);
  }
  const missing = Math.max(0, copies - counted.length);
  return { counted, good, suspect, missing, drains: missing > 0 && counted.length + draining >= copies ? drains : undefined };
}

/** Copies to show people: readable ones, at least 1 while a suspect node may still have one. 0 = lost unless a node that is down returns. */
export const shownCopies = (judgement: Judgement): number => Math.max(judgement.good.length, judgement.suspect.length > 0 ? 1 : 0);

/**
 * Best node for one more copy: none that holds one already or gets one, a zone without a copy before others, then rendezvous order.
 * @param taken nodes that hold the chunk (whatever their state) or are getting it
 */
export function chooseTarget(
  chunk: ChunkId,
  counted: readonly NodeId[],
  taken: readonly NodeId[],
  nodes: PlanNodes,
  mayTake: (node: PlanNode) => boolean,
): NodeId | undefined {
  const candidates = [...nodes.values()].filter((node) => node.isWritable && !taken.includes(node.node) && mayTake(node));
  if (candidates.length === 0) return undefined;
  const zones = new Set([...counted, ...taken].map((node) => nodes.get(node)?.zone));
  const fresh = candidates.filter((node) => !zones.has(node.zone));
  const pool = fresh.length > 0 ? fresh : candidates;
  return placementOrder(
    chunk,
    pool.map(({ node, zone, capacityBytes }) => ({ node, zone, weight: capacityBytes })),
  )[0];
}

/**
 * Which of a chunk's replicas are too many. Only replicas on nodes that are up and stay are counted, so what remains are `copies` good ones, in as
 * many zones as before (or as there are copies). The fullest nodes give theirs up first. Draining nodes keep theirs: they leave as a whole.
 */
export function chooseSurplus(replicas: readonly NodeId[], copies: number, nodes: PlanNodes): NodeId[] {
  const staying = replicas
    .map((id) => nodes.get(id))
    .filter((node): node is PlanNode => node !== undefined && node.presence === 'up' && !node.isDraining);
  if (staying.length <= copies) return [];
  const fill = (node: PlanNode): number => node.usedBytes / Math.max(1, node.capacityBytes);
  const zonesOf = (some: readonly PlanNode[]): number => new Set(some.map((node) => node.zone)).size;
  const zonesToKeep = Math.min(zonesOf(staying), copies);
  let left = staying;
  const surplus: NodeId[] = [];
  for (const candidate of [...staying].sort((a, b) => fill(b) - fill(a) || b.node - a.node)) {
    if (left.length <= copies) break;
    const without = left.filter((node) => node !== candidate);
    if (zonesOf(without) < zonesToKeep) continue;
    left = without;
    surplus.push(candidate.node);
  }
  return surplus;
}

/** True when this one replica may go: enough good copies on nodes that stay remain, in no fewer zones than copies need. */
export function mayGo(replica: NodeId, replicas: readonly NodeId[], copies: number, nodes: PlanNodes): boolean {
  const up = (id: NodeId): boolean => {
    const node = nodes.get(id);
    return node !== undefined && node.presence === 'up' && !node.isDraining;
  };
  const staying = replicas.filter((id) => id !== replica && up(id));
  const zones = (ids: readonly NodeId[]): number => new Set(ids.map((id) => nodes.get(id)?.zone)).size;
  return staying.length >= copies && zones(staying) >= Math.min(copies, zones(replicas.filter(up)));
}

export interface ChunkClass {
  readonly volume?: VolumeId;
  readonly replicas: readonly NodeId[];
  readonly copies: number;
  readonly chunks: ReadonlySet<ChunkId>;
}
export interface ClassNeed extends ChunkClass {
  readonly judgement: Judgement;
}

/** The classes that need copies and have a source, most endangered first; repair before drain. */
export function needs(classes: Iterable<ChunkClass>, nodes: PlanNodes): ClassNeed[] {
  const found: ClassNeed[] = [];
  for (const one of classes) {
    const judgement = judge(one.replicas, one.copies, nodes);
    if (judgement.missing > 0 && judgement.good.length > 0) found.push({ ...one, judgement });
  }
  const rank = (need: ClassNeed): number =>
    need.judgement.drains === undefined ? need.judgement.good.length : 1_000 + need.judgement.good.length;
  return found.sort((a, b) => rank(a) - rank(b));
}

export interface PlannedCopy {
  readonly chunk: ChunkId;
  readonly to: NodeId;
  /** Nodes to read from, in the order to try. */
  readonly from: readonly NodeId[];
  readonly drains: NodeId | undefined;
}

/**
 * The next copies to order, most urgent first.
 * @param taking nodes that are getting a chunk already
 * @param reserve asked for every copy; answers false when the target has enough to do (then another is tried), and counts it otherwise
 */
export function planCopies(
  ordered: readonly ClassNeed[],
  nodes: PlanNodes,
  ask: {
    taking(chunk: ChunkId): readonly NodeId[];
    isSkipped(chunk: ChunkId): boolean;
    hasRoom(node: NodeId): boolean;
    take(copy: PlannedCopy): void;
    /** Nothing has room any more: stop looking. */
    isFull(): boolean;
    lookAtMost: number;
  },
): void {
  let looked = 0;
  let turn = 0;
  for (const { chunks, replicas, judgement } of ordered) {
    // While other nodes are at work, the only free one often holds all chunks of this class already: not one of them need be looked at.
    const targets = [...nodes.values()].filter((node) => node.isWritable && !replicas.includes(node.node)).map(({ node }) => node);
    for (const chunk of chunks) {
      if (!targets.some((node) => ask.hasRoom(node))) break;
      if (++looked > ask.lookAtMost || ask.isFull()) return;
      if (ask.isSkipped(chunk)) continue;
      let taken = [...replicas, ...ask.taking(chunk)];
      const already = ask.taking(chunk).length;
      for (let missing = judgement.missing - already; missing > 0; missing--) {
        const to = chooseTarget(chunk, judgement.counted, taken, nodes, (node) => ask.hasRoom(node.node));
        if (to === undefined) break;
        taken = [...taken, to];
        // Sources take turns, so that no single node serves everybody.
        const { good } = judgement;
        const from = good.map((_, i) => good[(i + turn) % good.length] as NodeId);
        turn++;
        ask.take({ chunk, to, from, drains: judgement.drains });
      }
    }
  }
}
