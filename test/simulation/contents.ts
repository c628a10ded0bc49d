/**
 * What the simulated programs write. Some contents come from a small pool, so that equal chunks are written, deleted and written again all the
 * time; the others are written once and tell by themselves which write they are from.
 */
import type { Random } from './random.js';
import { Random as RandomSource } from './random.js';

const BLOCK_BYTES = 1024 * 1024;
let sharedBlock: Buffer | undefined;
/** The same random megabyte in every run: every content is a piece of it. */
function block(): Buffer {
  sharedBlock ??= new RandomSource(0x5eed).bytes(BLOCK_BYTES);
  return sharedBlock;
}

const POOL_SIZE = 6;

export class Contents {
  constructor(
    private readonly random: Random,
    readonly maxBytes: number,
  ) {}

  /** A content that others write as well. */
  common(lengthBytes: number): Buffer {
    const start = this.random.int(POOL_SIZE) * 4096;
    return block().subarray(start, start + lengthBytes);
  }
  /** A content that (very likely) nobody else writes. */
  unique(lengthBytes: number): Buffer {
    const start = 65_536 + this.random.int(BLOCK_BYTES - 65_536 - lengthBytes);
    return block().subarray(start, start + lengthBytes);
  }
  any(lengthBytes: number): Buffer {
    return this.random.chance(0.5) ? this.common(lengthBytes) : this.unique(lengthBytes);
  }
  /** Mostly small, now and then some chunks; common lengths repeat so that whole chunks are equal. */
  length(): number {
    const { random } = this;
    if (random.chance(0.4)) return random.pick([1, 100, 4096, 4096, 8192, 20_000]);
    if (random.chance(0.85)) return 1 + random.int(12_000);
    return Math.min(this.maxBytes, random.pick([65_536, 65_536, 131_072, 70_000 + random.int(60_000)]));
  }
}
