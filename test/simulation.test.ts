/**
 * Whole clusters on a simulated clock (test/simulation): programs work, things break and heal, and afterwards everything promised is there.
 * HOLDFAST_SIM_SEED=n runs one seed alone; HOLDFAST_SIM_TRACE=1 prints every event of it.
 */
import { describe, expect, it } from 'vitest';
import { runSeed } from './simulation/run.js';
import { reportOf, runSeeds, waitsForOrphans } from './simulation/seeds.js';

const wanted = process.env.HOLDFAST_SIM_SEED;
const seedsInUnitTests = 24;

describe.runIf(wanted !== undefined)('a simulated cluster, replayed', () => {
  it(`keeps its promises with seed ${wanted}`, { timeout: 600_000 }, async () => {
    const seed = Number(wanted);
    const result = await runSeed(seed, { waitsForOrphans: waitsForOrphans(seed) });
    expect(result.violations, reportOf(result)).toEqual([]);
  });
});

describe.runIf(wanted === undefined)('a simulated cluster', () => {
  it(`keeps its promises over ${seedsInUnitTests} seeds of crashes, lost power, bad disks and partitions`, {
    timeout: 300_000,
  }, async () => {
    const report = await runSeeds(1, seedsInUnitTests);
    expect(report.failed.map(reportOf)).toEqual([]);
    expect(report.operations).toBeGreaterThan(seedsInUnitTests * 50);
  });

  it('goes the same way twice with the same seed', { timeout: 300_000 }, async () => {
    for (const seed of [2, 7]) {
      const first = await runSeed(seed);
      const second = await runSeed(seed);
      expect(second.traceHash).toBe(first.traceHash);
      expect(second.events).toBe(first.events);
    }
    expect((await runSeed(3)).traceHash).not.toBe((await runSeed(4)).traceHash);
  });
});
