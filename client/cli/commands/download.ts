/**
 * download: files out of the cluster. A file is written beside its place as `.NAME.INODE-VERSION.part` and renamed when it is whole: the same
 * inode in the same data version has the same bytes, so a download that was cut goes on where it ended.
 */
import { constants } from 'node:fs';
import { lstat, mkdir, open, rename, rm, stat, symlink, utimes } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import type { InodeAttributes } from '../../../protocol/entities.js';
import { HoldfastError } from '../../../protocol/errors.js';
import type { Cluster } from '../../api.js';
import type { Context } from '../context.js';
import { CliError, EXIT, exitCodeOf, tellError } from '../exit-codes.js';
import { inParallel } from '../parallel.js';
import { byteProgress, type Progress } from '../progress.js';
import { countWords, printable, sizeWords } from '../words.js';
import { at, contentOf, entriesOf, joinPath, mtimeMs, writeAll } from './files.js';

const READ_BYTES = 1024 * 1024;

interface Options {
  readonly output?: string;
  readonly recursive?: boolean;
  readonly parallel?: number;
  readonly force?: boolean;
}
interface Item {
  readonly path: string;
  readonly target: string;
  readonly attributes: InodeAttributes;
}

export async function download(context: Context, options: Options, paths: string[]): Promise<number> {
  context.whenInterrupted = 'the same command again goes on where it ended';
  const cluster = await context.cluster();
  const wanted = paths.map((path) => context.path(path));
  if (options.output === '-') {
    for (const path of wanted) for await (const data of contentOf(cluster, path)) await writeAll(process.stdout, data);
    return EXIT.ok;
  }
  const output = options.output ?? '.';
  const isDirectory = wanted.length > 1 || output.endsWith('/') || ((await stat(output).catch(() => undefined))?.isDirectory() ?? false);
  let done = 0;
  let unchanged = 0;
  let failed = 0;
  let bytes = 0;
  let lastError: unknown;
  const progress = byteProgress(context, 'downloading', 0);
  let total = 0;
  const fail = (path: string, error: unknown): void => {
    failed += 1;
    lastError = error;
    const told = tellError(error, context.url);
    if (context.isJson) context.json({ schema: 1, path, error: told });
    else progress.note(`holdfast: ${told.message.includes(path) ? '' : `${printable(path)}: `}${printable(told.message)}`);
  };
  const grow = (sizeBytes: number): void => {
    total += sizeBytes;
    progress.total(total);
  };
  await inParallel(itemsOf(context, cluster, wanted, output, isDirectory, options, fail, grow), options.parallel ?? 4, async (item) => {
    if (context.interrupted.signal.aborted) return;
    try {
      const isFetched = await fetchOne(context, cluster, item, options.force === true, progress);
      if (!isFetched) unchanged += 1;
      else {
        done += 1;
        bytes += item.attributes.sizeBytes;
      }
      if (context.isJson)
        context.json({
          schema: 1,
          path: item.path,
          output: item.target,
          sizeBytes: item.attributes.sizeBytes,
          ...(isFetched ? {} : { unchanged: true }),
        });
    } catch (error) {
      if (context.interrupted.signal.aborted) return;
      fail(item.path, error);
    }
  });
  progress.end();
  if (context.interrupted.signal.aborted) throw context.interrupted.signal.reason;
  if (!context.isJson)
    context.note(
      `${countWords(done, 'file')} (${sizeWords(bytes)}) downloaded${unchanged > 0 ? `, ${unchanged} unchanged` : ''}${failed > 0 ? `, ${failed} FAILED` : ''}`,
    );
  else context.json({ schema: 1, done: true, downloaded: done, unchanged, failed, bytes });
  if (failed === 0) return EXIT.ok;
  return done + unchanged > 0 ? EXIT.partial : failed === 1 ? exitCodeOf(lastError) : EXIT.error;
}

