/**
 * A coordinator as a process has it: data directory, database, journal and sockets around the core. Order of a start: lock the directory, listen
 * (answering "not ready"), load, begin the new epoch, accept.
 */
import { createPrivateKey, type KeyObject } from 'node:crypto';
import { createServer, type Server as HttpServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { AUTHORITY_PATH, CERTIFICATES_PATH, MAX_ENROLMENT_BYTES } from '../protocol/enrolment.js';
import { type Environment, realEnvironment } from '../protocol/environment.js';
import { HoldfastError, toWire } from '../protocol/errors.js';
import { limitPeers } from '../protocol/peer-limit.js';
import { accessKeyOf, isSameSecret, metricsTokenOf } from '../protocol/permit.js';
import { listen } from '../protocol/socket.js';
import { type PeerTls, serverTls } from '../protocol/tls.js';
import { BackupFile } from './backup.js';
import { CertificateDesk, statusOf } from './certificate-desk.js';
import { createClusterKeeper } from './cluster-keeper.js';
import { Coordinator, type CoordinatorOptions } from './coordinator.js';
import { type DataDirectory, damagedMessage, openDataDirectory, writeDurably } from './data-directory.js';
import { Database } from './database.js';
import { JournalDamaged } from './journal.js';
import { JournalFiles } from './journal-files.js';
import { coordinatorPermit, HttpMetadataPeer } from './metadata-peer.js';
import { StoreDamaged } from './metadata-store.js';

/** Of which the coordinator itself never needs it: monitoring is told where it is. */
const METRICS_TOKEN_FILE = 'metrics-token';
/** Behind one address there may be many mounts and a node of each disk. */
const MAX_CONNECTIONS_PER_ADDRESS = 1500;

interface Ready {
  coordinator?: Coordinator;
  metricsToken?: string;
}

export interface ServerOptions {
  readonly data: string;
  readonly host: string;
  /** 0 = any free one. */
  readonly port: number;
  /** Allows addresses beyond this machine without TLS. */
  readonly isInsecureAllowed?: boolean;
  /** With a certificate we speak HTTPS; the same serves when calling nodes. */
  readonly tls?: PeerTls;
  /** Key of the authority in `tls.ca`, PEM: who shows a token gets a certificate. */
  readonly authorityKey?: string;
  /** Nodes that keep a copy of the metadata; default 2. */
  readonly metadataCopies?: number;
  readonly coordinator?: Partial<CoordinatorOptions>;
  /** The process must end with a failure; the next start recovers. */
  readonly onFatal?: (error: Error) => void;
}

export interface RunningCoordinator {
  readonly url: string;
  readonly coordinator: Coordinator;
  readonly adminToken: string;
  readonly nodeToken: string;
  stop(): Promise<void>;
  /** As if killed: nothing more is written, connections break. For tests. */
  crash(): Promise<void>;
}

const isLoopback = (host: string): boolean => host === 'localhost' || host === '::1' || /^127\./.test(host);

/** @throws {HoldfastError} EBUSY, REFUSED, EINVAL with a message for people */
export async function startCoordinator(options: ServerOptions, environment: Environment = realEnvironment()): Promise<RunningCoordinator> {
  if (!isLoopback(options.host) && !serverTls(options.tls) && !options.isInsecureAllowed)
    throw new HoldfastError(
      'EINVAL',
      `${options.host} is reachable from other machines: give --tls-key and --tls-cert, or --insecure if the network is trusted`,
    );
  const desk = deskOf(options);
  const directory = await openDataDirectory(options.data).catch((error: unknown) => {
    throw diskFull(error, options.data) ?? error;
  });
  let http: HttpServer | undefined;
  try {
    const ready: Ready = {};
    http = await openHttp(options, ready, desk, environment);
    const scheme = serverTls(options.tls) ? 'https' : 'http';
    const { port } = http.address() as AddressInfo;
    const url = `${scheme}://${options.host.includes(':') ? `[${options.host}]` : options.host}:${port}`;
    const { coordinator, store, journalStorage } = await startCore(options, environment, directory, url, desk?.fingerprint);
    const mayConnect = desk ? { mayConnect: (request: IncomingMessage) => desk.isMember(request) } : {};
    const sockets = listen(http, coordinator.accept, { log: environment.log, ...mayConnect });
    ready.coordinator = coordinator;
    ready.metricsToken = metricsTokenOf(accessKeyOf(directory.nodeToken, directory.cluster));
    await writeDurably(directory.path, METRICS_TOKEN_FILE, `${ready.metricsToken}\n`, 0o600);
    await writeDurably(directory.path, 'url', `${url}\n`, 0o644);
    environment.log('info', 'coordinator is ready', { url, cluster: directory.cluster, epoch: coordinator.epoch });
    const close = async (): Promise<void> => {
      delete ready.coordinator;
      sockets.close();
      await closeHttp(http as HttpServer);
      await directory.unlock();
    };
    return {
      url,
      coordinator,
      adminToken: directory.adminToken,
      nodeToken: directory.nodeToken,
      stop: async () => {
        await coordinator.stop();
        await close();
      },
      crash: async () => {
        coordinator.crash();
        await Promise.all([store.close(), journalStorage.close()]);
        await close();
      },
    };
  } catch (error) {
    if (http) await closeHttp(http);
    await directory.unlock();
    throw diskFull(error, options.data) ?? error;
  }
}

/** A full disk in words, when that is what stopped the start. */
function diskFull(error: unknown, data: string): HoldfastError | undefined {
  const isFull = ['ENOSPC', 'EDQUOT', 'SQLITE_FULL'].includes((error as { code?: string }).code ?? '') && !(error instanceof HoldfastError);
  if (!isFull) return undefined;
  return new HoldfastError('ENOSPC', `the disk of ${data} is full: free some space there and start the coordinator again; nothing is lost`);
}

/** @throws {HoldfastError} EINVAL */
function deskOf({ tls, authorityKey }: ServerOptions): CertificateDesk | undefined {
  if (authorityKey === undefined) return undefined;
  if (!tls?.ca || !tls.cert) throw new HoldfastError('EINVAL', '--tls-ca-key needs --tls-ca, --tls-cert and --tls-key as well');
  let key: KeyObject;
  try {
    key = createPrivateKey(authorityKey);
  } catch {
    throw new HoldfastError('EINVAL', '--tls-ca-key is no private key (PEM)');
  }
  return new CertificateDesk({ key: authorityKey, cert: tls.ca }, tls.cert, (cert) => cert.checkPrivateKey(key));
}

async function startCore(
  options: ServerOptions,
  environment: Environment,
  directory: DataDirectory,
  url: string,
  authority: string | undefined,
) {
  let store: Database | undefined;
  try {
    store = await Database.open(directory.databaseFile, {
      create: directory.isNew,
      cluster: directory.cluster,
      log: (message, facts) => environment.log('info', message, facts),
    });
    const journalStorage = await JournalFiles.open(directory.journalDirectory);
    const permit = coordinatorPermit(accessKeyOf(directory.nodeToken, directory.cluster), directory.cluster);
    const backups = new BackupFile(directory.path);
    const coordinator = await Coordinator.start({
      environment,
      journalStorage,
      store,
      createKeeper: createClusterKeeper,
      ...(options.coordinator ? { options: options.coordinator } : {}),
      cluster: directory.cluster,
      adminToken: directory.adminToken,
      nodeToken: directory.nodeToken,
      ...(authority === undefined ? {} : { authority }),
      onFatal: options.onFatal ?? (() => {}),
      url: () => url,
      metadataCopies: options.metadataCopies ?? 2,
      metadataPeer: (contact) => new HttpMetadataPeer(contact.url, permit, options.tls),
      backup: (running) => backups.take(running),
      readBackup: (offset) => backups.read(offset),
    });
    await directory.ready();
    return { coordinator, store, journalStorage };
  } catch (error) {
    await store?.close().catch(() => {});
    if (error instanceof StoreDamaged || error instanceof JournalDamaged)
      throw new HoldfastError('REFUSED', damagedMessage(directory.path, error.message));
    throw error;
  }
}

async function openHttp(
  options: ServerOptions,
  ready: Ready,
  desk: CertificateDesk | undefined,
  environment: Environment,
): Promise<HttpServer> {
  const answer = (request: IncomingMessage, response: ServerResponse): void => void respond(request, response, ready, desk);
  // Newcomers have no certificate yet: with a desk, whoever has none is told apart by request (desk.isMember), not at the door.
  const tls = serverTls(options.tls, desk !== undefined);
  // Who connects and says nothing, or little now and then, is cut off.
  const timeouts = { headersTimeout: 10_000, requestTimeout: 30_000, connectionsCheckingInterval: 2000, keepAliveTimeout: 30_000 };
  const server = tls ? createTlsServer({ ...timeouts, ...tls }, answer) : createServer(timeouts, answer);
  server.maxConnections = 4000;
  limitPeers(server, { maxPerAddress: MAX_CONNECTIONS_PER_ADDRESS, speaksPlainHttp: !tls, log: environment.log });
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      const where = `${options.host}:${options.port}`;
      if (error.code === 'EADDRINUSE')
        reject(new HoldfastError('EBUSY', `${where} is in use by another program: choose another --listen address`));
      else if (error.code === 'EADDRNOTAVAIL' || error.code === 'ENOTFOUND')
        reject(new HoldfastError('EINVAL', `${where} is not an address of this machine`));
      else if (error.code === 'EACCES')
        reject(new HoldfastError('EINVAL', `${where} may not be used without privileges: choose a port above 1023`));
      else reject(error);
    });
    server.listen(options.port, options.host, resolve);
  });
  return server;
}

