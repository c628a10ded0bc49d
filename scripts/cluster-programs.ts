/** The command lines of a local cluster's programs, from what its cluster.json says. */
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { ClusterConfig, NodeConfig } from './cluster-state.js';
import { ClusterError, type Command } from './local-process.js';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
export const programFile = join(root, 'dist', 'client', 'cli', 'main.js');
export const LOOPBACK = '127.0.0.1';

/** What programs of a cluster are told about where things are. */
export interface ClusterPlaces {
  readonly url: string;
  readonly adminTokenFile: string;
  readonly nodeTokenFile: string;
  readonly volumeKeyFile: string;
}

type Environment = Record<string, string> | undefined;

export function coordinatorProgram(config: ClusterConfig, dataDirectory: string, environment: Environment): Command {
  const { host, port, args } = config.coordinator;
  const more = ['--listen', `${host}:${port}`, '--copies', String(config.copies), ...outside(host), ...args];
  return program('coordinator', ['--data', dataDirectory], more, environment);
}

export function nodeProgram(node: NodeConfig, dataDirectory: string, places: ClusterPlaces, environment: Environment): Command {
  const { name, host, port, args, wrapper } = node;
  const known = ['--name', name, '--coordinator', places.url, '--token-file', places.nodeTokenFile, '--listen', `${host}:${port}`];
  return program('node', ['--data', dataDirectory], [...known, ...outside(host), ...args], environment, wrapper);
}

export function mountProgram(config: ClusterConfig, readyFile: string, places: ClusterPlaces, environment: Environment): Command {
  const { path, args } = config.mount ?? { path: '', args: [] };
  const more = ['--coordinator', places.url, '--token-file', places.adminTokenFile, '--ready-file', readyFile];
  if (config.isEncrypted) more.push('--key-file', places.volumeKeyFile);
  return program('mount', ['--mount', path], [...more, ...args], environment);
}

function program(part: string, mark: [string, string], args: string[], environment: Environment, wrapper: readonly string[] = []): Command {
  const [first = process.execPath, ...before] = [...wrapper, process.execPath];
  return {
    program: first,
    args: [...before, '--enable-source-maps', programFile, part, ...mark, ...args],
    // libuv's four threads are shared by every file call: a slow fsync must not hold up the reads. glibc would give most of sixteen an arena of its
    // own, each of which keeps what a burst took: tens of MiB more.
    environment: { UV_THREADPOOL_SIZE: '16', MALLOC_ARENA_MAX: '2', NODE_ENV: 'production', ...environment },
    // The program with its first arguments: a shell that was merely told the same directory is not it.
    mark: [programFile, part, ...mark],
  };
}

/** Listening beyond this machine without TLS must be asked for. */
const outside = (host: string): string[] => (host === LOOPBACK ? [] : ['--insecure']);

/** @throws {ClusterError} when the programs are not built */
export function requireBuild(): void {
  if (!existsSync(programFile)) throw new ClusterError(`${programFile} is not there: run scripts/setup, which builds it`);
}
