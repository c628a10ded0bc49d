#!/usr/bin/env node
/**
 * `holdfast`: one program for everything. Here only the way is chosen: the long-running parts get their arguments as they are, commands go
 * through commander. An error ends as one message on stderr and the exit code of exit-codes.ts.
 */
import { tellError } from './exit-codes.js';
import { letSmallHeapGrow } from './heap-growth.js';
import { isPart, mountArguments, runPart } from './parts.js';

/** What chunks pass through. Others keep their memory as small as V8 finds right. */
const MOVE_CHUNKS = new Set(['node', 'mount', 'upload', 'download']);

async function main(argv: string[]): Promise<void> {
  const part = isPart(argv);
  if (MOVE_CHUNKS.has(argv[0] ?? '')) letSmallHeapGrow();
  if (part) {
    const rest = argv.slice(1);
    return runPart(part, part === 'mount' ? mountArguments(rest) : rest);
  }
  const { runProgram } = await import('./program.js');
  await runProgram(argv);
}

// A reader that closes the pipe (holdfast list | head) is no error.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(0);
  throw error;
});

try {
  await main(process.argv.slice(2));
} catch (error) {
  const told = tellError(error);
  process.stderr.write(`holdfast: ${told.message}\n`);
  process.exitCode = told.exitCode;
}
