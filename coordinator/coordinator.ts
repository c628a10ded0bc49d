/**
 * The coordinator put together: state, journal, sessions, file tree, locks, and the keeper of the cluster. No sockets, files or timers of its own:
 * everything comes in, so a simulation can run and crash it.
 */
import type { Accept } from '../protocol/call.js';
import { DEFAULT_VOLUME_NAME, type InodeId, type NodeContact, ROOT_VOLUME, type VolumeId } from '../protocol/entities.js';
import { type Environment, sleep, type Timer, timestamp, wallMs } from '../protocol/environment.js';
import { HoldfastError } from '../protocol/errors.js';
import {
  DEFAULT_CHUNK_SIZE_BYTES,
  DEFAULT_DOWN_AFTER_MS,
  DEFAULT_SESSION_TIMEOUT_MS,
  DEFAULT_STOPPED_GRACE_MS,
  DEFAULT_TRASH_KEEP_MS,
} from '../protocol/limits.js';
import { accessKeyOf } from '../protocol/permit.js';
import { Checkpointer } from './checkpoint.js';
import { ClientHandlers } from './client-handlers.js';
import { Effects } from './effects.js';
import { FileData } from './file-data.js';
import { FileTree } from './file-tree.js';
import { HistoryKeeper, type HistoryPorts } from './history-keeper.js';
import { DEFAULT_UNKNOWN_GRACE_MS } from './inventory.js';
import { Journal, recoverJournal } from './journal.js';
import type { JournalStorage } from './journal-storage.js';
import { Locks } from './locks.js';
import { MetadataCopies } from './metadata-copies.js';
import type { MetadataPeer } from './metadata-peer.js';
import type { MetadataStore } from './metadata-store.js';
import { OldCaches } from './old-caches.js';
import type { Actor, ChunkKeeper, ClusterContext, ClusterKeeper, CreateClusterKeeper } from './ports.js';
import { Recall } from './recall.js';
import { Sessions } from './sessions.js';
import { takeRows } from './snapshot.js';
import { numberSetting, State } from './state.js';
import { Users } from './users.js';
import { Volumes } from './volumes.js';
import { Xattrs } from './xattrs.js';

export interface CoordinatorOptions {
  /** Of the main volume, when the cluster is new. */
  readonly copies: number;
  readonly chunkSizeBytes: number;
  readonly trashKeepMs: number;
  readonly sessionTimeoutMs: number;
  readonly downAfterMs: number;
  readonly stoppedGraceMs: number;
  readonly deletionGraceMs: number;
  /** Chunks that nodes hold and no metadata names rest this long before they are set aside, or, when their upload was never committed, deleted. */
  readonly unknownGraceMs: number;
  /** Reply to every change only when it is on stable storage. */
  readonly syncAlways: boolean;
  readonly version: string;
}
export const defaultCoordinatorOptions: CoordinatorOptions = {
  copies: 2,
  chunkSizeBytes: DEFAULT_CHUNK_SIZE_BYTES,
  trashKeepMs: DEFAULT_TRASH_KEEP_MS,
  sessionTimeoutMs: DEFAULT_SESSION_TIMEOUT_MS,
  downAfterMs: DEFAULT_DOWN_AFTER_MS,
  stoppedGraceMs: DEFAULT_STOPPED_GRACE_MS,
  deletionGraceMs: 5000,
  unknownGraceMs: DEFAULT_UNKNOWN_GRACE_MS,
  syncAlways: false,
  version: '0.1.0',
};

