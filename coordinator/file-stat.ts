/** One file, and the files of one directory, as administrators see them: chunks, replicas, health. Read only. */
import type { DirectoryRow, FileChunk, FileStat, ReplicaStatus, WhyReport } from '../protocol/admin-calls.js';
import type { ChunkId, Health, InodeId } from '../protocol/entities.js';
import { HoldfastError } from '../protocol/errors.js';
import { countCopies, wordFor } from './health.js';
import type { Membership } from './membership.js';
import type { ClusterContext } from './ports.js';
import type { Repair } from './repair.js';
import { judge, type PlanNodes, shownCopies } from './repair-plan.js';
import type { ReplicaCare } from './replica-care.js';
import type { InodeRow } from './rows.js';
import type { StatusBook } from './status.js';
import type { TreeView } from './tree-view.js';
import { countOf, listInWords } from './words.js';

/** Chunks listed of one file; `chunkCount` tells how many there are. */
export const MOST_CHUNKS_LISTED = 5_000;
/** Extents looked at for one row of a directory. */
const MOST_EXTENTS_PER_ROW = 2_000;

export interface FileStatParts {
  readonly context: ClusterContext;
  readonly membership: Membership;
  readonly repair: Repair;
  readonly care: ReplicaCare;
  readonly status: StatusBook;
}
interface Copies {
  readonly fewest: number | null;
  readonly health: Health;
  /** Chunks with 0, 1, 2, ... good replicas. */
  readonly byGood: readonly number[];
  /** Chunks with more references than one. */
  readonly shared: number;
}

export class FileStats {
  constructor(private readonly parts: FileStatParts) {}
  private get view(): TreeView {
    return this.parts.context.history().view;
  }

  /** @throws {HoldfastError} ENOENT */
  stat(inode: InodeId): FileStat {
    const { pathOf } = this.parts.context;
    const row = this.inode(inode);
    const extents = this.view.extents(inode);
    const chunks = extents.slice(0, MOST_CHUNKS_LISTED).map((extent, index) => this.chunk(index, extent));
    const { fewest, health, byGood, shared } = this.copiesOf(row, this.parts.repair.planNodes(), Number.POSITIVE_INFINITY);
    return {
      schema: 1,
      path: pathOf(inode) ?? '(no name)',
      inode,
      kind: row.kind,
      mode: row.mode,
      uid: row.uid,
      gid: row.gid,
      nlink: row.nlink,
      sizeBytes: row.sizeBytes,
      mtimeMs: mtimeMs(row),
      change: row.change,
      copies: this.wished(row),
      health,
      isReadable: fewest === null || fewest > 0,
      chunkCount: extents.length,
      byGoodReplicas: byGood,
      sharedChunks: shared,
      chunks,
    };
  }

  private chunk(index: number, extent: { offset: number; length: number; chunk: ChunkId }): FileChunk {
    const { membership, care, repair, context } = this.parts;
    const row = context.state.get('chunks', extent.chunk);
    const replicas: ReplicaStatus[] = (row?.replicas ?? []).map((node) => {
      const member = membership.get(node);
      const verifiedAtMs = care.verifiedAtMs(node, extent.chunk);
      const presence = member?.liveness.presence ?? 'down';
      return {
        node,
        name: member?.name ?? String(node),
        state: presence === 'up' ? (verifiedAtMs === null ? 'unchecked' : 'good') : presence,
        verifiedAtMs,
      };
    });
    for (const node of repair.copyTargets(extent.chunk))
      if (!replicas.some((replica) => replica.node === node))
        replicas.push({ node, name: membership.get(node)?.name ?? String(node), state: 'copying', verifiedAtMs: null });
    return {
      index,
      offset: extent.offset,
      length: extent.length,
      id: extent.chunk,
      storedBytes: row?.sizeBytes ?? 0,
      references: row?.refs ?? 0,
      replicas,
    };
  }

  /** One line of a directory's list. */
  row(name: string, inode: InodeId, nodes: PlanNodes): DirectoryRow {
    const row = this.parts.context.state.get('inodes', inode);
    if (!row)
      return {
        ...{ name, inode, kind: 'file', sizeBytes: 0, chunks: 0, fewestCopies: null },
        ...{ health: 'DATA LOSS' as const, mtimeMs: 0, mode: 0 },
      };
    const { fewest, health } = this.copiesOf(row, nodes, MOST_EXTENTS_PER_ROW);
    return {
      name,
      inode,
      kind: row.kind,
      sizeBytes: row.sizeBytes,
      chunks: this.parts.context.state.table('extents').of(inode).length,
      fewestCopies: fewest,
      health,
      mtimeMs: mtimeMs(row),
      mode: row.mode,
    };
  }

