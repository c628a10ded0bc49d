import { beforeEach, describe, expect, it } from 'vitest';
import type { ErrorCode } from '../protocol/errors.js';
import { CoordinatorRig, type RigClient, ROOT_USER } from '../test/coordinator-rig.js';
import { FakeEnvironment } from '../test/fake-environment.js';

let environment: FakeEnvironment;
let rig: CoordinatorRig;
let client: RigClient;
let root: number;

beforeEach(async () => {
  environment = new FakeEnvironment();
  rig = await new CoordinatorRig(environment).start();
  client = await rig.client();
  root = client.root;
});

const fails = async (code: ErrorCode, call: Promise<unknown>): Promise<void> => {
  await expect(call).rejects.toMatchObject({ code });
};

describe('names', () => {
  it('have at most 255 bytes, not characters', async () => {
    await client.create(root, 'a'.repeat(255));
    await fails('ENAMETOOLONG', client.create(root, 'a'.repeat(256)));
    await client.create(root, '€'.repeat(85));
    await fails('ENAMETOOLONG', client.create(root, '€'.repeat(86)));
    await fails('ENAMETOOLONG', client.call('lookup', { parent: root, name: 'é'.repeat(128) }));
  });
  it('hold neither slash nor NUL, and nothing that is no UTF-8', async () => {
    await fails('EINVAL', client.create(root, 'a/b'));
    await fails('EINVAL', client.create(root, 'a\0b'));
    await fails('EILSEQ', client.create(root, 'a\ufffd'));
    await fails('EILSEQ', client.create(root, 'a\ud800b'));
    await client.create(root, 'new\nline \x1b[31m ‮ 😀');
    expect(await client.names(root)).toEqual(['new\nline \x1b[31m ‮ 😀']);
  });
  it('are the same only when their bytes are', async () => {
    await client.create(root, 'e\u0301');
    await client.create(root, '\u00e9');
    await client.create(root, 'A');
    await client.create(root, 'a');
    expect((await client.names(root)).length).toBe(4);
  });
  it('"." and ".." give each call its own error', async () => {
    await fails('EEXIST', client.mkdir(root, '.'));
    await fails('EINVAL', client.call('removeDirectory', { parent: root, name: '.' }));
    await fails('ENOTEMPTY', client.call('removeDirectory', { parent: root, name: '..' }));
    await fails('EISDIR', client.call('unlink', { parent: root, name: '..', keepOpen: false }));
    await fails('EBUSY', client.rename(root, '.', root, 'b'));
    expect((await client.call('lookup', { parent: root, name: '..' })).attributes?.inode).toBe(root);
  });
});

describe('create', () => {
  it('makes every kind with owner, mode and times', async () => {
    for (const kind of ['file', 'fifo', 'socket', 'char', 'block'] as const) {
      const inode = await client.create(root, kind, { kind, mode: 0o4751, as: { uid: 5, gid: 6 }, rdev: 259 });
      expect(await client.attributes(inode)).toMatchObject({
        kind,
        mode: 0o4751,
        uid: 5,
        gid: 6,
        nlink: 1,
        sizeBytes: 0,
        rdev: kind === 'char' || kind === 'block' ? 259 : 0,
      });
    }
  });
  it('moves times and change counter of the directory', async () => {
    const before = await client.attributes(root);
    await environment.advance(1500);
    await client.create(root, 'a');
    const after = await client.attributes(root);
    expect(after.change).toBe(before.change + 1);
    expect(after.mtimeS * 1e9 + after.mtimeNs).toBeGreaterThan(before.mtimeS * 1e9 + before.mtimeNs);
    expect(after.ctimeNs).toBe(after.mtimeNs);
    expect(after.atimeS).toBe(before.atimeS);
  });
  it('answers an existing file only when it need not be new', async () => {
    const inode = await client.create(root, 'a');
    const again = await client.call('create', { parent: root, name: 'a', kind: 'file', mode: 0, as: ROOT_USER, exclusive: false });
    expect(again).toMatchObject({ isNew: false, attributes: { inode } });
    await fails('EEXIST', client.create(root, 'a'));
    await client.mkdir(root, 'd');
    await fails('EISDIR', client.create(root, 'd', { exclusive: false }));
    await fails('EEXIST', client.mkdir(root, 'a', { exclusive: false }));
  });
  it('needs a directory that is there', async () => {
    const file = await client.create(root, 'file');
    await fails('ENOTDIR', client.create(file, 'x'));
    await fails('ENOENT', client.create(99_999, 'x'));
    const directory = await client.mkdir(root, 'd');
    await client.call('removeDirectory', { parent: root, name: 'd' });
    await fails('ESTALE', client.create(directory, 'x'));
  });
  it('takes the group of a set-group-id directory, and directories take the bit', async () => {
    const shared = await client.mkdir(root, 'shared', { mode: 0o2775, as: { uid: 0, gid: 77 } });
    expect(await client.attributes(await client.create(shared, 'f', { as: { uid: 1, gid: 1 } }))).toMatchObject({ gid: 77, mode: 0o644 });
    expect(await client.attributes(await client.mkdir(shared, 'd', { as: { uid: 1, gid: 1 } }))).toMatchObject({ gid: 77, mode: 0o2755 });
  });
  it('checks targets of symbolic links', async () => {
    const inode = await client.create(root, 'l', { kind: 'symlink', target: 'é/../x' });
    expect(await client.attributes(inode)).toMatchObject({ target: 'é/../x', sizeBytes: 7, mode: 0o777 });
    await client.create(root, 'long', { kind: 'symlink', target: 'x'.repeat(4095) });
    await fails('ENAMETOOLONG', client.create(root, 'longer', { kind: 'symlink', target: 'x'.repeat(4096) }));
    await fails('ENOENT', client.create(root, 'empty', { kind: 'symlink', target: '' }));
    await fails('EILSEQ', client.create(root, 'bad', { kind: 'symlink', target: '\ufffd' }));
  });
  it('stops at the quota of files', async () => {
    rig.coordinator.state.transact((tx) => tx.put('volumes', 1, { ...client.welcome.volume, quotaFiles: 2 }));
    await client.create(root, 'a');
    await client.create(root, 'b');
    await fails('EDQUOT', client.create(root, 'c'));
    await client.call('unlink', { parent: root, name: 'a', keepOpen: false });
    await client.create(root, 'c');
  });
});

