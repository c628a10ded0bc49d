/** Backups: a snapshot of all metadata as a file, and a new data directory made from one (`holdfast restore`). */
import { createHash } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { mkdir, open, readFile, rename, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { Command, CommanderError } from 'commander';
import { HoldfastError } from '../protocol/errors.js';
import type { Coordinator } from './coordinator.js';
import { openDataDirectory } from './data-directory.js';
import { Database } from './database.js';
import { JournalFiles } from './journal-files.js';
import { type AnyKey, type Change, type TableName, tableNames } from './rows.js';
import { readSnapshot, type SnapshotHead, takeRows, writeSnapshot } from './snapshot.js';

const PAGE_BYTES = 1024 * 1024;

/** The last backup taken, kept in the data directory until the next one. */
export class BackupFile {
  private readonly directory: string;
  private readonly file: string;
  private running: Promise<{ sizeBytes: number; sequence: number; sha256: string }> | undefined;

  constructor(data: string) {
    this.directory = join(data, 'backup');
    this.file = join(this.directory, 'snapshot.ndjson.gz');
  }

  /** Joins a backup that is being taken. */
  take(coordinator: Coordinator): Promise<{ sizeBytes: number; sequence: number; sha256: string }> {
    this.running ??= this.write(coordinator).finally(() => {
      this.running = undefined;
    });
    return this.running;
  }

  private async write(coordinator: Coordinator) {
    const { state, journal, epoch, environment } = coordinator;
    const rows = takeRows(state);
    const { sequence } = journal;
    await mkdir(this.directory, { recursive: true, mode: 0o700 });
    const temporary = `${this.file}.tmp`;
    const atMs = Number(environment.wallNs() / 1_000_000n);
    await writeSnapshot(rows, { cluster: coordinator.cluster, epoch, sequence, atMs }, createWriteStream(temporary, { mode: 0o600 }));
    const file = await open(temporary, 'r');
    try {
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, this.file);
    const hash = createHash('sha256');
    for await (const piece of createReadStream(this.file)) hash.update(piece as Buffer);
    return { sizeBytes: (await stat(this.file)).size, sequence, sha256: hash.digest('hex') };
  }

  async read(offset: number): Promise<{ data: Buffer; isLast: boolean }> {
    const file = await open(this.file, 'r').catch(() => {
      throw new HoldfastError('ENOENT', 'no backup has been taken yet');
    });
    try {
      const data = Buffer.alloc(PAGE_BYTES);
      const { bytesRead } = await file.read(data, 0, PAGE_BYTES, offset);
      return { data: data.subarray(0, bytesRead), isLast: offset + bytesRead >= (await file.stat()).size };
    } finally {
      await file.close();
    }
  }
}

/** Gathers rows so that they can become a data directory. */
export class RowCollection {
  readonly rows = new Map<TableName, Map<AnyKey, unknown>>(tableNames.map((name) => [name, new Map()]));
  readonly apply = ([table, key, row]: Change): void => {
    const rows = this.rows.get(table) as Map<AnyKey, unknown>;
    if (row === null) rows.delete(key);
    else rows.set(key, row);
  };
  get count(): number {
    let sum = 0;
    for (const rows of this.rows.values()) sum += rows.size;
    return sum;
  }
}

/**
 * Makes a data directory from rows. The epoch goes on above everything known, so that nodes obey the restored coordinator.
 * @param data must not exist or be empty
 */
export async function buildDataDirectory(
  data: string,
  rows: RowCollection,
  from: { cluster: string; epoch: number; nodeToken?: string },
): Promise<void> {
  const directory = await openDataDirectory(data, from.cluster, from.nodeToken);
  try {
    rows.apply(['settings', 'epoch', from.epoch]);
    const database = await Database.open(directory.databaseFile, { create: true, cluster: from.cluster });
    await database.save(rows.rows, 0);
    await database.close();
    const journal = await JournalFiles.open(directory.journalDirectory);
    await journal.close();
    await directory.ready();
  } finally {
    await directory.unlock();
  }
}

/** @throws {Error} with a message for people */
export async function restore(file: string, data: string, nodeToken?: string): Promise<SnapshotHead & { rows: number }> {
  const rows = new RowCollection();
  const head = await readSnapshot(createReadStream(file), rows.apply);
  // Starts since the backup had higher epochs; nodes refuse lower ones. A thousand starts are far more than a backup is old.
  await buildDataDirectory(data, rows, {
    cluster: head.cluster,
    epoch: head.epoch + 1000,
    ...(nodeToken === undefined ? {} : { nodeToken }),
  });
  return { ...head, rows: rows.count };
}

/**
 * `holdfast restore FILE --data DIR --node-token-file F`.
 * @returns exit code: 0 done, 1 failed, 2 used wrongly
 */
export async function runRestore(argv: readonly string[]): Promise<number> {
  const program = new Command('holdfast restore')
    .description(
      'Makes a new data directory for a coordinator from a backup. Files changed since the backup are lost; chunks newer than it are kept aside on the nodes.',
    )
    .exitOverride()
    .argument('<file>', 'backup made by "holdfast backup"')
    .requiredOption('--data <dir>', 'new data directory; must be empty')
    .requiredOption('--node-token-file <file>', "the cluster's node token, so that the nodes know the coordinator");
  try {
    program.parse(argv, { from: 'user' });
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
    throw error;
  }
  const { data, nodeTokenFile } = program.opts<{ data: string; nodeTokenFile: string }>();
  try {
    const nodeToken = (await readFile(nodeTokenFile, 'utf8')).trim();
    const found = await restore(program.args[0] as string, data, nodeToken);
    process.stdout.write(
      `restored ${found.rows} rows of cluster ${found.cluster} as of ${new Date(found.atMs).toISOString()} into ${data}\nStart it with: holdfast coordinator --data ${data}\nThe admin token is new: ${join(data, 'admin-token')}\n`,
    );
    return 0;
  } catch (error) {
    process.stderr.write(`holdfast restore: ${(error as Error).message}\n`);
    return 1;
  }
}
