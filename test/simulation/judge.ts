/** Looks behind the curtain: compares the coordinator's tables with each other and with what lies on the nodes' disks. */

import { keptExtent } from '../../coordinator/rows.js';
import { verifyChunk } from '../../protocol/chunk.js';
import type { ChunkId } from '../../protocol/entities.js';
import type { Cluster } from './cluster.js';
import type { SimNode } from './node-machine.js';

export class Judge {
  /** Bytes do not change once they lie there; damage makes a new buffer. */
  private readonly known = new WeakMap<Buffer, boolean>();

  constructor(private readonly cluster: Cluster) {}

  allNodesUp(): boolean {
    return this.cluster.nodes.every((node) => node.running?.isRegistered === true && this.isContact(node));
  }
  private isContact(node: SimNode): boolean {
    return this.cluster.coordinator.contacts().some((contact) => contact.name === node.name && contact.state === 'up' && contact.writable);
  }
  private isGood(node: SimNode, chunk: ChunkId): boolean {
    const entry = node.disk.chunks.get(chunk);
    if (!entry) return false;
    let good = this.known.get(entry.encoded);
    if (good === undefined) {
      try {
        verifyChunk(chunk, entry.encoded);
        good = true;
      } catch {
        good = false;
      }
      this.known.set(entry.encoded, good);
    }
    return good;
  }

  /** Every node reads all it holds. */
  scrubAll(): void {
    for (const node of this.cluster.nodes) node.running?.scrubber.startFull(1e12);
  }

  /**
   * What is not as it should be when nothing has been broken for a while; empty = healed.
   * @param mayBeLost chunks that no disk holds are not counted: whether anybody was promised to keep them is for the programs to say
   */
  problems(mayBeLost = false): string[] {
    const { coordinator, nodes } = this.cluster;
    const state = coordinator.state();
    if (!state) return ['the coordinator does not serve'];
    const problems: string[] = [];
    for (const node of nodes) {
      if (!node.running?.isRegistered) problems.push(`${node.name} is not registered`);
      else if (!this.isContact(node)) problems.push(`${node.name} is not up for the coordinator`);
    }
    if (problems.length > 0) return problems;
    for (const [chunk, row] of state.tables.chunks.all()) {
      const id = chunk.slice(0, 6);
      if (row.refs === 0) {
        problems.push(`chunk ${id} has no reference and is not deleted`);
        continue;
      }
      if (mayBeLost && row.replicas.length === 0 && !nodes.some((node) => this.isGood(node, chunk))) continue;
      const copies = state.get('volumes', row.volume)?.copies ?? 0;
      if (row.replicas.length !== copies)
        problems.push(`chunk ${id} has replicas on ${row.replicas.join(', ') || 'no node'}, should have ${copies}`);
      for (const number of row.replicas) {
        const node = this.nodeOf(number);
        if (!node) problems.push(`chunk ${id} has a replica on node ${number}, which does not exist`);
        else if (!this.isGood(node, chunk))
          problems.push(`chunk ${id} is ${node.disk.chunks.has(chunk) ? 'damaged' : 'missing'} on ${node.name}`);
      }
    }
    return problems;
  }

  private nodeOf(number: number): SimNode | undefined {
    const name = this.cluster.coordinator.state()?.get('nodes', number)?.name;
    return this.cluster.nodes.find((node) => node.name === name);
  }
  /** The tables against each other: every count is exact, nothing leads nowhere. */
  countProblems(): string[] {
    const state = this.cluster.coordinator.state();
    if (!state) return ['the coordinator does not serve'];
    const { tables } = state;
    const problems: string[] = [];
    const references = new Map<ChunkId, number>();
    for (const [key, extent] of tables.extents.all()) {
      references.set(extent.chunk, (references.get(extent.chunk) ?? 0) + 1);
      const inode = Number(key.slice(0, key.indexOf(':')));
      if (!tables.inodes.get(inode)) problems.push(`extent ${key} belongs to inode ${inode}, which does not exist`);
    }
    for (const [key, row] of tables.history.all()) {
      const kept = keptExtent(key, row);
      if (kept) references.set(kept.chunk, (references.get(kept.chunk) ?? 0) + 1);
    }
    for (const [chunk, row] of tables.chunks.all()) {
      const counted = references.get(chunk) ?? 0;
      if (row.refs !== counted) problems.push(`chunk ${chunk.slice(0, 6)} says ${row.refs} references, ${counted} extents name it`);
    }
    for (const chunk of references.keys())
      if (!tables.chunks.get(chunk)) problems.push(`chunk ${chunk.slice(0, 6)} is named by an extent but has no row`);
    const links = new Map<number, number>();
    for (const [key, inode] of tables.entries.all()) {
      links.set(inode, (links.get(inode) ?? 0) + 1);
      if (!tables.inodes.get(inode)) problems.push(`entry ${key} leads to inode ${inode}, which does not exist`);
    }
    for (const [inode, row] of tables.inodes.all()) {
      const named = links.get(inode) ?? 0;
      if (row.kind !== 'directory' && row.nlink !== named) problems.push(`inode ${inode} has nlink ${row.nlink} and ${named} names`);
      if (row.kind !== 'directory' && named === 0 && !tables.orphans.get(inode))
        problems.push(`inode ${inode} has no name and is no orphan`);
      let allocated = 0;
      for (const extent of tables.extents.of(inode)) {
        allocated += extent.length;
        if (extent.offset + extent.length > row.sizeBytes)
          problems.push(`inode ${inode} of ${row.sizeBytes} bytes has an extent to ${extent.offset + extent.length}`);
      }
      if (row.kind === 'file' && row.allocatedBytes !== allocated)
        problems.push(`inode ${inode} says ${row.allocatedBytes} allocated bytes, its extents cover ${allocated}`);
    }
    return problems;
  }

  /** What there still is after everything was deleted. */
  leftOvers(withOrphanUploads: boolean): string[] {
    const state = this.cluster.coordinator.state();
    if (!state) return ['the coordinator does not serve'];
    const { tables } = state;
    const left: string[] = [];
    for (const [chunk, row] of tables.chunks.all())
      left.push(`chunk ${chunk.slice(0, 6)} with ${row.refs} references on ${row.replicas.join(', ')}`);
    for (const [key] of tables.extents.all()) left.push(`extent ${key}`);
    for (const [inode, row] of tables.inodes.all()) if (row.kind !== 'directory') left.push(`inode ${inode} (${row.name})`);
    for (const [key] of tables.entries.all()) left.push(`entry ${key}`);
    for (const [number, { name }] of tables.snapshots.all()) left.push(`snapshot ${number} (${name})`);
    for (const [key] of tables.history.all()) left.push(`row of the past ${String(key)}`);
    if (withOrphanUploads)
      for (const node of this.cluster.nodes)
        for (const id of node.disk.chunks.keys()) left.push(`chunk ${id.slice(0, 6)} on the disk of ${node.name}`);
    return left;
  }
}
