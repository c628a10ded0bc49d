/**
 * A coordinator's admin side with invented data of any size, over the real wire (protocol/socket.ts): 200 nodes, 100,000 files in a folder, a file
 * of 10,000 chunks. For the screen's tests and measurements; nothing is stored anywhere.
 *
 * Alone: scripts/run ../test/tui-generator -- prints address and token file; ends with Ctrl-C.
 */
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  adminCalls,
  type ClusterEvent,
  type DirectoryRow,
  type FileChunk,
  type JobStatus,
  type KeyedRow,
  type NodeStatus,
  type Snapshot,
  type WatchRequest,
} from '../protocol/admin-calls.js';
import type { CallFrame, Connection } from '../protocol/call.js';
import type { Health } from '../protocol/entities.js';
import { HoldfastError } from '../protocol/errors.js';
import { listen, type SocketServer } from '../protocol/socket.js';
import { waitUntil } from '../scripts/cluster.js';

export interface GeneratorOptions {
  readonly nodes?: number;
  /** Entries of the root folder. */
  readonly files?: number;
  /** Chunks of the first file. */
  readonly chunks?: number;
  readonly copies?: number;
  /** Port to listen on; 0 takes a free one. */
  readonly port?: number;
  /** Changed numbers every so often; 0: only when told. */
  readonly changeEveryMs?: number;
}
interface Watcher {
  readonly connection: Connection;
  readonly watch: number;
  readonly request: WatchRequest;
  sequence: number;
}
const TOKEN = 'generator-token';
const PORT_WITHIN_MS = 60_000;
const ROOT = 1;
/** The file with many chunks; first in the root folder. */
export const BIG_FILE = 2;
const WALL_MS = Date.UTC(2026, 10, 21, 12, 0, 0);
const MIB = 1024 * 1024;

export class TuiGenerator {
  readonly actions: { method: string; args: Record<string, unknown> }[] = [];
  private readonly nodes: NodeStatus[];
  private readonly events: ClusterEvent[] = [];
  private readonly jobs: JobStatus[] = [];
  private readonly watchers = new Set<Watcher>();
  private readonly connections = new Set<Connection>();
  private readonly directory = mkdtempSync(join(tmpdir(), 'holdfast-tui-generator-'));
  private readonly fileCount: number;
  private readonly chunkCount: number;
  private readonly copies: number;
  private server: Server | undefined;
  private sockets: SocketServer | undefined;
  private nextWatch = 1;
  private round = 0;
  private timer: ReturnType<typeof setInterval> | undefined;
  port = 0;

  constructor(private readonly options: GeneratorOptions = {}) {
    this.fileCount = options.files ?? 100_000;
    this.chunkCount = options.chunks ?? 10_000;
    this.copies = options.copies ?? 3;
    this.nodes = Array.from({ length: options.nodes ?? 200 }, (_, index) => this.inventedNode(index + 1));
    writeFileSync(this.tokenFile, `${TOKEN}\n`, { mode: 0o600 });
    for (let index = 0; index < 200; index += 1) this.note('info', 'file.written', `/file-${index} written, ${index} chunks`);
    this.jobs.push(this.inventedJob('J-1', 'scrub', 'all nodes', 0.4));
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }
  get tokenFile(): string {
    return join(this.directory, 'token');
  }

