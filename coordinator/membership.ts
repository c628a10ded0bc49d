/**
 * Which nodes there are and how they are. Registration decides who a node is, heartbeats whether it lives; every change of state is told once,
 * to `hooks`. The judgement itself is in node-state.ts.
 */
import type { Connection, RequestOf } from '../protocol/call.js';
import type { NodeContact, NodeId, VolumeId } from '../protocol/entities.js';
import { type Environment, type Timer, wallMs } from '../protocol/environment.js';
import { HoldfastError } from '../protocol/errors.js';
import { HEARTBEAT_INTERVAL_MS } from '../protocol/limits.js';
import type { NodeCalls, Registered } from '../protocol/node-calls.js';
import { type Beat, Member, spaceOf } from './member.js';
import type { NodeDoor } from './node-doors.js';
import { forgive, knownBefore, type LivenessInput, type LivenessTimes, step } from './node-state.js';
import type { Permits } from './permits.js';
import { roomOf } from './room.js';
import type { NodeRow } from './rows.js';
import { nextNumber, type State, type Transaction } from './state.js';

const TICK_MS = 250;
/** A tick this late means that the coordinator itself did not run; silence in that time is nobody's fault. */
const SLEPT_MS = 1_500;
/** Every write wants two copies, as far as there are nodes for them. */
const LEAST_WRITABLE = 2;
const SLOW_FOR_MS = 15_000;
const SLOW_REPORTS = 3;
const SLOW_REPORTS_WITHIN_MS = 5_000;
const NEXT_NODE_SETTING = 'lastNodeId';

/** How long the process that a node seems to have beside itself may take to answer. */
const PREDECESSOR_TIMEOUT_MS = 1500;

export interface MembershipContext {
  readonly environment: Environment;
  readonly state: State;
  readonly cluster: string;
  readonly epoch: number;
  readonly coordinatorStartId: string;
  readonly accessKey: Buffer;
  readonly times: LivenessTimes;
  readonly permits: Permits;
  readonly scrubBytesPerS: () => number;
  written(): Promise<void>;
}
export interface MembershipHooks {
  /** A node registered: it is up, its inventory is unknown. `isNewProcess`: another start than before. */
  registered(
    member: Member,
    facts: { readonly isNew: boolean; readonly isNewProcess: boolean; readonly before: NodeContact['state'] },
  ): void;
  /** Its state changed (not by registering). */
  stateChanged(member: Member, before: NodeContact['state'], reason: string): void;
  /** Anything clients must know changed: state, writable, address. */
  contactsChanged(): void;
}

export class Membership {
  private readonly members = new Map<NodeId, Member>();
  private timer: Timer | undefined;
  private lastTickMs = 0;
  private lastContacts = '';
  private readonly slowReports = new Map<NodeId, number[]>();

  constructor(
    private readonly context: MembershipContext,
    private readonly hooks: MembershipHooks,
  ) {}

  /** Takes over the nodes known from before. Call once the state is loaded. */
  load(): void {
    const nowMs = this.context.environment.monotonicMs();
    for (const [id, row] of this.context.state.table('nodes').all())
      this.members.set(id, this.member(id, row, knownBefore(row.memory?.isDown === true, nowMs)));
  }
  start(): void {
    this.lastTickMs = this.context.environment.monotonicMs();
    this.arm();
  }
  stop(): void {
    this.timer?.cancel();
    for (const member of this.members.values()) member.disconnect('the coordinator is stopping');
  }

  get(node: NodeId): Member | undefined {
    return this.members.get(node);
  }
  byName(name: string): Member | undefined {
    for (const member of this.members.values()) if (member.name === name && !member.row.isRemoved) return member;
    return undefined;
  }
  /** Nodes that were not removed, by id. */
  all(): Member[] {
    return [...this.members.values()].filter((member) => !member.row.isRemoved);
  }
  /** Removed ones as well. */
  known(node: NodeId): boolean {
    return this.members.has(node);
  }

