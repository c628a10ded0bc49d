/**
 * A cluster of real processes on this machine: starts, stops, kills, pauses and resumes coordinator, nodes and mount, and waits for health.
 * The scripts for people and the end-to-end tests use this same code.
 *
 *   const cluster = await LocalCluster.create(directory, { nodes: 3, copies: 2, mount: null, port: 0 });
 *   await cluster.start();              // returns when it is healthy
 *   await cluster.node('n2').kill();
 *   await cluster.waitFor((status) => status.chunks.belowCopies === 0, 60_000);
 *   await cluster.purge();
 *
 * Everything runs from dist/ (scripts/setup builds it), detached, and outlives the program that started it.
 */
import { randomBytes } from 'node:crypto';
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { newEncryption, writeKeyFile } from '../client/index.js';
import type { AdminCalls, ClusterStatus } from '../protocol/admin-calls.js';
import type { ReplyOf, RequestOf } from '../protocol/call.js';
import { DEFAULT_VOLUME_NAME } from '../protocol/entities.js';
import { isCode } from '../protocol/errors.js';
import { ClusterAdmin } from './cluster-admin.js';
import { coordinatorProgram, LOOPBACK, mountProgram, nodeProgram, requireBuild } from './cluster-programs.js';
import {
  type ClusterConfig,
  findFreePort,
  hasConfig,
  isPortFree,
  makeStateDirectory,
  type NodeConfig,
  readConfig,
  realDirectory,
  writeConfig,
} from './cluster-state.js';
import { ClusterError, type Command, LocalProcess, waitUntil } from './local-process.js';
import { checkMountpoint, detach, isMounted, requireFuse } from './mounts.js';

export { programFile } from './cluster-programs.js';
export { ClusterError, LocalProcess, waitUntil } from './local-process.js';

const VOLUME_KEY = 'volume-key';
/** As the coordinator names them in its data directory. */
const TOKENS = ['admin-token', 'node-token'];
/** A coordinator with a million files takes up to 30 s; machines in tests are loaded. */
const START_TIMEOUT_MS = 90_000;
const PORT_FREE_WITHIN_MS = 2000;

export interface ClusterOptions {
  readonly nodes: number;
  readonly copies: number;
  /** Port of the coordinator; nodes take port+10 and following. 0 = any free ones. */
  readonly port: number;
  /** Mountpoint; null = no mount. */
  readonly mount: string | null;
  /** Encrypts the main volume, with a key that is kept in the state directory. */
  readonly isEncrypted?: boolean;
  /** Keeps deleted files for the usual time. Without it deleted files free their space at once, as tests and measurements of space want it. */
  readonly hasTrash?: boolean;
  /** Address of coordinator and nodes, the loopback by default. Any other is reached from outside: for experiments with networks only. */
  readonly host?: string;
  /** More arguments for each program, e.g. ['--down-after', '3000']. */
  readonly coordinatorArgs?: readonly string[];
  readonly nodeArgs?: readonly string[];
  readonly mountArgs?: readonly string[];
}

/** What `start` did, for telling people. */
export interface Started {
  readonly started: readonly string[];
  readonly alreadyRunning: readonly string[];
}

export class LocalCluster {
  /** Extra environment by process name ("coordinator", "n1", "mount"): only for processes started by this object. */
  readonly environment = new Map<string, Record<string, string>>();
  private readonly processes = new Map<string, LocalProcess>();
  private readonly asAdmin: ClusterAdmin;

  private constructor(
    /** Real path of the state directory. */
    readonly stateDirectory: string,
    private config: ClusterConfig,
  ) {
    this.asAdmin = new ClusterAdmin(this.url, this.adminTokenFile);
  }

