/** Extended attributes: small values beside an inode, with the errnos Linux gives. Kept whole in memory, so they are limited per inode. */
import type { ReplyOf, RequestOf } from '../protocol/call.js';
import type { ClientCalls } from '../protocol/client-calls.js';
import { HoldfastError } from '../protocol/errors.js';
import { MAX_XATTR_NAME_BYTES, MAX_XATTR_VALUE_BYTES, MAX_XATTRS_PER_INODE_BYTES } from '../protocol/limits.js';
import type { ChangeContext, FileTree } from './file-tree.js';
import { isCleanText } from './names.js';
import type { ClientCaller } from './ports.js';
import { xattrKey } from './rows.js';

/** POSIX access lists are not kept: an attribute that looks like one but is not obeyed would be worse than none. */
const isRefused = (name: string): boolean =>
  name.startsWith('system.') || !['user.', 'trusted.', 'security.'].some((prefix) => name.startsWith(prefix));

function checkXattrName(name: string): void {
  if (name === '' || Buffer.byteLength(name) > MAX_XATTR_NAME_BYTES)
    throw new HoldfastError('ERANGE', `a name has 1 to ${MAX_XATTR_NAME_BYTES} bytes`);
  if (!isCleanText(name) || name.includes('\0')) throw new HoldfastError('EILSEQ', 'the name is not valid UTF-8');
  if (isRefused(name)) throw new HoldfastError('EOPNOTSUPP', 'only user., trusted. and security. attributes are kept');
}
/** Bytes behind a base64 text. */
const decodedBytes = (text: string): number => (text.length / 4) * 3 - (text.endsWith('==') ? 2 : text.endsWith('=') ? 1 : 0);

export class Xattrs {
  constructor(private readonly tree: FileTree) {}

  list(caller: ClientCaller, { inode }: RequestOf<ClientCalls, 'listXattrs'>): ReplyOf<ClientCalls, 'listXattrs'> {
    this.tree.row(caller, inode);
    return { names: [...this.tree.view.xattrs(inode).keys()].sort() };
  }

  /** @throws {HoldfastError} ENODATA */
  get(caller: ClientCaller, { inode, name }: RequestOf<ClientCalls, 'getXattr'>): ReplyOf<ClientCalls, 'getXattr'> {
    this.tree.row(caller, inode);
    const value = this.tree.view.xattrs(inode).get(name);
    if (value === undefined) throw new HoldfastError('ENODATA', `there is no attribute "${name}"`);
    return { value: Buffer.from(value, 'base64') };
  }

  /** @throws {HoldfastError} EEXIST, ENODATA (by `how`), ERANGE, E2BIG, ENOSPC, EOPNOTSUPP */
  set(context: ChangeContext, { inode, name, value, how }: RequestOf<ClientCalls, 'setXattr'>): ReplyOf<ClientCalls, 'setXattr'> {
    const row = this.tree.row(context.caller, inode);
    checkXattrName(name);
    if (value.byteLength > MAX_XATTR_VALUE_BYTES) throw new HoldfastError('E2BIG', `a value has at most ${MAX_XATTR_VALUE_BYTES} bytes`);
    const key = xattrKey(inode, name);
    const before = this.tree.state.get('xattrs', key);
    if (how === 'create' && before !== undefined) throw new HoldfastError('EEXIST', `"${name}" is there already`);
    if (how === 'replace' && before === undefined) throw new HoldfastError('ENODATA', `there is no attribute "${name}"`);
    let totalBytes = Buffer.byteLength(name) + value.byteLength;
    for (const [other, text] of this.tree.state.table('xattrs').of(inode)) {
      if (other !== name) totalBytes += Buffer.byteLength(other) + decodedBytes(text);
    }
    if (totalBytes > MAX_XATTRS_PER_INODE_BYTES)
      throw new HoldfastError('ENOSPC', `an inode has at most ${MAX_XATTRS_PER_INODE_BYTES} bytes of attributes`);
    context.tx.put('xattrs', key, Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString('base64'));
    context.effects.touch(inode);
    return { attributes: this.tree.attributes(this.tree.update(context, row, {})) };
  }

  /** @throws {HoldfastError} ENODATA */
  remove(context: ChangeContext, { inode, name }: RequestOf<ClientCalls, 'removeXattr'>): ReplyOf<ClientCalls, 'removeXattr'> {
    const row = this.tree.row(context.caller, inode);
    const key = xattrKey(inode, name);
    if (this.tree.state.get('xattrs', key) === undefined) throw new HoldfastError('ENODATA', `there is no attribute "${name}"`);
    context.tx.remove('xattrs', key);
    context.effects.touch(inode);
    return { attributes: this.tree.attributes(this.tree.update(context, row, {})) };
  }
}
