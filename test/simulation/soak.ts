/**
 * Seeds from a shell, each failed one told at once: `npx tsx test/simulation/soak.ts FROM COUNT`, or `... 17,402,993` for these only.
 * Ends with 1 when one failed.
 */
import { reportOf, runSeeds, type SeedsReport } from './seeds.js';

const [from = '', count = '1'] = process.argv.slice(2);
const ranges: [number, number][] = from.includes(',')
  ? from
      .split(',')
      .filter((seed) => seed !== '')
      .map((seed) => [Number(seed), 1])
  : Array.from({ length: Math.ceil(Number(count) / 50) }, (_, at) => [Number(from) + at * 50, Math.min(50, Number(count) - at * 50)]);
const failed: number[] = [];
const injected = new Map<string, number>();
let seeds = 0;
let neverInjected: readonly string[] = [];
for (const [first, length] of ranges) {
  const report: SeedsReport = await runSeeds(first, length, {}, Number.POSITIVE_INFINITY);
  seeds += report.seeds;
  for (const [name, times] of report.injected) injected.set(name, (injected.get(name) ?? 0) + times);
  neverInjected = (seeds === report.seeds ? report : { neverInjected }).neverInjected.filter((name) => !injected.has(name));
  for (const result of report.failed) {
    failed.push(result.seed);
    console.log(reportOf(result));
  }
  const cpuSeconds = Math.round(process.cpuUsage().user / 1e6);
  console.log(`${seeds} seeds to ${first + length - 1}, ${failed.length} failed (${failed.join(', ')}), ${cpuSeconds} s of CPU`);
}
if (neverInjected.length > 0) console.log(`never injected: ${neverInjected.join(', ')}`);
process.exitCode = failed.length > 0 ? 1 : 0;
