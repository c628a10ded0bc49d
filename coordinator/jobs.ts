/** Long work that people can watch, pause and cancel: what it is about, how far it is, how fast, how long still. Nothing here does the work. */
import type { JobStatus } from '../protocol/admin-calls.js';
import { type Environment, wallMs } from '../protocol/environment.js';

const RATE_WINDOW_MS = 10_000;
const KEPT_ENDED_JOBS = 100;

export interface Progress {
  readonly atMs: number;
  readonly chunks: number;
  readonly bytes: number;
}

/** Rates over the samples of a window; samples are cumulative and in order of time. */
export function ratesOf(samples: readonly Progress[], nowMs: number): { bytesPerS: number; chunksPerS: number } {
  const first = samples[0];
  const last = samples.at(-1);
  if (!first || !last) return { bytesPerS: 0, chunksPerS: 0 };
  const seconds = Math.max(nowMs - first.atMs, 250) / 1000;
  return { bytesPerS: (last.bytes - first.bytes) / seconds, chunksPerS: (last.chunks - first.chunks) / seconds };
}

/** Milliseconds left at these rates, by bytes or by chunks, whichever takes longer; null when it cannot be told. */
export function etaMs(left: { chunks: number; bytes: number }, rates: { bytesPerS: number; chunksPerS: number }): number | null {
  if (left.chunks <= 0) return 0;
  if (rates.chunksPerS <= 0) return null;
  const byChunks = (left.chunks / rates.chunksPerS) * 1000;
  const byBytes = left.bytes > 0 && rates.bytesPerS > 0 ? (left.bytes / rates.bytesPerS) * 1000 : 0;
  return Math.round(Math.max(byChunks, byBytes));
}

export class Job {
  state: JobStatus['state'] = 'running';
  totalChunks = 0;
  totalBytes = 0;
  doneChunks = 0;
  doneBytes = 0;
  errors = 0;
  lastError: string | null = null;
  endedAtMs: number | null = null;
  readonly startedAtMs: number;
  private samples: Progress[] = [];

  constructor(
    readonly id: string,
    readonly kind: JobStatus['kind'],
    readonly subject: string,
    private readonly environment: Environment,
  ) {
    this.startedAtMs = wallMs(environment);
    this.sample();
  }

  get isEnded(): boolean {
    return this.state === 'done' || this.state === 'failed' || this.state === 'cancelled';
  }
  progressed(chunks: number, bytes: number): void {
    this.doneChunks += chunks;
    this.doneBytes += bytes;
    if (this.doneChunks > this.totalChunks) this.totalChunks = this.doneChunks;
    if (this.doneBytes > this.totalBytes) this.totalBytes = this.doneBytes;
    this.sample();
  }
  /** What is known to be left now: the total follows. */
  leaves(chunks: number, bytes: number): void {
    this.totalChunks = this.doneChunks + chunks;
    this.totalBytes = this.doneBytes + bytes;
  }
  failedOnce(error: string): void {
    this.errors++;
    this.lastError = error.slice(0, 300);
  }
  end(state: 'done' | 'failed' | 'cancelled'): void {
    if (this.isEnded) return;
    this.state = state;
    this.endedAtMs = wallMs(this.environment);
  }
  get rates(): { bytesPerS: number; chunksPerS: number } {
    if (this.state !== 'running') return { bytesPerS: 0, chunksPerS: 0 };
    const nowMs = this.environment.monotonicMs();
    this.trim(nowMs);
    return ratesOf(this.samples, nowMs);
  }
  get status(): JobStatus {
    const rates = this.rates;
    return {
      job: this.id,
      kind: this.kind,
      subject: this.subject,
      state: this.state,
      totalChunks: this.totalChunks,
      doneChunks: this.doneChunks,
      totalBytes: this.totalBytes,
      doneBytes: this.doneBytes,
      bytesPerS: Math.round(rates.bytesPerS),
      chunksPerS: Math.round(rates.chunksPerS * 10) / 10,
      etaMs:
        this.state === 'running'
          ? etaMs({ chunks: this.totalChunks - this.doneChunks, bytes: this.totalBytes - this.doneBytes }, rates)
          : null,
      errors: this.errors,
      lastError: this.lastError,
      startedAtMs: this.startedAtMs,
      endedAtMs: this.endedAtMs,
    };
  }

  private sample(): void {
    const nowMs = this.environment.monotonicMs();
    const last = this.samples.at(-1);
    const sample = { atMs: nowMs, chunks: this.doneChunks, bytes: this.doneBytes };
    // A handful of samples a second is plenty: the newest one is replaced while it is young.
    if (last && this.samples.length > 1 && nowMs - (this.samples.at(-2) as Progress).atMs < 200)
      this.samples[this.samples.length - 1] = sample;
    else this.samples.push(sample);
    this.trim(nowMs);
  }
  private trim(nowMs: number): void {
    while (this.samples.length > 1 && (this.samples[1] as Progress).atMs < nowMs - RATE_WINDOW_MS) this.samples.shift();
  }
}

export class JobBook {
  private readonly jobs = new Map<string, Job>();
  private nextNumber = 1;

  constructor(private readonly environment: Environment) {}

  open(kind: JobStatus['kind'], subject: string): Job {
    const job = new Job(`J-${this.nextNumber++}`, kind, subject, this.environment);
    this.jobs.set(job.id, job);
    const ended = [...this.jobs.values()].filter((one) => one.isEnded);
    for (const old of ended.slice(0, Math.max(0, ended.length - KEPT_ENDED_JOBS))) this.jobs.delete(old.id);
    return job;
  }
  get(id: string): Job | undefined {
    return this.jobs.get(id);
  }
  all(): Job[] {
    return [...this.jobs.values()];
  }
  get running(): number {
    return this.all().filter((job) => job.state === 'running').length;
  }
  get waiting(): number {
    return this.all().filter((job) => job.state === 'waiting' || job.state === 'paused').length;
  }
}