  /** Nodes that can be relied on to take new chunks and to keep them. */
  takers(): Member[] {
    return this.all().filter((member) => member.isWritable);
  }
  /**
   * Nodes that take new chunks. Slow ones only while there are not two others, draining ones only while one alone is left: a second copy that
   * has to move later is better than none.
   */
  writable(): Member[] {
    const takers = this.takers();
    const fast = takers.filter((member) => !member.isSlow);
    if (fast.length >= LEAST_WRITABLE) return fast;
    return takers.length >= LEAST_WRITABLE ? takers : this.all().filter((member) => member.hasRoom);
  }
  contacts(): NodeContact[] {
    const writable = new Set(this.writable());
    return this.all().map((member) => ({ ...member.contact, writable: writable.has(member) }));
  }
  /**
   * Room on the nodes for one volume's data, divided by its copies. A node that does not answer just now has what it last said: its disk has not
   * become full by that, and for want of room the trash is given up for good. A draining one counts as in `writable`.
   */
  space(volume: VolumeId): { totalBytes: number; freeBytes: number } {
    const copies = this.context.state.get('volumes', volume)?.copies ?? 1;
    const known = this.all().filter((member) => !member.isDown);
    const open = known.filter((member) => member.diskHasRoom);
    const staying = open.filter((member) => !member.row.isDraining);
    const takers = new Set(staying.length >= LEAST_WRITABLE ? staying : open);
    const { totalBytes, freeBytes } = roomOf(known.map((member) => ({ space: member.space, isWritable: takers.has(member) })));
    return { totalBytes: Math.floor(totalBytes / copies), freeBytes: Math.floor(freeBytes / copies) };
  }

  /** Another process than the one that registers now was heard of lately. */
  private isOther(before: Member, args: RequestOf<NodeCalls, 'register'>): boolean {
    return before.startId !== args.startId && before.liveness.presence === 'up' && !before.liveness.saidGoodbye;
  }
  /** Its machine may have lost power and be back before we noticed: a connection that does not answer is over. */
  private async askPredecessor(connection: Connection, args: RequestOf<NodeCalls, 'register'>): Promise<void> {
    const before = this.members.get(this.identify(args).id);
    const old = before?.connection;
    if (!before || !old?.isOpen || old === connection || !this.isOther(before, args)) return;
    try {
      await before.order('condemn', { chunks: [] }, PREDECESSOR_TIMEOUT_MS);
    } catch {
      old.close('it does not answer, and the node has started again');
    }
  }

  /**
   * A node says who it is. The connection is its connection from now on.
   * @param door by what token it came in; a join token is used up, by `consumeJoin`, with the row that it makes
   * @throws {HoldfastError} WRONG_CLUSTER, REFUSED with what to do
   */
  async register(
    connection: Connection,
    args: RequestOf<NodeCalls, 'register'>,
    door: NodeDoor,
    consumeJoin: (tx: Transaction, id: string) => void,
  ): Promise<{ member: Member; reply: Registered }> {
    const { environment, state } = this.context;
    if (args.cluster !== undefined && args.cluster !== this.context.cluster)
      throw new HoldfastError(
        'WRONG_CLUSTER',
        `the data directory of ${args.name} belongs to cluster ${args.cluster}, this coordinator serves ${this.context.cluster}: start it with the right coordinator, or give it an empty data directory`,
      );
    await this.askPredecessor(connection, args);
    const { id, isNew } = this.identify(args);
    const before = this.members.get(id);
    this.checkDoor(door, id, before, args);
    if (before?.connection?.isOpen && before.connection !== connection) {
      if (this.isOther(before, args))
        throw new HoldfastError(
          'REFUSED',
          `another process is running as node ${args.name} (${before.row.url}): stop it first, or start this one under another name`,
        );
      before.connection.close('the node registered again');
    }
    const row: NodeRow = {
      name: args.name,
      zone: args.zone,
      url: args.url.replace(/\/+$/, ''),
      version: args.version,
      isDraining: before?.row.isDraining ?? false,
      isRemoved: false,
      ...(door.kind === 'join' ? { tokenSha256: args.ownTokenSha256 as string } : {}),
      ...(door.kind !== 'join' && before?.row.tokenSha256 !== undefined ? { tokenSha256: before.row.tokenSha256 } : {}),
      firstSeenMs: before?.row.firstSeenMs ?? wallMs(environment),
      memory: { ...before?.row.memory, isDown: false },
    };
    if (!before || JSON.stringify(before.row) !== JSON.stringify(row)) {
      state.transact((tx) => {
        if (door.kind === 'join') consumeJoin(tx, door.id);
        if (isNew) nextNumber(tx, NEXT_NODE_SETTING);
        else if (id > ((tx.get('settings', NEXT_NODE_SETTING) as number | undefined) ?? 0)) tx.put('settings', NEXT_NODE_SETTING, id);
        tx.put('nodes', id, row);
      });
    }
    const member = before ?? this.member(id, row, knownBefore(false, environment.monotonicMs()));
    this.members.set(id, member);
    const stateBefore = member.state;
    const isNewProcess = member.startId !== args.startId;
    member.row = row;
    member.startId = args.startId;
    if (isNewProcess) member.restarted();
    member.connection = connection;
    member.space = spaceOf(args);
    member.liveness = step(member.liveness, 'registered', environment.monotonicMs(), this.context.times);
    // The node keeps its id on disk: it must not learn of one that the coordinator could forget.
    await this.context.written();
    if (member.connection === connection && !connection.isOpen) this.closed(member, connection, 'the connection closed');
    if (member.connection !== connection) throw new HoldfastError('UNREACHABLE', 'the node went away while registering');
    this.hooks.registered(member, { isNew, isNewProcess, before: stateBefore });
    this.tellContacts();
    const { permits } = this.context;
    return {
      member,
      reply: {
        cluster: this.context.cluster,
        node: id,
        epoch: this.context.epoch,
        coordinatorStartId: this.context.coordinatorStartId,
        accessKey: this.context.accessKey.toString('hex'),
        generation: permits.generation,
        revokedClients: permits.revokedClients,
        heartbeatIntervalMs: HEARTBEAT_INTERVAL_MS,
        scrubBytesPerS: this.context.scrubBytesPerS(),
      },
    };
  }

