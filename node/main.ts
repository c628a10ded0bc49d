/** `holdfast node`: command line, log and signals around a running node. */
import { existsSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { Command, InvalidArgumentError } from 'commander';
import { type Daemon, EXIT_USAGE, runDaemon } from '../protocol/daemon.js';
import {
  bytesOf,
  type DaemonFlags,
  listenOption,
  option,
  readNamedFile,
  withCommonOptions,
  withTlsOptions,
} from '../protocol/daemon-flags.js';
import { hostOf } from '../protocol/enrolment.js';
import { type Environment, realEnvironment } from '../protocol/environment.js';
import { HoldfastError } from '../protocol/errors.js';
import { type PeerTls, readTls } from '../protocol/tls.js';
import { temporaryDirectory } from './disk-layout.js';
import { diskNodeState } from './node-state.js';
import { ownCertificate } from './own-certificate.js';
import { type NodeOptions, startNode } from './start.js';

export { type NodeOptions, type RunningNode, startNode } from './start.js';

interface Flags extends DaemonFlags {
  readonly name: string;
  readonly coordinator: string;
  readonly tokenFile?: string;
  readonly joinTokenFile?: string;
  readonly url?: string;
  readonly zone: string;
  readonly reserve?: number;
  readonly capacity?: number;
}

/**
 * Runs a node until it is told to stop (SIGTERM, SIGINT) or the coordinator refuses it for good.
 * @param argv arguments after the program's and subcommand's name
 * @returns exit code: 0 stopped cleanly, 1 failed, 2 used wrongly or refused (starting it again as it is will not help)
 */
export const runNode = (argv: readonly string[]): Promise<number> => runDaemon(daemon, argv);

const daemon: Daemon<Flags> = {
  get command() {
    return command();
  },
  component: ({ name }) => ({ component: 'node', node: name }),
  start: async (flags, log, onFatal) => {
    const environment = realEnvironment(log);
    return startNode(await optionsOf(flags, onFatal, environment), environment);
  },
  fatal: () => ({ how: 'stop', exitCode: EXIT_USAGE }),
  afterForcedEnd: 'the next start checks what was under way',
};

function command(): Command {
  const node = new Command('holdfast node')
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
    .addOption(listenOption(4710))
    .addOption(option('--url <url>', 'how others reach this node, when it is not http(s)://<listen>', 'URL').argParser(urlOf))
    .addOption(option('--zone <zone>', 'nodes of one zone fail together; copies go to different zones', 'ZONE').default(''))
    .addOption(
      option(
        '--reserve <bytes>',
        'part of the disk never used for chunks (default: 1 %, at least 64 MiB, at most 1 GiB)',
        'RESERVE',
      ).argParser(bytesOf),
    )
    .addOption(option('--capacity <bytes>', 'most bytes of chunks to keep, e.g. 500G', 'CAPACITY').argParser(bytesOf));
  return withCommonOptions(withTlsOptions(node, 'trust it, and take only peers with a certificate of it'));
}

async function optionsOf(flags: Flags, onFatal: (error: HoldfastError) => void, environment: Environment): Promise<NodeOptions> {
  const secret = async (file: string | undefined, flag: string): Promise<string | undefined> => {
    if (file === undefined) return undefined;
    const text = (await readNamedFile(file, flag)).trim();
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
  const host = flags.url === undefined ? flags.listen.host : hostOf(flags.url);
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
