/** An encrypted cluster of processes, as scripts/up makes it: what lies on its disks, and how people use its key. */
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { LocalCluster, programFile } from '../scripts/cluster.js';
import { type Ended, runProgram } from './run-program.js';

const MARKER = 'HOLDFAST-PLAINTEXT-MARKER';
let directory: string;
let cluster: LocalCluster;
const local = (name: string): string => join(directory, name);
const holdfast = (...args: string[]): Promise<Ended> =>
  runProgram(process.execPath, [programFile, ...args], { env: { HOLDFAST_STATE: cluster.stateDirectory } });
async function succeeds(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await holdfast(...args);
  expect({ code, stderr: code === 0 ? '' : stderr }, args.join(' ')).toEqual({ code: 0, stderr: '' });
  return stdout;
}
/** Files below the state directory (disks of nodes, journal and database of the coordinator, logs) that hold the bytes. */
function filesWith(bytes: string): string[] {
  for (let attempt = 1; ; attempt++) {
    try {
      return readdirSync(cluster.stateDirectory, { recursive: true, withFileTypes: true })
        .filter((entry) => entry.isFile() && readFileSync(join(entry.parentPath, entry.name)).includes(bytes))
        .map((entry) => entry.name);
    } catch (error) {
      // A running cluster renames files: what is gone may lie under another name.
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT' || attempt === 100) throw error;
    }
  }
}

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'hf-crypt-'));
  cluster = await LocalCluster.create(join(directory, 'state'), { nodes: 2, copies: 2, port: 0, mount: null, isEncrypted: true });
  await cluster.start();
  writeFileSync(local('letter'), Buffer.concat([Buffer.from(`${MARKER}\n`), randomBytes(2_000_000), Buffer.from(`\n${MARKER}`)]));
}, 240_000);
afterAll(async () => {
  await cluster?.purge();
  rmSync(directory, { recursive: true, force: true });
}, 120_000);

describe('an encrypted cluster', () => {
  it('keeps its key for its owner alone, and no plaintext anywhere, also after a restart', async () => {
    expect(statSync(cluster.volumeKeyFile).mode & 0o777).toBe(0o600);
    await succeeds('upload', local('letter'), '/');
    // A clean stop writes everything that was still in memory.
    await cluster.stop();
    expect(filesWith(MARKER)).toEqual([]);
    // So the search would find what is there: names are not hidden.
    expect(filesWith('letter').length).toBeGreaterThan(0);
    await cluster.start();
    await succeeds('download', '/letter', '--output', local('back'));
    expect(readFileSync(local('back')).equals(readFileSync(local('letter')))).toBe(true);
  });

  it('refuses another key and no key by a clear word, lists all the same, and changes nothing', async () => {
    rmSync(local('other.key'), { force: true });
    await succeeds('volume', 'key', local('other.key'));
    const wrong = await holdfast('upload', local('letter'), '/new', '--key-file', local('other.key'));
    expect(wrong).toMatchObject({ code: 8, stderr: expect.stringContaining('does not open with this key file') });
    const address = ['--coordinator', cluster.url, '--token-file', cluster.adminTokenFile];
    const none = await holdfast('cat', '/letter', ...address);
    expect(none).toMatchObject({ code: 8, stdout: '', stderr: expect.stringContaining('is encrypted: give its key') });
    expect(await succeeds('list', ...address)).toBe('letter\n');
    mkdirSync(local('mnt'), { recursive: true });
    const mounted = await holdfast('mount', local('mnt'), '--key-file', local('other.key'));
    // A machine without FUSE refuses before it asks anybody.
    const why = existsSync('/dev/fuse') ? 'does not open with this key file' : 'fuse';
    expect(mounted).toMatchObject({ code: 2, stderr: expect.stringContaining(why) });
    const rekeyed = await holdfast('volume', 'rekey', 'main', '--key-file', local('other.key'), '--new-key-file', local('new.key'));
    expect(rekeyed).toMatchObject({ code: 8, stderr: expect.stringContaining('does not open with this key file') });
    expect(readdirSync(directory)).not.toContain('new.key');
  });

  it('has other encrypted volumes, by passphrase, and rekeys them without writing their data again', async () => {
    const name = `letters-${randomBytes(4).toString('hex')}`;
    writeFileSync(local('words'), 'five words are quite enough\n');
    writeFileSync(local('more'), 'other words are good too\n');
    await succeeds('volume', 'create', name, '--encrypt', '--passphrase-file', local('words'));
    await succeeds('upload', local('letter'), '/', '--volume', name, '--passphrase-file', local('words'));
    const before = await cluster.status();
    await succeeds('volume', 'rekey', name, '--passphrase-file', local('words'), '--new-passphrase-file', local('more'));
    expect((await cluster.status()).chunks.total).toBe(before.chunks.total);
    expect((await succeeds('cat', '/letter', '--volume', name, '--passphrase-file', local('more'))).startsWith(MARKER)).toBe(true);
    expect(filesWith(MARKER)).toEqual([]);
    expect(filesWith('words are')).toEqual([]);
  });
});