  beat(member: Member, beat: Beat): { generation: number; revokedClients: string[]; scrubBytesPerS: number } {
    const isReadOnlyBefore = member.isReadOnly;
    member.beat(beat);
    this.apply(member, 'heartbeat', 'it is heard again');
    if (beat.isReadOnly !== isReadOnlyBefore)
      this.hooks.stateChanged(member, member.state, beat.isReadOnly ? 'read-only' : 'writable again');
    const { permits } = this.context;
    return { generation: permits.generation, revokedClients: [...permits.revokedClients], scrubBytesPerS: this.context.scrubBytesPerS() };
  }
  goodbye(member: Member, reason: string): void {
    this.apply(member, 'goodbye', `it stops: ${reason}`);
  }
  /** The connection ended; of no meaning when the node has another one by now. */
  closed(member: Member, connection: Connection, reason: string): void {
    if (member.connection !== connection) return;
    member.connection = undefined;
    member.inventory = 'unknown';
    this.apply(member, 'closed', reason);
  }
  /** A reader had to go elsewhere because this node was too slow. */
  reportedSlow(node: NodeId): boolean {
    const member = this.members.get(node);
    if (!member) return false;
    const nowMs = this.context.environment.monotonicMs();
    const reports = (this.slowReports.get(node) ?? []).filter((atMs) => nowMs - atMs < SLOW_REPORTS_WITHIN_MS);
    reports.push(nowMs);
    this.slowReports.set(node, reports.slice(-SLOW_REPORTS));
    if (reports.length < SLOW_REPORTS) return false;
    const wasSlow = member.isSlow;
    member.slowUntilMs = nowMs + SLOW_FOR_MS;
    this.tellContacts();
    return !wasSlow;
  }

  /** An administrator's decisions. */
  setDraining(member: Member, isDraining: boolean): void {
    this.putRow(member, { ...member.row, isDraining });
    this.tellContacts();
  }
  setRemoved(member: Member): void {
    this.putRow(member, { ...member.row, isRemoved: true });
    member.disconnect('the node was removed');
    member.connection = undefined;
    this.tellContacts();
  }