export interface CoordinatorParts {
  readonly environment: Environment;
  readonly journalStorage: JournalStorage;
  readonly store: MetadataStore;
  readonly createKeeper: CreateClusterKeeper;
  readonly options?: Partial<CoordinatorOptions>;
  /** From the identity file. */
  readonly cluster: string;
  readonly adminToken: string;
  readonly nodeToken: string;
  /** SHA-256 of the certificate of the authority whose key we have, if we give certificates. */
  readonly authority?: string;
  /** Something happened after which the process must end; a restart recovers. */
  readonly onFatal: (error: Error) => void;
  readonly url?: () => string;
  /** How many nodes keep a copy of the metadata (default 0), and how to talk to one. */
  readonly metadataCopies?: number;
  readonly metadataPeer?: (contact: NodeContact) => MetadataPeer;
  /** Snapshot of all metadata to a file, and pages of it. */
  readonly backup?: (coordinator: Coordinator) => Promise<{ sizeBytes: number; sequence: number; sha256: string }>;
  readonly readBackup?: (offset: number) => Promise<{ data: Buffer; isLast: boolean }>;
}

const REAP_PAUSE_MS = 0;
const FORGET_RECENT_AFTER_S = 5;

export class Coordinator {
  readonly state: State;
  readonly journal: Journal;
  readonly keeper: ClusterKeeper;
  readonly tree: FileTree;
  readonly volumes: Volumes;
  readonly users: Users;
  readonly sessions: Sessions;
  readonly recall: Recall;
  readonly epoch: number;
  readonly startId: string;
  readonly environment: Environment;
  readonly cluster: string;
  private readonly options: CoordinatorOptions;
  private readonly clients: ClientHandlers;
  private readonly checkpointer: Checkpointer;
  private readonly data: FileData;
  readonly history: HistoryKeeper;
  private readonly parts: CoordinatorParts;
  private readonly reaping = new Set<InodeId>();
  private oldCaches: OldCaches | undefined;
  private timers: Timer[] = [];
  private isStopped = false;
  private copies: MetadataCopies | undefined;

  /**
   * Loads everything, begins a new epoch, durably, and returns a coordinator that accepts connections.
   * @throws {StoreDamaged | JournalDamaged} what is stored cannot be trusted
   */
  static async start(parts: CoordinatorParts): Promise<Coordinator> {
    const state = new State();
    const loaded = await Coordinator.load(state, parts);
    const coordinator = new Coordinator(state, parts, loaded);
    await coordinator.begin(loaded.startedMs);
    return coordinator;
  }

  private static async load(state: State, parts: CoordinatorParts) {
    const startedMs = parts.environment.monotonicMs();
    const appliedSequence = await parts.store.load((table, key, row) => state.load(table, key, row));
    const replayed: { table: Parameters<State['load']>[0]; key: Parameters<State['load']>[1] }[] = [];
    const position = await recoverJournal(parts.journalStorage, appliedSequence, ([table, key, row]) => {
      state.load(table, key, row);
      replayed.push({ table, key });
    });
    parts.environment.log('info', 'metadata loaded', {
      inodes: state.table('inodes').size,
      chunks: state.table('chunks').size,
      appliedSequence,
      replayedRecords: position.records,
      cutBytes: position.cutBytes,
      tookMs: Math.round(parts.environment.monotonicMs() - startedMs),
    });
    return { position, replayed, startedMs };
  }