describe('directories', () => {
  it('count their subdirectories as links', async () => {
    const d = await client.mkdir(root, 'd');
    expect((await client.attributes(d)).nlink).toBe(2);
    await client.mkdir(d, 'e');
    await client.create(d, 'f');
    expect((await client.attributes(d)).nlink).toBe(3);
    await client.call('removeDirectory', { parent: d, name: 'e' });
    expect((await client.attributes(d)).nlink).toBe(2);
    expect((await client.attributes(root)).nlink).toBe(3);
  });
  it('are removed only when empty, by their own call', async () => {
    const d = await client.mkdir(root, 'd');
    await client.create(d, 'f');
    await fails('ENOTEMPTY', client.call('removeDirectory', { parent: root, name: 'd' }));
    await fails('EISDIR', client.call('unlink', { parent: root, name: 'd', keepOpen: false }));
    await fails('ENOTDIR', client.call('removeDirectory', { parent: d, name: 'f' }));
    await fails('ENOENT', client.call('removeDirectory', { parent: root, name: 'x' }));
    await client.call('unlink', { parent: d, name: 'f', keepOpen: false });
    await client.call('removeDirectory', { parent: root, name: 'd' });
    await fails('ESTALE', client.call('getAttributes', { inode: d }));
  });
  it('are listed page by page in the order of bytes, also while they change', async () => {
    for (const name of ['b', 'a', 'ﬀ', '😀', 'ab', 'c']) await client.create(root, name);
    expect(await client.names(root)).toEqual(['a', 'ab', 'b', 'c', 'ﬀ', '😀']);
    const page = await client.call('readDirectory', { inode: root, after: '', limit: 2 });
    await client.call('unlink', { parent: root, name: 'ab', keepOpen: false });
    const rest = await client.call('readDirectory', { inode: root, after: page.entries.at(-1)?.name ?? '', limit: 100 });
    expect(rest.entries.map((entry) => entry.name)).toEqual(['b', 'c', 'ﬀ', '😀']);
    expect(rest.isLast).toBe(true);
    expect(rest.attributes.map((one) => one.inode)).toEqual(rest.entries.map((entry) => entry.inode));
  });
  it('that are sticky protect what belongs to others', async () => {
    const tmp = await client.mkdir(root, 'tmp', { mode: 0o1777, as: { uid: 10, gid: 10 } });
    await client.create(tmp, 'theirs', { as: { uid: 20, gid: 20 } });
    const as = { uid: 30, gid: 30 };
    await fails('EPERM', client.call('unlink', { parent: tmp, name: 'theirs', keepOpen: false, as }));
    await fails('EPERM', client.rename(tmp, 'theirs', root, 'x', { as }));
    await client.create(tmp, 'mine', { as });
    await fails('EPERM', client.rename(tmp, 'mine', tmp, 'theirs', { as }));
    await client.rename(tmp, 'mine', tmp, 'mine2', { as });
    await client.call('unlink', { parent: tmp, name: 'theirs', keepOpen: false, as: { uid: 10, gid: 10 } });
    await client.call('unlink', { parent: tmp, name: 'mine2', keepOpen: false, as: ROOT_USER });
  });
});

