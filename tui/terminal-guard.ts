/**
 * Gives the terminal back when this program cannot: a program that is killed with -9 runs no handler. A small shell waits at the other end of a
 * pipe; when the pipe closes without a word, the screen has died, and the shell does what terminal.ts would have done.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { LEAVE } from './terminal.js';

/** $1 settings while the screen is up, $2 settings before. What somebody else (a shell at its prompt) has set meanwhile is left alone. */
const SCRIPT = `exec 3<&1
trap '' HUP INT TERM TTOU
read -r word && [ "$word" = left ] && exit
[ "$(stty -g <&3)" = "$1" ] && stty "$2" <&3
printf '%b' "$3"`;

function settings(): string | undefined {
  const { status, stdout } = spawnSync('stty', ['-g'], { stdio: ['inherit', 'pipe', 'ignore'], encoding: 'utf8' });
  return status === 0 ? stdout.trim() : undefined;
}

export interface TerminalGuard {
  /** The terminal has been given back the ordinary way. */
  dismiss(): void;
}
const NONE: TerminalGuard = { dismiss: () => {} };

/** Puts the terminal of this process into raw mode and guards it. Without stty or sh there is no guard. */
export function guardTerminal(stdin: NodeJS.ReadStream): TerminalGuard {
  const before = settings();
  stdin.setRawMode(true);
  const during = settings();
  if (before === undefined || during === undefined) return NONE;
  const leave = LEAVE.replaceAll('\x1b', '\\033');
  let shell: ChildProcess;
  try {
    // A session of its own: what kills the screen's process group must not kill the guard.
    shell = spawn('/bin/sh', ['-c', SCRIPT, 'holdfast-terminal-guard', during, before, leave], {
      stdio: ['pipe', 'inherit', 'ignore'],
      detached: true,
    });
  } catch {
    return NONE;
  }
  shell.on('error', () => {});
  shell.stdin?.on('error', () => {});
  shell.unref();
  (shell.stdin as unknown as { unref(): void } | null)?.unref();
  return { dismiss: () => shell.stdin?.end('left\n') };
}