  /**
   * Writes down a new cluster; starts nothing.
   * @throws {ClusterError} when the directory is in use, or the mountpoint cannot be one
   */
  static async create(stateDirectory: string, options: ClusterOptions): Promise<LocalCluster> {
    const state = realDirectory(stateDirectory);
    if (hasConfig(state)) throw new ClusterError(`there is a cluster in ${state} already: scripts/up --state ${state} starts it`);
    const { host = LOOPBACK } = options;
    const mountPath = options.mount === null ? null : realDirectory(options.mount);
    if (mountPath !== null) {
      requireFuse();
      checkMountpoint(mountPath, state);
    }
    if (options.port !== 0 && !(await isPortFree(options.port, host)))
      throw new ClusterError(`port ${options.port} is taken by another program: choose another with --port (0 = any free one)`, 2);
    const isOurs = makeStateDirectory(state);
    const taken: number[] = [];
    const choose = async (wanted: number): Promise<number> => {
      const port = options.port !== 0 && (await isPortFree(wanted, host)) ? wanted : await findFreePort(host, taken);
      taken.push(port);
      return port;
    };
    const config: ClusterConfig = {
      schema: 1,
      copies: options.copies,
      coordinator: {
        host,
        port: await choose(options.port),
        // Counts only when the coordinator makes its data directory; later the volumes say it.
        args: [...(options.hasTrash ? [] : ['--trash-keep', '0']), ...(options.coordinatorArgs ?? [])],
      },
      nodes: [],
      mount: mountPath === null ? null : { path: mountPath, isOurs: false, args: [...(options.mountArgs ?? [])] },
      isOurs,
      isEncrypted: options.isEncrypted ?? false,
      hasTrash: options.hasTrash ?? false,
    };
    for (let index = 1; index <= options.nodes; index++) {
      const port = await choose(options.port + 9 + index);
      config.nodes.push({ name: `n${index}`, host, port, args: [...(options.nodeArgs ?? [])], wrapper: [] });
    }
    // The key before the cluster that needs it.
    if (config.isEncrypted) writeKeyFile(join(state, VOLUME_KEY));
    writeConfig(state, config);
    return new LocalCluster(state, config);
  }

  /** @throws {ClusterError} when there is none */
  static open(stateDirectory: string): LocalCluster {
    const state = realDirectory(stateDirectory);
    return new LocalCluster(state, readConfig(state));
  }

  static exists(stateDirectory: string): boolean {
    return hasConfig(realDirectory(stateDirectory));
  }

  // Where things are.

  get url(): string {
    return `http://${this.config.coordinator.host}:${this.config.coordinator.port}`;
  }
  get copies(): number {
    return this.config.copies;
  }
  get nodeNames(): string[] {
    return this.config.nodes.map((node) => node.name);
  }
  get mountPath(): string | null {
    return this.config.mount?.path ?? null;
  }
  get adminTokenFile(): string {
    return join(this.stateDirectory, 'tokens', 'admin-token');
  }
  get nodeTokenFile(): string {
    return join(this.stateDirectory, 'tokens', 'node-token');
  }
  get isEncrypted(): boolean {
    return this.config.isEncrypted;
  }
  /** What the volumes say now may be something else. */
  get wasMadeWithTrash(): boolean {
    return this.config.hasTrash;
  }
  /** Opens the main volume of an encrypted cluster. */
  get volumeKeyFile(): string {
    return join(this.stateDirectory, VOLUME_KEY);
  }
  get coordinatorData(): string {
    return join(this.stateDirectory, 'coordinator', 'data');
  }
  nodeData(name: string): string {
    return join(this.stateDirectory, this.nodeConfig(name).name, 'data');
  }
  nodeUrl(name: string): string {
    const { host, port } = this.nodeConfig(name);
    return `http://${host}:${port}`;
  }

  private nodeConfig(name: string): NodeConfig {
    const found = this.config.nodes.find((node) => node.name === name);
    if (!found)
      throw new ClusterError(`there is no node ${name} in ${this.stateDirectory}; there are: ${this.nodeNames.join(', ') || 'none'}`, 2);
    return found;
  }

  // Processes.

