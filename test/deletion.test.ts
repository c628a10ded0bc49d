/**
 * Deletion against uploads of the same content: clients put, commit and drop three contents all the time while nodes and the coordinator are killed,
 * hang and lose calls and replies. After every commit each replica that a living chunk is said to have must lie on its disk, whole.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { ClientCaller } from '../coordinator/ports.js';
import { buildChunk } from '../protocol/chunk.js';
import { type Environment, sleep } from '../protocol/environment.js';
import { HoldfastError, isCode } from '../protocol/errors.js';
import { KeeperMachine } from './simulation/keeper-machine.js';
import { describe as textOf } from './simulation/network.js';
import { chunkPeer } from './simulation/node-machine.js';
import { fenceOffReality, SimProcess, World } from './simulation/world.js';

const contents = Array.from({ length: 3 }, (_, i) => {
  const payload = Buffer.from(`content ${i}`);
  const { id, header } = buildChunk(payload, 1);
  return { id, parts: [header, payload] };
});
type Content = (typeof contents)[number];

const PUT_TIMEOUT_MS = 2000;

class Client {
  committed = 0;
  again = 0;
  private requests = 0;
  private readonly process: SimProcess;
  private readonly environment: Environment;
  private readonly caller: ClientCaller;

  constructor(
    private readonly keeper: KeeperMachine,
    private readonly name: string,
  ) {
    this.caller = { client: name.padEnd(32, '0'), user: name, volume: 1, access: 'write' };
    this.process = new SimProcess(keeper.world, name);
    this.environment = this.process.start();
  }
  private pause(mostMs: number): Promise<void> {
    return sleep(this.environment, this.environment.random() * mostMs);
  }
  /** Asked until there is an answer: a change carries its number, so it is done once. */
  private async untilAnswered<Reply>(ask: () => Promise<Reply>): Promise<Reply> {
    for (;;) {
      try {
        return await ask();
      } catch (error) {
        if (!isCode(error, 'UNREACHABLE', 'DEADLINE')) throw error;
        await this.pause(300);
      }
    }
  }

  async work(cycles: number): Promise<void> {
    for (let cycle = 0; cycle < cycles; cycle++) {
      const content = contents[Math.floor(this.environment.random() * contents.length)] as Content;
      if (!(await this.store(content))) continue;
      await this.pause(20);
      const request = `${this.name}:${++this.requests}`;
      await this.untilAnswered(() => this.keeper.drop(this.process, content.id, request));
      await this.pause(20);
    }
  }
  /** Uploads to two nodes unless it is there already, waits for whatever reason, and commits; again when told so. */
  private async store(content: Content): Promise<boolean> {
    const { environment, keeper } = this;
    for (let attempt = 0; attempt < 20; attempt++) {
      const { present, permit } = await this.untilAnswered(() => keeper.have(this.process, this.caller, content.id));
      const receipts = present.length > 0 && environment.random() < 0.5 ? [] : await this.upload(content, permit);
      await this.pause(environment.random() < 0.1 ? 500 : 30);
      const request = `${this.name}:${++this.requests}`;
      try {
        await this.untilAnswered(() => keeper.commit(this.process, this.caller, content.id, receipts, request));
        this.committed++;
        return true;
      } catch (error) {
        if (!isCode(error, 'UPLOAD_AGAIN')) throw error;
        this.again++;
        await sleep(environment, 10 + environment.random() * 50 * attempt);
      }
    }
    return false;
  }
  private async upload({ id, parts }: Content, permit: string): Promise<string[]> {
    const { environment, keeper } = this;
    const first = Math.floor(environment.random() * keeper.nodes.length);
    const receipts: string[] = [];
    const put = async (at: number): Promise<void> => {
      await this.pause(20);
      try {
        const peer = chunkPeer(keeper, this.process, `http://n${at + 1}:7000`, 0);
        const [result] = await peer.put([{ id, parts }], { permit, durable: false, timeoutMs: PUT_TIMEOUT_MS });
        if (typeof result === 'string') receipts.push(result);
      } catch (error) {
        if (!(error instanceof HoldfastError)) throw error;
      }
    };
    await Promise.all([put(first), put((first + 1) % keeper.nodes.length)]);
    return receipts;
  }
}

interface RunOptions {
  readonly graceMs: number;
  readonly cycles: number;
  readonly hasFaults: boolean;
}

