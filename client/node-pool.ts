/**
 * The nodes as this client sees them: contacts from the coordinator, one peer per node, how fast each answers, and which ones it has just
 * seen failing (the coordinator needs seconds to notice what we notice at once).
 */
import type { ChunkPeer } from '../protocol/chunk-http.js';
import type { ChunkId, NodeContact, NodeId } from '../protocol/entities.js';
import type { Environment } from '../protocol/environment.js';
import { placementOrder } from '../protocol/placement.js';

/** Opens a peer for a contact's url; called again when the url has changed. */
export type PeerFactory = (contact: NodeContact) => ChunkPeer & { close?(): void | Promise<void> };

const DISTRUST_MS = 3000;
/** Weight of the newest answer time in the moving average. */
const NEW_SHARE = 0.1;

export class NodePool {
  private contacts = new Map<NodeId, NodeContact>();
  private readonly peers = new Map<NodeId, { url: string; peer: ReturnType<PeerFactory> }>();
  private readonly distrustedUntilMs = new Map<NodeId, number>();
  private readonly getMs = new Map<NodeId, number>();
  /** Moving average over all nodes, so one slow node stands out and a slow machine does not. */
  private putMs = 20;
  private readonly waiters = new Set<() => void>();

  constructor(
    private readonly environment: Environment,
    private readonly factory: PeerFactory,
  ) {}

  get all(): readonly NodeContact[] {
    return [...this.contacts.values()];
  }

  update(contacts: readonly NodeContact[]): void {
    this.contacts = new Map(contacts.map((contact) => [contact.node, contact]));
    for (const [node, { url, peer }] of this.peers) {
      if (this.contacts.get(node)?.url === url) continue;
      this.peers.delete(node);
      Promise.resolve(peer.close?.()).catch(() => {}); // Requests under way fail by themselves and are tried elsewhere.
    }
    const waiting = [...this.waiters];
    this.waiters.clear();
    for (const wake of waiting) wake();
  }

  contact(node: NodeId): NodeContact | undefined {
    return this.contacts.get(node);
  }

  peer(node: NodeId): ChunkPeer | undefined {
    const known = this.peers.get(node);
    if (known) return known.peer;
    const contact = this.contacts.get(node);
    if (!contact) return undefined;
    const peer = this.factory(contact);
    this.peers.set(node, { url: contact.url, peer });
    return peer;
  }

  /** How many nodes may take new chunks, as the coordinator sees it. */
  get writableCount(): number {
    let count = 0;
    for (const contact of this.contacts.values()) if (contact.writable) count++;
    return count;
  }

  /** Where a new chunk should go, best first; nodes we have just seen failing come last. */
  candidates(chunk: ChunkId): NodeId[] {
    const writable = this.all.filter((contact) => contact.writable);
    const order = placementOrder(
      chunk,
      writable.map(({ node, zone, capacityBytes }) => ({ node, zone, weight: Math.max(1, capacityBytes) })),
    );
    if (this.distrustedUntilMs.size === 0) return order;
    return [...order.filter((node) => !this.isDistrusted(node)), ...order.filter((node) => this.isDistrusted(node))];
  }

  /** Order in which to read from the nodes that hold a chunk: healthy and quick ones first, those believed down last. */
  readOrder(nodes: readonly NodeId[]): NodeId[] {
    if (nodes.length === 1) return [...nodes];
    const rank = (node: NodeId): number => {
      const state = this.contacts.get(node)?.state;
      const standing = state === 'up' || state === 'draining' ? 0 : state === 'suspect' ? 2 : 3;
      return standing + (this.isDistrusted(node) ? 1 : 0);
    };
    const ranked = nodes
      .filter((node) => this.contacts.has(node))
      .map((node) => ({ node, rank: rank(node), ms: this.getMs.get(node) ?? 0 }));
    // Among equals chance spreads the load; a node that answers three times slower than another is asked second.
    const chance = this.environment.random() < 0.5 ? 1 : -1;
    ranked.sort((a, b) => a.rank - b.rank || (a.ms > 3 * b.ms + 5 ? 1 : b.ms > 3 * a.ms + 5 ? -1 : chance));
    return ranked.map(({ node }) => node);
  }

  distrust(node: NodeId): void {
    this.distrustedUntilMs.set(node, this.environment.monotonicMs() + DISTRUST_MS);
  }

  trust(node: NodeId): void {
    this.distrustedUntilMs.delete(node);
  }

  isDistrusted(node: NodeId): boolean {
    const untilMs = this.distrustedUntilMs.get(node);
    if (untilMs === undefined) return false;
    if (this.environment.monotonicMs() < untilMs) return true;
    this.distrustedUntilMs.delete(node);
    return false;
  }

  notePut(tookMs: number): void {
    this.putMs += (tookMs - this.putMs) * NEW_SHARE;
  }

  noteGet(node: NodeId, tookMs: number): void {
    const known = this.getMs.get(node);
    this.getMs.set(node, known === undefined ? tookMs : known + (tookMs - known) * NEW_SHARE);
  }

  /** When a put counts as late and another node is given the chunk as well. */
  get putIsLateMs(): number {
    return Math.min(Math.max(300, this.putMs * 6), 3000);
  }

  /** When a get counts as late and a second replica is asked as well. */
  getIsLateMs(node: NodeId): number {
    return Math.min(Math.max(20, (this.getMs.get(node) ?? 20) * 5), 400);
  }

  /** Resolves at the next news about nodes, or after this time. */
  news(waitMs: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = this.environment.setTimer(waitMs, () => {
        this.waiters.delete(wake);
        resolve();
      });
      const wake = (): void => {
        timer.cancel();
        resolve();
      };
      this.waiters.add(wake);
    });
  }

  async close(): Promise<void> {
    const open = [...this.peers.values()];
    this.peers.clear();
    await Promise.allSettled(open.map(async ({ peer }) => peer.close?.()));
  }
}
