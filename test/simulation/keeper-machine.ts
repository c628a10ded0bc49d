/**
 * A coordinator that keeps chunks and nothing else: no files, but references that clients add and drop directly, so that deletion and upload of the
 * same content meet far more often than under a file tree. It dies as every simulated process does; what it had written to its journal stays.
 */
import { Keeper } from '../../coordinator/cluster-keeper.js';
import type { ClientCaller, ClusterContext } from '../../coordinator/ports.js';
import { type Change, type TableName, tableNames } from '../../coordinator/rows.js';
import { State } from '../../coordinator/state.js';
import { Users } from '../../coordinator/users.js';
import { Volumes } from '../../coordinator/volumes.js';
import type { Dialer } from '../../protocol/call.js';
import type { ChunkId, ChunkLocation } from '../../protocol/entities.js';
import { sleep } from '../../protocol/environment.js';
import { HoldfastError } from '../../protocol/errors.js';
import { accessKeyOf } from '../../protocol/permit.js';
import { Network } from './network.js';
import { NODE_TOKEN, type NodeSurroundings, SimNode } from './node-machine.js';
import { SimProcess, type World } from './world.js';

const CLUSTER = 'c1';
const ANSWER_WITHIN_MS = 20_000;

/** What one transaction changed, and the request it answered. */
interface JournalRecord {
  readonly changes: readonly Change[];
  readonly request: string | undefined;
}

interface Running {
  readonly state: State;
  readonly keeper: Keeper;
  /** Requests that are done: asked again they change nothing. */
  readonly answered: Set<string>;
}

export class KeeperMachine implements NodeSurroundings {
  readonly process: SimProcess;
  readonly network: Network;
  readonly nodes: readonly SimNode[];
  private running: Running | undefined;
  private epoch = 0;
  private journal: JournalRecord[] = [];
  private writtenTo = 0;
  private request: string | undefined;

  constructor(
    readonly world: World,
    private readonly graceMs: number,
  ) {
    this.process = new SimProcess(world, 'co');
    this.network = new Network(world);
    this.nodes = [1, 2, 3].map((at) => new SimNode(this, `n${at}`, '', 2 ** 40));
    const first = new State();
    this.follow(first);
    first.transact((tx) =>
      tx.put('volumes', 1, {
        ...{ volume: 1, name: 'main', root: 1, copies: 2, chunkSizeBytes: 65_536, quotaBytes: null, quotaFiles: null },
        ...{ encryption: null, trashKeepMs: 0 },
      }),
    );
    this.writtenTo = this.journal.length;
  }

  dialerOf(from: SimProcess): Dialer {
    return this.network.dialer(from, this.process, () => {
      const { running } = this;
      return running && ((_namespace, handshake, connection) => running.keeper.acceptNode(handshake, connection));
    });
  }
  nodesLostPower(): void {
    this.world.fail('no node loses power here');
  }

  start(): void {
    if (this.process.isAlive) return;
    const environment = this.process.start();
    const state = new State();
    const answered = new Set<string>();
    this.epoch++;
    const written = async (): Promise<void> => {
      const upTo = this.journal.length;
      await sleep(environment, environment.random() * 3);
      this.writtenTo = Math.max(this.writtenTo, upTo);
    };
    const context: ClusterContext = {
      environment,
      state,
      options: { downAfterMs: 5000, stoppedGraceMs: 5000, deletionGraceMs: this.graceMs, version: 't' },
      notices: { contactsChanged: () => {}, volumeChanged: () => {} },
      volumes: new Volumes({ environment, state, createRoot: () => 1, reapStep: () => true }),
      cluster: CLUSTER,
      epoch: this.epoch,
      coordinatorStartId: `start-${this.epoch}`,
      accessKey: accessKeyOf(NODE_TOKEN, CLUSTER),
      url: () => 'http://co:6000',
      written,
      synced: written,
      users: new Users({ environment, state, adminToken: 'admin-token' }),
      nodeToken: NODE_TOKEN,
      metadataStatus: () => ({ sequence: 0, bytes: 0, copies: [], isDiskFull: false }),
      connectedClients: () => 0,
      resolve: () => 1,
      pathOf: () => '/',
      deleteFile: () => Promise.resolve(),
      history: () => {
        throw new Error('none');
      },
      backup: () => Promise.reject(new Error('none')),
      readBackup: () => Promise.reject(new Error('none')),
    };
    for (const { changes, request } of this.journal) {
      for (const [table, key, row] of changes) state.load(table, key, row);
      if (request !== undefined) answered.add(request);
    }
    this.compact(state, answered);
    this.follow(state);
    const keeper = new Keeper(context);
    keeper.start();
    this.running = { state, keeper, answered };
  }
  /** What was not written may be lost: the last first. */
  kill(): void {
    if (!this.process.isAlive) return;
    this.process.kill(false);
    this.running = undefined;
    this.journal.length = this.writtenTo + this.world.random.int(this.journal.length - this.writtenTo + 1);
    this.writtenTo = this.journal.length;
  }
  private follow(state: State): void {
    state.onCommit = (changes) => this.journal.push({ changes, request: this.request });
  }
  /** Otherwise every start would replay the whole life. */
  private compact(state: State, answered: ReadonlySet<string>): void {
    const changes: Change[] = [];
    for (const table of tableNames)
      for (const [key, row] of (state.tables[table] as { all(): Iterable<[never, unknown]> }).all())
        changes.push([table as TableName, key, row]);
    this.journal = [{ changes, request: undefined }, ...[...answered].map((request) => ({ changes: [], request }))];
    this.writtenTo = this.journal.length;
  }

