/** What every demo stands on: a throw-away cluster, narration, and expectations that are counted. */
import { spawn } from 'node:child_process';
import { cpSync, mkdtempSync, rmSync } from 'node:fs';
import { readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type ClusterOptions, LocalCluster, programFile } from '../cluster.js';
import { digestOf, writeFileOf } from './content.js';
import type { LoadResult } from './load.js';

export interface Demo {
  readonly name: string;
  readonly summary: string;
  /** Why it cannot run here; undefined when it can. */
  readonly obstacle?: () => string | undefined;
  readonly cluster: Omit<ClusterOptions, 'port' | 'mount' | 'copies' | 'host'> & { readonly copies?: number };
  /** Address of coordinator and nodes when it is not the loopback. */
  readonly host?: string;
  /** Prepares what the cluster stands on. */
  readonly before?: (stage: Stage) => void | Promise<void>;
  /** Changes the cluster before its first start. */
  readonly afterCreate?: (stage: Stage) => void | Promise<void>;
  readonly run: (stage: Stage) => Promise<void>;
}

export class Stage {
  passed = 0;
  failed = 0;
  /** What was written and must be read back: file name → SHA-256. */
  private readonly written = new Map<string, string>();
  private readonly directory: string;
  private readonly startMs = performance.now();
  private readonly atStop: (() => void)[] = [];
  private readonly atEnd: (() => void | Promise<void>)[] = [];
  cluster!: LocalCluster;

  constructor(private readonly demo: Demo) {
    this.directory = mkdtempSync(join(tmpdir(), `holdfast-demo-${demo.name}-`));
  }

  get folder(): string {
    return join(this.directory, 'folder');
  }

  /** Sets the cluster up without starting it. */
  async prepare(): Promise<void> {
    const { demo } = this;
    await demo.before?.(this);
    const host = demo.host === undefined ? {} : { host: demo.host };
    this.cluster = await LocalCluster.create(join(this.directory, 'state'), {
      copies: 2,
      ...demo.cluster,
      ...host,
      port: 0,
      mount: this.folder,
    });
    await demo.afterCreate?.(this);
  }

  async start(): Promise<void> {
    await this.cluster.start();
    this.say(
      `A cluster of ${this.cluster.nodeNames.length} nodes is up, ${this.cluster.copies} copies of everything, mounted at ${this.folder}`,
    );
  }

  /** Tells what happens, with the seconds since the start. */
  say(text: string): void {
    console.log(`  ${((performance.now() - this.startMs) / 1000).toFixed(1).padStart(5)} s  ${text}`);
  }

  expect(isTrue: boolean, text: string): void {
    if (isTrue) this.passed += 1;
    else this.failed += 1;
    this.say(`${isTrue ? 'ok  ' : 'FAIL'}  ${text}`);
  }

  /** Does this first of all at the end: for programs that use the mount. */
  private onStop(action: () => void): void {
    this.atStop.push(action);
  }

  /** Does this at the end, when the cluster is gone, whatever happens. */
  onEnd(action: () => void | Promise<void>): void {
    this.atEnd.push(action);
  }

  /** Takes everything away that the demo made, but keeps the logs when a check failed. */
  async end(): Promise<void> {
    for (const action of this.atStop) action();
    if (this.cluster && this.failed > 0) {
      const logs = `${this.directory}-logs`;
      for (const name of ['coordinator', 'mount', ...this.cluster.nodeNames])
        cpSync(join(this.cluster.stateDirectory, name, 'log'), join(logs, name), { force: true });
      this.say(`the logs are kept in ${logs}`);
    }
    if (this.cluster) await this.cluster.purge();
    for (const action of this.atEnd.reverse()) {
      try {
        await action();
      } catch (error) {
        console.error((error as Error).message);
      }
    }
    rmSync(this.directory, { recursive: true, force: true });
  }

  /** Writes a file of bytes that are nowhere else and remembers their digest once fsync and close have succeeded. */
  async write(name: string, sizeBytes: number): Promise<void> {
    this.written.set(name, await writeFileOf(join(this.folder, name), sizeBytes));
  }

  async remove(name: string): Promise<void> {
    await rm(join(this.folder, name));
    this.written.delete(name);
  }

