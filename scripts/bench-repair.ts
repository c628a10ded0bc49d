// Measures how fast the chunks of a lost node are copied again, and what a writer has left meanwhile. Started by scripts/bench-repair.
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { mkdir, open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Command } from 'commander';
import { LocalCluster } from './cluster.js';
import { run, wholeNumber } from './command.js';
import { waitUntil } from './local-process.js';
import { requireFuse } from './mounts.js';

const MIB = 1024 * 1024;
/** How long the dead node is waited for before its chunks are copied. */
const GRACE_MS = 2000;

interface Options {
  small: number;
  big: number;
  speed: string;
  json?: boolean;
}
interface Result {
  readonly what: string;
  /** From the end of the grace to the first new copy. */
  readonly firstCopyAfterGraceMs: number;
  readonly replicas: number;
  readonly chunksPerS: number;
  readonly MBps: number;
  readonly writerAlone_MBps: number;
  readonly writerBeside_MBps: number;
}

/** Writes until stopped; MB/s between two looks. */
function writer(directory: string): { rateSince: () => number; stop: () => Promise<void> } {
  let bytes = 0;
  let markedBytes = 0;
  let markedMs = performance.now();
  let isStopped = false;
  const work = (async () => {
    await mkdir(directory, { recursive: true });
    for (let index = 0; !isStopped; index++) {
      const file = await open(join(directory, `w${index % 8}`), 'w');
      for (let block = 0; block < 16 && !isStopped; block++) {
        await file.write(randomBytes(MIB));
        bytes += MIB;
      }
      await file.sync();
      await file.close();
    }
  })();
  return {
    rateSince: () => {
      const nowMs = performance.now();
      const rate = (bytes - markedBytes) / 1e6 / ((nowMs - markedMs) / 1000);
      markedBytes = bytes;
      markedMs = nowMs;
      return rate;
    },
    stop: async () => {
      isStopped = true;
      await work;
    },
  };
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

async function measure(what: string, count: number, chunkBytes: number, speed: string): Promise<Result> {
  const directory = mkdtempSync(join(tmpdir(), 'holdfast-bench-repair-'));
  const folder = join(directory, 'folder');
  const cluster = await LocalCluster.create(join(directory, 'state'), {
    nodes: 4,
    copies: 2,
    port: 0,
    mount: folder,
    coordinatorArgs: ['--down-after', String(GRACE_MS)],
  });
  try {
    await cluster.start();
    await cluster.admin('setRepairSpeed', { speed: speed as 'normal' });
    await fill(join(folder, 'data'), count, chunkBytes);
    const load = writer(join(folder, 'writer'));
    await pause(1500);
    load.rateSince();
    await pause(3000);
    const writerAlone = load.rateSince();
    await cluster.node('n1').kill();
    const killedMs = performance.now();
    await cluster.waitFor((status) => status.nodes.some((node) => node.name === 'n1' && node.state === 'down'), 30_000, 'n1 down');
    const startMs = performance.now();
    load.rateSince();
    const isFirstThere = async (): Promise<boolean> =>
      (await cluster.admin('jobs', {})).jobs.some((job) => job.kind === 'repair' && job.doneChunks > 0);
    if (!(await waitUntil(isFirstThere, 60_000))) throw new Error('no chunk was copied within a minute of the death of a node');
    const firstCopyMs = performance.now() - killedMs - GRACE_MS;
    await cluster.waitFor((status) => status.chunks.belowCopies === 0, 600_000, 'full copies');
    const tookS = (performance.now() - startMs) / 1000;
    const writerBeside = load.rateSince();
    await load.stop();
    // What was really copied: the writer's own chunks on the lost node are among it.
    const { jobs } = await cluster.admin('jobs', {});
    const repairs = jobs.filter((job) => job.kind === 'repair');
    const copied = repairs.reduce((sum, job) => sum + job.doneChunks, 0);
    const copiedBytes = repairs.reduce((sum, job) => sum + job.doneBytes, 0);
    const round = (value: number): number => Math.round(value * 10) / 10;
    return {
      what,
      firstCopyAfterGraceMs: Math.round(firstCopyMs),
      replicas: copied,
      chunksPerS: round(copied / tookS),
      MBps: round(copiedBytes / 1e6 / tookS),
      writerAlone_MBps: round(writerAlone),
      writerBeside_MBps: round(writerBeside),
    };
  } finally {
    await cluster.purge();
    rmSync(directory, { recursive: true, force: true });
  }
}

/** `count` chunks, one a file when they are small, one file when they are large. */
async function fill(directory: string, count: number, chunkBytes: number): Promise<void> {
  await mkdir(directory, { recursive: true });
  if (chunkBytes >= MIB) {
    const file = await open(join(directory, 'big'), 'w');
    for (let index = 0; index < count; index++) await file.write(randomBytes(chunkBytes));
    await file.sync();
    await file.close();
    return;
  }
  let next = 0;
  const one = async (): Promise<void> => {
    for (let index = next++; index < count; index = next++) {
      const file = await open(join(directory, `f${index}`), 'w');
      await file.write(randomBytes(chunkBytes));
      await file.close();
    }
  };
  await Promise.all([one(), one(), one(), one()]);
}

const command = new Command('scripts/bench-repair')
  .description('Kills one of four nodes and measures how fast its chunks are copied again, beside a busy writer.')
  .option('--small <n>', 'number of 4 KiB chunks (0 = leave out)', wholeNumber(0, 1_000_000), 5000)
  .option('--big <n>', 'number of 1 MiB chunks (0 = leave out)', wholeNumber(0, 100_000), 512)
  .option('--speed <speed>', 'gentle, normal or urgent', 'normal')
  .option('--json', 'one JSON object a line')
  .exitOverride()
  .action(async (options: Options) => {
    requireFuse();
    const plans: [string, number, number][] = [
      ['4 KiB chunks', options.small, 4096],
      ['1 MiB chunks', options.big, MIB],
    ];
    for (const [what, count, chunkBytes] of plans) {
      if (count === 0) continue;
      const result = await measure(what, count, chunkBytes, options.speed);
      if (options.json) console.log(JSON.stringify({ schema: 1, ...result }));
      else
        console.log(
          `${what}: first copy ${result.firstCopyAfterGraceMs} ms after the grace; ${result.replicas} replicas copied again at ${result.chunksPerS} chunks/s, ${result.MBps} MB/s; a writer beside it ${result.writerBeside_MBps} MB/s (alone ${result.writerAlone_MBps} MB/s)`,
        );
    }
  });

await run(command);
