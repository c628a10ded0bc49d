/**
 * Calls of clients: message in, checked, one function called, reply or error out. Rules live in the file tree; here is the order of things:
 *
 *   query:   read state → wait until what was read is written (a reader must not see what a crash could undo) → reply
 *   change:  transaction with its stored reply → journal written, and in parallel others have dropped what they cached → reply
 */
import { z } from 'zod';
import type { CallFrame, Connection, ReplyOf, RequestOf } from '../protocol/call.js';
import { type ClientCalls, clientCalls, clientHandshake, type Welcome } from '../protocol/client-calls.js';
import type { ClientId, InodeAttributes, InodeId } from '../protocol/entities.js';
import { type Environment, timestamp } from '../protocol/environment.js';
import { HoldfastError } from '../protocol/errors.js';
import { LEASE_MS, MAX_FILE_SIZE_BYTES, MAX_IDS_PER_CALL } from '../protocol/limits.js';
import { Effects } from './effects.js';
import type { FileData } from './file-data.js';
import type { ChangeContext, FileTree } from './file-tree.js';
import { changeHidden, refuseHidden } from './hidden-changes.js';
import type { Locks } from './locks.js';
import type { ClientCaller, ClusterKeeper } from './ports.js';
import type { Recall } from './recall.js';
import { clientIdOf, type Session, type Sessions } from './sessions.js';
import type { State, Transaction } from './state.js';
import type { Trash } from './trash.js';
import type { Users } from './users.js';
import type { Volumes } from './volumes.js';
import type { Xattrs } from './xattrs.js';

type Method = keyof ClientCalls;
type Changes = { [M in Method]: ClientCalls[M]['changes'] extends true ? M : never }[Method];

export interface ClientPorts {
  readonly environment: Environment;
  readonly state: State;
  readonly tree: FileTree;
  readonly data: FileData;
  readonly xattrs: Xattrs;
  readonly locks: Locks;
  readonly sessions: Sessions;
  readonly recall: Recall;
  readonly users: Users;
  readonly volumes: Volumes;
  readonly keeper: ClusterKeeper;
  readonly cluster: string;
  readonly epoch: number;
  /** undefined = nothing unwritten. */
  written(): Promise<void> | undefined;
  /** As written, or synced when the coordinator runs with `--sync always`. */
  acknowledged(): Promise<void> | undefined;
  synced(): Promise<void>;
  /** As synced, without the copies on nodes. */
  syncedLocally(): Promise<void>;
  metadataCopies(): number;
  /** Changes wait for this after a start, because caches of before may still be served. */
  changesAllowed(): Promise<void> | undefined;
  /** True while there is no room for more metadata. */
  isFull(): boolean;
  reap(inodes: readonly InodeId[]): void;
  /** Known once the parts are together. */
  readonly trash: () => Trash;
}

/** What may be done with no room left: it frees some, or costs next to nothing. */
const allowedWhenFull: ReadonlySet<Method> = new Set(['unlink', 'removeDirectory', 'releaseOrphans', 'dropLocks', 'truncate', 'punch']);
/** Refusing this would let others wait for the lock for ever. */
const isUnlock = (method: Method, request: unknown): boolean => method === 'lock' && (request as { kind?: string }).kind === 'unlock';

/** Locks, and letting go of deleted files, are part of reading. */
const isReading = (method: Method): boolean => method === 'lock' || method === 'dropLocks' || method === 'releaseOrphans';

export class ClientHandlers {
  private isStopping = false;
  constructor(private readonly ports: ClientPorts) {}

  stop(): void {
    this.isStopping = true;
  }

