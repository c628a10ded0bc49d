import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { withRange } from '../protocol/lock-ranges.js';
import { CoordinatorRig, type RigClient } from '../test/coordinator-rig.js';
import { FakeEnvironment, settle } from '../test/fake-environment.js';
import type { LockRow } from './rows.js';

const posix = (inode: number, kind: 'read' | 'write' | 'unlock', start: number, length: number, owner = '1') =>
  ({ inode, family: 'posix', owner, pid: 42, kind, start, length }) as const;
const flock = (inode: number, kind: 'read' | 'write' | 'unlock', owner = '1') =>
  ({ inode, family: 'flock', owner, pid: 42, kind, start: 0, length: 0 }) as const;

async function two(): Promise<{ rig: CoordinatorRig; environment: FakeEnvironment; a: RigClient; b: RigClient; inode: number }> {
  const environment = new FakeEnvironment();
  const rig = await new CoordinatorRig(environment).start();
  const a = await rig.client();
  const b = await rig.client();
  return { rig, environment, a, b, inode: await a.create(a.root, 'x') };
}

describe('ranges', () => {
  it('are split, joined and replaced as a byte-by-byte model says', () => {
    const step = fc.record({
      kind: fc.constantFrom('read', 'write', undefined),
      start: fc.nat(20),
      length: fc.integer({ min: 1, max: 12 }),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 20 }), (steps) => {
        let ranges: LockRow['ranges'] = [];
        const model: (string | undefined)[] = Array.from({ length: 40 });
        for (const { kind, start, length } of steps) {
          ranges = withRange(ranges, kind, start, start + length);
          model.fill(kind, start, start + length);
          const bytes: (string | undefined)[] = Array.from({ length: 40 });
          for (const [i, range] of ranges.entries()) {
            bytes.fill(range.kind, range.start, range.end);
            const next = ranges[i + 1];
            if (next) expect(range.end < next.start || (range.end === next.start && range.kind !== next.kind)).toBe(true);
          }
          expect(bytes).toEqual(model);
        }
      }),
    );
  });
});

describe('locks', () => {
  it('of readers agree, of a writer with nobody else', async () => {
    const { a, b, inode } = await two();
    await a.call('lock', flock(inode, 'read'));
    await b.call('lock', flock(inode, 'read'));
    await expect(a.call('lock', flock(inode, 'write'))).rejects.toMatchObject({ code: 'EAGAIN' });
    await b.call('lock', flock(inode, 'unlock'));
    await a.call('lock', flock(inode, 'write'));
    await expect(a.call('lock', flock(inode, 'read', '2'))).rejects.toMatchObject({ code: 'EAGAIN' });
    await b.call('lock', posix(inode, 'write', 0, 0));
  });
  it('of byte ranges conflict where they overlap', async () => {
    const { a, b, inode } = await two();
    await a.call('lock', posix(inode, 'write', 10, 10));
    await b.call('lock', posix(inode, 'write', 0, 10));
    await b.call('lock', posix(inode, 'write', 20, 0));
    await expect(b.call('lock', posix(inode, 'read', 19, 1))).rejects.toMatchObject({ code: 'EAGAIN' });
    expect((await b.call('testLock', posix(inode, 'write', 0, 0))).conflict).toEqual({ kind: 'write', start: 10, length: 10, pid: 42 });
    await a.call('lock', posix(inode, 'unlock', 12, 4));
    await b.call('lock', posix(inode, 'read', 12, 4));
    expect((await a.call('testLock', posix(inode, 'write', 30, 5))).conflict).toEqual({ kind: 'write', start: 20, length: 0, pid: 42 });
    expect((await b.call('testLock', posix(inode, 'write', 12, 4))).conflict).toBeNull();
  });
  it('that get free are told to whoever met them, once', async () => {
    const { a, b, inode } = await two();
    await a.call('lock', flock(inode, 'write'));
    await expect(b.call('lock', flock(inode, 'read'))).rejects.toMatchObject({ code: 'EAGAIN' });
    await a.call('dropLocks', { inode, family: 'flock', owner: '1' });
    await settle();
    expect(b.pushes).toEqual([{ topic: 'unlocked', data: [inode] }]);
    await b.call('lock', flock(inode, 'read'));
    await a.call('dropLocks', { inode, family: 'flock', owner: '1' });
    expect(a.pushes).toEqual([]);
  });
  it('survive a restart of the coordinator and end with their session', async () => {
    const { rig, environment, a, b, inode } = await two();
    await a.call('lock', flock(inode, 'write'));
    rig.crash();
    await rig.start();
    await b.connect();
    await environment.advance(2000);
    await expect(b.call('lock', flock(inode, 'write'))).rejects.toMatchObject({ code: 'EAGAIN' });
    await environment.advance(60_000);
    expect(b.pushes).toEqual([{ topic: 'unlocked', data: [inode] }]);
    await b.call('lock', flock(inode, 'write'));
  });
});