  /** Judges every node now. Called by the clock. */
  tick(): void {
    const nowMs = this.context.environment.monotonicMs();
    const lateMs = nowMs - this.lastTickMs - TICK_MS;
    this.lastTickMs = nowMs;
    for (const member of this.members.values()) {
      if (member.row.isRemoved) continue;
      if (lateMs > SLEPT_MS) member.liveness = forgive(member.liveness, lateMs);
      this.apply(member, 'tick', 'no heartbeat');
    }
    // Slowness ends and disks fill without anybody calling.
    this.tellContacts();
  }

  private arm(): void {
    this.timer = this.context.environment.setTimer(TICK_MS, () => {
      this.tick();
      this.arm();
    });
  }

  private apply(member: Member, input: LivenessInput, reason: string): void {
    const before = member.state;
    const liveness = step(member.liveness, input, this.context.environment.monotonicMs(), this.context.times);
    if (liveness === member.liveness) return;
    member.liveness = liveness;
    if (member.state === before) return;
    if (liveness.presence === 'down') {
      this.putRow(member, { ...member.row, memory: { ...member.row.memory, ...member.space, isDown: true } });
      // Should it still be connected, it has to register again, so that what it holds is asked for.
      member.disconnect('no heartbeat for too long');
    }
    this.hooks.stateChanged(member, before, reason);
    this.tellContacts();
  }

  private putRow(member: Member, row: NodeRow): void {
    this.context.state.transact((tx) => tx.put('nodes', member.id, row));
    member.row = row;
  }

  private tellContacts(): void {
    const text = this.contacts()
      .map((one) => `${one.node} ${one.name} ${one.url} ${one.state} ${one.writable} ${one.zone}`)
      .join('\n');
    if (text === this.lastContacts) return;
    this.lastContacts = text;
    this.hooks.contactsChanged();
  }

  private member(id: NodeId, row: NodeRow, liveness: Member['liveness']): Member {
    return new Member(id, row, liveness, this.context.environment, {
      epoch: this.context.epoch,
      coordinatorStartId: this.context.coordinatorStartId,
    });
  }

  /** A node's own token speaks for that node alone, a join token for nobody who is known. */
  private checkDoor(door: NodeDoor, id: NodeId, before: Member | undefined, args: RequestOf<NodeCalls, 'register'>): void {
    if (door.kind === 'node' && door.node !== id)
      throw new HoldfastError(
        'FORBIDDEN',
        `this token is that of another node than ${args.name}: start each node with its own data directory`,
      );
    if (door.kind !== 'join') return;
    if (args.ownTokenSha256 === undefined) throw new HoldfastError('BAD_MESSAGE', 'a node that joins by a join token says its own');
    if (before && !before.row.isRemoved)
      throw new HoldfastError(
        'FORBIDDEN',
        `there is a node ${before.name} already, and a join token is for new ones: choose another name, or start it with the token it has`,
      );
  }

  /** Which node this is. An identity file counts; without one a new node is made, unless the name's data is expected to be somewhere. */
  private identify(args: RequestOf<NodeCalls, 'register'>): { id: NodeId; isNew: boolean } {
    const { state } = this.context;
    const namesake = this.byName(args.name);
    if (args.node !== undefined) {
      const known = this.members.get(args.node);
      if (known?.row.isRemoved)
        throw new HoldfastError(
          'REFUSED',
          `node ${args.name} was removed from the cluster: to let it join again as a new node, give it an empty data directory`,
        );
      if (namesake && namesake.id !== args.node)
        throw new HoldfastError(
          'REFUSED',
          `the name ${args.name} belongs to node ${namesake.id}, this data directory to node ${args.node}: start it under its own name${known ? ` (${known.name})` : ''}`,
        );
      // An id the metadata does not know: the metadata is a backup from before the node joined. The identity file is right.
      return { id: args.node, isNew: false };
    }
    if (namesake) {
      const expected = state.index.ofNode(namesake.id).replicas;
      if (expected > 0)
        throw new HoldfastError(
          'REFUSED',
          `node ${args.name} is known and ${expected} replicas are expected on it, but this data directory is empty: it was emptied or replaced. Start the node with its old directory, or forget the old one with "holdfast node remove ${args.name}" and start it again`,
        );
      return { id: namesake.id, isNew: false };
    }
    return { id: ((state.get('settings', NEXT_NODE_SETTING) as number | undefined) ?? 0) + 1, isNew: true };
  }
}
