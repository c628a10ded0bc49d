import { describe, expect, it } from 'vitest';
import { FileModel } from './file-model.js';
import { Random } from './random.js';
import { exchange, move, put, remove, removeDirectory, type Tree, type TreeChange, TreeModel } from './tree-model.js';
import { World } from './world.js';

const bytes = (text: string): Buffer => Buffer.from(text);

describe('what a file may hold', () => {
  it('is the last version for its writer, and nothing else', () => {
    const file = new FileModel();
    file.write(0, bytes('aaaa'), 0);
    file.write(2, bytes('bb'), 0);
    expect(file.judge(bytes('aabb'), 'exact')).toBeUndefined();
    expect(file.judge(bytes('aaaa'), 'exact')).toBeDefined();
  });

  it('is anything since the last flush for others, as whole writes', () => {
    const file = new FileModel();
    file.write(0, bytes('aaaa'), 0);
    file.flushedTo(file.mark);
    file.write(0, bytes('bbbb'), 0);
    expect(file.judge(bytes('aaaa'), 'flushed')).toBeUndefined();
    expect(file.judge(bytes('bbbb'), 'flushed')).toBeUndefined();
    expect(file.judge(bytes('aabb'), 'flushed')).toMatch(/no version is whole/);
    expect(file.judge(bytes(''), 'flushed')).toBeDefined();
  });

  it('goes back to the last sync at most after a loss of power', () => {
    const file = new FileModel();
    file.write(0, bytes('aaaa'), 0);
    file.syncedTo(file.mark);
    file.write(0, bytes('bbbb'), 0);
    file.flushedTo(file.mark);
    file.truncate(1, 0);
    expect(file.judge(bytes('aaaa'), 'synced')).toBeUndefined();
    expect(file.judge(bytes('b'), 'synced')).toBeUndefined();
    expect(file.judge(bytes(''), 'synced')).toBeDefined();
    expect(file.judge(bytes('aaaa'), 'flushed')).toMatch(/older version/);
  });

  it('has what was committed after a loss of power on top of what was left, and a lost part only as a whole', () => {
    const file = new FileModel();
    file.write(0, bytes('aaaa'), 0);
    file.syncedTo(file.mark);
    file.truncate(0, 0);
    file.write(0, bytes('bb'), 0, true);
    expect(file.judge(bytes('aaaabb'), 'synced')).toBeDefined();
    file.coordinatorLostPower();
    // The cut is undone, so what is appended goes behind what is there again.
    expect(file.judge(bytes('aaaabb'), 'synced')).toBeUndefined();
    expect(file.judge(bytes('aaaabb'), 'flushed')).toBeDefined();
    expect(file.judge(bytes('bbaa'), 'synced')).toBeDefined();
    file.write(3, bytes('c'), 0);
    file.write(4, bytes('d'), 0);
    expect(file.judge(bytes('aaaad'), 'synced')).toBeUndefined();
    expect(file.judge(bytes('bb\0cd'), 'synced')).toBeUndefined();
    // The last may never have come; two gaps need two losses.
    expect(file.judge(bytes('aaac'), 'synced')).toBeUndefined();
    file.write(5, bytes('e'), 0);
    expect(file.judge(bytes('aaac\0e'), 'synced')).toBeDefined();
    file.coordinatorLostPower();
    expect(file.judge(bytes('aaac\0e'), 'synced')).toBeUndefined();
    file.settleAs(bytes('aa'));
    file.write(2, bytes('b'), 0);
    file.write(3, bytes('c'), 0, true);
    expect(file.judge(bytes('aac'), 'synced')).toBeDefined();
    file.coordinatorLostPower();
    // What was in front of the appended byte is lost.
    expect(file.judge(bytes('aac'), 'synced')).toBeUndefined();
    file.settleAs(bytes('aaaa'));
    file.truncate(0, 0);
    file.write(0, bytes('bb'), 0, true);
    expect(file.judge(bytes('aaaabb'), 'synced')).toBeDefined();
  });

  it('has a copy of what its source holds when that went back', () => {
    const source = new FileModel();
    source.write(0, bytes('xxxx'), 0);
    source.syncedTo(source.mark);
    source.write(0, bytes('yyyy'), 0);
    expect(source.possible()).toEqual([bytes('yyyy')]);
    const file = new FileModel();
    file.write(0, bytes('aaaaaa'), 0);
    file.syncedTo(file.mark);
    source.coordinatorLostPower();
    file.coordinatorLostPower();
    file.copy(1, source.possible(), 0);
    for (const text of ['aaaaaa', 'ayyyya', 'axxxxa']) expect(file.judge(bytes(text), 'synced')).toBeUndefined();
    for (const text of ['axxyya', 'axxxx', 'azzzza']) expect(file.judge(bytes(text), 'synced')).toBeDefined();
    expect(file.judge(bytes('axxxxa'), 'flushed')).toBeDefined();
  });

  it('has appended bytes at the end of what a loss of power left, without a hole for what was lost', () => {
    const file = new FileModel();
    file.write(0, bytes('aaaa'), 0);
    file.flushedTo(file.mark);
    file.write(4, bytes('bb'), 0, true);
    expect(file.judge(bytes('bb'), 'synced')).toBeDefined();
    file.coordinatorLostPower();
    expect(file.judge(bytes('bb'), 'synced')).toBeUndefined();
    expect(file.judge(bytes('\0\0\0\0bb'), 'synced')).toBeDefined();
  });

  it('may show a write over the edge of a chunk up to the edge', () => {
    const file = new FileModel(4);
    file.write(2, bytes('abcd'), 0);
    expect(file.judge(bytes('\0\0ab'), 'flushed')).toBeUndefined();
    expect(file.judge(bytes('\0\0abc'), 'flushed')).toBeDefined();
    expect(file.judge(bytes('\0\0ab'), 'exact')).toBeDefined();
  });

  it('may show a full first chunk as of a later write before the rest of an older one', () => {
    const file = new FileModel(4);
    file.write(1, bytes('abcde'), 0);
    file.write(0, bytes('xy'), 0);
    expect(file.judge(bytes('xybc'), 'flushed')).toBeUndefined();
    expect(file.judge(bytes('x\0bc'), 'flushed')).toBeDefined();
    expect(file.judge(bytes('xyb'), 'flushed')).toBeDefined();
    expect(file.judge(bytes('xybc'), 'exact')).toBeDefined();
    file.flushedTo(file.mark);
    expect(file.judge(bytes('xybc'), 'flushed')).toBeDefined();
  });

  it('may show a whole chunk behind a hole before the rest of the write', () => {
    const file = new FileModel(4);
    file.write(0, bytes('ab'), 0);
    file.flushedTo(file.mark);
    file.write(1, bytes('cdefghij'), 0);
    expect(file.judge(bytes('ab\0\0fghi'), 'flushed')).toBeUndefined();
    expect(file.judge(bytes('ac\0\0fghi'), 'flushed')).toBeDefined();
    expect(file.judge(bytes('ab\0\0fg\0\0'), 'flushed')).toBeDefined();
    expect(file.judge(bytes('ab\0\0'), 'flushed')).toBeDefined();
    expect(file.judge(bytes('ab\0\0fghi'), 'exact')).toBeDefined();
    file.flushedTo(file.mark);
    expect(file.judge(bytes('ab\0\0fghi'), 'flushed')).toBeDefined();
  });

  it('keeps a mark right when older versions are forgotten meanwhile', () => {
    const file = new FileModel();
    file.write(0, bytes('a'), 0);
    const mark = file.mark;
    file.write(0, bytes('b'), 0);
    file.syncedTo(mark);
    expect(file.judge(bytes('a'), 'synced')).toBeUndefined();
    expect(file.judge(bytes('b'), 'exact')).toBeUndefined();
    expect(file.judge(bytes(''), 'synced')).toBeDefined();
    file.punch(0, 1, 0);
    expect(file.judge(Buffer.alloc(1), 'exact')).toBeUndefined();
  });
});