  copiesOf(row: InodeRow, nodes: PlanNodes, most: number): Copies {
    if (row.kind !== 'file') return { fewest: null, health: 'HEALTHY', byGood: [], shared: 0 };
    const { state } = this.parts.context;
    const copies = this.wished(row);
    const extents = this.view.extents(row.inode);
    const shownOf = new Map<readonly number[], number>();
    let fewest: number | null = null;
    const found = new Map<number, number>();
    let shared = 0;
    for (let at = 0; at < extents.length && at < most; at++) {
      const chunk = state.get('chunks', extents[at]?.chunk ?? '');
      let shown = 0;
      if (chunk) {
        const known = shownOf.get(chunk.replicas);
        if (chunk.refs > 1) shared++;
        shown = known ?? shownCopies(judge(chunk.replicas, copies, nodes));
        if (known === undefined) shownOf.set(chunk.replicas, shown);
      }
      found.set(shown, (found.get(shown) ?? 0) + 1);
      if (fewest === null || shown < fewest) fewest = shown;
    }
    return {
      fewest,
      health: wordFor(countCopies([...found].map(([shown, count]) => ({ shown, copies, count })))),
      byGood: Array.from({ length: Math.max(-1, ...found.keys()) + 1 }, (_, good) => found.get(good) ?? 0),
      shared,
    };
  }

  /** In plain sentences: is the file as it should be, and if not, why not. @throws {HoldfastError} ENOENT */
  why(inode: InodeId): WhyReport {
    const { context, membership, repair, status } = this.parts;
    const row = this.inode(inode);
    const path = context.pathOf(inode) ?? '(no name)';
    const copies = this.wished(row);
    const nodes = repair.planNodes();
    const { health } = this.copiesOf(row, nodes, Number.POSITIVE_INFINITY);
    const { causes, safeMode } = status.status();
    const lines: string[] = [];
    const extents = this.view.extents(inode);
    const byShown = new Map<number, number>();
    const away = new Map<string, number>();
    let copying = 0;
    for (const { chunk } of extents) {
      const chunkRow = context.state.get('chunks', chunk);
      const shown = chunkRow ? shownCopies(judge(chunkRow.replicas, copies, nodes)) : 0;
      byShown.set(shown, (byShown.get(shown) ?? 0) + 1);
      if (shown >= copies) continue;
      if (repair.isCopying(chunk)) copying++;
      for (const node of chunkRow?.replicas ?? []) {
        const member = membership.get(node);
        if (member && !member.isUp) away.set(member.name, (away.get(member.name) ?? 0) + 1);
      }
    }
    const below = [...byShown].filter(([shown]) => shown < copies).sort((a, b) => a[0] - b[0]);
    if (row.kind !== 'file') lines.push(`${path} is a ${row.kind}: it has no chunks; its metadata is kept by the coordinator.`);
    else if (extents.length === 0) lines.push(`${path} has no chunks: ${row.sizeBytes === 0 ? 'it is empty' : 'it is one hole'}.`);
    else if (below.length === 0)
      lines.push(`All ${countOf(extents.length, 'chunk')} have ${copies} or more good copies: fully replicated.`);
    for (const [shown, count] of below)
      lines.push(
        shown === 0
          ? `${countOf(count, 'chunk')} cannot be read: no node that is up holds a copy.`
          : `${countOf(count, 'chunk')} ${count === 1 ? 'has' : 'have'} ${shown} of ${copies} copies.`,
      );
    for (const [name, count] of away)
      lines.push(`${name} is ${membership.byName(name)?.state ?? 'away'} and holds copies of ${countOf(count, 'chunk')}.`);
    if (below.length > 0) {
      const writable = membership.takers().length;
      if (copying > 0) lines.push(`${countOf(copying, 'chunk')} ${copying === 1 ? 'is' : 'are'} being copied now.`);
      if (safeMode.isActive) lines.push(`Repair waits until ${listInWords(safeMode.waitingFor) || 'the nodes'} reported after the start.`);
      else if (writable < copies) lines.push(`Only ${countOf(writable, 'node')} can take chunks, ${copies} are needed: start more nodes.`);
      else if (membership.all().some((member) => member.liveness.presence === 'suspect'))
        lines.push('Repair waits a moment for the silent node; it starts by itself when the node does not come back.');
      else if (copying === 0) lines.push('Repair is under way; these chunks are waiting for their turn.');
    }
    return { schema: 1, path, health, copies, isFullyReplicated: below.length === 0, lines, causes };
  }

  /** Chunks of a file, or of every file below a directory (bounded). @throws {HoldfastError} ENOENT, TOO_LARGE */
  chunksBelow(inode: InodeId, most: number): ChunkId[] {
    const chunks: ChunkId[] = [];
    const left = [this.inode(inode)];
    for (let row = left.pop(); row; row = left.pop()) {
      if (row.kind === 'directory') {
        for (const child of this.view.children(row.inode).values()) {
          const childRow = this.view.inode(child);
          if (childRow) left.push(childRow);
        }
      } else for (const extent of this.view.extents(row.inode)) chunks.push(extent.chunk);
      if (chunks.length > most)
        throw new HoldfastError('TOO_LARGE', `more than ${most} chunks below this path: verify smaller parts, or scrub the nodes`);
    }
    return chunks;
  }

  inode(inode: InodeId): InodeRow {
    const row = this.view.inode(inode);
    if (!row) throw new HoldfastError('ENOENT', `no inode ${inode}`);
    return row;
  }
  private wished(row: InodeRow): number {
    return this.parts.context.state.get('volumes', row.volume)?.copies ?? 1;
  }
}

export const mtimeMs = (row: { readonly mtimeS: number; readonly mtimeNs: number }): number =>
  row.mtimeS * 1000 + Math.floor(row.mtimeNs / 1e6);
