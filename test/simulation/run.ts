/**
 * One simulation from a seed: programs work, things break and heal, and after every healing all that was promised must be there: every file, every
 * copy, every count; and nothing else.
 */
import { CHUNK_SIZE_BYTES, Cluster, SimClient } from './cluster.js';
import { type FaultContext, faultNames, faults, type Weather } from './faults.js';
import { Judge } from './judge.js';
import { describe } from './network.js';
import type { Program, Surroundings } from './program.js';
import { AppendProgram, CounterProgram, RegionProgram, ReplaceProgram } from './shared-programs.js';
import { SnapshotProgram } from './snapshot-program.js';
import { TrashProgram } from './trash-program.js';
import { TreeProgram } from './tree-program.js';
import { fenceOffReality, World } from './world.js';

export interface RunOptions {
  /** Phases of work, fault and verification. */
  readonly phases?: number;
  /** Simulated length of the work in a phase. */
  readonly phaseMs?: number;
  /** Also lets the time pass after which uploads without commit are given up. */
  readonly waitsForOrphans?: boolean;
}
export interface RunResult {
  readonly seed: number;
  readonly violations: readonly string[];
  readonly traceHash: string;
  readonly events: number;
  readonly operations: number;
  readonly simulatedMs: number;
  /** How often each fault was really injected. */
  readonly injected: ReadonlyMap<string, number>;
  readonly lastLines: readonly string[];
}

const MAX_FILE_BYTES = 200_000;
const SMALL_DISK_BYTES = 12 * 2 ** 20;
/** Longer than any deadline inside: an operation that takes longer never ends. */
const STUCK_AFTER_MS = 150_000;
const HEAL_WITHIN_MS = 240_000;
const STABLE_WITHIN_MS = 1000;
const weathers: readonly Weather[] = ['crashes', 'crashes', 'media', 'power'];

export async function runSeed(seed: number, options: RunOptions = {}): Promise<RunResult> {
  const world = new World(seed);
  const restore = fenceOffReality(world);
  const onUnhandled = (error: unknown): void => world.fail(`a promise was rejected and nobody cared: ${describe(error)}`);
  process.on('unhandledRejection', onUnhandled);
  const run = new Run(world, options);
  try {
    await run.whole();
  } catch (error) {
    world.fail(`the simulation itself failed: ${describe(error)}`);
  } finally {
    process.off('unhandledRejection', onUnhandled);
    restore();
  }
  return run.result();
}

class Run {
  private readonly cluster: Cluster;
  private readonly judge: Judge;
  private readonly isTight: boolean;
  private wereFull = false;
  private readonly programs: Program[] = [];
  private readonly injected = new Map<string, number>();
  private isCalm = true;
  private isStopping = false;
  private nodesLostPower = false;
  private verifiers = 0;

  constructor(
    private readonly world: World,
    private readonly options: RunOptions,
  ) {
    const { random } = world;
    // Little room in some, so that nodes can be unevenly full.
    this.isTight = random.chance(0.5);
    this.cluster = new Cluster(world, {
      nodes: random.chance(0.8) ? 3 : 4,
      clients: random.chance(0.75) ? 2 : 3,
      deletionGraceMs: random.pick([0, 0, 100, 1500]),
      capacityBytes: this.isTight ? SMALL_DISK_BYTES : 2 ** 40,
    });
    this.judge = new Judge(this.cluster);
    this.cluster.listener = {
      clientLostData: (client) => {
        if (this.isCalm) world.fail(`${client.name} gave written data up without any fault`);
        for (const program of this.programs) program.clientLostData(client);
      },
      clientDied: (client) => {
        for (const program of this.programs) program.clientDied(client);
      },
      nodesLostPower: () => {
        this.nodesLostPower = true;
        for (const program of this.programs) program.nodesLostPower();
      },
      coordinatorLostPower: () => {
        for (const program of this.programs) program.coordinatorLostPower();
      },
    };
    this.makePrograms();
  }

  private makePrograms(): void {
    const { random } = this.world;
    const around: Surroundings = {
      world: this.world,
      random,
      clients: this.cluster.clients,
      administrator: this.cluster.administrator,
      maxFileBytes: MAX_FILE_BYTES,
      chunkSizeBytes: CHUNK_SIZE_BYTES,
      mayBeFull: () => this.isTight || this.wereFull,
      coordinatorClockMs: () => this.world.nowMs + this.cluster.coordinator.process.wallOffsetMs,
      isCalm: () => this.isCalm,
      pause: (delayMs) => this.pause(delayMs),
    };
    const [a, b] = random.shuffled(this.cluster.clients) as [SimClient, SimClient];
    this.programs.push(new TreeProgram('p1', around), new TreeProgram('p2', around));
    const shared = [AppendProgram, ReplaceProgram, CounterProgram, RegionProgram, SnapshotProgram, TrashProgram] as const;
    for (const [at, Shared] of random.shuffled(shared).slice(0, 2).entries()) this.programs.push(new Shared(`s${at}`, around, [a, b]));
  }