  private constructor(state: State, parts: CoordinatorParts, loaded: Awaited<ReturnType<typeof Coordinator.load>>) {
    const { environment } = parts;
    this.parts = parts;
    this.cluster = parts.cluster;
    this.state = state;
    this.environment = environment;
    this.options = { ...defaultCoordinatorOptions, ...parts.options };
    this.startId = environment.randomBytes(16).toString('hex');
    this.journal = new Journal(parts.journalStorage, environment, loaded.position, (error) => this.fatal(error));
    this.checkpointer = new Checkpointer(state, this.journal, parts.journalStorage, parts.store, environment, (error) => this.fatal(error));
    for (const { table, key } of loaded.replayed) this.checkpointer.noteRow(table, key);
    state.onCommit = (changes) => {
      this.journal.append(changes);
      this.checkpointer.note(changes);
    };
    const users = new Users({ environment, state, adminToken: parts.adminToken });
    this.users = users;
    this.sessions = new Sessions(state, environment, this.options.sessionTimeoutMs);
    this.recall = new Recall(this.sessions, environment);
    // The keeper and the tree need each other; the tree calls the keeper only inside changes, so it may come later.
    const keeperForTree: Pick<ChunkKeeper, 'addReferences' | 'dropReferences'> = {
      addReferences: (tx, chunk, count) => this.keeper.addReferences(tx, chunk, count),
      dropReferences: (tx, chunk, count) => this.keeper.dropReferences(tx, chunk, count),
    };
    this.tree = new FileTree(state, keeperForTree);
    const locks = new Locks(this.tree);
    this.volumes = new Volumes({
      environment,
      state,
      createRoot: (tx, volume) => this.tree.createRoot(tx, volume, timestamp(environment)),
      reapStep: (tx, inode) => this.tree.reapStep(tx, inode),
    });
    this.epoch = state.transact((tx) => {
      const epoch = numberSetting(state, 'epoch') + 1;
      tx.put('settings', 'epoch', epoch);
      if (state.table('volumes').size === 0) this.createMainVolume(tx);
      return epoch;
    });
    this.keeper = parts.createKeeper(this.context());
    this.data = new FileData(this.tree, this.keeper);
    const { journal, keeper } = this;
    this.clients = new ClientHandlers({
      environment,
      state,
      tree: this.tree,
      data: this.data,
      xattrs: new Xattrs(this.tree),
      locks,
      sessions: this.sessions,
      recall: this.recall,
      users,
      volumes: this.volumes,
      keeper,
      cluster: parts.cluster,
      epoch: this.epoch,
      written: () => (journal.isWritten ? undefined : journal.written()),
      acknowledged: () => (this.options.syncAlways ? journal.synced() : journal.isWritten ? undefined : journal.written()),
      synced: () => journal.synced(),
      syncedLocally: () => journal.syncedLocally(),
      metadataCopies: () => this.copies?.status().filter((copy) => copy.isCurrent).length ?? 0,
      changesAllowed: () => this.oldCaches?.over,
      isFull: () => journal.isFull || this.checkpointer.isFull,
      reap: (inodes) => this.reap(inodes),
      trash: () => this.history.trash,
    });
    this.history = new HistoryKeeper(this.historyPorts());
    this.connectParts(locks);
    this.sessions.loadAll((client, { user, volume, token }) => ({
      ...{ client, user, volume, token, userId: state.get('users', user)?.id },
      ...(users.accessOf(user, volume) ?? { access: 'read' }),
    }));
    for (const session of this.sessions.all()) this.recall.loaded(session);
  }

  private connectParts(locks: Locks): void {
    const { recall, sessions, state, users } = this;
    locks.onUnlocked = (inode, clients) => {
      for (const client of clients) sessions.get(client)?.connection?.push({ topic: 'unlocked', data: [inode] });
    };
    sessions.onEnd = (tx, session) => {
      const effects = new Effects();
      locks.dropClient(tx, session.client);
      for (const [inode, orphan] of [...state.table('orphans').all()]) {
        if (orphan.holders.includes(session.client)) this.tree.dropHolders({ tx, effects }, inode, [session.client]);
      }
      tx.afterwards(() => this.reap(effects.toReap));
    };
    sessions.onConnected = (client) => this.oldCaches?.returned(client);
    sessions.onEnded = (session) => {
      recall.ended(session);
      this.keeper.sessionEnded(session.client);
    };
    this.volumes.onRemoved = (volume) => sessions.endAll(({ caller }) => caller.volume === volume, 'the volume was deleted');
    users.onEnded = (user, { token, volume }) =>
      sessions.endAll(
        ({ caller }) =>
          caller.user === user && (token === undefined || caller.token === token) && (volume === undefined || caller.volume === volume),
        'the rights of this user ended',
      );
    users.onVoid = (tags) => this.keeper.revokePermits(tags);
    users.onChanged = (user, volume) => {
      const rights = users.accessOf(user, volume);
      for (const session of sessions.all())
        if (rights && session.caller.user === user && session.caller.volume === volume) session.caller = { ...session.caller, ...rights };
    };
    recall.onNotHeld = (session, inodes) => {
      if (this.isStopped) return;
      const effects = new Effects();
      state.transact((tx) => {
        for (const inode of inodes) this.tree.dropHolders({ tx, effects }, inode, [session.client]);
      });
      this.reap(effects.toReap);
    };
    state.onChange('inodes', (inode, _before, after) => {
      if (!after) recall.forgetInode(inode);
    });
  }

