/** Two mounts of one cluster: what one does, the other sees, and neither loses what the other wrote. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { FsWorker, type Stat } from './fs-worker.js';
import { type ClusterRig, startClusterMounts, whyNoMount } from './mount-rig.js';

const why = whyNoMount();

describe.skipIf(why !== undefined)(`two mounts${why ? ` (skipped: ${why})` : ''}`, () => {
  let rig: ClusterRig;
  let here: FsWorker;
  let there: FsWorker;

  beforeAll(async () => {
    rig = await startClusterMounts(2);
    here = new FsWorker(rig.mounts[0]!);
    there = new FsWorker(rig.mounts[1]!);
  }, 180_000);
  afterAll(async () => {
    await here?.stop();
    await there?.stop();
    await rig?.stop();
  }, 120_000);

  it('show each other what was closed at the next open, every time', async () => {
    for (let round = 0; round < 50; round++) {
      const [writer, reader] = round % 2 === 0 ? [here, there] : [there, here];
      const text = `round ${round} `.repeat(1 + round * 40);
      await writer.call('writeWhole', 'shared', text);
      expect(await reader.call('whole', 'shared')).toBe(text);
      expect((await reader.stat('shared')).size).toBe(text.length);
    }
  });

  it('show each other new bytes of the same length at the next open', async () => {
    for (let round = 0; round < 30; round++) {
      const text = String(round).padStart(8, '0');
      await here.call('writeWhole', 'same-length', text);
      expect(await there.call('whole', 'same-length')).toBe(text);
    }
  });

  it('show each other new, renamed and removed names at once', async () => {
    for (let round = 0; round < 20; round++) {
      expect(await there.errorOf('lstat', `name-${round}`)).toBe('ENOENT');
      await here.call('writeWhole', `name-${round}`, String(round));
      expect(await there.call('whole', `name-${round}`)).toBe(String(round));
      await here.call('rename', `name-${round}`, `other-${round}`);
      expect(await there.errorOf('whole', `name-${round}`)).toBe('ENOENT');
      expect(await there.call('whole', `other-${round}`)).toBe(String(round));
      await there.call('unlink', `other-${round}`);
      expect(await here.errorOf('whole', `other-${round}`)).toBe('ENOENT');
      expect(await here.call('list', '.')).not.toContain(`other-${round}`);
    }
  });

  it('find a directory under its new name only, and its new attributes, as soon as the other mount has changed them', async () => {
    await here.call('mkdir', 'moved-0');
    await here.call('writeWhole', 'moved-0/inside', 'x');
    for (let round = 0; round < 25; round++) {
      const [mover, looker] = round % 2 === 0 ? [here, there] : [there, here];
      // From now on the kernel there may find the directory by itself.
      expect(await looker.call('whole', `moved-${round}/inside`)).toBe('x');
      expect((await looker.stat(`moved-${round}`)).mode).toBe(round === 0 ? 0o755 : 0o700 + ((round - 1) % 8));
      await mover.call('rename', `moved-${round}`, `moved-${round + 1}`);
      expect(await looker.errorOf('whole', `moved-${round}/inside`)).toBe('ENOENT');
      await mover.call('chmod', `moved-${round + 1}`, 0o700 + (round % 8));
      expect((await looker.stat(`moved-${round + 1}`)).mode).toBe(0o700 + (round % 8));
    }
  });

  it('M5 agree on one winner of O_EXCL', async () => {
    for (let round = 0; round < 50; round++) {
      const outcomes = await Promise.all(
        [here, there].map((worker) => worker.errorOf('open', 'x', `lock-${round}`, 'O_WRONLY|O_CREAT|O_EXCL')),
      );
      expect([...outcomes].sort()).toEqual(['EEXIST', null].sort());
      await (outcomes[0] === null ? here : there).call('close', 'x');
    }
  });

  it('exclude each other by flock, and what the last holder wrote is there', async () => {
    const times = 200;
    await Promise.all([here.call('countUp', 'counter', times), there.call('countUp', 'counter', times)]);
    expect(await here.call('whole', 'counter')).toBe(String(2 * times));
    expect(await there.call('whole', 'counter')).toBe(String(2 * times));
  });

  it('let a waiting flock in when the other mount lets go', async () => {
    await here.call('open', 'f', 'flocked', 'O_RDWR|O_CREAT');
    await there.call('open', 'f', 'flocked', 'O_RDWR|O_CREAT');
    await here.call('flock', 'f', 'write', false);
    expect(await there.errorOf('flock', 'f', 'write', false)).toMatch(/EAGAIN|EWOULDBLOCK/);
    expect(await there.errorOf('flock', 'f', 'read', false)).toMatch(/EAGAIN|EWOULDBLOCK/);
    const waiting = there.start('flock&', 'f', 'write', true);
    await here.call('flock', 'f', 'unlock', false);
    expect((await waiting.outcome).error).toBe(null);
    await here.call('close', 'f');
    await there.call('close', 'f');
  });

  const sortedLines = (text: string): string[] => text.trimEnd().split('\n').sort();
  const lines = (prefix: string, count: number): string[] =>
    Array.from({ length: count }, (_, number) => `${prefix} ${String(number).padStart(6, '0')}`);

  it('keep every line both append under flock', async () => {
    const count = 150;
    await Promise.all([here.call('appendLines', 'log', 'here', count, true), there.call('appendLines', 'log', 'there', count, true)]);
    expect(sortedLines(await here.call<string>('whole', 'log'))).toEqual([...lines('here', count), ...lines('there', count)].sort());
  });

  let journals = 0;
  it('M5 keep every line both append with O_APPEND alone', async () => {
    const count = 1000;
    // A file of its own for each try: lines of the one before would be counted again.
    const journal = `journal-${++journals}`;
    await Promise.all([here.call('appendKeptOpen', journal, 'here', count), there.call('appendKeptOpen', journal, 'there', count)]);
    const expected = [...lines('here', count), ...lines('there', count)].sort();
    expect(sortedLines(await here.call<string>('whole', journal))).toEqual(expected);
    expect(sortedLines(await there.call<string>('whole', journal))).toEqual(expected);
  });

  it('show whole lines only, and all of their own, while both append with O_APPEND', async () => {
    const count = 120;
    const journal = `journal-${++journals}`;
    const wrong = await Promise.all([
      here.call('appendAndLook', journal, 'here', count),
      there.call('appendAndLook', journal, 'there', count),
    ]);
    expect(wrong).toEqual([[], []]);
    const expected = [...lines('here', count), ...lines('there', count)].sort();
    expect(sortedLines(await here.call<string>('whole', journal))).toEqual(expected);
    expect(sortedLines(await there.call<string>('whole', journal))).toEqual(expected);
  });

  it('M6 never see half a file while the other renames new ones over it', async () => {
    const size = 200_000;
    await here.call('replaceOften', 'replaced', 1, size);
    const [, wrong] = await Promise.all([here.call('replaceOften', 'replaced', 100, size), there.call('readOften', 'replaced', 150, size)]);
    expect(wrong).toEqual([]);
  });

  it('M7 keep a file that one has open when the other removes it', async () => {
    await here.call('writeWhole', 'doomed', 'x'.repeat(300_000));
    await there.call('open', 'd', 'doomed', 'O_RDWR');
    await here.call('unlink', 'doomed');
    expect(await there.errorOf('lstat', 'doomed')).toBe('ENOENT');
    expect(await there.call('read', 'd', 10, 299_995)).toBe('xxxxx');
    await there.call('write', 'd', 'still writable', 0);
    await there.call('fsync', 'd');
    expect(await there.call('read', 'd', 14, 0)).toBe('still writable');
    await expect.poll(async () => ((await there.call('fstat', 'd')) as Stat).nlink, { timeout: 10_000 }).toBe(0);
    await there.call('close', 'd');
    expect(await here.call('list', '.')).not.toContain('doomed');
  });

  it('keep an old descriptor on the old file when the other replaces it', async () => {
    await here.call('writeWhole', 'swapped', 'the old file');
    await there.call('open', 's', 'swapped', 'O_RDWR');
    await here.call('writeWhole', 'swapped.new', 'a new one');
    await here.call('rename', 'swapped.new', 'swapped');
    expect(await there.call('read', 's', 100, 0)).toBe('the old file');
    await there.call('ftruncate', 's', 3);
    expect(await there.call('whole', 'swapped')).toBe('a new one');
    expect(await there.call('read', 's', 100, 0)).toBe('the');
    await there.call('close', 's');
  });

  it('see through a mapping what the other wrote, after a new open', async () => {
    await here.call('writeWhole', 'mapped', 'a'.repeat(8192));
    await there.call('open', 'm', 'mapped', 'O_RDWR');
    await there.call('map', 'm', 'm', 8192, true);
    expect(await there.call('mapRead', 'm', 0, 3)).toBe('aaa');
    await there.call('mapWrite', 'm', 4096, 'from there');
    await there.call('mapSync', 'm');
    await there.call('unmap', 'm');
    await there.call('close', 'm');
    expect((await here.call<string>('whole', 'mapped')).slice(4094, 4108)).toBe('aafrom thereaa');
  });
});
