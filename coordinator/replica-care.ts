/** Single replicas: what was verified when, what turned out bad, and having a node look at one now. */
import type { ChunkId, InodeId, NodeId } from '../protocol/entities.js';
import { type Environment, wallMs } from '../protocol/environment.js';
import type { EventLog } from './events.js';
import type { Job, JobBook } from './jobs.js';
import type { Membership } from './membership.js';
import { withoutReplica, withReplica } from './rows.js';
import type { State } from './state.js';

const VERIFY_GROUP = 32;
const VERIFY_TIMEOUT_MS = 60_000;
const MOST_CHECKS_AT_ONCE = 64;
const MOST_REMEMBERED_PER_NODE = 300_000;
const MOST_AWAITED = 10_000;
const MOST_EARLY = 10_000;
/** Last replicas that a disk does not give: the node looks again after such pauses, for so many at a time. The others wait for its next inventory. */
const FIRST_LOOK_AGAIN_MS = 2_000;
const LONGEST_LOOK_AGAIN_MS = 60_000;
const MOST_LOOKED_FOR = 10_000;

export interface BadReplica {
  readonly chunk: ChunkId;
  readonly node: string;
  readonly problem: string;
}

export interface ReplicaCareContext {
  readonly environment: Environment;
  readonly state: State;
  readonly membership: Membership;
  readonly events: EventLog;
  readonly jobs: JobBook;
  /** A replica is gone from its row: the chunk needs a copy. */
  replicaLost(): void;
}

export class ReplicaCare {
  private readonly verified = new Map<NodeId, Map<ChunkId, number>>();
  private readonly checking = new Set<string>();
  /** Chunks whose bad replica was dropped and whose replacement people wait for. */
  private readonly awaited = new Map<ChunkId, string>();

  /** Bad replicas of chunks that no row names there: uploads whose commit, with a receipt from before, may still come. */
  private readonly early = new Map<ChunkId, Set<NodeId>>();

  constructor(private readonly context: ReplicaCareContext) {
    context.state.onChange('chunks', (chunk, _before, after) => {
      const nodes = this.early.get(chunk);
      if (!nodes || !after?.replicas.some((node) => nodes.has(node))) return;
      this.early.delete(chunk);
      // The node looks whether it was stored there again since.
      context.environment.setTimer(0, () => {
        for (const node of nodes) this.check(node, chunk, 'commit');
      });
    });
  }

  /** A node read these whole and found them good. */
  found(node: NodeId, chunks: readonly ChunkId[]): void {
    let known = this.verified.get(node);
    if (!known) {
      known = new Map();
      this.verified.set(node, known);
    }
    const atMs = wallMs(this.context.environment);
    for (const chunk of chunks) {
      known.delete(chunk);
      known.set(chunk, atMs);
    }
    while (known.size > MOST_REMEMBERED_PER_NODE) known.delete(known.keys().next().value as ChunkId);
  }
  verifiedAtMs(node: NodeId, chunk: ChunkId): number | null {
    return this.verified.get(node)?.get(chunk) ?? null;
  }

  /** The replica is bad or gone, and out of service at its node, or the disk there does not give it now. */
  bad(node: NodeId, chunk: ChunkId, problem: 'corrupt' | 'missing' | 'io-error', detail: string, foundBy: string): void {
    const { state, membership, events } = this.context;
    this.verified.get(node)?.delete(chunk);
    const row = state.get('chunks', chunk);
    if (!row?.replicas.includes(node)) {
      this.remember(node, chunk);
      return;
    }
    const left = withoutReplica(row, node);
    state.transact((tx) => tx.put('chunks', chunk, left));
    if (row.refs === 0) return;
    const name = membership.get(node)?.name ?? String(node);
    const goodLeft = left.replicas.filter((one) => membership.get(one)?.isUp).length;
    const words = { corrupt: 'is damaged', missing: 'is missing', 'io-error': 'cannot be read' }[problem];
    events.note({
      level: goodLeft > 0 ? 'warn' : 'error',
      kind: goodLeft > 0 ? 'replica.bad' : 'chunk.lost',
      text: `the replica of chunk ${chunk.slice(0, 12)} on ${name} ${words} (found by ${foundBy}${detail ? `: ${detail}` : ''}); ${
        goodLeft > 0 ? `${goodLeft} good left, it is made again` : 'no good replica is left'
      }`,
      node: name,
      chunk,
    });
    if (this.awaited.size < MOST_AWAITED) this.awaited.set(chunk, name);
    this.context.replicaLost();
    // The report may have crossed with a new upload to that very node, or its disk may give the right bytes in a while: before it counts as lost the
    // node looks once more, and when it has some bytes, again and again.
    if (goodLeft === 0) this.lookOnceMore(node, chunk, problem !== 'missing' && this.lookedFor < MOST_LOOKED_FOR);
  }
  private lookedFor = 0;
  private lookOnceMore(node: NodeId, chunk: ChunkId, isRepeated: boolean, pauseMs = FIRST_LOOK_AGAIN_MS): void {
    const { state, membership, environment } = this.context;
    const member = membership.get(node);
    // When it comes back its inventory names what it has.
    if (!member?.isReachable) return;
    member
      .order('verify', { chunks: [chunk] }, VERIFY_TIMEOUT_MS)
      .then(
        ({ good }) => {
          const row = state.get('chunks', chunk);
          if (!good.includes(chunk) || !row || row.replicas.includes(node)) return;
          state.transact((tx) => tx.put('chunks', chunk, withReplica(row, node)));
          environment.log('info', 'a replica reported bad is there and good', { chunk, node });
        },
        (error: unknown) => environment.log('debug', 'a replica could not be checked', { chunk, node, error: String(error) }),
      )
      .finally(() => {
        if (!isRepeated || state.get('chunks', chunk)?.replicas.length !== 0) return;
        this.lookedFor++;
        environment.setTimer(pauseMs, () => {
          this.lookedFor--;
          if (state.get('chunks', chunk)?.replicas.length !== 0) return;
          this.lookOnceMore(node, chunk, true, Math.min(pauseMs * 2, LONGEST_LOOK_AGAIN_MS));
        });
      });
  }
  private remember(node: NodeId, chunk: ChunkId): void {
    const nodes = this.early.get(chunk) ?? new Set();
    nodes.add(node);
    this.early.delete(chunk);
    this.early.set(chunk, nodes);
    if (this.early.size > MOST_EARLY) this.early.delete(this.early.keys().next().value as ChunkId);
  }
  /** A copy of the chunk was made. */
  copied(chunk: ChunkId, to: NodeId): void {
    const from = this.awaited.get(chunk);
    if (from === undefined) return;
    this.awaited.delete(chunk);
    const name = this.context.membership.get(to)?.name ?? String(to);
    this.context.events.note({
      level: 'info',
      kind: 'replica.replaced',
      text: `chunk ${chunk.slice(0, 12)} has a good replica on ${name} instead of the bad one on ${from}`,
      node: name,
      chunk,
    });
  }

