/** Puts together everything about nodes and chunks, and wires who tells whom. The parts decide; this file only connects. */
import type { Connection } from '../protocol/call.js';
import type { ChunkId, ClientId, InodeId, NodeContact, NodeId, VolumeId } from '../protocol/entities.js';
import { HoldfastError } from '../protocol/errors.js';
import { AccessActions } from './access-actions.js';
import { Admins } from './admin-actions.js';
import { acceptAdmin } from './admin-handlers.js';
import { ChunkBook } from './chunk-keeper.js';
import { Collector } from './collector.js';
import { EventLog, FileEvents, type NewEvent } from './events.js';
import { HistoryActions } from './history-actions.js';
import { Inventory } from './inventory.js';
import { JobBook } from './jobs.js';
import type { Member } from './member.js';
import { Membership } from './membership.js';
import { metricsText } from './metrics.js';
import { NodeDoors } from './node-doors.js';
import { acceptNode } from './node-handlers.js';
import { defaultTimes } from './node-state.js';
import { Permits } from './permits.js';
import { Pins } from './pins.js';
import type { ClientCaller, ClusterContext, ClusterKeeper } from './ports.js';
import { Rates } from './rates.js';
import { Rebalance } from './rebalance.js';
import { Receipts } from './receipts.js';
import { Repair } from './repair.js';
import { ReplicaCare } from './replica-care.js';
import { SafeMode } from './safe-mode.js';
import { Scrub } from './scrub.js';
import type { Transaction } from './state.js';
import { StatusBook } from './status.js';
import { Strays } from './strays.js';
import { Watches } from './watches.js';
import { durationInWords } from './words.js';

const LOOK_MS = 1_000;

export class Keeper implements ClusterKeeper {
  readonly events: EventLog;
  readonly jobs: JobBook;
  readonly membership: Membership;
  readonly collector: Collector;
  readonly repair: Repair;
  readonly inventory: Inventory;
  readonly safeMode: SafeMode;
  readonly care: ReplicaCare;
  private readonly strays: Strays;
  readonly scrub: Scrub;
  readonly rebalance: Rebalance;
  readonly statusBook: StatusBook;
  readonly rates: Rates;
  readonly watches: Watches;
  readonly doors: NodeDoors;
  readonly admins: Admins;
  readonly history: HistoryActions;
  readonly access: AccessActions;
  private readonly permits: Permits;
  private readonly receipts = new Receipts();
  private readonly pins = new Pins();
  private readonly book: ChunkBook;
  private readonly files: FileEvents;
  private isStopped = false;
  private requests = 0;