async function* itemsOf(
  context: Context,
  cluster: Cluster,
  paths: readonly string[],
  output: string,
  isDirectory: boolean,
  options: Options,
  fail: (path: string, error: unknown) => void,
  grow: (sizeBytes: number) => void,
): AsyncGenerator<Item> {
  const walk = async function* (path: string, target: string, attributes: InodeAttributes): AsyncGenerator<Item> {
    if (attributes.kind === 'file') {
      grow(attributes.sizeBytes);
      yield { path, target, attributes };
    } else if (attributes.kind === 'symlink') yield { path, target, attributes };
    else if (attributes.kind === 'directory') {
      if (!options.recursive) return fail(path, new CliError('it is a directory: use -r', EXIT.usage));
      await mkdir(target, { recursive: true });
      for await (const child of entriesOf(cluster, attributes)) {
        // A name of the cluster must not lead out of the directory here.
        if (child.name.includes('/') || child.name === '..' || child.name === '.')
          fail(joinPath(path, child.name), new CliError('this name is refused'));
        else yield* walk(joinPath(path, child.name), join(target, child.name), child.attributes);
        if (context.interrupted.signal.aborted) return;
      }
    } else fail(path, new CliError(`a ${attributes.kind} is left out`));
  };
  for (const path of paths) {
    try {
      const attributes = await at(path, cluster.tree.resolve(path));
      const target = isDirectory ? join(output, basename(path) || '.') : output;
      if (isDirectory && attributes.kind !== 'directory') await mkdir(output, { recursive: true });
      yield* walk(path, target, attributes);
    } catch (error) {
      fail(path, error);
    }
  }
}

async function fetchOne(
  context: Context,
  cluster: Cluster,
  { path, target, attributes }: Item,
  force: boolean,
  progress: Progress,
): Promise<boolean> {
  const there = await lstat(target).catch(() => undefined);
  if (there?.isDirectory()) throw new HoldfastError('EISDIR', `${printable(target)} is a directory here`);
  if (attributes.kind === 'symlink') {
    if (there) await rm(target);
    await symlink(attributes.target ?? '', target);
    return true;
  }
  if (there && !force) {
    if (there.size === attributes.sizeBytes && Math.floor(there.mtimeMs) === mtimeMs(attributes)) {
      progress.skip(attributes.sizeBytes);
      return false;
    }
    throw new HoldfastError('EEXIST', `${printable(target)} exists here already and differs: --force replaces it`);
  }
  const part = join(dirname(target), `.${basename(target).slice(0, 150)}.${attributes.inode}-${attributes.dataVersion}.part`);
  const handle = await cluster.open(attributes.inode);
  const file = await open(part, constants.O_RDWR | constants.O_CREAT, 0o600);
  try {
    let offset = Math.min((await file.stat()).size, attributes.sizeBytes);
    progress.skip(offset);
    while (offset < attributes.sizeBytes) {
      if (context.interrupted.signal.aborted) throw context.interrupted.signal.reason;
      const data = await at(path, handle.read(offset, Math.min(READ_BYTES, attributes.sizeBytes - offset)));
      if (data.length === 0) throw new HoldfastError('ESTALE', 'the file became shorter meanwhile: download it again');
      for (let written = 0; written < data.length; ) {
        const { bytesWritten } = await file.write(data, written, data.length - written, offset + written);
        written += bytesWritten;
      }
      offset += data.length;
      progress.add(data.length);
    }
    const now = await handle.attributes();
    if (now.dataVersion !== attributes.dataVersion) {
      await rm(part, { force: true });
      throw new HoldfastError('ESTALE', 'the file was changed meanwhile: download it again');
    }
    await file.chmod(attributes.mode & 0o777);
    // Bytes first, then the name: after a power failure there is never a whole name with half a file.
    await file.sync();
  } finally {
    await file.close();
    await handle.release();
  }
  const atMs = mtimeMs(attributes) / 1000;
  await utimes(part, atMs, atMs);
  await rename(part, target);
  return true;
}
