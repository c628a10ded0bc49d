/**
 * Real mounts for end-to-end tests: over a cluster in memory (tests of the driver alone) or over a local cluster of real processes.
 * Everything is below one temporary directory and is taken away by `stop`, also after a failure.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { accessSync, constants, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { LocalCluster, programFile } from '../scripts/cluster.js';
import { isMounted } from '../scripts/mounts.js';

/** Why nothing can be mounted here; undefined when it can. */
export function whyNoMount(): string | undefined {
  try {
    accessSync('/dev/fuse', constants.R_OK | constants.W_OK);
    execFileSync('fusermount3', ['--version'], { stdio: 'ignore' });
    return undefined;
  } catch {
    return '/dev/fuse or fusermount3 is missing';
  }
}

export const root = fileURLToPath(new URL('..', import.meta.url));

export interface MountRig {
  readonly directory: string;
  readonly mounts: readonly string[];
  stop(): Promise<void>;
}

const START_TIMEOUT_MS = 90_000;

async function until(what: string, isDone: () => boolean, timeoutMs = START_TIMEOUT_MS): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!isDone()) {
    if (performance.now() > deadline) throw new Error(`waited ${timeoutMs} ms for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** A process that serves a mount; its output is kept for the error message. */
export class MountProcess {
  readonly #child: ChildProcess;
  /** What is mounted there is ours to take away. */
  #hasMounted = false;
  output = '';
  exitCode: number | null | undefined;

  constructor(
    args: readonly string[],
    readonly mountpoint: string,
    env: NodeJS.ProcessEnv = {},
  ) {
    this.#child = spawn(process.execPath, [...args], { cwd: root, stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, ...env } });
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      stream?.on('data', (text: Buffer) => {
        this.output += text.toString();
      });
    }
    this.#child.on('exit', (code) => {
      this.exitCode = code;
    });
  }
  get pid(): number {
    return this.#child.pid ?? 0;
  }
  async ready(): Promise<void> {
    await until(`the mount at ${this.mountpoint}`, () => {
      if (this.exitCode !== undefined) throw new Error(`the mount ended with ${this.exitCode}: ${this.output}`);
      return isMounted(this.mountpoint) && /mounted/.test(this.output);
    });
    this.#hasMounted = true;
  }
  signal(name: NodeJS.Signals): void {
    this.#child.kill(name);
  }
  /** Resolves to the exit code; null when a signal ended it. */
  async ended(timeoutMs = 60_000): Promise<number | null> {
    await until(`the end of the mount at ${this.mountpoint}`, () => this.exitCode !== undefined, timeoutMs);
    return this.exitCode ?? null;
  }
  async stop(): Promise<void> {
    if (this.exitCode === undefined) this.signal('SIGTERM');
    try {
      await this.ended(30_000);
    } catch {
      this.signal('SIGKILL');
      await this.ended(10_000);
    } finally {
      if (this.#hasMounted && isMounted(this.mountpoint)) execFileSync('fusermount3', ['-uz', this.mountpoint]);
    }
  }
}

/** One mount over a cluster in memory. */
export async function startMemoryMount(): Promise<MountRig> {
  const directory = mkdtempSync(join(tmpdir(), 'hf-mount-'));
  const mountpoint = join(directory, 'mnt');
  mkdirSync(mountpoint);
  const served = new MountProcess(['--import', 'tsx', join(root, 'test/mount-memory.ts'), mountpoint], mountpoint);
  const stop = async () => {
    await served.stop();
    rmSync(directory, { recursive: true, force: true });
  };
  try {
    await served.ready();
  } catch (error) {
    await stop();
    throw error;
  }
  return { directory, mounts: [mountpoint], stop };
}

export interface ClusterRig extends MountRig {
  readonly cluster: LocalCluster;
  readonly processes: readonly MountProcess[];
  /** Arguments of `holdfast mount` for another mount of this cluster. */
  mountArguments(mountpoint: string): string[];
}

/** Mounts of one local cluster with three nodes and two copies, as real processes. */
export async function startClusterMounts(count: number, mountArgs: readonly string[] = []): Promise<ClusterRig> {
  const directory = mkdtempSync(join(tmpdir(), 'hf-mount-'));
  const mounts = Array.from({ length: count }, (_, index) => join(directory, `mnt${index + 1}`));
  const cluster = await LocalCluster.create(join(directory, 'state'), { nodes: 3, copies: 2, port: 0, mount: null });
  const processes: MountProcess[] = [];
  const mountArguments = (mountpoint: string) => [
    programFile,
    'mount',
    '--mount',
    mountpoint,
    '--coordinator',
    cluster.url,
    '--token-file',
    cluster.adminTokenFile,
    ...mountArgs,
  ];
  const stop = async () => {
    for (const one of processes) await one.stop();
    await cluster.purge();
    rmSync(directory, { recursive: true, force: true });
  };
  try {
    await cluster.start();
    for (const mountpoint of mounts) {
      mkdirSync(mountpoint);
      const served = new MountProcess(mountArguments(mountpoint), mountpoint);
      processes.push(served);
      await served.ready();
    }
  } catch (error) {
    await stop();
    throw error;
  }
  return { directory, mounts, cluster, processes, mountArguments, stop };
}
