/** The machine of the coordinator: its disk outlives its processes; when the process ends by itself, something starts it again, as systemd would. */
import { createClusterKeeper } from '../../coordinator/cluster-keeper.js';
import { Coordinator } from '../../coordinator/coordinator.js';
import { MemoryJournalStorage } from '../../coordinator/journal-storage.js';
import { MemoryMetadataStore, type MetadataStore, type RowsByTable } from '../../coordinator/metadata-store.js';
import type { AnyKey, TableName } from '../../coordinator/rows.js';
import type { State } from '../../coordinator/state.js';
import type { Accept } from '../../protocol/call.js';
import type { NodeContact } from '../../protocol/entities.js';
import { ADMIN_TOKEN, CHUNK_SIZE_BYTES, type Cluster } from './cluster.js';
import { noCounters, noFaults, SimJournalStorage } from './disk.js';
import { describe } from './network.js';
import { MOST_FOR_A_START_MS, NODE_TOKEN } from './node-machine.js';
import type { Random } from './random.js';
import { SimProcess } from './world.js';

const RESTART_AFTER_MS = 400;
/** Small, so that runs cross the ends of segments. */
const SEGMENT_BYTES = 64 * 1024;

/** The lasting store, with time, and out of reach of a process that is gone. */
class SimMetadataStore implements MetadataStore {
  readonly sizeBytes = 0;
  private readonly incarnation: number;
  constructor(
    private readonly inner: MemoryMetadataStore,
    private readonly process: SimProcess,
    private readonly random: Random,
    private readonly isFull: () => boolean,
  ) {
    this.incarnation = process.incarnation;
  }
  private wait(): Promise<void> {
    return new Promise((resolve) => {
      this.process.world.schedule(this.random.between(0.2, 5), '', () => this.process.run(this.incarnation, resolve));
    });
  }
  async load(apply: (table: TableName, key: AnyKey, row: unknown) => void): Promise<number> {
    await this.wait();
    return this.inner.load(apply);
  }
  async save(rows: RowsByTable, appliedSequence: number): Promise<void> {
    await this.wait();
    this.inner.isFull = this.isFull();
    await this.inner.save(rows, appliedSequence);
    await this.wait();
  }
  close(): Promise<void> {
    return Promise.resolve();
  }
}

export class CoordinatorMachine {
  readonly process: SimProcess;
  readonly disk = noFaults();
  readonly diskCounters = noCounters();
  private readonly journal = new MemoryJournalStorage(SEGMENT_BYTES);
  private readonly store = new MemoryMetadataStore();
  private readonly random: Random;
  private running: Coordinator | undefined;

  constructor(private readonly cluster: Cluster) {
    this.process = new SimProcess(cluster.world, 'co');
    this.random = cluster.world.random.fork();
  }

  /** Tells once that there was no room on its disk. */
  get wasFull(): boolean {
    const was = this.diskCounters.full > 0;
    this.diskCounters.full = 0;
    return was;
  }
  /** Undefined while it does not listen. */
  get accept(): Accept | undefined {
    return this.running?.accept;
  }
  state(): State | undefined {
    return this.running?.state;
  }
  contacts(): readonly NodeContact[] {
    return this.running?.keeper.contacts() ?? [];
  }

  async start(): Promise<void> {
    if (!this.process.isAlive) await this.cluster.world.within(MOST_FOR_A_START_MS, this.begin());
  }
  private async begin(): Promise<void> {
    const { cluster } = this;
    const environment = this.process.start();
    const { incarnation } = this.process;
    try {
      const coordinator = await Coordinator.start({
        environment,
        journalStorage: new SimJournalStorage(this.journal, this.process, this.random, this.disk, this.diskCounters),
        store: new SimMetadataStore(this.store, this.process, this.random, () => this.disk.isFull),
        createKeeper: createClusterKeeper,
        options: {
          copies: 2,
          chunkSizeBytes: CHUNK_SIZE_BYTES,
          trashKeepMs: 0,
          downAfterMs: 5000,
          stoppedGraceMs: 8000,
          deletionGraceMs: cluster.shape.deletionGraceMs,
          version: '0',
        },
        cluster: 'simulated',
        adminToken: ADMIN_TOKEN,
        nodeToken: NODE_TOKEN,
        onFatal: (error) => this.fatal(incarnation, error),
      });
      if (this.process.isCurrent(incarnation)) this.running = coordinator;
    } catch (error) {
      if (!this.process.isCurrent(incarnation)) return;
      if (this.disk.syncEio > 0) this.fatal(incarnation, error as Error);
      else cluster.world.fail(`the coordinator does not start: ${describe(error)}`);
    }
  }
  /** The process ended itself; what its disk really holds is what counts from now on. */
  private fatal(incarnation: number, error: Error): void {
    if (!this.process.isCurrent(incarnation)) return;
    const { world } = this.cluster;
    world.note(`the coordinator ends: ${error.message}`);
    // After a failed sync the kernel may have dropped the pages: the same as a loss of power, for this disk.
    this.kill(true);
    world.schedule(RESTART_AFTER_MS, '', () => void this.start());
  }
  kill(isPowerLoss: boolean): void {
    if (!this.process.isAlive) return;
    this.process.kill(isPowerLoss);
    this.running = undefined;
    this.journal.crash(isPowerLoss ? 'power' : 'process', () => this.random.next());
    if (isPowerLoss) this.cluster.coordinatorLostPower();
  }
}
