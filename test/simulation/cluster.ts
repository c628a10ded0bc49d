/** A whole cluster in one process on a simulated clock: one coordinator, some nodes, some clients, each on a machine of its own. */
import type { Cluster as ClientLibrary } from '../../client/api.js';
import { StorageNode } from '../../node/storage-node.js';
import type { Accept, Dialer } from '../../protocol/call.js';
import type { ChunkPeer } from '../../protocol/chunk-http.js';
import type { ChunkId, NodeId } from '../../protocol/entities.js';
import { HoldfastError } from '../../protocol/errors.js';
import { LEAF_SIZE_BYTES } from '../../protocol/limits.js';
import { connectClient } from './client-machine.js';
import { CoordinatorMachine } from './coordinator-machine.js';
import { ChunkDisk, SimChunkStore } from './disk.js';
import { describe, Network } from './network.js';
import { type DiskNodeValues, memoryValues } from './node-values.js';
import { ClientGone, type ClientSeat } from './program.js';
import { SimProcess, type World } from './world.js';

export const CHUNK_SIZE_BYTES = LEAF_SIZE_BYTES;
export const ADMIN_TOKEN = 'a'.repeat(64);
export const NODE_TOKEN = 'b'.repeat(64);

export const MOST_FOR_A_START_MS = 5000;
const urlOf = (node: SimNode): string => `http://${node.name}:7000`;
const sizeOf = (parts: readonly Buffer[]): number => parts.reduce((sum, part) => sum + part.length, 0);

export class SimNode {
  readonly process: SimProcess;
  readonly disk: ChunkDisk;
  private readonly values: DiskNodeValues = memoryValues();
  running: StorageNode | undefined;

  constructor(
    private readonly cluster: Cluster,
    readonly name: string,
    readonly zone: string,
    capacityBytes: number,
  ) {
    this.process = new SimProcess(cluster.world, name);
    this.disk = new ChunkDisk(cluster.world, capacityBytes);
    // With all other nodes away one copy was all there could be: the same as a loss of power for whoever did not sync.
    this.disk.onDropped = (id) => {
      if (!cluster.nodes.some((node) => node.disk.isGood(id))) cluster.nodesLostPower();
    };
  }