  /** A new connection. @throws {HoldfastError} PROTOCOL_VERSION, UNAUTHORIZED, FORBIDDEN, ENOENT (volume) */
  accept(handshake: unknown, connection: Connection): void {
    const parsed = clientHandshake.safeParse(handshake);
    if (!parsed.success) {
      const isVersion = parsed.error.issues.some((issue) => issue.path[0] === 'protocol');
      throw new HoldfastError(isVersion ? 'PROTOCOL_VERSION' : 'BAD_MESSAGE', z.prettifyError(parsed.error));
    }
    const { token, clientSecret, description, volume: volumeName } = parsed.data;
    const { users, volumes } = this.ports;
    const user = users.authenticate(token);
    const volume = volumeName === undefined ? volumes.byId(user.home) : volumes.byName(volumeName);
    const granted = volume && users.accessOf(user.user, volume.volume);
    // The same answer for a volume that is not there and one that is not theirs.
    if (!granted)
      throw new HoldfastError(
        'FORBIDDEN',
        volumeName === undefined
          ? `"${user.user}" has no volume of its own: name one with --volume`
          : `"${user.user}" has no access to a volume "${volumeName}"`,
      );
    const caller: ClientCaller = {
      ...{ client: clientIdOf(clientSecret), user: user.user, volume: volume.volume },
      ...{ ...granted, userId: user.id, token: user.token },
    };
    users.attach(connection, user);
    let session: Session | undefined;
    connection.onCall = (frame) => {
      if (frame.method === 'hello') {
        const refusal = this.ports.sessions.refusal(caller);
        if (refusal) return Promise.reject(refusal);
        const connected = this.ports.sessions.connect(caller, description, connection);
        session = connected.session;
        const login = connected.resumed ? undefined : users.login(user, description);
        if (login) this.ports.keeper.note({ ...login, volume: volume.volume });
        return this.hello(connected.session, connected.resumed);
      }
      if (!session) return Promise.reject(new HoldfastError('BAD_MESSAGE', 'the first call of a connection is hello'));
      if (this.ports.sessions.get(session.client) !== session)
        return Promise.reject(new HoldfastError('SESSION_LOST', 'this session was ended'));
      if (session.connection !== connection) return Promise.reject(new HoldfastError('UNREACHABLE', 'the client has a newer connection'));
      if (frame.method === 'leave') {
        const leaving = session;
        session = undefined;
        return this.leave(leaving);
      }
      return this.handle(session, frame);
    };
    connection.onClose = () => {
      users.detach(connection);
      if (session?.connection === connection) this.ports.sessions.disconnected(session);
    };
  }

  private async hello(session: Session, resumed: boolean): Promise<Welcome> {
    const { ports } = this;
    // A client drops everything it cached before it connects again.
    ports.recall.dropCaches(session);
    session.leaseEndsAtMs = ports.environment.monotonicMs() + LEASE_MS;
    const { volume: volumeId, client, user, access } = session.caller;
    const volume = ports.state.get('volumes', volumeId);
    if (!volume) throw new HoldfastError('ENOENT', 'the volume is gone');
    // A lease is only given to a session that will be remembered: a restarted coordinator waits for those it remembers.
    await (resumed ? ports.written() : ports.syncedLocally());
    if (resumed) this.askForOrphans(session);
    return {
      cluster: ports.cluster,
      epoch: ports.epoch,
      client,
      resumed,
      lastRequest: Math.max(0, ...[...this.ports.state.table('replies').of(session.client).keys()].map(Number)),
      volume,
      access,
      user,
      nodes: ports.keeper.contacts(),
      permit: ports.keeper.permitFor(session.caller).permit,
    };
  }

  private async leave(session: Session): Promise<ReplyOf<ClientCalls, 'leave'>> {
    // A change that is still under way stores its reply in the session.
    while (session.inProgress.size > 0) await Promise.allSettled(session.inProgress.values());
    this.ports.sessions.end(session);
    await this.ports.written();
    return {};
  }

  /** While it was away, or the coordinator was, files may have been deleted that it held open: or not any more. */
  private askForOrphans(session: Session): void {
    const held: InodeId[] = [];
    for (const [inode, orphan] of this.ports.state.table('orphans').all()) {
      if (orphan.holders.includes(session.client)) held.push(inode);
      if (held.length === MAX_IDS_PER_CALL) break;
    }
    if (held.length > 0) {
      // After the welcome has gone out.
      this.ports.environment.setTimer(0, () => this.ports.recall.ask(session, held));
    }
  }

