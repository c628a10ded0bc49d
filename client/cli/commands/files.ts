/** list, cat, delete, mkdir, move: files without a mount. */
import type { InodeAttributes } from '../../../protocol/entities.js';
import { HoldfastError, isCode } from '../../../protocol/errors.js';
import type { Cluster, DirectoryEntry } from '../../api.js';
import type { Context } from '../context.js';
import { CliError, EXIT } from '../exit-codes.js';
import { modeWords, printable, table, timeWords } from '../words.js';

const PAGE = 1000;
/** Bytes asked for at once; the library reads ahead itself. */
const READ_BYTES = 1024 * 1024;

/** Whose files the command line makes: the caller's. */
export const me = (): { uid: number; gid: number } => ({ uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 });

export const joinPath = (directory: string, name: string): string => (directory === '/' ? `/${name}` : `${directory}/${name}`);
export const parentOf = (path: string): string => path.slice(0, Math.max(path.lastIndexOf('/'), 1));
export const nameOf = (path: string): string => path.slice(path.lastIndexOf('/') + 1);

/** Names the path in what the library says. */
export async function at<T>(path: string, work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    if (error instanceof HoldfastError && !error.message.includes(path)) {
      const text = error.message === error.code ? printable(path) : `${printable(path)}: ${error.message}`;
      throw new HoldfastError(error.code, text, error.facts);
    }
    throw error;
  }
}

/** Attributes, or undefined when nothing is there. */
export async function find(cluster: Cluster, path: string): Promise<InodeAttributes | undefined> {
  try {
    return await at(path, cluster.tree.resolve(path));
  } catch (error) {
    if (isCode(error, 'ENOENT')) return undefined;
    throw error;
  }
}

export async function* entriesOf(cluster: Cluster, directory: InodeAttributes): AsyncGenerator<DirectoryEntry> {
  let after = '';
  for (;;) {
    const page = await cluster.tree.readDirectory(directory.inode, after, PAGE);
    yield* page.entries;
    const last = page.entries[page.entries.length - 1];
    if (page.isLast || !last) return;
    after = last.name;
  }
}

export async function list(context: Context, options: { long?: boolean; recursive?: boolean }, path = '/'): Promise<void> {
  const cluster = await context.cluster('names');
  const top = context.path(path);
  const attributes = await at(top, cluster.tree.resolve(top));
  const asJson = (where: string, entry: InodeAttributes): void =>
    context.json({
      schema: 1,
      path: where,
      kind: entry.kind,
      sizeBytes: entry.sizeBytes,
      mode: entry.mode,
      uid: entry.uid,
      gid: entry.gid,
      mtimeMs: mtimeMs(entry),
      inode: entry.inode,
      nlink: entry.nlink,
      ...(entry.target === undefined ? {} : { target: entry.target }),
    });
  const show = (rows: [string, InodeAttributes][]): void => {
    if (!options.long) for (const [name, entry] of rows) context.print(printable(name) + (entry.kind === 'directory' ? '/' : ''));
    else
      for (const line of table(
        rows.map(([name, entry]) => longCells(name, entry)),
        [1, 4],
      ))
        context.print(line);
  };
  if (attributes.kind !== 'directory') {
    if (context.isJson) asJson(top, attributes);
    else show([[top, attributes]]);
    return;
  }
  const walk = async (directory: InodeAttributes, where: string, shownAs: string): Promise<void> => {
    let rows: [string, InodeAttributes][] = [];
    const directories: [string, InodeAttributes][] = [];
    for await (const { name, attributes: entry } of entriesOf(cluster, directory)) {
      if (context.isJson) asJson(joinPath(where, name), entry);
      else rows.push([shownAs + name, entry]);
      if (entry.kind === 'directory') directories.push([name, entry]);
      if (rows.length >= PAGE) {
        show(rows);
        rows = [];
      }
      if (context.interrupted.signal.aborted) return;
    }
    show(rows);
    if (options.recursive) for (const [name, child] of directories) await walk(child, joinPath(where, name), `${shownAs}${name}/`);
  };
  await walk(attributes, top, '');
}

export const mtimeMs = (attributes: InodeAttributes): number => attributes.mtimeS * 1000 + Math.floor(attributes.mtimeNs / 1e6);

const longCells = (name: string, entry: InodeAttributes): string[] => [
  modeWords(entry.kind, entry.mode),
  String(entry.nlink),
  String(entry.uid),
  String(entry.gid),
  String(entry.sizeBytes),
  timeWords(mtimeMs(entry), Date.now()),
  printable(name) + (entry.target === undefined ? '' : ` -> ${printable(entry.target)}`),
];

/** Every byte of a file, verified, in order. */
export async function* contentOf(cluster: Cluster, path: string): AsyncGenerator<Buffer> {
  const attributes = await at(path, cluster.tree.resolve(path));
  if (attributes.kind !== 'file')
    throw new HoldfastError(
      attributes.kind === 'directory' ? 'EISDIR' : 'EINVAL',
      `${printable(path)} is a ${attributes.kind}, not a file`,
    );
  const handle = await at(path, cluster.open(attributes.inode));
  try {
    for (let offset = 0; ; ) {
      const data = await at(path, handle.read(offset, READ_BYTES));
      if (data.length === 0) return;
      yield data;
      offset += data.length;
    }
  } finally {
    await handle.release();
  }
}

/** Writes and waits while the reader is slow, so that a large file does not pile up in memory. */
export async function writeAll(stream: NodeJS.WritableStream, data: Buffer): Promise<void> {
  if (!stream.write(data)) await new Promise<void>((resolve) => stream.once('drain', resolve));
}