  async start(): Promise<this> {
    const server = createServer();
    this.server = server;
    this.sockets = listen(server, (_namespace, handshake, connection) => {
      if ((handshake as { token?: unknown }).token !== TOKEN) throw new HoldfastError('UNAUTHORIZED', 'the token is not known here');
      this.connections.add(connection);
      connection.onCall = (frame) => this.answer(connection, frame);
      connection.onClose = () => {
        this.connections.delete(connection);
        for (const one of this.watchers) if (one.connection === connection) this.watchers.delete(one);
      };
    });
    const port = this.port || (this.options.port ?? 0);
    const isListening = async (): Promise<boolean> => {
      server.listen(port, '127.0.0.1');
      try {
        await once(server, 'listening');
        return true;
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === 'EADDRINUSE') return false;
        throw error;
      }
    };
    // Between `stop` and `start` an outgoing connection of somebody else may have been given the port.
    if (!(await waitUntil(isListening, PORT_WITHIN_MS, 100))) throw new Error(`port ${port} is taken`);
    this.port = (server.address() as AddressInfo).port;
    if (this.options.changeEveryMs) this.timer = setInterval(() => this.change(), this.options.changeEveryMs);
    return this;
  }

  /** Ends it as a crash would; `start` brings it back at the same port. */
  async stop(): Promise<void> {
    clearInterval(this.timer);
    this.watchers.clear();
    this.sockets?.close();
    const { server } = this;
    this.server = undefined;
    if (!server) return;
    server.closeAllConnections();
    await new Promise<void>((resolve) => server.close(() => resolve()));
  }

  async end(): Promise<void> {
    await this.stop();
    rmSync(this.directory, { recursive: true, force: true });
  }

  /** A node goes down or comes back: tells every watcher. */
  setNode(name: string, state: NodeStatus['state']): void {
    const index = this.nodes.findIndex((one) => one.name === name);
    if (index < 0) throw new Error(`no node ${name}`);
    this.nodes[index] = { ...this.nodes[index]!, state, stateForMs: 0 };
    this.note(state === 'down' ? 'error' : 'info', `node.${state}`, `${name} is ${state}`, name);
    this.tell('overview', { head: this.overviewHead(), upserts: [this.nodeRow(this.nodes[index]!)] });
    this.tellEvent();
    for (const one of this.watchers) {
      if (one.request.topic !== 'file') continue;
      const touched = this.chunkRows(one.request).filter((row) =>
        (row as unknown as FileChunk).replicas.some((replica) => replica.name === name),
      );
      this.push(one, { head: this.fileHead(), upserts: touched });
    }
  }

  /** New numbers for some nodes, as heartbeats bring them. */
  change(): void {
    this.round += 1;
    const upserts: KeyedRow[] = [];
    for (let step = 0; step < Math.min(20, this.nodes.length); step += 1) {
      const index = (this.round * 20 + step) % this.nodes.length;
      const before = this.nodes[index]!;
      this.nodes[index] = { ...before, readBytesPerS: (this.round * 7919 + index * 104_729) % (50 * MIB) };
      upserts.push(this.nodeRow(this.nodes[index]!));
    }
    this.tell('overview', { head: this.overviewHead(), upserts });
  }

  /** The next change of every view is lost on the way. */
  loseOne(): void {
    for (const one of this.watchers) one.sequence += 1;
  }

  note(level: ClusterEvent['level'], kind: string, text: string, node?: string): void {
    const sequence = (this.events.at(-1)?.sequence ?? 0) + 1;
    this.events.push({ sequence, atMs: WALL_MS + sequence * 1000, level, kind, text, ...(node ? { node } : {}) });
  }
  tellEvent(): void {
    const event = this.events.at(-1)!;
    this.tell('events', { upserts: [{ key: String(event.sequence), ...event }] });
  }

  get watched(): readonly WatchRequest[] {
    return [...this.watchers].map((one) => one.request);
  }

  private tell(topic: WatchRequest['topic'], changes: { head?: Record<string, unknown>; upserts?: readonly KeyedRow[] }): void {
    for (const one of this.watchers) if (one.request.topic === topic) this.push(one, changes);
  }
  private push(watcher: Watcher, changes: { head?: Record<string, unknown>; upserts?: readonly KeyedRow[] }): void {
    watcher.sequence += 1;
    watcher.connection.push({
      topic: 'changes',
      data: { watch: watcher.watch, sequence: watcher.sequence, head: changes.head, upserts: changes.upserts ?? [], removes: [] },
    });
  }

  private async answer(connection: Connection, frame: CallFrame): Promise<unknown> {
    const { method } = frame;
    if (!Object.hasOwn(adminCalls, method)) throw new HoldfastError('BAD_MESSAGE', `${method} is not an admin call`);
    const parsed = adminCalls[method as keyof typeof adminCalls].request.safeParse(frame.args);
    if (!parsed.success) throw new HoldfastError('BAD_MESSAGE', parsed.error.issues[0]?.message ?? 'malformed');
    const args = parsed.data as Record<string, unknown>;
    switch (method) {
      case 'hello':
        return { cluster: 'generated', epoch: 1, user: 'admin', isAdmin: true, version: '0.1.0', volumes: this.volumes() };
      case 'watch':
        return this.watch(connection, args as unknown as WatchRequest);
      case 'unwatch': {
        for (const one of this.watchers) if (one.connection === connection && one.watch === args.watch) this.watchers.delete(one);
        return {};
      }
      case 'stat':
        if (args.path === '/') return { inode: ROOT, kind: 'directory' };
        if (args.path === '/big-file') return { ...this.fileHead(), chunks: [] };
        throw new HoldfastError('ENOENT', `${String(args.path)} does not exist`);
      case 'verify':
        return { job: 'J-2', good: this.chunkCount * this.copies, bad: [] };
      case 'removeNode':
        this.actions.push({ method, args });
        throw new HoldfastError('REFUSED', 'a chunk has its last good copy there');
      default:
        this.actions.push({ method, args });
        return { text: `${method} done` };
    }
  }

  private watch(connection: Connection, request: WatchRequest): Snapshot {
    const watcher: Watcher = { connection, watch: this.nextWatch++, request, sequence: 10 };
    const { head, rows } = this.view(request);
    this.watchers.add(watcher);
    return { watch: watcher.watch, sequence: watcher.sequence, head, rows };
  }

  private view(request: WatchRequest): { head: Record<string, unknown>; rows: readonly KeyedRow[] } {
    switch (request.topic) {
      case 'overview':
        return { head: this.overviewHead(), rows: this.nodes.map((one) => this.nodeRow(one)) };
      case 'events':
        return { head: { oldest: 1, newest: this.events.length }, rows: this.events.map((one) => ({ key: String(one.sequence), ...one })) };
      case 'jobs':
        return { head: { repairSpeed: 'normal' }, rows: this.jobs.map((one) => ({ key: one.job, ...one })) };
      case 'directory':
        return this.directoryView(request);
      case 'file':
        if (request.inode !== BIG_FILE) throw new HoldfastError('ENOENT', 'no such file');
        return { head: this.fileHead(), rows: this.chunkRows(request) };
    }
  }

  private directoryView(request: Extract<WatchRequest, { topic: 'directory' }>): {
    head: Record<string, unknown>;
    rows: readonly KeyedRow[];
  } {
    const words = request.filter
      .toLowerCase()
      .split(/\s+/)
      .filter((word) => word && !word.startsWith('!'));
    const all = Array.from({ length: this.fileCount }, (_, index) => index).filter((index) =>
      words.every((word) => this.fileName(index).toLowerCase().includes(word)),
    );
    if (request.descending) all.reverse();
    const rows = all
      .slice(request.offset, request.offset + request.limit)
      .map((index, at) => ({ key: String(request.offset + at), ...this.entry(index) }));
    return { head: { path: '/', inode: ROOT, total: this.fileCount, matching: all.length, parent: null }, rows };
  }
  private readonly fileName = (index: number): string =>
    index === 0 ? 'big-file' : index === 1 ? 'evil\u001b[2J\nname' : `file-${String(index).padStart(6, '0')}.dat`;
  private entry(index: number): DirectoryRow {
    const chunks = index === 0 ? this.chunkCount : index % 5;
    const health: Health = index % 17 === 3 ? 'DEGRADED' : 'HEALTHY';
    return {
      name: this.fileName(index),
      inode: BIG_FILE + index,
      kind: 'file',
      sizeBytes: chunks * MIB,
      chunks,
      fewestCopies: chunks === 0 ? null : health === 'HEALTHY' ? this.copies : this.copies - 1,
      health,
      mtimeMs: WALL_MS - index * 1000,
      mode: 0o644,
    };
  }

  private fileHead(): Record<string, unknown> {
    return {
      schema: 1,
      path: '/big-file',
      inode: BIG_FILE,
      kind: 'file',
      mode: 0o644,
      uid: 0,
      gid: 0,
      nlink: 1,
      sizeBytes: this.chunkCount * MIB,
      mtimeMs: WALL_MS,
      change: 7,
      copies: this.copies,
      health: this.nodes.some((one) => one.state === 'down') ? 'DEGRADED' : 'HEALTHY',
      isReadable: true,
      chunkCount: this.chunkCount,
      byGoodReplicas: this.byGoodReplicas(),
      sharedChunks: Math.ceil(this.chunkCount / 50),
      history: [{ sequence: 1, atMs: WALL_MS, level: 'info', kind: 'file.written', text: `/big-file written: ${this.chunkCount} chunks` }],
    };
  }
  /** Chunk i lies on nodes i, i+1, i+2 (around). */
  holdersOf(index: number): string[] {
    return Array.from({ length: this.copies }, (_, copy) => this.nodes[(index + copy) % this.nodes.length]!.name);
  }
  private byGoodReplicas(): number[] {
    const away = new Set(this.nodes.filter((one) => one.state === 'down').map((one) => one.name));
    const byGood: number[] = Array.from({ length: this.copies + 1 }, () => 0);
    for (let index = 0; index < this.chunkCount; index += 1) {
      const good = away.size === 0 ? this.copies : this.holdersOf(index).filter((name) => !away.has(name)).length;
      byGood[good] = (byGood[good] ?? 0) + 1;
    }
    return byGood;
  }
  private chunkRows(request: Extract<WatchRequest, { topic: 'file' }>): KeyedRow[] {
    const from = request.offset ?? 0;
    const end = Math.min(this.chunkCount, from + (request.limit ?? this.chunkCount));
    const states = new Map(this.nodes.map((one) => [one.name, one]));
    return Array.from({ length: Math.max(0, end - from) }, (_, at) => {
      const index = from + at;
      const chunk: FileChunk = {
        index,
        offset: index * MIB,
        length: MIB,
        id: index.toString(16).padStart(64, 'abcdef0123456789'),
        storedBytes: MIB,
        references: index % 50 === 0 ? 2 : 1,
        replicas: this.holdersOf(index).map((name) => ({
          node: states.get(name)!.node,
          name,
          state: states.get(name)!.state === 'down' ? ('down' as const) : index % 3 === 0 ? ('unchecked' as const) : ('good' as const),
          verifiedAtMs: index % 3 === 0 ? null : WALL_MS - index * 60_000,
        })),
      };
      return { key: String(index), ...chunk };
    });
  }

  private readonly nodeRow = (node: NodeStatus): KeyedRow => ({ key: node.name, ...node });
  private inventedNode(number: number): NodeStatus {
    return {
      node: number,
      name: `n${number}`,
      state: 'up',
      stateForMs: 60_000,
      url: `http://127.0.0.1:${10_000 + number}`,
      zone: `rack-${number % 4}`,
      version: '0.1.0',
      capacityBytes: 1e12,
      usedBytes: 1e12 * ((number % 10) / 20),
      freeBytes: 1e12 * (1 - (number % 10) / 20),
      replicas: 1000 + number,
      onlyCopies: 0,
      heartbeatAgeMs: 300,
      readBytesPerS: number * MIB,
      writtenBytesPerS: 0,
      errors: 0,
      isFull: false,
      isReadOnly: false,
      drainLeft: null,
      safeToRemove: false,
    };
  }
  private inventedJob(job: string, kind: JobStatus['kind'], subject: string, share: number): JobStatus {
    return {
      job,
      kind,
      subject,
      state: 'running',
      totalChunks: 1000,
      doneChunks: Math.round(1000 * share),
      totalBytes: 1000 * MIB,
      doneBytes: Math.round(1000 * share) * MIB,
      bytesPerS: 6 * MIB,
      chunksPerS: 6,
      etaMs: 22_000,
      errors: 0,
      lastError: null,
      startedAtMs: WALL_MS,
      endedAtMs: null,
    };
  }
  private volumes() {
    return [
      {
        volume: 1,
        name: 'main',
        root: ROOT,
        copies: this.copies,
        chunkSizeBytes: MIB,
        quotaBytes: null,
        quotaFiles: null,
        encryption: null,
        trashKeepMs: 0,
      },
    ];
  }
  private overviewHead(): Record<string, unknown> {
    const down = this.nodes.filter((one) => one.state === 'down');
    const below = down.length > 0 ? Math.round((this.chunkCount * this.copies) / this.nodes.length) : 0;
    const wave = Array.from({ length: 60 }, (_, at) => Math.round(20 * MIB * (1 + Math.sin((at + this.round) / 5))));
    return {
      schema: 1,
      cluster: 'generated',
      coordinatorUrl: this.url,
      version: '0.1.0',
      epoch: 1,
      upMs: 3_600_000,
      health: down.length > 0 ? 'DEGRADED' : 'HEALTHY',
      causes: [],
      sentence:
        down.length > 0
          ? `DEGRADED: ${down.map((one) => one.name).join(', ')} down | ${below} chunks below 3 copies`
          : 'HEALTHY: every chunk has its copies',
      chunks: {
        total: this.chunkCount,
        belowCopies: below,
        endangered: 0,
        lost: 0,
        histogram: { byGoodReplicas: [0, 0, below, this.chunkCount - below] },
      },
      files: this.fileCount,
      directories: 1,
      logicalBytes: this.chunkCount * MIB,
      uniqueBytes: this.chunkCount * MIB,
      storedBytes: this.chunkCount * MIB * this.copies,
      rates: { readBytesPerS: wave.at(-1), writtenBytesPerS: wave[0], repairBytesPerS: 0, callsPerS: 12 },
      history: { readBytesPerS: wave, writtenBytesPerS: [...wave].reverse(), repairBytesPerS: wave.map(() => 0) },
      clients: 1,
      jobs: { running: 1, waiting: 0 },
      safeMode: { isActive: false, waitingFor: [] },
      deletion: { waiting: 0, bytes: 0 },
      metadata: { sequence: 1, bytes: 6 * MIB, copies: [] },
      volumes: this.volumes().map((one) => ({ ...one, usedBytes: 0, files: this.fileCount })),
      repairSpeed: 'normal',
    };
  }
}

if (process.argv[1]?.endsWith('tui-generator.ts')) {
  const generator = await new TuiGenerator({ changeEveryMs: 500, port: Number(process.env.PORT ?? 0) }).start();
  console.log(`--coordinator ${generator.url} --token-file ${generator.tokenFile}`);
  process.once('SIGINT', () => void generator.end().then(() => process.exit(0)));
  process.once('SIGTERM', () => void generator.end().then(() => process.exit(0)));
}
