/**
 * What names may be in a directory that one program changes. A tree is a map from path to what is there; an operation is a function from tree to
 * tree. From operations with and without answer follow the trees that may be found.
 */
import type { FileModel } from './file-model.js';

export type TreeNode =
  | { readonly kind: 'file'; readonly file: FileModel }
  | { readonly kind: 'directory' }
  | { readonly kind: 'symlink'; readonly target: string };
export type Tree = ReadonlyMap<string, TreeNode>;
/** Must leave the tree as it is when it does not fit. */
export type TreeChange = (tree: Tree) => Tree;

export const parentOf = (path: string): string => path.slice(0, Math.max(0, path.lastIndexOf('/')));
export const nameOf = (path: string): string => path.slice(path.lastIndexOf('/') + 1);
export const childrenOf = (tree: Tree, directory: string): string[] => [...tree.keys()].filter((path) => parentOf(path) === directory);
const hasParent = (tree: Tree, path: string): boolean => parentOf(path) === '' || tree.get(parentOf(path))?.kind === 'directory';

export const put =
  (path: string, node: TreeNode): TreeChange =>
  (tree) =>
    hasParent(tree, path) && !tree.has(path) ? new Map(tree).set(path, node) : tree;
function without(tree: Tree, path: string): Tree {
  const next = new Map(tree);
  next.delete(path);
  return next;
}
export const remove =
  (path: string): TreeChange =>
  (tree) =>
    tree.has(path) && tree.get(path)?.kind !== 'directory' ? without(tree, path) : tree;
export const removeDirectory =
  (path: string): TreeChange =>
  (tree) =>
    tree.get(path)?.kind === 'directory' && childrenOf(tree, path).length === 0 ? without(tree, path) : tree;
/** A rename onto another name of the same file does nothing. */
function mayReplace(tree: Tree, path: string, node: TreeNode): boolean {
  const target = tree.get(path);
  if (!target) return true;
  if (node.kind === 'directory') return target.kind === 'directory' && childrenOf(tree, path).length === 0;
  return target.kind !== 'directory' && !(node.kind === 'file' && target.kind === 'file' && node.file === target.file);
}
export const move =
  (from: string, to: string): TreeChange =>
  (tree) => {
    const node = tree.get(from);
    if (!node || !hasParent(tree, to) || from === to || to.startsWith(`${from}/`) || !mayReplace(tree, to, node)) return tree;
    const next = new Map<string, TreeNode>();
    for (const [path, one] of tree) {
      if (path === to) continue;
      if (path === from || path.startsWith(`${from}/`)) next.set(to + path.slice(from.length), one);
      else if (!next.has(path)) next.set(path, one);
    }
    return next;
  };
export const exchange =
  (a: string, b: string): TreeChange =>
  (tree) => {
    const atA = tree.get(a);
    const atB = tree.get(b);
    if (!atA || !atB) return tree;
    return new Map(tree).set(a, atB).set(b, atA);
  };

/** What an operation does to the paths it was given. */
export type ChangeOf = (...paths: string[]) => TreeChange;

/**
 * An operation reaches its directories by their inodes: when the coordinator comes back with older names while it waits, it acts where these
 * directories are then.
 * @param seen the tree in which its paths were looked up
 * @returns these paths in another tree; undefined when a directory is not there
 */
function placesIn(tree: Tree, seen: Tree, paths: readonly string[]): string[] | undefined {
  const now = paths.map((path) => {
    const parent = parentOf(path);
    const directory = seen.get(parent);
    if (parent === '' || tree.get(parent) === directory) return path;
    const place = [...tree].find(([, node]) => node === directory)?.[0];
    return place === undefined ? undefined : `${place}/${nameOf(path)}`;
  });
  return now.every((path) => path !== undefined) ? now : undefined;
}
function byDirectory(seen: Tree, changeOf: ChangeOf, paths: readonly string[]): TreeChange {
  return (tree) => {
    const now = placesIn(tree, seen, paths);
    return now ? changeOf(...now)(tree) : tree;
  };
}

interface Step {
  readonly change: TreeChange;
  /** The same, had it been asked for before names went back and been applied after. */
  readonly lateChange: TreeChange;
  readonly isAnswered: boolean;
}

const MAX_UNANSWERED = 6;