  /** A start that is cut short by a kill has no end of its own. */
  async start(): Promise<void> {
    if (!this.process.isAlive) await this.cluster.within(MOST_FOR_A_START_MS, this.begin());
  }
  private async begin(): Promise<void> {
    const { cluster } = this;
    const environment = this.process.start();
    const { incarnation } = this.process;
    const node = await StorageNode.create({
      environment,
      store: new SimChunkStore(this.disk, this.process),
      state: this.values.of(this.process),
      dialer: cluster.dialerOf(this.process),
      peerAt: (url) => cluster.peer(this.process, url, 0),
      name: this.name,
      token: NODE_TOKEN,
      zone: this.zone,
      version: '0',
      onFatal: (error) => cluster.world.fail(`${this.name} is refused for good: ${error.code} ${error.message}`),
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
    await this.cluster.within(10_000, running?.stop('stopped') ?? Promise.resolve());
    if (this.process.isCurrent(incarnation)) this.kill(false);
  }
}

export class SimClient implements ClientSeat {
  readonly process: SimProcess;
  life = 0;
  private library: ClientLibrary | undefined;
  private starting: Promise<void> | undefined;
  private readonly askers = new Set<(error: ClientGone) => void>();

  constructor(
    private readonly cluster: Cluster,
    readonly name: string,
  ) {
    this.process = new SimProcess(cluster.world, name);
  }
  get isAlive(): boolean {
    return this.process.isAlive;
  }
  start(): Promise<void> {
    if (this.process.isAlive) return Promise.resolve();
    const environment = this.process.start();
    this.life++;
    const { life, cluster } = this;
    const connected = connectClient(cluster, this.process, environment, this.name, () => cluster.clientLostData(this));
    this.starting = connected.then(
      (library) => {
        if (this.life === life) this.library = library;
      },
      (error: unknown) => {
        if (this.life !== life || !this.process.isAlive) return;
        cluster.world.note(`${this.name} could not connect: ${String(error)}`);
        if (!(error instanceof HoldfastError)) cluster.world.fail(`${this.name} could not connect: ${describe(error)}`);
        // As a person would: starts it again.
        this.kill();
        cluster.world.schedule(500, '', () => void this.start());
      },
    );
    return Promise.resolve();
  }
  kill(): void {
    if (!this.process.isAlive) return;
    this.process.kill(false);
    this.library = undefined;
    this.life++;
    for (const reject of [...this.askers]) reject(new ClientGone(`${this.name} is gone`));
    this.askers.clear();
    this.cluster.clientDied(this);
  }
  get isConnected(): boolean {
    return this.library !== undefined;
  }
  get connected(): ClientLibrary | undefined {
    return this.library;
  }
  use<T>(action: (cluster: ClientLibrary) => Promise<T>): Promise<T> {
    if (!this.process.isAlive) return Promise.reject(new ClientGone(`${this.name} is gone`));
    const { life } = this;
    return new Promise<T>((resolve, reject) => {
      this.askers.add(reject);
      const finish = (outcome: () => void): void => {
        // A dead process's answers reach nobody.
        if (this.life !== life) return;
        this.askers.delete(reject);
        outcome();
      };
      Promise.resolve(this.starting)
        .then(() => {
          if (!this.library) throw new ClientGone(`${this.name} is not connected`);
          return action(this.library);
        })
        .then(
          (value) => finish(() => resolve(value)),
          (error: unknown) => finish(() => reject(error as Error)),
        );
    });
  }
}

export interface ClusterListener {
  /** Written bytes that were not flushed are gone, and the client said so. */
  clientLostData(client: SimClient): void;
  clientDied(client: SimClient): void;
  nodesLostPower(): void;
  coordinatorLostPower(): void;
}
export interface ClusterShape {
  readonly nodes: number;
  readonly clients: number;
  readonly deletionGraceMs: number;
  readonly capacityBytes: number;
}

export class Cluster {
  readonly network: Network;
  readonly coordinator: CoordinatorMachine;
  readonly nodes: SimNode[] = [];
  readonly clients: SimClient[] = [];
  listener: ClusterListener | undefined;

  constructor(
    readonly world: World,
    readonly shape: ClusterShape,
  ) {
    this.network = new Network(world);
    this.coordinator = new CoordinatorMachine(this);
    for (let at = 1; at <= shape.nodes; at++) this.nodes.push(new SimNode(this, `n${at}`, `zone${at}`, shape.capacityBytes));
    for (let at = 1; at <= shape.clients; at++) this.clients.push(new SimClient(this, `c${at}`));
  }

  async start(): Promise<void> {
    await this.coordinator.start();
    for (const node of this.nodes) await node.start();
    for (const client of this.clients) await client.start();
  }

  dialerOf(from: SimProcess): Dialer {
    return this.network.dialer(from, this.coordinator.process, (): Accept | undefined => this.coordinator.accept);
  }

  /** How one process moves chunks to and from a node: straight into the service, as its HTTP port would. */
  peer(from: SimProcess, url: string, number: NodeId): ChunkPeer {
    const node = this.nodes.find((one) => urlOf(one) === url);
    const service = (): StorageNode['service'] => {
      if (!node?.running) throw new HoldfastError('UNREACHABLE', 'ECONNREFUSED');
      return node.running.service;
    };
    if (!node) throw new Error(`no node at ${url}`);
    const { network } = this;
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

  clientLostData(client: SimClient): void {
    this.listener?.clientLostData(client);
  }
  clientDied(client: SimClient): void {
    this.listener?.clientDied(client);
  }
  nodesLostPower(): void {
    this.listener?.nodesLostPower();
  }
  coordinatorLostPower(): void {
    this.listener?.coordinatorLostPower();
  }

  /** Waits for a promise, but not longer than that in simulated time. */
  within(limitMs: number, promise: Promise<unknown>): Promise<boolean> {
    return new Promise((resolve) => {
      const timer = this.world.schedule(limitMs, '', () => resolve(false));
      promise.then(
        () => {
          timer.cancel();
          resolve(true);
        },
        () => {
          timer.cancel();
          resolve(true);
        },
      );
    });
  }

  /** Replicas on all disks, by chunk. */
  held(): Map<ChunkId, SimNode[]> {
    const held = new Map<ChunkId, SimNode[]>();
    for (const node of this.nodes)
      for (const id of node.disk.chunks.keys()) {
        const nodes = held.get(id);
        if (nodes) nodes.push(node);
        else held.set(id, [node]);
      }
    return held;
  }
}
