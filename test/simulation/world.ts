/**
 * The simulated world: one clock, one queue of events, one source of chance. Everything that happens is an event; between two events every
 * promise that can settle does. So a run depends on its seed alone, and a minute of a cluster's life costs milliseconds.
 *
 * Nothing simulated may wait for anything real (a thread, a file, a socket): the queue would not know that it must wait.
 */
import { createHash } from 'node:crypto';
import type { Environment, LogLevel, Timer } from '../../protocol/environment.js';
import { Random } from './random.js';

const realSetImmediate = setImmediate;
const turnOfLoop = (): Promise<void> => new Promise((resolve) => realSetImmediate(resolve));

interface QueuedEvent {
  readonly atMs: number;
  /** Events of the same time come in an order that the seed decides. */
  readonly tie: number;
  readonly order: number;
  readonly label: string;
  action: (() => void) | undefined;
}

const isBefore = (a: QueuedEvent, b: QueuedEvent): boolean =>
  a.atMs !== b.atMs ? a.atMs < b.atMs : a.tie !== b.tie ? a.tie < b.tie : a.order < b.order;

/** What went against a promise. `World.fail` collects them; a run is good when there are none. */
export interface Violation {
  readonly atMs: number;
  readonly text: string;
}

export class World {
  readonly random: Random;
  readonly violations: Violation[] = [];
  nowMs = 1_000_000;
  eventCount = 0;
  /** The last events and log lines, for the report of a failure. */
  private readonly recent: string[] = [];
  private readonly heap: QueuedEvent[] = [];
  private order = 0;
  private hashA = 0x811c9dc5;
  private hashB = 0x01000193;
  /** Print everything, with the contents of messages. */
  readonly isLoud = process.env.HOLDFAST_SIM_TRACE === '1';

  constructor(readonly seed: number) {
    this.random = new Random(seed);
  }

  /** Runs `action` after `delayMs` of simulated time. */
  schedule(delayMs: number, label: string, action: () => void): Timer {
    const event: QueuedEvent = {
      atMs: this.nowMs + Math.max(0, delayMs),
      tie: this.random.next32(),
      order: this.order++,
      label,
      action,
    };
    this.push(event);
    return {
      cancel: () => {
        event.action = undefined;
      },
    };
  }

  fail(text: string): void {
    this.violations.push({ atMs: this.nowMs, text });
    this.note(`VIOLATION ${text}`);
  }

  /** Adds a line to the trace (and to its hash). */
  note(line: string): void {
    for (let at = 0; at < line.length; at++) {
      const code = line.charCodeAt(at);
      this.hashA = Math.imul(this.hashA ^ code, 0x01000193);
      this.hashB = Math.imul(this.hashB ^ (code + at), 0x5bd1e995);
    }
    this.keep(line);
  }
  /** Only printed: not part of the trace. */
  detail(text: () => string): void {
    if (this.isLoud) this.keep(`    ${text().slice(0, 700)}`);
  }
  private keep(line: string): void {
    const text = `${((this.nowMs - 1_000_000) / 1000).toFixed(6)} ${line}`;
    if (this.isLoud) process.stderr.write(`${text}\n`);
    this.recent.push(text);
    if (this.recent.length > 4000) this.recent.splice(0, 2000);
  }
  lastLines(count: number): string[] {
    return this.recent.slice(-count);
  }
  /** Two runs with the same hash went the same way. */
  get traceHash(): string {
    return (this.hashA >>> 0).toString(16).padStart(8, '0') + (this.hashB >>> 0).toString(16).padStart(8, '0');
  }

  /**
   * Lets time pass until the condition holds (checked between events) or `limitMs` have passed.
   * @returns whether it held
   */
  async runUntil(condition: () => boolean, limitMs: number): Promise<boolean> {
    const untilMs = this.nowMs + limitMs;
    await turnOfLoop();
    for (;;) {
      if (condition()) return true;
      const event = this.heap[0];
      if (!event || event.atMs > untilMs) {
        this.nowMs = untilMs;
        return condition();
      }
      this.pop();
      const { action } = event;
      if (!action) continue;
      this.nowMs = event.atMs;
      this.eventCount++;
      if (event.label !== '') this.note(event.label);
      action();
      await turnOfLoop();
    }
  }
  async runFor(durationMs: number): Promise<void> {
    await this.runUntil(() => false, durationMs);
  }

  /** Waits for a promise, but not longer than that in simulated time. */
  within(limitMs: number, promise: Promise<unknown>): Promise<boolean> {
    return new Promise((resolve) => {
      const timer = this.schedule(limitMs, '', () => resolve(false));
      promise.then(
        () => {
          timer.cancel();
          resolve(true);
        },
        () => {
          timer.cancel();
          resolve(true);
        },
      );
    });
  }

  private push(event: QueuedEvent): void {
    const { heap } = this;
    let at = heap.length;
    heap.push(event);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!isBefore(event, heap[parent] as QueuedEvent)) break;
      heap[at] = heap[parent] as QueuedEvent;
      at = parent;
    }
    heap[at] = event;
  }
  private pop(): void {
    const { heap } = this;
    const last = heap.pop() as QueuedEvent;
    const { length } = heap;
    if (length === 0) return;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= length) break;
      if (child + 1 < length && isBefore(heap[child + 1] as QueuedEvent, heap[child] as QueuedEvent)) child++;
      if (!isBefore(heap[child] as QueuedEvent, last)) break;
      heap[at] = heap[child] as QueuedEvent;
      at = child;
    }
    heap[at] = last;
  }
}

/**
 * A machine with one process on it. It can be killed (its memory is gone, its disk's cache is not), lose power (both are gone), hang and wake.
 * What a dead or hung process would do does not happen: every timer, delivery and disk call goes through `isCurrent` or `run`.
 */
