import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sqlite3 from 'sqlite3';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { realEnvironment } from '../protocol/environment.js';
import { restore } from './backup.js';
import { type RunningCoordinator, startCoordinator } from './server.js';

let data: string;
const running: RunningCoordinator[] = [];
beforeEach(() => {
  data = mkdtempSync(join(tmpdir(), 'hf-coordinator-test-'));
});
afterEach(async () => {
  for (const one of running.splice(0)) await one.stop().catch(() => {});
  rmSync(data, { recursive: true, force: true });
});

async function start(directory = join(data, 'c')): Promise<RunningCoordinator> {
  const one = await startCoordinator({ data: directory, host: '127.0.0.1', port: 0 }, realEnvironment());
  running.push(one);
  return one;
}
async function stop(how: 'stop' | 'crash' = 'stop'): Promise<void> {
  const one = running.pop() as RunningCoordinator;
  await one[how]();
}
const file = (name: string): string => join(data, 'c', name);
/** Adds rows as a client's changes would. */
const addFiles = ({ coordinator }: RunningCoordinator, count: number, prefix = 'f'): void => {
  const caller = { client: 'c', user: 'admin', volume: 1, access: 'admin' } as const;
  for (let i = 0; i < count; i++) {
    coordinator.state.transact((tx) =>
      coordinator.tree.create(
        { tx, caller, now: { s: 1, ns: 2 }, effects: { touch: () => {} } as never, mayHold: () => [] },
        { parent: 1, name: `${prefix}${i}`, kind: 'file', mode: 0o644, as: { uid: 0, gid: 0 }, exclusive: true },
      ),
    );
  }
};
async function overwrite(path: string, at: number, bytes: Buffer): Promise<void> {
  const handle = await open(path, 'r+');
  await handle.write(bytes, 0, bytes.length, at);
  await handle.close();
}
function sql<Row>(path: string, text: string): Promise<Row[]> {
  return new Promise((resolve, reject) => {
    const database = new sqlite3.Database(path);
    const done = (error: Error | null, rows: Row[] = []): void => database.close(() => (error ? reject(error) : resolve(rows)));
    if (text.includes(';')) database.exec(text, (error) => done(error));
    else database.all(text, (error, rows: Row[]) => done(error, rows));
  });
}
const journalFiles = (): string[] =>
  readdirSync(file('journal'))
    .filter((name) => name.endsWith('.log'))
    .sort();

