/** The commander tree: every command, its options and examples. What a command does is in commands/, loaded when it is asked for. */
import { Command, CommanderError, InvalidArgumentError } from 'commander';
import { type CommonOptions, Context } from './context.js';
import { CliError, EXIT, exitCodeHelp, tellError } from './exit-codes.js';

type Run<Options> = (context: Context, options: Options, ...args: never[]) => unknown;

const number =
  (from: number, to: number) =>
  (text: string): number => {
    const value = Number(text);
    if (text.trim() === '' || !(value >= from && value <= to)) throw new InvalidArgumentError(`it must be a number from ${from} to ${to}`);
    return value;
  };
const seconds = (text: string): number => number(0, 86_400)(text) * 1000;

function exit(code: number | undefined): void {
  if (code !== undefined) process.exitCode = code;
}

/** Adds the options that every command takes. */
const common = (command: Command): Command =>
  command
    .optionsGroup('Which cluster:')
    .option('--state <dir>', 'state directory of a local cluster')
    .option('--coordinator <url>', 'address of the coordinator')
    .option('--token-file <file>', 'file with your token')
    .option('--volume <name>', 'volume to work in')
    .optionsGroup('Common options:')
    .option('--timeout <s>', 'how long to wait for an absent coordinator', seconds)
    .option('--json', 'one JSON object on stdout, or one a line for streams; errors as JSON on stderr')
    .option('-q, --quiet', 'no messages besides the result');

export function buildProgram(): Command {
  const program = new Command('holdfast')
    .description('Turns the disks of a few machines into one folder.')
    .usage('<command> [options]')
    .helpOption('-h, --help', 'show help')
    .version('0.1.0', '-V, --version', 'show the version')
    .showSuggestionAfterError()
    .addHelpText(
      'after',
      `\n${exitCodeHelp}\n\nThe cluster is found by --state DIR, by --coordinator URL with --token-file FILE, by HOLDFAST_STATE, HOLDFAST_COORDINATOR and\nHOLDFAST_TOKEN_FILE, or is the one that scripts/up starts. PATH is a path on a mount or a cluster path like /photos.`,
    );

  let group = '';
  /** One command: how it is called, what it is for, its own options, examples, and where its function is. */
  const add = <Options>(
    parent: Command,
    usage: string,
    summary: string,
    examples: readonly string[],
    load: () => Promise<Run<Options>>,
    options: (command: Command) => Command = (command) => command,
  ): Command => {
    const command = parent.command(usage).description(summary);
    if (parent === program) command.helpGroup(group);
    options(command);
    common(command);
    if (examples.length > 0) command.addHelpText('after', `\nExamples:\n${examples.map((line) => `  $ holdfast ${line}`).join('\n')}`);
    command.action(async (...all: unknown[]) => {
      // commander hands over the arguments, the options, the command.
      const given = command.opts<CommonOptions & Options>();
      const args = all.slice(0, -2) as never[];
      await perform(given, async (context) => (await load())(context, given, ...args));
    });
    return command;
  };

  group = 'What the cluster is doing:';
  add(
    program,
    'status',
    'health, nodes, data and traffic',
    ['status', 'status --watch', 'status --json | jq .health'],
    async () => (await import('./commands/status.js')).status,
    (c) => c.option('-w, --watch', 'again every second until Ctrl-C'),
  );
  add(
    program,
    'stat <path>',
    'where the chunks of a file are',
    ['stat ~/holdfast/film.mkv', 'stat /film.mkv --json'],
    async () => (await import('./commands/stat.js')).stat,
    (c) => c.option('--all', 'every chunk, however many'),
  );
  add(
    program,
    'why <path>',
    'why a file is, or is not, as safe as it should be',
    ['why /film.mkv'],
    async () => (await import('./commands/stat.js')).why,
  );
  add(
    program,
    'wait [path]',
    'wait until a file, or everything, has all its copies',
    ['wait /film.mkv --for 60 && echo safe', 'wait'],
    async () => (await import('./commands/stat.js')).wait,
    (c) => c.option('--for <s>', 'give up after this many seconds (default 300)', number(0, 1e7)),
  );
  add(
    program,
    'verify <path>',
    'have every replica of a file read and checked now',
    ['verify /film.mkv'],
    async () => (await import('./commands/stat.js')).verify,
  );
  add(
    program,
    'check',
    'compare the metadata with what the nodes hold; changes nothing',
    ['check', 'check --json'],
    async () => (await import('./commands/status.js')).check,
  );

  return program;
}

/** Runs one command: signals, errors and exit code are handled here and nowhere else. */
async function perform(options: CommonOptions, run: (context: Context) => unknown): Promise<void> {
  const context = new Context(options);
  let caught: NodeJS.Signals | undefined;
  const onSignal = (signal: NodeJS.Signals): void => {
    const code = signal === 'SIGINT' ? 130 : 143;
    // The second one does not wait for anything.
    if (caught) process.exit(code);
    caught = signal;
    process.exitCode = code;
    context.interrupted.abort(new CliError(`ended by ${signal}`, code, 'INTERRUPTED'));
    setTimeout(() => process.exit(code), 3000).unref();
  };
  process.on('SIGINT', onSignal).on('SIGTERM', onSignal);
  try {
    const code = await run(context);
    if (!caught) exit(typeof code === 'number' ? code : undefined);
  } catch (error) {
    if (!caught) {
      const told = tellError(error, context.url);
      if (context.isJson) process.stderr.write(`${JSON.stringify({ schema: 1, error: told })}\n`);
      else process.stderr.write(`holdfast: ${told.message}${told.advice ? `\n${told.advice}` : ''}\n`);
      exit(told.exitCode);
    }
  } finally {
    await context.close().catch((error: Error) => {
      process.stderr.write(`holdfast: ${error.message}\n`);
      process.exitCode ||= EXIT.error;
    });
    process.off('SIGINT', onSignal).off('SIGTERM', onSignal);
  }
}

/** Parses and runs. @param argv without node and script */
export async function runProgram(argv: readonly string[]): Promise<void> {
  const program = buildProgram();
  const prepare = (command: Command): void => {
    command.exitOverride().configureOutput({ outputError: (text, write) => write(text.replace(/^error: /, 'holdfast: ')) });
    for (const child of command.commands) prepare(child);
  };
  prepare(program);
  try {
    if (argv.length === 0) {
      program.outputHelp();
      process.exitCode = EXIT.usage;
      return;
    }
    await program.parseAsync([...argv], { from: 'user' });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    process.exitCode = error.exitCode === 0 ? EXIT.ok : EXIT.usage;
  }
}
