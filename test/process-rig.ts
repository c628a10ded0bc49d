/** A cluster of real processes below a temporary directory, and clients of it in the test's own process; `stop` takes everything away. */
import { execFileSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Cluster, connect } from '../client/index.js';
import type { CheckReport, ClusterEvent } from '../protocol/admin-calls.js';
import type { InodeId } from '../protocol/entities.js';
import { HoldfastError } from '../protocol/errors.js';
import { LocalCluster, waitUntil } from '../scripts/cluster.js';

export const AS_ROOT = { uid: 0, gid: 0 };
/** Far beyond what anything here takes on a loaded machine; only a hang meets it. */
export const PATIENCE_MS = 120_000;
export const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');
export const random = (sizeBytes: number): Buffer => randomBytes(sizeBytes);

export interface RigOptions {
  readonly nodes?: number;
  readonly copies?: number;
  readonly coordinatorArgs?: readonly string[];
  readonly nodeArgs?: readonly string[];
  /** Called before anything starts, e.g. to mount small disks below the state directory. */
  readonly prepare?: (cluster: LocalCluster) => void | Promise<void>;
}

export class ProcessRig {
  private readonly clients = new Set<Cluster>();
  private constructor(
    readonly directory: string,
    readonly cluster: LocalCluster,
    private readonly undo: (() => void)[],
  ) {}

  static async start(options: RigOptions = {}): Promise<ProcessRig> {
    const directory = mkdtempSync(join(tmpdir(), 'holdfast-faults-'));
    const cluster = await LocalCluster.create(join(directory, 'state'), {
      nodes: options.nodes ?? 3,
      copies: options.copies ?? 2,
      port: 0,
      mount: null,
      coordinatorArgs: ['--down-after', '4000', '--stopped-grace', '8000', ...(options.coordinatorArgs ?? [])],
      nodeArgs: ['--reserve', '1M', ...(options.nodeArgs ?? [])],
    });
    const rig = new ProcessRig(directory, cluster, []);
    try {
      await options.prepare?.(cluster);
      await cluster.start();
    } catch (error) {
      await rig.stop();
      throw error;
    }
    return rig;
  }

  async client(outageTimeoutMs = 60_000): Promise<Cluster> {
    const client = await connect({
      coordinatorUrl: this.cluster.url,
      token: readFileSync(this.cluster.adminTokenFile, 'utf8').trim(),
      description: 'fault test',
      outageTimeoutMs,
    });
    this.clients.add(client);
    return client;
  }
  async close(client: Cluster): Promise<void> {
    this.clients.delete(client);
    await client.close();
  }
  /** Runs at the end, last first. */
  atEnd(action: () => void): void {
    this.undo.push(action);
  }

  async stop(): Promise<void> {
    for (const client of this.clients) await Promise.race([client.close(), new Promise((resolve) => setTimeout(resolve, 10_000))]);
    for (const process of this.processes()) await process.kill().catch(() => {});
    for (const action of this.undo.reverse()) action();
    rmSync(this.directory, { recursive: true, force: true, maxRetries: 5 });
  }
  /** Starts the coordinator or a node again after a kill. Its port may be held for a moment by an outgoing connection of somebody else: tried until it works. */
  async restart(name: string): Promise<void> {
    let problem: unknown;
    const started = async (): Promise<boolean> => {
      try {
        await (name === 'coordinator' ? this.cluster.startCoordinator(PATIENCE_MS) : this.cluster.startNode(name, PATIENCE_MS));
        return true;
      } catch (error) {
        problem = error;
        return false;
      }
    };
    if (!(await waitUntil(started, PATIENCE_MS, 500))) throw problem;
  }
  processes() {
    const { cluster } = this;
    return [cluster.coordinator, ...cluster.nodeNames.map((name) => cluster.node(name))];
  }