  get coordinator(): LocalProcess {
    return this.process('coordinator', (environment) => coordinatorProgram(this.config, this.coordinatorData, environment));
  }
  /** @throws {ClusterError} when the cluster has no such node */
  node(name: string): LocalProcess {
    this.nodeConfig(name);
    return this.process(name, (environment) => nodeProgram(this.nodeConfig(name), this.nodeData(name), this, environment));
  }
  /** @throws {ClusterError} when the cluster has no mount */
  get mount(): LocalProcess {
    if (!this.config.mount)
      throw new ClusterError(`the cluster in ${this.stateDirectory} has no mount: scripts/up --mount DIR adds one`, 2);
    return this.process('mount', (environment) => mountProgram(this.config, this.readyFile, this, environment));
  }
  private get readyFile(): string {
    return join(this.stateDirectory, 'mount', 'ready');
  }

  private process(name: string, command: (environment: Record<string, string> | undefined) => Command): LocalProcess {
    let found = this.processes.get(name);
    if (!found) {
      found = new LocalProcess(name, join(this.stateDirectory, name), () => command(this.environment.get(name)));
      this.processes.set(name, found);
    }
    return found;
  }

  // Starting.

  /**
   * Starts what is not running and waits until the cluster is healthy. When something fails, what this call started is stopped again.
   * @throws {ClusterError} with the reason the failed program gave
   */
  async start(timeoutMs = START_TIMEOUT_MS): Promise<Started> {
    const before = new Set(
      this.all()
        .filter((process) => process.pid !== undefined)
        .map((process) => process.name),
    );
    const started: string[] = [];
    const alreadyRunning: string[] = [];
    const note = (name: string, how: 'started' | 'already running'): void => {
      (how === 'started' ? started : alreadyRunning).push(name);
    };
    try {
      note('coordinator', await this.startCoordinator(timeoutMs));
      const nodes = await Promise.all(this.nodeNames.map(async (name) => ({ name, how: await this.launchNode(name) })));
      for (const { name, how } of nodes) note(name, how);
      await this.waitHealthy(timeoutMs);
      if (this.config.isEncrypted) await this.encryptMainVolume();
      if (this.config.mount) note('mount', await this.startMount(timeoutMs));
    } catch (error) {
      for (const process of this.all().reverse()) {
        if (before.has(process.name)) continue;
        if (process.name === 'mount') await this.stopMount('kill').catch(() => {});
        else await process.stop(5000).catch(() => process.kill());
      }
      throw error;
    }
    return { started, alreadyRunning };
  }

  /** Of a cluster that starts for the first time; later it is encrypted already. */
  private async encryptMainVolume(): Promise<void> {
    const { volumes } = await this.admin('listVolumes', {});
    const main = volumes.find((volume) => volume.name === DEFAULT_VOLUME_NAME);
    if (!main || main.encryption) return;
    const encryption = await newEncryption({ keyFile: readFileSync(this.volumeKeyFile) }, randomBytes);
    await this.admin('setVolume', { volume: DEFAULT_VOLUME_NAME, encryption });
  }

  /** Starts the coordinator and waits until it answers. */
  async startCoordinator(timeoutMs = START_TIMEOUT_MS): Promise<'started' | 'already running'> {
    const { coordinator } = this;
    requireBuild();
    this.requireMetadata();
    if (coordinator.pid === undefined) await this.requireFree('coordinator', this.config.coordinator.host, this.config.coordinator.port);
    const how = coordinator.start();
    let reason = 'it did not answer';
    await this.waitAlive(
      coordinator,
      timeoutMs,
      async () => {
        // The coordinator writes one after the other; nodes could not start without the second.
        if (!TOKENS.every((name) => existsSync(join(this.coordinatorData, name)))) return false;
        this.keepTokens();
        try {
          await this.status();
          return true;
        } catch (error) {
          reason = (error as Error).message;
          // Waiting would not change these.
          if (isCode(error, 'UNAUTHORIZED', 'PROTOCOL_VERSION', 'FORBIDDEN'))
            throw new ClusterError(`coordinator at ${this.url}: ${reason}`);
          return false;
        }
      },
      () => (coordinator.state === 'paused' ? 'it is paused: scripts/coordinator resume' : reason),
    );
    return how;
  }

