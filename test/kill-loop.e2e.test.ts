/** T1, C6, N1: random SIGKILLs of everything under load; what was answered is there, whole, afterwards. 50 kills in every run, 1,000 with HOLDFAST_SOAK=1. */
import { type ChildProcess, spawn } from 'node:child_process';
import { appendFileSync, existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { PATIENCE_MS, ProcessRig, readFile, sha256, waitUntil } from './process-rig.js';

const isSoak = process.env.HOLDFAST_SOAK === '1';
const kills = isSoak ? 1000 : 50;
/** Everything at once, the writer included. */
const killsOfAll = isSoak ? 20 : 2;
const worker = fileURLToPath(new URL('kill-worker.ts', import.meta.url));
const root = fileURLToPath(new URL('..', import.meta.url));
const pause = (delayMs: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, delayMs));

let rig: ProcessRig;
let writer: ChildProcess | undefined;
let output = '';
/** A second try must not meet the writer or the names of the first. */
let attempt = 0;

beforeAll(async () => {
  rig = await ProcessRig.start();
}, PATIENCE_MS);
afterAll(async () => {
  writer?.kill('SIGKILL');
  await rig?.stop();
}, PATIENCE_MS);

function startWriter(manifest: string): void {
  const { cluster } = rig;
  const child = spawn(process.execPath, ['--import', 'tsx', worker, cluster.url, cluster.adminTokenFile, manifest, `w${attempt}-`], {
    cwd: root,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  for (const stream of [child.stdout, child.stderr])
    stream?.on('data', (data: Buffer) => {
      output += data.toString();
    });
  writer = child;
}
/** What is dead comes back; what runs goes on. */
async function restartAll(): Promise<void> {
  await rig.restart('coordinator');
  await Promise.all(rig.cluster.nodeNames.map((name) => rig.restart(name)));
}
const ended = (child: ChildProcess): boolean => child.exitCode !== null || child.signalCode !== null;
const linesOf = (manifest: string): string[] => (existsSync(manifest) ? readFileSync(manifest, 'utf8').split('\n').slice(0, -1) : []);

/** Every name is what was last answered, or what was being tried when somebody died. */
async function expectPromised(manifest: string, leastAnswers: number): Promise<void> {
  const promised = new Map<string, Set<string>>();
  let answers = 0;
  for (const line of linesOf(manifest)) {
    const [what = '', name = '', sum = ''] = line.split(' ');
    if (what === 'ok') {
      answers++;
      promised.set(name, new Set([sum]));
    } else if (what === 'try') promised.set(name, (promised.get(name) ?? new Set(['-'])).add(sum));
  }
  expect(answers).toBeGreaterThan(leastAnswers);
  const client = await rig.client();
  const wrong: string[] = [];
  for (const [name, sums] of promised) {
    const attributes = await client.tree.lookup(client.tree.root, name);
    const found = attributes === null ? '-' : sha256(await readFile(client, name));
    if (!sums.has(found)) wrong.push(`${name} is ${found}, allowed are ${[...sums].join(', ')}`);
  }
  expect(wrong).toEqual([]);
}

describe('T1 N1 C6 a cluster whose processes are killed at random under load', () => {
  it(`has every file that was answered, whole, after ${kills} kills`, { timeout: isSoak ? 7_200_000 : 420_000 }, async () => {
    const { cluster } = rig;
    attempt++;
    writer?.kill('SIGKILL');
    await restartAll();
    const manifest = join(rig.directory, `manifest${attempt}`);
    startWriter(manifest);
    expect(await waitUntil(() => linesOf(manifest).length > 20, PATIENCE_MS)).toBe(true);
    const killed = new Map<string, number>();
    for (let kill = 0; kill < kills; kill++) {
      const victims = ['coordinator', 'coordinator', 'n1', 'n2', 'n3', 'writer'];
      const victim = victims[Math.floor(Math.random() * victims.length)] as string;
      killed.set(victim, (killed.get(victim) ?? 0) + 1);
      if (victim === 'writer') {
        const child = writer as ChildProcess;
        // It never ends by itself: an operation that failed for good would show here.
        expect(ended(child), `the writer ended by itself: ${output}`).toBe(false);
        child.kill('SIGKILL');
        await waitUntil(() => ended(child), PATIENCE_MS);
        appendFileSync(manifest, 'killed\n');
        startWriter(manifest);
      } else if (victim === 'coordinator') {
        await cluster.coordinator.kill();
        await pause(Math.random() * 200);
        await rig.restart('coordinator');
      } else {
        await cluster.node(victim).kill();
        await pause(Math.random() * 500);
        await rig.restart(victim);
      }
      await pause(Math.random() * 500);
    }
    expect(ended(writer as ChildProcess), `the writer ended by itself: ${output}`).toBe(false);
    (writer as ChildProcess).kill('SIGKILL');
    await waitUntil(() => ended(writer as ChildProcess), PATIENCE_MS);
    expect([...killed.values()].reduce((sum, times) => sum + times, 0)).toBe(kills);
    await cluster.waitHealthy(PATIENCE_MS);
    await rig.waitForOrder();

    await expectPromised(manifest, kills);
  });

  it(`has every file that was answered after all of it was killed at once, ${killsOfAll} times under load`, {
    timeout: isSoak ? 3_600_000 : 240_000,
  }, async () => {
    const { cluster } = rig;
    attempt++;
    writer?.kill('SIGKILL');
    await restartAll();
    const manifest = join(rig.directory, `manifest${attempt}`);
    startWriter(manifest);
    for (let round = 0; round < killsOfAll; round++) {
      const before = linesOf(manifest).length;
      expect(await waitUntil(() => linesOf(manifest).length > before + 20, PATIENCE_MS), output).toBe(true);
      const child = writer as ChildProcess;
      expect(ended(child), `the writer ended by itself: ${output}`).toBe(false);
      child.kill('SIGKILL');
      await Promise.all(rig.processes().map((process) => process.kill()));
      await waitUntil(() => ended(child), PATIENCE_MS);
      appendFileSync(manifest, 'killed\n');
      await restartAll();
      const report = await rig.waitForOrder();
      expect([report.dangling, report.missing]).toEqual([0, 0]);
      startWriter(manifest);
    }
    const child = writer as ChildProcess;
    child.kill('SIGKILL');
    await waitUntil(() => ended(child), PATIENCE_MS);
    await cluster.waitHealthy(PATIENCE_MS);
    await expectPromised(manifest, killsOfAll);
  });
});
