/** The commander tree: every command, its options and examples. What a command does is in commands/, loaded when it is asked for. */
import { Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import { addAccessCommands } from './access-program.js';
import { type CommonOptions, Context } from './context.js';
import { CliError, EXIT, exitCodeHelp, tellError } from './exit-codes.js';
import { addHistoryCommands } from './history-program.js';

type Run<Options> = (context: Context, options: Options, ...args: never[]) => unknown;
/** One command: how it is called, what it is for, examples, where its function is, its own options. */
export type Add = <Options>(
  parent: Command,
  usage: string,
  summary: string,
  examples: readonly string[],
  load: () => Promise<Run<Options>>,
  options?: (command: Command) => Command,
) => Command;

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

/** They parse their own arguments (parts.ts); here for the list alone. */
const programs: Readonly<Record<string, string>> = {
  coordinator: 'run the coordinator',
  mount: 'show the cluster as a folder: mount DIR',
  tui: 'the live admin screen',
  recover: "make a lost coordinator's data again from what the nodes keep",
  restore: "make a coordinator's data from a backup",
};

/** Adds the options that every command takes. */
const common = (command: Command): Command =>
  command
    .optionsGroup('Which cluster:')
    .option('--state <dir>', 'state directory of a local cluster')
    .option('--coordinator <url>', 'address of the coordinator')
    .option('--token-file <file>', 'file with your token')
    .option('--volume <name>', 'volume to work in')
    .option('--tls-ca <file>', "the cluster's certificate authority (PEM), for https")
    .option('--tls-cert <file>', 'your certificate of the cluster (PEM)')
    .option('--tls-key <file>', 'its private key (PEM)')
    .option('--key-file <file>', 'key file of an encrypted volume')
    .option('--passphrase-file <file>', 'file whose first line is the passphrase of an encrypted volume')
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
    .commandsGroup('Help:')
    .addHelpText(
      'after',
      `\n${exitCodeHelp}\n\nThe cluster is found by --state DIR, by --coordinator URL with --token-file FILE, by HOLDFAST_STATE, HOLDFAST_COORDINATOR and\nHOLDFAST_TOKEN_FILE, or is the one that scripts/up starts. PATH is a path on a mount or a cluster path like /photos.`,
    );

  let group = '';
  const add: Add = <Options>(
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
    if (examples.length > 0)
      command.addHelpText(
        'after',
        `\nExamples:\n${examples.map((line) => `  $ ${line.includes('holdfast ') ? line : `holdfast ${line}`}`).join('\n')}`,
      );
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
    'wait until a file has all its copies, or without a path until the whole cluster is HEALTHY',
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

  group = 'What happened, and what is being done:';
  add(
    program,
    'events',
    'what happened lately',
    ['events', 'events -f --level warn', 'events --json --after 120'],
    async () => (await import('./commands/events.js')).events,
    (c) =>
      c
        .option('-f, --follow', 'and what happens from now on')
        .addOption(new Option('--level <level>', 'only this level and worse').choices(['info', 'warn', 'error']))
        .option('--last <n>', 'how many of the past (default 30)', number(0, 1e6))
        .option('--after <sequence>', 'only those after this one', number(0, 1e15)),
  );
  add(
    program,
    'jobs',
    'repairs, drains, scrubs and their progress',
    ['jobs', 'jobs --cancel J-7'],
    async () => (await import('./commands/events.js')).jobs,
    (c) => c.option('--cancel <job>', 'stop a job'),
  );

  group = 'Files, without a mount:';
  add(
    program,
    'upload <file...>',
    'local files into the cluster; with more than one argument the last is the PATH they go to',
    ['upload film.mkv', 'upload -r photos /archive/', 'tar c src | holdfast upload - /src.tar'],
    async () => (await import('./commands/upload.js')).upload,
    (c) =>
      c
        .option('-r, --recursive', 'directories with everything in them')
        .option('--to <path>', 'where to; then every argument is a file to upload')
        .option('--parallel <n>', 'files at once (default 4)', number(1, 64))
        .option('--force', 'also what is there already and looks the same')
        .option('--no-verify', 'do not read back and compare'),
  );
  add(
    program,
    'download <path...>',
    'files of the cluster to this machine',
    ['download /film.mkv', 'download -r /photos --output /backup/', 'download /src.tar --output - | tar x'],
    async () => (await import('./commands/download.js')).download,
    (c) =>
      c
        .option('-o, --output <file>', 'file, directory, or "-" for standard output (default: here)')
        .option('-r, --recursive', 'directories with everything in them')
        .option('--parallel <n>', 'files at once (default 4)', number(1, 64))
        .option('--force', 'replace what is there'),
  );
  add(
    program,
    'list [path]',
    'what a directory holds',
    ['list -l /photos', 'list -r --json /'],
    async () => (await import('./commands/files.js')).list,
    (c) => c.alias('ls').option('-l, --long', 'with size, owner and time').option('-r, --recursive', 'and everything below'),
  );
  add(
    program,
    'cat <path...>',
    'the bytes of files on standard output',
    ['cat /notes.txt'],
    async () => (await import('./commands/files.js')).cat,
  );
  add(
    program,
    'delete <path...>',
    'delete files or trees',
    ['delete /old.txt', 'delete -r --dry-run /build', 'delete -r --yes /build'],
    async () => (await import('./commands/files.js')).remove,
    (c) =>
      c
        .alias('rm')
        .option('-r, --recursive', 'directories with everything in them')
        .option('-f, --force', 'no error when it is not there, no question')
        .option('-n, --dry-run', 'only say what would be deleted')
        .option('-y, --yes', 'do not ask'),
  );
  add(
    program,
    'mkdir <path...>',
    'make directories',
    ['mkdir -p /a/b/c'],
    async () => (await import('./commands/files.js')).mkdir,
    (c) => c.option('-p, --parents', 'with those above; no error when it is there'),
  );
  add(
    program,
    'move <from> <to>',
    'rename or move, replacing what is there',
    ['move /a.txt /b.txt', 'move /a.txt /archive/'],
    async () => (await import('./commands/files.js')).move,
    (c) => c.alias('mv').option('-n, --no-replace', 'fail when the target is there'),
  );
  add(program, 'shell', 'a prompt inside the cluster', ['shell'], async () => (await import('./commands/shell.js')).shell);

  group = 'Administration:';
  const node = program
    .command('node')
    .helpGroup(group)
    .description('list nodes, move data off them, forget them (or run a node: node --data DIR ...)');
  const actions = () => import('./commands/actions.js');
  add(node, 'ls', 'the nodes', ['node ls'], async () => (await actions()).nodeList);
  add(
    node,
    'drain <node>',
    'move everything off a node, so that it can be taken away',
    ['node drain n2 --wait', 'node drain n2 --dry-run'],
    async () => (await actions()).drain,
    (c) => c.option('--wait', 'return when it may be removed').option('-n, --dry-run', 'only say how much would move'),
  );
  add(node, 'undrain <node>', 'take a drain back', ['node undrain n2'], async () => (await actions()).undrain);
  add(
    node,
    'remove <node>',
    'forget a node; refused while it has the last copy of something',
    ['node remove n2'],
    async () => (await actions()).remove,
    (c) => c.option('--even-if-data-is-lost <node>', 'repeat the name of the node to lose what only it has'),
  );
  add(
    node,
    'scrub [node]',
    'have one node, or all, read and check everything they hold',
    ['node scrub', 'node scrub n1 --stop'],
    async () => (await actions()).scrub,
    (c) => c.option('--stop', 'stop it'),
  );
  add(
    program,
    'repair',
    'start repairing at once, or set how hard it works',
    ['repair', 'repair --speed urgent'],
    async () => (await actions()).repair,
    (c) => c.addOption(new Option('--speed <speed>', 'how much of the machines repairs may take').choices(['gentle', 'normal', 'urgent'])),
  );
  add(
    program,
    'rebalance [action]',
    'even out the nodes: start (default), pause, resume, cancel',
    ['rebalance', 'rebalance pause'],
    async () => (await actions()).rebalance,
  );
  add(program, 'copies <n>', 'how many nodes keep each chunk of a volume', ['copies 3'], async () => (await actions()).copies);
  add(
    program,
    'backup <file>',
    'save all metadata to a file here',
    ['backup /safe/holdfast-2026-11-21'],
    async () => (await import('./commands/backup.js')).backup,
    (c) => c.option('--force', 'replace the file'),
  );
  add(
    program,
    'unmount <dir>',
    'save everything and take a mount down',
    ['unmount ~/holdfast'],
    async () => (await import('./commands/unmount.js')).unmount,
    (c) => c.option('--lazy', 'also while it is in use'),
  );
  addAccessCommands(program, node, group, add);
  addHistoryCommands(program, group, add);
  for (const [name, what] of Object.entries(programs))
    program.command(name).helpGroup('Programs (each has its own --help):').description(what);

  group = 'Help:';
  add(
    program,
    'doctor',
    'look at everything Holdfast needs, and say what is missing',
    ['doctor'],
    async () => (await import('./commands/doctor.js')).doctor,
  );
  add(
    program,
    'bench',
    'a quick measure of the cluster',
    ['bench --size 512'],
    async () => (await import('./commands/bench.js')).bench,
    (c) =>
      c
        .option('--size <MiB>', 'bytes written and read (default 256)', number(1, 1e6))
        .option('--files <n>', 'small files (default 500)', number(1, 1e6)),
  );
  add(
    program,
    'completion <shell>',
    'print the completion script for bash, zsh or fish',
    ['completion bash'],
    async () => (await import('./commands/completion.js')).completion,
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
    // Who says how it ended has ended by itself, whatever came meanwhile.
    if (typeof code === 'number') exit(code);
  } catch (error) {
    if (caught) {
      const message = `interrupted${context.whenInterrupted ? `: ${context.whenInterrupted}` : ''}`;
      if (context.isJson)
        process.stderr.write(`${JSON.stringify({ schema: 1, error: { code: 'INTERRUPTED', message, exitCode: process.exitCode } })}\n`);
      else if (context.whenInterrupted) context.note(`holdfast: ${message}`);
    } else {
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
  if (argv[0] === '__complete') return completeQuietly(program, argv.slice(1));
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

/** For the shells: never an error, and remote names only when they come within 300 ms. */
async function completeQuietly(program: Command, words: readonly string[]): Promise<void> {
  setTimeout(() => process.exit(0), 300).unref();
  const context = new Context({ quiet: true, timeout: 300 });
  try {
    const { complete } = await import('./commands/completion.js');
    await complete(context, program, words);
  } catch {
    // No cluster, no candidates.
  }
  process.exit(0);
}
