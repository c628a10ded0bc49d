/** `holdfast mount`: options, checks, connect, mount, unmount cleanly on a signal. */
import { execFileSync } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import { Command, CommanderError, InvalidArgumentError } from 'commander';
import type { Cluster } from '../client/api.js';
import { connect, passphraseIn, peerTls } from '../client/index.js';
import { HoldfastError, isCode } from '../protocol/errors.js';
import type { TlsFiles } from '../protocol/tls.js';
import { type Mounted, startMount } from './mounted.js';
import { checkMachine, checkMountpoint, Refusal } from './preflight.js';
import { NOBODY } from './root-squash.js';

interface Options extends TlsFiles {
  readonly mount: string;
  readonly coordinator: string;
  readonly tokenFile: string;
  readonly volume?: string;
  readonly subdirectory?: string;
  readonly readOnly?: boolean;
  readonly rootSquash?: boolean;
  readonly hard?: boolean;
  readonly outageTimeout: number;
  readonly attrTimeout: number;
  readonly dirtyBudget?: number;
  readonly cacheBudget?: number;
  readonly readyFile?: string;
  readonly passphraseFile?: string;
  readonly keyFile?: string;
}

const EXIT_OK = 0;
const EXIT_ERROR = 1;
const EXIT_USAGE = 2;
const EXIT_INTERRUPTED = 130;
/** How long a coordinator may take to appear. */
const CONNECT_TIMEOUT_MS = 10_000;
const CONNECT_PAUSE_MS = 250;
const MIB = 1024 * 1024;

const say = (message: string): void => {
  process.stderr.write(`holdfast mount: ${message}\n`);
};

function number(text: string): number {
  const value = Number(text);
  if (!Number.isFinite(value) || value < 0) throw new InvalidArgumentError('must be a number, 0 or more.');
  return value;
}

function parse(argv: readonly string[]): Options {
  const program = new Command('holdfast mount')
    .description('Mounts a volume of a cluster as a directory of this machine. Runs until it is unmounted or gets SIGTERM.')
    .requiredOption('--mount <dir>', 'empty directory to mount at')
    .requiredOption('--coordinator <url>', 'http://host:port of the coordinator')
    .requiredOption('--token-file <file>', 'file with the token that grants access')
    .option('--volume <name>', "volume to mount (default: the user's own; main for the administrator)")
    .option('--subdirectory <path>', 'mount only this directory of the volume')
    .option('--read-only', 'refuse every change')
    .option('--root-squash', 'root of this machine is nobody in the mount (uid and gid 65534)')
    .option('--hard', 'while the coordinator is away let programs wait for ever instead of failing')
    .option('--outage-timeout <ms>', 'how long programs wait for an absent coordinator before they get EIO', number, 30_000)
    .option('--attr-timeout <ms>', 'longest time the kernel may answer attributes by itself, at most 1000', number, 1000)
    .option('--dirty-budget <MiB>', 'memory for data on its way to the nodes', number)
    .option('--cache-budget <MiB>', 'memory for data read', number)
    .option('--ready-file <file>', 'written when the mount can be used')
    .option('--tls-ca <file>', "the cluster's certificate authority (PEM), for an https coordinator")
    .option('--tls-cert <file>', 'our certificate (PEM)')
    .option('--tls-key <file>', 'its private key (PEM)')
    .option('--passphrase-file <file>', 'file with the passphrase of an encrypted volume')
    .option('--key-file <file>', 'key file of an encrypted volume')
    .exitOverride();
  program.parse([...argv], { from: 'user' });
  return program.opts<Options>();
}

/**
 * Mounts and serves until unmounted.
 * @param argv arguments after `holdfast mount`
 * @returns exit code: 0 unmounted and all saved, 1 something failed or was not saved, 2 refused (one line on stderr says why)
 */
export async function runMount(argv: readonly string[]): Promise<number> {
  let options: Options;
  try {
    options = parse(argv);
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT_OK : EXIT_USAGE;
    throw error;
  }
  try {
    await checkMachine();
    const ownFiles = [options.tokenFile, options.readyFile, options.tlsCa, options.tlsKey, options.passphraseFile, options.keyFile];
    const mountpoint = await checkMountpoint(
      options.mount,
      ownFiles.filter((file) => file !== undefined),
    );
    const cluster = await connectOrRefuse(options, mountpoint);
    return await serve(cluster, mountpoint, options);
  } catch (error) {
    if (!(error instanceof Refusal)) {
      say(error instanceof Error ? error.message : String(error));
      return EXIT_ERROR;
    }
    say(error.message);
    return EXIT_USAGE;
  }
}

async function readOwn(file: string, what: string): Promise<Buffer> {
  try {
    return await readFile(file);
  } catch (error) {
    throw new Refusal(`cannot read ${what} ${file}: ${(error as Error).message}`);
  }
}

