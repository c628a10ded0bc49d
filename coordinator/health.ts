/** How the cluster is, in one word, one sentence and a list of causes: pure, from facts. */
import type { HealthCause } from '../protocol/admin-calls.js';
import type { Health } from '../protocol/entities.js';
import { countOf, durationInWords, listInWords } from './words.js';

export interface NodeFacts {
  readonly name: string;
  readonly state: 'up' | 'suspect' | 'down' | 'draining' | 'removed';
  readonly stateForMs: number;
  readonly isFull: boolean;
  readonly isReadOnly: boolean;
  readonly isSlow: boolean;
  readonly errors: number;
}
export interface HealthFacts {
  readonly nodes: readonly NodeFacts[];
  /** Chunks by volume's wish: see CopiesCount. */
  readonly chunks: CopiesCount;
  /** Largest number of copies any volume wants. */
  readonly copies: number;
  readonly safeMode: { readonly isActive: boolean; readonly waitingFor: readonly string[] };
  readonly isMetadataDiskFull: boolean;
  readonly metadataCopies: { readonly wanted: number; readonly current: number } | undefined;
  readonly repair: { readonly percent: number; readonly etaMs: number | null } | undefined;
}
export interface CopiesCount {
  readonly total: number;
  readonly belowCopies: number;
  readonly endangered: number;
  readonly lost: number;
  readonly byGoodReplicas: readonly number[];
}

/** Counts chunks from classes of equal replicas. `shown` = readable copies (see shownCopies). */
export function countCopies(classes: Iterable<{ readonly shown: number; readonly copies: number; readonly count: number }>): CopiesCount {
  const byGoodReplicas: number[] = [0, 0, 0];
  let total = 0;
  let belowCopies = 0;
  let endangered = 0;
  let lost = 0;
  for (const { shown, copies, count } of classes) {
    total += count;
    while (byGoodReplicas.length <= shown) byGoodReplicas.push(0);
    byGoodReplicas[shown] = (byGoodReplicas[shown] ?? 0) + count;
    if (shown === 0) lost += count;
    else if (shown < copies) {
      belowCopies += count;
      if (shown === 1) endangered += count;
    }
  }
  return { total, belowCopies: belowCopies + lost, endangered, lost, byGoodReplicas };
}

/** The word for chunks with these figures. */
export function wordFor(chunks: Pick<CopiesCount, 'belowCopies' | 'endangered' | 'lost'>): Health {
  if (chunks.lost > 0) return 'DATA LOSS';
  if (chunks.endangered > 0) return 'AT RISK';
  return chunks.belowCopies > 0 ? 'DEGRADED' : 'HEALTHY';
}

export function judgeHealth(facts: HealthFacts): { health: Health; causes: HealthCause[]; sentence: string } {
  const { chunks, nodes } = facts;
  const causes: HealthCause[] = [];
  const names = (is: (node: NodeFacts) => boolean): string[] => nodes.filter(is).map((node) => node.name);
  const down = nodes.filter((node) => node.state === 'down');
  const suspect = nodes.filter((node) => node.state === 'suspect');
  const usable = nodes.filter((node) => node.state === 'up');

  if (chunks.lost > 0) {
    const hope =
      down.length > 0 ? `; readable again when ${listInWords(down.map((node) => node.name))} ${down.length === 1 ? 'is' : 'are'} back` : '';
    causes.push({
      code: 'CHUNKS_LOST',
      text: `${countOf(chunks.lost, 'chunk')} without a readable copy${hope}`,
      facts: { chunks: chunks.lost, down: down.map((node) => node.name) },
    });
  }
  if (chunks.endangered > 0)
    causes.push({
      code: 'CHUNKS_ENDANGERED',
      text: `${countOf(chunks.endangered, 'chunk')} on one copy`,
      facts: { chunks: chunks.endangered },
    });
  for (const node of down)
    causes.push({
      code: 'NODE_DOWN',
      text: `${node.name} is down for ${durationInWords(node.stateForMs)}`,
      facts: { node: node.name, forMs: node.stateForMs },
    });
  for (const node of suspect)
    causes.push({
      code: 'NODE_SUSPECT',
      text: `${node.name} is not heard for ${durationInWords(node.stateForMs)}`,
      facts: { node: node.name, forMs: node.stateForMs },
    });
  const below = chunks.belowCopies - chunks.lost;
  if (below > 0) causes.push({ code: 'CHUNKS_BELOW_COPIES', text: `${countOf(below, 'chunk')} below copies`, facts: { chunks: below } });
  if (usable.length < facts.copies)
    causes.push({
      code: 'TOO_FEW_NODES',
      text: `${facts.copies} copies wanted, ${countOf(usable.length, 'node')} up`,
      facts: { copies: facts.copies, up: usable.length },
    });
  if (facts.isMetadataDiskFull)
    causes.push({
      code: 'METADATA_DISK_FULL',
      text: "the coordinator's disk is full: reading goes on, changes fail until there is space",
      facts: {},
    });
  for (const [code, list, text] of [
    ['NODE_FULL', names((node) => node.isFull && node.state !== 'down'), 'is full'],
    ['NODE_DISK_ERRORS', names((node) => node.isReadOnly), 'has disk errors and takes no new chunks'],
    ['NODE_SLOW', names((node) => node.isSlow), 'is slow'],
  ] as const)
    for (const name of list) causes.push({ code, text: `${name} ${text}`, facts: { node: name } });
  if (facts.metadataCopies && facts.metadataCopies.current < facts.metadataCopies.wanted)
    causes.push({
      code: 'METADATA_COPIES',
      text: `${facts.metadataCopies.current} of ${facts.metadataCopies.wanted} metadata copies are current`,
      facts: { ...facts.metadataCopies },
    });
  if (facts.safeMode.isActive)
    causes.push({
      code: 'SAFE_MODE',
      text: `starting: waiting for ${listInWords(facts.safeMode.waitingFor) || 'nodes'} to report; nothing is deleted or copied until then`,
      facts: { waitingFor: facts.safeMode.waitingFor },
    });

  const word = wordFor(chunks);
  // A node that is away, full or sick makes the cluster less than it should be even when every chunk has its copies.
  const isImpaired = causes.some((cause) => !['SAFE_MODE', 'NODE_SLOW', 'METADATA_COPIES'].includes(cause.code));
  const health: Health = word === 'HEALTHY' && isImpaired ? 'DEGRADED' : word;
  return { health, causes, sentence: sentenceOf(health, causes, facts) };
}

function sentenceOf(health: Health, causes: readonly HealthCause[], facts: HealthFacts): string {
  if (causes.length === 0)
    return facts.nodes.length === 0
      ? 'HEALTHY: no node has joined yet'
      : `HEALTHY: ${countOf(facts.nodes.filter((node) => node.state !== 'removed').length, 'node')}, every chunk has its copies`;
  const parts = [
    causes
      .slice(0, 2)
      .map((cause) => cause.text)
      .join(', '),
  ];
  if (facts.repair) {
    const left = facts.repair.etaMs === null ? '' : `, ${durationInWords(facts.repair.etaMs)} left`;
    parts.push(`repair ${facts.repair.percent}%${left}`);
  }
  return `${health}: ${parts.join(' | ')}`;
}