  private async handle(session: Session, frame: CallFrame): Promise<unknown> {
    const startedMs = this.ports.environment.monotonicMs();
    const method = frame.method as Method;
    if (!Object.hasOwn(clientCalls, method)) throw new HoldfastError('BAD_MESSAGE', `there is no call "${frame.method}"`);
    const definition = clientCalls[method];
    const parsed = definition.request.safeParse(frame.args);
    if (!parsed.success) throw new HoldfastError('BAD_MESSAGE', `${method}: ${z.prettifyError(parsed.error)}`);
    try {
      if (definition.changes) {
        const reply = await this.change(session, method as Changes, frame, parsed.data as never);
        this.tell(session, method, parsed.data, frame.request);
        return reply;
      }
      const result = this.query(session, method, parsed.data as never);
      // In the same breath as the reading: nothing may change between the answer and the interest in it.
      if (!(result instanceof Promise)) this.register(session, result);
      const reply = await result;
      const written = this.ports.written();
      if (written) await written;
      return reply;
    } finally {
      this.ports.keeper.callHandled?.(method, this.ports.environment.monotonicMs() - startedMs);
    }
  }

  /** What people may want to see of it. A request that is repeated may be told twice. */
  private tell({ caller }: Session, method: Method, request: unknown, number: number | undefined): void {
    const { keeper, tree } = this.ports;
    if (method === 'commit') {
      const { inode, extents } = request as RequestOf<ClientCalls, 'commit'>;
      if (extents.length > 0)
        keeper.fileWritten?.(
          inode,
          caller,
          extents.reduce((sum, extent) => sum + extent.length, 0),
        );
    } else if (method === 'unlink') {
      const { parent, name } = request as RequestOf<ClientCalls, 'unlink'>;
      const directory = tree.pathOf(parent);
      if (directory !== undefined)
        keeper.fileDeleted?.(0, `${directory === '/' ? '' : directory}/${name}`, caller, `${caller.client.slice(0, 8)}-${number}`);
    }
  }

  // ---- queries ----

  private query(session: Session, method: Method, request: never): unknown {
    const { caller } = session;
    const { ports } = this;
    switch (method) {
      case 'renew':
        return this.renew(session);
      case 'lookup':
        return ports.tree.lookup(caller, request);
      case 'getAttributes':
        return { attributes: ports.tree.attributes(ports.tree.row(caller, (request as { inode: InodeId }).inode), caller) };
      case 'readDirectory':
        return ports.tree.readDirectory(caller, request);
      case 'listXattrs':
        return ports.xattrs.list(caller, request);
      case 'getXattr':
        return ports.xattrs.get(caller, request);
      case 'getExtents':
        return ports.data.getExtents(caller, request);
      case 'have':
        return this.have(session, request);
      case 'sync':
        return this.sync(caller, request);
      case 'testLock':
        return ports.locks.test(caller, request);
      case 'statVolume':
        return this.statVolume(caller);
      case 'reportReplica':
        ports.keeper.reportReplica(caller, request);
        return {};
      default:
        throw new HoldfastError('BAD_MESSAGE', `${method} is not served`);
    }
  }

  private async renew(session: Session): Promise<ReplyOf<ClientCalls, 'renew'>> {
    const arrivedMs = this.ports.environment.monotonicMs();
    while (session.recalls.size > 0) await Promise.all(session.recalls);
    session.leaseEndsAtMs = Math.max(session.leaseEndsAtMs, arrivedMs + LEASE_MS);
    return this.ports.keeper.permitFor(session.caller);
  }

  private async have({ caller }: Session, { chunks }: RequestOf<ClientCalls, 'have'>): Promise<ReplyOf<ClientCalls, 'have'>> {
    const present = await this.ports.keeper.have(caller, chunks);
    return { present: [...present] };
  }

  private async sync(
    { volume, client }: ClientCaller,
    { inode, ofOthers }: RequestOf<ClientCalls, 'sync'>,
  ): Promise<ReplyOf<ClientCalls, 'sync'>> {
    // A file that is gone has nothing left to sync; one of another volume answers the same.
    const isOwn = inode !== undefined && this.ports.state.get('inodes', inode)?.volume === volume;
    const recent = isOwn ? this.ports.data.recentChunks(inode, ofOthers ? client : undefined) : [];
    await this.ports.synced();
    return { recentChunks: this.ports.keeper.locations(recent), metadataCopies: this.ports.metadataCopies() };
  }

