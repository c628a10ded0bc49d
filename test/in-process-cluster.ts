/**
 * A coordinator, some nodes and their clients in this process: real sockets on loopback, real disks for the chunks, metadata kept in memory
 * (so that a restart of the coordinator finds what its storage holds). Everybody's tests use this one.
 */
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type AdminConnection, type Cluster, type ConnectOptions, type ConnectParts, connect, connectAdmin } from '../client/index.js';
import { createClusterKeeper } from '../coordinator/cluster-keeper.js';
import { Coordinator, type CoordinatorOptions } from '../coordinator/coordinator.js';
import { MemoryJournalStorage } from '../coordinator/journal-storage.js';
import { MemoryMetadataStore } from '../coordinator/metadata-store.js';
import { type RunningNode, startNode } from '../node/start.js';
import type { LogLevel } from '../protocol/environment.js';
import { realEnvironment } from '../protocol/environment.js';
import { listen, type SocketServer } from '../protocol/socket.js';
import { findFreePort } from '../scripts/cluster-state.js';

export interface InProcessOptions {
  /** Default 3, named n1, n2, ... */
  readonly nodes?: number;
  /** Zone of each node by position; default none. */
  readonly zones?: readonly string[];
  readonly coordinator?: Partial<CoordinatorOptions>;
  readonly nodeCapacityBytes?: number;
}

export interface InProcessCluster {
  readonly coordinatorUrl: string;
  readonly token: string;
  /** Holds a data directory for each node, by name. */
  readonly directory: string;
  /** The running coordinator; changes with a restart. */
  readonly coordinator: Coordinator;
  readonly nodes: Map<string, RunningNode>;
  /** The last log lines of coordinator and nodes: for the message of a failed test. */
  readonly logged: string[];
  connect(options?: Partial<ConnectOptions>, parts?: ConnectParts): Promise<Cluster>;
  admin(): Promise<AdminConnection>;
  startNode(name: string): Promise<RunningNode>;
  stopNode(name: string): Promise<void>;
  stopCoordinator(): Promise<void>;
  /** On the same port, with what its storage holds. */
  startCoordinator(): Promise<void>;
  /** Closes clients, nodes and coordinator and removes their files. */
  stop(): Promise<void>;
}

const MAX_LOG_LINES = 2000;

/** Starts it and waits until every node may be written to. */
export async function startInProcessCluster(options: InProcessOptions = {}): Promise<InProcessCluster> {
  const directory = await mkdtemp(join(tmpdir(), 'holdfast-test-'));
  const logged: string[] = [];
  const logFor =
    (who: string) =>
    (level: LogLevel, message: string, facts?: Record<string, unknown>): void => {
      if (level === 'debug') return;
      logged.push(`${who} ${level} ${message} ${JSON.stringify(facts ?? {})}`);
      if (logged.length > MAX_LOG_LINES) logged.splice(0, MAX_LOG_LINES / 2);
    };
  const token = randomBytes(32).toString('hex');
  const nodeToken = randomBytes(32).toString('hex');
  const cluster = randomBytes(8).toString('hex');
  const journalStorage = new MemoryJournalStorage();
  const store = new MemoryMetadataStore();
  const nodes = new Map<string, RunningNode>();
  const clients = new Set<{ close(): Promise<void> | void }>();
  /** One that no outgoing connection is given, so that it is free when the coordinator comes back. */
  const port = await findFreePort('127.0.0.1', []);
  let running: { coordinator: Coordinator; server: Server; sockets: SocketServer } | undefined;

  const startCoordinator = async (): Promise<void> => {
    const coordinator = await Coordinator.start({
      environment: realEnvironment(logFor('coordinator')),
      journalStorage,
      store,
      createKeeper: createClusterKeeper,
      options: { trashKeepMs: 0, ...options.coordinator },
      cluster,
      adminToken: token,
      nodeToken,
      onFatal: (error) => logFor('coordinator')('error', `fatal: ${error.stack ?? error.message}`),
      url: () => `http://127.0.0.1:${port}`,
    });
    const server = createServer();
    const sockets = listen(server, coordinator.accept, { log: logFor('coordinator') });
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(port, '127.0.0.1', () => resolve());
    });
    running = { coordinator, server, sockets };
  };
  const stopCoordinator = async (): Promise<void> => {
    if (!running) return;
    const { coordinator, server, sockets } = running;
    running = undefined;
    sockets.close();
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    server.closeAllConnections();
    await closed;
    await coordinator.stop();
  };
  const startNamed = async (name: string): Promise<RunningNode> => {
    const zone = options.zones?.[Number(name.slice(1)) - 1];
    const node = await startNode(
      {
        data: join(directory, name),
        name,
        coordinator: `http://127.0.0.1:${port}`,
        token: nodeToken,
        reserveBytes: 1024 * 1024,
        ...(zone === undefined ? {} : { zone }),
        ...(options.nodeCapacityBytes === undefined ? {} : { capacityBytes: options.nodeCapacityBytes }),
      },
      realEnvironment(logFor(name)),
    );
    nodes.set(name, node);
    return node;
  };

  await startCoordinator();
  for (let i = 1; i <= (options.nodes ?? 3); i++) await startNamed(`n${i}`);
  const self: InProcessCluster = {
    get coordinatorUrl() {
      return `http://127.0.0.1:${port}`;
    },
    token,
    directory,
    get coordinator() {
      if (!running) throw new Error('the coordinator is stopped');
      return running.coordinator;
    },
    nodes,
    logged,
    connect: async (given = {}, parts = {}) => {
      const client = await connect(
        { coordinatorUrl: self.coordinatorUrl, token, description: 'test', ...given },
        { log: logFor(given.description ?? 'client'), ...parts },
      );
      clients.add(client);
      return client;
    },
    admin: async () => {
      const admin = await connectAdmin({ coordinatorUrl: self.coordinatorUrl, token, description: 'test admin' });
      clients.add(admin);
      return admin;
    },
    startNode: startNamed,
    stopNode: async (name) => {
      const node = nodes.get(name);
      nodes.delete(name);
      await node?.stop();
    },
    stopCoordinator,
    startCoordinator,
    stop: async () => {
      await Promise.allSettled([...clients].map(async (client) => client.close()));
      await Promise.allSettled([...nodes.values()].map((node) => node.stop()));
      await stopCoordinator();
      await rm(directory, { recursive: true, force: true });
    },
  };
  // The coordinator offers a node to clients a moment before the answer to its registration has reached it, which then would turn them away.
  const isTaken = (): boolean =>
    self.coordinator.keeper.contacts().filter((contact) => contact.writable).length === nodes.size &&
    [...nodes.values()].every((node) => node.isRegistered);
  await waitFor(isTaken, 'nodes to register');
  return self;
}

/** Polls until the condition holds. @throws after timeoutMs, saying what did not happen */
export async function waitFor(condition: () => boolean | Promise<boolean>, what: string, timeoutMs = 30_000): Promise<void> {
  const untilMs = performance.now() + timeoutMs;
  while (!(await condition())) {
    if (performance.now() > untilMs) throw new Error(`waited ${timeoutMs} ms for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
