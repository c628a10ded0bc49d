/** Progress on stderr: a bar for people at a terminal, nothing for programs. */
import { setTimeout as delay } from 'node:timers/promises';
import cliProgress from 'cli-progress';
import type { Context } from './context.js';
import { CliError, EXIT } from './exit-codes.js';
import { sizeWords } from './words.js';

export interface Progress {
  add(bytes: number): void;
  total(bytes: number): void;
  end(): void;
}

/** A bar of bytes with rate and time left; silent without a terminal, with --quiet or --json. */
export function byteProgress(context: Context, title: string, totalBytes: number): Progress {
  if (!process.stderr.isTTY || context.options.quiet || context.isJson) return { add: () => {}, total: () => {}, end: () => {} };
  const bar = new cliProgress.SingleBar({
    stream: process.stderr,
    hideCursor: true,
    clearOnComplete: true,
    fps: 10,
    format: `${title} [{bar}] {percentage}% {done} of {all}, {rate}/s, {eta_formatted} left`,
    barCompleteChar: '#',
    barIncompleteChar: '.',
  });
  const startMs = performance.now();
  let done = 0;
  let all = totalBytes;
  const payload = () => ({
    done: sizeWords(done),
    all: sizeWords(all),
    rate: sizeWords((done / Math.max(performance.now() - startMs, 1)) * 1000),
  });
  bar.start(Math.max(all, 1), 0, payload());
  return {
    add: (bytes) => {
      done += bytes;
      bar.update(done, payload());
    },
    total: (bytes) => {
      all = bytes;
      bar.setTotal(Math.max(all, 1));
    },
    end: () => bar.stop(),
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
