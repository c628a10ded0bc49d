// A program that writes and syncs small files without a break until its standard input ends, then tells how it went: one JSON object.
//
// It is a process of its own: whoever has a file open on the mount cannot start another program while the mount waits for the coordinator,
// because starting one closes the file in the child, and closing waits for the data to be saved.
import { join } from 'node:path';
import { writeFileOf } from './content.js';

export interface LoadResult {
  /** Name below the folder → SHA-256, of files whose fsync and close succeeded. */
  readonly digests: Record<string, string>;
  readonly errors: string[];
  readonly worstMs: number;
}

const [folder = ''] = process.argv.slice(2);
let isStopped = false;
process.stdin.on('end', () => {
  isStopped = true;
});
process.stdin.resume();

const digests: Record<string, string> = {};
const errors: string[] = [];
let worstMs = 0;
console.log('ready');
for (let index = 0; !isStopped; index++) {
  const startMs = performance.now();
  const name = `load/f${index}`;
  try {
    digests[name] = await writeFileOf(join(folder, name), 64 * 1024);
  } catch (error) {
    errors.push((error as Error).message);
    // What the application was told has failed may be there or not.
  }
  worstMs = Math.max(worstMs, performance.now() - startMs);
}
const result: LoadResult = { digests, errors, worstMs };
console.log(JSON.stringify(result));
