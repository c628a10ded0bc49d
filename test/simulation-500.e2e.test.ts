/** The simulation over many seeds: 500 in every run, 10,000 with HOLDFAST_SOAK=1. */
import { describe, expect, it } from 'vitest';
import { reportOf, runSeeds } from './simulation/seeds.js';

const isSoak = process.env.HOLDFAST_SOAK === '1';
const seedCount = isSoak ? 10_000 : 500;
const first = 1000;
/** Seeds that show a fault nobody has understood yet. Still run and told; one that passes must leave this list. */
const open = new Map([[1381, 'after a power loss of the coordinator a directory tree is none of the allowed states']]);

describe(`${seedCount} simulated clusters`, () => {
  it('keep their promises, and every kind of fault has struck', { timeout: isSoak ? 14_400_000 : 600_000 }, async () => {
    const report = await runSeeds(first, seedCount, {}, open.size + 3);
    for (const { seed } of report.failed) if (open.has(seed)) console.warn(`OPEN FAULT, seed ${seed}: ${open.get(seed)}`);
    expect(report.failed.filter(({ seed }) => !open.has(seed)).map(reportOf)).toEqual([]);
    expect(report.failed.map(({ seed }) => seed).sort()).toEqual([...open.keys()]);
    expect(report.seeds).toBe(seedCount);
    expect(report.neverInjected).toEqual([]);
  });
});