  private historyPorts(): HistoryPorts {
    const { environment, journal, keeper, recall } = this;
    return {
      environment,
      tree: this.tree,
      keeper,
      wallMs: () => wallMs(environment),
      isFull: () => journal.isFull || this.checkpointer.isFull,
      space: (volume) => keeper.space(volume),
      mayFree: () => keeper.mayFree,
      cached: (from, to) => recall.knownBetween(from, to),
      note: (kind, text, user) => keeper.note({ level: 'info', kind, text, ...(user === undefined ? {} : { user }) }),
      change: (caller, body) => this.clients.applyOwn(caller, body),
      pause: () => sleep(environment, 0),
    };
  }

  private createMainVolume(tx: Parameters<Parameters<State['transact']>[0]>[0]): void {
    const root = this.tree.createRoot(tx, ROOT_VOLUME, timestamp(this.environment));
    tx.put('volumes', ROOT_VOLUME, {
      volume: ROOT_VOLUME,
      name: DEFAULT_VOLUME_NAME,
      root,
      copies: this.options.copies,
      chunkSizeBytes: this.options.chunkSizeBytes,
      quotaBytes: null,
      quotaFiles: null,
      encryption: null,
      trashKeepMs: this.options.trashKeepMs,
    });
  }

  get nodeToken(): string {
    return this.parts.nodeToken;
  }

  private context(): ClusterContext {
    const { parts, journal } = this;
    return {
      environment: this.environment,
      state: this.state,
      options: this.options,
      notices: {
        contactsChanged: (contacts) => this.push('nodes', contacts),
        volumeChanged: (volume) => this.push('volume', volume, volume.volume),
      },
      volumes: this.volumes,
      users: this.users,
      cluster: parts.cluster,
      epoch: this.epoch,
      coordinatorStartId: this.startId,
      accessKey: accessKeyOf(parts.nodeToken, parts.cluster),
      url: () => parts.url?.() ?? '',
      written: () => journal.written(),
      synced: () => journal.synced(),
      nodeToken: parts.nodeToken,
      authority: parts.authority,
      metadataStatus: () => ({
        sequence: journal.sequence,
        bytes: parts.store.sizeBytes + journal.sizeBytes,
        copies: this.copies?.status() ?? [],
        isDiskFull: journal.isFull || this.checkpointer.isFull,
      }),
      connectedClients: () => this.sessions.connectedCount,
      resolve: (volume, path) => this.tree.resolve(volume, path),
      pathOf: (inode) => this.tree.pathOf(inode),
      deleteFile: (by, volume, path) => this.deleteFile(by, volume, path),
      history: () => this.history,
      backup: () => parts.backup?.(this) ?? Promise.reject(new HoldfastError('EOPNOTSUPP', 'this coordinator has no place for backups')),
      readBackup: (offset) =>
        parts.readBackup?.(offset) ?? Promise.reject(new HoldfastError('EOPNOTSUPP', 'this coordinator has no place for backups')),
    };
  }

  /** For every server and every simulated network: a new connection. */
  readonly accept: Accept = (namespace, handshake, connection) => {
    if (this.isStopped) throw new HoldfastError('NOT_READY', 'the coordinator is shutting down');
    if (namespace === 'client') this.clients.accept(handshake, connection);
    else if (namespace === 'node') this.keeper.acceptNode(handshake, connection);
    else this.keeper.acceptAdmin(handshake, connection);
  };

