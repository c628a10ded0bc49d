/**
 * All metadata in one stream: gzip of lines of JSON. The first line says what it is, the last line how many rows there were, so a cut-off file is
 * noticed. Taken from memory in one go (rows are immutable, so references are enough), written in slices.
 *
 *   {"holdfast":"snapshot","format":1,"cluster":...,"epoch":...,"sequence":...,"atMs":...}
 *   ["inodes",1,{...}]  ...
 *   {"rows":123}
 */

import { createInterface } from 'node:readline';
import { pipeline, Readable, type Writable } from 'node:stream';
import { promisify } from 'node:util';
import { createGunzip, createGzip } from 'node:zlib';
import { z } from 'zod';
import { type AnyKey, type Change, type TableName, tableKinds, tableNames } from './rows.js';
import type { State } from './state.js';

const FORMAT = 1;
const headSchema = z.object({
  holdfast: z.literal('snapshot'),
  format: z.number().int(),
  cluster: z.string().max(64),
  epoch: z.number().int(),
  sequence: z.number().int(),
  atMs: z.number(),
});
export type SnapshotHead = z.infer<typeof headSchema>;

/** Tables that mean nothing after a restore: sessions are of clients that will be gone. */
export const passingTables: ReadonlySet<TableName> = new Set(['sessions', 'replies', 'locks']);
const ROWS_PER_SLICE = 2000;
const run = promisify(pipeline);

/** The rows as they are now: what follows may take its time. */
export function takeRows(state: State): Change[] {
  const rows: Change[] = [];
  for (const name of tableNames) {
    if (passingTables.has(name)) continue;
    for (const [key, row] of state.table(name).all() as IterableIterator<[AnyKey, unknown]>) rows.push([name, key, row]);
  }
  return rows;
}

export async function writeSnapshot(
  rows: readonly Change[],
  head: Omit<SnapshotHead, 'holdfast' | 'format'>,
  target: Writable,
): Promise<void> {
  function* lines(): IterableIterator<string> {
    yield `${JSON.stringify({ holdfast: 'snapshot', format: FORMAT, ...head })}\n`;
    for (let i = 0; i < rows.length; i += ROWS_PER_SLICE) {
      let slice = '';
      for (const row of rows.slice(i, i + ROWS_PER_SLICE)) slice += `${JSON.stringify(row)}\n`;
      yield slice;
    }
    yield `${JSON.stringify({ rows: rows.length })}\n`;
  }
  await run(Readable.from(lines()), createGzip({ level: 1 }), target);
}

/**
 * Reads a snapshot, calling `apply` for every row.
 * @throws {Error} not a snapshot, of a newer version, or cut off: then what was applied must be thrown away
 */
export async function readSnapshot(source: Readable, apply: (change: Change) => void): Promise<SnapshotHead> {
  const unzipped = createGunzip();
  const failed = run(source, unzipped);
  failed.catch(() => {});
  let head: SnapshotHead | undefined;
  let count = 0;
  let isWhole = false;
  for await (const line of createInterface({ input: unzipped, crlfDelay: Number.POSITIVE_INFINITY })) {
    if (line === '') continue;
    const value: unknown = JSON.parse(line);
    if (!head) {
      const parsed = headSchema.safeParse(value);
      if (!parsed.success) throw new Error('this is not a snapshot of Holdfast metadata');
      if (parsed.data.format > FORMAT) throw new Error('the snapshot was written by a newer version of holdfast: use that version');
      head = parsed.data;
    } else if (Array.isArray(value)) {
      if (!Object.hasOwn(tableKinds, String(value[0]))) throw new Error(`the snapshot holds an unknown table "${String(value[0])}"`);
      apply(value as unknown as Change);
      count++;
    } else isWhole = (value as { rows?: number }).rows === count;
  }
  await failed;
  if (!head || !isWhole) throw new Error('the snapshot is cut off or damaged');
  return head;
}
