/** `holdfast coordinator`: command line, log and signals around a running coordinator. */
import { stat } from 'node:fs/promises';
import { Command, InvalidArgumentError } from 'commander';
import { type Daemon, EXIT_FAILURE, runDaemon } from '../protocol/daemon.js';
import {
  bytesOf,
  type DaemonFlags,
  integerBetween,
  listenOption,
  option,
  readNamedFile,
  withCommonOptions,
  withTlsOptions,
} from '../protocol/daemon-flags.js';
import { realEnvironment } from '../protocol/environment.js';
import { HoldfastError } from '../protocol/errors.js';
import { MAX_CHUNK_SIZE_BYTES, MIN_CHUNK_SIZE_BYTES } from '../protocol/limits.js';
import { readTls } from '../protocol/tls.js';
import { defaultCoordinatorOptions } from './coordinator.js';
import { type ServerOptions, startCoordinator } from './server.js';

export { type RunningCoordinator, type ServerOptions, startCoordinator } from './server.js';

interface Flags extends DaemonFlags {
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
  readonly tlsCaKey?: string;
}

/**
 * Runs a coordinator until it is told to stop (SIGTERM, SIGINT).
 * @param argv arguments after the program's and subcommand's name
 * @returns exit code: 0 stopped cleanly, 1 failed (start it again), 2 used wrongly or refused (starting it again as it is will not help)
 */
export const runCoordinator = (argv: readonly string[]): Promise<number> => runDaemon(daemon, argv);

const daemon: Daemon<Flags> = {
  get command() {
    return command();
  },
  component: () => ({ component: 'coordinator' }),
  start: async (flags, log, onFatal) => startCoordinator(await optionsOf(flags, onFatal), realEnvironment(log)),
  fatal: (error, log) => {
    // Nothing may be flushed any more: what the disk really holds is found by the next start.
    log('error', 'the disk failed; the next start recovers from what is really on it', { error: error.message });
    return { how: 'abandon', exitCode: EXIT_FAILURE };
  },
  // With room again the same start works: not a refusal for good.
  passing: ['ENOSPC'],
  afterForcedEnd: 'the next start recovers',
};

function command(): Command {
  const { copies, chunkSizeBytes, trashKeepMs, downAfterMs, stoppedGraceMs, deletionGraceMs, unknownGraceMs, sessionTimeoutMs } =
    defaultCoordinatorOptions;
  const coordinator = new Command('holdfast coordinator')
    .description('Runs the coordinator: keeps the metadata and decides. Exactly one per cluster.')
    .exitOverride()
    .addOption(option('--data <dir>', 'directory for the metadata', 'DATA').makeOptionMandatory())
    .addOption(listenOption(4700, ' (see <data>/url)'))
    .addOption(option('--copies <n>', 'copies of each chunk in a new cluster', 'COPIES').default(copies).argParser(integerBetween(1, 8)))
    .addOption(
      option('--chunk-size <bytes>', 'chunk size in a new cluster, e.g. 1M', 'CHUNK_SIZE').default(chunkSizeBytes).argParser(chunkSizeOf),
    )
    .addOption(
      option('--trash-keep <ms>', 'how long deleted files are kept in the volumes of a new cluster; 0 = not at all', 'TRASH_KEEP')
        .default(trashKeepMs)
        .argParser(integerBetween(0, 3_155_760_000_000)),
    )
    .addOption(
      option('--metadata-copies <n>', 'nodes that keep a copy of the metadata', 'METADATA_COPIES')
        .default(2)
        .argParser(integerBetween(0, 8)),
    )
    .addOption(
      option('--down-after <ms>', 'a silent node counts as down after this time, and repair starts', 'DOWN_AFTER')
        .default(downAfterMs)
        .argParser(integerBetween(1000, 86_400_000)),
    )
    .addOption(
      option('--stopped-grace <ms>', 'the same for a node that was stopped cleanly', 'STOPPED_GRACE')
        .default(stoppedGraceMs)
        .argParser(integerBetween(1000, 604_800_000)),
    )
    .addOption(
      option('--deletion-grace <ms>', 'chunks nobody uses rest this long before they are deleted', 'DELETION_GRACE')
        .default(deletionGraceMs)
        .argParser(integerBetween(0, 86_400_000)),
    )
    .addOption(
      option('--unknown-grace <ms>', 'chunks on nodes that no metadata names rest this long before they are set aside', 'UNKNOWN_GRACE')
        .default(unknownGraceMs)
        .argParser(integerBetween(1000, 604_800_000)),
    )
    .addOption(
      option('--session-timeout <ms>', 'a client that is away for longer loses its locks and what it had not sent', 'SESSION_TIMEOUT')
        .default(sessionTimeoutMs)
        .argParser(integerBetween(1000, 86_400_000)),
    )
    .addOption(
      option('--sync <when>', 'when changes reach stable storage: within a second, or before each reply', 'SYNC')
        .choices(['interval', 'always'])
        .default('interval'),
    );
  withTlsOptions(coordinator, 'take only peers with a certificate of it').addOption(
    option(
      '--tls-ca-key <file>',
      "the authority's private key, PEM (0600): whoever shows a token gets a certificate by himself",
      'TLS_CA_KEY',
    ),
  );
  return withCommonOptions(coordinator);
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
  const text = await readNamedFile(file, '--tls-ca-key');
  if (((await stat(file)).mode & 0o077) !== 0)
    throw new HoldfastError('EINVAL', `--tls-ca-key ${file} can be read by others than its owner: chmod 600 ${file}`);
  return text;
}

function chunkSizeOf(text: string): number {
  const value = bytesOf(text);
  if (value < MIN_CHUNK_SIZE_BYTES || value > MAX_CHUNK_SIZE_BYTES || value % MIN_CHUNK_SIZE_BYTES !== 0)
    throw new InvalidArgumentError(
      `Must be a multiple of ${MIN_CHUNK_SIZE_BYTES} from ${MIN_CHUNK_SIZE_BYTES} to ${MAX_CHUNK_SIZE_BYTES} bytes, e.g. 1M.`,
    );
  return value;
}
