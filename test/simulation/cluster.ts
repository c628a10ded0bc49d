/** A whole cluster in one process on a simulated clock: one coordinator, some nodes, some clients, each on a machine of its own. */
import type { Cluster as ClientLibrary } from '../../client/api.js';
import type { Accept, Dialer } from '../../protocol/call.js';
import type { ChunkPeer } from '../../protocol/chunk-http.js';
import type { ChunkId, NodeId } from '../../protocol/entities.js';
import { HoldfastError } from '../../protocol/errors.js';
import { LEAF_SIZE_BYTES } from '../../protocol/limits.js';
import { Administrator } from './administrator.js';
import { connectClient } from './client-machine.js';
import { CoordinatorMachine } from './coordinator-machine.js';
import { describe, Network } from './network.js';
import { chunkPeer, type NodeSurroundings, SimNode } from './node-machine.js';
import { ClientGone, type ClientSeat } from './program.js';
import { SimProcess, type World } from './world.js';

export const CHUNK_SIZE_BYTES = LEAF_SIZE_BYTES;
export const ADMIN_TOKEN = 'a'.repeat(64);

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

export class Cluster implements NodeSurroundings {
  readonly network: Network;
  readonly coordinator: CoordinatorMachine;
  readonly nodes: SimNode[] = [];
  readonly clients: SimClient[] = [];
  readonly administrator: Administrator;
  listener: ClusterListener | undefined;

  constructor(
    readonly world: World,
    readonly shape: ClusterShape,
  ) {
    this.network = new Network(world);
    this.coordinator = new CoordinatorMachine(this);
    for (let at = 1; at <= shape.nodes; at++) this.nodes.push(new SimNode(this, `n${at}`, `zone${at}`, shape.capacityBytes));
    for (let at = 1; at <= shape.clients; at++) this.clients.push(new SimClient(this, `c${at}`));
    this.administrator = new Administrator(world, ADMIN_TOKEN, (from) => this.dialerOf(from));
  }

  async start(): Promise<void> {
    await this.coordinator.start();
    for (const node of this.nodes) await node.start();
    for (const client of this.clients) await client.start();
  }

  dialerOf(from: SimProcess): Dialer {
    return this.network.dialer(from, this.coordinator.process, (): Accept | undefined => this.coordinator.accept);
  }

  peer(from: SimProcess, url: string, number: NodeId): ChunkPeer {
    return chunkPeer(this, from, url, number);
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