class Run {
  readonly clients: Client[] = [];
  private readonly keeper: KeeperMachine;
  private isWorking = true;

  constructor(
    private readonly world: World,
    private readonly options: RunOptions,
  ) {
    this.keeper = new KeeperMachine(world, options.graceMs);
  }
  private pause(mostMs: number): Promise<void> {
    const { world } = this;
    return new Promise((resolve) => {
      world.schedule(world.random.between(0, mostMs), '', resolve);
    });
  }
  private async until(what: string, condition: () => boolean, limitMs: number): Promise<void> {
    const { world } = this;
    if (!(await world.runUntil(() => condition() || world.violations.length > 0, limitMs)))
      world.fail(`not within ${limitMs / 1000} s: ${what}`);
  }

  async whole(): Promise<void> {
    const { keeper, options } = this;
    keeper.start();
    for (const node of keeper.nodes) void node.start();
    await this.until('all nodes are there', () => keeper.isReady, 60_000);
    for (let at = 0; at < 4; at++) this.clients.push(new Client(keeper, `client${at}`));
    const work = Promise.all(this.clients.map((client) => client.work(options.cycles)));
    const faults = options.hasFaults ? this.breakThings() : Promise.resolve();
    let areDone = false;
    work
      .catch((error: unknown) => this.world.fail(textOf(error)))
      .finally(() => {
        this.isWorking = false;
        void faults.then(() => {
          areDone = true;
        });
      });
    await this.until('everybody has done their work', () => areDone, 7_200_000);
    keeper.check();
    // Everything was dropped: in the end no row is left.
    await this.until('all nodes are back', () => keeper.isReady, 60_000);
    await this.until('every row is gone', () => keeper.chunkRows === 0, 3_600_000);
  }

  private async breakThings(): Promise<void> {
    const { keeper, world } = this;
    const { network, nodes } = keeper;
    while (this.isWorking) {
      await this.pause(1500);
      const node = world.random.pick(nodes);
      const dice = world.random.next();
      if (dice < 0.3) {
        node.kill(false);
        await this.pause(200);
        await node.start();
      } else if (dice < 0.5) {
        keeper.kill();
        await this.pause(50);
        keeper.start();
      } else if (dice < 0.6) {
        const process = world.random.pick([node.process, keeper.process]);
        process.hang();
        await this.pause(4000);
        process.wake();
      } else if (dice < 0.7) {
        network.block(node.process, keeper.process);
        await this.pause(3000);
        network.unblock(node.process, keeper.process);
      } else {
        const chance = dice < 0.9 ? 0.02 : 0;
        network.cutCallChance = chance;
        network.cutReplyChance = chance;
      }
    }
    network.cutCallChance = 0;
    network.cutReplyChance = 0;
  }
}

/** @throws what went wrong, with the last events before it */
async function run(seed: number, options: RunOptions): Promise<readonly Client[]> {
  const world = new World(seed);
  const restore = fenceOffReality(world);
  const whole = new Run(world, options);
  try {
    await whole.whole();
  } finally {
    restore();
  }
  if (world.violations.length > 0)
    throw new Error([...world.violations.map(({ text }) => text), 'what happened before:', ...world.lastLines(60)].join('\n'));
  return whole.clients;
}

/** HOLDFAST_DELETION_RUNS=<n> makes more of them. A failed one is told with its seed and path. */
const RUNS = Number(process.env.HOLDFAST_DELETION_RUNS ?? 25);

describe('deleting and storing the same content at the same time', () => {
  it(
    'never loses a committed chunk, whatever breaks meanwhile, and leaves nothing behind',
    async () => {
      await fc.assert(
        fc.asyncProperty(fc.integer({ min: 1, max: 2 ** 31 }), fc.constantFrom(0, 0, 100), async (seed, graceMs) => {
          const clients = await run(seed, { graceMs, cycles: 25, hasFaults: true });
          expect(clients.reduce((sum, client) => sum + client.committed, 0)).toBeGreaterThan(20);
        }),
        { numRuns: RUNS, endOnFailure: true },
      );
    },
    240_000 + RUNS * 1000,
  );

  it('misses nothing in 10,000 cycles with no grace', async () => {
    const clients = await run(4711, { graceMs: 0, cycles: 2500, hasFaults: false });
    expect(clients.reduce((sum, client) => sum + client.committed, 0)).toBe(10_000);
  }, 240_000);
});