  get isReady(): boolean {
    const { running } = this;
    if (!running) return false;
    const members = running.keeper.membership.all();
    return members.length >= this.nodes.length && members.every((member) => member.inventory === 'complete');
  }
  get chunkRows(): number {
    return this.running?.state.table('chunks').size ?? Number.POSITIVE_INFINITY;
  }

  // What clients ask, over the network.

  have(from: SimProcess, caller: ClientCaller, chunk: ChunkId): Promise<{ present: readonly ChunkLocation[]; permit: string }> {
    return this.ask(from, 'have', ({ keeper }) =>
      Promise.resolve({
        present: keeper.have(caller, [chunk]),
        permit: keeper.permitFor(caller).permit,
      }),
    );
  }
  /** One more reference to an uploaded chunk. @throws {HoldfastError} UPLOAD_AGAIN */
  commit(from: SimProcess, caller: ClientCaller, chunk: ChunkId, receipts: readonly string[], request: string): Promise<void> {
    return this.ask(from, 'commit', async ({ keeper, state, answered }) => {
      for (let wait = keeper.settle([chunk]); wait; wait = keeper.settle([chunk])) await wait;
      this.once(request, answered, state, (tx) => {
        keeper.acceptCommit(tx, caller, [chunk], receipts);
        keeper.addReferences(tx, chunk, 1);
      });
      this.check();
      await keeper.context.written();
    });
  }
  drop(from: SimProcess, chunk: ChunkId, request: string): Promise<void> {
    return this.ask(from, 'drop', async ({ keeper, state, answered }) => {
      this.once(request, answered, state, (tx) => keeper.dropReferences(tx, chunk, 1));
      await keeper.context.written();
    });
  }
  private once(request: string, answered: Set<string>, state: State, body: Parameters<State['transact']>[0]): void {
    if (answered.has(request)) return;
    this.request = request;
    try {
      state.transact(body);
      answered.add(request);
    } finally {
      this.request = undefined;
    }
  }
  private ask<Reply>(from: SimProcess, what: string, serve: (running: Running) => Promise<Reply>): Promise<Reply> {
    return this.network.request(
      from,
      this.process,
      what,
      0,
      { timeoutMs: ANSWER_WITHIN_MS },
      () => (this.running ? serve(this.running) : Promise.reject(new HoldfastError('UNREACHABLE', 'not listening'))),
      () => 0,
    );
  }

  /** What must always hold: a replica that a living chunk is said to have is there. */
  check(): void {
    const { running } = this;
    if (!running) return;
    for (const [chunk, row] of running.state.table('chunks').all()) {
      if (row.refs === 0) continue;
      const there = row.replicas.filter((number) => {
        const name = running.state.get('nodes', number)?.name;
        return this.nodes.some((node) => node.name === name && node.disk.isGood(chunk));
      });
      if (there.length < row.replicas.length)
        this.world.fail(`chunk ${chunk.slice(0, 8)} lives on ${row.replicas.join()} but is only on ${there.join() || 'none'}`);
    }
  }
}