export async function cat(context: Context, _options: unknown, paths: string[]): Promise<void> {
  const cluster = await context.cluster();
  for (const path of paths) {
    for await (const data of contentOf(cluster, context.path(path))) {
      if (context.interrupted.signal.aborted) return;
      await writeAll(process.stdout, data);
    }
  }
}

export async function mkdir(context: Context, options: { parents?: boolean }, paths: string[]): Promise<void> {
  const cluster = await context.cluster('names');
  for (const path of paths.map((one) => context.path(one))) {
    if (options.parents) await makeDirectories(cluster, path);
    else {
      const parent = await at(parentOf(path), cluster.tree.resolve(parentOf(path)));
      await at(
        path,
        cluster.tree.create({ parent: parent.inode, name: nameOf(path), kind: 'directory', mode: 0o755, as: me(), exclusive: true }),
      );
    }
    if (context.isJson) context.json({ schema: 1, made: path });
  }
}

/** A directory and everything above it that is missing. Several may do this at once: who comes second finds what the first has made. */
export async function makeDirectories(cluster: Cluster, path: string): Promise<InodeAttributes> {
  const { tree } = cluster;
  let here = await tree.getAttributes(tree.root);
  let walked = '';
  for (const name of path.split('/').filter((part) => part !== '')) {
    walked += `/${name}`;
    const parent = here.inode;
    const make = async (): Promise<InodeAttributes> => {
      try {
        return (await tree.create({ parent, name, kind: 'directory', mode: 0o755, as: me(), exclusive: false })).attributes;
      } catch (error) {
        const made = isCode(error, 'EEXIST') ? await tree.lookup(parent, name) : null;
        if (!made) throw error;
        return made;
      }
    };
    here = (await at(walked, tree.lookup(parent, name))) ?? (await at(walked, make()));
    if (here.kind !== 'directory') throw new HoldfastError('ENOTDIR', printable(walked));
  }
  return here;
}

export async function move(context: Context, options: { replace?: boolean }, from: string, to: string): Promise<void> {
  const cluster = await context.cluster('names');
  const source = context.path(from);
  const attributes = await at(source, cluster.tree.resolve(source));
  let target = context.path(to);
  const there = await find(cluster, target);
  // As mv does: into a directory that exists.
  if (there?.kind === 'directory' && there.inode !== attributes.inode) target = joinPath(target, nameOf(source));
  const [fromParent, toParent] = [
    await at(parentOf(source), cluster.tree.resolve(parentOf(source))),
    await at(parentOf(target), cluster.tree.resolve(parentOf(target))),
  ];
  const how = options.replace === false ? 'noreplace' : 'replace';
  await at(
    target,
    cluster.tree.rename({ parent: fromParent.inode, name: nameOf(source) }, { parent: toParent.inode, name: nameOf(target) }, how, me()),
  );
  if (context.isJson) context.json({ schema: 1, from: source, to: target });
}

export async function remove(
  context: Context,
  options: { recursive?: boolean; force?: boolean; dryRun?: boolean; yes?: boolean },
  paths: string[],
): Promise<number> {
  const cluster = await context.cluster('names');
  const isAsked = options.recursive && !options.yes && !options.dryRun && !options.force;
  let failed = 0;
  let removed = 0;
  const gone = (path: string): void => {
    removed += 1;
    if (context.isJson) context.json({ schema: 1, [options.dryRun ? 'wouldDelete' : 'deleted']: path });
    else if (options.dryRun) context.print(`would delete ${printable(path)}`);
  };
  const removeTree = async (parent: InodeAttributes, name: string, path: string, attributes: InodeAttributes): Promise<void> => {
    if (attributes.kind !== 'directory') {
      if (!options.dryRun) await at(path, cluster.tree.unlink(parent.inode, name, me()));
      return gone(path);
    }
    if (!options.recursive)
      throw new CliError(`${printable(path)} is a directory: use -r to delete it with everything in it`, EXIT.conflict, 'EISDIR');
    // The names are collected before: a page boundary must not move while entries vanish.
    const children: DirectoryEntry[] = [];
    for await (const child of entriesOf(cluster, attributes)) children.push(child);
    for (const child of children) await removeTree(attributes, child.name, joinPath(path, child.name), child.attributes);
    if (!options.dryRun) await at(path, cluster.tree.removeDirectory(parent.inode, name, me()));
    gone(path);
  };
  if (isAsked && !(await confirm(context, `Delete ${paths.map(printable).join(', ')} with everything inside?`))) return EXIT.error;
  for (const path of paths.map((one) => context.path(one))) {
    try {
      if (path === '/') throw new CliError('the root of the cluster is not deleted', EXIT.usage);
      const parent = await at(parentOf(path), cluster.tree.resolve(parentOf(path)));
      const attributes = await at(path, cluster.tree.lookup(parent.inode, nameOf(path)));
      if (!attributes) {
        if (options.force) continue;
        throw new HoldfastError('ENOENT', printable(path));
      }
      await removeTree(parent, nameOf(path), path, attributes);
    } catch (error) {
      if (paths.length === 1) throw error;
      failed += 1;
      context.note(`holdfast: ${(error as Error).message}`);
    }
  }
  return failed === 0 ? EXIT.ok : removed > 0 ? EXIT.partial : EXIT.error;
}

/** Asks at a terminal. @throws {CliError} without one: a script must say --yes */
export async function confirm(context: Context, question: string): Promise<boolean> {
  if (!process.stdin.isTTY || context.isJson)
    throw new CliError(`${question} There is nobody to ask: say --yes (deleting files knows --dry-run, too).`, EXIT.usage);
  const { createInterface } = await import('node:readline/promises');
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  try {
    return /^y(es)?$/i.test((await terminal.question(`${question} [y/N] `, { signal: context.interrupted.signal })).trim());
  } finally {
    terminal.close();
  }
}
