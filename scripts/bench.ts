// Measures a fresh cluster's mount and a local directory on the same disk, and prints both with their ratio. Started by scripts/bench.

import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  appendFileSync,
  closeSync,
  fsyncSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
  unlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Command } from 'commander';
import { LocalCluster } from './cluster.js';
import { run, wholeNumber } from './command.js';
import { requireFuse } from './mounts.js';

const MIB = 1024 * 1024;
const SMALL = 4096;

interface Sizes {
  /** MiB of the large file. */
  readonly big: number;
  /** Number of small files. */
  readonly small: number;
}
type Rates = Map<string, { value: number; unit: string }>;

/** Random-looking bytes, the same on every run. */
const noise = (() => {
  const parts: Buffer[] = [];
  let seed = createHash('sha512').update('holdfast').digest();
  for (let made = 0; made < 8 * MIB; made += seed.length) {
    seed = createHash('sha512').update(seed).digest();
    parts.push(seed);
  }
  return Buffer.concat(parts);
})();

/** 1 MiB that appears nowhere else. */
function fresh(index: number, salt: number): Buffer {
  const start = (index * 7919) % (7 * MIB);
  const block = Buffer.from(noise.subarray(start, start + MIB));
  for (let at = 0; at < MIB; at += SMALL) block.writeDoubleLE(index + salt + at / MIB, at);
  return block;
}

/** So that a read comes from the disk or the nodes; without root the figures called "cold" are warm. */
function dropCaches(): void {
  execFileSync('sync');
  try {
    appendFileSync('/proc/sys/vm/drop_caches', '3');
  } catch {
    // Not root.
  }
}

function secondsOf(work: () => void): number {
  const startMs = performance.now();
  work();
  return (performance.now() - startMs) / 1000;
}

function measure(directory: string, { big, small }: Sizes, salt: number): Rates {
  const rates: Rates = new Map();
  const note = (name: string, amount: number, unit: string, work: () => void): void => {
    rates.set(name, { value: amount / secondsOf(work), unit });
  };
  const offset = (index: number): number => ((index * 2_654_435_761) % (big * 256)) * SMALL;
  const file = join(directory, 'big');
  note('sequential write + fsync', (big * MIB) / 1e6, 'MB/s', () => {
    const fd = openSync(file, 'w');
    for (let index = 0; index < big; index++) writeSync(fd, fresh(index, salt));
    fsyncSync(fd);
    closeSync(fd);
  });
  dropCaches();
  note('sequential read, cold', (big * MIB) / 1e6, 'MB/s', () => {
    const fd = openSync(file, 'r');
    const buffer = Buffer.allocUnsafe(MIB);
    let sum = 0;
    for (let count = readSync(fd, buffer); count > 0; count = readSync(fd, buffer)) sum += count;
    closeSync(fd);
    if (sum !== big * MIB) throw new Error(`read ${sum} bytes of ${big * MIB}`);
  });
  dropCaches();
  note('random read 4 KiB', 1000, 'ops/s', () => {
    const fd = openSync(file, 'r');
    const buffer = Buffer.allocUnsafe(SMALL);
    for (let index = 0; index < 1000; index++) if (readSync(fd, buffer, 0, SMALL, offset(index)) !== SMALL) throw new Error('short read');
    closeSync(fd);
  });
  note('random write 4 KiB, one fsync', 1000, 'ops/s', () => {
    const fd = openSync(file, 'r+');
    for (let index = 0; index < 1000; index++) writeSync(fd, noise, index * 64, SMALL, offset(index));
    fsyncSync(fd);
    closeSync(fd);
  });
  note('append 4 KiB + fsync', 200, 'ops/s', () => {
    const fd = openSync(join(directory, 'log'), 'a');
    for (let index = 0; index < 200; index++) {
      writeSync(fd, noise, index * SMALL, SMALL);
      fsyncSync(fd);
    }
    closeSync(fd);
  });
  const folder = join(directory, 'small');
  mkdirSync(folder);
  const names = Array.from({ length: small }, (_, index) => join(folder, `f${index}`));
  note('create + write 4 KiB + close', small, 'files/s', () => {
    for (const [index, name] of names.entries()) {
      const data = Buffer.from(noise.subarray(index * 64, index * 64 + SMALL));
      data.writeDoubleLE(index + salt, 0);
      writeFileSync(name, data);
    }
  });
  dropCaches();
  note('ls -l, cold', small, 'files/s', () => {
    for (const name of readdirSync(folder)) if (lstatSync(join(folder, name)).size !== SMALL) throw new Error('wrong size');
  });
  dropCaches();
  note('open + read 4 KiB, cold', small, 'files/s', () => {
    for (const name of names) if (readFileSync(name).length !== SMALL) throw new Error('short read');
  });
  note('rename', small, 'ops/s', () => {
    for (const name of names) renameSync(name, `${name}r`);
  });
  note('stat', small, 'ops/s', () => {
    for (const name of names) statSync(`${name}r`);
  });
  note('unlink', small, 'ops/s', () => {
    for (const name of names) unlinkSync(`${name}r`);
  });
  return rates;
}

