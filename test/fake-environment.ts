/**
 * An environment whose clock stands still until told to move, and whose chance comes from a seed: the same seed gives the same run.
 * Timers fire in order of their time (then of their making) while `advance` moves the clock; between two timers every promise that can
 * settle is given the chance to.
 */
import type { Environment, LogLevel, Timer } from '../protocol/environment.js';

export interface LoggedLine {
  readonly level: LogLevel;
  readonly message: string;
  readonly facts: Record<string, unknown> | undefined;
}

interface Waiting {
  readonly atMs: number;
  readonly order: number;
  readonly callback: () => void;
}

/** Lets everything that only waits for promises (or immediates) go on. */
export async function settle(turns = 4): Promise<void> {
  for (let turn = 0; turn < turns; turn++) await new Promise<void>((resolve) => setImmediate(resolve));
}

export class FakeEnvironment implements Environment {
  readonly logged: LoggedLine[] = [];
  private nowMs = 1_000;
  private nextOrder = 1;
  private readonly waiting = new Set<Waiting>();
  private seedState: number;

  /** @param wallStartMs wall clock at the start, milliseconds since 1970 */
  constructor(
    seed = 1,
    private wallStartMs = 1_800_000_000_000,
  ) {
    this.seedState = seed >>> 0 || 1;
  }

  monotonicMs(): number {
    return this.nowMs;
  }
  wallNs(): bigint {
    return BigInt(Math.round((this.wallStartMs + this.nowMs) * 1e6));
  }
  /** Moves the wall clock alone, as an administrator or NTP would. */
  setWallBy(deltaMs: number): void {
    this.wallStartMs += deltaMs;
  }
  setTimer(delayMs: number, callback: () => void): Timer {
    const entry: Waiting = { atMs: this.nowMs + Math.max(0, delayMs), order: this.nextOrder++, callback };
    this.waiting.add(entry);
    return { cancel: () => void this.waiting.delete(entry) };
  }
  randomBytes(sizeBytes: number): Buffer {
    const bytes = Buffer.allocUnsafe(sizeBytes);
    for (let at = 0; at < sizeBytes; at++) bytes[at] = Math.floor(this.random() * 256);
    return bytes;
  }
  /** mulberry32 */
  random(): number {
    this.seedState = (this.seedState + 0x6d2b79f5) >>> 0;
    let t = this.seedState;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  }
  log(level: LogLevel, message: string, facts?: Record<string, unknown>): void {
    this.logged.push({ level, message, facts });
  }

  /** Timers that have not fired. */
  get timerCount(): number {
    return this.waiting.size;
  }

  /** Moves the clock by `byMs`, firing timers on the way; promises settle before and after each. */
  async advance(byMs: number): Promise<void> {
    const untilMs = this.nowMs + byMs;
    await settle(1);
    for (;;) {
      const next = this.nextTimer();
      if (!next || next.atMs > untilMs) break;
      this.waiting.delete(next);
      this.nowMs = Math.max(this.nowMs, next.atMs);
      next.callback();
      await settle(1);
    }
    this.nowMs = untilMs;
    await settle(2);
  }

  /**
   * Moves the clock from timer to timer until the condition holds.
   * @throws when it does not within `limitMs` of simulated time
   */
  async until(condition: () => boolean, limitMs = 600_000): Promise<void> {
    const limit = this.nowMs + limitMs;
    await settle(1);
    while (!condition()) {
      const next = this.nextTimer();
      if (!next) {
        await settle(10);
        if (condition()) return;
        if (!this.nextTimer()) throw new Error('the condition does not hold and no timer is left that could bring it about');
        continue;
      }
      if (next.atMs > limit) throw new Error(`the condition did not hold within ${limitMs} ms of simulated time`);
      this.waiting.delete(next);
      this.nowMs = Math.max(this.nowMs, next.atMs);
      next.callback();
      await settle(1);
    }
  }

  private nextTimer(): Waiting | undefined {
    let best: Waiting | undefined;
    for (const entry of this.waiting) {
      if (!best || entry.atMs < best.atMs || (entry.atMs === best.atMs && entry.order < best.order)) best = entry;
    }
    return best;
  }
}