  /** Waits until every chunk has its copies and the books agree with the disks. */
  async waitForOrder(): Promise<CheckReport> {
    let report: CheckReport | undefined;
    let problem = '';
    const isInOrder = async (): Promise<boolean> => {
      try {
        report = await this.cluster.admin('check', {}, 60_000);
        const { dangling, missing, missingReplicas, wrongReferenceCounts, belowCopies, nodesNotReached } = report;
        problem = JSON.stringify(report);
        return dangling + missing + missingReplicas + wrongReferenceCounts + belowCopies + nodesNotReached.length === 0;
      } catch (error) {
        problem = String(error);
        return false;
      }
    };
    if (!(await waitUntil(isInOrder, PATIENCE_MS, 300)) || !report) throw new Error(`the cluster is not in order: ${problem}`);
    return report;
  }
  /** Waits until no chunk has a copy too many, nor one that is just being deleted: a put that was late or a node that was away leaves one for some ten seconds. */
  async waitForNoSurplus(): Promise<void> {
    await this.waitForOrder();
    let before = '';
    const isTrimmed = async (): Promise<boolean> => {
      const { chunks } = await this.cluster.status();
      const files = this.cluster.nodeNames.flatMap((name) => this.chunkFiles(name).sort()).join();
      // The books lose a copy before the disk does; and what was just put on a third node is told to the coordinator a moment later.
      const isAtRest = files === before;
      before = files;
      return isAtRest && chunks.histogram.byGoodReplicas.slice(this.cluster.copies + 1).every((count) => count === 0);
    };
    if (!(await waitUntil(isTrimmed, PATIENCE_MS, 1000))) throw new Error('there are still chunks with more copies than they should have');
  }
  /** What the coordinator has told since the event with this number. */
  async events(after = 0): Promise<readonly ClusterEvent[]> {
    const all: ClusterEvent[] = [];
    for (;;) {
      const page = await this.cluster.admin('events', { after: all.at(-1)?.sequence ?? after, limit: 1000 });
      all.push(...page.events);
      if (page.events.length < 1000) return all;
    }
  }
  /** Chunk files of a node as they lie on its disk. */
  chunkFiles(node: string): string[] {
    const chunks = join(this.cluster.nodeData(node), 'chunks');
    if (!existsSync(chunks)) return [];
    return readdirSync(chunks).flatMap((folder) => readdirSync(join(chunks, folder)).map((name) => join(chunks, folder, name)));
  }
}

/** Makes a file (or replaces its content) and returns when it is closed, or synced. */
export async function writeFile(cluster: Cluster, name: string, content: Buffer, isDurable = false): Promise<InodeId> {
  const { tree } = cluster;
  const created = await tree.create({ parent: tree.root, name, kind: 'file', mode: 0o644, as: AS_ROOT, exclusive: false });
  const handle = await cluster.open(created.attributes.inode);
  try {
    if (!created.isNew) await handle.truncate(0);
    for (let at = 0; at < content.length; at += 1024 * 1024) await handle.write(at, content.subarray(at, at + 1024 * 1024));
    await (isDurable ? handle.sync() : handle.flush());
  } finally {
    await handle.release();
  }
  return created.attributes.inode;
}
export async function readFile(cluster: Cluster, name: string): Promise<Buffer> {
  const handle = await cluster.open((await cluster.tree.resolve(`/${name}`)).inode);
  try {
    const parts: Buffer[] = [];
    for (let at = 0; ; ) {
      const part = await handle.read(at, 4 * 1024 * 1024);
      if (part.length === 0) return Buffer.concat(parts);
      parts.push(part);
      at += part.length;
    }
  } finally {
    await handle.release();
  }
}
export const unlink = (cluster: Cluster, name: string): Promise<void> => cluster.tree.unlink(cluster.tree.root, name, AS_ROOT);

/** The error's code, or 'none' when the promise resolved. */
export async function codeOf(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
    return 'none';
  } catch (error) {
    return error instanceof HoldfastError ? error.code : String(error);
  }
}
export { waitUntil } from '../scripts/cluster.js';

export function hasProgram(name: string): boolean {
  try {
    execFileSync('sh', ['-c', `command -v ${name}`], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}