  private async begin(startedMs: number): Promise<void> {
    // The epoch must be ours for good before anybody obeys it.
    await this.journal.syncedLocally();
    // What was replayed goes to the store; nobody has to wait for that, the journal keeps it until then.
    void this.checkpointer.run();
    // Whoever ran before us is dead: the data directory was free.
    this.oldCaches = new OldCaches(
      this.environment,
      [...this.state.table('sessions').all()].map(([client]) => client),
      startedMs,
    );
    this.journal.start();
    this.checkpointer.start();
    this.keeper.start();
    this.volumes.start();
    this.history.start();
    this.startCopies();
    for (const [inode, orphan] of this.state.table('orphans').all())
      if (orphan.holders.length === 0 && !this.tree.isTrashed(inode)) this.reaping.add(inode);
    if (this.reaping.size > 0) this.reapSoon();
    const forget = (): void => {
      this.data.forgetRecent(timestamp(this.environment).s - FORGET_RECENT_AFTER_S);
      this.timers = [this.environment.setTimer(FORGET_RECENT_AFTER_S * 1000, forget)];
    };
    forget();
  }

  private startCopies(): void {
    const { environment, parts, journal, state } = this;
    if (!parts.metadataPeer || !parts.metadataCopies) return;
    this.copies = new MetadataCopies({
      environment,
      wanted: parts.metadataCopies,
      cluster: parts.cluster,
      epoch: this.epoch,
      contacts: () => this.keeper.contacts(),
      peer: parts.metadataPeer,
      take: () => ({ rows: takeRows(state), sequence: journal.closedSequence }),
    });
    journal.copies = this.copies;
    this.copies.start();
  }

  private push(topic: string, data: unknown, volume?: VolumeId): void {
    for (const session of this.sessions.all()) {
      if (volume === undefined || session.caller.volume === volume) session.connection?.push({ topic, data });
    }
  }

  private async deleteFile({ user, request }: Actor, volume: VolumeId, path: string): Promise<void> {
    const inode = this.tree.resolve(volume, path);
    const name = path.split('/').filter(Boolean).at(-1);
    if (name === undefined) throw new HoldfastError('EISDIR', 'the root cannot be deleted');
    const parent = this.tree.resolve(volume, path.slice(0, path.lastIndexOf(name)));
    const caller = { client: 'coordinator', user, volume, access: 'admin' } as const;
    await this.clients.applyAs(caller, 'unlink', { parent, name, keepOpen: false, expected: inode });
    this.keeper.fileDeleted?.(0, path, caller, request);
  }

  // ---- orphans without holders ----

  private reap(inodes: readonly InodeId[]): void {
    if (inodes.length === 0) return;
    const isIdle = this.reaping.size === 0;
    for (const inode of inodes) this.reaping.add(inode);
    if (isIdle) this.reapSoon();
  }
  private reapSoon(): void {
    this.environment.setTimer(REAP_PAUSE_MS, () => {
      if (this.isStopped) return;
      const [inode] = this.reaping;
      if (inode === undefined) return;
      const isDone = this.state.transact((tx) => this.tree.reapStep(tx, inode));
      if (isDone) this.reaping.delete(inode);
      if (this.reaping.size > 0) this.reapSoon();
    });
  }

  // ---- the end ----

  /** No new changes; everything is written, synced and saved. */
  async stop(): Promise<void> {
    if (this.isStopped) return;
    this.clients.stop();
    this.stopOwnWork();
    await this.keeper.stop();
    this.isStopped = true;
    for (const session of this.sessions.all()) session.connection?.close('the coordinator is shutting down');
    this.sessions.stop();
    for (const timer of this.timers) timer.cancel();
    await this.checkpointer.stop();
    await this.journal.stop();
    this.copies?.stop();
    await this.parts.store.close();
  }

  /** As if the process had died: nothing more is written or said. */
  crash(): void {
    this.isStopped = true;
    this.stopOwnWork();
    this.journal.abandon();
    this.checkpointer.abandon();
    this.copies?.stop();
    this.sessions.stop();
    for (const timer of this.timers) timer.cancel();
  }

  /** What it does by itself, asked by nobody. */
  private stopOwnWork(): void {
    this.volumes.stop();
    this.history.stop();
    this.users.stop();
  }

  private fatal(error: Error): void {
    if (this.isStopped) return;
    this.crash();
    this.parts.onFatal(error);
  }
}
