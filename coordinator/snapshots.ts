/** Snapshots of a volume as people use them: take, list, compare, go back, let go. How they work is in history.ts. */
import type { InodeId, VolumeId } from '../protocol/entities.js';
import { HoldfastError } from '../protocol/errors.js';
import { inSnapshot, MAX_LIVE_INODES, MAX_SNAPSHOT_NUMBER, snapshotsDirectory } from '../protocol/hidden.js';
import type { SnapshotInfo } from '../protocol/history-calls.js';
import { BackgroundSteps } from './background-steps.js';
import { type ChangeContext, INODE_COUNTER } from './file-tree.js';
import type { History } from './history.js';
import type { ClientCaller } from './ports.js';
import type { SnapshotRow } from './rows.js';
import { nextNumber, numberSetting, type State } from './state.js';
import type { TreePorts } from './tree-steps.js';
import { HIDDEN_CHANGES } from './tree-view.js';

const ROWS_PER_STEP = 400;
/** More than this of one volume make every first change after them slow, and nobody finds the right one. */
const MAX_SNAPSHOTS = 1000;

export interface SnapshotPorts extends TreePorts {
  readonly wallMs: () => number;
  /** True while there is no room for more metadata. */
  readonly isFull: () => boolean;
  /** Inodes in this range of numbers that clients have cached. */
  readonly cached: (from: InodeId, to: InodeId) => InodeId[];
}

const namePrefixes: Readonly<Record<SnapshotRow['origin'], string>> = {
  manual: '',
  schedule: 'auto-',
  restore: 'before-restore-',
  internal: '',
};
/** "20261121T180000Z" */
const timeInName = (atMs: number): string => new Date(atMs).toISOString().replace(/[-:]|\.\d+/g, '');

export class Snapshots {
  private readonly state: State;
  readonly history: History;
  private readonly deletion: BackgroundSteps;

  constructor(private readonly ports: SnapshotPorts) {
    this.state = ports.tree.state;
    this.history = ports.tree.view.history;
    this.deletion = new BackgroundSteps(ports.pause, () => this.deleteSome());
  }

  /** Cuts of a coordinator that died are for nobody; deletions go on. */
  start(): void {
    const left = [...this.state.table('snapshots').values()].filter((row) => row.origin === 'internal' && !row.isDeleting);
    if (left.length > 0)
      this.state.transact((tx) => {
        for (const row of left) tx.put('snapshots', row.number, { ...row, isDeleting: true });
      });
    this.deletion.begin();
  }
  stop(): void {
    this.deletion.stop();
  }

  list(volume: VolumeId): SnapshotInfo[] {
    return this.history.listed(volume).map((row) => this.info(row));
  }
  private info({ number, name, atMs, origin, files, logicalBytes }: SnapshotRow): SnapshotInfo {
    const changedBytes = this.history.changedBytesOf(number);
    return { name, atMs, origin: origin === 'internal' ? 'manual' : origin, files, logicalBytes, changedBytes };
  }

  /** @throws {HoldfastError} ENOENT */
  find(volume: VolumeId, name: string): SnapshotRow {
    const found = this.history.listed(volume).find((row) => row.name === name);
    if (!found) throw new HoldfastError('ENOENT', `there is no snapshot "${name}": "holdfast snapshot list" shows them`);
    return found;
  }

  /** @throws {HoldfastError} EEXIST, ENOSPC */
  async create(caller: ClientCaller, origin: SnapshotRow['origin'], name?: string): Promise<SnapshotRow> {
    if (origin !== 'internal' && this.ports.isFull()) throw new HoldfastError('ENOSPC', 'the disk of the coordinator is full');
    return await this.ports.change(caller, (context) => this.put(context, origin, name));
  }
  private put(context: ChangeContext, origin: SnapshotRow['origin'], given: string | undefined): SnapshotRow {
    const { tx, caller, effects } = context;
    const { volume } = caller;
    const atMs = this.ports.wallMs();
    const taken = this.history.listed(volume);
    if (origin !== 'internal' && taken.length >= MAX_SNAPSHOTS)
      throw new HoldfastError('REFUSED', `a volume has at most ${MAX_SNAPSHOTS} snapshots: delete some ("holdfast snapshot delete NAME")`);
    if (given !== undefined && taken.some((row) => row.name === given))
      throw new HoldfastError('EEXIST', `there is a snapshot "${given}" already`);
    const start = given ?? namePrefixes[origin] + timeInName(atMs);
    let name = start;
    for (let n = 2; taken.some((row) => row.name === name); n++) name = `${start}-${n}`;
    const totals = this.state.index.ofVolume(volume);
    const row: SnapshotRow = {
      number: this.freeNumber(),
      volume,
      name,
      atMs,
      order: nextNumber(tx, 'snapshotOrder'),
      lastInode: numberSetting(this.state, INODE_COUNTER),
      origin,
      isDeleting: false,
      files: totals.files,
      logicalBytes: totals.logicalBytes,
    };
    tx.put('settings', 'lastSnapshotNumber', row.number);
    tx.put('snapshots', row.number, row);
    if (origin !== 'internal') {
      nextNumber(tx, HIDDEN_CHANGES);
      effects.touch(snapshotsDirectory(volume), name);
    }
    return row;
  }
  /** Round and round, so that a number is used again as late as can be. */
  private freeNumber(): number {
    let number = numberSetting(this.state, 'lastSnapshotNumber');
    for (let tried = 0; tried < MAX_SNAPSHOT_NUMBER; tried++) {
      number = number >= MAX_SNAPSHOT_NUMBER ? 1 : number + 1;
      if (!this.state.get('snapshots', number)) return number;
    }
    throw new HoldfastError('ENOSPC', 'there are too many snapshots');
  }

  /** Gone from every listing when it resolves; its rows follow in the background. */
  async delete(caller: ClientCaller, row: SnapshotRow): Promise<void> {
    const cached = this.ports.cached(inSnapshot(row.number, 0), inSnapshot(row.number, MAX_LIVE_INODES));
    await this.ports.change(caller, (context) => {
      const now = context.tx.get('snapshots', row.number);
      if (!now || now.order !== row.order) return;
      context.tx.put('snapshots', row.number, { ...now, isDeleting: true });
      if (row.origin === 'internal') return;
      nextNumber(context.tx, HIDDEN_CHANGES);
      context.effects.touch(snapshotsDirectory(row.volume), row.name);
      for (const inode of cached) context.effects.touch(inode);
    });
    this.deletion.begin();
  }

  /** Resolves when nothing is being deleted any more. */
  settled(): Promise<void> {
    return this.deletion.settled();
  }

  private deleteSome(): boolean {
    // The oldest first: what it kept must find its heir.
    const [row] = [...this.state.table('snapshots').values()].filter((one) => one.isDeleting).sort((a, b) => a.order - b.order);
    if (!row) return false;
    this.state.transact((tx) => this.history.dropStep(tx, row, ROWS_PER_STEP));
    return true;
  }
}
