/** What administrators do to the cluster: each action checked again here, refused where it would lose data, and recorded as an event. */
import type { CheckReport, Done, FileStat, RepairSpeed, WhyReport } from '../protocol/admin-calls.js';
import type { ChunkId, InodeId, VolumeId } from '../protocol/entities.js';
import { sleep } from '../protocol/environment.js';
import { HoldfastError } from '../protocol/errors.js';
import { Check } from './check.js';
import type { Keeper } from './cluster-keeper.js';
import { FileStats } from './file-stat.js';
import type { Member } from './member.js';
import type { Actor } from './ports.js';
import { judge } from './repair-plan.js';
import { withoutReplica } from './rows.js';
import { countOf, listInWords } from './words.js';

const MOST_VERIFIED = 200_000;
const SLICE = 5_000;

const refuse = (why: string): HoldfastError => new HoldfastError('REFUSED', why);

export class Admins {
  private readonly files: FileStats;
  private readonly checker: Check;

  constructor(private readonly keeper: Keeper) {
    const { context, membership, repair, care, statusBook: status } = keeper;
    this.files = new FileStats({ context, membership, repair, care, status });
    this.checker = new Check({ context, membership, status });
  }

  stat(inode: InodeId): FileStat {
    return this.files.stat(inode);
  }
  why(inode: InodeId): WhyReport {
    return this.files.why(inode);
  }
  check(): Promise<CheckReport> {
    return this.checker.run();
  }

  drain(by: Actor, name: string): Done {
    const { membership, repair } = this.keeper;
    const member = this.node(name);
    if (member.row.isDraining) return { text: `${name} is draining already`, job: repair.drainBegins(member.id).id };
    membership.setDraining(member, true);
    const job = repair.drainBegins(member.id);
    const left = repair.drainLeft(member.id);
    this.record(by, 'drain.started', `node ${name} drain requested by ${by.user}: ${countOf(left, 'chunk')} to copy elsewhere`, name);
    const others = membership.takers().length;
    const wished = Math.max(1, ...[...this.keeper.context.state.table('volumes').values()].map((volume) => volume.copies));
    const warning =
      others < wished ? `; only ${countOf(others, 'other node')} can take chunks and ${wished} copies are wanted: start another node` : '';
    return { text: `draining ${name}: ${countOf(left, 'chunk')} to copy elsewhere${warning}`, job: job.id };
  }

  undrain(by: Actor, name: string): Done {
    const member = this.node(name);
    if (!member.row.isDraining) throw refuse(`${name} is not draining`);
    this.keeper.membership.setDraining(member, false);
    this.keeper.repair.drainEnds(member.id);
    this.record(by, 'drain.cancelled', `drain of node ${name} cancelled by ${by.user}`, name);
    return { text: `${name} takes new chunks again` };
  }

  remove(by: Actor, name: string, evenIfDataIsLost: string | undefined): Done {
    const { membership, repair, context } = this.keeper;
    const member = this.node(name);
    const nodes = repair.planNodes();
    let lastCopies = 0;
    let below = 0;
    for (const { replicas, copies, chunks } of repair.classes()) {
      if (!replicas.includes(member.id)) continue;
      const without = judge(
        replicas.filter((node) => node !== member.id),
        copies,
        nodes,
      );
      // A node that is only silent may still come back; one that is down may not.
      if (without.good.length === 0) lastCopies += chunks.size;
      else if (without.missing > 0) below += chunks.size;
    }
    if (lastCopies > 0 && evenIfDataIsLost !== name)
      throw refuse(
        `${countOf(lastCopies, 'chunk')} ${lastCopies === 1 ? 'has its' : 'have their'} only readable copy on ${name}: drain it first ("holdfast node drain ${name}"), or bring the other nodes back. To remove it and lose them, repeat the node's name`,
      );
    membership.setRemoved(member);
    this.forgetReplicas(member).catch((error: unknown) =>
      context.environment.log('error', 'replicas of a removed node could not be forgotten', { node: name, error: String(error) }),
    );
    const rest = below > 0 ? `; ${countOf(below, 'chunk')} get new copies now` : '';
    const lost = lastCopies > 0 ? `; ${countOf(lastCopies, 'chunk')} lost their last copy` : '';
    this.record(by, 'node.removed', `node ${name} removed by ${by.user}${rest}${lost}`, name, lastCopies > 0 ? 'error' : 'warn');
    repair.kick();
    return { text: `${name} is removed${rest}${lost}` };
  }
  /** In slices: a node may hold a million replicas. Planning leaves a removed node out from the start. */
  private async forgetReplicas(member: Member): Promise<void> {
    const { state, environment } = this.keeper.context;
    const chunks: ChunkId[] = [];
    for (const [chunk, row] of state.table('chunks').all()) if (row.replicas.includes(member.id)) chunks.push(chunk);
    for (let at = 0; at < chunks.length; at += SLICE) {
      state.transact((tx) => {
        for (const chunk of chunks.slice(at, at + SLICE)) {
          const row = tx.get('chunks', chunk);
          if (row) tx.put('chunks', chunk, withoutReplica(row, member.id));
        }
      });
      await sleep(environment, 0);
    }
    this.keeper.collector.wake(member.id);
  }

