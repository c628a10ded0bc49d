/** Chunks of one file that lie at nodes, perhaps only in their memory, since the last sync; and how they are made stable. */
import type { ChunkId, ChunkLocation, NodeId } from '../protocol/entities.js';
import { sleep } from '../protocol/environment.js';
import { HoldfastError, isCode } from '../protocol/errors.js';
import type { ClientCore } from './core.js';
import type { PendingChunk } from './pending-cut.js';

/** Nodes make everything stable within half a second by themselves, so the oldest of very many need no reminder. */
const MAX_CHUNKS = 20_000;
/** Few in a call: a disk that is slow but works gets through one page after the other, however much there is. */
const CHUNKS_PER_CALL = 64;
/** Then it is looked whether the node still lives. What it has begun to sync goes on. */
const SYNC_TIMEOUT_MS = 5000;
const TRY_FOR_MS = 5000;
const PAUSE_MS = 100;
const GET_TIMEOUT_MS = 4000;

export class UnsyncedChunks {
  private chunks = new Map<ChunkId, readonly NodeId[]>();

  constructor(private readonly core: ClientCore) {}

  get isEmpty(): boolean {
    return this.chunks.size === 0;
  }

  /** Just uploaded, or found to exist (then somebody else may have uploaded it a moment ago). */
  note(chunk: PendingChunk): void {
    const nodes = chunk.present?.nodes ?? [...chunk.receipts].filter(([, receipt]) => !receipt.isDurable).map(([node]) => node);
    if (nodes.length === 0) return;
    this.add(chunk.id, nodes);
  }

  noteLocations(locations: readonly ChunkLocation[]): void {
    for (const { chunk, nodes } of locations) this.add(chunk, nodes);
  }

  noteAll(other: UnsyncedChunks): void {
    for (const [chunk, nodes] of other.chunks) this.add(chunk, nodes);
  }

  /**
   * Makes them stable at every node that is there, and at as many as P1 wants.
   * @param which these alone
   * @param pending chunks whose bytes are still here
   * @param referenced which chunks the file consists of now, and learns where they are; asked when some cannot be found: overwritten ones may be
   *   deleted already, others have moved
   * @throws {HoldfastError} EIO when a chunk cannot be made stable at enough nodes; then nothing is forgotten
   */
  async sync(
    pending: Iterable<PendingChunk>,
    referenced: () => Promise<ReadonlySet<ChunkId>>,
    which?: ReadonlySet<ChunkId>,
  ): Promise<void> {
    const asked = this.take(which);
    if (asked.size === 0) return;
    try {
      const stable = await this.askNodes(asked);
      const wanted = Math.max(1, Math.min(this.core.volume.copies, 2, this.core.pool.writableCount));
      const short = [...asked.keys()].filter((chunk) => (stable.get(chunk)?.length ?? 0) < wanted);
      if (short.length > 0) await this.rescue(short, asked, stable, wanted, pending, referenced);
    } catch (error) {
      for (const [chunk, nodes] of asked) this.add(chunk, nodes);
      throw error;
    }
  }

  private take(which: ReadonlySet<ChunkId> | undefined): ReadonlyMap<ChunkId, readonly NodeId[]> {
    const all = this.chunks;
    if (!which) {
      this.chunks = new Map();
      return all;
    }
    const taken = new Map<ChunkId, readonly NodeId[]>();
    for (const chunk of which) {
      const nodes = all.get(chunk);
      if (nodes) taken.set(chunk, nodes);
      all.delete(chunk);
    }
    return taken;
  }

  private add(chunk: ChunkId, nodes: readonly NodeId[]): void {
    const known = this.chunks.get(chunk);
    this.chunks.set(chunk, known ? [...new Set([...known, ...nodes])] : nodes);
    if (this.chunks.size <= MAX_CHUNKS) return;
    const [oldest] = this.chunks.keys();
    if (oldest !== undefined) this.chunks.delete(oldest);
  }

  /** Which nodes hold each chunk on stable storage now. */
  private async askNodes(asked: ReadonlyMap<ChunkId, readonly NodeId[]>): Promise<Map<ChunkId, NodeId[]>> {
    const byNode = new Map<NodeId, ChunkId[]>();
    for (const [chunk, nodes] of asked) {
      for (const node of nodes) {
        const list = byNode.get(node);
        if (list) list.push(chunk);
        else byNode.set(node, [chunk]);
      }
    }
    const stable = new Map<ChunkId, NodeId[]>();
    await Promise.all(
      [...byNode].map(async ([node, ids]) => {
        for (let at = 0; at < ids.length; at += CHUNKS_PER_CALL) {
          const page = ids.slice(at, at + CHUNKS_PER_CALL);
          const missing = await this.askNode(node, page);
          if (!missing) return;
          for (const chunk of page) {
            if (missing.has(chunk)) continue;
            const nodes = stable.get(chunk);
            if (nodes) nodes.push(node);
            else stable.set(chunk, [node]);
          }
        }
      }),
    );
    return stable;
  }