async function connectOrRefuse(options: Options, mountpoint: string): Promise<Cluster> {
  const token = (await readOwn(options.tokenFile, 'the token file')).toString('utf8').trim();
  const tls = await peerTls(options.coordinator, token, options).catch((error: Error) => {
    throw new Refusal(error.message);
  });
  const passphrase =
    options.passphraseFile === undefined ? undefined : passphraseIn(await readOwn(options.passphraseFile, 'the passphrase file'));
  const keyFile = options.keyFile === undefined ? undefined : await readOwn(options.keyFile, 'the key file');
  const deadline = performance.now() + CONNECT_TIMEOUT_MS;
  const tooLate = (why: string) =>
    new Refusal(`no coordinator answers at ${options.coordinator} (${why}): start it, or check --coordinator`);
  for (;;) {
    try {
      return await within(
        deadline - performance.now(),
        () => tooLate('no answer in 10 s'),
        connect({
          coordinatorUrl: options.coordinator,
          token,
          description: `mount ${mountpoint} pid ${process.pid}`,
          outageTimeoutMs: options.outageTimeout,
          ...(options.volume === undefined ? {} : { volume: options.volume }),
          ...(options.subdirectory === undefined ? {} : { subdirectory: options.subdirectory }),
          ...(options.hard ? { hard: true } : {}),
          ...(options.dirtyBudget === undefined ? {} : { dirtyBudgetBytes: options.dirtyBudget * MIB }),
          ...(options.cacheBudget === undefined ? {} : { cacheBudgetBytes: options.cacheBudget * MIB }),
          tls,
          ...(passphrase === undefined && keyFile === undefined
            ? {}
            : { unlock: { ...(passphrase === undefined ? {} : { passphrase }), ...(keyFile === undefined ? {} : { keyFile }) } }),
        }),
      );
    } catch (error) {
      if (error instanceof Refusal) throw error;
      if (isCode(error, 'EACCES') && error.facts?.volumeKey !== undefined) throw new Refusal(error.message);
      if (isCode(error, 'FORBIDDEN', 'EACCES', 'EPERM'))
        throw new Refusal(
          `the coordinator at ${options.coordinator} does not allow this with the token in ${options.tokenFile}: ${error.message}`,
        );
      if (isCode(error, 'UNAUTHORIZED'))
        throw new Refusal(`the coordinator at ${options.coordinator} refused the token in ${options.tokenFile}: ${error.message}`);
      if (isCode(error, 'PROTOCOL_VERSION', 'WRONG_CLUSTER', 'BAD_MESSAGE'))
        throw new Refusal(`this mount and the coordinator at ${options.coordinator} do not fit together: ${error.message}`);
      if (isCode(error, 'ENOENT', 'ENOTDIR')) throw new Refusal(`cannot mount ${options.subdirectory ?? 'this'}: ${error.message}`);
      if (!(error instanceof HoldfastError && error.retryable)) throw new Refusal((error as Error).message);
      if (performance.now() > deadline) throw tooLate(error.message);
      await new Promise((resolve) => setTimeout(resolve, CONNECT_PAUSE_MS));
    }
  }
}

async function within<T>(timeoutMs: number, late: () => Error, work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const tooLate = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(late()), Math.max(0, timeoutMs));
  });
  try {
    return await Promise.race([work, tooLate]);
  } finally {
    clearTimeout(timer);
  }
}

async function serve(cluster: Cluster, mountpoint: string, options: Options): Promise<number> {
  let mounted: Mounted;
  const isReadOnly = options.readOnly === true || cluster.access === 'read';
  try {
    const rootIs = options.rootSquash ? NOBODY : undefined;
    mounted = await startMount({ cluster, mountpoint, isReadOnly, rootIs, attributeTimeoutMs: options.attrTimeout, log: say });
  } catch (error) {
    await cluster.close();
    throw new Refusal(`cannot mount at ${mountpoint}: ${(error as Error).message}`);
  }
  cluster.onConnection((isConnected, reason) => {
    say(isConnected ? 'the coordinator is back' : `the coordinator is away (${reason}); calls wait for it`);
  });
  // Dying without unmounting would leave a mountpoint that answers ENOTCONN until the next mount takes it over.
  const die = (error: unknown) => {
    say(`internal error, the mount ends: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`);
    detachNow(mountpoint);
    process.exit(EXIT_ERROR);
  };
  process.on('uncaughtException', die);
  process.on('unhandledRejection', die);

  let code = EXIT_OK;
  let isStopping = false;
  const stop = () => {
    if (isStopping) {
      say('signalled twice: the mount ends now, without what is not saved yet');
      detachNow(mountpoint);
      process.exit(EXIT_INTERRUPTED);
    }
    isStopping = true;
    void mounted.unmount().then(({ failed, busyPids }) => {
      const pids = busyPids.filter((pid) => pid > 0);
      if (busyPids.length > 0)
        say(`${mountpoint} was in use${pids.length > 0 ? ` by process ${pids.join(', ')}` : ''}; it was detached after saving everything`);
      for (const file of failed) say(`not saved: ${file}`);
      if (failed.length > 0) code = EXIT_ERROR;
    }, die);
  };
  process.on('SIGTERM', stop);
  process.on('SIGINT', stop);

  if (options.readyFile !== undefined) await writeFile(options.readyFile, `${process.pid}\n`);
  say(`volume ${cluster.volume.name} is mounted at ${mountpoint}${isReadOnly ? ' (read-only)' : ''}`);
  await mounted.gone;
  // Somebody else may have unmounted: then what is still dirty is saved here.
  const { failed } = isStopping ? await mounted.unmount() : await cluster.flushAll({ durable: true, timeoutMs: 60_000 });
  if (failed.length > 0) code = EXIT_ERROR;
  await cluster.close();
  return code;
}

function detachNow(mountpoint: string): void {
  try {
    execFileSync('fusermount3', ['-uz', '--', mountpoint], { stdio: 'ignore', timeout: 5000 });
  } catch {
    // The next mount takes the dead mountpoint over.
  }
}
