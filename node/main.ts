/** `holdfast node`: command line, log and signals around a running node. */
import { existsSync } from 'node:fs';
import { mkdir, readFile } from 'node:fs/promises';
import { Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import { pino } from 'pino';
import { type Environment, realEnvironment } from '../protocol/environment.js';
import { HoldfastError } from '../protocol/errors.js';
import { type PeerTls, readTls, type TlsFiles } from '../protocol/tls.js';
import { temporaryDirectory } from './disk-layout.js';
import { diskNodeState } from './node-state.js';
import { ownCertificate } from './own-certificate.js';
import { type NodeOptions, type RunningNode, startNode } from './start.js';

export { type NodeOptions, type RunningNode, startNode } from './start.js';

const EXIT_OK = 0;
const EXIT_FAILURE = 1;
const EXIT_USAGE = 2;
/** Shorter than the 10 s within which a service manager expects the end. */
const STOP_TIMEOUT_MS = 9000;

interface Flags extends TlsFiles {
  readonly data: string;
  readonly name: string;
  readonly coordinator: string;
  readonly tokenFile?: string;
  readonly joinTokenFile?: string;
  readonly listen: { host: string; port: number };
  readonly url?: string;
  readonly zone: string;
  readonly reserve?: number;
  readonly capacity?: number;
  readonly insecure: boolean;
  readonly logLevel: string;
}

/**
 * Runs a node until it is told to stop (SIGTERM, SIGINT) or the coordinator refuses it for good.
 * @param argv arguments after the program's and subcommand's name
 * @returns exit code: 0 stopped cleanly, 1 failed, 2 used wrongly or refused (starting it again as it is will not help)
 */
export async function runNode(argv: readonly string[]): Promise<number> {
  let flags: Flags;
  try {
    flags = command().parse(argv, { from: 'user' }).opts<Flags>();
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT_OK : EXIT_USAGE;
    throw error;
  }
  const logger = pino(
    {
      level: flags.logLevel,
      base: { component: 'node', node: flags.name },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
    },
    pino.destination({ dest: 2, sync: true }),
  );
  const log: Environment['log'] = (level, message, facts) => logger[level](facts ?? {}, message);
  const fail = (error: unknown): number => {
    const isRefusal = error instanceof HoldfastError;
    log(
      'error',
      isRefusal ? error.message : 'the node failed',
      isRefusal ? { code: error.code } : { error: String((error as Error)?.stack ?? error) },
    );
    return isRefusal ? EXIT_USAGE : EXIT_FAILURE;
  };

  let fatal!: (error: HoldfastError) => void;
  const refused = new Promise<HoldfastError>((resolve) => {
    fatal = resolve;
  });
  let running: RunningNode;
  try {
    const environment = realEnvironment(log);
    running = await startNode(await optionsOf(flags, fatal, environment), environment);
  } catch (error) {
    return fail(error);
  }
  const signalled = new Promise<string>((resolve) => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => resolve(signal));
  });
  const why = await Promise.race([signalled, refused]);
  log('info', 'stopping', { why: typeof why === 'string' ? why : why.code });
  const late = setTimeout(() => {
    log('error', 'stopping takes too long, ending at once; the next start checks what was under way');
    process.exit(EXIT_FAILURE);
  }, STOP_TIMEOUT_MS);
  try {
    await running.stop(typeof why === 'string' ? `stopped by ${why}` : 'refused');
  } catch (error) {
    return fail(error);
  } finally {
    clearTimeout(late);
  }
  return typeof why === 'string' ? EXIT_OK : EXIT_USAGE;
}

function command(): Command {
  const option = (flags: string, description: string, name: string): Option => new Option(flags, description).env(`HOLDFAST_${name}`);
  return new Command('holdfast node')
    .description('Runs a storage node: keeps chunks on one disk and serves them.')
    .exitOverride()
    .addOption(option('--data <dir>', 'directory for the chunks, one per node and disk', 'DATA').makeOptionMandatory())
    .addOption(option('--name <name>', 'name of this node in the cluster, for ever', 'NAME').makeOptionMandatory().argParser(nameOf))
    .addOption(
      option('--coordinator <url>', 'where the coordinator is, http(s)://host:port', 'COORDINATOR').makeOptionMandatory().argParser(urlOf),
    )
    .addOption(option('--token-file <file>', "file with the cluster's node token", 'TOKEN_FILE'))
    .addOption(
      option(
        '--join-token-file <file>',
        'file with a join token ("holdfast node join-token"), for the first start; later ones need no token',
        'JOIN_TOKEN_FILE',
      ),
    )
    .addOption(
      option('--listen <host:port>', 'where to listen', 'LISTEN')
        .default({ host: '127.0.0.1', port: 4710 }, '127.0.0.1:4710')
        .argParser(addressOf),
    )
    .addOption(option('--url <url>', 'how others reach this node, when it is not http(s)://<listen>', 'URL').argParser(urlOf))
    .addOption(option('--zone <zone>', 'nodes of one zone fail together; copies go to different zones', 'ZONE').default(''))
    .addOption(
      option(
        '--reserve <bytes>',
        'part of the disk never used for chunks (default: 1 %, at least 64 MiB, at most 1 GiB)',
        'RESERVE',
      ).argParser(bytesOf),
    )
    .addOption(option('--capacity <bytes>', 'most bytes of chunks to keep, e.g. 500G', 'CAPACITY').argParser(bytesOf))
    .addOption(option('--tls-key <file>', 'private key, PEM: serve HTTPS', 'TLS_KEY'))
    .addOption(option('--tls-cert <file>', 'certificate, PEM', 'TLS_CERT'))
    .addOption(
      option(
        '--tls-ca <file>',
        "the cluster's certificate authority, PEM: trust it, and take only peers with a certificate of it",
        'TLS_CA',
      ),
    )
    .addOption(option('--insecure', 'allow listening beyond this machine without TLS', 'INSECURE').default(false))
    .addOption(
      option('--log-level <level>', 'debug, info, warn or error', 'LOG_LEVEL').choices(['debug', 'info', 'warn', 'error']).default('info'),
    );
}

