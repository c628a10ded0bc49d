/** Progress on stderr: a bar for people at a terminal, nothing for programs. */
import { setTimeout as delay } from 'node:timers/promises';
import cliProgress from 'cli-progress';
import type { Context } from './context.js';
import { CliError, EXIT } from './exit-codes.js';
import { durationWords, sizeWords } from './words.js';

export interface Progress {
  /** Bytes that were moved. */
  add(bytes: number): void;
  /** Bytes that need not be moved: they are there already. */
  skip(bytes: number): void;
  /** Bytes that were read back and compared. */
  check(bytes: number): void;
  total(bytes: number): void;
  /** A message above the bar. */
  note(text: string): void;
  end(): void;
}

/** Time that the rate looks back over: long enough to be calm, short enough to be true. */
const RATE_OVER_MS = 5000;

/** Bytes a second over the last few seconds. Pure: the clock comes in. */
export class RateMeter {
  private readonly marks: { readonly atMs: number; readonly bytes: number }[] = [];
  private sum = 0;
  constructor(startMs: number) {
    this.marks.push({ atMs: startMs, bytes: 0 });
  }
  add(bytes: number, atMs: number): void {
    this.sum += bytes;
    this.marks.push({ atMs, bytes: this.sum });
    // One mark older than the time looked back over stays: the rate is measured from it.
    while (this.marks.length > 2 && (this.marks[1]?.atMs ?? atMs) <= atMs - RATE_OVER_MS) this.marks.shift();
  }
  bytesPerS(nowMs: number): number {
    const from = this.marks[0] ?? { atMs: nowMs, bytes: 0 };
    return ((this.sum - from.bytes) / Math.max(nowMs - from.atMs, 1)) * 1000;
  }
}

/** A bar of bytes with rate and time left; silent without a terminal, with --quiet or --json. */
export function byteProgress(context: Context, title: string, totalBytes: number): Progress {
  const nothing = (): void => {};
  if (!process.stderr.isTTY || context.options.quiet || context.isJson)
    return { add: nothing, skip: nothing, check: nothing, total: nothing, note: (text) => context.note(text), end: nothing };
  const bar = new cliProgress.SingleBar({
    stream: process.stderr,
    hideCursor: true,
    clearOnComplete: true,
    // It would stop the bar at Ctrl-C and let the next byte draw it again: the end is ours to tell.
    gracefulExit: false,
    fps: 10,
    format: '{title} [{bar}] {percentage}% {done} of {all}{speed}',
    barCompleteChar: '#',
    barIncompleteChar: '.',
  });
  let all = totalBytes;
  const phase = (name: string) => ({ name, done: 0, meter: new RateMeter(performance.now()) });
  const moving = phase(title);
  let checking: ReturnType<typeof phase> | undefined;
  const show = (): void => {
    // What is read back is shown when everything is stored; until then it goes on beside.
    const shown = checking && moving.done >= all ? checking : moving;
    const rate = shown.meter.bytesPerS(performance.now());
    const leftMs = rate > 0 ? ((all - shown.done) / rate) * 1000 : Number.POSITIVE_INFINITY;
    const speed = rate > 0 ? `, ${sizeWords(rate)}/s${leftMs < 1e9 ? `, ${durationWords(Math.max(leftMs, 1000))} left` : ''}` : '';
    bar.update(Math.min(shown.done, all), { title: shown.name, done: sizeWords(shown.done), all: sizeWords(all), speed });
  };
  // Whatever ends the program: the cursor must come back.
  const stop = (): void => bar.stop();
  process.once('exit', stop);
  bar.start(Math.max(all, 1), 0, { title, done: sizeWords(0), all: sizeWords(all), speed: '' });
  return {
    add: (bytes) => {
      moving.done += bytes;
      moving.meter.add(bytes, performance.now());
      show();
    },
    skip: (bytes) => {
      moving.done += bytes;
      show();
    },
    check: (bytes) => {
      checking ??= phase('checking');
      checking.done += bytes;
      checking.meter.add(bytes, performance.now());
      show();
    },
    total: (bytes) => {
      all = bytes;
      bar.setTotal(Math.max(all, 1));
    },
    // The place of the bar is remembered anew, or its end would clear the line of the message.
    note: (text) => process.stderr.write(`\r\x1b[K${text}\n\x1b7`),
    end: () => {
      process.off('exit', stop);
      bar.stop();
    },
  };
}

/** Asks again until done, showing what is left. @throws {CliError} when interrupted */
export async function waitUntil(context: Context, title: string, ask: () => Promise<{ isDone: boolean; left: number }>): Promise<void> {
  const isShown = process.stderr.isTTY && !context.options.quiet && !context.isJson;
  for (;;) {
    const { isDone, left } = await ask();
    if (isShown) process.stderr.write(`\r\x1b[K${isDone ? '' : `${title}: ${left.toLocaleString('en')} chunks left`}`);
    if (isDone) return;
    if (context.interrupted.signal.aborted) throw new CliError(`stopped waiting; ${title} goes on`, EXIT.error, 'INTERRUPTED');
    await delay(300);
  }
}
