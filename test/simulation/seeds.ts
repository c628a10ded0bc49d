/** Many seeds, one after the other: what they found, and whether every fault was really injected. */
import { faultNames } from './faults.js';
import { type RunOptions, type RunResult, runSeed } from './run.js';

export interface SeedsReport {
  readonly seeds: number;
  readonly failed: readonly RunResult[];
  readonly injected: ReadonlyMap<string, number>;
  readonly neverInjected: readonly string[];
  readonly operations: number;
  readonly events: number;
  readonly simulatedMs: number;
}

/** The command that shows a failed run again. */
export const replayCommand = (seed: number): string => `HOLDFAST_SIM_SEED=${seed} npx vitest run --project unit test/simulation.test.ts`;

export function reportOf(result: RunResult): string {
  const { seed, violations, lastLines } = result;
  return [
    `seed ${seed}: ${violations.join('\n  ')}`,
    `replay with: ${replayCommand(seed)}`,
    'what happened before:',
    ...lastLines.slice(-60),
  ].join('\n');
}

/** Giving uploads without commit up takes long even in simulated time: some seeds wait for it. */
export const waitsForOrphans = (seed: number): boolean => seed % 64 === 5;

/** @param keepGoing how many failed seeds are collected before it stops */
export async function runSeeds(from: number, count: number, options: RunOptions = {}, keepGoing = 1): Promise<SeedsReport> {
  const failed: RunResult[] = [];
  const injected = new Map<string, number>();
  let operations = 0;
  let events = 0;
  let simulatedMs = 0;
  let seeds = 0;
  for (let seed = from; seed < from + count && failed.length < keepGoing; seed++) {
    const result = await runSeed(seed, { waitsForOrphans: waitsForOrphans(seed), ...options });
    seeds++;
    operations += result.operations;
    events += result.events;
    simulatedMs += result.simulatedMs;
    for (const [name, times] of result.injected) injected.set(name, (injected.get(name) ?? 0) + times);
    if (result.violations.length > 0) failed.push(result);
  }
  return { seeds, failed, injected, neverInjected: faultNames.filter((name) => !injected.has(name)), operations, events, simulatedMs };
}
