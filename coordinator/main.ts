/** `holdfast coordinator`: command line, log and signals around a running coordinator. */
import { readFile, stat } from 'node:fs/promises';
import { Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import { pino } from 'pino';
import { type Environment, realEnvironment } from '../protocol/environment.js';
import { HoldfastError } from '../protocol/errors.js';
import { MAX_CHUNK_SIZE_BYTES, MIN_CHUNK_SIZE_BYTES } from '../protocol/limits.js';
import { readTls, type TlsFiles } from '../protocol/tls.js';
import { defaultCoordinatorOptions } from './coordinator.js';
import { type RunningCoordinator, type ServerOptions, startCoordinator } from './server.js';

export { type RunningCoordinator, type ServerOptions, startCoordinator } from './server.js';

const EXIT_OK = 0;
const EXIT_FAILURE = 1;
const EXIT_USAGE = 2;
/** Shorter than the 10 s within which a service manager expects the end. */
const STOP_TIMEOUT_MS = 9000;

interface Flags extends TlsFiles {
  readonly data: string;
  readonly listen: { host: string; port: number };
  readonly copies: number;
  readonly chunkSize: number;
  readonly metadataCopies: number;
  readonly trashKeep: number;
  readonly downAfter: number;
  readonly stoppedGrace: number;
  readonly deletionGrace: number;
  readonly unknownGrace: number;
  readonly sessionTimeout: number;
  readonly sync: 'interval' | 'always';
  readonly insecure: boolean;
  readonly tlsCaKey?: string;
  readonly logLevel: string;
}

/**
 * Runs a coordinator until it is told to stop (SIGTERM, SIGINT).
 * @param argv arguments after the program's and subcommand's name
 * @returns exit code: 0 stopped cleanly, 1 failed (start it again), 2 used wrongly or refused (starting it again as it is will not help)
 */
export async function runCoordinator(argv: readonly string[]): Promise<number> {
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
      base: { component: 'coordinator' },
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
      isRefusal ? error.message : 'the coordinator failed',
      isRefusal ? { code: error.code } : { error: String((error as Error)?.stack ?? error) },
    );
    // With room again the same start works: not a refusal for good.
    return isRefusal && error.code !== 'ENOSPC' ? EXIT_USAGE : EXIT_FAILURE;
  };
  let onFatal!: (error: Error) => void;
  const fatal = new Promise<Error>((resolve) => {
    onFatal = resolve;
  });
  const signalled = new Promise<string>((resolve) => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => resolve(signal));
  });
  let running: RunningCoordinator;
  try {
    running = await startCoordinator(await optionsOf(flags, onFatal), realEnvironment(log));
  } catch (error) {
    return fail(error);
  }
  const why = await Promise.race([signalled, fatal]);
  if (typeof why !== 'string') {
    // Nothing may be flushed any more: what the disk really holds is found by the next start.
    log('error', 'the disk failed; the next start recovers from what is really on it', { error: why.message });
    process.exit(EXIT_FAILURE);
  }
  log('info', 'stopping', { why });
  const late = setTimeout(() => {
    log('error', 'stopping takes too long, ending at once; the next start recovers');
    process.exit(EXIT_FAILURE);
  }, STOP_TIMEOUT_MS);
  try {
    await running.stop();
    return EXIT_OK;
  } catch (error) {
    return fail(error);
  } finally {
    clearTimeout(late);
  }
}