async function optionsOf(flags: Flags, onFatal: (error: HoldfastError) => void, environment: Environment): Promise<NodeOptions> {
  const secret = async (file: string | undefined, flag: string): Promise<string | undefined> => {
    if (file === undefined) return undefined;
    const text = (await read(file, flag)).trim();
    if (text === '') throw new HoldfastError('EINVAL', `${file} is empty: it must hold a token`);
    return text;
  };
  const token = await secret(flags.tokenFile, '--token-file');
  // Used up after the first start, and then usually deleted.
  const isGone = flags.joinTokenFile !== undefined && existsSync(`${flags.data}/credentials.json`) && !existsSync(flags.joinTokenFile);
  const joinToken = token === undefined && !isGone ? await secret(flags.joinTokenFile, '--join-token-file') : undefined;
  return {
    data: flags.data,
    name: flags.name,
    coordinator: flags.coordinator,
    ...(token === undefined ? {} : { token }),
    ...(joinToken === undefined ? {} : { joinToken }),
    host: flags.listen.host,
    port: flags.listen.port,
    zone: flags.zone,
    isInsecureAllowed: flags.insecure,
    onFatal,
    ...(flags.url === undefined ? {} : { url: flags.url }),
    ...(flags.reserve === undefined ? {} : { reserveBytes: flags.reserve }),
    ...(flags.capacity === undefined ? {} : { capacityBytes: flags.capacity }),
    tls: await tlsOf(flags, joinToken ?? token, environment),
  };
}

/** The certificate that was given, else the node's own, which it gets from the cluster by its token. */
async function tlsOf(flags: Flags, token: string | undefined, environment: Environment): Promise<PeerTls> {
  const given = await readTls(flags);
  if (given.cert !== undefined || new URL(flags.coordinator).protocol !== 'https:') return given;
  const host = flags.url === undefined ? flags.listen.host : new URL(flags.url).hostname.replace(/^\[|\]$/g, '');
  await mkdir(temporaryDirectory(flags.data), { recursive: true, mode: 0o700 });
  const own = await ownCertificate({
    state: diskNodeState(flags.data),
    environment,
    coordinator: flags.coordinator,
    name: flags.name,
    hosts: [host],
    token,
    ca: given.ca,
  });
  return own ?? given;
}

async function read(path: string, flag: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    throw new HoldfastError('EINVAL', `${flag} ${path} cannot be read: ${(error as NodeJS.ErrnoException).code ?? 'unknown reason'}`);
  }
}

function nameOf(text: string): string {
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/.test(text))
    throw new InvalidArgumentError('1 to 63 of A-Z a-z 0-9 . _ -, beginning with a letter or digit.');
  return text;
}
function urlOf(text: string): string {
  if (!/^https?:$/.test(URL.canParse(text) ? new URL(text).protocol : ''))
    throw new InvalidArgumentError('Must be http://host:port or https://host:port.');
  return text;
}
function addressOf(text: string): { host: string; port: number } {
  const match = /^(?:\[([^\]]+)\]|([^:]*)):(\d{1,5})$/.exec(text);
  const port = Number(match?.[3]);
  if (!match || port > 65535) throw new InvalidArgumentError('Must be host:port, e.g. 127.0.0.1:4710.');
  return { host: match[1] ?? match[2] ?? '127.0.0.1', port };
}
function bytesOf(text: string): number {
  const match = /^(\d+(?:\.\d+)?)([KMGT]?)(?:i?B)?$/i.exec(text);
  if (!match) throw new InvalidArgumentError('Must be a number of bytes, e.g. 1073741824 or 500G.');
  return Math.round(Number(match[1]) * 1024 ** ' KMGT'.indexOf((match[2] || ' ').toUpperCase()));
}