  /** True when a coordinator or a node of this cluster has ever kept anything. */
  get hasData(): boolean {
    const directories = [this.coordinatorData, ...this.nodeNames.map((name) => this.nodeData(name))];
    return existsSync(this.nodeTokenFile) || directories.some((directory) => !isEmptyDirectory(directory));
  }

  /** A cluster with data but without metadata is not started: that would make a new, empty one, and replace the tokens that a recovery needs. */
  private requireMetadata(): void {
    if (!isEmptyDirectory(this.coordinatorData) || !this.hasData) return;
    throw new ClusterError(
      `the coordinator's data in ${this.coordinatorData} is gone, but the nodes hold data: start the nodes (scripts/node start NAME) and run "scripts/holdfast recover --state ${this.stateDirectory}", which rebuilds it from the copies they keep; scripts/down --purge gives everything up`,
    );
  }

  /** Copies of the tokens outlive the coordinator's disk: `recover` needs the node token. */
  private keepTokens(): void {
    mkdirSync(join(this.stateDirectory, 'tokens'), { recursive: true, mode: 0o700 });
    for (const name of TOKENS) {
      const from = join(this.coordinatorData, name);
      const to = join(this.stateDirectory, 'tokens', name);
      if (!existsSync(from)) continue;
      if (existsSync(to) && readFileSync(from).equals(readFileSync(to))) continue;
      copyFileSync(from, to); // keeps the mode 0600
    }
  }

  /** Starts a node's process without waiting for its registration. */
  private async launchNode(name: string): Promise<'started' | 'already running'> {
    const { host, port, wrapper } = this.nodeConfig(name);
    const node = this.node(name);
    requireBuild();
    if (node.pid === undefined && wrapper.length === 0) await this.requireFree(name, host, port);
    return node.start();
  }

  /** Starts a node and waits until the coordinator counts it as up. */
  async startNode(name: string, timeoutMs = START_TIMEOUT_MS): Promise<'started' | 'already running'> {
    const how = await this.launchNode(name);
    await this.waitNodeUp(name, timeoutMs);
    return how;
  }

  /** Starts a node while there is no coordinator, as a recovery needs it: waits until it answers by itself. */
  async startNodeAlone(name: string, timeoutMs = START_TIMEOUT_MS): Promise<'started' | 'already running'> {
    const how = await this.launchNode(name);
    await this.waitAlive(
      this.node(name),
      timeoutMs,
      () =>
        fetch(`${this.nodeUrl(name)}/healthz`, { signal: AbortSignal.timeout(5000) }).then(
          (answer) => answer.ok,
          () => false,
        ),
      () => 'it does not answer',
    );
    return how;
  }

  private async waitNodeUp(name: string, timeoutMs: number): Promise<void> {
    const node = this.node(name);
    let seen = 'unknown to the coordinator';
    await this.waitAlive(
      node,
      timeoutMs,
      async () => {
        const { nodes } = await this.status().catch(() => ({ nodes: [] }) as Pick<ClusterStatus, 'nodes'>);
        seen = nodes.find((one) => one.name === name)?.state ?? seen;
        return seen === 'up' || seen === 'draining';
      },
      () => (node.state === 'paused' ? `it is paused: scripts/node resume ${name}` : `the coordinator sees it as ${seen}`),
    );
  }

  /** Mounts and waits until the folder can be used. */
  async startMount(timeoutMs = START_TIMEOUT_MS): Promise<'started' | 'already running'> {
    const { mount } = this;
    const config = this.config.mount as NonNullable<ClusterConfig['mount']>;
    requireBuild();
    if (mount.pid === undefined) {
      requireFuse();
      checkMountpoint(config.path, this.stateDirectory);
      if (!isMounted(config.path) && !existsSync(config.path)) {
        mkdirSync(config.path, { recursive: true });
        this.update({ ...this.config, mount: { ...config, isOurs: true } });
      }
      rmSync(this.readyFile, { force: true });
    }
    const how = mount.start();
    await this.waitAlive(
      mount,
      timeoutMs,
      () => existsSync(this.readyFile) && isMounted(config.path),
      () => (mount.state === 'paused' ? 'it is paused' : 'it did not become ready'),
    );
    return how;
  }