export class SimProcess {
  isAlive = false;
  isHung = false;
  /** False from a power loss to the next start: nobody answers for this machine, not even its kernel. */
  isPowered = true;
  incarnation = 0;
  /** Wall clocks differ and jump; monotonic clocks start anywhere. */
  wallOffsetMs = 0;
  private readonly monotonicOffsetMs: number;
  private readonly waiting: (() => void)[] = [];
  /** Told when this process ends. */
  readonly onEnd: ((isPowerLoss: boolean) => void)[] = [];

  constructor(
    readonly world: World,
    readonly name: string,
  ) {
    this.monotonicOffsetMs = Math.floor(world.random.between(-900_000, 9_000_000));
  }

  start(): Environment {
    if (this.isAlive) throw new Error(`${this.name} runs already`);
    this.isAlive = true;
    this.isPowered = true;
    this.isHung = false;
    this.incarnation++;
    this.world.note(`${this.name} starts`);
    return this.environment();
  }
  kill(isPowerLoss: boolean): void {
    if (!this.isAlive) return;
    this.world.note(`${this.name} ${isPowerLoss ? 'loses power' : 'is killed'}`);
    this.isAlive = false;
    this.isHung = false;
    this.isPowered = !isPowerLoss;
    this.waiting.length = 0;
    for (const listener of this.onEnd.splice(0)) listener(isPowerLoss);
  }
  hang(): void {
    if (this.isAlive) this.isHung = true;
  }
  wake(): void {
    if (!this.isHung) return;
    this.isHung = false;
    const actions = this.waiting.splice(0);
    const { incarnation } = this;
    actions.forEach((action, index) => {
      // In order, each in its own turn, a hair apart.
      this.world.schedule(index * 1e-4, '', () => this.run(incarnation, action));
    });
  }
  isCurrent(incarnation: number): boolean {
    return this.isAlive && this.incarnation === incarnation;
  }
  /** Runs something in this process if that start of it still lives; later when it hangs. */
  run(incarnation: number, action: () => void): void {
    if (!this.isCurrent(incarnation)) return;
    if (this.isHung) this.waiting.push(action);
    else action();
  }

  private environment(): Environment {
    const { world, incarnation } = this;
    const random = world.random.fork();
    return {
      monotonicMs: () => world.nowMs + this.monotonicOffsetMs,
      wallNs: () => BigInt(Math.round((1_800_000_000_000 + world.nowMs + this.wallOffsetMs) * 1e6)),
      setTimer: (delayMs, callback) => {
        if (!(delayMs >= 0)) world.fail(`${this.name} sets a timer of ${delayMs} ms`);
        let isCancelled = false;
        const timer = world.schedule(delayMs, '', () => {
          this.run(incarnation, () => {
            if (!isCancelled) callback();
          });
        });
        return {
          cancel: () => {
            isCancelled = true;
            timer.cancel();
          },
        };
      },
      randomBytes: (sizeBytes) => random.bytes(sizeBytes),
      random: () => random.next(),
      log: (level: LogLevel, message: string, facts?: Record<string, unknown>) => {
        if (this.isCurrent(incarnation) && level !== 'debug') world.note(`[${this.name}] ${level} ${message} ${factsText(facts)}`);
      },
    };
  }
}

function factsText(facts: Record<string, unknown> | undefined): string {
  if (!facts) return '';
  const text = JSON.stringify(facts, (_key, value: unknown) =>
    typeof value === 'bigint' ? String(value) : value instanceof Error ? (value.stack ?? value.message) : value,
  );
  return text.length > 600 ? `${text.slice(0, 600)}…` : text;
}

/**
 * While a simulation runs, the real clock, timers and chance are out of reach: code that used them would make the run depend on more than its seed.
 * `setImmediate` becomes an event of the world. Returns what puts everything back.
 */
export function fenceOffReality(world: World): () => void {
  const saved = {
    setTimeout: globalThis.setTimeout,
    setInterval: globalThis.setInterval,
    setImmediate: globalThis.setImmediate,
    dateNow: Date.now,
    random: Math.random,
    performanceNow: performance.now,
  };
  const isOurs = (): string | undefined => {
    const stack = new Error().stack ?? '';
    const line = stack
      .split('\n')
      .find((one) => /\/(coordinator|node|client|protocol)\/[^/]*\.ts/.test(one) && !one.includes('node_modules'));
    return line?.trim();
  };
  const forbid = (what: string): void => {
    const where = isOurs();
    if (where !== undefined) world.fail(`${what} used instead of the environment ${where}`);
  };
  globalThis.setTimeout = ((...args: Parameters<typeof setTimeout>) => {
    forbid('setTimeout');
    return saved.setTimeout(...args);
  }) as typeof setTimeout;
  globalThis.setInterval = ((...args: Parameters<typeof setInterval>) => {
    forbid('setInterval');
    return saved.setInterval(...args);
  }) as typeof setInterval;
  globalThis.setImmediate = ((callback: (...args: unknown[]) => void, ...args: unknown[]) =>
    world.schedule(0, '', () => callback(...args))) as unknown as typeof setImmediate;
  Date.now = () => {
    forbid('Date.now');
    return saved.dateNow.call(Date);
  };
  Math.random = () => {
    forbid('Math.random');
    return saved.random.call(Math);
  };
  performance.now = () => {
    forbid('performance.now');
    return saved.performanceNow.call(performance);
  };
  return () => {
    globalThis.setTimeout = saved.setTimeout;
    globalThis.setInterval = saved.setInterval;
    globalThis.setImmediate = saved.setImmediate;
    Date.now = saved.dateNow;
    Math.random = saved.random;
    performance.now = saved.performanceNow;
  };
}

export const sha256Hex = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');