describe('hard links', () => {
  it('share one inode until the last is gone', async () => {
    const inode = await client.create(root, 'a');
    const linked = await client.call('link', { inode, parent: root, name: 'b' });
    expect(linked.attributes).toMatchObject({ inode, nlink: 2 });
    expect((await client.call('unlink', { parent: root, name: 'a', keepOpen: false })).attributes).toMatchObject({ nlink: 1 });
    expect((await client.call('unlink', { parent: root, name: 'b', keepOpen: false })).attributes).toMatchObject({ nlink: 0 });
    await fails('ESTALE', client.call('getAttributes', { inode }));
  });
  it('are refused for directories, existing names and deleted files', async () => {
    const d = await client.mkdir(root, 'd');
    await fails('EPERM', client.call('link', { inode: d, parent: root, name: 'x' }));
    const inode = await client.create(root, 'a');
    await fails('EEXIST', client.call('link', { inode, parent: root, name: 'd' }));
    await client.call('unlink', { parent: root, name: 'a', keepOpen: true });
    await fails('ENOENT', client.call('link', { inode, parent: root, name: 'b' }));
  });
  it('still have a path after the name known last is gone', async () => {
    const d = await client.mkdir(root, 'd');
    const inode = await client.create(d, 'a');
    await client.call('link', { inode, parent: root, name: 'b' });
    expect(rig.coordinator.tree.pathOf(inode)).toBe('/b');
    await client.call('unlink', { parent: root, name: 'b', keepOpen: false });
    expect(rig.coordinator.tree.pathOf(inode)).toBe('/d/a');
    expect(rig.coordinator.tree.resolve(1, '/d/./../d/a')).toBe(inode);
  });
});

describe('rename', () => {
  it('moves and replaces, and says what it replaced', async () => {
    const a = await client.create(root, 'a');
    const b = await client.create(root, 'b');
    const d = await client.mkdir(root, 'd');
    const reply = await client.rename(root, 'a', d, 'x');
    expect(reply).toMatchObject({ moved: { inode: a }, replaced: null, from: { inode: root }, to: { inode: d } });
    expect(await client.rename(root, 'b', d, 'x')).toMatchObject({ moved: { inode: b }, replaced: { inode: a, nlink: 0 } });
    expect(await client.names(d)).toEqual(['x']);
    expect(await client.names(root)).toEqual(['d']);
  });
  it('keeps both names of one file', async () => {
    const inode = await client.create(root, 'a');
    await client.call('link', { inode, parent: root, name: 'b' });
    await client.rename(root, 'a', root, 'b');
    expect(await client.names(root)).toEqual(['a', 'b']);
  });
  it('counts the links of directories it moves between, replaces and exchanges', async () => {
    const a = await client.mkdir(root, 'a');
    const b = await client.mkdir(root, 'b');
    await client.mkdir(a, 'sub');
    await client.mkdir(b, 'empty');
    await client.rename(a, 'sub', b, 'empty');
    expect([(await client.attributes(a)).nlink, (await client.attributes(b)).nlink]).toEqual([2, 3]);
    await client.create(a, 'file');
    await client.rename(b, 'empty', a, 'file', { how: 'exchange' });
    expect([(await client.attributes(a)).nlink, (await client.attributes(b)).nlink]).toEqual([3, 2]);
    expect((await client.attributes(root)).nlink).toBe(4);
    await client.rename(root, 'b', a, 'b');
    expect([(await client.attributes(a)).nlink, (await client.attributes(root)).nlink]).toEqual([4, 3]);
    expect((await client.call('lookup', { parent: b, name: '..' })).attributes?.inode).toBe(a);
  });
  it('refuses loops, full directories, and kinds that do not fit', async () => {
    const a = await client.mkdir(root, 'a');
    const b = await client.mkdir(a, 'b');
    const c = await client.mkdir(b, 'c');
    await client.create(root, 'file');
    await fails('EINVAL', client.rename(root, 'a', c, 'x'));
    await fails('EINVAL', client.rename(root, 'a', a, 'x'));
    await fails('ENOTEMPTY', client.rename(b, 'c', root, 'a'));
    await fails('EINVAL', client.rename(b, 'c', root, 'a', { how: 'exchange' }));
    await fails('EISDIR', client.rename(root, 'file', a, 'b'));
    await fails('ENOTDIR', client.rename(root, 'a', root, 'file'));
    const d = await client.mkdir(root, 'd');
    await client.create(d, 'f');
    await fails('ENOTEMPTY', client.rename(root, 'a', root, 'd'));
    await fails('ENOENT', client.rename(root, 'nothing', root, 'x'));
    await fails('EEXIST', client.rename(root, 'file', root, 'a', { how: 'noreplace' }));
    await fails('ENOENT', client.rename(root, 'file', root, 'x', { how: 'exchange' }));
  });
});

