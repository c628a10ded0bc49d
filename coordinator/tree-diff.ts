/** What differs between two trees that do not change (two snapshots, or one and a cut of now), found in slices. */

import type { InodeId } from '../protocol/entities.js';
import { originalInode } from '../protocol/hidden.js';
import type { SnapshotChange } from '../protocol/history-calls.js';
import type { InodeRow } from './rows.js';
import { compareNames } from './tables.js';
import { pathIn } from './trash.js';
import type { TreeView } from './tree-view.js';

const NAMES_PER_SLICE = 500;

const hasOtherMarks = (a: InodeRow, b: InodeRow): boolean => a.mode !== b.mode || a.uid !== b.uid || a.gid !== b.gid;
const isOther = (a: InodeRow, b: InodeRow): boolean =>
  originalInode(a.inode) !== originalInode(b.inode) || a.dataVersion !== b.dataVersion || hasOtherMarks(a, b);

/**
 * Compares from the given directories (or files) downwards. A tree that is there on one side only is told as one line; what has only moved, as renamed.
 * @param pause called between slices
 * @param limit of changes told; `isCut` says that there are more
 */
export async function differences(
  view: TreeView,
  before: InodeId | undefined,
  after: InodeId | undefined,
  path: string,
  pause: () => Promise<void>,
  limit: number,
): Promise<{ changes: SnapshotChange[]; isCut: boolean }> {
  const found: { kind: 'added' | 'removed' | 'changed'; path: string; row: InodeRow }[] = [];
  const left: { before: InodeId | undefined; after: InodeId | undefined; path: string }[] = [{ before, after, path }];
  const compare = (one: (typeof left)[number]): void => {
    const old = one.before === undefined ? undefined : view.inode(one.before);
    const now = one.after === undefined ? undefined : view.inode(one.after);
    if (!old || !now) {
      if (old) found.push({ kind: 'removed', path: one.path, row: old });
      if (now) found.push({ kind: 'added', path: one.path, row: now });
      return;
    }
    if (old.kind !== 'directory' || now.kind !== 'directory') {
      if (old.kind !== now.kind || isOther(old, now)) found.push({ kind: 'changed', path: one.path, row: now });
      return;
    }
    if (hasOtherMarks(old, now)) found.push({ kind: 'changed', path: one.path, row: now });
    const olds = view.children(old.inode);
    const news = view.children(now.inode);
    // The last is looked at first.
    const names = [...new Set([...olds.keys(), ...news.keys()])].sort((a, b) => compareNames(b, a));
    for (const name of names) left.push({ before: olds.get(name), after: news.get(name), path: pathIn(one.path, name) });
  };
  let looked = 0;
  for (let one = left.pop(); one; one = left.pop()) {
    if (found.length > limit * 2) break;
    compare(one);
    if (++looked % NAMES_PER_SLICE === 0) await pause();
  }
  return told(found, limit);
}

/** The same inode gone at one path and new at another was renamed. */
function told(
  found: readonly { kind: 'added' | 'removed' | 'changed'; path: string; row: InodeRow }[],
  limit: number,
): { changes: SnapshotChange[]; isCut: boolean } {
  const removed = new Map<InodeId, string>();
  for (const { kind, path, row } of found) if (kind === 'removed') removed.set(originalInode(row.inode), path);
  const renamed = new Set<InodeId>();
  for (const { kind, row } of found) if (kind === 'added' && removed.has(originalInode(row.inode))) renamed.add(originalInode(row.inode));
  const changes: SnapshotChange[] = [];
  for (const { kind, path, row } of found) {
    const inode = originalInode(row.inode);
    if (kind === 'removed' && renamed.has(inode)) continue;
    const from = kind === 'added' && renamed.has(inode) ? removed.get(inode) : undefined;
    changes.push({
      change: from === undefined ? kind : 'renamed',
      path,
      ...(from === undefined ? {} : { from }),
      kind: row.kind,
      sizeBytes: row.sizeBytes,
    });
  }
  return { changes: changes.slice(0, limit), isCut: changes.length > limit };
}
