import { describe, expect, it } from 'vitest';
import { countCopies, type HealthFacts, judgeHealth, type NodeFacts, wordFor } from './health.js';

const node = (name: string, state: NodeFacts['state'] = 'up'): NodeFacts => ({
  ...{ name, state, stateForMs: 48_000, isFull: false, isReadOnly: false, isSlow: false, errors: 0 },
});
const facts = (more: Partial<HealthFacts> = {}): HealthFacts => ({
  nodes: [node('n1'), node('n2'), node('n3')],
  chunks: countCopies([{ shown: 2, copies: 2, count: 10 }]),
  copies: 2,
  safeMode: { isActive: false, waitingFor: [] },
  isMetadataDiskFull: false,
  metadataCopies: undefined,
  repair: undefined,
  ...more,
});

describe('counting copies', () => {
  it('judges by what each volume wants', () => {
    const counted = countCopies([
      { shown: 1, copies: 1, count: 5 },
      { shown: 1, copies: 2, count: 3 },
      { shown: 2, copies: 3, count: 2 },
      { shown: 0, copies: 2, count: 1 },
      { shown: 4, copies: 2, count: 7 },
    ]);
    expect(counted).toEqual({ total: 18, belowCopies: 6, endangered: 3, lost: 1, byGoodReplicas: [1, 8, 2, 0, 7] });
  });
  it('has one word for it', () => {
    expect(wordFor({ belowCopies: 0, endangered: 0, lost: 0 })).toBe('HEALTHY');
    expect(wordFor({ belowCopies: 1, endangered: 0, lost: 0 })).toBe('DEGRADED');
    expect(wordFor({ belowCopies: 1, endangered: 1, lost: 0 })).toBe('AT RISK');
    expect(wordFor({ belowCopies: 1, endangered: 0, lost: 1 })).toBe('DATA LOSS');
  });
});

describe('health', () => {
  it('is HEALTHY without a cause', () => {
    expect(judgeHealth(facts())).toEqual({ health: 'HEALTHY', causes: [], sentence: 'HEALTHY: 3 nodes, every chunk has its copies' });
    expect(judgeHealth(facts({ nodes: [], copies: 0 })).sentence).toBe('HEALTHY: no node has joined yet');
  });

  it('says what is at risk, why, and when it will be over', () => {
    const judged = judgeHealth(
      facts({
        nodes: [node('n1'), node('n2'), node('n3', 'down')],
        chunks: countCopies([{ shown: 1, copies: 2, count: 4 }]),
        repair: { percent: 62, etaMs: 22_000 },
      }),
    );
    expect(judged.sentence).toBe('AT RISK: 4 chunks on one copy, n3 is down for 48s | repair 62%, 22s left');
    expect(judged.causes.map((cause) => cause.code)).toEqual(['CHUNKS_ENDANGERED', 'NODE_DOWN', 'CHUNKS_BELOW_COPIES']);
  });

  it('names the nodes whose return brings chunks back', () => {
    const judged = judgeHealth(
      facts({ nodes: [node('n1'), node('n2', 'down'), node('n3', 'down')], chunks: countCopies([{ shown: 0, copies: 2, count: 1 }]) }),
    );
    expect(judged.health).toBe('DATA LOSS');
    expect(judged.causes[0]?.text).toBe('1 chunk without a readable copy; readable again when n2 and n3 are back');
  });

  it('is DEGRADED with too few nodes or a full disk, though every chunk has its copies', () => {
    expect(judgeHealth(facts({ nodes: [node('n1')] })).causes[0]?.code).toBe('TOO_FEW_NODES');
    expect(judgeHealth(facts({ isMetadataDiskFull: true })).health).toBe('DEGRADED');
    expect(judgeHealth(facts({ nodes: [node('n1'), node('n2'), { ...node('n3'), isFull: true }] })).causes[0]?.code).toBe('NODE_FULL');
  });

  it('stays HEALTHY while starting, and says what it waits for', () => {
    const judged = judgeHealth(facts({ safeMode: { isActive: true, waitingFor: ['n1', 'n2'] } }));
    expect(judged.health).toBe('HEALTHY');
    expect(judged.sentence).toContain('waiting for n1 and n2 to report');
  });
});
