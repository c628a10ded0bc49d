/**
 * upload: local files into the cluster.
 *
 * A file is written under a temporary name in its target directory and renamed when it is whole, so nobody sees half of it. The temporary name
 * carries size and mtime of the source: an upload that was cut goes on where the last commit ended, unless the source has changed since.
 */
import { createHash } from 'node:crypto';
import { constants, type Dirent, type Stats } from 'node:fs';
import { lstat, open, readdir, readlink } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import type { InodeAttributes } from '../../../protocol/entities.js';
import { HoldfastError, isCode } from '../../../protocol/errors.js';
import type { Cluster, FileHandle } from '../../api.js';
import type { Context } from '../context.js';
import { CliError, EXIT, tellError } from '../exit-codes.js';
import { inParallel } from '../parallel.js';
import { byteProgress, type Progress } from '../progress.js';
import { countWords, printable, sizeWords } from '../words.js';
import { at, contentOf, find, joinPath, makeDirectories, me, nameOf, parentOf } from './files.js';

const READ_BYTES = 1024 * 1024;
/** What is not committed is lost when an upload is cut. */
const COMMIT_EVERY_BYTES = 64 * 1024 * 1024;

export interface UploadOptions {
  readonly recursive?: boolean;
  readonly to?: string;
  readonly parallel?: number;
  readonly verify?: boolean;
  readonly force?: boolean;
}
interface Item {
  readonly source: string;
  readonly target: string;
  readonly stats: Stats;
}
interface Tally {
  uploaded: number;
  unchanged: number;
  failed: number;
  bytes: number;
}

export async function upload(context: Context, options: UploadOptions, args: string[]): Promise<number> {
  const sources = options.to === undefined && args.length > 1 ? args.slice(0, -1) : args;
  const wanted = options.to ?? (args.length > 1 ? (args[args.length - 1] as string) : '/');
  const target = context.path(wanted);
  if (sources.includes('-')) {
    if (sources.length > 1) throw new CliError('"-" (standard input) is uploaded alone', EXIT.usage);
    return uploadStdin(context, target);
  }
  context.whenInterrupted = 'the same command again goes on where it ended';
  // Somebody waits for the network here, not for a single file: also of small files only what is new is sent.
  const cluster = await context.cluster('content', { deduplicateFromBytes: 1 });
  const there = await find(cluster, target);
  const isDirectory = there?.kind === 'directory' || wanted.endsWith('/') || sources.length > 1;
  if (there && there.kind !== 'directory' && isDirectory) throw new HoldfastError('ENOTDIR', printable(target));

  const tally: Tally = { uploaded: 0, unchanged: 0, failed: 0, bytes: 0 };
  const progress = byteProgress(context, 'uploading', await totalBytes(sources));
  let firstError: unknown;
  const fail = (what: string, error: unknown): void => {
    tally.failed += 1;
    firstError ??= error;
    const told = tellError(error, context.url);
    if (context.isJson) context.json({ schema: 1, source: what, error: told });
    else progress.note(`holdfast: ${told.message.includes(what) ? '' : `${printable(what)}: `}${printable(told.message)}`);
  };
  const made = new Map<string, Promise<InodeAttributes>>();
  const directory = (path: string): Promise<InodeAttributes> => {
    let found = made.get(path);
    if (!found) {
      found = makeDirectories(cluster, path);
      made.set(path, found);
    }
    return found;
  };
  const { signal } = context.interrupted;
  let isCut = false;
  await inParallel(itemsOf(sources, target, isDirectory, options.recursive === true, fail), options.parallel ?? 4, async (item) => {
    isCut ||= signal.aborted;
    if (isCut) return;
    try {
      if (item.stats.isDirectory()) await directory(item.target);
      else await uploadOne(context, cluster, await directory(parentOf(item.target)), item, options, tally, progress);
    } catch (error) {
      isCut ||= signal.aborted;
      if (!isCut) fail(item.source, error);
    }
  });
  progress.end();
  // A signal that came when everything was in its place has cut nothing.
  if (isCut) throw signal.reason;
  if (context.isJson)
    context.json({
      schema: 1,
      done: true,
      uploaded: tally.uploaded,
      unchanged: tally.unchanged,
      failed: tally.failed,
      bytes: tally.bytes,
      sentBytes: cluster.sentBytes,
    });
  else {
    const parts = [`${countWords(tally.uploaded, 'file')} (${sizeWords(tally.bytes)}) uploaded to ${printable(target)}`];
    // Less than the files have: the cluster knew some of their chunks.
    if (tally.bytes > 0 && cluster.sentBytes < tally.bytes * 0.98) parts.push(`${sizeWords(cluster.sentBytes)} sent, the rest was there`);
    if (tally.unchanged > 0) parts.push(`${tally.unchanged} unchanged`);
    if (tally.failed > 0) parts.push(`${tally.failed} FAILED`);
    context.note(parts.join(', '));
  }
  if (tally.failed === 0) return EXIT.ok;
  if (tally.uploaded + tally.unchanged > 0) return EXIT.partial;
  // One file, one reason: its own exit code says most.
  if (firstError !== undefined && tally.failed === 1) {
    return tellError(firstError).exitCode;
  }
  return EXIT.error;
}

