/** What the scripts share: options, and how an error is told. */
import { homedir } from 'node:os';
import { join } from 'node:path';
import { Command, CommanderError, InvalidArgumentError } from 'commander';
import { HoldfastError } from '../protocol/errors.js';
import { defaultStateDirectory } from './cluster-state.js';
import { ClusterError } from './local-process.js';

export const defaultMount = (): string => join(homedir(), 'holdfast');

/** A whole number within limits. */
export const wholeNumber =
  (from: number, to: number) =>
  (text: string): number => {
    const number = Number(text);
    if (!/^\d+$/.test(text) || number < from || number > to)
      throw new InvalidArgumentError(`it must be a whole number from ${from} to ${to}`);
    return number;
  };

/** A command with --state, whose errors end the program with one line. */
export function script(name: string, summary: string): Command {
  return new Command(`scripts/${name}`)
    .description(summary)
    .option('--state <dir>', 'state directory of the cluster', defaultStateDirectory())
    .helpOption('-h, --help', 'show this help')
    .showSuggestionAfterError()
    .configureOutput({ outputError: (text, write) => write(text.replace(/^error: /, `${name}: `)) })
    .exitOverride();
}

/** Runs a command to its end. Exit code 2 = it was called wrongly, 1 = it failed. */
export async function run(command: Command, argv: readonly string[] = process.argv): Promise<void> {
  // A reader that closes the pipe (scripts/up | head) is no error.
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') process.exit(process.exitCode ?? 0);
    throw error;
  });
  for (const one of command.commands) one.exitOverride().configureOutput(command.configureOutput());
  try {
    await command.parseAsync([...argv]);
  } catch (error) {
    process.exitCode = report(command.name().replace('scripts/', ''), error);
  }
}

/** Tells an error on stderr. @returns the exit code */
export function report(name: string, error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2; // commander has said it
  if (error instanceof ClusterError) {
    console.error(`${name}: ${error.message}`);
    return error.exitCode;
  }
  if (error instanceof HoldfastError) {
    console.error(`${name}: ${error.message} (${error.code})`);
    return 1;
  }
  console.error(`${name}: unexpected error; please report it with this text:`);
  console.error(error);
  return 1;
}
