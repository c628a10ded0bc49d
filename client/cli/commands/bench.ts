/** bench: a quick measure of a cluster through the library, without a mount. (scripts/bench compares a mount with a local disk.) */
import { randomBytes } from 'node:crypto';
import type { Cluster } from '../../api.js';
import type { Context } from '../context.js';
import { inParallel } from '../parallel.js';
import { table } from '../words.js';
import { makeDirectories, me } from './files.js';

const MIB = 1024 * 1024;

export async function bench(context: Context, options: { size?: number; files?: number }): Promise<void> {
  const cluster = await context.cluster();
  const name = `.holdfast-bench-${process.pid}`;
  const directory = await makeDirectories(cluster, `/${name}`);
  const results: Record<string, number> = {};
  const made: string[] = [];
  const create = async (file: string): Promise<number> => {
    made.push(file);
    const { attributes } = await cluster.tree.create({
      parent: directory.inode,
      name: file,
      kind: 'file',
      mode: 0o600,
      as: me(),
      exclusive: true,
    });
    return attributes.inode;
  };
  try {
    const sizeMiB = options.size ?? 256;
    // Bytes that are nowhere else in the cluster, or sharing would make it look faster than it is.
    const salt = randomBytes(16 * MIB);
    const block = (index: number): Buffer => {
      const data = Buffer.from(salt.subarray((index * 7919) % (15 * MIB), ((index * 7919) % (15 * MIB)) + MIB));
      data.writeUInt32LE(index, 0);
      return data;
    };
    const big = await cluster.open(await create('big'));
    results.write_MBps = await rate(sizeMiB * 1.048576, async () => {
      for (let index = 0; index < sizeMiB && !context.interrupted.signal.aborted; index++) await big.write(index * MIB, block(index));
      await big.sync();
    });
    results.read_MBps = await rate(sizeMiB * 1.048576, async () => {
      for (let index = 0; index < sizeMiB && !context.interrupted.signal.aborted; index++) await big.read(index * MIB, MIB);
    });
    await big.release();
    const count = options.files ?? 500;
    const small = async (index: number): Promise<void> => {
      const file = await cluster.open(await create(`f${index}`));
      await file.write(0, block(index).subarray(0, 4096));
      await file.flush();
      await file.release();
    };
    const numbers = Array.from({ length: count }, (_, index) => index);
    results.create4k_ps = await rate(count, async () => {
      for (const index of numbers) await small(index);
    });
    results.create4k_parallel_ps = await rate(count, () => inParallel(numbers, 16, (index) => small(count + index)));
  } finally {
    await removeAll(cluster, directory.inode, name, made);
  }
  if (context.isJson) return context.json({ schema: 1, ...results });
  const rows = [
    ['sequential write and sync', `${results.write_MBps} MB/s`],
    ['sequential read', `${results.read_MBps} MB/s`],
    ['create, write 4 KiB, close', `${results.create4k_ps} files/s`],
    ['the same, 16 at once', `${results.create4k_parallel_ps} files/s`],
  ];
  for (const line of table(rows, [1])) context.print(line);
}

async function rate(amount: number, work: () => Promise<void>): Promise<number> {
  const startMs = performance.now();
  await work();
  return Math.round((amount / (performance.now() - startMs)) * 10_000) / 10;
}

async function removeAll(cluster: Cluster, directory: number, name: string, files: readonly string[]): Promise<void> {
  await inParallel(files, 16, (file) => cluster.tree.unlink(directory, file, me()).catch(() => {}));
  await cluster.tree.removeDirectory(cluster.tree.root, name, me());
}
