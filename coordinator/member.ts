/** One node as the coordinator knows it: its row, its life, its connection, and what it last said about itself. */
import type { Connection, ReplyOf, RequestOf } from '../protocol/call.js';
import type { NodeContact, NodeId, NodeState } from '../protocol/entities.js';
import type { Environment } from '../protocol/environment.js';
import { HoldfastError } from '../protocol/errors.js';
import { MAX_CHUNK_SIZE_BYTES } from '../protocol/limits.js';
import type { NodeServes } from '../protocol/node-calls.js';
import { type Liveness, shownState } from './node-state.js';
import type { NodeRow } from './rows.js';

export interface NodeSpace {
  readonly capacityBytes: number;
  readonly freeBytes: number;
  readonly usedBytes: number;
  readonly chunkCount: number;
  readonly disk?: { readonly id: string; readonly capacityBytes: number; readonly freeBytes: number } | undefined;
}
/** What a node says about its room, alone. */
export const spaceOf = ({ capacityBytes, freeBytes, usedBytes, chunkCount, disk }: NodeSpace): NodeSpace => ({
  ...{ capacityBytes, freeBytes, usedBytes, chunkCount },
  ...(disk && { disk }),
});
export interface Beat extends NodeSpace {
  readonly readBytes: number;
  readonly repairReadBytes?: number | undefined;
  readonly writtenBytes: number;
  readonly errors: number;
  readonly isReadOnly: boolean;
  readonly scrubbedChunks: number;
  readonly metadataSequence?: number;
}
export type InventoryState = 'unknown' | 'running' | 'complete';
type Orders = keyof NodeServes;
type OrderArguments<O extends Orders> = Omit<RequestOf<NodeServes, O>, 'epoch' | 'coordinatorStartId'>;

/** A node with less than this free takes no new chunks: one of the largest must fit, with its header. */
const FULL_BELOW_BYTES = MAX_CHUNK_SIZE_BYTES + 1024 * 1024;
/** A small disk is full later: when a fiftieth is left. */
const isFullWith = (space: NodeSpace): boolean =>
  space.freeBytes < Math.min(FULL_BELOW_BYTES, Math.max(space.capacityBytes / 50, 64 * 1024));

export class Member {
  liveness: Liveness;
  connection: Connection | undefined;
  startId = '';
  space: NodeSpace;
  inventory: InventoryState = 'unknown';
  isReadOnly = false;
  errors = 0;
  scrubbedChunks = 0;
  metadataSequence = 0;
  readBytesPerS = 0;
  /** Without what other nodes fetched by order. */
  userReadBytesPerS = 0;
  writtenBytesPerS = 0;
  /** Readers complained about its speed until then. */
  slowUntilMs = 0;
  private lastBeat:
    | { readonly atMs: number; readonly readBytes: number; readonly userReadBytes: number; readonly writtenBytes: number }
    | undefined;

  constructor(
    readonly id: NodeId,
    public row: NodeRow,
    liveness: Liveness,
    private readonly environment: Environment,
    private readonly identity: { readonly epoch: number; readonly coordinatorStartId: string },
  ) {
    this.liveness = liveness;
    const remembered = (row.memory ?? {}) as Partial<NodeSpace>;
    this.space = {
      capacityBytes: remembered.capacityBytes ?? 0,
      freeBytes: remembered.freeBytes ?? 0,
      usedBytes: remembered.usedBytes ?? 0,
      chunkCount: remembered.chunkCount ?? 0,
    };
  }

  get name(): string {
    return this.row.name;
  }
  get state(): NodeState {
    return shownState(this.liveness.presence, this.row);
  }
  get isUp(): boolean {
    return this.liveness.presence === 'up' && !this.row.isRemoved;
  }
  get isDown(): boolean {
    return this.liveness.presence === 'down' || this.row.isRemoved;
  }
  /** Orders may be sent to it. */
  get isReachable(): boolean {
    return this.isUp && this.connection?.isOpen === true;
  }
  get isFull(): boolean {
    return isFullWith(this.space);
  }
  get isSlow(): boolean {
    return this.environment.monotonicMs() < this.slowUntilMs;
  }
  /** There is room on its disk, whether or not it answers just now. */
  get diskHasRoom(): boolean {
    return !this.isFull && !this.isReadOnly;
  }
  /** It could take a chunk, whether or not it should. */
  get hasRoom(): boolean {
    return this.isUp && this.diskHasRoom;
  }
  /** New chunks may be placed there. (Slowness is judged where the other nodes are known.) */
  get isWritable(): boolean {
    return this.hasRoom && !this.row.isDraining;
  }
  get contact(): NodeContact {
    return {
      node: this.id,
      name: this.row.name,
      url: this.row.url,
      state: this.state,
      writable: this.isWritable,
      zone: this.row.zone,
      capacityBytes: this.space.capacityBytes,
      freeBytes: this.space.freeBytes,
    };
  }

  beat(beat: Beat): void {
    const nowMs = this.environment.monotonicMs();
    this.space = spaceOf(beat);
    this.isReadOnly = beat.isReadOnly;
    this.errors = beat.errors;
    this.scrubbedChunks = beat.scrubbedChunks;
    this.metadataSequence = beat.metadataSequence ?? 0;
    const last = this.lastBeat;
    const userReadBytes = beat.readBytes - (beat.repairReadBytes ?? 0);
    if (last && nowMs - last.atMs >= 100) {
      const seconds = (nowMs - last.atMs) / 1000;
      this.readBytesPerS = Math.max(0, beat.readBytes - last.readBytes) / seconds;
      this.userReadBytesPerS = Math.max(0, userReadBytes - last.userReadBytes) / seconds;
      this.writtenBytesPerS = Math.max(0, beat.writtenBytes - last.writtenBytes) / seconds;
    }
    if (!last || nowMs - last.atMs >= 100)
      this.lastBeat = { atMs: nowMs, readBytes: beat.readBytes, userReadBytes, writtenBytes: beat.writtenBytes };
  }
  /** A new process of the node counts from zero. */
  restarted(): void {
    this.lastBeat = undefined;
    this.readBytesPerS = 0;
    this.userReadBytesPerS = 0;
    this.writtenBytesPerS = 0;
  }

  /**
   * Orders something from the node.
   * @throws {HoldfastError} UNREACHABLE, DEADLINE, STALE_EPOCH, or what the node answers
   */
  order<O extends Orders>(method: O, args: OrderArguments<O>, timeoutMs: number): Promise<ReplyOf<NodeServes, O>> {
    const { connection } = this;
    if (!connection?.isOpen) return Promise.reject(new HoldfastError('UNREACHABLE', `node ${this.name} is not connected`));
    return connection.call({ method, args: { ...args, ...this.identity } }, timeoutMs) as Promise<ReplyOf<NodeServes, O>>;
  }

  /** Ends the connection: the node has to register again, and its inventory is taken anew. */
  disconnect(reason: string): void {
    this.connection?.close(reason);
  }
}
