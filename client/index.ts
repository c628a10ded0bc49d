/** The door of the client library. */
import type { Dialer } from '../protocol/call.js';
import type { Environment } from '../protocol/environment.js';
import { HttpChunkPeer } from '../protocol/http-chunk-peer.js';
import { socketDialer } from '../protocol/socket.js';
import type { Cluster, ConnectOptions } from './api.js';
import { ConnectedCluster } from './cluster.js';
import { liveEnvironment } from './live-environment.js';
import type { PeerFactory } from './node-pool.js';

export { type AdminConnection, type AdminOptions, connectAdmin, type Watch } from './admin.js';
export * from './api.js';
export { writeKeyFile } from './key-file.js';
export { liveEnvironment } from './live-environment.js';
export type { PeerFactory } from './node-pool.js';
export { peerTls } from './own-certificate.js';
export { newEncryption, passphraseIn } from './volume-key.js';

/** Replaceable by a simulation: everything the client touches outside itself. */
export interface ConnectParts {
  readonly environment?: Environment;
  readonly dialer?: Dialer;
  readonly peers?: PeerFactory;
  readonly log?: Environment['log'];
}

/**
 * Connects to a cluster and opens a volume.
 * @throws {HoldfastError} UNREACHABLE when the coordinator cannot be reached in time; UNAUTHORIZED, PROTOCOL_VERSION, ENOENT (no such volume) at once
 */
export function connect(options: ConnectOptions, parts: ConnectParts = {}): Promise<Cluster> {
  const environment = parts.environment ?? liveEnvironment(parts.log);
  const tls = options.tls ? { tls: options.tls } : {};
  const dialer = parts.dialer ?? socketDialer(options.coordinatorUrl, { ...tls, log: environment.log });
  const peers = parts.peers ?? ((contact) => new HttpChunkPeer({ node: contact.node, url: contact.url, ...tls }));
  return ConnectedCluster.connect(options, environment, dialer, peers);
}
