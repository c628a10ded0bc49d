/**
 * What a local cluster remembers between commands: the file cluster.json in its state directory, and who may change it.
 *
 *   <state>/cluster.json             ports, nodes, mountpoint
 *   <state>/tokens/                  copies of the coordinator's tokens (0600), so that they outlive its disk
 *   <state>/volume-key               opens the main volume of an encrypted cluster (0600)
 *   <state>/coordinator/{data,log,pid}
 *   <state>/n1/{data,log,pid} ...
 *   <state>/mount/{log,pid,ready}
 */
import { createHash } from 'node:crypto';
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, realpathSync, renameSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { homedir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { z } from 'zod';
import { ClusterError } from './local-process.js';

const extraArgs = z.array(z.string());
const nodeConfig = z.object({
  name: z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/),
  host: z.string(),
  port: z.number().int(),
  args: extraArgs,
  /** Put before the program: ["ip", "netns", "exec", "x"]. */
  wrapper: z.array(z.string()),
});
const clusterConfig = z.object({
  schema: z.literal(1),
  copies: z.number().int(),
  coordinator: z.object({ host: z.string(), port: z.number().int(), args: extraArgs }),
  nodes: z.array(nodeConfig),
  mount: z.object({ path: z.string(), isOurs: z.boolean(), args: extraArgs }).nullable(),
  /** True when the state directory did not exist before. */
  isOurs: z.boolean(),
  /** The main volume is encrypted; its key is in <state>/volume-key. */
  isEncrypted: z.boolean().default(false),
  /** Deleted files were to be kept when it was made. */
  hasTrash: z.boolean().default(false),
});
export type NodeConfig = z.infer<typeof nodeConfig>;
export type ClusterConfig = z.infer<typeof clusterConfig>;

export const defaultStateDirectory = (): string =>
  process.env.HOLDFAST_STATE ?? join(process.env.XDG_STATE_HOME ?? join(homedir(), '.local', 'state'), 'holdfast', 'default');

/** Absolute, with symlinks resolved as far as the path exists. */
export function realDirectory(path: string): string {
  const absolute = resolve(path);
  const missing: string[] = [];
  for (let at = absolute; ; at = dirname(at)) {
    try {
      return join(realpathSync(at), ...missing);
    } catch {
      if (dirname(at) === at) return absolute;
      missing.unshift(at.slice(dirname(at).length).replace(/^\/+/, ''));
    }
  }
}

const configFile = (state: string): string => join(state, 'cluster.json');

export const hasConfig = (state: string): boolean => existsSync(configFile(state));

/** @throws {ClusterError} when there is none, or it cannot be understood */
export function readConfig(state: string): ClusterConfig {
  let text: string;
  try {
    text = readFileSync(configFile(state), 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT')
      throw new ClusterError(`there is no cluster in ${state}: start one with scripts/up --state ${state}`);
    throw new ClusterError(`cannot read ${configFile(state)}: ${(error as Error).message}`);
  }
  try {
    return clusterConfig.parse(JSON.parse(text));
  } catch {
    throw new ClusterError(
      `${configFile(state)} is damaged: put it right, or remove the cluster with scripts/down --purge --state ${state}`,
    );
  }
}

export function writeConfig(state: string, config: ClusterConfig): void {
  const temporary = `${configFile(state)}.${process.pid}`;
  writeFileSync(temporary, `${JSON.stringify(config, null, 2)}\n`, { mode: 0o600 });
  renameSync(temporary, configFile(state));
}

/**
 * Makes the state directory (0700), or accepts an empty one.
 * @returns true when it did not exist before
 * @throws {ClusterError} when something else lives there
 */
export function makeStateDirectory(state: string): boolean {
  let isNew = true;
  try {
    const present = readdirSync(state);
    isNew = false;
    if (present.length > 0)
      throw new ClusterError(`${state} holds other files (${present[0]}): choose an empty or new directory as --state`);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOTDIR') throw new ClusterError(`${state} is not a directory: choose another --state`);
    if (code !== 'ENOENT') throw error;
  }
  try {
    mkdirSync(state, { recursive: true, mode: 0o700 });
    chmodSync(state, 0o700);
  } catch (error) {
    throw new ClusterError(`cannot make the state directory ${state}: ${(error as Error).message}`);
  }
  return isNew;
}

/**
 * Lets one command at a time change a state directory. The lock is a socket the kernel frees when its owner dies; it needs no file.
 * @throws {ClusterError} when another command holds it for longer than timeoutMs
 */
export async function withStateLock<T>(state: string, action: () => Promise<T>, timeoutMs = 120_000): Promise<T> {
  const name = `\0holdfast-state-${createHash('sha256').update(state).digest('hex').slice(0, 32)}`;
  const deadline = performance.now() + timeoutMs;
  let server: Server | undefined;
  while (!server) {
    server = await listenOn(name);
    if (server) break;
    if (performance.now() > deadline)
      throw new ClusterError(`another command has been working on ${state} for ${timeoutMs / 1000} s: wait for it or end it`);
    await delay(100);
  }
  try {
    return await action();
  } finally {
    server.close();
  }
}

const listenOn = (path: string): Promise<Server | undefined> =>
  new Promise((resolve, reject) => {
    const server = createServer((socket) => socket.destroy());
    server.unref();
    server.once('error', (error: NodeJS.ErrnoException) => (error.code === 'EADDRINUSE' ? resolve(undefined) : reject(error)));
    server.listen({ path }, () => resolve(server));
  });

export const isPortFree = (port: number, host: string): Promise<boolean> =>
  new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(false));
    server.listen({ port, host, exclusive: true }, () => server.close(() => resolve(true)));
  });

/** The ports to choose from: HOLDFAST_PORTS="FIRST-LAST", so that clusters made at the same time need not meet. */
function portRange(): { first: number; last: number } {
  const text = process.env.HOLDFAST_PORTS ?? '20000-31999';
  const [, first, last] = (/^(\d{1,5})-(\d{1,5})$/.exec(text) ?? []).map(Number);
  if (first === undefined || last === undefined || first < 1024 || last > 65_535 || last < first)
    throw new ClusterError(`HOLDFAST_PORTS must be FIRST-LAST, two ports from 1024 to 65535, not "${text}"`, 2);
  return { first, last };
}

/**
 * A free port, unless told otherwise below the range the system gives to outgoing connections, so that it is still ours when a process is restarted.
 */
export async function findFreePort(host: string, taken: readonly number[]): Promise<number> {
  const { first, last } = portRange();
  for (let attempt = 0; attempt < 200; attempt++) {
    const port = first + Math.floor(Math.random() * (last - first + 1));
    if (!taken.includes(port) && (await isPortFree(port, host))) return port;
  }
  throw new ClusterError(`found no free port between ${first} and ${last}`);
}
