/** A storage node without sockets and disks: service, replicator, scrubber and registration put together over what it is given. Simulations run it as it is. */
import type { Dialer } from '../protocol/call.js';
import type { ChunkPeer } from '../protocol/chunk-http.js';
import type { Environment } from '../protocol/environment.js';
import type { HoldfastError } from '../protocol/errors.js';
import { ChunkService } from './chunk-service.js';
import type { ChunkStore } from './chunk-store.js';
import { Credentials } from './credentials.js';
import { Identity } from './identity.js';
import type { NodeState } from './node-state.js';
import { type OrderHandlers, Registration } from './registration.js';
import { Replicator } from './replicator.js';
import { Scrubber } from './scrubber.js';

export interface StorageNodeParts {
  readonly environment: Environment;
  readonly store: ChunkStore;
  readonly state: NodeState;
  readonly dialer: Dialer;
  /** Somebody to fetch chunks from, by URL. */
  readonly peerAt: (url: string) => ChunkPeer;
  readonly name: string;
  /** The cluster's node token. Without it the node comes in by a token of its own, for the first time by a join token. */
  readonly token?: string | undefined;
  readonly joinToken?: string | undefined;
  readonly zone: string;
  readonly version: string;
  /** Called when the coordinator will never take this node; the caller stops it. */
  readonly onFatal: (error: HoldfastError) => void;
}

export class StorageNode {
  readonly service: ChunkService;
  readonly replicator: Replicator;
  readonly scrubber: Scrubber;
  private registration: Registration | undefined;

  private constructor(
    private readonly parts: StorageNodeParts,
    readonly identity: Identity,
    private readonly credentials: Credentials,
  ) {
    this.service = new ChunkService(parts.store, parts.environment);
    this.replicator = new Replicator(this.service, parts.environment, parts.peerAt);
    this.scrubber = new Scrubber(this.service, parts.environment, parts.state);
    this.service.onBadReplica = (chunk, problem, detail, foundBy) => this.registration?.reportBad({ chunk, problem, detail, foundBy });
    const { cluster } = identity;
    const accessKey = cluster === undefined ? undefined : credentials.accessKey(cluster);
    if (cluster !== undefined && accessKey) this.service.setHome({ cluster, accessKey });
    this.scrubber.onVerified = (chunks) => this.registration?.reportVerified(chunks);
  }

  /** @throws {HoldfastError} REFUSED when the data belongs to a node of another name */
  static async create(parts: StorageNodeParts): Promise<StorageNode> {
    const identity = await Identity.load(parts.state, parts.name);
    return new StorageNode(parts, identity, await Credentials.load(parts.state, parts, parts.environment));
  }

  get isRegistered(): boolean {
    return this.registration?.isRegistered === true && this.service.isReady;
  }

  /** Begins to register and to scrub. @param url where clients and nodes reach this node's chunks */
  async start(url: string): Promise<void> {
    await this.scrubber.start();
    this.registration = new Registration({
      environment: this.parts.environment,
      dialer: this.parts.dialer,
      credentials: this.credentials,
      identity: this.identity,
      service: this.service,
      orders: this.orders(),
      url,
      zone: this.parts.zone,
      version: this.parts.version,
      scrubbedChunks: () => this.scrubber.scrubbedChunks,
      onRegistered: ({ scrubBytesPerS }) => this.scrubber.setBackgroundRate(scrubBytesPerS),
      onFatal: this.parts.onFatal,
    });
    this.registration.start();
  }

  /** Clean stop: goodbye to the coordinator, position of the scrub saved, store closed. */
  async stop(reason: string): Promise<void> {
    await this.leave(reason);
    await this.parts.store.close();
  }

  /** The first half of a stop: no more registration and scrub, chunks are still served. */
  async leave(reason: string): Promise<void> {
    await this.registration?.stop(reason);
    await this.scrubber.stop();
  }

  /** For simulations: the process is gone, without any goodbye. */
  async crash(): Promise<void> {
    this.registration?.abandon();
    await this.scrubber.stop();
  }

  private orders(): OrderHandlers {
    const { service, replicator, scrubber } = this;
    return {
      inventory: ({ after, limit }) => service.inventory(after, limit),
      copy: async ({ chunks, permit }) => ({ results: await replicator.copy(chunks, permit) }),
      condemn: async ({ chunks }) => service.condemn(chunks),
      remove: ({ chunks }) => service.remove(chunks),
      verify: ({ chunks }) => service.verify(chunks),
      setAside: async ({ chunks }) => ({ setAside: await service.setAside(chunks) }),
      scrub: async ({ action, bytesPerS }) => {
        if (action === 'start') scrubber.startFull(bytesPerS);
        else scrubber.stopFull();
        return {};
      },
    };
  }
}
