/**
 * Replicas that nobody knows: a client gave up an upload to a node that was late (another node took its place), and the node finished it all
 * the same. Inventories find them, too, but rarely; told by the client, they are counted or deleted at once, so that removing a file frees every disk.
 */
import type { ChunkId, NodeId, VolumeId } from '../protocol/entities.js';
import type { Environment } from '../protocol/environment.js';
import type { Collector } from './collector.js';
import type { Membership } from './membership.js';
import { withReplica } from './rows.js';
import type { State } from './state.js';

const MOST_LOOKS_AT_ONCE = 256;
const VERIFY_TIMEOUT_MS = 30_000;

export interface StraysContext {
  readonly environment: Environment;
  readonly state: State;
  readonly membership: Membership;
  readonly collector: Collector;
  /** A row has a replica more than before. */
  surplusFound(): void;
}

export class Strays {
  private readonly looking = new Set<string>();

  constructor(private readonly context: StraysContext) {}

  /** Has the node look, and enters or deletes what it finds. Never throws, answers nothing; a report too many is dropped. */
  look(node: NodeId, chunk: ChunkId, volume: VolumeId): void {
    const key = `${node}:${chunk}`;
    if (this.looking.has(key) || this.looking.size >= MOST_LOOKS_AT_ONCE || this.isNoStray(node, chunk, volume)) return;
    this.looking.add(key);
    this.settle(node, chunk, volume)
      .catch((error: unknown) =>
        this.context.environment.log('debug', 'a stray replica could not be looked at', { chunk, node, error: String(error) }),
      )
      .finally(() => this.looking.delete(key));
  }

  private isNoStray(node: NodeId, chunk: ChunkId, volume: VolumeId): boolean {
    const row = this.context.state.get('chunks', chunk);
    return this.context.collector.isRemoving(chunk) || (row !== undefined && (row.volume !== volume || row.replicas.includes(node)));
  }

  private async settle(node: NodeId, chunk: ChunkId, volume: VolumeId): Promise<void> {
    const { state, membership, collector } = this.context;
    if (!state.get('chunks', chunk)) {
      await collector.discard(node, [chunk], 'remove');
      return;
    }
    const member = membership.get(node);
    if (!member?.isReachable) return;
    const { good } = await member.order('verify', { chunks: [chunk] }, VERIFY_TIMEOUT_MS);
    const row = state.get('chunks', chunk);
    if (!good.includes(chunk) || this.isNoStray(node, chunk, volume)) return;
    if (!row) {
      await collector.discard(node, [chunk], 'remove');
      return;
    }
    state.transact((tx) => tx.put('chunks', chunk, withReplica(row, node)));
    this.context.surplusFound();
  }
}
