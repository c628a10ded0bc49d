/**
 * The metadata rows in SQLite: the only file that knows SQL. One connection, one caller at a time (the checkpointer), every save one transaction.
 *
 * Each table of rows.ts is one table (key, row as JSON, crc). Rows carry a CRC-32 over key and row, and `meta` keeps the number of rows and the sum
 * of their CRCs per table, so an overwritten page or a lost write is noticed at the next start instead of being served.
 */
import { stat } from 'node:fs/promises';
import { crc32 } from 'node:zlib';
import sqlite3 from 'sqlite3';
import { type MetadataStore, type RowsByTable, SaveCancelled, StoreDamaged, StoreFull } from './metadata-store.js';
import { type AnyKey, type TableName, tableKinds, tableNames } from './rows.js';

/** Raised when the tables change, so that an older program, which would not keep all of them right, refuses the file. 2: snapshots and trash. */
const SCHEMA_VERSION = 2;
const MIN_SQLITE_VERSION = [3, 40];
const ROWS_PER_PAGE = 5000;
/** Small enough to be checked page by page at every start. */
const QUICK_CHECK_BYTES = 64 * 1024 * 1024;
/** CRCs are summed by their low 20 bits: the sum of a billion rows is still exact in a JavaScript number. */
const CRC_MASK = 0xfffff;

interface TableSum {
  count: number;
  sum: number;
}
type Sums = Record<string, TableSum>;

const tableSql = (name: TableName): string =>
  tableKinds[name] === 'number'
    ? `CREATE TABLE "${name}" (key INTEGER PRIMARY KEY, row TEXT NOT NULL, crc INTEGER NOT NULL)`
    : `CREATE TABLE "${name}" (key TEXT PRIMARY KEY, row TEXT NOT NULL, crc INTEGER NOT NULL) WITHOUT ROWID`;
const rowCrc = (key: AnyKey, row: string): number => crc32(row, crc32(`${key}\n`));

export class Database implements MetadataStore {
  sizeBytes = 0;
  private sums: Sums = {};

  private constructor(
    private readonly connection: sqlite3.Database,
    private readonly file: string,
  ) {}

  /**
   * Opens (or, with `create`, makes) the database file. @param log gets the SQLite version
   * @throws {StoreDamaged} not a database, or one of another cluster or a newer version
   */
  static async open(
    file: string,
    options: { create: boolean; cluster: string; log?: (message: string, facts: Record<string, unknown>) => void },
  ): Promise<Database> {
    const mode = sqlite3.OPEN_READWRITE | (options.create ? sqlite3.OPEN_CREATE : 0);
    const connection = await new Promise<sqlite3.Database>((resolve, reject) => {
      const opened: sqlite3.Database = new sqlite3.Database(file, mode, (error) => {
        if (error) reject(new StoreDamaged(`${file} cannot be opened: ${error.message}`));
        else resolve(opened);
      });
    });
    const database = new Database(connection, file);
    try {
      await database.prepare(options);
    } catch (error) {
      await database.close().catch(() => {});
      if (error instanceof StoreDamaged) throw error;
      throw new StoreDamaged(`${file} is damaged: ${(error as Error).message}`);
    }
    return database;
  }

