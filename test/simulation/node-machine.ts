/** The machine of a node: its disk outlives its processes, and what a process that was killed had in hand reaches neither the disk nor anybody. */
import { StorageNode } from '../../node/storage-node.js';
import type { Dialer } from '../../protocol/call.js';
import type { ChunkPeer } from '../../protocol/chunk-http.js';
import type { NodeId } from '../../protocol/entities.js';
import { HoldfastError } from '../../protocol/errors.js';
import { ChunkDisk, SimChunkStore } from './disk.js';
import type { Network } from './network.js';
import { type DiskNodeValues, memoryValues } from './node-values.js';
import { SimProcess, type World } from './world.js';

export const NODE_TOKEN = 'b'.repeat(64);
export const MOST_FOR_A_START_MS = 5000;
const urlOf = (node: SimNode): string => `http://${node.name}:7000`;
const sizeOf = (parts: readonly Buffer[]): number => parts.reduce((sum, part) => sum + part.length, 0);

/** What a node needs of the world it is in. */
export interface NodeSurroundings {
  readonly world: World;
  readonly network: Network;
  readonly nodes: readonly SimNode[];
  dialerOf(from: SimProcess): Dialer;
  /** Bytes that were not synced may be gone. */
  nodesLostPower(): void;
}

export class SimNode {
  readonly process: SimProcess;
  readonly disk: ChunkDisk;
  private readonly values: DiskNodeValues = memoryValues();
  running: StorageNode | undefined;

  constructor(
    private readonly around: NodeSurroundings,
    readonly name: string,
    readonly zone: string,
    capacityBytes: number,
  ) {
    this.process = new SimProcess(around.world, name);
    this.disk = new ChunkDisk(around.world, capacityBytes);
    // With all other nodes away one copy was all there could be: the same as a loss of power for whoever did not sync.
    this.disk.onDropped = (id) => {
      if (!around.nodes.some((node) => node.disk.isGood(id))) around.nodesLostPower();
    };
  }

  /** A start that is cut short by a kill has no end of its own. */
  async start(): Promise<void> {
    if (!this.process.isAlive) await this.around.world.within(MOST_FOR_A_START_MS, this.begin());
  }
  private async begin(): Promise<void> {
    const { around } = this;
    const environment = this.process.start();
    const { incarnation } = this.process;
    const node = await StorageNode.create({
      environment,
      store: new SimChunkStore(this.disk, this.process),
      state: this.values.of(this.process),
      dialer: around.dialerOf(this.process),
      peerAt: (url) => chunkPeer(around, this.process, url, 0),
      name: this.name,
      token: NODE_TOKEN,
      zone: this.zone,
      version: '0',
      onFatal: (error) => around.world.fail(`${this.name} is refused for good: ${error.code} ${error.message}`),
    });
    if (!this.process.isCurrent(incarnation)) return;
    this.running = node;
    await node.start(urlOf(this));
  }
  kill(isPowerLoss: boolean): void {
    if (!this.process.isAlive) return;
    this.process.kill(isPowerLoss);
    this.running = undefined;
    if (isPowerLoss) this.disk.powerLost();
  }
  async stopCleanly(): Promise<void> {
    const { running } = this;
    const { incarnation } = this.process;
    // Like SIGTERM: it has 10 s, then it is killed.
    await this.around.world.within(10_000, running?.stop('stopped') ?? Promise.resolve());
    if (this.process.isCurrent(incarnation)) this.kill(false);
  }
}

/** How one process moves chunks to and from a node: straight into the service, as its HTTP port would. */
export function chunkPeer(around: NodeSurroundings, from: SimProcess, url: string, number: NodeId): ChunkPeer {
  const node = around.nodes.find((one) => urlOf(one) === url);
  const service = (): StorageNode['service'] => {
    if (!node?.running) throw new HoldfastError('UNREACHABLE', 'ECONNREFUSED');
    return node.running.service;
  };
  if (!node) throw new Error(`no node at ${url}`);
  const { network } = around;
  return {
    node: number,
    put: (chunks, options) => {
      const items = chunks.map(({ id, parts }) => ({ id, encoded: Buffer.concat(parts) }));
      const sizeBytes = sizeOf(items.map((item) => item.encoded));
      return network.request(
        from,
        node.process,
        `put ${items.map((item) => item.id.slice(0, 6)).join(' ')}${options.durable ? ' durable' : ''}`,
        sizeBytes,
        options,
        async () => {
          const results = await service().put(service().authorize(options.permit, 'write'), items, options.durable);
          // One chunk goes as PUT: its failure is the failure of the request.
          if (results.length === 1 && results[0] instanceof HoldfastError) throw results[0];
          return results;
        },
        () => 0,
      );
    },
    get: (chunk, leaves, options) =>
      network.request(
        from,
        node.process,
        `get ${chunk.slice(0, 6)}`,
        0,
        options,
        async () => {
          const [first, count] = leaves === 'all' ? [0, Number.POSITIVE_INFINITY] : [leaves.first, leaves.count];
          return Buffer.from(await service().get(service().authorize(options.permit, 'read'), chunk, first, count));
        },
        (bytes) => bytes.length,
      ),
    sync: (chunks, options) =>
      network.request(
        from,
        node.process,
        `sync ${chunks.length}`,
        0,
        options,
        async () => ({ missing: await service().sync(service().authorize(options.permit, 'write'), chunks) }),
        () => 0,
      ),
  };
}