  private statVolume({ volume, userId }: ClientCaller): ReplyOf<ClientCalls, 'statVolume'> {
    const { state, keeper } = this.ports;
    const totals = state.index.ofVolume(volume);
    const { totalBytes, freeBytes } = keeper.space(volume);
    const files = totals.files + totals.directories;
    const { quotaBytes, leftBytes, leftFiles } = this.ports.tree.quotas.left(volume, userId);
    return {
      totalBytes: Math.min(totalBytes, quotaBytes),
      freeBytes: Math.min(freeBytes, leftBytes),
      files,
      filesFree: Math.min(1_000_000_000 - files, leftFiles),
    };
  }

  // ---- changes ----

  private change(session: Session, method: Changes, frame: CallFrame, request: never): Promise<unknown> {
    if (this.isStopping) throw new HoldfastError('NOT_READY', 'the coordinator is shutting down');
    return this.ports.sessions.once(
      session,
      frame.request,
      frame.answeredBelow,
      async (store) => {
        const allowed = this.ports.changesAllowed();
        if (allowed) await allowed;
        return this.applyAs(session.caller, method, request, store, session);
      },
      (reply) => this.toldAgain(session, reply),
    );
  }

  /** The coordinator that applied it may have died while it waited for others to drop what they had cached: then this one waits for them. */
  private async toldAgain(session: Session, reply: unknown): Promise<unknown> {
    const allowed = this.ports.changesAllowed();
    if (allowed) {
      await allowed;
      this.living(session);
    }
    return this.refreshed(session, reply);
  }

  /** A reply told again later: attributes are those of now, because the client caches what a reply names. */
  private refreshed(session: Session, reply: unknown): unknown {
    const fresh = { ...(reply as Record<string, unknown>) };
    for (const [key, value] of Object.entries(fresh)) {
      if (!isAttributes(value)) continue;
      const row = this.ports.state.get('inodes', value.inode);
      if (row) fresh[key] = this.ports.tree.attributes(row);
    }
    this.register(session, fresh);
    return fresh;
  }

  /**
   * Applies one change, tells those who cached what it touched, and resolves when it may be acknowledged.
   * @param store puts the reply where a repeated request finds it
   */
  async applyAs<M extends Changes>(
    caller: ClientCaller,
    method: M,
    request: RequestOf<ClientCalls, M>,
    store?: (tx: Transaction, reply: unknown) => void,
    session?: Session,
  ): Promise<ReplyOf<ClientCalls, M>> {
    const { ports } = this;
    this.mayChange(caller, method);
    if (!isReading(method)) refuseHidden(ports.tree, method, request);
    if (ports.isFull() && !allowedWhenFull.has(method) && !isUnlock(method, request))
      throw new HoldfastError('ENOSPC', 'the disk of the coordinator is full: free some space there');
    if (method === 'commit') await this.settleChunks(request as RequestOf<ClientCalls, 'commit'>);
    if (method === 'truncate' || method === 'punch') await this.cutSteps(caller, method, request, session);
    const effects = new Effects();
    const reply = ports.state.transact((tx) => {
      // Meanwhile its session may have been ended, or its rights changed.
      const now = session ? this.living(session) : caller;
      this.mayChange(now, method);
      const context = this.context(tx, now, effects);
      const result = changeHidden(ports.tree, ports.trash(), context, method, request) ?? this.apply(context, method, request as never);
      store?.(tx, result);
      return result;
    });
    if (session) this.register(session, reply);
    // The author of a durable commit has made the chunks stable and saves the round trip of a `sync`.
    const isDurable = method === 'commit' && (request as RequestOf<ClientCalls, 'commit'>).durable === true;
    await this.followed(caller, effects, isDurable ? ports.synced : ports.acknowledged);
    return reply as ReplyOf<ClientCalls, M>;
  }

  /** Who may only read changes nothing. */
  private mayChange(caller: ClientCaller, method: Method): void {
    if (caller.access === 'read' && !isReading(method)) throw new HoldfastError('EROFS', 'this access allows reading only');
  }
  /** Who a session is now. @throws {HoldfastError} SESSION_LOST when it was ended */
  private living(session: Session): ClientCaller {
    if (this.ports.sessions.get(session.client) !== session) throw new HoldfastError('SESSION_LOST', 'this session was ended');
    return session.caller;
  }