  private pause(delayMs: number): Promise<void> {
    return new Promise((resolve) => {
      this.world.schedule(delayMs, '', resolve);
    });
  }
  /** Lets the world go on until a promise has settled. */
  private async drive(what: string, limitMs: number, promise: Promise<unknown>): Promise<boolean> {
    let isDone = false;
    promise.then(
      () => {
        isDone = true;
      },
      (error: unknown) => {
        isDone = true;
        this.world.fail(`${what}: ${describe(error)}`);
      },
    );
    const ended = await this.world.runUntil(() => isDone, limitMs);
    if (!ended) this.world.fail(`${what} did not end within ${limitMs / 1000} s`);
    return ended;
  }
  private get isBroken(): boolean {
    return this.world.violations.length > 0;
  }

  async whole(): Promise<void> {
    const { world, cluster, options } = this;
    await this.drive('start', 60_000, cluster.start());
    if (!(await world.runUntil(() => cluster.clients.every((client) => client.isConnected) && this.judge.allNodesUp(), 60_000))) {
      world.fail(`the cluster did not come up: ${this.judge.problems().slice(0, 3).join('; ')}`);
      return;
    }
    for (const program of this.programs) await this.drive(`${program.name} set-up`, STUCK_AFTER_MS, program.setUp());
    const phases = options.phases ?? 2;
    for (let phase = 0; phase < phases && !this.isBroken; phase++) await this.phase();
    if (!this.isBroken) await this.end();
  }

  private async phase(): Promise<void> {
    const { world } = this;
    const { random } = world;
    const phaseMs = (this.options.phaseMs ?? 5000) * random.between(0.7, 1.3);
    // Some runs have no fault at all: then nothing may fail, either.
    const weather: Weather = world.seed % 12 === 0 ? 'calm' : random.pick(weathers);
    world.note(`phase: ${weather}`);
    this.isStopping = false;
    const loops = this.programs.map((program) => this.loop(program));
    const breaking = weather === 'calm' ? Promise.resolve() : this.breakThings(weather, phaseMs);
    await world.runFor(phaseMs);
    this.isStopping = true;
    const all = Promise.all([...loops, breaking]);
    let isDone = false;
    void all.finally(() => {
      isDone = true;
    });
    if (!(await world.runUntil(() => isDone, STUCK_AFTER_MS))) {
      const stuck = this.programs.flatMap((program) => [...program.doing].map((what) => `${program.name} ${what}`));
      world.fail(`after ${STUCK_AFTER_MS / 1000} s these never ended: ${stuck.join('; ') || 'the faults'}`);
      return;
    }
    if (this.isBroken) return;
    await this.heal();
    if (this.isBroken) return;
    await this.verify();
    // What the verification itself had flushed is taken for certain from now on: it is stable within a second (P2, P3), not at once.
    await world.runFor(STABLE_WITHIN_MS);
  }

  private async loop(program: Program): Promise<void> {
    const { random } = this.world;
    while (!this.isStopping && !this.isBroken) {
      if (!program.isWaiting) {
        try {
          await program.step();
        } catch (error) {
          this.world.fail(`${program.name} step: ${describe(error)}`);
        }
      }
      await this.pause(random.chance(0.2) ? random.between(0, 10) : random.between(20, 350));
    }
  }

  private async breakThings(weather: Weather, phaseMs: number): Promise<void> {
    const { world, cluster } = this;
    const random = world.random.fork();
    const context: FaultContext = { cluster, random, spoiling: random.pick(cluster.nodes), pause: (delayMs) => this.pause(delayMs) };
    const weights = Object.fromEntries(
      faultNames.filter((name) => faults[name]?.in.includes(weather)).map((name) => [name, faults[name]?.weight ?? 0]),
    );
    const one = async (): Promise<void> => {
      await this.pause(random.between(0, phaseMs * 0.9));
      const name = random.weighted(weights);
      this.isCalm = false;
      if (name.endsWith('full')) this.wereFull = true;
      world.note(`fault: ${name}`);
      if (await faults[name]?.run(context)) this.injected.set(name, (this.injected.get(name) ?? 0) + 1);
      world.note(`fault ends: ${name}`);
    };
    const count = 1 + random.int(5);
    await Promise.all(Array.from({ length: count }, one));
    // Two faults of one process may have crossed: whatever is still down is started.
    for (const process of [
      cluster.coordinator.process,
      ...cluster.nodes.map((node) => node.process),
      ...cluster.clients.map((client) => client.process),
    ])
      process.wake();
    await cluster.coordinator.start();
    for (const node of cluster.nodes) await node.start();
    for (const client of cluster.clients) await client.start();
  }