describe('a data directory', () => {
  it('keeps everything over clean stops and crashes, with a new epoch each time', async () => {
    const first = await start();
    addFiles(first, 300);
    await stop();
    const second = await start();
    expect([second.coordinator.epoch, second.coordinator.state.table('entries').size]).toEqual([2, 300]);
    addFiles(second, 200, 'g');
    await second.coordinator.journal.written();
    await stop('crash');
    const third = await start();
    expect([third.coordinator.epoch, third.coordinator.state.table('entries').size]).toEqual([3, 500]);
    expect(third.coordinator.state.index.ofVolume(1)).toMatchObject({ files: 500, directories: 1 });
    expect([third.adminToken, third.nodeToken]).toEqual([first.adminToken, first.nodeToken]);
    for (const secret of ['admin-token', 'node-token', 'identity.json']) expect(statSync(file(secret)).mode & 0o077).toBe(0);
    expect(readFileSync(file('url'), 'utf8').trim()).toBe(third.url);
    expect(await (await fetch(`${third.url}/readyz`)).text()).toBe('ready\n');
  });

  it('serves one process at a time, and is free again as soon as that ends', async () => {
    await start();
    await expect(start()).rejects.toMatchObject({ code: 'EBUSY', message: expect.stringContaining('another coordinator is running') });
    await stop();
    await start();
  });

  it('is never taken for empty when it had data', async () => {
    addFiles(await start(), 10);
    await stop();
    rmSync(file('metadata.db'));
    await expect(start()).rejects.toMatchObject({ code: 'REFUSED', message: expect.stringContaining('holdfast recover --from-nodes') });
    expect(existsSync(file('metadata.db'))).toBe(false);
  });

  it.each(['journal', 'identity.json'])('without its %s is refused', async (name) => {
    addFiles(await start(), 10);
    await stop();
    rmSync(file(name), { recursive: true });
    await expect(start()).rejects.toMatchObject({ code: 'REFUSED', message: expect.stringContaining('missing') });
  });

  it('that belongs to something else, is damaged or newer is refused with the reason', async () => {
    writeFileSync(join(data, 'holiday.jpg'), 'x');
    await expect(start(data)).rejects.toMatchObject({ code: 'REFUSED', message: expect.stringContaining('something else') });
    await start();
    await stop();
    const identity = readFileSync(file('identity.json'), 'utf8');
    writeFileSync(file('identity.json'), '{');
    await expect(start()).rejects.toMatchObject({ code: 'REFUSED', message: expect.stringContaining('damaged') });
    writeFileSync(file('identity.json'), JSON.stringify({ ...(JSON.parse(identity) as object), format: 2 }));
    await expect(start()).rejects.toMatchObject({ code: 'REFUSED', message: expect.stringContaining('newer version') });
    writeFileSync(file('identity.json'), JSON.stringify({ ...(JSON.parse(identity) as object), cluster: 'other' }));
    await expect(start()).rejects.toMatchObject({ code: 'REFUSED', message: expect.stringContaining('belongs to cluster') });
  });

  it('of a first start that did not get to its end is begun anew', async () => {
    await start();
    await stop();
    const identity = JSON.parse(readFileSync(file('identity.json'), 'utf8')) as object;
    writeFileSync(file('identity.json'), JSON.stringify({ ...identity, state: 'new' }));
    expect((await start()).coordinator.epoch).toBe(1);
  });

  it('with a page of the database overwritten anywhere is refused or unharmed, never half read', async () => {
    addFiles(await start(), 500);
    await stop();
    const pages = statSync(file('metadata.db')).size / 4096;
    cpSync(join(data, 'c'), join(data, 'good'), { recursive: true });
    let refused = 0;
    for (let page = 0; page < pages; page += 3) {
      rmSync(join(data, 'c'), { recursive: true });
      cpSync(join(data, 'good'), join(data, 'c'), { recursive: true });
      await overwrite(file('metadata.db'), page * 4096 + 2000, Buffer.alloc(1500, 0x41));
      const outcome = await start().then(
        (one) => one.coordinator.state.table('entries').size,
        (error: { code: string }) => error.code,
      );
      if (outcome === 'REFUSED') refused++;
      else {
        expect(outcome).toBe(500);
        await stop('crash');
      }
    }
    expect(refused).toBeGreaterThan(3);
  });

  it('with its write-ahead log deleted, or an older database put back, is refused', async () => {
    const first = await start();
    addFiles(first, 100);
    await first.coordinator.journal.written();
    await stop();
    const old = readFileSync(file('metadata.db'));
    for (let round = 0; round < 2; round++) {
      addFiles(await start(), 100, `r${round}-`);
      await stop();
    }
    writeFileSync(file('metadata.db'), old);
    await expect(start()).rejects.toMatchObject({ code: 'REFUSED', message: expect.stringContaining('missing') });
  });

  it('with a torn end of the journal loses only what was never synced; torn earlier it is refused', async () => {
    const one = await start();
    addFiles(one, 1);
    await one.coordinator.journal.synced();
    addFiles(one, 1, 'g');
    await one.coordinator.journal.synced();
    await stop('crash');
    const segment = file(`journal/${journalFiles().at(-1)}`);
    const good = readFileSync(segment);
    const records: number[] = [];
    for (let at = good.indexOf('HFJ1'); at >= 0; at = good.indexOf('HFJ1', at + 1)) records.push(at);
    expect(records.length).toBeGreaterThanOrEqual(2);
    // The last record: nothing after it says that it was safe.
    await overwrite(segment, (records.at(-1) as number) + 40, Buffer.from('torn'));
    const after = await start();
    expect(after.coordinator.state.table('entries').size).toBe(1);
    await stop('crash');
    rmSync(data, { recursive: true });
    // An earlier one: the records after it know that it was on stable storage.
    const again = await start();
    for (const name of ['a', 'b', 'c']) {
      addFiles(again, 1, name);
      await again.coordinator.journal.synced();
    }
    await stop('crash');
    const other = file(`journal/${journalFiles().at(-1)}`);
    const bytes = readFileSync(other);
    await overwrite(other, bytes.indexOf('HFJ1', bytes.indexOf('HFJ1') + 1) + 40, Buffer.from('damage'));
    await expect(start()).rejects.toMatchObject({ code: 'REFUSED', message: expect.stringContaining('stable storage') });
  });

  it('with a truncated database is refused', async () => {
    addFiles(await start(), 500);
    await stop();
    truncateSync(file('metadata.db'), Math.floor(statSync(file('metadata.db')).size / 8192) * 4096);
    await expect(start()).rejects.toMatchObject({ code: 'REFUSED' });
  });

  it('keeps snapshots and trash in the database and in a backup, and takes over a database of before there were any', async () => {
    const one = await start();
    const caller = { client: 'coordinator', user: 'admin', volume: 1, access: 'admin' } as const;
    addFiles(one, 3);
    await stop();
    const file1 = file('metadata.db');
    // As the first version made it.
    await sql(file1, 'DROP TABLE snapshots; DROP TABLE history; DROP TABLE trash; DROP TABLE "treeTasks"; PRAGMA user_version = 1;');
    const two = await start();
    expect(two.coordinator.state.table('entries').size).toBe(3);
    await two.coordinator.history.snapshots.create(caller, 'manual', 'then');
    addFiles(two, 2, 'later');
    two.coordinator.state.transact((tx) => tx.remove('entries', '1/f0'));
    const seen = ({ coordinator }: RunningCoordinator): readonly string[] =>
      coordinator.tree.view.sorted(coordinator.tree.resolve(1, '/.snapshots/then'));
    expect(seen(two)).toEqual(['f0', 'f1', 'f2']);
    await stop();
    expect((await sql<{ user_version: number }>(file1, 'PRAGMA user_version'))[0]?.user_version).toBe(2);
    const three = await start();
    expect(seen(three)).toEqual(['f0', 'f1', 'f2']);
    await (three.coordinator as unknown as { parts: { backup: (c: unknown) => Promise<unknown> } }).parts.backup(three.coordinator);
    const target = join(data, 'restored');
    await restore(file('backup/snapshot.ndjson.gz'), target, { nodeToken: three.nodeToken });
    expect(seen(await start(target))).toEqual(['f0', 'f1', 'f2']);
  });

  it('is rebuilt from a backup, with a higher epoch and the same cluster', async () => {
    const one = await start();
    addFiles(one, 50);
    const { sizeBytes, sha256 } = await (
      one.coordinator as unknown as { parts: { backup: (c: unknown) => Promise<{ sizeBytes: number; sha256: string }> } }
    ).parts.backup(one.coordinator);
    expect(sha256).toMatch(/^[0-9a-f]{64}$/);
    expect(statSync(file('backup/snapshot.ndjson.gz')).size).toBe(sizeBytes);
    const target = join(data, 'restored');
    await restore(file('backup/snapshot.ndjson.gz'), target, { nodeToken: one.nodeToken });
    await expect(restore(file('backup/snapshot.ndjson.gz'), target, { nodeToken: one.nodeToken })).rejects.toMatchObject({
      code: 'REFUSED',
    });
    const restored = await start(target);
    expect(restored.coordinator.state.table('entries').size).toBe(50);
    expect(restored.coordinator.epoch).toBeGreaterThan(one.coordinator.epoch);
    expect([restored.nodeToken, restored.coordinator.cluster]).toEqual([one.nodeToken, one.coordinator.cluster]);
    const cut = readFileSync(file('backup/snapshot.ndjson.gz')).subarray(0, sizeBytes - 100);
    writeFileSync(join(data, 'cut.gz'), cut);
    await expect(restore(join(data, 'cut.gz'), join(data, 'r2'))).rejects.toThrow();
    expect(existsSync(join(data, 'r2'))).toBe(false);
  });
});

describe('listening', () => {
  it('beyond this machine needs TLS or a word, and a free port', async () => {
    await expect(startCoordinator({ data: join(data, 'x'), host: '0.0.0.0', port: 0 })).rejects.toMatchObject({
      code: 'EINVAL',
      message: expect.stringContaining('--insecure'),
    });
    const one = await start();
    const port = Number(new URL(one.url).port);
    await expect(startCoordinator({ data: join(data, 'y'), host: '127.0.0.1', port })).rejects.toMatchObject({
      code: 'EBUSY',
      message: expect.stringContaining('in use'),
    });
  });
});
