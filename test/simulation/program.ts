/**
 * What every simulated program shares: it works through a client's library, one operation at a time, knows what each answer must be, and says so
 * when it is not.
 */
import type { Cluster, FileHandle } from '../../client/api.js';
import type { InodeAttributes, InodeId } from '../../protocol/entities.js';
import { HoldfastError } from '../../protocol/errors.js';
import type { Administrator } from './administrator.js';
import { Contents } from './contents.js';
import { describe } from './network.js';
import type { Random } from './random.js';
import type { World } from './world.js';

/** The process that used the library is gone: whatever was asked has no answer. */
export class ClientGone extends Error {}

/** A client process as programs see it. */
export interface ClientSeat {
  readonly name: string;
  /** Changes whenever the process ends: handles of before are void. */
  readonly life: number;
  readonly isAlive: boolean;
  /** Rejects with ClientGone when the process ends before the answer. */
  use<T>(action: (cluster: Cluster) => Promise<T>): Promise<T>;
}

export interface Surroundings {
  readonly world: World;
  readonly random: Random;
  readonly clients: readonly ClientSeat[];
  readonly administrator: Administrator;
  /** Largest file that is worth writing. */
  readonly maxFileBytes: number;
  readonly chunkSizeBytes: number;
  /** Disks are so small that they may fill up, or were full since the last verification: then the trash gives way. */
  mayBeFull(): boolean;
  /** What the coordinator's clock shows, which may be set forward and back. */
  coordinatorClockMs(): number;
  /** False as soon as any fault was injected since the last verification: then calls may fail. */
  isCalm(): boolean;
  /** Simulated pause. */
  pause(delayMs: number): Promise<void>;
}

export type Outcome<T> =
  | { readonly state: 'ok'; readonly value: T }
  /** Refused for a reason of the file system: nothing was changed. */
  | { readonly state: 'refused'; readonly errno: string }
  /** Nobody knows whether it was done. */
  | { readonly state: 'unknown'; readonly error: Error };

/** Errors that say for sure that nothing happened, and why. */
const definite = new Set([
  'ENOENT',
  'EEXIST',
  'ENOTDIR',
  'EISDIR',
  'ENOTEMPTY',
  'EINVAL',
  'ENAMETOOLONG',
  'ENODATA',
  'ENXIO',
  'EAGAIN',
  'EMLINK',
]);

export const ROOT_IDENTITY = { uid: 0, gid: 0 };

export abstract class Program {
  readonly world: World;
  readonly random: Random;
  readonly contents: Contents;
  /** What it is doing, for the report when it never ends. */
  readonly doing = new Set<string>();
  operations = 0;

  constructor(
    readonly name: string,
    protected readonly around: Surroundings,
  ) {
    this.world = around.world;
    this.random = around.random.fork();
    this.contents = new Contents(this.random, around.maxFileBytes);
  }

  /** Before the first step, while all is well. */
  abstract setUp(): Promise<void>;
  /** One operation (or a few that belong together). */
  abstract step(): Promise<void>;
  /** All is well again and nothing is under way: what is there must be what was promised. What is found is certain from now on. */
  abstract verify(seat: ClientSeat): Promise<void>;
  /** Removes everything. */
  abstract cleanUp(seat: ClientSeat): Promise<void>;
  clientDied(_seat: ClientSeat): void {}
  /** The client's session was forgotten, or its file is gone: what was written and not flushed was given up. */
  clientLostData(_seat: ClientSeat): void {}
  /** Answered changes that were not synced may be undone. */
  coordinatorLostPower(): void {}
  /** Bytes that were not synced may be gone. */
  nodesLostPower(): void {}
  /** True from a power loss to the next verification: answered changes may have been undone, so any refusal may be right. */
  protected get mayBeUndone(): boolean {
    return false;
  }
  /** True while stepping makes no sense before the next verification. */
  get isWaiting(): boolean {
    return false;
  }

  protected fail(text: string): void {
    this.world.fail(`${this.name}: ${text}`);
  }

  /** Does something and sorts its outcome; what may not fail in calm weather is a violation. */
  protected async attempt<T>(what: string, seat: ClientSeat, action: (cluster: Cluster) => Promise<T>): Promise<Outcome<T>> {
    const doing = `${what} on ${seat.name} since ${this.world.nowMs - 1_000_000} ms`;
    this.doing.add(doing);
    this.operations++;
    try {
      const value = await seat.use(action);
      this.world.note(`${this.name} ${what}: ok`);
      return { state: 'ok', value };
    } catch (error) {
      if (error instanceof ClientGone) {
        this.world.note(`${this.name} ${what}: client gone`);
        return { state: 'unknown', error };
      }
      if (!(error instanceof HoldfastError)) {
        this.fail(`${what} threw ${describe(error)}`);
        return { state: 'unknown', error: error as Error };
      }
      this.world.note(`${this.name} ${what}: ${error.code} ${error.message}`);
      if (definite.has(error.code) && !this.mayBeUndone) return { state: 'refused', errno: error.code };
      if (this.around.isCalm()) this.fail(`${what} failed without any fault: ${error.code} ${error.message}`);
      if (error.code === 'INTERNAL') this.fail(`${what}: ${error.message}`);
      return { state: 'unknown', error };
    } finally {
      this.doing.delete(doing);
    }
  }
}

const BEYOND_ANY_END = 2 ** 30;
/** In one call: between asking for the size and reading, the file may change. */
export const readWhole = (handle: FileHandle): Promise<Buffer> => handle.read(0, BEYOND_ANY_END);
export async function readFileAt(cluster: Cluster, inode: InodeId): Promise<Buffer> {
  const handle = await cluster.open(inode);
  try {
    return await readWhole(handle);
  } finally {
    await handle.release();
  }
}
export async function listAll(cluster: Cluster, directory: InodeId): Promise<{ name: string; attributes: InodeAttributes }[]> {
  const all: { name: string; attributes: InodeAttributes }[] = [];
  for (let after = ''; ; ) {
    const page = await cluster.tree.readDirectory(directory, after, 7);
    all.push(...page.entries);
    const last = page.entries[page.entries.length - 1];
    if (page.isLast || !last) return all;
    after = last.name;
  }
}
/** Removes a directory's content (not itself). */
export async function removeContent(cluster: Cluster, directory: InodeId): Promise<void> {
  for (const { name, attributes } of await listAll(cluster, directory)) {
    if (attributes.kind === 'directory') {
      await removeContent(cluster, attributes.inode);
      await cluster.tree.removeDirectory(directory, name, ROOT_IDENTITY);
    } else await cluster.tree.unlink(directory, name, ROOT_IDENTITY);
  }
}
