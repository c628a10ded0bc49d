/** Calls that would change a snapshot, the trash, or the hidden names of a root: refused, or turned into what they mean there. */
import { HoldfastError } from '../protocol/errors.js';
import { isHiddenName, isLiveInode, isTrashDirectory } from '../protocol/hidden.js';
import type { ChangeContext, FileTree } from './file-tree.js';
import type { Trash } from './trash.js';

interface Names {
  readonly inode?: number;
  readonly parent?: number;
  readonly name?: string;
  readonly fromParent?: number;
  readonly fromName?: string;
  readonly toParent?: number;
  readonly toName?: string;
  readonly to?: number;
  readonly how?: string;
}
const fields = ['inode', 'parent', 'fromParent', 'toParent', 'to'] as const;

/** @throws {HoldfastError} EROFS, EPERM, EEXIST, EISDIR, EBUSY */
export function refuseHidden(tree: FileTree, method: string, request: unknown): void {
  const names = request as Names;
  for (const field of fields) {
    const inode = names[field];
    if (inode === undefined || isLiveInode(inode)) continue;
    if (isTrashDirectory(inode)) {
      // What may be done there: take a file out, or delete it for good.
      if ((method === 'unlink' && field === 'parent') || (method === 'rename' && field === 'fromParent')) continue;
      throw new HoldfastError('EPERM', 'files come into the trash by being deleted');
    }
    throw new HoldfastError('EROFS', 'a snapshot cannot be changed');
  }
  const isHidden = (parent: number | undefined, name: string | undefined): boolean =>
    parent !== undefined &&
    name !== undefined &&
    isHiddenName(name) &&
    tree.state.table('entries').lookup(parent, name) === undefined &&
    tree.view.hidden(parent, name) !== undefined;
  if (isHidden(names.fromParent, names.fromName) || isHidden(names.toParent, names.toName))
    throw new HoldfastError('EBUSY', 'hidden directories of the root cannot be renamed or replaced');
  if (!isHidden(names.parent, names.name)) return;
  if (method === 'unlink') throw new HoldfastError('EISDIR', `"${names.name}" is a directory`);
  if (method === 'removeDirectory') throw new HoldfastError('EBUSY', `"${names.name}" is always there`);
  throw new HoldfastError('EEXIST', `"${names.name}" is always there`);
}

/** Takes a file out of the trash, or deletes it for good. undefined = the call is an ordinary one. @throws {HoldfastError} ENOENT, EEXIST, EPERM */
export function changeHidden(tree: FileTree, trash: Trash, context: ChangeContext, method: string, request: unknown): unknown {
  const names = request as Names;
  const directory = method === 'unlink' ? names.parent : method === 'rename' ? names.fromParent : undefined;
  if (directory === undefined || isLiveInode(directory)) return undefined;
  const row = tree.directory(context.caller, directory);
  const name = (method === 'unlink' ? names.name : names.fromName) ?? '';
  const inode = tree.view.lookup(directory, name);
  if (inode === undefined) throw new HoldfastError('ENOENT', `"${name}" is not in the trash`);
  if (method === 'unlink') {
    trash.purge(context, inode);
    return { parent: tree.attributes(tree.directory(context.caller, row.inode)), attributes: null };
  }
  if (names.how === 'exchange') throw new HoldfastError('EPERM', 'files come into the trash by being deleted');
  const target = { parent: names.toParent ?? 0, name: names.toName ?? '' };
  trash.restore(context, inode, target);
  return {
    from: tree.attributes(tree.directory(context.caller, row.inode)),
    to: tree.attributes(tree.directory(context.caller, target.parent)),
    moved: tree.attributes(tree.row(context.caller, inode)),
    replaced: null,
  };
}