const show = (value: number): string => (value >= 100 ? Math.round(value).toLocaleString('en') : value.toFixed(1));

interface Options {
  nodes: number;
  copies: number;
  big: number;
  small: number;
  encrypt?: boolean;
  trash?: boolean;
  json?: boolean;
}

const command = new Command('scripts/bench')
  .description('Measures a fresh cluster through its mount, and a local directory on the same disk beside it.')
  .option('--nodes <n>', 'storage nodes', wholeNumber(1, 16), 3)
  .option('--copies <n>', 'copies of every chunk', wholeNumber(1, 8), 2)
  .option('--big <MiB>', 'size of the large file', wholeNumber(8, 1_000_000), 256)
  .option('--small <n>', 'number of small files', wholeNumber(10, 10_000_000), 1000)
  .option('--encrypt', 'with an encrypted volume, as scripts/up makes it')
  .option('--trash', 'with a trash, as scripts/up makes it')
  .option('--json', 'one JSON object')
  .exitOverride()
  .action(async (options: Options) => {
    requireFuse();
    const directory = mkdtempSync(join(tmpdir(), 'holdfast-bench-'));
    const mount = join(directory, 'folder');
    const local = join(directory, 'local');
    const cluster = await LocalCluster.create(join(directory, 'state'), {
      nodes: options.nodes,
      copies: options.copies,
      port: 0,
      mount,
      isEncrypted: options.encrypt === true,
      hasTrash: options.trash === true,
    });
    try {
      await cluster.start();
      mkdirSync(local);
      const ours = measure(mount, options, 1);
      const theirs = measure(local, options, 2);
      tell(ours, theirs, options);
    } finally {
      await cluster.purge();
      rmSync(directory, { recursive: true, force: true });
    }
  });

function tell(ours: Rates, theirs: Rates, options: Options): void {
  if (options.json) {
    const plain = (rates: Rates) => Object.fromEntries([...rates].map(([name, { value }]) => [name, Math.round(value * 10) / 10]));
    console.log(JSON.stringify({ schema: 1, nodes: options.nodes, copies: options.copies, holdfast: plain(ours), local: plain(theirs) }));
    return;
  }
  console.log(
    `${options.nodes} nodes, ${options.copies} copies${options.encrypt ? ', encrypted' : ''}${options.trash ? ', with a trash' : ''}, all on this machine and one disk\n`,
  );
  console.log(`${''.padEnd(30)}${'Holdfast'.padStart(12)}${'local'.padStart(12)}${'ratio'.padStart(9)}`);
  for (const [name, { value, unit }] of ours) {
    const other = theirs.get(name)?.value ?? Number.NaN;
    console.log(
      `${name.padEnd(30)}${show(value).padStart(12)}${show(other).padStart(12)}${(value / other).toFixed(3).padStart(9)}  ${unit}`,
    );
  }
}

await run(command);