  constructor(readonly context: ClusterContext) {
    const { environment, state, cluster, accessKey } = context;
    const isSafeMode = (): boolean => this.safeMode.active;
    this.events = new EventLog(environment, state);
    this.jobs = new JobBook(environment);
    this.permits = new Permits(environment, state, accessKey, cluster);
    this.doors = new NodeDoors(environment, state, context.nodeToken);
    this.files = new FileEvents(environment, this.events, context.pathOf);
    this.membership = new Membership(
      {
        ...{ environment, state, cluster, accessKey },
        epoch: context.epoch,
        coordinatorStartId: context.coordinatorStartId,
        times: { ...defaultTimes, downAfterMs: context.options.downAfterMs, stoppedGraceMs: context.options.stoppedGraceMs },
        permits: this.permits,
        scrubBytesPerS: () => this.scrub.backgroundBytesPerS,
        written: () => context.written(),
      },
      {
        registered: (member, facts) => this.registered(member, facts),
        stateChanged: (member, before, reason) => this.stateChanged(member, before, reason),
        contactsChanged: () => context.notices.contactsChanged(this.membership.contacts()),
      },
    );
    const { membership, events, jobs, receipts, pins, permits } = this;
    this.collector = new Collector({
      ...{ environment, state, membership, receipts, pins, events, isSafeMode },
      graceMs: context.options.deletionGraceMs,
      isCopying: (chunk) => this.repair.isCopying(chunk),
      synced: () => context.synced(),
    });
    const { collector } = this;
    this.repair = new Repair({
      ...{ environment, state, cluster, accessKey, membership, permits, receipts, collector, jobs, events, isSafeMode },
      copied: (chunk, to) => this.care.copied(chunk, to),
      unreadable: (chunk, from) => {
        for (const node of from) this.care.check(node, chunk, 'copy');
      },
    });
    const { repair } = this;
    this.book = new ChunkBook({
      ...{ environment, state, cluster, accessKey, membership, receipts, pins, collector },
      committed: (bytes) => {
        this.rates.written(bytes);
        repair.usersWrote();
      },
    });
    this.inventory = new Inventory({
      ...{ environment, state, membership, receipts, collector, events },
      ...(context.options.unknownGraceMs === undefined ? {} : { unknownGraceMs: context.options.unknownGraceMs }),
      completed: (member) => {
        this.safeMode.look();
        collector.wake(member.id);
        repair.kick();
      },
      lost: () => repair.kick(),
    });
    this.safeMode = new SafeMode(environment, membership, context.options.downAfterMs, (reason) => {
      this.events.note({ level: 'info', kind: 'coordinator.ready', text: `safe mode ended: ${reason}` });
      collector.wake();
      repair.kick();
    });
    this.care = new ReplicaCare({ ...{ environment, state, membership, events, jobs }, replicaLost: () => repair.kick() });
    this.strays = new Strays({ ...{ environment, state, membership, collector }, surplusFound: () => repair.kick() });
    this.scrub = new Scrub({ ...{ environment, membership, jobs, events } });
    this.rebalance = new Rebalance({ ...{ environment, state, membership, repair, collector, jobs, events, isSafeMode } });
    this.rates = new Rates(environment, {
      nodesReadBytesPerS: () => membership.all().reduce((sum, member) => sum + (member.isUp ? member.readBytesPerS : 0), 0),
      copiedBytes: () => repair.copiedBytes,
    });
    const { safeMode, rates, care } = this;
    this.statusBook = new StatusBook({ ...{ context, membership, collector, repair, jobs, events, safeMode, rates } });
    this.watches = new Watches({ ...{ context, events, jobs, repair, rates, care, membership, status: this.statusBook } });
    this.admins = new Admins(this);
    this.history = new HistoryActions(context, (user, kind, text) => this.admins.record({ user }, kind, text));
    this.access = new AccessActions(this);
  }

  start(): void {
    this.events.load();
    this.membership.load();
    this.repair.load();
    this.permits.start();
    this.membership.start();
    this.safeMode.start();
    this.collector.start();
    this.inventory.start();
    this.repair.start();
    this.scrub.start();
    this.rates.start();
    this.watches.start();
    this.look();
    const { cluster, epoch } = this.context;
    this.events.note({ level: 'info', kind: 'coordinator.started', text: `coordinator of cluster ${cluster} started, epoch ${epoch}` });
  }

  stop(): Promise<void> {
    this.isStopped = true;
    this.events.note({ level: 'info', kind: 'coordinator.stopped', text: 'coordinator stops' });
    for (const part of [this.watches, this.rates, this.scrub, this.rebalance, this.repair, this.inventory, this.collector, this.files])
      part.stop();
    this.membership.stop();
    this.permits.stop();
    this.events.flush();
    return Promise.resolve();
  }

  acceptNode = (handshake: unknown, connection: Connection): void => {
    if (this.isStopped) throw new HoldfastError('NOT_READY', 'the coordinator is stopping');
    acceptNode(
      {
        membership: this.membership,
        care: this.care,
        doors: this.doors,
        joined: (member) => {
          // After the reply: the node obeys orders only once it knows that it has joined.
          const { connection: current } = member;
          this.context.environment.setTimer(0, () => {
            if (member.connection === current && !this.isStopped) void this.inventory.take(member);
          });
        },
      },
      handshake,
      connection,
    );
  };
  acceptAdmin = (handshake: unknown, connection: Connection): void => acceptAdmin(this, handshake, connection);

  /** What an administrator's request is called in the record. */
  nextRequest(): string {
    return `${this.context.epoch}-${++this.requests}`;
  }
  revokePermits(who: readonly string[]): void {
    this.permits.revoke(who);
  }
  note(event: NewEvent): void {
    this.events.note(event);
  }
  metrics(): string {
    return metricsText(this.statusBook.status(), this.events);
  }

