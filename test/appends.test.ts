/**
 * Several clients append to one file at once, without a lock, and read it meanwhile: on a simulated clock, every interleaving from a seed.
 *
 * A file that is only appended to never changes what it has once shown, so the rules need no model: each read is the beginning of the file as it
 * is in the end; it has all that its client appended and all that anybody had flushed before; no size is too small or too large.
 */
import { describe, expect, it } from 'vitest';
import type { Cluster as Client, FileHandle } from '../client/api.js';
import type { InodeId } from '../protocol/entities.js';
import { HoldfastError } from '../protocol/errors.js';
import { Cluster } from './simulation/cluster.js';
import { describe as textOf } from './simulation/network.js';
import type { Random } from './simulation/random.js';
import { fenceOffReality, World } from './simulation/world.js';

const root = { uid: 0, gid: 0 };
const BEYOND_ANY_END = 2 ** 30;
const LIMIT_MS = 600_000;

interface Writer {
  readonly name: string;
  readonly random: Random;
  /** Records appended so far, in order. */
  readonly records: Buffer[];
  appendedBytes: number;
  flushedRecords: number;
}
interface Look {
  readonly who: string;
  readonly bytes: Buffer;
  /** By writer: how many records it must have. */
  readonly sure: ReadonlyMap<Writer, number>;
}

/** A record tells who wrote it, its number, its length, and ends with a line feed; nothing in it is zero. */
function record(writer: Writer): Buffer {
  const { random } = writer;
  // Some fill a window of the chunk size, so that they are cut while the next ones come.
  const sizeBytes = random.chance(0.04) ? 40_000 + random.int(60_000) : 24 + random.int(random.chance(0.2) ? 3000 : 40);
  const head = `${writer.name} ${writer.records.length} ${sizeBytes} `;
  return Buffer.from(`${head.padEnd(sizeBytes - 1, '.')}\n`, 'latin1');
}

/** How many records of each writer these bytes hold; the last may be cut. Throws when they are anything else. */
function recordsIn(bytes: Buffer, writers: readonly Writer[]): Map<Writer, number> {
  const found = new Map<Writer, number>(writers.map((writer) => [writer, 0]));
  for (let at = 0; at < bytes.length; ) {
    const [name, number] = bytes.toString('latin1', at, at + 24).split(' ');
    const writer = writers.find((one) => one.name === name);
    const next = writer?.records[found.get(writer)!];
    if (!writer || !next || Number(number) !== found.get(writer))
      throw new Error(`unexpected bytes at ${at}: ${JSON.stringify(bytes.toString('latin1', at, at + 24))}`);
    const part = bytes.subarray(at, at + next.length);
    if (!part.equals(next.subarray(0, part.length))) throw new Error(`record ${number} of ${name} at ${at} is not what was written`);
    if (part.length === next.length) found.set(writer, found.get(writer)! + 1);
    at += next.length;
  }
  return found;
}

class Run {
  readonly world: World;
  private readonly cluster: Cluster;
  private readonly writers: Writer[] = [];
  private readonly looks: Look[] = [];
  private inode: InodeId = 0;
  private isWorking = true;
  readonly wrong: string[] = [];

  constructor(
    seed: number,
    private readonly clients: number,
    private readonly withFaults: boolean,
  ) {
    this.world = new World(seed);
    this.cluster = new Cluster(this.world, { nodes: 3, clients, deletionGraceMs: 0, capacityBytes: 2 ** 40 });
  }

  async whole(steps: number): Promise<void> {
    const { world, cluster } = this;
    const restore = fenceOffReality(world);
    try {
      await this.drive(cluster.start());
      if (!(await world.runUntil(() => cluster.clients.every((one) => one.isConnected), LIMIT_MS))) throw new Error('not connected');
      const [first] = cluster.clients;
      await this.drive(
        first!.use(async (client) => {
          const { attributes } = await client.tree.create({
            parent: client.tree.root,
            name: 'log',
            kind: 'file',
            mode: 0o644,
            as: root,
            exclusive: true,
          });
          this.inode = attributes.inode;
        }),
      );
      const faults = this.withFaults ? this.faults() : Promise.resolve();
      // Two programs at the first client: handles of one client share what is not committed.
      const seats = [...cluster.clients, cluster.clients[0]!];
      const work = Promise.all(seats.map((seat, at) => seat.use((client) => this.work(client, `w${at}`, steps))));
      await this.drive(
        work.finally(() => {
          this.isWorking = false;
        }),
      );
      await this.drive(faults);
      await this.drive(this.check());
    } finally {
      restore();
    }
    this.wrong.push(...world.violations.map(({ text }) => text));
  }

  private async work(client: Client, name: string, steps: number): Promise<void> {
    const writer: Writer = { name, random: this.world.random.fork(), records: [], appendedBytes: 0, flushedRecords: 0 };
    this.writers.push(writer);
    const { random } = writer;
    let file = await client.open(this.inode);
    let sizeBytes = 0;
    for (let step = 0; step < steps; step++) {
      if (random.chance(0.4)) await this.pause(random.chance(0.1) ? random.between(0, 3000) : random.between(0, 12));
      const what = random.weighted({ append: 60, flush: 8, sync: 2, reopen: 4, size: 10, read: 8, lookup: 4 });
      if (what === 'append') {
        const bytes = record(writer);
        writer.records.push(bytes);
        writer.appendedBytes += bytes.length;
        await file.write(0, bytes, { append: true });
      } else if (what === 'flush' || what === 'sync') {
        await this.flush(writer, file, what);
      } else if (what === 'reopen') {
        await this.flush(writer, file, 'flush');
        await file.release();
        file = await client.open(this.inode);
      } else if (what === 'read') {
        await this.look(writer, file, client);
      } else {
        const own = writer.appendedBytes;
        const found = what === 'size' ? await file.attributes() : await client.tree.lookup(client.tree.root, 'log');
        const all = this.writers.reduce((sum, one) => sum + one.appendedBytes, 0);
        if (!found || found.sizeBytes < Math.max(own, sizeBytes) || found.sizeBytes > all)
          this.wrong.push(`${name}: size ${found?.sizeBytes} after ${sizeBytes}, with ${own} own bytes of ${all}`);
        sizeBytes = found?.sizeBytes ?? 0;
      }
    }
    await this.flush(writer, file, 'flush');
    await this.look(writer, file, client);
    await file.release();
  }

