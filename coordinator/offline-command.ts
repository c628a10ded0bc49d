/** What `holdfast recover` and `holdfast restore` share: options that name the new data directory and its tokens, output, errors, exit codes. */
import { type Command, CommanderError } from 'commander';
import { type ErrorCode, HoldfastError } from '../protocol/errors.js';
import { type LocalState, readLocalState, tokenIn } from './local-state.js';

/** The numbers are those of client/cli/exit-codes.ts: one program, one meaning. */
const EXIT_OK = 0;
const EXIT_ERROR = 1;
const EXIT_USAGE = 2;
const exitCodes: Partial<Record<ErrorCode, number>> = {
  EINVAL: EXIT_USAGE,
  ENOENT: 4,
  UNREACHABLE: 5,
  DEADLINE: 5,
  NOT_READY: 5,
  CHUNK_CORRUPT: 6,
  REFUSED: 7,
  EBUSY: 7,
  UNAUTHORIZED: 8,
  FORBIDDEN: 8,
};
export const exitCodeHelp =
  '\nExit codes: 0 ok, 1 error, 2 called wrongly, 4 nothing found, 5 nodes unreachable, 6 damaged, 7 there is data already, 8 denied';

export interface PlaceFlags {
  readonly state?: string;
  readonly data?: string;
  readonly nodeTokenFile?: string;
  readonly adminTokenFile?: string;
  readonly json: boolean;
}
export const withPlaceOptions = (command: Command): Command =>
  command
    .option(
      '--state <dir>',
      'state directory of a local cluster: takes its nodes, its tokens, and the place of its data',
      process.env.HOLDFAST_STATE,
    )
    .option('--data <dir>', 'data directory to make; must be absent or empty')
    .option('--node-token-file <file>', "the cluster's node token: what nodes are started with as --token-file")
    .option('--admin-token-file <file>', 'admin token to keep; without it a new one is made (with --state the old one is kept)')
    .option('--json', 'one JSON object on stdout; errors as JSON on stderr', false)
    .addHelpText('after', exitCodeHelp);

export interface Place {
  readonly local: LocalState | undefined;
  readonly data: string | undefined;
  readonly nodeToken: string;
  readonly adminToken: string | undefined;
}
/** @throws {HoldfastError} EINVAL, ENOENT */
export async function placeOf(flags: PlaceFlags): Promise<Place> {
  const local = flags.state === undefined ? undefined : await readLocalState(flags.state);
  const nodeToken = flags.nodeTokenFile === undefined ? local?.nodeToken : await tokenIn(flags.nodeTokenFile, '--node-token-file');
  if (nodeToken === undefined)
    throw new HoldfastError(
      'EINVAL',
      "give the cluster's node token with --node-token-file FILE (each node was started with it as --token-file), or --state DIR",
    );
  const adminToken = flags.adminTokenFile === undefined ? local?.adminToken : await tokenIn(flags.adminTokenFile, '--admin-token-file');
  return { local, data: flags.data ?? local?.data, nodeToken, adminToken };
}

/** Parses, runs, tells the error. @returns the exit code */
export async function runOffline(
  command: Command,
  argv: readonly string[],
  run: (print: (text: string) => void, json: (value: object) => void) => Promise<void>,
): Promise<number> {
  try {
    command.exitOverride().parse(argv, { from: 'user' });
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT_OK : EXIT_USAGE;
    throw error;
  }
  const isJson = command.opts<PlaceFlags>().json;
  try {
    await run(
      (text) => {
        if (!isJson) process.stdout.write(`${text}\n`);
      },
      (value) => {
        if (isJson) process.stdout.write(`${JSON.stringify({ schema: 1, ...value })}\n`);
      },
    );
    return EXIT_OK;
  } catch (error) {
    const { message } = error as Error;
    const code = error instanceof HoldfastError ? error.code : ((error as NodeJS.ErrnoException).code ?? 'ERROR');
    const exitCode = exitCodes[code as ErrorCode] ?? EXIT_ERROR;
    process.stderr.write(
      isJson ? `${JSON.stringify({ schema: 1, error: { code, message, exitCode } })}\n` : `${command.name()}: ${message}\n`,
    );
    return exitCode;
  }
}

/** Where the tokens went, and what to do next. */
export const nextSteps = (place: Place, data: string): string =>
  `Start it with: ${place.local ? 'scripts/coordinator start' : `holdfast coordinator --data ${data}`}\n${
    place.adminToken === undefined ? `The admin token is new: ${data}/admin-token` : 'The admin token is the old one.'
  }`;