describe('what names there may be', () => {
  const file = () => ({ kind: 'file', file: new FileModel() }) as const;
  const putFile = (path = ''): TreeChange => put(path, file());
  const names = (trees: readonly Tree[]): string[] => trees.map((tree) => [...tree.keys()].sort().join(' ')).sort();

  it('are exactly the answered ones, with and without each unanswered one', () => {
    const model = new TreeModel();
    model.answered(putFile, ['/a']);
    model.unanswered(putFile, ['/b']);
    model.answered(putFile, ['/c']);
    expect(names(model.candidates())).toEqual(['/a /b /c', '/a /c']);
    expect(model.isPoisoned('/b')).toBe(true);
    expect(model.isPoisoned('/b/x')).toBe(true);
    expect(model.isPoisoned('/c')).toBe(false);
  });

  it('may go back in order, but not behind the last sync, when the coordinator loses power', () => {
    const model = new TreeModel();
    model.answered(putFile, ['/a']);
    const mark = model.mark;
    model.answered(putFile, ['/b']);
    model.answered(putFile, ['/c']);
    model.durableTo(mark);
    model.powerLost();
    expect(names(model.candidates())).toEqual(['/a', '/a /b', '/a /b /c']);
    // Asked before the loss, answered never: on top of any of them.
    model.unanswered(remove, ['/a']);
    expect(names(model.candidates())).toEqual(['', '/a', '/a /b', '/a /b /c', '/b', '/b /c']);
  });

  it('that were lost are not brought back by a sync of what came after', () => {
    const model = new TreeModel();
    const kept = file();
    model.answered((path = '') => put(path, kept), ['/a']);
    model.durableTo(model.mark);
    model.answered(move, ['/a', '/b']);
    model.powerLost();
    model.answered(putFile, ['/c']);
    model.durableTo(model.mark);
    expect(names(model.candidates())).toContain('/a /c');
  });

  it('are made where their directory is then, when it has gone back to its old name while they waited', () => {
    const model = new TreeModel();
    const [directory, made] = [{ kind: 'directory' } as const, file()];
    model.answered((path = '') => put(path, directory), ['/d']);
    model.durableTo(model.mark);
    model.answered(move, ['/d', '/e']);
    model.powerLost();
    model.answered((path = '') => put(path, made), ['/e/f']);
    expect(names(model.candidates())).toEqual(['/d', '/d /d/f', '/e', '/e /e/f']);
  });

  it('may let a change happen that does not fit the current ones, when they went back while it waited', () => {
    const model = new TreeModel();
    const [lost, kept] = [file(), file()];
    model.answered((path = '') => put(path, kept), ['/a']);
    model.answered((path = '') => put(path, lost), ['/f']);
    model.answered(remove, ['/a']);
    model.durableTo(model.mark);
    model.answered(remove, ['/f']);
    const isThere = (tree: Tree, path = ''): boolean => tree.has(path);
    expect(model.mayHaveBeen(['/f'], isThere)).toBe(false);
    model.powerLost();
    expect(model.mayHaveBeen(['/f'], isThere)).toBe(true);
    // What was synced stays gone.
    expect(model.mayHaveBeen(['/a'], isThere)).toBe(false);
    model.answered(remove, ['/f']);
    expect(names(model.candidates())).toEqual(['', '/f']);
  });

  it('move with everything below them, and change places', () => {
    const one = file();
    let tree: Tree = new Map();
    tree = put('/d', { kind: 'directory' })(tree);
    tree = put('/d/x', one)(tree);
    tree = move('/d', '/e')(tree);
    expect([...tree.keys()].sort()).toEqual(['/e', '/e/x']);
    expect(tree.get('/e/x')).toBe(one);
    expect(put('/no/x', one)(tree)).toBe(tree);
    expect(removeDirectory('/e')(tree)).toBe(tree);
    expect(remove('/e')(tree)).toBe(tree);
    expect(put('/e/x', file())(tree)).toBe(tree);
    expect(move('/e', '/e/y')(tree)).toBe(tree);
    expect(move('/e/x', '/e')(tree)).toBe(tree);
    const linked = put('/z', one)(tree);
    expect(move('/e/x', '/z')(linked)).toBe(linked);
    expect([...removeDirectory('/e')(remove('/e/x')(tree)).keys()]).toEqual([]);
    const two = file();
    tree = exchange('/e/x', '/y')(put('/y', two)(tree));
    expect(tree.get('/y')).toBe(one);
    expect(tree.get('/e/x')).toBe(two);
  });
});

describe('the simulated world', () => {
  it('lets events come in order of time, and gives promises their turn in between', async () => {
    const world = new World(1);
    const seen: string[] = [];
    world.schedule(20, '', () => seen.push('late'));
    world.schedule(10, '', () => {
      void Promise.resolve()
        .then(() => {})
        .then(() => seen.push('promise'));
    });
    const cancelled = world.schedule(15, '', () => seen.push('never'));
    cancelled.cancel();
    await world.runFor(30);
    expect(seen).toEqual(['promise', 'late']);
    expect(world.nowMs).toBe(1_000_030);
  });

  it('draws the same chance from the same seed', () => {
    const draw = (seed: number): number[] => {
      const random = new Random(seed);
      return Array.from({ length: 20 }, () => random.int(1000));
    };
    expect(draw(5)).toEqual(draw(5));
    expect(draw(5)).not.toEqual(draw(6));
  });
});
