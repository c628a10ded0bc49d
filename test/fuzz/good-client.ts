/**
 * Somebody who just works, while others misbehave: makes, writes, reads back, lists and deletes small files, and notes how long each took. Every line on
 * its input is answered by one with the times since the last line, as JSON. Arguments: coordinator URL, token file, pause between two rounds in ms.
 */
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { connect } from '../../client/index.js';

/** What came since the last line. */
export interface GoodClientReport {
  readonly operations: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
  readonly failures: readonly string[];
}

const [coordinatorUrl = '', tokenFile = '', pauseMs = '5'] = process.argv.slice(2);
const AS = { uid: 0, gid: 0 };
const cluster = await connect({
  coordinatorUrl,
  token: readFileSync(tokenFile, 'utf8').trim(),
  description: 'good client',
  outageTimeoutMs: 60_000,
});
const { tree } = cluster;
let times: number[] = [];
let failures: string[] = [];

async function timed<T>(what: Promise<T>): Promise<T> {
  const startedMs = performance.now();
  try {
    return await what;
  } finally {
    times.push(performance.now() - startedMs);
  }
}

async function round(number: number): Promise<void> {
  const name = `good-${number % 50}`;
  const content = randomBytes(1 + (number % 7) * 10_000);
  const created = await timed(tree.create({ parent: tree.root, name, kind: 'file', mode: 0o644, as: AS, exclusive: true }));
  const handle = await cluster.open(created.attributes.inode);
  await handle.write(0, content);
  await timed(handle.flush());
  const read = await timed(handle.read(0, content.length));
  await handle.release();
  if (!content.equals(read)) failures.push(`${name}: other bytes than were written`);
  await timed(tree.unlink(tree.root, name, AS));
}

const at = (sorted: readonly number[], part: number): number => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? 0;
createInterface({ input: process.stdin })
  .on('line', () => {
    const sorted = times.sort((a, b) => a - b);
    const report: GoodClientReport = {
      ...{ operations: sorted.length, p50Ms: at(sorted, 0.5), p99Ms: at(sorted, 0.99), maxMs: at(sorted, 1), failures },
    };
    times = [];
    failures = [];
    process.stdout.write(`${JSON.stringify(report)}\n`);
  })
  .on('close', () => process.exit(0));
process.stdout.write('ready\n');

for (let number = 0; ; number++) {
  try {
    await round(number);
  } catch (error) {
    failures.push(String(error));
    await delay(100);
  }
  await delay(Number(pauseMs));
}