  /** Reads everything back. @returns names that differ or cannot be read */
  async wrongFiles(): Promise<string[]> {
    const wrong: string[] = [];
    for (const [name, digest] of this.written) {
      const found = await digestOf(join(this.folder, name)).catch((error: Error) => error.message);
      if (found !== digest) wrong.push(`${name} (${found.length === 64 ? 'other bytes' : found})`);
    }
    return wrong;
  }

  async expectAllReadable(): Promise<void> {
    const wrong = await this.wrongFiles();
    this.expect(
      wrong.length === 0,
      wrong.length === 0 ? `all ${this.written.size} files read back byte for byte` : `wrong: ${wrong.slice(0, 3).join(', ')}`,
    );
  }

  /** Unmounts and mounts again, so that the next read comes from the nodes and not from memory. */
  async forgetCaches(): Promise<void> {
    await this.cluster.stopMount('stop');
    await this.cluster.startMount();
  }

  /** Waits until every chunk has its copies again. */
  async expectHealed(timeoutMs: number): Promise<void> {
    const startMs = performance.now();
    try {
      const status = await this.cluster.waitFor(
        (now) => now.chunks.belowCopies === 0 && now.chunks.lost === 0 && !now.safeMode.isActive,
        timeoutMs,
        'full copies',
      );
      this.expect(
        true,
        `every one of ${status.chunks.total} chunks has ${this.cluster.copies} copies again, ${seconds(performance.now() - startMs)} later`,
      );
    } catch (error) {
      this.expect(false, (error as Error).message);
    }
  }

  /** Compares the metadata with what nodes really hold. */
  async expectSound(): Promise<void> {
    const report = await this.cluster.admin('check', {}, 120_000);
    const wrong = report.dangling + report.missing + report.wrongReferenceCounts + report.missingReplicas;
    this.expect(
      wrong === 0,
      `check: ${report.chunks} chunks, ${report.replicas} replicas on ${report.nodesAsked.length} nodes, ${wrong} problems${wrong > 0 ? `: ${report.problems.slice(0, 3).join('; ')}` : ''}`,
    );
  }

  /** Runs `holdfast` on this cluster. */
  async holdfast(...args: string[]): Promise<{ code: number | null; stdout: string; stderr: string }> {
    this.say(`$ holdfast ${args.join(' ')}`);
    return new Promise((resolve) => {
      const child = spawn(process.execPath, [programFile, ...args], {
        env: { ...process.env, HOLDFAST_STATE: this.cluster.stateDirectory },
        stdio: ['ignore', 'pipe', 'pipe'],
      });
      let stdout = '';
      let stderr = '';
      child.stdout.on('data', (data: Buffer) => (stdout += data.toString()));
      child.stderr.on('data', (data: Buffer) => (stderr += data.toString()));
      child.on('close', (code) => resolve({ code, stdout, stderr }));
    });
  }

  /** A program of its own writes and syncs small files one after the other until `stop`, which tells how it went. */
  async load(): Promise<{ stop: () => Promise<{ written: number; errors: string[]; worstMs: number }> }> {
    const script = join(dirname(fileURLToPath(import.meta.url)), 'load.ts');
    const child = spawn(process.execPath, [...process.execArgv, script, this.folder], { stdio: ['pipe', 'pipe', 'inherit'] });
    this.onStop(() => child.kill('SIGKILL'));
    let output = '';
    await new Promise<void>((resolve) => {
      child.stdout.on('data', (data: Buffer) => {
        output += data.toString();
        resolve();
      });
      child.on('close', () => resolve());
    });
    const ended = new Promise((resolve) => child.on('close', resolve));
    return {
      stop: async () => {
        child.stdin.end();
        await ended;
        const { digests, errors, worstMs } = JSON.parse(output.split('\n')[1] ?? '') as LoadResult;
        for (const [name, digest] of Object.entries(digests)) this.written.set(name, digest);
        return { written: Object.keys(digests).length, errors, worstMs };
      },
    };
  }

  /** Chunk files on a node's disk. */
  async chunkFiles(node: string): Promise<string[]> {
    const chunks = join(this.cluster.nodeData(node), 'chunks');
    const entries = await readdir(chunks, { recursive: true, withFileTypes: true });
    return entries
      .filter((entry) => entry.isFile() && /^[0-9a-f]{64}$/.test(entry.name))
      .map((entry) => join(entry.parentPath, entry.name));
  }
}

export const seconds = (ms: number): string => `${(ms / 1000).toFixed(1)} s`;