  private async heal(): Promise<void> {
    const { world, judge, cluster } = this;
    judge.scrubAll();
    // Whoever had no room looks again every few seconds.
    await world.runFor(cluster.coordinator.wasFull ? 6000 : 0);
    const random = world.random.fork();
    const healed = (): boolean => cluster.clients.every((client) => client.isConnected) && judge.problems(this.nodesLostPower).length === 0;
    const untilMs = world.nowMs + HEAL_WITHIN_MS;
    while (world.nowMs < untilMs) {
      await world.runFor(random.between(300, 700));
      if (healed()) return;
    }
    const away = cluster.clients.filter((client) => !client.isConnected).map((client) => `${client.name} is not connected`);
    world.fail(
      `not healed after ${HEAL_WITHIN_MS / 1000} s:\n    ${[...away, ...judge.problems(this.nodesLostPower)].slice(0, 10).join('\n    ')}`,
    );
  }

  private async verify(): Promise<void> {
    const { world, cluster } = this;
    // A client of its own, so that nothing comes from a cache.
    const seat = new SimClient(cluster, `v${++this.verifiers}`);
    await seat.start();
    if (!(await world.runUntil(() => seat.isConnected, 60_000))) {
      world.fail('a new client cannot connect after everything healed');
      return;
    }
    // After a loss of power each client says once that changes may have been undone.
    for (const client of cluster.clients)
      await this.drive(
        'sync',
        STUCK_AFTER_MS,
        client.use((library) => library.syncTree()).catch(() => {}),
      );
    for (const program of this.programs) {
      if (!(await this.drive(`${program.name} verification`, STUCK_AFTER_MS, program.verify(seat)))) return;
    }
    // Whatever bytes nobody was promised to keep are in no file now; the files they were in are in the trash.
    if (this.nodesLostPower)
      await this.drive('emptying the trash', STUCK_AFTER_MS, cluster.administrator.ask('emptyTrash', { path: '/', olderThanMs: 0 }));
    seat.kill();
    for (const problem of this.judge.countProblems()) world.fail(problem);
    await this.drive('what an administrator sees', STUCK_AFTER_MS, this.askAround());
    this.isCalm = true;
    this.wereFull = false;
    this.nodesLostPower = false;
  }

  /** All is well: the cluster must say so too, and have nothing left to do. */
  private async askAround(): Promise<void> {
    const { administrator } = this.cluster;
    const report = await administrator.ask('check', {});
    const { dangling, missing, missingReplicas, wrongReferenceCounts, belowCopies, nodesNotReached } = report;
    const lost = this.nodesLostPower ? 0 : missing + missingReplicas + belowCopies;
    if (dangling + wrongReferenceCounts + lost + nodesNotReached.length > 0)
      this.world.fail(`the cluster's own check finds fault: ${JSON.stringify(report)}`);
    for (let waits = 60; ; waits--) {
      const { jobs } = await administrator.ask('jobs', {});
      const running = jobs.filter(({ state }) => state === 'running' || state === 'waiting' || state === 'paused');
      if (running.length === 0) return;
      if (waits === 0) {
        this.world.fail(`jobs that never end: ${JSON.stringify(running)}`);
        return;
      }
      await this.pause(2000);
    }
  }

  /** Everything is deleted: nothing may be left anywhere. */
  private async end(): Promise<void> {
    const { world, cluster, judge } = this;
    const seat = world.random.pick(cluster.clients);
    for (const program of this.programs) await this.drive(`${program.name} clean-up`, STUCK_AFTER_MS, program.cleanUp(seat));
    // What the programs deleted just now waits in the trash, when that is on.
    await this.drive('emptying the trash', STUCK_AFTER_MS, cluster.administrator.ask('emptyTrash', { path: '/', olderThanMs: 0 }));
    if (this.isBroken) return;
    const isClean = (): boolean => judge.leftOvers(this.options.waitsForOrphans === true).length === 0;
    // Copies and uploads that no commit named are found by the next inventory, half an hour later, and given up after a quarter more.
    const limitMs = this.options.waitsForOrphans === true ? 90 * 60_000 : 120_000;
    if (this.options.waitsForOrphans === true) for (const client of cluster.clients) client.kill();
    const untilMs = world.nowMs + limitMs;
    while (world.nowMs < untilMs && !isClean()) await world.runFor(1000);
    if (!isClean())
      world.fail(
        `left over after everything was deleted:\n    ${judge
          .leftOvers(this.options.waitsForOrphans === true)
          .slice(0, 8)
          .join('\n    ')}`,
      );
    for (const problem of judge.countProblems()) world.fail(problem);
  }

  result(): RunResult {
    const { world } = this;
    return {
      seed: world.seed,
      violations: world.violations.map(({ atMs, text }) => `${((atMs - 1_000_000) / 1000).toFixed(3)} s: ${text}`),
      traceHash: world.traceHash,
      events: world.eventCount,
      operations: this.programs.reduce((sum, program) => sum + program.operations, 0),
      simulatedMs: world.nowMs - 1_000_000,
      injected: this.injected,
      lastLines: world.lastLines(120),
    };
  }
}