  // What the file tree asks.
  settle(chunks: readonly ChunkId[]): Promise<void> | undefined {
    return this.collector.settle(chunks);
  }
  acceptCommit(tx: Transaction, caller: ClientCaller, chunks: readonly ChunkId[], receipts: readonly string[]): readonly ChunkId[] {
    return this.book.acceptCommit(tx, caller, chunks, receipts);
  }
  addReferences(tx: Transaction, chunk: ChunkId, count: number): void {
    this.book.addReferences(tx, chunk, count);
  }
  dropReferences(tx: Transaction, chunk: ChunkId, count: number): void {
    this.book.dropReferences(tx, chunk, count);
  }
  have(caller: ClientCaller, chunks: readonly ChunkId[]) {
    return this.book.have(caller, chunks);
  }
  locations(chunks: readonly ChunkId[]) {
    return this.book.locations(chunks);
  }
  contacts(): readonly NodeContact[] {
    return this.membership.contacts();
  }
  permitFor(caller: ClientCaller): { permit: string; generation: number } {
    return this.permits.permitFor(caller);
  }
  get mayFree(): boolean {
    return !this.safeMode.active;
  }
  space(volume: VolumeId): { totalBytes: number; freeBytes: number } {
    return this.membership.space(volume);
  }
  reportReplica(
    caller: ClientCaller,
    report: { chunk: ChunkId; node: NodeId; problem: 'corrupt' | 'missing' | 'unreachable' | 'slow' | 'stray' },
  ): void {
    if (report.problem === 'stray') {
      this.strays.look(report.node, report.chunk, caller.volume);
      return;
    }
    const row = this.context.state.get('chunks', report.chunk);
    if (!row || row.volume !== caller.volume || !row.replicas.includes(report.node)) return;
    if (report.problem === 'corrupt' || report.problem === 'missing') this.care.check(report.node, report.chunk, 'read');
    else if (report.problem === 'slow' && this.membership.reportedSlow(report.node)) {
      const name = this.membership.get(report.node)?.name ?? '';
      this.events.note({
        level: 'warn',
        kind: 'node.slow',
        text: `node ${name} is slow: readers and writers prefer others for a while`,
        node: name,
      });
    }
  }
  sessionEnded(client: ClientId): void {
    this.book.sessionEnded(client);
    this.permits.forget(client);
  }

  // What the file tree tells.
  fileWritten(inode: InodeId, caller: ClientCaller, bytes: number): void {
    this.files.fileWritten(inode, caller, bytes);
  }
  fileDeleted(inode: InodeId, path: string, caller: ClientCaller, request?: string): void {
    this.files.fileDeleted(inode, path, caller, request);
  }
  callHandled(): void {
    this.rates.called();
  }

  private look(): void {
    this.context.environment.setTimer(LOOK_MS, () => {
      if (this.isStopped) return;
      this.safeMode.look();
      this.look();
    });
  }

  private registered(member: Member, facts: { isNew: boolean; isNewProcess: boolean; before: NodeContact['state'] }): void {
    this.receipts.registered(member.id, member.startId);
    const text = facts.isNew
      ? `node ${member.name} joined the cluster (${member.row.url}${member.row.zone ? `, zone ${member.row.zone}` : ''})`
      : `node ${member.name} is up${facts.isNewProcess ? '' : ' again'}`;
    this.events.note({ level: 'info', kind: facts.isNew ? 'node.joined' : 'node.up', text, node: member.name });
    this.repair.kick();
  }

  private stateChanged(member: Member, before: NodeContact['state'], reason: string): void {
    const { options } = this.context;
    const { name } = member;
    switch (member.liveness.presence) {
      case 'up':
        // Heard again on the same connection: no inventory will tell the collector that it may go on there.
        if (member.inventory === 'complete') this.collector.wake(member.id);
        if (before === 'suspect' || before === 'down')
          this.events.note({ level: 'info', kind: 'node.up', text: `node ${name} is heard again`, node: name });
        else
          this.events.note({
            level: member.isReadOnly ? 'error' : 'info',
            kind: 'node.disk',
            text: member.isReadOnly ? `node ${name} has disk errors and takes no new chunks` : `node ${name} takes new chunks again`,
            node: name,
          });
        break;
      case 'suspect': {
        const graceMs = member.liveness.saidGoodbye ? options.stoppedGraceMs : options.downAfterMs;
        this.events.note({
          level: 'warn',
          kind: 'node.suspect',
          text: `node ${name} is suspect (${reason}); its chunks are copied elsewhere unless it is back in ${durationInWords(graceMs)}`,
          node: name,
        });
        break;
      }
      case 'down':
        this.events.note({
          level: 'error',
          kind: 'node.down',
          text: `node ${name} is down: its chunks are copied from other nodes`,
          node: name,
        });
        break;
    }
    this.safeMode.look();
    this.repair.kick();
  }
}

export const createClusterKeeper = (context: ClusterContext): ClusterKeeper => new Keeper(context);
