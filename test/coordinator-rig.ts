/**
 * A coordinator in one process without sockets, disks or nodes, for tests of its file tree, sessions and recovery: memory storage with crash semantics,
 * connections as pairs of objects, and a keeper of chunks that believes receipts of the form "<chunk>:<sizeBytes>".
 */
import { Coordinator, type CoordinatorOptions } from '../coordinator/coordinator.js';
import { MemoryJournalStorage } from '../coordinator/journal-storage.js';
import { MemoryMetadataStore } from '../coordinator/metadata-store.js';
import type { ClientCaller, ClusterContext, ClusterKeeper } from '../coordinator/ports.js';
import type { Transaction } from '../coordinator/state.js';
import type { CallFrame, Connection, PushFrame, ReplyOf, RequestOf } from '../protocol/call.js';
import { type ClientCalls, clientCalls, type Welcome } from '../protocol/client-calls.js';
import type { ChunkId, ChunkLocation } from '../protocol/entities.js';
import type { Environment } from '../protocol/environment.js';
import { fromWire, HoldfastError, toWire } from '../protocol/errors.js';
import { PROTOCOL_VERSION } from '../protocol/limits.js';
import { accessKeyOf } from '../protocol/permit.js';

/** Counts references as the real keeper does; chunks live for ever. */
class SmallKeeper implements ClusterKeeper {
  readonly revoked: string[] = [];
  mayFree = true;
  constructor(private readonly context: ClusterContext) {}
  settle(): undefined {
    return undefined;
  }
  acceptCommit(tx: Transaction, caller: ClientCaller, chunks: readonly ChunkId[], receipts: readonly string[]): readonly ChunkId[] {
    const sizes = new Map(receipts.map((receipt) => receipt.split(':') as [string, string]));
    const missing = chunks.filter((chunk) => !tx.get('chunks', chunk) && !sizes.has(chunk));
    if (missing.length > 0) throw new HoldfastError('UPLOAD_AGAIN', 'not there', { chunks: missing });
    for (const chunk of chunks) {
      if (tx.get('chunks', chunk)) continue;
      tx.put('chunks', chunk, { volume: caller.volume, sizeBytes: Number(sizes.get(chunk)), refs: 0, replicas: [1, 2] });
    }
    return chunks;
  }
  private count(tx: Transaction, chunk: ChunkId, by: number): void {
    const row = tx.get('chunks', chunk);
    if (!row || row.refs + by < 0) throw new Error(`references of ${chunk} would be wrong`);
    tx.put('chunks', chunk, { ...row, refs: row.refs + by });
  }
  addReferences(tx: Transaction, chunk: ChunkId, count: number): void {
    this.count(tx, chunk, count);
  }
  dropReferences(tx: Transaction, chunk: ChunkId, count: number): void {
    this.count(tx, chunk, -count);
  }
  have(_caller: ClientCaller, chunks: readonly ChunkId[]): readonly ChunkLocation[] {
    return this.locations(chunks);
  }
  locations(chunks: readonly ChunkId[]): ChunkLocation[] {
    return chunks.flatMap((chunk) => {
      const row = this.context.state.get('chunks', chunk);
      return row ? [{ chunk, sizeBytes: row.sizeBytes, nodes: row.replicas }] : [];
    });
  }
  contacts(): [] {
    return [];
  }
  permitFor() {
    return { permit: 'permit', generation: 1 };
  }
  space() {
    return { totalBytes: 1e12, freeBytes: 9e11 };
  }
  reportReplica(): void {}
  sessionEnded(): void {}
  start(): void {}
  stop(): Promise<void> {
    return Promise.resolve();
  }
  acceptNode = (): never => {
    throw new HoldfastError('NOT_READY');
  };
  acceptAdmin = (): never => {
    throw new HoldfastError('NOT_READY');
  };
  note(): void {}
  revokePermits(who: readonly string[]): void {
    this.revoked.push(...who);
  }
  metrics(): string {
    return '';
  }
}

/** One side of a pair: what is sent arrives in order, as a copy, some microtasks later. */
class PairedConnection implements Connection {
  onCall: Connection['onCall'];
  onPush: Connection['onPush'];
  onClose: Connection['onClose'];
  isOpen = true;
  other!: PairedConnection;
  private readonly pending = new Set<(error: HoldfastError) => void>();
  constructor(
    readonly peer: string,
    private readonly environment: Environment,
  ) {}

  call(frame: CallFrame, timeoutMs: number): Promise<unknown> {
    if (!this.isOpen) return Promise.reject(new HoldfastError('UNREACHABLE', 'closed'));
    return new Promise((resolve, reject) => {
      const finish = (settle: () => void): void => {
        if (!this.pending.delete(fail)) return;
        timer.cancel();
        settle();
      };
      const fail = (error: HoldfastError): void => finish(() => reject(error));
      const timer = this.environment.setTimer(timeoutMs, () => fail(new HoldfastError('DEADLINE', frame.method)));
      this.pending.add(fail);
      const copy = structuredClone(frame);
      queueMicrotask(() => {
        if (!this.isOpen) return;
        const handled = this.other.onCall?.(copy) ?? Promise.reject(new HoldfastError('BAD_MESSAGE', 'nobody listens'));
        handled.then(
          (value) => this.isOpen && finish(() => resolve(structuredClone(value))),
          (error: unknown) => this.isOpen && fail(fromWire(structuredClone(toWire(error)))),
        );
      });
    });
  }
  push(frame: PushFrame): void {
    const copy = structuredClone(frame);
    queueMicrotask(() => this.isOpen && this.other.onPush?.(copy));
  }
  close(reason: string): void {
    for (const side of [this, this.other]) {
      if (!side.isOpen) continue;
      side.isOpen = false;
      for (const fail of [...side.pending]) fail(new HoldfastError('UNREACHABLE', reason));
      queueMicrotask(() => side.onClose?.(reason));
    }
  }
}