  /** Waits for isReady while the process lives. @throws {ClusterError} with what the process said when it ended, or `why` when time is up */
  private async waitAlive(
    process: LocalProcess,
    timeoutMs: number,
    isReady: () => boolean | Promise<boolean>,
    why: () => string,
  ): Promise<void> {
    let hasEnded = false;
    const ready = await waitUntil(async () => {
      hasEnded = process.pid === undefined;
      return hasEnded || (await isReady());
    }, timeoutMs);
    if (hasEnded) throw new ClusterError(`${process.name} did not start: ${process.lastWords() ?? `see ${process.logFile}`}`);
    if (!ready) throw new ClusterError(`${process.name} is not ready after ${timeoutMs / 1000} s: ${why()}; its log is ${process.logFile}`);
  }

  private async requireFree(name: string, host: string, port: number): Promise<void> {
    // A process that was just killed may need a moment to end, and with it its listening socket.
    if (!(await waitUntil(() => isPortFree(port, host), PORT_FREE_WITHIN_MS)))
      throw new ClusterError(
        `port ${port} of ${name} is taken by another program: end that program, or make a new cluster with --port 0`,
        2,
      );
  }

  // Watching.

  /** One call of the admin interface. @throws {HoldfastError} */
  admin<M extends keyof AdminCalls & string>(
    method: M,
    request: RequestOf<AdminCalls, M>,
    timeoutMs = 10_000,
  ): Promise<ReplyOf<AdminCalls, M>> {
    return this.asAdmin.call(method, request, timeoutMs);
  }
  /** @throws {HoldfastError} UNREACHABLE when the coordinator is down */
  status(timeoutMs = 5000): Promise<ClusterStatus> {
    return this.admin('status', {}, timeoutMs);
  }

  /** Waits until the status fulfils a condition; the coordinator may be away meanwhile. @throws {ClusterError} with the last sentence seen */
  waitFor(isTrue: (status: ClusterStatus) => boolean, timeoutMs: number, what = 'the expected state'): Promise<ClusterStatus> {
    return this.asAdmin.waitFor(isTrue, timeoutMs, what);
  }

  /** Every node whose process runs is up, safe mode is over, and, with enough nodes for the copies, health is HEALTHY. */
  async waitHealthy(timeoutMs = START_TIMEOUT_MS): Promise<ClusterStatus> {
    const deadline = performance.now() + timeoutMs;
    const expected = this.nodeNames.filter((name) => this.node(name).pid !== undefined);
    for (const name of expected) await this.waitNodeUp(name, Math.max(deadline - performance.now(), 1000));
    return this.waitFor(
      (status) => !status.safeMode.isActive && (status.health === 'HEALTHY' || expected.length < this.config.copies),
      Math.max(deadline - performance.now(), 1000),
      'health',
    );
  }

  // Stopping.

  /** Stops mount, nodes and coordinator in this order, gently; what does not obey is killed. @returns names of what was running */
  async stop(): Promise<string[]> {
    const stopped: string[] = [];
    const gently = async (process: LocalProcess): Promise<void> => {
      if (process.pid === undefined) return;
      stopped.push(process.name);
      await process.stop().catch(() => process.kill());
    };
    if (this.config.mount) {
      // While the coordinator or the nodes are paused the mount could not save its data, so they are woken first.
      if (this.mount.pid !== undefined) for (const process of this.all()) await process.resume();
      if (this.mount.pid !== undefined || isMounted(this.config.mount.path)) {
        if (this.mount.pid !== undefined) stopped.push('mount');
        await this.stopMount('stop').catch(() => this.stopMount('kill'));
      }
    }
    await Promise.all(this.nodeNames.map((name) => gently(this.node(name))));
    await gently(this.coordinator);
    return stopped;
  }