  private async prepare(options: { create: boolean; cluster: string; log?: (message: string, facts: Record<string, unknown>) => void }) {
    const { version } = await this.get<{ version: string }>('SELECT sqlite_version() AS version');
    const [major = 0, minor = 0] = version.split('.').map(Number);
    const [minMajor = 0, minMinor = 0] = MIN_SQLITE_VERSION;
    if (major < minMajor || (major === minMajor && minor < minMinor))
      throw new Error(`SQLite ${version} is too old: ${MIN_SQLITE_VERSION.join('.')} or newer is needed`);
    options.log?.('database opened', { sqlite: version });
    // Exclusive: a second process cannot open it, and no shared memory file is needed. FULL: a commit is on stable storage when it returns.
    await this.exec('PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA temp_store = MEMORY;');
    const { synchronous } = await this.get<{ synchronous: number }>('PRAGMA synchronous');
    if (synchronous !== 2) throw new Error('SQLite does not accept synchronous = FULL');
    const { user_version: schemaVersion } = await this.get<{ user_version: number }>('PRAGMA user_version');
    if (schemaVersion > SCHEMA_VERSION)
      throw new StoreDamaged(`${this.file} was written by a newer version of holdfast (schema ${schemaVersion}); use that version`);
    if (schemaVersion === 0) {
      if (!options.create) throw new StoreDamaged(`${this.file} is empty, but this cluster has data`);
      await this.exec(
        `BEGIN IMMEDIATE; CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL); ${tableNames.map(tableSql).join('; ')};
         INSERT INTO meta VALUES ('cluster', ${quote(options.cluster)}), ('appliedSequence', '0'), ('sums', '{}');
         PRAGMA user_version = ${SCHEMA_VERSION}; COMMIT;`,
      );
    }
    const cluster = await this.meta('cluster');
    if (cluster !== options.cluster)
      throw new StoreDamaged(`${this.file} belongs to cluster ${cluster}, but this data directory to ${options.cluster}`);
    this.sums = JSON.parse(await this.meta('sums')) as Sums;
    await this.measure();
    if (this.sizeBytes <= QUICK_CHECK_BYTES) {
      const { quick_check: finding } = await this.get<{ quick_check: string }>('PRAGMA quick_check(1)');
      if (finding !== 'ok') throw new StoreDamaged(`${this.file} is damaged: ${finding}`);
    }
    // A table added since the file was written.
    for (const name of tableNames) {
      const found = await this.get<{ n: number }>(`SELECT count(*) AS n FROM sqlite_master WHERE type = 'table' AND name = ${quote(name)}`);
      if (found.n === 0) await this.exec(tableSql(name));
    }
    if (schemaVersion > 0 && schemaVersion < SCHEMA_VERSION) await this.exec(`PRAGMA user_version = ${SCHEMA_VERSION}`);
  }

  async load(apply: (table: TableName, key: AnyKey, row: unknown) => void): Promise<number> {
    try {
      for (const name of tableNames) await this.loadTable(name, apply);
      return Number(await this.meta('appliedSequence'));
    } catch (error) {
      if (error instanceof StoreDamaged) throw error;
      throw new StoreDamaged(`${this.file} is damaged: ${(error as Error).message}`);
    }
  }

  private async loadTable(name: TableName, apply: (table: TableName, key: AnyKey, row: unknown) => void): Promise<void> {
    let after: AnyKey = tableKinds[name] === 'number' ? -1 : '';
    let count = 0;
    let sum = 0;
    for (;;) {
      // One long text per page: handing over rows one by one costs more than reading them. JSON holds neither raw tabs nor raw newlines.
      const page: { text: string | null } = await this.get<{ text: string | null }>(
        `SELECT group_concat(crc || char(9) || json_quote(key) || char(9) || row, char(10)) AS text
         FROM (SELECT key, row, crc FROM "${name}" WHERE key > ? ORDER BY key LIMIT ${ROWS_PER_PAGE})`,
        after,
      );
      const lines = page.text === null ? [] : page.text.split('\n');
      for (const line of lines) {
        const keyAt = line.indexOf('\t') + 1;
        const rowAt = line.indexOf('\t', keyAt) + 1;
        const crc = Number(line.slice(0, keyAt - 1));
        const key = JSON.parse(line.slice(keyAt, rowAt - 1)) as AnyKey;
        const row = line.slice(rowAt);
        if (rowCrc(key, row) !== crc)
          throw new StoreDamaged(`${this.file} is damaged: row ${key} of "${name}" does not match its checksum`);
        sum += crc & CRC_MASK;
        apply(name, key, JSON.parse(row));
        after = key;
      }
      count += lines.length;
      if (lines.length < ROWS_PER_PAGE) break;
    }
    const expected = this.sums[name] ?? { count: 0, sum: 0 };
    if (count !== expected.count || sum !== expected.sum)
      throw new StoreDamaged(`${this.file} is damaged: "${name}" holds ${count} rows that are not the ${expected.count} it should hold`);
  }

