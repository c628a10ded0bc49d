/**
 * Fuzzers against real processes (S10, S11, S12, T12): every event of the coordinator and every route of coordinator and nodes, right, mutated and nonsense,
 * by strangers, by a node, and by a user with rights to a volume of his own. HOLDFAST_SOAK=1 runs ten minutes of it and compares the times of a user who just
 * works; HOLDFAST_FUZZ_SEED=n repeats the choices of an earlier run, HOLDFAST_FUZZ_SECONDS=n is another length.
 */
import { describe, expect, it } from 'vitest';
import { attack, type Campaign, type Side } from './fuzz/campaign.js';
import { ProcessRig } from './process-rig.js';

const isSoak = process.env.HOLDFAST_SOAK === '1';
const ATTACK_MS = Number(process.env.HOLDFAST_FUZZ_SECONDS ?? (isSoak ? 600 : 7)) * 1000;
const QUIET_MS = isSoak ? 30_000 : 1_000;
/** Beyond the first half minute of a long attack; a short one shows the heaps filling for the first time. */
const MOST_GROWTH_MIB = isSoak ? 64 : 200;
const seed = Number(process.env.HOLDFAST_FUZZ_SEED ?? Date.now() % 1_000_000);

function judge({ findings, restarted, unexpected, changed, check, memory, good }: Campaign): void {
  expect(findings.list, 'what must not be answered').toEqual([]);
  expect(unexpected, 'logs').toEqual([]);
  expect(restarted, 'processes that ended').toEqual([]);
  expect(changed, 'files of somebody else').toEqual([]);
  expect(check).toMatchObject({ dangling: 0, missing: 0, missingReplicas: 0, wrongReferenceCounts: 0 });
  // Chunks that were uploaded and never committed are expected: by the attacker.
  expect(check.problems.filter((problem) => !problem.endsWith('which no metadata names'))).toEqual([]);
  for (const [name, [before, after]] of Object.entries(memory))
    expect(after - before, `growth of ${name} from ${before} MiB, in MiB`).toBeLessThan(MOST_GROWTH_MIB);
  expect(good.during.failures, 'calls of somebody who just works').toEqual([]);
  expect(good.during.operations).toBeGreaterThan(0);
}

describe('under fuzzers', () => {
  const cases: [string, Side[]][] = isSoak
    ? [['S10 S11 S12 T12 of everything at once', ['sockets', 'http']]]
    : [
        ['S10 S12 of every event of the coordinator', ['sockets']],
        ['S3 S7 of every route of nodes and coordinator', ['http']],
      ];
  it.each(cases)('%s, nothing ends, nothing is shown, nothing is lost', async (_title, sides) => {
    const rig = await ProcessRig.start({ nodes: 2 });
    try {
      const kindsTaken = sides.includes('sockets') ? 31 : 5;
      const campaign = await attack(rig, {
        ...{ seed, sides, kindsTaken, attackMs: ATTACK_MS, quietMs: QUIET_MS, attackersNiceness: isSoak ? 10 : 0 },
      });
      const { before, during } = campaign.good;
      console.log(
        JSON.stringify({
          seed,
          sides,
          sent: campaign.findings.total,
          memoryMib: campaign.memory,
          p99Ms: [before.p99Ms, during.p99Ms],
          good: during.operations,
        }),
      );
      if (process.env.HOLDFAST_FUZZ_VERBOSE === '1') console.log(JSON.stringify([...campaign.findings.sent].sort(), null, 1));
      judge(campaign);
      // What nobody answered with a value was not tried: the shapes have changed, or the fuzzer is shut out.
      expect(campaign.findings.kindsTaken).toBeGreaterThanOrEqual(kindsTaken);
      if (isSoak) expect(during.p99Ms, `p99 of somebody who just works, ${before.p99Ms} ms before`).toBeLessThan(2 * before.p99Ms + 5);
    } finally {
      await rig.stop();
    }
  });
});