  /** A reader had trouble with a replica: the node looks itself. Never throws, answers nothing. */
  check(node: NodeId, chunk: ChunkId, foundBy: string): void {
    const key = `${node}:${chunk}`;
    const member = this.context.membership.get(node);
    if (!member?.isReachable || this.checking.has(key) || this.checking.size >= MOST_CHECKS_AT_ONCE) return;
    if (!this.context.state.get('chunks', chunk)?.replicas.includes(node)) return;
    this.checking.add(key);
    this.verifyOn(node, [chunk], foundBy)
      .catch((error: unknown) =>
        this.context.environment.log('debug', 'a replica could not be checked', { chunk, node, error: String(error) }),
      )
      .finally(() => this.checking.delete(key));
  }

  /**
   * Has a node read these replicas now and enters what it says.
   * @throws {HoldfastError} UNREACHABLE, DEADLINE, ...
   */
  async verifyOn(node: NodeId, chunks: readonly ChunkId[], foundBy: string): Promise<{ good: readonly ChunkId[]; bad: BadReplica[] }> {
    const member = this.context.membership.get(node);
    if (!member) return { good: [], bad: [] };
    const answer = await member.order('verify', { chunks: [...chunks] }, VERIFY_TIMEOUT_MS);
    const asked = new Set(chunks);
    this.found(
      node,
      answer.good.filter((chunk) => asked.has(chunk)),
    );
    const bad: BadReplica[] = [];
    for (const { chunk, problem, detail } of answer.bad) {
      if (!asked.has(chunk)) continue;
      this.bad(node, chunk, problem, detail, foundBy);
      bad.push({ chunk, node: member.name, problem });
    }
    return { good: answer.good, bad };
  }

  /** Every replica of these chunks, each node at its own speed. */
  async verifyAll(
    chunks: readonly ChunkId[],
    subject: string,
    inode: InodeId | undefined,
  ): Promise<{ job: Job; good: number; bad: BadReplica[] }> {
    const { state, membership, jobs, events } = this.context;
    const job = jobs.open('verify', subject);
    const perNode = new Map<NodeId, ChunkId[]>();
    const bad: BadReplica[] = [];
    let bytes = 0;
    let replicas = 0;
    for (const chunk of new Set(chunks)) {
      const row = state.get('chunks', chunk);
      if (!row) continue;
      for (const node of row.replicas) {
        const list = perNode.get(node) ?? [];
        perNode.set(node, list);
        list.push(chunk);
        replicas++;
        bytes += row.sizeBytes;
      }
    }
    job.leaves(replicas, bytes);
    let good = 0;
    await Promise.all(
      [...perNode].map(async ([node, list]) => {
        const name = membership.get(node)?.name ?? String(node);
        for (let at = 0; at < list.length; at += VERIFY_GROUP) {
          if (job.state === 'cancelled') return;
          const group = list.slice(at, at + VERIFY_GROUP);
          try {
            const result = await this.verifyOn(node, group, 'verify');
            good += result.good.length;
            bad.push(...result.bad);
          } catch (error) {
            const problem = error instanceof Error ? error.message : String(error);
            job.failedOnce(problem);
            for (const chunk of group) bad.push({ chunk, node: name, problem: 'not checked: the node is not reachable' });
          }
          job.progressed(
            group.length,
            group.reduce((sum, chunk) => sum + (state.get('chunks', chunk)?.sizeBytes ?? 0), 0),
          );
        }
      }),
    );
    job.end(job.errors > 0 ? 'failed' : 'done');
    events.note({
      level: bad.length > 0 ? 'warn' : 'info',
      kind: 'verify.finished',
      text: `${subject} verified: ${good} of ${replicas} replicas good${bad.length > 0 ? `, ${bad.length} not` : ''}`,
      inode,
    });
    return { job, good, bad };
  }
}