  async save(rows: RowsByTable, appliedSequence: number, isCancelled: () => boolean = () => false): Promise<void> {
    const sums: Sums = { ...this.sums };
    try {
      await this.exec('BEGIN IMMEDIATE');
      for (const [name, changed] of rows) sums[name] = await this.saveTable(name, changed, isCancelled);
      await this.run(`UPDATE meta SET value = ? WHERE key = 'appliedSequence'`, String(appliedSequence));
      await this.run(`UPDATE meta SET value = ? WHERE key = 'sums'`, JSON.stringify(sums));
      await this.exec('COMMIT');
    } catch (error) {
      await this.exec('ROLLBACK').catch(() => {});
      if ((error as { code?: string }).code === 'SQLITE_FULL') throw new StoreFull(`no space left for ${this.file}`);
      throw error;
    }
    this.sums = sums;
    await this.measure();
  }

  private async saveTable(name: TableName, changed: ReadonlyMap<AnyKey, unknown>, isCancelled: () => boolean): Promise<TableSum> {
    const total = { ...(this.sums[name] ?? { count: 0, sum: 0 }) };
    let page: [AnyKey, string | null, number][] = [];
    const flush = async (): Promise<void> => {
      if (isCancelled()) throw new SaveCancelled('given up');
      const json = JSON.stringify(page);
      const before = await this.get<{ count: number; sum: number | null }>(
        `SELECT count(*) AS count, sum(crc & ${CRC_MASK}) AS sum FROM "${name}" WHERE key IN (SELECT json_extract(value, '$[0]') FROM json_each(?))`,
        json,
      );
      total.count -= before.count;
      total.sum -= before.sum ?? 0;
      if (before.count > 0) {
        await this.run(
          `DELETE FROM "${name}" WHERE key IN (SELECT json_extract(value, '$[0]') FROM json_each(?) WHERE json_extract(value, '$[1]') IS NULL)`,
          json,
        );
      }
      await this.run(
        `INSERT OR REPLACE INTO "${name}" (key, row, crc) SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]')
         FROM json_each(?) WHERE json_extract(value, '$[1]') IS NOT NULL`,
        json,
      );
      page = [];
    };
    for (const [key, row] of changed) {
      if (row === null || row === undefined) page.push([key, null, 0]);
      else {
        const text = JSON.stringify(row);
        const crc = rowCrc(key, text);
        total.count++;
        total.sum += crc & CRC_MASK;
        page.push([key, text, crc]);
      }
      if (page.length === ROWS_PER_PAGE) await flush();
    }
    if (page.length > 0) await flush();
    return total;
  }

  async close(): Promise<void> {
    await new Promise<void>((resolve, reject) => this.connection.close((error) => (error ? reject(error) : resolve())));
  }

  private async measure(): Promise<void> {
    // stat, not open: closing a descriptor of the file would drop SQLite's locks.
    const sizes = await Promise.all(
      [this.file, `${this.file}-wal`].map((file) =>
        stat(file).then(
          (one) => one.size,
          () => 0,
        ),
      ),
    );
    this.sizeBytes = sizes.reduce((sum, size) => sum + size, 0);
  }
  private async meta(key: string): Promise<string> {
    const row = await this.get<{ value: string } | undefined>('SELECT value FROM meta WHERE key = ?', key);
    if (!row) throw new StoreDamaged(`${this.file} is damaged: "${key}" is missing`);
    return row.value;
  }
  private exec(sql: string): Promise<void> {
    return new Promise((resolve, reject) => this.connection.exec(sql, (error) => (error ? reject(error) : resolve())));
  }
  private run(sql: string, ...values: AnyKey[]): Promise<void> {
    return new Promise((resolve, reject) => this.connection.run(sql, values, (error) => (error ? reject(error) : resolve())));
  }
  private get<Row>(sql: string, ...values: AnyKey[]): Promise<Row> {
    return new Promise((resolve, reject) =>
      this.connection.get(sql, values, (error, row) => (error ? reject(error) : resolve(row as Row))),
    );
  }
}

const quote = (text: string): string => `'${text.replaceAll("'", "''")}'`;
