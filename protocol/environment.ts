/**
 * What a core may know of the outside: time, timers, chance, and a place to log. Coordinator, node and client cores take one as argument,
 * so a simulation can run a whole cluster in one process from a seed.
 */
import { randomBytes } from 'node:crypto';

export interface Timer {
  cancel(): void;
}
export type LogLevel = 'debug' | 'info' | 'warn' | 'error';
export interface Environment {
  /** Milliseconds on a clock that never jumps; only differences mean anything. All deadlines, leases and graces use this one. */
  monotonicMs(): number;
  /** Nanoseconds since 1970, for timestamps people see; may jump. */
  wallNs(): bigint;
  setTimer(delayMs: number, callback: () => void): Timer;
  randomBytes(sizeBytes: number): Buffer;
  /** Uniform in [0, 1). */
  random(): number;
  log(level: LogLevel, message: string, facts?: Record<string, unknown>): void;
}

/** The real clock, timers and randomness. Timers do not keep the process alive by themselves. */
export function realEnvironment(log: Environment['log'] = () => {}): Environment {
  const startedWallNs = BigInt(Date.now()) * 1_000_000n;
  const startedNs = process.hrtime.bigint();
  let offsetNs = startedWallNs - startedNs;
  return {
    monotonicMs: () => performance.now(),
    wallNs: () => {
      // hrtime gives nanoseconds; Date keeps us on the wall clock when it is set.
      const now = process.hrtime.bigint() + offsetNs;
      const wall = BigInt(Date.now()) * 1_000_000n;
      const drift = wall - now;
      if (drift > 5_000_000n || drift < -5_000_000n) {
        offsetNs += drift;
        return wall;
      }
      return now;
    },
    setTimer: (delayMs, callback) => {
      const timer = setTimeout(callback, delayMs);
      timer.unref();
      return { cancel: () => clearTimeout(timer) };
    },
    randomBytes: (sizeBytes) => randomBytes(sizeBytes),
    random: () => Math.random(),
    log,
  };
}

/** Resolves after delayMs. */
export const sleep = (environment: Environment, delayMs: number): Promise<void> =>
  new Promise((resolve) => {
    environment.setTimer(delayMs, resolve);
  });

/** Wall clock in milliseconds since 1970. */
export const wallMs = (environment: Pick<Environment, 'wallNs'>): number => Number(environment.wallNs() / 1_000_000n);

export interface Timestamp {
  readonly s: number;
  readonly ns: number;
}
/** Wall clock as seconds and nanoseconds, the form inodes keep. */
export function timestamp(environment: Environment): Timestamp {
  const now = environment.wallNs();
  return { s: Number(now / 1_000_000_000n), ns: Number(now % 1_000_000_000n) };
}