async function respond(request: IncomingMessage, response: ServerResponse, ready: Ready, desk: CertificateDesk | undefined): Promise<void> {
  const send = (status: number, text: string, type = 'text/plain; charset=utf-8'): void => {
    response.writeHead(status, { 'content-type': type, 'content-length': Buffer.byteLength(text) });
    response.end(text);
  };
  const path = request.url?.split('?', 1)[0];
  if (desk && path === AUTHORITY_PATH && request.method === 'GET') return send(200, desk.cert, 'application/x-pem-file');
  if (desk && path === CERTIFICATES_PATH && request.method === 'POST') {
    const { status, answer } = await enrol(desk, request, ready.coordinator);
    return send(status, `${JSON.stringify(answer)}\n`, 'application/json');
  }
  if (desk && !desk.isMember(request)) return send(403, 'for peers with a certificate of this cluster\n');
  if (request.method !== 'GET' && request.method !== 'HEAD') return send(405, 'only GET\n');
  if (path === '/healthz') return send(200, 'ok\n');
  if (path === '/readyz') return ready.coordinator ? send(200, 'ready\n') : send(503, 'not ready\n');
  if (path !== '/metrics') return send(404, 'not found\n');
  if (!ready.coordinator || ready.metricsToken === undefined) return send(503, 'not ready\n');
  const { authorization } = request.headers;
  if (!isSameSecret(authorization ?? '', `Bearer ${ready.metricsToken}`))
    return send(401, `metrics are for who has the token in the file ${METRICS_TOKEN_FILE} of the coordinator's data directory\n`);
  try {
    send(200, await ready.coordinator.keeper.metrics(), 'text/plain; version=0.0.4; charset=utf-8');
  } catch {
    send(500, 'metrics failed\n');
  }
}

async function enrol(
  desk: CertificateDesk,
  request: IncomingMessage,
  coordinator: Coordinator | undefined,
): Promise<{ status: number; answer: unknown }> {
  try {
    const parts: Buffer[] = [];
    let length = 0;
    for await (const part of request as AsyncIterable<Buffer>) {
      length += part.length;
      if (length > MAX_ENROLMENT_BYTES) throw new HoldfastError('E2BIG', 'the request is too long');
      parts.push(part);
    }
    if (!coordinator) throw new HoldfastError('NOT_READY', 'the coordinator is starting');
    return { status: 200, answer: await desk.issue(coordinator, parsed(Buffer.concat(parts))) };
  } catch (error) {
    return { status: statusOf(error), answer: { error: toWire(error) } };
  }
}
function parsed(body: Buffer): unknown {
  try {
    return JSON.parse(body.toString('utf8'));
  } catch {
    throw new HoldfastError('BAD_MESSAGE', 'the request is no JSON');
  }
}

function closeHttp(server: HttpServer): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve());
    server.closeAllConnections();
  });
}
