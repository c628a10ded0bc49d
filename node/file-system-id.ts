/** A name for the file system a path is on: equal for all processes under one kernel, also in containers; other machines have others. */
import { createHash } from 'node:crypto';
import { readFile, stat } from 'node:fs/promises';
import { hostname } from 'node:os';

/** @returns 32 hex digits. @throws what the operating system says when the path does not exist */
export async function fileSystemId(path: string): Promise<string> {
  const { dev } = await stat(path, { bigint: true });
  // Device numbers mean something under one running kernel only; the name of the host stands in where the kernel has no id.
  const kernel = await readFile('/proc/sys/kernel/random/boot_id', 'utf8').catch(() => hostname());
  return createHash('sha256').update(`${kernel.trim()} ${dev}`).digest('hex').slice(0, 32);
}
