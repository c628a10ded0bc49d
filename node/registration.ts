/**
 * The node's side of its connection to the coordinator: dial, register, beat, answer orders, say goodbye; over and over for as long as the node
 * runs. Losing the coordinator does not stop the node from serving chunks: permits name generations, and those stand still meanwhile.
 */
import type { CallFrame, Connection, Dialer, ReplyOf, RequestOf } from '../protocol/call.js';
import type { ChunkId } from '../protocol/entities.js';
import { type Environment, sleep } from '../protocol/environment.js';
import { HoldfastError, isCode } from '../protocol/errors.js';
import { MAX_IDS_PER_CALL, PROTOCOL_VERSION } from '../protocol/limits.js';
import { type NodeCalls, type NodeServes, nodeServes, type Registered } from '../protocol/node-calls.js';
import type { ChunkService, FoundBy } from './chunk-service.js';
import type { ChunkProblem } from './chunk-store.js';
import type { Credentials } from './credentials.js';
import type { Identity } from './identity.js';

const DIAL_TIMEOUT_MS = 5000;
const CALL_TIMEOUT_MS = 5000;
const GOODBYE_TIMEOUT_MS = 1000;
const FIRST_BACKOFF_MS = 100;
/** Nothing can be written before nodes are back after a restart of the coordinator. */
const MAX_BACKOFF_MS = 500;
/** Bad replicas found while the coordinator is away are reported later; more than these it learns from the inventory. */
const MAX_UNREPORTED = 10_000;

/** Answers one order of the coordinator; its epoch has been checked. */
export type OrderHandlers = {
  [M in keyof NodeServes]: (request: RequestOf<NodeServes, M>) => Promise<ReplyOf<NodeServes, M>>;
};

export interface RegistrationOptions {
  readonly environment: Environment;
  readonly dialer: Dialer;
  readonly credentials: Credentials;
  readonly identity: Identity;
  readonly service: ChunkService;
  readonly orders: OrderHandlers;
  readonly url: string;
  readonly zone: string;
  readonly version: string;
  readonly scrubbedChunks: () => number;
  readonly onRegistered: (registered: { scrubBytesPerS: number }) => void;
  /** The coordinator will never take this node as it is: tell people and end. */
  readonly onFatal: (error: HoldfastError) => void;
}

interface BadReplica {
  readonly chunk: ChunkId;
  readonly problem: ChunkProblem;
  readonly detail: string;
  readonly foundBy: FoundBy;
}

export class Registration {
  private connection: Connection | undefined;
  private isStopped = false;
  private wasRegistered = false;
  private lastFailure: string | undefined;
  private running: Promise<void> = Promise.resolve();
  private wake: (() => void) | undefined;
  private readonly unreported = new Map<ChunkId, BadReplica>();

  constructor(private readonly options: RegistrationOptions) {}

  get isRegistered(): boolean {
    return this.connection?.isOpen === true;
  }

  start(): void {
    this.running = this.run();
  }

  /** Says goodbye when connected, and ends. */
  async stop(reason: string): Promise<void> {
    if (this.isStopped) return;
    this.isStopped = true;
    const { connection } = this;
    if (connection) await this.call(connection, 'goodbye', { reason }, GOODBYE_TIMEOUT_MS).catch(() => {});
    connection?.close(reason);
    this.wake?.();
    await this.running;
  }

  /** Ends at once without goodbye, as a crash would. */
  abandon(): void {
    this.isStopped = true;
    this.connection?.close('gone');
    this.wake?.();
  }

  reportBad(bad: BadReplica): void {
    if (this.unreported.size < MAX_UNREPORTED) this.unreported.set(bad.chunk, bad);
    if (this.connection) this.flushReports(this.connection);
  }

  reportVerified(chunks: ChunkId[]): void {
    const { connection } = this;
    if (!connection) return;
    for (let at = 0; at < chunks.length; at += MAX_IDS_PER_CALL)
      this.call(connection, 'verified', { chunks: chunks.slice(at, at + MAX_IDS_PER_CALL) }).catch(() => {
        // "Last verified" stays older than it is; the next scrub corrects it.
      });
  }

  private async run(): Promise<void> {
    const { environment } = this.options;
    let backoffMs = FIRST_BACKOFF_MS;
    while (!this.isStopped) {
      try {
        const registered = await this.connect();
        backoffMs = FIRST_BACKOFF_MS;
        await this.beat(registered.heartbeatIntervalMs);
      } catch (error) {
        // Whoever stopped this closes the connection, once goodbye has been said on it.
        if (this.isStopped) return;
        this.connection?.close('registration failed');
        this.connection = undefined;
        const failure = error instanceof HoldfastError ? error : new HoldfastError('INTERNAL', String(error));
        if (isCode(failure, 'UNAUTHORIZED') && this.options.credentials.refused()) continue;
        if (this.isFatal(failure)) {
          this.isStopped = true;
          this.options.onFatal(failure);
          return;
        }
        // Said once per reason, not at every try for as long as the coordinator is away.
        const isNews = failure.code !== this.lastFailure;
        this.lastFailure = failure.code;
        environment.log(isNews ? 'warn' : 'debug', 'not connected to the coordinator; the node keeps trying', {
          code: failure.code,
          reason: failure.message,
        });
      }
      if (this.isStopped) return;
      // Spread, so that a whole cluster does not knock at the same instant after the coordinator's restart.
      await this.pause(backoffMs * (0.5 + environment.random() / 2));
      backoffMs = Math.min(backoffMs * 2, MAX_BACKOFF_MS);
    }
  }

