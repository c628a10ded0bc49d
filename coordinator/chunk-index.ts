/**
 * What must be known of all chunks at once, kept up row by row: chunks by the set of nodes that hold them (so histogram, repair and drain never
 * look at every chunk), chunks without references, replicas and bytes per node, and the totals of the volumes.
 */
import type { ChunkId, NodeId, VolumeId } from '../protocol/entities.js';
import type { ChunkRow, InodeRow } from './rows.js';

export interface NodeTotals {
  readonly replicas: number;
  readonly bytes: number;
}
export interface VolumeTotals {
  /** Inodes that are not directories and have a name. */
  readonly files: number;
  readonly directories: number;
  /** Sum of file sizes. */
  readonly logicalBytes: number;
  /** Sum of what extents cover: file sizes without holes. */
  readonly allocatedBytes: number;
  /** What a quota counts: as allocatedBytes, with files that are deleted but still open. */
  readonly chargedBytes: number;
  /** What a quota counts: every inode but the root, with those that are deleted but still open. */
  readonly chargedFiles: number;
  /** Bytes of distinct chunks that are referenced. */
  readonly uniqueBytes: number;
  /** Bytes of all replicas, referenced or not. */
  readonly storedBytes: number;
  /** Referenced chunks. */
  readonly chunks: number;
}
const nothing: VolumeTotals = {
  ...{ files: 0, directories: 0, logicalBytes: 0, allocatedBytes: 0, chargedBytes: 0, chargedFiles: 0 },
  ...{ uniqueBytes: 0, storedBytes: 0, chunks: 0 },
};
type Mutable<T> = { -readonly [K in keyof T]: T[K] };

/** "1/1,3" for chunks of volume 1 on the nodes [1, 3], "1/" for those on none. */
export const replicaSetKey = (volume: VolumeId, replicas: readonly NodeId[]): string => `${volume}/${replicas.join(',')}`;
export function partsOfSetKey(key: string): { volume: VolumeId; nodes: NodeId[] } {
  const cut = key.indexOf('/');
  const nodes = key.slice(cut + 1);
  return { volume: Number(key.slice(0, cut)), nodes: nodes === '' ? [] : nodes.split(',').map(Number) };
}

/** What one user made, in whatever volume: what the quota of a user counts. */
export interface UserTotals {
  readonly bytes: number;
  readonly files: number;
}

export class ChunkIndex {
  /** Referenced chunks by volume (it says how many copies there should be) and the nodes that hold them: key as of replicaSetKey. Sets are never empty. */
  readonly byReplicaSet = new Map<string, Set<ChunkId>>();
  /** Chunks no extent names, whatever replicas they have. */
  readonly zeroReferences = new Set<ChunkId>();
  private readonly perNode = new Map<NodeId, Mutable<NodeTotals>>();
  private readonly perVolume = new Map<VolumeId, Mutable<VolumeTotals>>();
  private readonly perUser = new Map<number, Mutable<UserTotals>>();
  private readonly keys = new WeakMap<readonly NodeId[], Map<VolumeId, string>>();

  ofNode(node: NodeId): NodeTotals {
    return this.perNode.get(node) ?? { replicas: 0, bytes: 0 };
  }
  ofVolume(volume: VolumeId): VolumeTotals {
    return this.perVolume.get(volume) ?? nothing;
  }
  /** @param user number of a user */
  ofUser(user: number): UserTotals {
    return this.perUser.get(user) ?? { bytes: 0, files: 0 };
  }
  get total(): VolumeTotals {
    return this.totalOf(() => true);
  }
  totalOf(counts: (volume: VolumeId) => boolean): VolumeTotals {
    const sum: Mutable<VolumeTotals> = { ...nothing };
    for (const [volume, one] of this.perVolume)
      if (counts(volume)) for (const key of Object.keys(nothing) as (keyof VolumeTotals)[]) sum[key] += one[key];
    return sum;
  }

  chunkChanged(chunk: ChunkId, before: ChunkRow | undefined, after: ChunkRow | undefined): void {
    if (before) this.countChunk(before, -1);
    if (after) this.countChunk(after, 1);
    const setBefore = before && before.refs > 0 ? this.setKey(before) : undefined;
    const setAfter = after && after.refs > 0 ? this.setKey(after) : undefined;
    if (setBefore !== setAfter) {
      if (setBefore !== undefined) {
        const chunks = this.byReplicaSet.get(setBefore);
        chunks?.delete(chunk);
        if (chunks?.size === 0) this.byReplicaSet.delete(setBefore);
      }
      if (setAfter !== undefined) {
        const chunks = this.byReplicaSet.get(setAfter);
        if (chunks) chunks.add(chunk);
        else this.byReplicaSet.set(setAfter, new Set([chunk]));
      }
    }
    if (after?.refs === 0) this.zeroReferences.add(chunk);
    else if (before?.refs === 0) this.zeroReferences.delete(chunk);
  }

  inodeChanged(before: InodeRow | undefined, after: InodeRow | undefined): void {
    if (before) this.countInode(before, -1);
    if (after) this.countInode(after, 1);
  }

  private setKey(row: ChunkRow): string {
    // Replica lists are shared objects (shareReplicas), so their text is looked up instead of built a million times.
    let ofVolumes = this.keys.get(row.replicas);
    if (!ofVolumes) {
      ofVolumes = new Map();
      this.keys.set(row.replicas, ofVolumes);
    }
    let key = ofVolumes.get(row.volume);
    if (key === undefined) {
      key = replicaSetKey(row.volume, row.replicas);
      ofVolumes.set(row.volume, key);
    }
    return key;
  }
  private volume(volume: VolumeId): Mutable<VolumeTotals> {
    let totals = this.perVolume.get(volume);
    if (!totals) {
      totals = { ...nothing };
      this.perVolume.set(volume, totals);
    }
    return totals;
  }
  private countChunk(row: ChunkRow, sign: 1 | -1): void {
    const totals = this.volume(row.volume);
    if (row.refs > 0) {
      totals.uniqueBytes += sign * row.sizeBytes;
      totals.chunks += sign;
    }
    totals.storedBytes += sign * row.sizeBytes * row.replicas.length;
    for (const node of row.replicas) {
      let one = this.perNode.get(node);
      if (!one) {
        one = { replicas: 0, bytes: 0 };
        this.perNode.set(node, one);
      }
      one.replicas += sign;
      one.bytes += sign * row.sizeBytes;
    }
  }
  private countInode(row: InodeRow, sign: 1 | -1): void {
    const totals = this.volume(row.volume);
    totals.chargedBytes += sign * row.allocatedBytes;
    if (row.parent !== row.inode) totals.chargedFiles += sign;
    if (row.creator !== undefined) {
      const ofUser = this.perUser.get(row.creator) ?? { bytes: 0, files: 0 };
      this.perUser.set(row.creator, ofUser);
      ofUser.bytes += sign * row.allocatedBytes;
      ofUser.files += sign;
    }
    if (row.nlink === 0) return;
    if (row.kind === 'directory') totals.directories += sign;
    else totals.files += sign;
    if (row.kind === 'file') {
      totals.logicalBytes += sign * row.sizeBytes;
      totals.allocatedBytes += sign * row.allocatedBytes;
    }
  }
}
