/** Full scrubs that administrators order, as jobs; nodes do the reading, and report what they find by `badReplica` and `verified`. */
import type { NodeId } from '../protocol/entities.js';
import type { Environment, Timer } from '../protocol/environment.js';
import type { EventLog } from './events.js';
import type { Job, JobBook } from './jobs.js';
import type { Member } from './member.js';
import type { Membership } from './membership.js';
import { countOf } from './words.js';

/** What nodes may read for the scrub that always runs. */
const BACKGROUND_BYTES_PER_S = 2 * 1024 * 1024;
/** An ordered scrub reads as fast as the disk allows. */
const ORDERED_BYTES_PER_S = 1024 * 1024 * 1024;
const ORDER_TIMEOUT_MS = 10_000;
const LOOK_MS = 1_000;
const RESTING_MS = 60_000;

interface Running {
  readonly job: Job;
  /** The node's own counter when the scrub began. */
  readonly scrubbedBefore: number;
  readonly startId: string;
  readonly bytes: number;
  /** When its counter last moved. */
  movedMs: number;
}

export class Scrub {
  backgroundBytesPerS = BACKGROUND_BYTES_PER_S;
  private readonly running = new Map<NodeId, Running>();
  private timer: Timer | undefined;

  constructor(
    private readonly context: {
      readonly environment: Environment;
      readonly membership: Membership;
      readonly jobs: JobBook;
      readonly events: EventLog;
    },
  ) {}

  start(): void {
    this.timer = this.context.environment.setTimer(LOOK_MS, () => {
      this.look();
      this.start();
    });
  }
  stop(): void {
    this.timer?.cancel();
  }

  /** @throws {HoldfastError} what the node answers */
  async begin(member: Member): Promise<Job> {
    const known = this.running.get(member.id);
    if (known) return known.job;
    const scrubbedBefore = member.scrubbedChunks;
    await member.order('scrub', { action: 'start', bytesPerS: ORDERED_BYTES_PER_S }, ORDER_TIMEOUT_MS);
    const job = this.context.jobs.open('scrub', member.name);
    job.leaves(member.space.chunkCount, member.space.usedBytes);
    this.running.set(member.id, {
      job,
      scrubbedBefore,
      startId: member.startId,
      bytes: member.space.usedBytes,
      movedMs: this.context.environment.monotonicMs(),
    });
    this.context.events.note({
      level: 'info',
      kind: 'scrub.started',
      text: `scrub ${job.id} of ${member.name} started: ${countOf(member.space.chunkCount, 'chunk')} to read`,
      node: member.name,
    });
    return job;
  }
  async end(member: Member): Promise<void> {
    await member.order('scrub', { action: 'stop', bytesPerS: ORDERED_BYTES_PER_S }, ORDER_TIMEOUT_MS);
    this.finish(member.id, 'cancelled', `scrub of ${member.name} stopped`);
  }
  /** @returns the node whose scrub this job is */
  nodeOf(job: Job): NodeId | undefined {
    for (const [node, running] of this.running) if (running.job === job) return node;
    return undefined;
  }

  private look(): void {
    const nowMs = this.context.environment.monotonicMs();
    for (const [node, running] of this.running) {
      const { job, scrubbedBefore, startId, bytes } = running;
      const member = this.context.membership.get(node);
      if (!member?.isReachable || member.startId !== startId) {
        this.finish(node, 'failed', `scrub of ${member?.name ?? node} ended: the node went away`);
        continue;
      }
      const done = Math.max(0, member.scrubbedChunks - scrubbedBefore);
      if (done > job.doneChunks) {
        running.movedMs = nowMs;
        const more = done - job.doneChunks;
        job.progressed(more, job.totalChunks === 0 ? 0 : Math.round((bytes / job.totalChunks) * more));
      }
      // Chunks may have been deleted since it began; then the node is through with fewer, and its counter rests.
      const isThrough = done >= Math.min(job.totalChunks, member.space.chunkCount) || nowMs - running.movedMs > RESTING_MS;
      if (isThrough) this.finish(node, 'done', `scrub ${job.id} of ${member.name} finished: ${countOf(done, 'chunk')} read`);
    }
  }
  private finish(node: NodeId, state: 'done' | 'failed' | 'cancelled', text: string): void {
    const running = this.running.get(node);
    if (!running) return;
    this.running.delete(node);
    running.job.end(state);
    this.context.events.note({
      level: state === 'failed' ? 'warn' : 'info',
      kind: state === 'done' ? 'scrub.finished' : 'scrub.stopped',
      text,
      node: this.context.membership.get(node)?.name,
    });
  }
}