function command(): Command {
  const option = (flags: string, description: string, name: string): Option => new Option(flags, description).env(`HOLDFAST_${name}`);
  const { copies, chunkSizeBytes, trashKeepMs, downAfterMs, stoppedGraceMs, deletionGraceMs, unknownGraceMs, sessionTimeoutMs } =
    defaultCoordinatorOptions;
  return new Command('holdfast coordinator')
    .description('Runs the coordinator: keeps the metadata and decides. Exactly one per cluster.')
    .exitOverride()
    .addOption(option('--data <dir>', 'directory for the metadata', 'DATA').makeOptionMandatory())
    .addOption(
      option('--listen <host:port>', 'where to listen; port 0 = any free one (see <data>/url)', 'LISTEN')
        .default({ host: '127.0.0.1', port: 4700 }, '127.0.0.1:4700')
        .argParser(addressOf),
    )
    .addOption(option('--copies <n>', 'copies of each chunk in a new cluster', 'COPIES').default(copies).argParser(integer(1, 8)))
    .addOption(
      option('--chunk-size <bytes>', 'chunk size in a new cluster, e.g. 1M', 'CHUNK_SIZE')
        .default(chunkSizeBytes)
        .argParser(bytes(MIN_CHUNK_SIZE_BYTES, MAX_CHUNK_SIZE_BYTES)),
    )
    .addOption(
      option('--trash-keep <ms>', 'how long deleted files are kept in the volumes of a new cluster; 0 = not at all', 'TRASH_KEEP')
        .default(trashKeepMs)
        .argParser(integer(0, 3_155_760_000_000)),
    )
    .addOption(
      option('--metadata-copies <n>', 'nodes that keep a copy of the metadata', 'METADATA_COPIES').default(2).argParser(integer(0, 8)),
    )
    .addOption(
      option('--down-after <ms>', 'a silent node counts as down after this time, and repair starts', 'DOWN_AFTER')
        .default(downAfterMs)
        .argParser(integer(1000, 86_400_000)),
    )
    .addOption(
      option('--stopped-grace <ms>', 'the same for a node that was stopped cleanly', 'STOPPED_GRACE')
        .default(stoppedGraceMs)
        .argParser(integer(1000, 604_800_000)),
    )
    .addOption(
      option('--deletion-grace <ms>', 'chunks nobody uses rest this long before they are deleted', 'DELETION_GRACE')
        .default(deletionGraceMs)
        .argParser(integer(0, 86_400_000)),
    )
    .addOption(
      option('--unknown-grace <ms>', 'chunks on nodes that no metadata names rest this long before they are set aside', 'UNKNOWN_GRACE')
        .default(unknownGraceMs)
        .argParser(integer(1000, 604_800_000)),
    )
    .addOption(
      option('--session-timeout <ms>', 'a client that is away for longer loses its locks and what it had not sent', 'SESSION_TIMEOUT')
        .default(sessionTimeoutMs)
        .argParser(integer(1000, 86_400_000)),
    )
    .addOption(
      option('--sync <when>', 'when changes reach stable storage: within a second, or before each reply', 'SYNC')
        .choices(['interval', 'always'])
        .default('interval'),
    )
    .addOption(option('--tls-key <file>', 'private key, PEM: serve HTTPS', 'TLS_KEY'))
    .addOption(option('--tls-cert <file>', 'certificate, PEM', 'TLS_CERT'))
    .addOption(option('--tls-ca <file>', "the cluster's certificate authority, PEM: take only peers with a certificate of it", 'TLS_CA'))
    .addOption(
      option(
        '--tls-ca-key <file>',
        "the authority's private key, PEM (0600): whoever shows a token gets a certificate by himself",
        'TLS_CA_KEY',
      ),
    )
    .addOption(option('--insecure', 'allow listening beyond this machine without TLS', 'INSECURE').default(false))
    .addOption(
      option('--log-level <level>', 'debug, info, warn or error', 'LOG_LEVEL').choices(['debug', 'info', 'warn', 'error']).default('info'),
    );
}

async function optionsOf(flags: Flags, onFatal: (error: Error) => void): Promise<ServerOptions> {
  return {
    data: flags.data,
    host: flags.listen.host,
    port: flags.listen.port,
    isInsecureAllowed: flags.insecure,
    metadataCopies: flags.metadataCopies,
    onFatal,
    coordinator: {
      copies: flags.copies,
      chunkSizeBytes: flags.chunkSize,
      trashKeepMs: flags.trashKeep,
      downAfterMs: flags.downAfter,
      stoppedGraceMs: flags.stoppedGrace,
      deletionGraceMs: flags.deletionGrace,
      unknownGraceMs: flags.unknownGrace,
      sessionTimeoutMs: flags.sessionTimeout,
      syncAlways: flags.sync === 'always',
    },
    tls: await readTls(flags),
    ...(flags.tlsCaKey === undefined ? {} : { authorityKey: await readAuthorityKey(flags.tlsCaKey) }),
  };
}
/** @throws {HoldfastError} EINVAL, also when others may read it: who has it can let anybody in */
async function readAuthorityKey(file: string): Promise<string> {
  try {
    if (((await stat(file)).mode & 0o077) !== 0)
      throw new HoldfastError('EINVAL', `--tls-ca-key ${file} can be read by others than its owner: chmod 600 ${file}`);
    return await readFile(file, 'utf8');
  } catch (error) {
    if (error instanceof HoldfastError) throw error;
    throw new HoldfastError('EINVAL', `--tls-ca-key ${file} cannot be read: ${(error as NodeJS.ErrnoException).code ?? 'unknown reason'}`);
  }
}

function addressOf(text: string): { host: string; port: number } {
  const match = /^(?:\[([^\]]+)\]|([^:]*)):(\d{1,5})$/.exec(text);
  const port = Number(match?.[3]);
  if (!match || port > 65535) throw new InvalidArgumentError('Must be host:port, e.g. 127.0.0.1:4700.');
  return { host: match[1] ?? (match[2] || '127.0.0.1'), port };
}
const integer =
  (min: number, max: number) =>
  (text: string): number => {
    const value = Number(text);
    if (!/^\d+$/.test(text) || value < min || value > max) throw new InvalidArgumentError(`Must be a whole number from ${min} to ${max}.`);
    return value;
  };
const bytes =
  (min: number, max: number) =>
  (text: string): number => {
    const match = /^(\d+)([KM]?)(?:i?B)?$/i.exec(text);
    const value = match ? Number(match[1]) * 1024 ** ' KM'.indexOf((match[2] || ' ').toUpperCase()) : Number.NaN;
    if (!(value >= min && value <= max) || value % MIN_CHUNK_SIZE_BYTES !== 0)
      throw new InvalidArgumentError(`Must be a multiple of ${MIN_CHUNK_SIZE_BYTES} from ${min} to ${max} bytes, e.g. 1M.`);
    return value;
  };
