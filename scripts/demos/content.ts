/** Files whose bytes are known: written and synced with a digest, to be compared later. */
import { createCipheriv, createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, open } from 'node:fs/promises';
import { dirname } from 'node:path';

const MIB = 1024 * 1024;
const zeros = Buffer.alloc(MIB);

/** Bytes that look random and depend on the name alone: at most 1 MiB. */
function noise(name: string, sizeBytes: number): Buffer {
  const key = createHash('sha256').update(name).digest().subarray(0, 16);
  return createCipheriv('aes-128-ctr', key, Buffer.alloc(16)).update(zeros.subarray(0, sizeBytes));
}

/** Writes a file of bytes that are nowhere else. @returns its SHA-256 once fsync and close have succeeded */
export async function writeFileOf(path: string, sizeBytes: number): Promise<string> {
  const hash = createHash('sha256');
  await mkdir(dirname(path), { recursive: true });
  const file = await open(path, 'w');
  try {
    for (let offset = 0; offset < sizeBytes; offset += MIB) {
      const block = noise(`${path}-${offset}`, Math.min(MIB, sizeBytes - offset));
      hash.update(block);
      await file.write(block);
    }
    await file.sync();
  } finally {
    await file.close();
  }
  return hash.digest('hex');
}

export async function digestOf(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const data of createReadStream(path, { highWaterMark: MIB })) hash.update(data as Buffer);
  return hash.digest('hex');
}
