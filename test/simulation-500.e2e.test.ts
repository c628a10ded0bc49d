/** The simulation over many seeds: 500 in every run, 10,000 with HOLDFAST_SOAK=1. */
import { describe, expect, it } from 'vitest';
import { reportOf, runSeeds } from './simulation/seeds.js';

const isSoak = process.env.HOLDFAST_SOAK === '1';
const seedCount = isSoak ? 10_000 : 500;
const first = 1000;

describe(`${seedCount} simulated clusters`, () => {
  it('keep their promises, and every kind of fault has struck', { retry: 0, timeout: isSoak ? 14_400_000 : 1_800_000 }, async () => {
    const report = await runSeeds(first, seedCount, {}, 3);
    expect(report.failed.map(reportOf)).toEqual([]);
    expect(report.seeds).toBe(seedCount);
    expect(report.neverInjected).toEqual([]);
  });
});