export class TreeModel {
  private base: Tree = new Map();
  private steps: Step[] = [];
  /** Steps before this one are on stable storage. */
  private durable = 0;
  /** How many steps there were when the coordinator lost power, and how many of them on stable storage. What was lost no later sync makes stable. */
  private losses: { readonly at: number; readonly durable: number }[] = [];
  /** Paths an unanswered operation touched: left alone until the next verification. */
  private readonly poisoned = new Set<string>();
  /** The tree if every unanswered operation was not applied: right for all paths that are not poisoned. */
  current: Tree = new Map();

  isPoisoned(path: string): boolean {
    for (const one of this.poisoned) if (path === one || path.startsWith(`${one}/`) || one.startsWith(`${path}/`)) return true;
    return false;
  }
  get hasLostPower(): boolean {
    return this.losses.length > 0;
  }
  get isTooUncertain(): boolean {
    return this.hasLostPower || this.steps.filter((step) => !step.isAnswered).length >= MAX_UNANSWERED;
  }
  answered(changeOf: ChangeOf, paths: readonly string[]): void {
    const step = this.step(changeOf, paths, true);
    this.current = step.change(this.current);
  }
  unanswered(changeOf: ChangeOf, paths: readonly string[]): void {
    this.step(changeOf, paths, false);
    for (const path of paths) this.poisoned.add(path);
  }
  private step(changeOf: ChangeOf, paths: readonly string[], isAnswered: boolean): Step {
    const step = { change: changeOf(...paths), lateChange: byDirectory(this.current, changeOf, paths), isAnswered };
    this.steps.push(step);
    return step;
  }
  /** To be given to `durableTo` when a sync asked for now returns. */
  get mark(): number {
    return this.steps.length;
  }
  durableTo(mark: number): void {
    this.durable = Math.max(this.durable, mark);
  }
  /** Answered steps that are not synced may be undone, the last first. */
  powerLost(): void {
    this.losses.push({ at: this.steps.length, durable: this.durable });
  }

  /**
   * Whether this may have been so when an operation on these paths was done, though it is not so in the current tree: only after a loss of power,
   * which may have brought older names back before the operation arrived.
   */
  mayHaveBeen(paths: readonly string[], isSo: (tree: Tree, ...at: string[]) => boolean): boolean {
    if (!this.hasLostPower) return isSo(this.current, ...paths);
    return this.candidates().some((tree) => {
      const now = placesIn(tree, this.current, paths);
      return isSo(tree, ...paths) || (now !== undefined && isSo(tree, ...now));
    });
  }

  /** Every tree there may be. */
  candidates(): Tree[] {
    let before: Tree[] = [this.base];
    const history: Tree[][] = [before];
    for (const [at, step] of this.steps.entries()) {
      const isAfterLoss = this.losses.some((loss) => loss.at <= at);
      const from = this.undone(history, at) ?? before;
      const applied = from.map(step.change);
      if (isAfterLoss) applied.push(...from, ...from.map(step.lateChange));
      else if (!step.isAnswered) applied.push(...from);
      before = distinct(applied);
      history.push(before);
    }
    return this.undone(history, this.steps.length) ?? before;
  }
  /** @param history the trees there may be after each step. @returns those there may be when power was lost after so many steps */
  private undone(history: readonly Tree[][], at: number): Tree[] | undefined {
    const losses = this.losses.filter((loss) => loss.at === at);
    if (losses.length === 0) return undefined;
    return distinct(history.slice(Math.min(...losses.map(({ durable }) => durable), at)).flat());
  }

  settleAs(tree: Tree): void {
    this.base = tree;
    this.current = tree;
    this.steps = [];
    this.durable = 0;
    this.losses = [];
    this.poisoned.clear();
  }
}

const keyOf = (tree: Tree): string =>
  [...tree]
    .map(([path, node]) => `${path}=${node.kind === 'file' ? node.file.id : node.kind === 'symlink' ? `>${node.target}` : '/'}`)
    .sort()
    .join('|');
export const treeText = (tree: Tree): string => `{${keyOf(tree)}}`;

function distinct(trees: readonly Tree[]): Tree[] {
  const seen = new Map<string, Tree>();
  for (const tree of trees) seen.set(keyOf(tree), tree);
  return [...seen.values()];
}
