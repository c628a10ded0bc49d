/** The cluster in one object: what `status`, the overview screen and the metrics are made of. */
import type { ClusterStatus, NodeStatus } from '../protocol/admin-calls.js';
import type { NodeId, VolumeId } from '../protocol/entities.js';
import type { Collector } from './collector.js';
import type { EventLog } from './events.js';
import { type CopiesCount, countCopies, judgeHealth } from './health.js';
import type { JobBook } from './jobs.js';
import type { Member } from './member.js';
import type { Membership } from './membership.js';
import type { ClusterContext } from './ports.js';
import type { Rates } from './rates.js';
import type { Repair } from './repair.js';
import { judge, shownCopies } from './repair-plan.js';
import type { SafeMode } from './safe-mode.js';
import { seenStatus, type Viewer } from './viewer.js';

export interface StatusParts {
  readonly context: ClusterContext;
  readonly membership: Membership;
  readonly collector: Collector;
  readonly repair: Repair;
  readonly jobs: JobBook;
  readonly events: EventLog;
  readonly safeMode: SafeMode;
  readonly rates: Rates;
}

export class StatusBook {
  private readonly startedMs: number;
  constructor(private readonly parts: StatusParts) {
    this.startedMs = parts.context.environment.monotonicMs();
  }

  /** @param counts which volumes; all of them when absent */
  copies(counts?: (volume: VolumeId) => boolean): CopiesCount {
    const { repair } = this.parts;
    const nodes = repair.planNodes();
    const classes = [...repair.classes()];
    return countCopies(
      (counts ? classes.filter(({ volume }) => volume === undefined || counts(volume)) : classes).map(({ replicas, copies, chunks }) => ({
        shown: shownCopies(judge(replicas, copies, nodes)),
        copies,
        count: chunks.size,
      })),
    );
  }

  nodes(): NodeStatus[] {
    const { membership, repair } = this.parts;
    const nodes = repair.planNodes();
    const onlyCopies = new Map<NodeId, number>();
    const drainLeft = new Map<NodeId, number>();
    for (const { replicas, copies, chunks } of repair.classes()) {
      const judgement = judge(replicas, copies, nodes);
      const [only] = judgement.good;
      if (judgement.good.length === 1 && only !== undefined) onlyCopies.set(only, (onlyCopies.get(only) ?? 0) + chunks.size);
      if (judgement.missing === 0) continue;
      for (const node of replicas) if (nodes.get(node)?.isDraining) drainLeft.set(node, (drainLeft.get(node) ?? 0) + chunks.size);
    }
    return membership.all().map((member) => this.nodeStatus(member, onlyCopies.get(member.id) ?? 0, drainLeft.get(member.id) ?? 0));
  }

  private nodeStatus(member: Member, onlyCopies: number, left: number): NodeStatus {
    const { environment, state } = this.parts.context;
    const nowMs = environment.monotonicMs();
    const { isDraining } = member.row;
    return {
      node: member.id,
      name: member.name,
      state: member.state,
      stateForMs: Math.round(nowMs - member.liveness.sinceMs),
      url: member.row.url,
      zone: member.row.zone,
      version: member.row.version,
      ...{ capacityBytes: member.space.capacityBytes, usedBytes: member.space.usedBytes, freeBytes: member.space.freeBytes },
      replicas: state.index.ofNode(member.id).replicas,
      onlyCopies,
      heartbeatAgeMs: member.connection ? Math.round(nowMs - member.liveness.heardMs) : null,
      readBytesPerS: member.isUp ? Math.round(member.readBytesPerS) : 0,
      writtenBytesPerS: member.isUp ? Math.round(member.writtenBytesPerS) : 0,
      errors: member.errors,
      isFull: member.isFull,
      isReadOnly: member.isReadOnly,
      drainLeft: isDraining ? left : null,
      safeToRemove: isDraining && left === 0 && onlyCopies === 0,
    };
  }

  /** The cluster as this viewer may see it. */
  statusFor(viewer: Viewer): ClusterStatus {
    const status = this.status();
    if (viewer.isAdmin) return status;
    const { total, belowCopies, endangered, lost, byGoodReplicas } = this.copies((volume) => viewer.canRead(volume));
    const totals = this.parts.context.state.index.totalOf((volume) => viewer.canRead(volume));
    return seenStatus(status, viewer, totals, { total, belowCopies, endangered, lost, histogram: { byGoodReplicas } });
  }

  status(): ClusterStatus {
    const { context, collector, repair, jobs, safeMode, rates, membership } = this.parts;
    const { state } = context;
    const nodes = this.nodes();
    const chunks = this.copies();
    const total = state.index.total;
    const volumes = [...state.table('volumes').values()];
    const history = context.history();
    const keptBytes = volumes.reduce((sum, { volume }) => sum + history.snapshots.history.heldBytesOf(volume), 0);
    const { isDiskFull, ...metadata } = context.metadataStatus();
    const running = jobs.all().find((job) => job.kind === 'repair' && job.state === 'running')?.status;
    const { health, causes, sentence } = judgeHealth({
      nodes: nodes.map((node) => ({ ...node, isSlow: membership.get(node.node)?.isSlow ?? false })),
      chunks,
      copies: Math.max(1, ...volumes.map((volume) => volume.copies)),
      safeMode: safeMode.view,
      isMetadataDiskFull: isDiskFull,
      metadataCopies:
        metadata.copies.length > 0
          ? { wanted: metadata.copies.length, current: metadata.copies.filter((copy) => copy.isCurrent).length }
          : undefined,
      repair: running
        ? { percent: running.totalChunks === 0 ? 100 : Math.floor((running.doneChunks / running.totalChunks) * 100), etaMs: running.etaMs }
        : undefined,
    });
    return {
      schema: 1,
      cluster: context.cluster,
      coordinatorUrl: context.url(),
      version: context.options.version,
      epoch: context.epoch,
      upMs: Math.round(context.environment.monotonicMs() - this.startedMs),
      health,
      causes,
      sentence,
      nodes,
      chunks: {
        total: chunks.total,
        belowCopies: chunks.belowCopies,
        endangered: chunks.endangered,
        lost: chunks.lost,
        histogram: { byGoodReplicas: chunks.byGoodReplicas },
      },
      files: total.files,
      directories: total.directories,
      logicalBytes: total.logicalBytes,
      // What only snapshots name is told per volume: it would make sharing look worse than it is.
      uniqueBytes: total.uniqueBytes - keptBytes,
      storedBytes: total.storedBytes,
      rates: rates.now(),
      clients: context.connectedClients(),
      jobs: { running: jobs.running, waiting: jobs.waiting },
      safeMode: safeMode.view,
      deletion: collector.waiting,
      metadata,
      volumes: volumes.map((volume) => {
        const { uniqueBytes, files } = state.index.ofVolume(volume.volume);
        const keptBytes = history.snapshots.history.heldBytesOf(volume.volume);
        const trash = history.trash.totalsOf(volume.volume);
        return {
          ...volume,
          ...{ usedBytes: uniqueBytes, files, keptBytes },
          ...{ snapshotCount: history.snapshots.history.listed(volume.volume).length, trashFiles: trash.files, trashBytes: trash.bytes },
        };
      }),
      repairSpeed: repair.speed,
    };
  }
}