  private isFatal(error: HoldfastError): boolean {
    if (isCode(error, 'WRONG_CLUSTER', 'REFUSED', 'PROTOCOL_VERSION')) return true;
    // Once taken in, a refused token may be a coordinator that is being set up again: keep trying.
    return !this.wasRegistered && isCode(error, 'UNAUTHORIZED', 'FORBIDDEN');
  }

  private async connect(): Promise<Registered> {
    const { dialer, credentials, identity, service, environment } = this.options;
    const { token, ...ownToken } = credentials.presented;
    const connection = await dialer.dial('node', { protocol: PROTOCOL_VERSION, token }, DIAL_TIMEOUT_MS);
    if (this.isStopped) {
      connection.close('stopping');
      throw new HoldfastError('UNREACHABLE', 'stopping');
    }
    connection.onCall = (frame) => this.answer(frame);
    connection.onClose = () => this.wake?.();
    this.connection = connection;
    const { capacityBytes, freeBytes, usedBytes, chunkCount, disk } = await service.store.usage();
    const registered = await this.call(connection, 'register', {
      name: identity.name,
      ...(identity.cluster === undefined ? {} : { cluster: identity.cluster, node: identity.node }),
      startId: service.startId,
      ...ownToken,
      url: this.options.url,
      zone: this.options.zone,
      version: this.options.version,
      capacityBytes,
      freeBytes,
      usedBytes,
      chunkCount,
      ...(disk && { disk }),
    });
    // Before anything is believed: is it still our cluster, and not an older coordinator than the one obeyed last?
    await identity.joined(registered.cluster, registered.node);
    await identity.obey(registered);
    await credentials.joined(registered.accessKey);
    service.setMembership({
      cluster: registered.cluster,
      node: registered.node,
      accessKey: Buffer.from(registered.accessKey, 'hex'),
      generation: registered.generation,
      revokedClients: new Set(registered.revokedClients),
    });
    this.wasRegistered = true;
    this.lastFailure = undefined;
    this.options.onRegistered(registered);
    environment.log('info', 'registered with the coordinator', {
      coordinator: connection.peer,
      cluster: registered.cluster,
      node: registered.node,
      epoch: registered.epoch,
    });
    this.flushReports(connection);
    return registered;
  }

  private async beat(intervalMs: number): Promise<void> {
    const { service, environment } = this.options;
    const connection = this.connection!;
    let nextMs = environment.monotonicMs();
    while (!this.isStopped && connection.isOpen) {
      const usage = await service.store.usage();
      const beat = await this.call(connection, 'heartbeat', {
        capacityBytes: usage.capacityBytes,
        freeBytes: usage.freeBytes,
        usedBytes: usage.usedBytes,
        chunkCount: usage.chunkCount,
        ...(usage.disk && { disk: usage.disk }),
        readBytes: service.counters.readBytes,
        repairReadBytes: service.counters.repairReadBytes,
        writtenBytes: service.counters.writtenBytes,
        errors: usage.errorCount,
        isReadOnly: usage.isReadOnly,
        scrubbedChunks: this.options.scrubbedChunks(),
      });
      service.renew(beat.generation, beat.revokedClients);
      this.options.onRegistered(beat);
      nextMs = Math.max(nextMs + intervalMs, environment.monotonicMs());
      await this.pause(nextMs - environment.monotonicMs());
    }
    throw new HoldfastError('UNREACHABLE', 'the connection to the coordinator was closed');
  }

  private async answer(frame: CallFrame): Promise<unknown> {
    const { identity, orders } = this.options;
    if (!Object.hasOwn(nodeServes, frame.method)) throw new HoldfastError('BAD_MESSAGE', `nodes do not serve ${frame.method}`);
    const method = frame.method as keyof NodeServes;
    const parsed = nodeServes[method].request.safeParse(frame.args);
    if (!parsed.success) throw new HoldfastError('BAD_MESSAGE', `${method}: ${parsed.error.issues[0]?.message ?? 'malformed'}`);
    const saved = identity.obey(parsed.data as { epoch: number; coordinatorStartId: string });
    if (saved) await saved;
    return (orders[method] as (request: unknown) => Promise<unknown>)(parsed.data);
  }

  private flushReports(connection: Connection): void {
    for (const bad of [...this.unreported.values()]) {
      this.unreported.delete(bad.chunk);
      this.call(connection, 'badReplica', bad).catch(() => {
        if (this.unreported.size < MAX_UNREPORTED) this.unreported.set(bad.chunk, bad);
      });
    }
  }

  private async call<M extends keyof NodeCalls>(
    connection: Connection,
    method: M,
    args: RequestOf<NodeCalls, M>,
    timeoutMs = CALL_TIMEOUT_MS,
  ): Promise<ReplyOf<NodeCalls, M>> {
    return (await connection.call({ method, args }, timeoutMs)) as ReplyOf<NodeCalls, M>;
  }

  private pause(ms: number): Promise<void> {
    const news = new Promise<void>((resolve) => {
      this.wake = resolve;
    });
    return Promise.race([sleep(this.options.environment, ms), news]);
  }
}
