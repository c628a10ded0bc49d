/** What the fuzzers know of the cluster they attack: addresses, tokens of little power, and numbers and names that mean something to it. */
import type { NewToken } from '../../protocol/access-calls.js';
import type { Random } from '../simulation/random.js';
import type { Hint } from './schema-values.js';

export interface Target {
  readonly coordinatorUrl: string;
  readonly nodeUrls: readonly string[];
  /** A new token of the user with rights to one volume of their own. */
  userToken(): Promise<NewToken>;
  joinToken(): Promise<NewToken>;
  /** Of somebody else. */
  readonly foreign: {
    readonly user: string;
    readonly volume: string;
    readonly inodes: readonly number[];
    readonly chunks: readonly string[];
    readonly names: readonly string[];
    readonly permit: string;
  };
}

/** Numbers and names for the fields of calls: own ones, somebody else's, and some that are nobody's. */
export class Knowledge {
  readonly inodes = new Set<number>();
  readonly chunks = new Set<string>();
  readonly receipts = new Set<string>();
  readonly watches = new Set<number>();
  private root: number | undefined;

  constructor(readonly target: Target) {}

  /** Looks for inodes and the like in what came back. */
  learn(value: unknown, key = ''): void {
    if (typeof value === 'number' && (key === 'inode' || key === 'root') && this.inodes.size < 300) this.inodes.add(value);
    if (typeof value === 'number' && key === 'root') this.root ??= value;
    if (typeof value === 'number' && key === 'watch') this.watches.add(value);
    if (typeof value !== 'object' || value === null || value instanceof Uint8Array) return;
    for (const [name, one] of Object.entries(value)) this.learn(one, Array.isArray(value) ? key : name);
  }

  readonly hint: Hint = (key, random) => {
    const { foreign } = this.target;
    switch (key) {
      case 'parent':
      case 'fromParent':
      case 'toParent':
        // Mostly the root: few others are directories, and two at once would hardly ever be met.
        return this.root !== undefined && random.chance(0.7) ? this.root : this.inode(random);
      case 'inode':
      case 'inodes':
      case 'from':
      case 'to':
      case 'expected':
        // `from` and `to` are paths in some calls: strings there are tried by `path`.
        return this.inode(random);
      case 'name':
      case 'fromName':
      case 'toName':
        return random.chance(0.8)
          ? random.pick(['a', 'b', 'c', 'd', 'e', 'f', 'd1', 'd2', 'user.a', 'user.b'])
          : random.pick(foreign.names);
      case 'chunk':
      case 'chunks':
        return this.chunk(random);
      case 'receipts':
        return random.chance(0.7) && this.receipts.size > 0 ? random.pick([...this.receipts]) : 'x.y';
      case 'value':
        return random.bytes(random.int(200));
      case 'path':
        return `/${random.pick(['', 'a', 'b', 'd1/a', 'd1', '.snapshots', '.trash/a', 'a/../b', ...foreign.names])}`;
      case 'volume':
        return random.pick(['berta', 'berta', foreign.volume, 'main', 'nobody']);
      case 'user':
        return random.pick(['berta', foreign.user, 'admin', 'nobody']);
      case 'node':
        return random.int(5);
      case 'watch':
        return this.watches.size > 0 ? random.pick([...this.watches]) : 1;
      case 'mode':
        return random.pick([0o644, 0o755, 0o7777, 0]);
      case 'offset':
      case 'fromOffset':
      case 'toOffset':
      case 'start':
      case 'sizeBytes':
      case 'appendBase':
      case 'chunkOffset':
        return random.pick([0, 0, 1, 4096, 65_536, 1_048_576, 2 ** 40, 2 ** 52]);
      case 'length':
        return random.pick([1, 10, 4096, 65_536, 2 ** 40, 2 ** 52]);
      case 'limit':
        return random.pick([1, 10, 1000]);
      case 'olderThanMs':
        return 0;
      default:
        return undefined;
    }
  };

  private inode(random: Random): number {
    const { inodes } = this.target.foreign;
    if (random.chance(0.75) && this.inodes.size > 0) return random.pick([...this.inodes]);
    return random.chance(0.7) ? random.pick(inodes) : random.pick([1, 2, 3, 1000 + random.int(100_000), 2 ** 40, 2 ** 52 + 7]);
  }
  chunk(random: Random): string {
    if (random.chance(0.4) && this.chunks.size > 0) return random.pick([...this.chunks]);
    return random.chance(0.6) ? random.pick(this.target.foreign.chunks) : random.bytes(32).toString('hex');
  }
}
