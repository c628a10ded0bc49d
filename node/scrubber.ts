/**
 * Re-reads every replica, slowly and for ever, so that silent damage is found while a good copy still exists. Goes through the ids in ascending
 * order and remembers where it was across restarts. On demand it goes through everything at a given rate. What it finds bad the service takes out
 * of service and reports; what it finds good is reported in groups.
 */
import { z } from 'zod';
import type { ChunkId } from '../protocol/entities.js';
import { type Environment, sleep } from '../protocol/environment.js';
import type { ChunkService } from './chunk-service.js';
import type { NodeState } from './node-state.js';

const PAGE_CHUNKS = 128;
/** Good ones are reported at the latest after this many, or this long. */
const REPORT_CHUNKS = 500;
const REPORT_INTERVAL_MS = 30_000;
/** The background pass begins a new round at most this often, however little there is to read. */
const MIN_ROUND_MS = 600_000;
const SAVE_INTERVAL_MS = 60_000;
/** Shorter waits than this are added up: timers are not exact and cost something. */
const MIN_WAIT_MS = 20;

const positionSchema = z.object({ after: z.string().max(64) });

export class Scrubber {
  /** Replicas read since start. */
  scrubbedChunks = 0;
  /** Told about replicas found good. */
  onVerified: ((chunks: ChunkId[]) => void) | undefined;
  private after = '';
  private backgroundBytesPerS = 0;
  private full: { after: string; bytesPerS: number } | undefined;
  private good: ChunkId[] = [];
  private reportedAtMs = 0;
  private savedAtMs = 0;
  private roundStartedMs = 0;
  private isStopped = true;
  private running: Promise<void> = Promise.resolve();
  private wake: (() => void) | undefined;
  private owedMs = 0;

  constructor(
    private readonly service: ChunkService,
    private readonly environment: Environment,
    private readonly state: NodeState,
  ) {}

  async start(): Promise<void> {
    const saved = positionSchema.safeParse(await this.state.load('scrub').catch(() => undefined));
    this.after = saved.success ? saved.data.after : '';
    this.isStopped = false;
    this.roundStartedMs = this.reportedAtMs = this.savedAtMs = this.environment.monotonicMs();
    this.running = this.run();
  }

  async stop(): Promise<void> {
    if (this.isStopped) return;
    this.isStopped = true;
    this.wake?.();
    await this.running;
    this.reportGood();
    await this.save();
  }

  /** Bytes per second of the background pass; 0 pauses it. */
  setBackgroundRate(bytesPerS: number): void {
    if (bytesPerS === this.backgroundBytesPerS) return;
    this.backgroundBytesPerS = bytesPerS;
    this.wake?.();
  }

  /** Reads everything once, from the first chunk on, at this rate; the background pass rests meanwhile. */
  startFull(bytesPerS: number): void {
    this.full = { after: '', bytesPerS };
    this.owedMs = 0;
    this.wake?.();
  }
  stopFull(): void {
    this.full = undefined;
    this.wake?.();
  }
  get isFullRunning(): boolean {
    return this.full !== undefined;
  }

  private async run(): Promise<void> {
    while (!this.isStopped) {
      try {
        await this.page();
      } catch (error) {
        this.environment.log('error', 'the scrub failed and goes on in a while', { error: String(error) });
        await this.pause(REPORT_INTERVAL_MS);
      }
    }
  }

  private async page(): Promise<void> {
    const { full } = this;
    if (!full && this.backgroundBytesPerS <= 0) {
      await this.pause(REPORT_INTERVAL_MS);
      return;
    }
    const { ids, isLast } = this.service.store.idsAfter(full ? full.after : this.after, PAGE_CHUNKS);
    for (const id of ids) {
      if (this.isStopped || this.full !== full) return;
      await this.one(id, full?.bytesPerS ?? this.backgroundBytesPerS);
      if (full) full.after = id;
      else this.after = id;
    }
    const nowMs = this.environment.monotonicMs();
    if (this.good.length > 0 && (isLast || nowMs - this.reportedAtMs > REPORT_INTERVAL_MS)) this.reportGood();
    if (!full && nowMs - this.savedAtMs > SAVE_INTERVAL_MS) await this.save();
    if (!isLast) return;
    if (full) {
      if (this.full === full) this.full = undefined;
      return;
    }
    this.after = '';
    await this.save();
    const restMs = this.roundStartedMs + MIN_ROUND_MS - nowMs;
    if (restMs > 0) await this.pause(restMs);
    this.roundStartedMs = this.environment.monotonicMs();
  }

  private async one(id: ChunkId, bytesPerS: number): Promise<void> {
    const result = await this.service.checkNow(id, 'scrub');
    this.scrubbedChunks++;
    if (result.state === 'good' && this.good.push(id) >= REPORT_CHUNKS) this.reportGood();
    this.owedMs += ((result.state === 'good' ? result.sizeBytes : 0) / Math.max(1, bytesPerS)) * 1000;
    if (this.owedMs < MIN_WAIT_MS) return;
    const waitMs = this.owedMs;
    this.owedMs = 0;
    await this.pause(waitMs);
  }

  private reportGood(): void {
    this.reportedAtMs = this.environment.monotonicMs();
    if (this.good.length > 0) this.onVerified?.(this.good);
    this.good = [];
  }

  private async save(): Promise<void> {
    this.savedAtMs = this.environment.monotonicMs();
    try {
      await this.state.save('scrub', { after: this.after });
    } catch (error) {
      // Losing the place costs reading some replicas again, nothing else.
      this.environment.log('warn', "the scrub's position could not be saved", { error: String(error) });
    }
  }

  /** Waits, or less when there is news (stop, another rate, a full scrub). */
  private pause(ms: number): Promise<void> {
    // Told to stop between the last look and here: nobody would wake us.
    if (this.isStopped) return Promise.resolve();
    const news = new Promise<void>((resolve) => {
      this.wake = resolve;
    });
    return Promise.race([sleep(this.environment, ms), news]);
  }
}
