/**
 * `holdfast tui`. Nothing here may import React or Ink, not even through another file: React decides by NODE_ENV while it is being loaded, and its
 * development build records every render for ever.
 */
import { parseOptions, USAGE } from './options.js';

/** @returns the exit code */
export async function runTui(argv: readonly string[]): Promise<number> {
  let options: ReturnType<typeof parseOptions>;
  try {
    options = parseOptions(argv);
  } catch (error) {
    process.stderr.write(`holdfast tui: ${error instanceof Error ? error.message : String(error)}\n\n${USAGE}`);
    return 2;
  }
  if (options.help) {
    process.stdout.write(USAGE);
    return 0;
  }
  if (!process.stdin.isTTY || !process.stdout.isTTY) {
    process.stderr.write('holdfast tui: this is not a terminal. For pipes and files: holdfast status --watch, or holdfast status --json\n');
    return 2;
  }
  process.env.NODE_ENV = 'production';
  const { runScreen } = await import('./screen.js');
  try {
    return await runScreen(options);
  } catch (error) {
    process.stderr.write(`holdfast tui: ${error instanceof Error ? error.message : String(error)}\n`);
    return 2;
  }
}
