/** stat, why, wait, verify: one file, and how safe it is. */
import type { FileChunk, FileStat } from '../../../protocol/admin-calls.js';
import { sleep } from '../../../protocol/environment.js';
import { liveEnvironment } from '../../live-environment.js';
import type { Context } from '../context.js';
import { CliError, EXIT } from '../exit-codes.js';
import { countWords, durationWords, modeWords, printable, sizeWords, table, timeWords } from '../words.js';

const MOST_CHUNKS_SHOWN = 40;

export async function stat(context: Context, options: { all?: boolean }, path: string): Promise<void> {
  const admin = await context.admin();
  const found = await admin.call('stat', { path: context.path(path), ...context.volume });
  if (context.isJson) context.json(found);
  else for (const line of statLines(found, context, options.all === true)) context.print(line);
}

export function statLines(file: FileStat, context: Pick<Context, 'paint'>, showAll: boolean): string[] {
  const { paint } = context;
  const lines = [
    printable(file.path),
    `  ${modeWords(file.kind, file.mode)}  ${file.nlink} ${file.nlink === 1 ? 'name' : 'names'}, owner ${file.uid}:${file.gid}, inode ${file.inode}, changed ${timeWords(file.mtimeMs, Date.now())}`,
    `  ${sizeWords(file.sizeBytes)} (${file.sizeBytes.toLocaleString('en')} bytes) in ${countWords(file.chunkCount, 'chunk')}, ${file.copies} copies wanted`,
    `  ${paint(file.health === 'HEALTHY' ? 'good' : file.health === 'DEGRADED' ? 'warn' : 'bad', file.health)}${file.isReadable ? '' : ', NOT READABLE now'}`,
  ];
  if (file.chunks.length === 0) return lines;
  const shown = showAll ? file.chunks : file.chunks.slice(0, MOST_CHUNKS_SHOWN);
  const cells = (chunk: FileChunk): string[] => [
    String(chunk.index),
    sizeWords(chunk.offset),
    sizeWords(chunk.length),
    chunk.id.slice(0, 12),
    String(chunk.references),
    chunk.replicas
      .map((replica) => (replica.state === 'good' || replica.state === 'unchecked' ? replica.name : `${replica.name}(${replica.state})`))
      .join(' ') || 'NONE',
  ];
  const [head = '', ...rows] = table([['#', 'OFFSET', 'LENGTH', 'CHUNK', 'USED BY', 'ON NODES'], ...shown.map(cells)], [0, 1, 2, 4]);
  lines.push(`  ${paint('dim', head)}`, ...rows.map((row) => `  ${row}`));
  const left = file.chunkCount - shown.length;
  if (left > 0) lines.push(`  ... and ${countWords(left, 'chunk')} more (--all shows them)`);
  return lines;
}

export async function why(context: Context, _options: unknown, path: string): Promise<void> {
  const admin = await context.admin();
  const report = await admin.call('why', { path: context.path(path), ...context.volume });
  if (context.isJson) context.json(report);
  else for (const line of report.lines) context.print(printable(line));
}

/** Waits until a file, or without a path the whole cluster, has all its copies. */
export async function wait(context: Context, options: { for?: number }, path?: string): Promise<number> {
  const admin = await context.admin();
  const environment = liveEnvironment();
  const limitMs = (options.for ?? 300) * 1000;
  const startMs = environment.monotonicMs();
  const isShown = process.stderr.isTTY === true && !context.options.quiet && !context.isJson;
  for (;;) {
    let isDone: boolean;
    let state: string;
    let answer: object;
    if (path === undefined) {
      const now = await admin.call('status', {});
      isDone = now.health === 'HEALTHY' && !now.safeMode.isActive && now.chunks.belowCopies === 0;
      state = now.sentence;
      answer = { schema: 1, isDone, health: now.health, belowCopies: now.chunks.belowCopies };
    } else {
      const report = await admin.call('why', { path: context.path(path), ...context.volume });
      isDone = report.isFullyReplicated;
      state = report.lines[0] ?? report.health;
      answer = { schema: 1, isDone, health: report.health, path: report.path };
    }
    const waitedMs = environment.monotonicMs() - startMs;
    if (isShown) process.stderr.write(`\r\x1b[K${isDone ? '' : printable(state).slice(0, (process.stderr.columns ?? 80) - 1)}`);
    if (isDone) {
      if (context.isJson) context.json({ ...answer, waitedMs: Math.round(waitedMs) });
      else context.print(`${path === undefined ? 'The cluster' : printable(path)} has all its copies (waited ${durationWords(waitedMs)}).`);
      return EXIT.ok;
    }
    if (waitedMs >= limitMs || context.interrupted.signal.aborted) {
      if (isShown) process.stderr.write('\r\x1b[K');
      throw new CliError(`still waiting after ${durationWords(waitedMs)}: ${printable(state)}`, EXIT.unreachable, 'TIMEOUT');
    }
    await sleep(environment, 250);
  }
}

/** Every replica of a file is read whole by its node. */
export async function verify(context: Context, _options: unknown, path: string): Promise<number> {
  const admin = await context.admin();
  const result = await admin.call('verify', { path: context.path(path), ...context.volume }, { timeoutMs: 3_600_000 });
  if (context.isJson) context.json({ schema: 1, ...result });
  else if (result.bad.length === 0)
    context.print(`${context.paint('good', 'Good')}: ${countWords(result.good, 'replica')} read and checked.`);
  else {
    context.print(
      `${context.paint('bad', `${countWords(result.bad.length, 'replica')} BAD`)}, ${result.good} good. The bad ones are set aside and copied again from good ones:`,
    );
    for (const bad of result.bad) context.print(`  ${bad.chunk.slice(0, 12)} on ${bad.node}: ${bad.problem}`);
  }
  return result.bad.length === 0 ? EXIT.ok : EXIT.corrupt;
}
