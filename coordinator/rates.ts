/** Bytes and calls per second over the last minute, one sample a second, for the overview. */
import type { Environment, Timer } from '../protocol/environment.js';

const SAMPLES = 60;
const SAMPLE_MS = 1_000;

export interface RatesNow {
  readonly readBytesPerS: number;
  readonly writtenBytesPerS: number;
  readonly repairBytesPerS: number;
  readonly callsPerS: number;
}

export class Rates {
  readonly history = { readBytesPerS: [] as number[], writtenBytesPerS: [] as number[], repairBytesPerS: [] as number[] };
  private current: RatesNow = { readBytesPerS: 0, writtenBytesPerS: 0, repairBytesPerS: 0, callsPerS: 0 };
  private calls = 0;
  private writtenBytes = 0;
  private copiedBefore = 0;
  private lastMs = 0;
  private timer: Timer | undefined;

  /** @param sources what nodes read in total per second, and what repair copied since the start */
  constructor(
    private readonly environment: Environment,
    private readonly sources: { nodesReadBytesPerS(): number; copiedBytes(): number },
  ) {}

  start(): void {
    this.lastMs = this.environment.monotonicMs();
    this.arm();
  }
  stop(): void {
    this.timer?.cancel();
  }
  called(): void {
    this.calls++;
  }
  /** Bytes clients uploaded and committed, counted once whatever the copies. */
  written(bytes: number): void {
    this.writtenBytes += bytes;
  }
  now(): RatesNow {
    return this.current;
  }

  private arm(): void {
    this.timer = this.environment.setTimer(SAMPLE_MS, () => {
      this.sample();
      this.arm();
    });
  }
  private sample(): void {
    const nowMs = this.environment.monotonicMs();
    const seconds = Math.max(nowMs - this.lastMs, 1) / 1000;
    this.lastMs = nowMs;
    const copied = this.sources.copiedBytes();
    const repairBytesPerS = Math.round((copied - this.copiedBefore) / seconds);
    this.copiedBefore = copied;
    this.current = {
      // Nodes read for each other while repairing; what is left, users read.
      readBytesPerS: Math.max(0, Math.round(this.sources.nodesReadBytesPerS() - repairBytesPerS)),
      writtenBytesPerS: Math.round(this.writtenBytes / seconds),
      repairBytesPerS,
      callsPerS: Math.round(this.calls / seconds),
    };
    this.writtenBytes = 0;
    this.calls = 0;
    for (const key of ['readBytesPerS', 'writtenBytesPerS', 'repairBytesPerS'] as const) {
      const list = this.history[key];
      list.push(this.current[key]);
      if (list.length > SAMPLES) list.shift();
    }
  }
}