  /** As `applyAs`, for a change of the coordinator's own that no client asked for by a call. */
  async applyOwn<T>(caller: ClientCaller, body: (context: ChangeContext) => T): Promise<T> {
    const { ports } = this;
    if (this.isStopping) throw new HoldfastError('NOT_READY', 'the coordinator is shutting down');
    const allowed = ports.changesAllowed();
    if (allowed) await allowed;
    const effects = new Effects();
    const result = ports.state.transact((tx) => body(this.context(tx, caller, effects)));
    await this.followed(caller, effects, ports.acknowledged);
    return result;
  }

  /** What comes after the transaction of a change. Resolves when it may be relied on and nobody serves the old state any more. */
  private async followed(caller: ClientCaller, effects: Effects, acknowledge: () => Promise<void> | undefined): Promise<void> {
    const { ports } = this;
    if (effects.toReap.length > 0) ports.reap(effects.toReap);
    const recalled = ports.recall.changed(caller.client, caller.volume, effects.touched);
    const acknowledged = acknowledge();
    if (acknowledged) await acknowledged;
    if (recalled) await recalled;
  }

  private context(tx: Transaction, caller: ClientCaller, effects: Effects): ChangeContext {
    return {
      tx,
      caller,
      effects,
      now: timestamp(this.ports.environment),
      mayHold: (inode): readonly ClientId[] => this.ports.recall.mayHold(inode, caller.volume, caller.client),
    };
  }

  private apply(context: ChangeContext, method: Changes, request: never): unknown {
    const { tree, data, xattrs, locks } = this.ports;
    switch (method) {
      case 'create':
        return tree.create(context, request);
      case 'link':
        return tree.link(context, request);
      case 'unlink':
        return tree.unlink(context, request);
      case 'removeDirectory':
        return tree.removeDirectory(context, request);
      case 'rename':
        return tree.rename(context, request);
      case 'setAttributes':
        return tree.setAttributes(context, request);
      case 'setXattr':
        return xattrs.set(context, request);
      case 'removeXattr':
        return xattrs.remove(context, request);
      case 'releaseOrphans':
        return tree.releaseOrphans(context, request);
      case 'commit':
        return data.commit(context, request);
      case 'truncate':
        return data.truncate(context, request);
      case 'punch':
        return data.punch(context, request);
      case 'copyRange':
        return data.copyRange(context, request);
      case 'lock':
        return locks.lock(context.tx, context.caller, request);
      case 'dropLocks':
        return locks.drop(context.tx, context.caller, request);
    }
  }

  private async settleChunks({ extents }: RequestOf<ClientCalls, 'commit'>): Promise<void> {
    if (extents.length === 0) return;
    const chunks = extents.map((extent) => extent.chunk);
    for (let wait = this.ports.keeper.settle(chunks); wait; wait = this.ports.keeper.settle(chunks)) await wait;
  }

  /** Cuts very many extents in steps with pauses, so that nobody else waits for it. */
  private async cutSteps(caller: ClientCaller, method: 'truncate' | 'punch', request: unknown, session?: Session): Promise<void> {
    const isTruncate = method === 'truncate';
    const { inode } = request as { inode: InodeId };
    const start = isTruncate
      ? (request as RequestOf<ClientCalls, 'truncate'>).sizeBytes
      : (request as RequestOf<ClientCalls, 'punch'>).offset;
    const end = isTruncate ? MAX_FILE_SIZE_BYTES : start + (request as RequestOf<ClientCalls, 'punch'>).length;
    for (;;) {
      const isMore = this.ports.state.transact((tx) =>
        this.ports.data.cutStep(this.context(tx, session ? this.living(session) : caller, new Effects()), inode, start, end, isTruncate),
      );
      if (!isMore) return;
      await new Promise<void>((resolve) => {
        this.ports.environment.setTimer(0, resolve);
      });
    }
  }

  // ---- interest ----

  /** Every inode a reply names is cached by the caller from now on. */
  private register(session: Session, reply: unknown): void {
    const { recall } = this.ports;
    for (const value of Object.values(reply as Record<string, unknown>)) {
      if (Array.isArray(value)) {
        if (!isAttributes(value[0])) continue;
        for (const one of value) recall.interested(session, (one as InodeAttributes).inode);
      } else if (isAttributes(value)) recall.interested(session, value.inode);
    }
  }
}

const isAttributes = (value: unknown): value is InodeAttributes =>
  typeof value === 'object' && value !== null && 'dataVersion' in value && 'inode' in value;
