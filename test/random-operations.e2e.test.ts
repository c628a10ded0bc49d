/**
 * The same random calls on a mount and on a local directory, by two processes each: every result, errno and stat is compared at once, and every so
 * often the whole tree byte by byte. The seed is printed; HOLDFAST_SEED=<seed> replays it, HOLDFAST_RANDOM_OPERATIONS=<n> sets how many,
 * HOLDFAST_RANDOM_LOG=<file> keeps the calls up to a difference.
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';
import { isDeepStrictEqual } from 'node:util';
import { describe, expect, it } from 'vitest';
import { FsWorker, type Outcome, type Stat } from './fs-worker.js';
import { type MountRig, startClusterMounts, startMemoryMount, whyNoMount } from './mount-rig.js';

const why = whyNoMount();
const isSoak = process.env.HOLDFAST_SOAK === '1';
const seed = Number(process.env.HOLDFAST_SEED ?? Math.floor(Math.random() * 2 ** 31));
const wholeTreeEvery = 100;

/** mulberry32: small, and the same everywhere. */
function randomFrom(start: number): () => number {
  let state = start >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

type Call = [name: string, ...args: unknown[]];

/** Makes calls that mostly succeed and often meet: few names, few handles. Which handles are open is all it knows. */
class CallMaker {
  readonly #open = [new Set<string>(), new Set<string>()];
  #nextHandle = 1;
  constructor(private readonly random: () => number) {}

  #below(count: number): number {
    return Math.floor(this.random() * count);
  }
  #pick<T>(values: readonly T[]): T {
    return values[this.#below(values.length)] as T;
  }
  #directory(): string {
    return this.#pick(['.', '.', 'd1', 'd2', 'd1/d3']);
  }
  #path(): string {
    return `${this.#directory()}/${this.#pick(['a', 'b', 'c', 'e'])}`;
  }
  #offset(): number {
    return this.#pick([
      this.#below(300),
      this.#below(10_000),
      this.#below(300_000),
      this.#below(3_000_000),
      4096 * this.#below(64),
      65_536,
    ]);
  }
  #length(): number {
    return this.#pick([this.#below(20), this.#below(5000), this.#below(100_000), 4096, 65_536, this.#below(400_000)]);
  }
  #data(): string {
    const mark = `<${this.#below(1e9)}>`;
    return mark.repeat(Math.ceil(this.#length() / mark.length) + 1).slice(0, this.#length() + 1);
  }

  /** Which of the two processes, and what it does. */
  next(): { process: 0 | 1; call: Call } {
    const process = this.#below(2) as 0 | 1;
    const open = this.#open[process]!;
    const handle = this.#pick([...open]);
    if (open.size < 2 || (open.size < 6 && this.#below(8) === 0)) {
      const name = `h${this.#nextHandle++}`;
      const flags = this.#pick([
        'O_RDWR|O_CREAT',
        'O_RDWR|O_CREAT',
        'O_RDWR',
        'O_RDWR|O_CREAT|O_APPEND',
        'O_RDWR|O_CREAT|O_EXCL',
        'O_RDWR|O_TRUNC',
        'O_RDONLY',
        'O_WRONLY|O_CREAT',
      ]);
      return { process, call: ['open', name, this.#path(), flags] };
    }
    const makers: [weight: number, make: () => Call][] = [
      [12, () => ['write', handle, this.#data(), this.#offset()]],
      [4, () => ['append', handle, this.#data()]],
      [12, () => ['read', handle, this.#length(), this.#offset()]],
      [4, () => ['ftruncate', handle, this.#offset()]],
      [3, () => ['truncate', this.#path(), this.#offset()]],
      [3, () => ['fstat', handle]],
      [2, () => ['fsync', handle]],
      [6, () => ['close', handle]],
      [4, () => ['mapTouch', handle, this.#offset(), this.#data()]],
      [3, () => ['fallocate', handle, this.#pick([0, 1, 3, 0x10, 0x11]), this.#offset(), 1 + this.#length()]],
      [3, () => ['copy', handle, this.#pick([...open]), 1 + this.#length(), this.#offset(), this.#offset()]],
      [4, () => ['lstat', this.#path()]],
      [4, () => ['whole', this.#path()]],
      [3, () => ['writeWhole', this.#path(), this.#data()]],
      [4, () => ['unlink', this.#path()]],
      [4, () => ['rename', this.#path(), this.#path()]],
      [1, () => ['renameat2', this.#path(), this.#path(), this.#pick([1, 2])]],
      [3, () => ['link', this.#path(), this.#path()]],
      [1, () => ['symlink', this.#pick(['a', 'b', '../c', 'nowhere']), this.#path()]],
      [2, () => ['mkdir', this.#pick(['d1', 'd2', 'd1/d3', this.#path()])]],
      [1, () => ['rmdir', this.#pick(['d1', 'd2', 'd1/d3', this.#path()])]],
      [1, () => ['rename', this.#pick(['d1', 'd2', 'd1/d3']), this.#pick(['d1', 'd2', 'd1/d3', 'd2/d4'])]],
      [2, () => ['list', this.#directory()]],
      [2, () => ['chmod', this.#path(), this.#pick([0o600, 0o644, 0o755])]],
      [1, () => ['utimens', this.#path(), '1000000000000000001', '1500000000000000002']],
    ];
    let at = this.#below(makers.reduce((sum, [weight]) => sum + weight, 0));
    for (const [weight, make] of makers) {
      at -= weight;
      if (at < 0) return { process, call: make() };
    }
    throw new Error('weights do not add up');
  }

  /** Learns whether an open or close worked. */
  note(process: 0 | 1, call: Call, outcome: Outcome): void {
    if (outcome.error !== null) return;
    if (call[0] === 'open') this.#open[process]!.add(call[1] as string);
    if (call[0] === 'close') this.#open[process]!.delete(call[1] as string);
  }
}

function comparable({ error, result }: Outcome): unknown {
  if (typeof result !== 'object' || result === null || !('inode' in result)) return { error, result };
  const { kind, mode, size, nlink } = result as Stat;
  return kind === 'directory' ? { kind, mode } : { kind, mode, size, nlink };
}

async function compare(mounts: readonly [string, string], operations: number): Promise<void> {
  // A folder below the temporary one, as on the mount: a link to "../c" must not lead to a file that other runs share.
  const localRoot = mkdtempSync(join(tmpdir(), 'hf-local-'));
  const local = join(localRoot, 'random');
  mkdirSync(local);
  const random = randomFrom(seed);
  const maker = new CallMaker(random);
  const ours = mounts.map((directory) => new FsWorker(directory));
  const theirs = [new FsWorker(local), new FsWorker(local)];
  const done: string[] = [];
  const told = () => {
    if (process.env.HOLDFAST_RANDOM_LOG) writeFileSync(process.env.HOLDFAST_RANDOM_LOG, `${done.join('\n')}\n`);
    return lastOnes();
  };
  const lastOnes = () =>
    `seed ${seed}, operation ${done.length}; the last ones:\n${done
      .slice(-15)
      .map((one) => one.slice(0, 150))
      .join('\n')}`;
  try {
    for (const worker of [ours[0]!, theirs[0]!]) for (const name of ['d1', 'd2', 'd1/d3']) await worker.call('mkdir', name);
    for (let count = 1; count <= operations; count++) {
      const { process: who, call } = maker.next();
      done.push(`p${who} ${JSON.stringify(call)}`);
      const [mine, reference] = await Promise.all([ours[who]!.attempt(...call), theirs[who]!.attempt(...call)]);
      if (!isDeepStrictEqual(comparable(mine), comparable(reference))) expect(comparable(mine), told()).toEqual(comparable(reference));
      maker.note(who, call, mine);
      if (count % wholeTreeEvery === 0 || count === operations) {
        const [mineAll, referenceAll] = await Promise.all([ours[count % 2]!.call('tree', '.'), theirs[0]!.call('tree', '.')]);
        if (!isDeepStrictEqual(mineAll, referenceAll)) expect(mineAll, told()).toEqual(referenceAll);
      }
    }
  } finally {
    for (const worker of [...ours, ...theirs]) await worker.stop();
    rmSync(localRoot, { recursive: true, force: true });
  }
}

const operationsOf = (ordinary: number): number => Number(process.env.HOLDFAST_RANDOM_OPERATIONS ?? (isSoak ? 100_000 : ordinary));

describe.skipIf(why !== undefined)(`random calls, seed ${seed}${why ? ` (skipped: ${why})` : ''}`, () => {
  it.each<[string, () => Promise<MountRig>, number]>([
    ['a cluster in memory', startMemoryMount, operationsOf(6000)],
    ['a cluster of processes', () => startClusterMounts(1), operationsOf(3000)],
  ])(
    'D5 have the same results on a mount of %s as on a local directory',
    async (_title, start, operations) => {
      const rig = await start();
      try {
        const directory = join(rig.mounts[0]!, 'random');
        const maker = new FsWorker(rig.mounts[0]!);
        await maker.call('mkdir', 'random');
        await maker.stop();
        await compare([directory, directory], operations);
      } finally {
        await rig.stop();
      }
    },
    isSoak ? 7_200_000 : 300_000,
  );
});
