/**
 * Which cluster a command talks to. In this order: --coordinator with --token-file, --state, the same three as HOLDFAST_COORDINATOR,
 * HOLDFAST_TOKEN_FILE, HOLDFAST_STATE, and last the default state directory of scripts/up.
 */
import { existsSync, readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import type { TlsFiles } from '../../protocol/tls.js';
import { CliError, EXIT } from './exit-codes.js';

export interface TargetOptions {
  readonly state?: string;
  readonly coordinator?: string;
  readonly tokenFile?: string;
}
export interface Target {
  readonly url: string;
  readonly tokenFile: string;
  readonly token: string;
  /** The state directory of a local cluster, when that is how it was found. */
  readonly state?: string;
}
type Surroundings = Readonly<Record<string, string | undefined>>;

export const defaultState = (env: Surroundings): string =>
  join(env.XDG_STATE_HOME ?? join(env.HOME ?? homedir(), '.local', 'state'), 'holdfast', 'default');

/** @throws {CliError} usage, when no cluster can be made out; not found or denied, when the token cannot be read */
export function findTarget(options: TargetOptions, env: Surroundings = process.env): Target {
  // What is said on the command line outweighs the environment as a whole: a --state is not mixed with HOLDFAST_COORDINATOR.
  const isSaid = options.state !== undefined || options.coordinator !== undefined;
  const state = options.state ?? (isSaid ? undefined : env.HOLDFAST_STATE);
  const url = options.coordinator ?? (isSaid ? undefined : env.HOLDFAST_COORDINATOR);
  const tokenFile = options.tokenFile ?? (options.state === undefined ? env.HOLDFAST_TOKEN_FILE : undefined);
  if (url !== undefined && tokenFile !== undefined)
    return { url: checkedUrl(url), tokenFile: resolve(tokenFile), token: readToken(tokenFile) };
  const directory = resolve(state ?? defaultState(env));
  const local = readState(directory);
  if (!local) {
    if (url !== undefined)
      throw new CliError(`a token is needed for ${url}: give its file with --token-file or HOLDFAST_TOKEN_FILE`, EXIT.usage);
    const said = state === undefined ? '' : ` in ${directory}`;
    throw new CliError(
      `there is no cluster${said}: start one with scripts/up, or name one with --state DIR, or with --coordinator URL and --token-file FILE`,
      EXIT.notFound,
      'NO_CLUSTER',
    );
  }
  const file = resolve(tokenFile ?? local.tokenFile);
  return { url: url === undefined ? local.url : checkedUrl(url), tokenFile: file, token: readToken(file), state: directory };
}

/** A state directory of scripts/up, or a coordinator's data directory. */
function readState(directory: string): { url: string; tokenFile: string } | undefined {
  const config = join(directory, 'cluster.json');
  if (existsSync(config)) {
    let coordinator: { host?: unknown; port?: unknown } = {};
    try {
      coordinator = (JSON.parse(readFileSync(config, 'utf8')) as { coordinator?: typeof coordinator }).coordinator ?? {};
    } catch (error) {
      throw new CliError(`cannot read ${config}: ${(error as Error).message}`);
    }
    return { url: `http://${String(coordinator.host)}:${String(coordinator.port)}`, tokenFile: join(directory, 'tokens', 'admin-token') };
  }
  const [url, token] = [join(directory, 'url'), join(directory, 'admin-token')];
  if (existsSync(url) && existsSync(token)) return { url: readFileSync(url, 'utf8').trim(), tokenFile: token };
  return undefined;
}

function checkedUrl(text: string): string {
  try {
    const url = new URL(text.includes('://') ? text : `http://${text}`);
    if (url.protocol === 'http:' || url.protocol === 'https:') return url.origin;
  } catch {
    // Told below.
  }
  throw new CliError(`${text} is not the address of a coordinator: it looks like http://127.0.0.1:4700`, EXIT.usage);
}

function readToken(file: string): string {
  let token: string;
  try {
    token = readFileSync(file, 'utf8').trim();
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT')
      throw new CliError(`there is no token file ${file}: has the coordinator been started?`, EXIT.notFound, 'NO_TOKEN');
    throw new CliError(`cannot read the token file ${file}: ${(error as Error).message}`, EXIT.denied, 'NO_TOKEN');
  }
  if (token === '') throw new CliError(`the token file ${file} is empty`, EXIT.denied, 'NO_TOKEN');
  return token;
}

/** The certificates named on the command line, or else by HOLDFAST_TLS_CA, HOLDFAST_TLS_CERT and HOLDFAST_TLS_KEY. */
export function tlsFiles(given: TlsFiles, env: Surroundings): TlsFiles {
  const tlsCa = given.tlsCa ?? env.HOLDFAST_TLS_CA;
  const tlsCert = given.tlsCert ?? env.HOLDFAST_TLS_CERT;
  const tlsKey = given.tlsKey ?? env.HOLDFAST_TLS_KEY;
  return {
    ...(tlsCa === undefined ? {} : { tlsCa }),
    ...(tlsCert === undefined ? {} : { tlsCert }),
    ...(tlsKey === undefined ? {} : { tlsKey }),
  };
}
