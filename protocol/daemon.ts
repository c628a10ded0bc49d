/** The front of a process that serves until it is told to stop: command line, log, signals, exit codes. What it serves is the caller's. */
import { type Command, CommanderError } from 'commander';
import { pino } from 'pino';
import type { Environment } from './environment.js';
import { HoldfastError } from './errors.js';

export const EXIT_OK = 0;
/** It failed: starting it again may help. */
export const EXIT_FAILURE = 1;
/** Used wrongly or refused: starting it again as it is will not help. */
export const EXIT_USAGE = 2;
/** Shorter than the 10 s within which a service manager expects the end. */
const STOP_TIMEOUT_MS = 9000;

export interface Daemon<Flags> {
  readonly command: Command;
  /** As the log calls it, "node", with more facts for every line. */
  component(flags: Flags): { readonly component: string; readonly [fact: string]: string };
  /** Serves. `onFatal`: it cannot go on. */
  start(flags: Flags, log: Environment['log'], onFatal: (error: Error) => void): Promise<{ stop(reason: string): Promise<void> }>;
  /** After `onFatal`: 'stop' ends it as a signal would, 'abandon' at once and without another write. */
  fatal(error: Error, log: Environment['log']): { readonly how: 'stop' | 'abandon'; readonly exitCode: number };
  /** Refusals after which the same start may work a moment later. */
  readonly passing?: readonly string[];
  /** What the log says of an end that had to be forced. */
  readonly afterForcedEnd: string;
}

/**
 * Runs a daemon until SIGTERM, SIGINT or its own end.
 * @param argv arguments after the program's and subcommand's name
 * @returns exit code: EXIT_OK stopped cleanly, EXIT_FAILURE, EXIT_USAGE
 */
export async function runDaemon<Flags extends { readonly logLevel: string }>(
  daemon: Daemon<Flags>,
  argv: readonly string[],
): Promise<number> {
  let flags: Flags;
  try {
    flags = daemon.command.parse(argv, { from: 'user' }).opts<Flags>();
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT_OK : EXIT_USAGE;
    throw error;
  }
  const base = daemon.component(flags);
  const log = logger(flags.logLevel, base);
  const fail = (error: unknown): number => {
    const isRefusal = error instanceof HoldfastError;
    log(
      'error',
      isRefusal ? error.message : `the ${base.component} failed`,
      isRefusal ? { code: error.code } : { error: String((error as Error)?.stack ?? error) },
    );
    return isRefusal && !daemon.passing?.includes(error.code) ? EXIT_USAGE : EXIT_FAILURE;
  };
  let onFatal!: (error: Error) => void;
  const broken = new Promise<Error>((resolve) => {
    onFatal = resolve;
  });
  const signalled = new Promise<string>((resolve) => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => resolve(signal));
  });
  const forcedEnd = (): never => {
    log('error', `stopping takes too long, ending at once; ${daemon.afterForcedEnd}`);
    process.exit(EXIT_FAILURE);
  };
  let running: { stop(reason: string): Promise<void> };
  try {
    const started = await Promise.race([daemon.start(flags, log, onFatal), signalled.then(patience)]);
    if (!started) return forcedEnd();
    running = started;
  } catch (error) {
    return fail(error);
  }
  const why = await Promise.race([signalled, broken]);
  const end = typeof why === 'string' ? { how: 'stop' as const, exitCode: EXIT_OK } : daemon.fatal(why, log);
  if (end.how === 'abandon') process.exit(end.exitCode);
  const reason = typeof why === 'string' ? `stopped by ${why}` : 'refused';
  log('info', 'stopping', { why: typeof why === 'string' ? why : why.message });
  const late = setTimeout(forcedEnd, STOP_TIMEOUT_MS);
  try {
    await running.stop(reason);
  } catch (error) {
    return fail(error);
  } finally {
    clearTimeout(late);
  }
  return end.exitCode;
}

const patience = (): Promise<void> =>
  new Promise((resolve) => {
    setTimeout(resolve, STOP_TIMEOUT_MS).unref();
  });

/** One JSON object a line on stderr. */
function logger(level: string, base: object): Environment['log'] {
  const logs = pino(
    {
      level,
      base,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
    },
    pino.destination({ dest: 2, sync: true }),
  );
  return (severity, message, facts) => logs[severity](facts ?? {}, message);
}