  private async flush(writer: Writer, file: FileHandle, how: 'flush' | 'sync'): Promise<void> {
    const through = writer.records.length;
    try {
      await file[how]();
    } catch (error) {
      // A fault may be told; nothing is promised then, and nothing is given up.
      if (!this.withFaults || !(error instanceof HoldfastError && error.errno === 'EIO')) throw error;
      return;
    }
    writer.flushedRecords = Math.max(writer.flushedRecords, through);
  }

  /** Reads from front to back, in one piece or in several, as programs do. */
  private async look(writer: Writer, file: FileHandle, client: Client): Promise<void> {
    const { random } = writer;
    const other = random.chance(0.5) ? await client.open(this.inode) : undefined;
    const sure = new Map(this.writers.map((one) => [one, one === writer ? one.records.length : one.flushedRecords]));
    const pieceBytes = random.pick([BEYOND_ANY_END, 65_536, 5000]);
    const pieces: Buffer[] = [];
    for (let at = 0; ; ) {
      const piece = await (other ?? file).read(at, pieceBytes);
      pieces.push(piece);
      at += piece.length;
      if (piece.length < pieceBytes) break;
      if (random.chance(0.2)) await this.pause(random.between(0, 30));
    }
    await other?.release();
    this.looks.push({ who: writer.name, bytes: Buffer.concat(pieces), sure });
  }

  private async faults(): Promise<void> {
    const random = this.world.random.fork();
    for (let count = 0; count < 3 && this.isWorking; count++) {
      await this.pause(random.between(50, 1500));
      // Killed, or replies are lost on the way: a commit may be applied and asked again.
      if (random.chance(0.4)) this.cluster.coordinator.kill(false);
      else this.cluster.network.cutReplyChance = 0.1;
      await this.pause(random.between(0, 2000));
      this.cluster.network.cutReplyChance = 0;
      await this.cluster.coordinator.start();
    }
  }

  private async check(): Promise<void> {
    const [seat] = this.cluster.clients;
    const content = await seat!.use(async (client) => {
      const file = await client.open(this.inode);
      const bytes = await file.read(0, BEYOND_ANY_END);
      await file.release();
      return bytes;
    });
    try {
      for (const [writer, count] of recordsIn(content, this.writers))
        if (count !== writer.records.length) this.wrong.push(`${count} of ${writer.records.length} records of ${writer.name} are there`);
    } catch (error) {
      this.wrong.push(textOf(error));
    }
    for (const { who, bytes, sure } of this.looks) {
      if (!bytes.equals(content.subarray(0, bytes.length))) {
        this.wrong.push(`${who} read ${bytes.length} bytes that are not how the file of ${content.length} begins`);
        continue;
      }
      try {
        const found = recordsIn(bytes, this.writers);
        for (const [writer, count] of sure)
          if (found.get(writer)! < count) this.wrong.push(`${who} read ${found.get(writer)} records of ${writer.name}, not ${count}`);
      } catch (error) {
        this.wrong.push(`${who} read ${textOf(error)}`);
      }
    }
  }

  get lookCount(): number {
    return this.looks.length;
  }
  private pause(delayMs: number): Promise<void> {
    return new Promise((resolve) => {
      this.world.schedule(delayMs, '', resolve);
    });
  }
  private async drive(promise: Promise<unknown>): Promise<void> {
    let isDone = false;
    let failure: unknown;
    promise
      .catch((error: unknown) => {
        failure = error;
      })
      .finally(() => {
        isDone = true;
      });
    if (!(await this.world.runUntil(() => isDone, LIMIT_MS))) throw new Error('it never ended');
    if (failure !== undefined) throw failure as Error;
  }
}

const only = process.env.HOLDFAST_APPEND_SEED;
const from = Number(only ?? 1);
const seeds = only === undefined ? Number(process.env.HOLDFAST_APPEND_SEEDS ?? 12) : 1;

describe('a file that several clients append to without a lock', () => {
  for (const withFaults of [false, true])
    it(`keeps every record once, whole and in order, and never shows anything else${withFaults ? ', while the coordinator is killed and replies are lost' : ''}`, {
      timeout: 600_000,
    }, async () => {
      let looks = 0;
      for (let seed = from; seed < from + seeds; seed++) {
        const run = new Run(seed, 2 + (seed % 2), withFaults);
        await run.whole(60).catch((error: unknown) => run.wrong.push(textOf(error)));
        looks += run.lookCount;
        expect(run.wrong, `HOLDFAST_APPEND_SEED=${seed} npx vitest run --project unit test/appends.test.ts`).toEqual([]);
      }
      expect(looks).toBeGreaterThan(seeds * 3);
    });
});
