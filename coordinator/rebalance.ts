/**
 * Evens out how full nodes are: moves chunks from the fullest to the emptiest, copy first, then the replica on the full node goes. Stops when no
 * two nodes differ by more than a few percent of their size, or when nothing movable is left.
 */
import type { ChunkId, NodeId } from '../protocol/entities.js';
import { type Environment, sleep } from '../protocol/environment.js';
import { HoldfastError } from '../protocol/errors.js';
import type { Collector } from './collector.js';
import type { EventLog } from './events.js';
import type { Job, JobBook } from './jobs.js';
import type { Membership } from './membership.js';
import type { Repair } from './repair.js';
import { type ChunkClass, mayGo, type PlanNode } from './repair-plan.js';
import type { State } from './state.js';

const GROUP_CHUNKS = 64;
const GROUP_BYTES = 8 * 1024 * 1024;
/** Fills closer than this are even. */
const EVEN_WITHIN = 0.02;
const PAUSE_LOOK_MS = 500;
const MOST_FAILED_GROUPS = 5;

export interface Move {
  readonly from: NodeId;
  readonly to: NodeId;
  /** Bytes that would make the two equally full. */
  readonly bytes: number;
}

/** The next move: from the fullest node that may give to the emptiest that may take; undefined when they are even. */
export function chooseMove(nodes: Iterable<PlanNode>): Move | undefined {
  const up = [...nodes].filter((node) => node.presence === 'up' && !node.isDraining && node.capacityBytes > 0);
  const fill = (node: PlanNode): number => node.usedBytes / node.capacityBytes;
  const sorted = [...up].sort((a, b) => fill(b) - fill(a) || a.node - b.node);
  const [fullest] = sorted;
  const emptiest = sorted.filter((node) => node.isWritable).at(-1);
  if (!fullest || !emptiest || fullest === emptiest || fill(fullest) - fill(emptiest) <= EVEN_WITHIN) return undefined;
  // x bytes moved make them even: (uf - x) / cf = (ue + x) / ce
  const bytes =
    (fullest.usedBytes * emptiest.capacityBytes - emptiest.usedBytes * fullest.capacityBytes) /
    (fullest.capacityBytes + emptiest.capacityBytes);
  return { from: fullest.node, to: emptiest.node, bytes: Math.floor(bytes) };
}

/** Classes whose chunks may move so: on the source, not on the target, and the zones stay as many. */
export function movable(classes: Iterable<ChunkClass>, move: Move, nodes: ReadonlyMap<NodeId, PlanNode>): ChunkClass[] {
  return [...classes].filter(
    ({ replicas, copies }) =>
      replicas.includes(move.from) && !replicas.includes(move.to) && mayGo(move.from, [...replicas, move.to], copies, nodes),
  );
}

export class Rebalance {
  private job: Job | undefined;
  private isStopped = false;

  constructor(
    private readonly context: {
      readonly environment: Environment;
      readonly state: State;
      readonly membership: Membership;
      readonly repair: Repair;
      readonly collector: Collector;
      readonly jobs: JobBook;
      readonly events: EventLog;
      isSafeMode(): boolean;
    },
  ) {}

  stop(): void {
    this.isStopped = true;
  }

  /** @throws {HoldfastError} REFUSED */
  begin(): Job {
    if (this.job) throw new HoldfastError('REFUSED', `rebalancing is under way already (${this.job.id})`);
    if (this.context.isSafeMode()) throw new HoldfastError('REFUSED', 'not all nodes have reported since the start: try again in a moment');
    const job = this.context.jobs.open('rebalance', 'all nodes');
    this.job = job;
    this.context.events.note({ level: 'info', kind: 'rebalance.started', text: `rebalance ${job.id} started` });
    this.run(job)
      .then((state) => this.finish(job, state))
      .catch((error: unknown) => {
        job.failedOnce(error instanceof Error ? error.message : String(error));
        this.finish(job, 'failed');
      });
    return job;
  }
  /** @throws {HoldfastError} REFUSED when there is none in a fitting state */
  control(action: 'pause' | 'resume' | 'cancel'): Job {
    const { job } = this;
    if (!job) throw new HoldfastError('REFUSED', 'no rebalancing is under way');
    if (action === 'pause' && job.state === 'running') job.state = 'paused';
    else if (action === 'resume' && job.state === 'paused') job.state = 'running';
    else if (action === 'cancel') job.end('cancelled');
    else throw new HoldfastError('REFUSED', `rebalancing is ${job.state}`);
    return job;
  }
  isJob(job: Job): boolean {
    return job === this.job;
  }

  private finish(job: Job, state: 'done' | 'failed' | 'cancelled'): void {
    job.end(state);
    if (this.job === job) this.job = undefined;
    this.context.events.note({
      level: 'info',
      kind: 'rebalance.finished',
      text: `rebalance ${job.id} ${job.state}: ${job.doneChunks} chunks moved`,
    });
  }

  private async run(job: Job): Promise<'done' | 'failed' | 'cancelled'> {
    const { environment, repair, collector, state } = this.context;
    const unmovable = new Set<ChunkId>();
    let failures = 0;
    for (;;) {
      if (this.isStopped || job.state === 'cancelled') return 'cancelled';
      if (job.state === 'paused') {
        await sleep(environment, PAUSE_LOOK_MS);
        continue;
      }
      const nodes = repair.planNodes();
      const move = chooseMove(nodes.values());
      if (!move) return 'done';
      const group: ChunkId[] = [];
      let bytes = 0;
      for (const { chunks } of movable(repair.classes(), move, nodes)) {
        for (const chunk of chunks) {
          const sizeBytes = state.get('chunks', chunk)?.sizeBytes ?? 0;
          if (unmovable.has(chunk) || repair.isCopying(chunk) || sizeBytes > move.bytes - bytes) continue;
          group.push(chunk);
          bytes += sizeBytes;
          if (group.length >= GROUP_CHUNKS || bytes >= GROUP_BYTES) break;
        }
        if (group.length >= GROUP_CHUNKS || bytes >= GROUP_BYTES) break;
      }
      if (group.length === 0) return 'done';
      job.leaves(Math.ceil((move.bytes / Math.max(bytes, 1)) * group.length), move.bytes);
      const copies = group.map((chunk) => ({
        chunk,
        from: [move.from, ...(state.get('chunks', chunk)?.replicas ?? []).filter((n) => n !== move.from)],
      }));
      const { errors } = await repair.copy(move.to, copies);
      const arrived = group.filter((chunk) => !errors.has(chunk));
      for (const [chunk, error] of errors) {
        unmovable.add(chunk);
        job.failedOnce(error);
      }
      const gone = await collector.trim(
        arrived.map((chunk) => ({ chunk, node: move.from })),
        ({ chunk, node }, row) => repair.mayTrim(chunk, node, row),
      );
      for (const chunk of arrived) if (state.get('chunks', chunk)?.replicas.includes(move.from)) unmovable.add(chunk);
      if (gone === 0 && ++failures >= MOST_FAILED_GROUPS) return 'failed';
      job.progressed(gone, Math.round((bytes / group.length) * gone));
      // Users first, as in repair.
      if (repair.areUsersBusy) await sleep(environment, 200);
    }
  }
}