describe('attributes', () => {
  it('change alone, and the time of change always moves', async () => {
    const inode = await client.create(root, 'a', { as: { uid: 1, gid: 2 } });
    await environment.advance(10);
    const before = await client.attributes(inode);
    const { attributes } = await client.call('setAttributes', { inode, mode: 0o6755 });
    expect(attributes).toMatchObject({ mode: 0o6755, uid: 1, gid: 2, mtimeNs: before.mtimeNs });
    expect(attributes.ctimeNs).toBeGreaterThan(before.ctimeNs);
    const chowned = await client.call('setAttributes', { inode, uid: 9, clearSetId: true });
    expect(chowned.attributes).toMatchObject({ uid: 9, gid: 2, mode: 0o755 });
  });
  it('keep a set-group-id bit that is no permission to run', async () => {
    const inode = await client.create(root, 'a', { mode: 0o2644 });
    expect((await client.call('setAttributes', { inode, gid: 4, clearSetId: true })).attributes.mode).toBe(0o2644);
    const directory = await client.mkdir(root, 'd', { mode: 0o2755 });
    expect((await client.call('setAttributes', { inode: directory, gid: 4, clearSetId: true })).attributes.mode).toBe(0o2755);
  });
  it('keep times before 1970, after 2106, and nanoseconds', async () => {
    const inode = await client.create(root, 'a');
    const { attributes } = await client.call('setAttributes', {
      inode,
      atime: { s: -2_177_452_800, ns: 1 },
      mtime: { s: 4_300_000_000, ns: 999_999_999 },
    });
    expect(attributes).toMatchObject({ atimeS: -2_177_452_800, atimeNs: 1, mtimeS: 4_300_000_000, mtimeNs: 999_999_999 });
  });
});

describe('extended attributes', () => {
  const value = Buffer.from([0, 255, 10]);
  it('come back byte by byte and go with their file', async () => {
    const inode = await client.create(root, 'a');
    expect((await client.attributes(inode)).hasXattrs).toBe(false);
    await client.call('setXattr', { inode, name: 'user.b', value, how: 'any' });
    await client.call('setXattr', { inode, name: 'user.a:x', value: Buffer.alloc(65536, 7), how: 'create' });
    expect((await client.attributes(inode)).hasXattrs).toBe(true);
    expect((await client.call('listXattrs', { inode })).names).toEqual(['user.a:x', 'user.b']);
    expect(Buffer.from((await client.call('getXattr', { inode, name: 'user.b' })).value)).toEqual(value);
    expect((await client.call('getXattr', { inode, name: 'user.a:x' })).value.length).toBe(65536);
    await client.call('removeXattr', { inode, name: 'user.b' });
    await fails('ENODATA', client.call('getXattr', { inode, name: 'user.b' }));
    await client.call('unlink', { parent: root, name: 'a', keepOpen: false });
    expect(rig.coordinator.state.table('xattrs').size).toBe(0);
  });
  it('obey create and replace, and their limits', async () => {
    const inode = await client.create(root, 'a');
    await fails('ENODATA', client.call('setXattr', { inode, name: 'user.a', value, how: 'replace' }));
    await client.call('setXattr', { inode, name: 'user.a', value, how: 'create' });
    await fails('EEXIST', client.call('setXattr', { inode, name: 'user.a', value, how: 'create' }));
    await fails('E2BIG', client.call('setXattr', { inode, name: 'user.a', value: Buffer.alloc(65537), how: 'any' }));
    await fails('ERANGE', client.call('setXattr', { inode, name: `user.${'é'.repeat(126)}`, value, how: 'any' }));
    await fails('EOPNOTSUPP', client.call('setXattr', { inode, name: 'system.posix_acl_access', value, how: 'any' }));
    await fails('ENODATA', client.call('removeXattr', { inode, name: 'user.zz' }));
    for (let i = 0; i < 15; i++) await client.call('setXattr', { inode, name: `user.${i}`, value: Buffer.alloc(65536), how: 'any' });
    await fails('ENOSPC', client.call('setXattr', { inode, name: 'user.last', value: Buffer.alloc(65536), how: 'any' }));
  });
});