async function totalBytes(sources: readonly string[]): Promise<number> {
  let sum = 0;
  for (const source of sources) {
    const stats = await lstat(source).catch(() => undefined);
    if (stats?.isFile()) sum += stats.size;
    else if (stats?.isDirectory())
      for (const child of await readdir(source, { recursive: true, withFileTypes: true }).catch((): Dirent[] => []))
        if (child.isFile()) sum += (await lstat(join(child.parentPath, child.name)).catch(() => undefined))?.size ?? 0;
  }
  return sum;
}

/** What is to be uploaded and where to; directories come before what is in them. */
async function* itemsOf(
  sources: readonly string[],
  target: string,
  isDirectory: boolean,
  recursive: boolean,
  fail: (what: string, error: unknown) => void,
): AsyncGenerator<Item> {
  for (const source of sources) {
    try {
      const stats = await lstat(source);
      const place = isDirectory ? joinPath(target, basename(resolve(source))) : target;
      if (!stats.isDirectory()) yield { source, target: place, stats };
      else if (!recursive) fail(source, new CliError('it is a directory: use -r', EXIT.usage));
      else yield* treeOf(source, place, stats, fail);
    } catch (error) {
      fail(source, error);
    }
  }
}

async function* treeOf(source: string, target: string, stats: Stats, fail: (what: string, error: unknown) => void): AsyncGenerator<Item> {
  yield { source, target, stats };
  for (const name of await readdir(source)) {
    const child = join(source, name);
    try {
      const childStats = await lstat(child);
      if (childStats.isDirectory()) yield* treeOf(child, joinPath(target, name), childStats, fail);
      else yield { source: child, target: joinPath(target, name), stats: childStats };
    } catch (error) {
      fail(child, error);
    }
  }
}

const time = (ms: number): { s: number; ns: number } => {
  const s = Math.floor(ms / 1000);
  return { s, ns: Math.min(Math.max(Math.round((ms - s * 1000) * 1e6), 0), 999_999_999) };
};
/** Milliseconds are enough to see that a source is the same. */
const isSame = (there: InodeAttributes, stats: Stats): boolean =>
  there.kind === 'file' &&
  there.sizeBytes === stats.size &&
  there.mtimeS * 1000 + Math.floor(there.mtimeNs / 1e6) === Math.floor(stats.mtimeMs);

async function uploadOne(
  context: Context,
  cluster: Cluster,
  parent: InodeAttributes,
  { source, target, stats }: Item,
  options: UploadOptions,
  tally: Tally,
  progress: Progress,
): Promise<void> {
  const name = nameOf(target);
  const there = await at(target, cluster.tree.lookup(parent.inode, name));
  if (there?.kind === 'directory') throw new HoldfastError('EISDIR', `${printable(target)} is a directory in the cluster`);
  if (stats.isSymbolicLink()) {
    if (there) await cluster.tree.unlink(parent.inode, name, me());
    await cluster.tree.create({
      parent: parent.inode,
      name,
      kind: 'symlink',
      mode: 0o777,
      as: me(),
      exclusive: true,
      target: await readlink(source),
    });
    tally.uploaded += 1;
    if (context.isJson) context.json({ schema: 1, source, path: target, kind: 'symlink' });
    return;
  }
  if (!stats.isFile()) throw new CliError('neither file, directory nor symlink: left out');
  if (there && !options.force && isSame(there, stats)) {
    tally.unchanged += 1;
    progress.skip(stats.size);
    progress.check(stats.size);
    if (context.isJson) context.json({ schema: 1, source, path: target, sizeBytes: stats.size, unchanged: true });
    return;
  }
  const stamp = createHash('sha256').update(`${stats.size} ${stats.mtimeMs} ${name}`).digest('hex').slice(0, 24);
  const temporary = `.holdfast-upload-${stamp}`;
  const created = await at(
    target,
    cluster.tree.create({ parent: parent.inode, name: temporary, kind: 'file', mode: stats.mode & 0o777, as: me(), exclusive: false }),
  );
  const handle = await cluster.open(created.attributes.inode);
  const from = options.force ? 0 : Math.min(created.attributes.sizeBytes, stats.size);
  let digest: string;
  try {
    progress.skip(from);
    digest = await copyIn(context, source, handle, from, progress);
    await unlessCut(context, handle.truncate(stats.size));
    await unlessCut(context, handle.sync());
    if (options.verify !== false) await compare(context, cluster, joinPath(parentOf(target), temporary), digest, progress);
    else progress.check(stats.size);
  } finally {
    await handle.release();
  }
  await cluster.tree.setAttributes(created.attributes.inode, {
    mode: stats.mode & 0o777,
    mtime: time(stats.mtimeMs),
    atime: time(stats.atimeMs),
  });
  await cluster.tree.rename({ parent: parent.inode, name: temporary }, { parent: parent.inode, name }, 'replace', me());
  await cluster.syncTree();
  tally.uploaded += 1;
  tally.bytes += stats.size;
  if (context.isJson) context.json({ schema: 1, source, path: target, sizeBytes: stats.size, sha256: digest, resumedAt: from });
}