  async scrub(by: Actor, name: string | undefined, action: 'start' | 'stop'): Promise<Done> {
    const { membership, scrub } = this.keeper;
    const members = name === undefined ? membership.all().filter((member) => member.isReachable) : [this.node(name)];
    if (members.length === 0) throw refuse('no node is up');
    const jobs: string[] = [];
    for (const member of members) {
      if (!member.isReachable) throw refuse(`${member.name} is ${member.state}: it cannot be scrubbed now`);
      if (action === 'stop') await scrub.end(member);
      else jobs.push((await scrub.begin(member)).id);
    }
    const names = listInWords(members.map((member) => member.name));
    this.record(by, 'scrub.ordered', `scrub of ${names} ${action === 'start' ? 'started' : 'stopped'} by ${by.user}`, name);
    return { text: `scrub of ${names} ${action === 'start' ? 'started' : 'stopped'}`, job: jobs[0] };
  }

  repairNow(by: Actor): Done {
    const { repair, statusBook, safeMode } = this.keeper;
    repair.kick();
    const { belowCopies, lost } = statusBook.copies();
    this.record(by, 'repair.requested', `repair requested by ${by.user}`);
    if (safeMode.active) return { text: `waiting for ${listInWords(safeMode.view.waitingFor) || 'nodes'} to report; repair starts then` };
    if (belowCopies === 0) return { text: 'nothing to repair: every chunk has its copies' };
    const silent = this.keeper.membership.all().filter((member) => member.liveness.presence === 'suspect');
    const wait =
      silent.length > 0 ? `; ${listInWords(silent.map((member) => member.name))} may still come back and counts until it is down` : '';
    return { text: `${countOf(belowCopies - lost, 'chunk')} below copies${lost > 0 ? `, ${lost} without any readable copy` : ''}${wait}` };
  }
  setRepairSpeed(by: Actor, speed: RepairSpeed): Done {
    this.keeper.repair.setSpeed(speed);
    this.record(by, 'repair.speed', `repair speed set to ${speed} by ${by.user}`);
    return { text: `repair speed is ${speed}` };
  }

  rebalance(by: Actor, action: 'start' | 'pause' | 'resume' | 'cancel'): Done {
    const job = action === 'start' ? this.keeper.rebalance.begin() : this.keeper.rebalance.control(action);
    this.record(by, 'rebalance.ordered', `rebalance ${action} by ${by.user}`);
    return { text: `rebalance ${job.id} is ${job.state}`, job: job.id };
  }

  async cancelJob(by: Actor, id: string): Promise<Done> {
    const { jobs, repair, rebalance, scrub, membership } = this.keeper;
    const job = jobs.get(id);
    if (!job) throw refuse(`there is no job ${id}`);
    if (job.isEnded) throw refuse(`${id} has ended already (${job.state})`);
    const scrubbed = scrub.nodeOf(job);
    const member = scrubbed === undefined ? undefined : membership.get(scrubbed);
    if (member) await scrub.end(member);
    else if (rebalance.isJob(job)) rebalance.control('cancel');
    else if (!repair.cancel(job)) job.end('cancelled');
    this.record(by, 'job.cancelled', `${job.kind} ${id} cancelled by ${by.user}`);
    const note = job.kind === 'repair' ? '; chunks stay below copies until something changes or repair is asked for' : '';
    return { text: `${id} is cancelled${note}`, job: id };
  }

  setCopies(by: Actor, volumeName: string, copies: number): Done {
    const { state, notices } = this.keeper.context;
    const volume = this.keeper.context.volumes.get(volumeName);
    const changed = { ...volume, copies };
    state.transact((tx) => tx.put('volumes', volume.volume, changed));
    notices.volumeChanged(changed);
    this.keeper.repair.kick();
    const up = this.keeper.membership.takers().length;
    const warning = up < copies ? `; only ${countOf(up, 'node')} can take chunks: start more` : '';
    this.record(by, 'volume.copies', `volume ${volumeName} wants ${copies} copies (was ${volume.copies}), set by ${by.user}`);
    return { text: `volume ${volumeName} wants ${copies} copies${warning}` };
  }

  async verify(inode: InodeId): Promise<{ job: string; good: number; bad: { chunk: ChunkId; node: string; problem: string }[] }> {
    const chunks = this.files.chunksBelow(inode, MOST_VERIFIED);
    const path = this.keeper.context.pathOf(inode) ?? `inode ${inode}`;
    const { job, good, bad } = await this.keeper.care.verifyAll(chunks, path, inode);
    return { job: job.id, good, bad };
  }
  async verifyChunk(chunk: ChunkId): Promise<Done> {
    if (!this.keeper.context.state.get('chunks', chunk)) throw new HoldfastError('ENOENT', `no metadata names chunk ${chunk.slice(0, 12)}`);
    const { job, good, bad } = await this.keeper.care.verifyAll([chunk], `chunk ${chunk.slice(0, 12)}`, undefined);
    const problems = bad.map(({ node, problem }) => `${node}: ${problem}`).join(', ');
    return { text: `${countOf(good, 'replica')} good${problems ? `; ${problems}` : ''}`, job: job.id };
  }

  record(by: Actor, kind: string, text: string, node?: string, level: 'info' | 'warn' | 'error' = 'info', volume?: VolumeId): void {
    this.keeper.events.note({ level, kind, text, user: by.user, request: by.request, node, ...(volume === undefined ? {} : { volume }) });
  }
  private node(name: string): Member {
    const member = this.keeper.membership.byName(name);
    if (!member) throw new HoldfastError('ENOENT', `there is no node ${name}`);
    return member;
  }
}
