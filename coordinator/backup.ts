/** Backups: a snapshot of all metadata as a file, and a new data directory made from one (`holdfast restore`, restore.ts). */
import { createHash } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { mkdir, open, rename, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { wallMs } from '../protocol/environment.js';
import { HoldfastError } from '../protocol/errors.js';
import type { Coordinator } from './coordinator.js';
import { openDataDirectory, type Rebuild } from './data-directory.js';
import { Database } from './database.js';
import { JournalFiles } from './journal-files.js';
import { type AnyKey, type Change, type TableName, tableNames } from './rows.js';
import { passingTables, readSnapshot, type SnapshotHead, takeRows, writeSnapshot } from './snapshot.js';

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
    const atMs = wallMs(environment);
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
 * The epoch of a rebuilt directory: above that of every start since the copy was made, so that nodes obey it, and above that of a directory rebuilt
 * from the same copy before. Starts count up by one, so seconds of the calendar are always ahead of them; should the clock be wrong, a thousand
 * starts are far more than a copy is old.
 */
export const rebuiltEpoch = (copyEpoch: number, wallMs: number): number => Math.max(copyEpoch + 1000, Math.floor(wallMs / 1000));

/**
 * Makes a data directory from rows. Sessions, locks and remembered replies do not live on. When this does not get to its end, the
 * directory refuses to be started, and may be built again.
 * @param data must not exist or be empty
 * @param from.epoch see rebuiltEpoch
 */
export async function buildDataDirectory(data: string, rows: RowCollection, from: Rebuild & { epoch: number }): Promise<void> {
  const directory = await openDataDirectory(data, from);
  try {
    for (const table of passingTables) rows.rows.get(table)?.clear();
    // Whoever held a file open without a name is gone with the sessions: the start takes such files apart.
    for (const inode of [...(rows.rows.get('orphans')?.keys() ?? [])]) rows.apply(['orphans', inode as number, { holders: [] }]);
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
export async function restore(
  file: string,
  data: string,
  tokens: Pick<Rebuild, 'nodeToken' | 'adminToken'> = {},
): Promise<SnapshotHead & { rows: number }> {
  const rows = new RowCollection();
  const head = await readSnapshot(createReadStream(file), rows.apply);
  await buildDataDirectory(data, rows, { cluster: head.cluster, epoch: rebuiltEpoch(head.epoch, Date.now()), ...tokens });
  return { ...head, rows: rows.count };
}