/** Copies a file's bytes from `from` on, hashing all of it. @returns SHA-256 of the source in hex */
async function copyIn(context: Context, source: string, handle: FileHandle, from: number, progress: Progress): Promise<string> {
  const file = await open(source, constants.O_RDONLY);
  const hash = createHash('sha256');
  try {
    let sinceCommit = 0;
    for (let offset = 0; ; ) {
      // What waits to be written is saved by the end of the client, after the user has been told.
      context.interrupted.signal.throwIfAborted();
      // A fresh buffer each time: the library keeps what it is given.
      const buffer = Buffer.allocUnsafe(READ_BYTES);
      const { bytesRead } = await file.read(buffer, 0, READ_BYTES, offset);
      if (bytesRead === 0) break;
      const data = buffer.subarray(0, bytesRead);
      hash.update(data);
      const skip = Math.min(Math.max(from - offset, 0), bytesRead);
      if (skip < bytesRead) {
        await handle.write(offset + skip, data.subarray(skip));
        progress.add(bytesRead - skip);
        sinceCommit += bytesRead - skip;
      }
      offset += bytesRead;
      if (sinceCommit >= COMMIT_EVERY_BYTES) {
        await unlessCut(context, handle.flush());
        sinceCommit = 0;
      }
    }
    return hash.digest('hex');
  } finally {
    await file.close();
  }
}

/** The program may be ended a few seconds after a signal: who waits for more than that must hear of it first. The work goes on. */
async function unlessCut<T>({ interrupted: { signal } }: Context, work: Promise<T>): Promise<T> {
  let cut = (): void => {};
  const isCut = new Promise<never>((_, reject) => {
    cut = () => reject(signal.reason as Error);
    signal.addEventListener('abort', cut, { once: true });
  });
  if (signal.aborted) cut();
  try {
    return await Promise.race([work, isCut]);
  } finally {
    signal.removeEventListener('abort', cut);
  }
}

/** Reads a file back from the nodes. @throws {HoldfastError} CHUNK_CORRUPT when it differs */
async function compare(context: Context, cluster: Cluster, path: string, digest: string, progress: Progress): Promise<void> {
  const hash = createHash('sha256');
  for await (const data of contentOf(cluster, path)) {
    context.interrupted.signal.throwIfAborted();
    hash.update(data);
    progress.check(data.length);
  }
  if (hash.digest('hex') !== digest)
    throw new HoldfastError(
      'CHUNK_CORRUPT',
      'what was read back differs from the source (did the source change meanwhile?): upload it again with --force',
    );
}

async function uploadStdin(context: Context, target: string): Promise<number> {
  const cluster = await context.cluster();
  const parent = await makeDirectories(cluster, parentOf(target));
  const there = await find(cluster, target);
  if (there?.kind === 'directory') throw new HoldfastError('EISDIR', `${printable(target)} is a directory: name the file to be made`);
  const temporary = `.holdfast-upload-${process.pid}-${Date.now().toString(36)}`;
  const { attributes } = await cluster.tree.create({
    parent: parent.inode,
    name: temporary,
    kind: 'file',
    mode: 0o644,
    as: me(),
    exclusive: true,
  });
  const handle = await cluster.open(attributes.inode);
  let offset = 0;
  const hash = createHash('sha256');
  try {
    for await (const data of process.stdin as AsyncIterable<Buffer>) {
      if (context.interrupted.signal.aborted) throw context.interrupted.signal.reason;
      hash.update(data);
      await handle.write(offset, data);
      offset += data.length;
    }
    await handle.sync();
  } catch (error) {
    // Standard input cannot be asked again, so half of it is of no use.
    await cluster.tree.unlink(parent.inode, temporary, me()).catch((second: unknown) => {
      if (!isCode(second, 'ENOENT')) context.note(`holdfast: ${temporary} is left in ${parentOf(target)}`);
    });
    throw error;
  } finally {
    await handle.release();
  }
  await cluster.tree.rename({ parent: parent.inode, name: temporary }, { parent: parent.inode, name: nameOf(target) }, 'replace', me());
  await cluster.syncTree();
  if (context.isJson) context.json({ schema: 1, source: '-', path: target, sizeBytes: offset, sha256: hash.digest('hex') });
  else context.note(`${sizeWords(offset)} uploaded to ${printable(target)}`);
  return EXIT.ok;
}
