/** A real node in this process: disk, HTTP port and Socket.IO around a StorageNode. */
import { mkdir, readFile } from 'node:fs/promises';
import type { Server } from 'node:http';
import { type AddressInfo, isIP } from 'node:net';
import { type Environment, realEnvironment } from '../protocol/environment.js';
import { HoldfastError } from '../protocol/errors.js';
import { HttpChunkPeer } from '../protocol/http-chunk-peer.js';
import { socketDialer } from '../protocol/socket.js';
import { type PeerTls, serverTls } from '../protocol/tls.js';
import { lockDataDirectory } from './data-lock.js';
import { DiskChunkStore } from './disk-chunk-store.js';
import { fileSystemId } from './file-system-id.js';
import { createChunkServer } from './http-server.js';
import { MetadataStore } from './metadata-store.js';
import { nodeMetrics } from './metrics.js';
import { diskNodeState } from './node-state.js';
import { StorageNode } from './storage-node.js';

/** After this long a stopping node no longer waits for requests under way. */
const DRAIN_TIMEOUT_MS = 4000;

export interface NodeOptions {
  readonly data: string;
  readonly name: string;
  /** http(s)://host:port */
  readonly coordinator: string;
  /** The cluster's node token. Without it the node comes in by a token of its own, kept in its data directory. */
  readonly token?: string;
  /** Counts once: for a node that has no token of its own yet. */
  readonly joinToken?: string;
  /** Default 127.0.0.1. */
  readonly host?: string;
  /** Default 0: any free port. */
  readonly port?: number;
  /** What others call this node by; default follows from host and port. */
  readonly url?: string;
  readonly zone?: string;
  readonly reserveBytes?: number;
  readonly capacityBytes?: number;
  /** With a certificate the node's port speaks HTTPS; the same serves when dialing coordinator and nodes. */
  readonly tls?: PeerTls;
  /** Allows listening beyond this machine without TLS. */
  readonly isInsecureAllowed?: boolean;
  /** The coordinator will never take this node: the reason. The node goes on serving nothing; stop it. */
  readonly onFatal?: (error: HoldfastError) => void;
}

export interface RunningNode {
  readonly url: string;
  readonly node: StorageNode;
  readonly store: DiskChunkStore;
  readonly isRegistered: boolean;
  /** Goodbye, requests under way finished, everything synced. */
  stop(reason?: string): Promise<void>;
}

const isLoopback = (host: string): boolean => host === 'localhost' || host === '::1' || host.startsWith('127.');
const urlHost = (host: string): string => (isIP(host) === 6 ? `[${host}]` : host);

/**
 * Opens the data directory, listens, and begins to register; does not wait for the coordinator.
 * @throws {HoldfastError} EINVAL (options that make no sense), EBUSY (directory in use), REFUSED (directory of another node)
 */
export async function startNode(options: NodeOptions, environment: Environment = realEnvironment()): Promise<RunningNode> {
  const host = options.host ?? '127.0.0.1';
  checkExposure(options, host);
  await mkdir(options.data, { recursive: true, mode: 0o700 });
  const unlock = await lockDataDirectory(options.data);
  const undo: (() => Promise<void>)[] = [unlock];
  try {
    const store = await DiskChunkStore.open({
      data: options.data,
      environment,
      diskId: await fileSystemId(options.data),
      ...(options.reserveBytes === undefined ? {} : { reserveBytes: options.reserveBytes }),
      ...(options.capacityBytes === undefined ? {} : { capacityBytes: options.capacityBytes }),
    });
    undo.push(() => store.close());
    const metadata = await MetadataStore.open(options.data);
    undo.push(() => metadata.close());

    const peers = new Map<string, HttpChunkPeer>();
    undo.push(async () => {
      await Promise.all([...peers.values()].map((peer) => peer.close()));
    });
    const tls = options.tls ? { tls: options.tls } : {};
    const node = await StorageNode.create({
      environment,
      store,
      state: diskNodeState(options.data),
      dialer: socketDialer(options.coordinator, { ...tls, log: environment.log }),
      peerAt: (url) => {
        let peer = peers.get(url);
        if (!peer) {
          peer = new HttpChunkPeer({ node: 0, url, ...tls });
          peers.set(url, peer);
        }
        return peer;
      },
      name: options.name,
      token: options.token,
      joinToken: options.joinToken,
      zone: options.zone ?? '',
      version: await ownVersion(),
      onFatal: (error) => {
        environment.log('error', `the coordinator does not take this node: ${error.message}`, { code: error.code });
        options.onFatal?.(error);
      },
    });

    const server = createChunkServer({
      service: node.service,
      metadata,
      metrics: nodeMetrics(node.service, () => node.scrubber.scrubbedChunks),
      environment,
      identity: () => ({ name: node.identity.name, cluster: node.identity.cluster ?? null }),
      unreadyReasons: () => (node.isRegistered ? [] : ['not registered with the coordinator']),
      ...tls,
    });
    const port = await listening(server, host, options.port ?? 0);
    undo.push(() => drained(server, environment));
    const url = options.url ?? `${serverTls(options.tls) ? 'https' : 'http'}://${urlHost(host)}:${port}`;
    await node.start(url);
    undo.push(() => node.leave('stopping'));
    environment.log('info', 'node is listening', { url, data: options.data, chunks: (await store.usage()).chunkCount });

    let stopping: Promise<void> | undefined;
    return {
      url,
      node,
      store,
      get isRegistered() {
        return node.isRegistered;
      },
      stop: (reason = 'stopping') => {
        stopping ??= node.leave(reason).then(() => unwind(undo));
        return stopping;
      },
    };
  } catch (error) {
    await unwind(undo).catch(() => {});
    throw error;
  }
}

/** Undoes the steps of a start, last first; each is tried whatever happens to the others. */
async function unwind(undo: (() => Promise<void>)[]): Promise<void> {
  let failure: { error: unknown } | undefined;
  for (const step of undo.splice(0).reverse()) {
    try {
      await step();
    } catch (error) {
      failure ??= { error };
    }
  }
  if (failure) throw failure.error;
}

function checkExposure(options: NodeOptions, host: string): void {
  if (!isLoopback(host) && !serverTls(options.tls) && !options.isInsecureAllowed)
    throw new HoldfastError(
      'EINVAL',
      `listening on ${host} would send data and permits in the clear: give --tls-key and --tls-cert, or --insecure if the network is trusted`,
    );
  if ((host === '0.0.0.0' || host === '::') && options.url === undefined)
    throw new HoldfastError('EINVAL', `others cannot reach a node at ${host}: say with --url how they reach it`);
}

function listening(server: Server, host: string, port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      reject(
        error.code === 'EADDRINUSE'
          ? new HoldfastError('EBUSY', `port ${port} on ${host} is in use: stop what listens there, or choose another --listen`)
          : error,
      );
    });
    server.listen(port, host, () => resolve((server.address() as AddressInfo).port));
  });
}

/** No new connections; requests under way may finish, for a while. */
function drained(server: Server, environment: Environment): Promise<void> {
  return new Promise((resolve) => {
    const timer = environment.setTimer(DRAIN_TIMEOUT_MS, () => server.closeAllConnections());
    server.close(() => {
      timer.cancel();
      resolve();
    });
    server.closeIdleConnections();
  });
}

async function ownVersion(): Promise<string> {
  // From the sources the package lies one folder up, from dist two.
  for (const path of ['../package.json', '../../package.json']) {
    try {
      return (JSON.parse(await readFile(new URL(path, import.meta.url), 'utf8')) as { version: string }).version;
    } catch {
      // Try the next place.
    }
  }
  return 'unknown';
}