export const ROOT_USER = { uid: 0, gid: 0 };

/** A client that numbers its changes and acknowledges recalls at once, unless told otherwise. */
export class RigClient {
  connection: PairedConnection | undefined;
  welcome!: Welcome;
  nextRequest = 1;
  readonly recalls: { inode: number; names?: string[]; isUnlinked?: boolean }[][] = [];
  readonly pushes: PushFrame[] = [];
  /** What it says to hold open. */
  holding: number[] = [];
  /** Resolved when recalls may be answered; undefined = at once. */
  gate: Promise<void> | undefined;

  constructor(
    private readonly rig: CoordinatorRig,
    readonly secret: string,
    private readonly token: string,
    private readonly volume?: string,
  ) {}

  async connect(): Promise<Welcome> {
    const server = new PairedConnection('client', this.rig.environment);
    const client = new PairedConnection('coordinator', this.rig.environment);
    server.other = client;
    client.other = server;
    await this.rig.coordinator.accept(
      'client',
      {
        ...{ protocol: PROTOCOL_VERSION, token: this.token, clientSecret: this.secret, description: 'test' },
        ...(this.volume === undefined ? {} : { volume: this.volume }),
      },
      server,
    );
    this.connection = client;
    client.onCall = async (frame) => {
      const { inodes } = frame.args as { inodes: { inode: number }[] };
      this.recalls.push(inodes);
      if (this.gate) await this.gate;
      return { holding: this.holding.filter((inode) => inodes.some((one) => one.inode === inode)) };
    };
    client.onPush = (frame) => this.pushes.push(frame);
    this.welcome = (await client.call({ method: 'hello', args: {} }, 60_000)) as Welcome;
    return this.welcome;
  }

  /** @param request a number to repeat; otherwise the next one for changes */
  call<M extends keyof ClientCalls>(method: M, args: RequestOf<ClientCalls, M>, request?: number): Promise<ReplyOf<ClientCalls, M>> {
    if (!this.connection) throw new Error('not connected');
    const isChange = clientCalls[method].changes;
    const number = request ?? (isChange ? this.nextRequest++ : undefined);
    const frame = { method, args, ...(number === undefined ? {} : { request: number, answeredBelow: Math.max(1, number - 50) }) };
    return this.connection.call(frame, 60_000) as Promise<ReplyOf<ClientCalls, M>>;
  }
  disconnect(): void {
    this.connection?.close('test');
  }

  get root(): number {
    return this.welcome.volume.root;
  }
  async create(parent: number, name: string, more: Partial<RequestOf<ClientCalls, 'create'>> = {}): Promise<number> {
    const kind = more.kind ?? 'file';
    const reply = await this.call('create', { parent, name, kind, mode: 0o644, as: ROOT_USER, exclusive: true, ...more });
    return reply.attributes.inode;
  }
  mkdir(parent: number, name: string, more: Partial<RequestOf<ClientCalls, 'create'>> = {}): Promise<number> {
    return this.create(parent, name, { kind: 'directory', mode: 0o755, ...more });
  }
  rename(
    fromParent: number,
    fromName: string,
    toParent: number,
    toName: string,
    more: Partial<RequestOf<ClientCalls, 'rename'>> = {},
  ): Promise<ReplyOf<ClientCalls, 'rename'>> {
    return this.call('rename', { fromParent, fromName, toParent, toName, how: 'replace', keepReplacedOpen: false, ...more });
  }
  async names(inode: number): Promise<string[]> {
    const names: string[] = [];
    for (let after = ''; ; ) {
      const page = await this.call('readDirectory', { inode, after, limit: 3 });
      names.push(...page.entries.map((entry) => entry.name));
      if (page.isLast) return names;
      after = names.at(-1) as string;
    }
  }
  async attributes(inode: number) {
    return (await this.call('getAttributes', { inode })).attributes;
  }
}

export const chunkOf = (n: number): ChunkId => n.toString(16).padStart(64, '0');

export class CoordinatorRig {
  readonly journalStorage: MemoryJournalStorage;
  readonly store = new MemoryMetadataStore();
  coordinator!: Coordinator;
  readonly fatal: Error[] = [];
  private clients = 0;

  constructor(
    readonly environment: Environment,
    private readonly options: Partial<CoordinatorOptions> = {},
    segmentBytes?: number,
  ) {
    this.journalStorage = new MemoryJournalStorage(segmentBytes);
  }

  async start(): Promise<this> {
    this.coordinator = await Coordinator.start({
      environment: this.environment,
      journalStorage: this.journalStorage,
      store: this.store,
      createKeeper: (context) => new SmallKeeper(context),
      options: { trashKeepMs: 0, ...this.options },
      cluster: 'test',
      adminToken: 'admin-token',
      nodeToken: 'node-token',
      onFatal: (error) => this.fatal.push(error),
    });
    return this;
  }
  /** A new client, connected. */
  async client(token = 'admin-token', volume?: string): Promise<RigClient> {
    const secret = (++this.clients).toString(16).padStart(64, 'a');
    const client = new RigClient(this, secret, token, volume);
    await client.connect();
    return client;
  }
  crash(kind: 'process' | 'power' = 'process'): void {
    this.coordinator.crash();
    this.store.stepsLeft = Number.POSITIVE_INFINITY;
    this.journalStorage.crash(kind, () => this.environment.random());
  }
  get accessKey(): Buffer {
    return accessKeyOf('node-token', 'test');
  }
}