  /** What this node cannot vouch for; undefined when it does not answer and nothing more should be asked of it. */
  private async askNode(node: NodeId, chunks: readonly ChunkId[]): Promise<Set<ChunkId> | undefined> {
    const { environment, pool, session } = this.core;
    const untilMs = environment.monotonicMs() + TRY_FOR_MS;
    const slowUntilMs = environment.monotonicMs() + session.outageTimeoutMs;
    for (;;) {
      const contact = pool.contact(node);
      const peer = pool.peer(node);
      if (!peer || !contact || contact.state === 'down' || contact.state === 'removed') return undefined;
      try {
        const { missing } = await peer.sync(chunks, { permit: session.permit, timeoutMs: SYNC_TIMEOUT_MS });
        return new Set(missing);
      } catch (error) {
        if (isCode(error, 'PERMIT_EXPIRED') && environment.monotonicMs() < slowUntilMs) {
          await session.renewPermit();
          continue;
        }
        // Its disk is busy. Storing everything once more elsewhere would take longer than waiting, on the same disks perhaps.
        const state = pool.contact(node)?.state;
        const isBusy = isCode(error, 'DEADLINE', 'OVERLOADED') && state === 'up';
        if (isBusy && environment.monotonicMs() < slowUntilMs) {
          await sleep(environment, PAUSE_MS);
          continue;
        }
        // With others to go to there is no point in waiting long for a node that has died.
        if (environment.monotonicMs() >= untilMs || state === 'suspect' || pool.writableCount > this.core.volume.copies) return undefined;
        await sleep(environment, PAUSE_MS);
      }
    }
  }

  private report(chunk: ChunkId, node: NodeId): void {
    this.core.session.call('reportReplica', { chunk, node, problem: 'missing' }).catch(() => {}); // Only a hint to the coordinator.
  }

  /** Chunks that too few nodes vouch for are stored durably on other nodes, from our own bytes or from a replica. */
  private async rescue(
    short: readonly ChunkId[],
    asked: ReadonlyMap<ChunkId, readonly NodeId[]>,
    stable: Map<ChunkId, NodeId[]>,
    wanted: number,
    pending: Iterable<PendingChunk>,
    referenced: () => Promise<ReadonlySet<ChunkId>>,
  ): Promise<void> {
    const here = new Map<ChunkId, PendingChunk>();
    for (const chunk of pending) here.set(chunk.id, chunk);
    const inFile = short.every((id) => here.has(id)) ? undefined : await referenced();
    // Chunks move: other nodes may have those of the file by now.
    const moved = new Map<ChunkId, readonly NodeId[]>();
    for (const id of short) {
      const nodes = inFile?.has(id) ? (this.core.locations.get(id)?.nodes ?? []).filter((node) => !asked.get(id)?.includes(node)) : [];
      if (nodes.length > 0) moved.set(id, nodes);
    }
    for (const [id, nodes] of await this.askNodes(moved)) stable.set(id, [...(stable.get(id) ?? []), ...nodes]);
    for (const id of short) {
      if ((!here.has(id) && !inFile?.has(id)) || (stable.get(id)?.length ?? 0) >= wanted) continue;
      for (const node of asked.get(id) ?? []) if (!stable.get(id)?.includes(node)) this.report(id, node);
      const parts = here.get(id)?.parts ?? (await this.fetch(id, [...(asked.get(id) ?? []), ...(moved.get(id) ?? [])]));
      const receipts: PendingChunk['receipts'] = new Map();
      const untilMs = this.core.environment.monotonicMs() + this.core.session.outageTimeoutMs;
      await this.core.uploader.upload([{ id, parts, receipts }], { durable: true, untilMs });
      if (new Set([...(stable.get(id) ?? []), ...receipts.keys()]).size < wanted)
        throw new HoldfastError('EIO', `chunk ${id.slice(0, 12)} is on too few disks to call it safe; see "holdfast status"`);
      const pendingChunk = here.get(id);
      if (pendingChunk) for (const [node, receipt] of receipts) pendingChunk.receipts.set(node, receipt);
    }
  }

  /** @throws {HoldfastError} EIO when no node has it, at once, or when those that may have it do not answer for a while */
  private async fetch(id: ChunkId, nodes: readonly NodeId[]): Promise<readonly Buffer[]> {
    const { environment, pool, session } = this.core;
    const untilMs = environment.monotonicMs() + TRY_FOR_MS;
    for (;;) {
      let mayHaveIt = false;
      for (const node of pool.readOrder(nodes)) {
        const peer = pool.peer(node);
        if (!peer) continue;
        try {
          return [await peer.get(id, 'all', { permit: session.permit, timeoutMs: GET_TIMEOUT_MS })]; // Who stores it checks every byte against the id.
        } catch (error) {
          if (isCode(error, 'PERMIT_EXPIRED')) await session.renewPermit();
          if (!isCode(error, 'CHUNK_MISSING', 'CHUNK_CORRUPT')) mayHaveIt = true;
        }
      }
      if (!mayHaveIt || environment.monotonicMs() >= untilMs) break;
      await sleep(environment, PAUSE_MS);
    }
    throw new HoldfastError('EIO', `chunk ${id.slice(0, 12)} was written but no node gives it back; write the file again`);
  }
}
