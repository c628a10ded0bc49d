/** How a mount begins and ends: what it refuses, what it takes over, what it saves when it is told to stop. */
import { spawn } from 'node:child_process';
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { isMounted } from '../scripts/mounts.js';
import { FsWorker } from './fs-worker.js';
import { type ClusterRig, MountProcess, startClusterMounts, whyNoMount } from './mount-rig.js';

const why = whyNoMount();

describe.skipIf(why !== undefined)(`a mount${why ? ` (skipped: ${why})` : ''}`, () => {
  let rig: ClusterRig;
  let nextDirectory = 1;

  beforeAll(async () => {
    rig = await startClusterMounts(1);
  }, 180_000);
  afterAll(async () => {
    await rig?.stop();
  }, 120_000);

  const directory = (): string => {
    const path = join(rig.directory, `life${nextDirectory++}`);
    mkdirSync(path);
    return path;
  };
  /** Starts a mount that must end by itself. */
  async function refused(mountpoint: string, change: (args: string[]) => string[] = (args) => args, env: NodeJS.ProcessEnv = {}) {
    const attempt = new MountProcess(change(rig.mountArguments(mountpoint)), mountpoint, env);
    try {
      const code = await attempt.ended(60_000);
      return { code, output: attempt.output };
    } finally {
      await attempt.stop();
    }
  }
  const replaceOption = (option: string, value: string) => (args: string[]) =>
    args.map((one, index) => (args[index - 1] === option ? value : one));

  it('M8 refuses with one line and exit code 2 what cannot work', async () => {
    const notEmpty = directory();
    writeFileSync(join(notEmpty, 'something'), '');
    const file = join(rig.directory, 'a-file');
    writeFileSync(file, '');
    const badToken = join(rig.directory, 'bad-token');
    writeFileSync(badToken, `${'0'.repeat(64)}\n`);
    const plain = directory();
    const tokenInside = directory();
    const inner = join(rig.mounts[0]!, 'inner');
    const maker = new FsWorker(rig.mounts[0]!);
    await maker.call('mkdir', 'inner');
    await maker.stop();
    const link = join(rig.directory, 'link-to-inner');
    symlinkSync(inner, link);

    const cases: [string, RegExp, () => Promise<{ code: number | null; output: string }>][] = [
      ['no such directory', /no such directory/, () => refused(join(rig.directory, 'nowhere'))],
      ['not empty', /not empty \(it holds something\)/, () => refused(notEmpty)],
      ['a file', /not a directory/, () => refused(file)],
      ['in use', /in use by another mount/, () => refused(rig.mounts[0]!)],
      ['inside a mount', /inside another Holdfast mount/, () => refused(inner)],
      ['inside a mount through a symlink', /inside another Holdfast mount/, () => refused(link)],
      ['wrong token', /refused the token/, () => refused(plain, replaceOption('--token-file', badToken))],
      ['no token file', /cannot read the token file/, () => refused(plain, replaceOption('--token-file', join(rig.directory, 'none')))],
      [
        'ready file inside',
        /lies inside the mountpoint/,
        () => refused(tokenInside, (args) => [...args, '--ready-file', join(tokenInside, 'ready')]),
      ],
      ['no such volume', /nonesuch/, () => refused(plain, (args) => [...args, '--volume', 'nonesuch'])],
      ['no coordinator', /no coordinator answers/, () => refused(plain, replaceOption('--coordinator', 'http://127.0.0.1:9'))],
      ['no fusermount3', /fusermount3 is missing/, () => refused(plain, undefined, { PATH: '/nonexistent' })],
      ['unknown option', /unknown option/, () => refused(plain, (args) => [...args, '--frobnicate'])],
    ];
    for (const [title, message, outcome] of cases) {
      const { code, output } = await outcome();
      expect(output, title).toMatch(message);
      expect(code, `${title}: ${output}`).toBe(2);
      expect(output.trimEnd().split('\n').length, output).toBeLessThanOrEqual(2);
      expect(output).not.toContain('0'.repeat(64));
    }
  }, 180_000);

  it('refuses every change when read-only, and reads', async () => {
    const first = new FsWorker(rig.mounts[0]!);
    await first.call('writeWhole', 'to-read', 'text');
    await first.stop();
    const mountpoint = directory();
    const mount = new MountProcess([...rig.mountArguments(mountpoint), '--read-only'], mountpoint);
    const worker = await mount.ready().then(() => new FsWorker(mountpoint));
    try {
      expect(await worker.call('whole', 'to-read')).toBe('text');
      for (const call of [
        ['writeWhole', 'to-read', 'x'],
        ['mkdir', 'd'],
        ['unlink', 'to-read'],
        ['chmod', 'to-read', 0o600],
        ['truncate', 'to-read', 0],
        ['setxattr', 'to-read', 'user.a', 'b'],
      ] as [string, ...unknown[]][]) {
        expect(await worker.errorOf(...call), call[0]).toBe('EROFS');
      }
    } finally {
      await worker.stop();
      await mount.stop();
    }
  });

  it('M2 saves what is written but not closed when it gets SIGTERM, and names who was in the way', async () => {
    const mountpoint = directory();
    const mount = new MountProcess(rig.mountArguments(mountpoint), mountpoint);
    await mount.ready();
    const worker = new FsWorker(mountpoint);
    try {
      await worker.call('open', 'u', 'unclosed', 'O_RDWR|O_CREAT');
      await worker.call('write', 'u', 'x'.repeat(3_000_000), 0);
      mount.signal('SIGTERM');
      expect(await mount.ended()).toBe(0);
      expect(mount.output).toMatch(/was in use by process \d+/);
      expect(isMounted(mountpoint)).toBe(false);
    } finally {
      await worker.stop();
      await mount.stop();
    }
    const reader = new FsWorker(rig.mounts[0]!);
    try {
      expect((await reader.stat('unclosed')).size).toBe(3_000_000);
      expect(await reader.call('whole', 'unclosed')).toBe('x'.repeat(3_000_000));
    } finally {
      await reader.stop();
    }
  });

  it('M1 killed with kill -9 leaves nothing hanging, keeps what was synced, and the next mount takes its place', async () => {
    const mountpoint = directory();
    const killed = new MountProcess(rig.mountArguments(mountpoint), mountpoint);
    await killed.ready();
    const worker = new FsWorker(mountpoint);
    await worker.call('open', 's', 'synced', 'O_RDWR|O_CREAT');
    await worker.call('write', 's', 'must stay', 0);
    await worker.call('fsync', 's');
    killed.signal('SIGKILL');
    expect(await killed.ended()).toBe(null);
    expect(await worker.errorOf('write', 's', 'x', 0)).toMatch(/ENOTCONN|ECONNABORTED|EIO/);
    await worker.stop();
    const next = new MountProcess(rig.mountArguments(mountpoint), mountpoint);
    try {
      await next.ready();
      const reader = new FsWorker(mountpoint);
      expect(await reader.call('whole', 'synced')).toBe('must stay');
      await reader.stop();
    } finally {
      await next.stop();
    }
  });

  it('ends by itself when somebody unmounts it', async () => {
    const mountpoint = directory();
    const mount = new MountProcess(rig.mountArguments(mountpoint), mountpoint);
    await mount.ready();
    const worker = new FsWorker(mountpoint);
    await worker.call('writeWhole', 'before-umount', 'saved');
    await worker.stop();
    const umount = spawn('fusermount3', ['-u', mountpoint], { stdio: 'ignore' });
    expect(await new Promise((resolve) => umount.on('exit', resolve))).toBe(0);
    expect(await mount.ended()).toBe(0);
    await mount.stop();
  });
});