  private all(): LocalProcess[] {
    return [this.coordinator, ...this.nodeNames.map((name) => this.node(name)), ...(this.config.mount ? [this.mount] : [])];
  }

  /**
   * Unmounts. `stop` lets the mount save everything first; `kill` does not ask it. The mountpoint goes too when it was made by us.
   * @throws {ClusterError} when the mount does not end
   */
  async stopMount(how: 'stop' | 'kill'): Promise<void> {
    const config = this.config.mount;
    if (!config) return;
    if (how === 'stop') await this.mount.stop(60_000);
    else await this.mount.kill();
    if (isMounted(config.path)) await detach(config.path);
    if (config.isOurs) {
      try {
        rmdirSync(config.path);
        this.update({ ...this.config, mount: { ...config, isOurs: false } });
      } catch {
        // Somebody put something there after the unmount: theirs now.
      }
    }
  }

  /** Stops everything and deletes data, logs and, when nothing else lives in it, the state directory. */
  async purge(): Promise<void> {
    await this.stop();
    const names = ['coordinator', 'mount', 'tokens', ...this.nodeNames];
    for (const name of names) rmSync(join(this.stateDirectory, name), { recursive: true, force: true, maxRetries: 3 });
    for (const name of ['cluster.json', VOLUME_KEY]) rmSync(join(this.stateDirectory, name), { force: true });
    // A directory that holds files of others is left to them.
    if (readdirSync(this.stateDirectory).length === 0) rmdirSync(this.stateDirectory);
  }

  // Changing.

  /** Adds a node (by default the next free "nI") without starting it. @returns its name */
  async addNode(
    name?: string,
    options: { port?: number; host?: string; args?: readonly string[]; wrapper?: readonly string[] } = {},
  ): Promise<string> {
    let index = this.config.nodes.length + 1;
    while (this.nodeNames.includes(`n${index}`)) index += 1;
    const chosen = name ?? `n${index}`;
    if (!/^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/.test(chosen) || ['coordinator', 'mount', 'tokens'].includes(chosen))
      throw new ClusterError(`${chosen} is no name for a node: use letters, digits, ".", "_" and "-"`, 2);
    if (this.nodeNames.includes(chosen)) throw new ClusterError(`there is a node ${chosen} already`, 2);
    const taken = [this.config.coordinator.port, ...this.config.nodes.map((node) => node.port)];
    const host = options.host ?? LOOPBACK;
    const port = options.port ?? (await findFreePort(LOOPBACK, taken));
    const [first] = this.config.nodes;
    const node: NodeConfig = {
      name: chosen,
      host,
      port,
      args: [...(options.args ?? first?.args ?? [])],
      wrapper: [...(options.wrapper ?? [])],
    };
    this.update({ ...this.config, nodes: [...this.config.nodes, node] });
    return chosen;
  }

  /** Sets or removes the mountpoint; takes effect at the next start of the mount. @throws {ClusterError} while another one is in use */
  setMount(path: string | null): void {
    const wanted = path === null ? null : realDirectory(path);
    if (wanted === this.mountPath) return;
    if (this.config.mount && this.mount.pid !== undefined)
      throw new ClusterError(
        `this cluster is mounted at ${this.config.mount.path}: unmount it first with scripts/mount stop --state ${this.stateDirectory}`,
      );
    if (wanted !== null) {
      requireFuse();
      checkMountpoint(wanted, this.stateDirectory);
    }
    this.processes.delete('mount');
    this.update({ ...this.config, mount: wanted === null ? null : { path: wanted, isOurs: false, args: this.config.mount?.args ?? [] } });
  }

  private update(config: ClusterConfig): void {
    this.config = config;
    writeConfig(this.stateDirectory, config);
  }
}

/** Absent counts as empty; what the file system itself put there does not count. */
function isEmptyDirectory(path: string): boolean {
  return !existsSync(path) || readdirSync(path).every((name) => name === 'lost+found');
}
