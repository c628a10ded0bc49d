import { describe, expect, it } from 'vitest';
import { Opcode, SetAttribute } from './kernel-protocol.js';
import { mayAccess, NOBODY, needsOf } from './root-squash.js';

const request = (opcode: number, words: readonly number[] = []) => ({
  opcode,
  node: 7,
  u32: (at: number) => words[at] ?? 0,
  u64: (at: number) => words[at] ?? 0,
});

describe('root that is nobody', () => {
  it('has the bits of owner, group or others, and of one of these only', () => {
    const file = { uid: 1000, gid: 1000, mode: 0o604 };
    expect(mayAccess(file, NOBODY, 4)).toBe(true);
    expect(mayAccess(file, NOBODY, 6)).toBe(false);
    expect(mayAccess({ ...file, gid: NOBODY.gid }, NOBODY, 4)).toBe(false);
    expect(mayAccess({ ...file, uid: NOBODY.uid }, NOBODY, 6)).toBe(true);
    expect(mayAccess({ ...file, uid: NOBODY.uid, mode: 0o077 }, NOBODY, 4)).toBe(false);
  });
  it('needs of each call what everybody needs', () => {
    expect(needsOf(request(Opcode.LOOKUP))).toEqual([{ node: 7, bits: 1 }]);
    expect(needsOf(request(Opcode.OPEN, [0]))).toEqual([{ node: 7, bits: 4 }]);
    expect(needsOf(request(Opcode.OPEN, [1]))).toEqual([{ node: 7, bits: 2 }]);
    expect(needsOf(request(Opcode.OPEN, [2]))).toEqual([{ node: 7, bits: 6 }]);
    expect(needsOf(request(Opcode.OPEN, [0o1000]))).toEqual([{ node: 7, bits: 6 }]);
    expect(needsOf(request(Opcode.RENAME, [9]))).toEqual([
      { node: 7, bits: 3 },
      { node: 9, bits: 3 },
    ]);
    expect(needsOf(request(Opcode.SETATTR, [SetAttribute.MODE]))).toEqual([{ node: 7, isOwner: true }]);
    expect(needsOf(request(Opcode.SETATTR, [SetAttribute.SIZE]))).toEqual([{ node: 7, bits: 2 }]);
    expect(needsOf(request(Opcode.SETATTR, [SetAttribute.SIZE | SetAttribute.HANDLE]))).toEqual([]);
    expect(needsOf(request(Opcode.SETATTR, [SetAttribute.MTIME | SetAttribute.MTIME_NOW]))).toEqual([{ node: 7, bits: 2 }]);
    expect(needsOf(request(Opcode.SETATTR, [SetAttribute.MTIME]))).toEqual([{ node: 7, isOwner: true }]);
    for (const open of [Opcode.READ, Opcode.WRITE, Opcode.FSYNC, Opcode.READDIR, Opcode.GETATTR])
      expect(needsOf(request(open))).toEqual([]);
  });
});
