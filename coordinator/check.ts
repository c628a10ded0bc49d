/**
 * Compares metadata with itself and with what nodes hold; changes nothing. It runs while the cluster works: chunks whose row changed meanwhile are
 * left out of the comparison with nodes, and reference counts are taken in one synchronous pass.
 */
import type { CheckReport } from '../protocol/admin-calls.js';
import type { ChunkId } from '../protocol/entities.js';
import { sleep } from '../protocol/environment.js';
import { HoldfastError } from '../protocol/errors.js';
import { MAX_IDS_PER_CALL } from '../protocol/limits.js';
import type { Membership } from './membership.js';
import type { ClusterContext } from './ports.js';
import { keptExtent } from './rows.js';
import type { StatusBook } from './status.js';

const PAGE_TIMEOUT_MS = 30_000;
const MOST_PROBLEMS = 50;

export class Check {
  private touched: Set<ChunkId> | undefined;

  constructor(private readonly parts: { readonly context: ClusterContext; readonly membership: Membership; readonly status: StatusBook }) {
    parts.context.state.onChange('chunks', (chunk) => this.touched?.add(chunk));
  }

  /** @throws {HoldfastError} OVERLOADED when one is running already */
  async run(): Promise<CheckReport> {
    if (this.touched) throw new HoldfastError('OVERLOADED', 'a check is running already');
    this.touched = new Set();
    try {
      return await this.compare(this.touched);
    } finally {
      this.touched = undefined;
    }
  }

  private async compare(touched: ReadonlySet<ChunkId>): Promise<CheckReport> {
    const { context, membership, status } = this.parts;
    const { state, environment } = context;
    const problems: string[] = [];
    const problem = (text: string): void => {
      if (problems.length < MOST_PROBLEMS) problems.push(text);
    };

    // Metadata with itself, in one go so that nothing moves meanwhile.
    let dangling = 0;
    let wrongReferenceCounts = 0;
    const references = new Map<ChunkId, number>();
    for (const [key, extent] of state.table('extents').all()) {
      references.set(extent.chunk, (references.get(extent.chunk) ?? 0) + 1);
      if (!state.get('chunks', extent.chunk)) {
        dangling++;
        problem(`extent ${key} names chunk ${extent.chunk.slice(0, 12)}, which does not exist`);
      }
    }
    for (const [key, row] of state.table('history').all()) {
      const chunk = keptExtent(key, row)?.chunk;
      if (chunk === undefined) continue;
      references.set(chunk, (references.get(chunk) ?? 0) + 1);
      if (state.get('chunks', chunk)) continue;
      dangling++;
      problem(`a snapshot keeps an extent of chunk ${chunk.slice(0, 12)}, which does not exist`);
    }
    for (const [key, inode] of state.table('entries').all()) {
      if (state.get('inodes', inode)) continue;
      dangling++;
      problem(`entry ${key} names inode ${inode}, which does not exist`);
    }
    let replicas = 0;
    for (const [chunk, row] of state.table('chunks').all()) {
      replicas += row.replicas.length;
      const counted = references.get(chunk) ?? 0;
      if (counted === row.refs) continue;
      wrongReferenceCounts++;
      problem(`chunk ${chunk.slice(0, 12)} counts ${row.refs} references, ${counted} extents name it`);
    }
    const inodes = state.table('inodes').size;
    const chunks = state.table('chunks').size;

    // What nodes hold.
    const nodesAsked: string[] = [];
    const nodesNotReached: string[] = [];
    const held = new Map<number, Set<ChunkId>>();
    const strangers: { name: string; chunk: ChunkId }[] = [];
    for (const member of membership.all()) {
      const here = new Set<ChunkId>();
      try {
        let after = '';
        for (let isLast = false; !isLast; ) {
          const page = await member.order('inventory', { after, limit: MAX_IDS_PER_CALL }, PAGE_TIMEOUT_MS);
          for (const { chunk } of page.items) {
            after = chunk;
            here.add(chunk);
            if (!state.get('chunks', chunk)) strangers.push({ name: member.name, chunk });
          }
          if (!page.isLast && page.items.length === 0) throw new HoldfastError('BAD_MESSAGE', 'the inventory does not go on');
          isLast = page.isLast;
        }
        held.set(member.id, here);
        nodesAsked.push(member.name);
      } catch (error) {
        nodesNotReached.push(member.name);
        environment.log('warn', 'a node could not be checked', { node: member.name, error: String(error) });
      }
    }
    let missing = 0;
    let missingReplicas = 0;
    let looked = 0;
    for (const [chunk, row] of state.table('chunks').all()) {
      if (++looked % 50_000 === 0) await sleep(environment, 0);
      if (touched.has(chunk) || row.refs === 0) continue;
      let found = 0;
      let unsure = 0;
      for (const node of row.replicas) {
        const here = held.get(node);
        if (!here) unsure++;
        else if (here.has(chunk)) found++;
        else {
          missingReplicas++;
          problem(`${membership.get(node)?.name ?? node} does not hold chunk ${chunk.slice(0, 12)}, which it should`);
        }
      }
      if (found === 0 && unsure === 0) {
        missing++;
        problem(`chunk ${chunk.slice(0, 12)} is held by no node`);
      }
    }
    // Judged last: an upload that was committed meanwhile is no stranger.
    let unknown = 0;
    for (const { name, chunk } of strangers) {
      if (touched.has(chunk) || state.get('chunks', chunk)) continue;
      unknown++;
      problem(`${name} holds chunk ${chunk.slice(0, 12)}, which no metadata names`);
    }
    return {
      schema: 1,
      ...{ inodes, chunks, replicas, dangling, missing, missingReplicas, unknown, wrongReferenceCounts },
      belowCopies: status.copies().belowCopies,
      ...{ nodesAsked, nodesNotReached, problems },
    };
  }
}
