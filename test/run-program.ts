/** Runs our scripts and the `holdfast` program as a person would. */
import { spawn } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = dirname(dirname(fileURLToPath(import.meta.url)));

export interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}
export interface RunOptions {
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly input?: string | Buffer;
  /** Standard input that is sent later. */
  readonly inputWhen?: Promise<string>;
  readonly timeoutMs?: number;
  /** Called with all of stdout so far; returning a signal sends it. */
  readonly onOutput?: (stdout: string) => NodeJS.Signals | undefined;
}

/** Rejects only when the program does not end in time. */
export function runProgram(program: string, args: readonly string[], options: RunOptions = {}): Promise<Ended> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      cwd: root,
      env: { ...process.env, NO_COLOR: '1', ...options.env },
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    let stdout = '';
    let stderr = '';
    const timer = setTimeout(() => {
      child.kill('SIGKILL');
      reject(new Error(`${program} ${args.join(' ')} did not end in time; it said:\n${stdout}${stderr}`));
    }, options.timeoutMs ?? 100_000);
    child.stdout.on('data', (data: Buffer) => {
      stdout += data.toString();
      const signal = options.onOutput?.(stdout);
      if (signal) child.kill(signal);
    });
    child.stderr.on('data', (data: Buffer) => {
      stderr += data.toString();
    });
    child.on('error', reject);
    child.on('close', (code) => {
      clearTimeout(timer);
      resolve({ code, stdout, stderr });
    });
    child.stdin.on('error', () => {}); // It may end without reading everything.
    if (options.inputWhen)
      void options.inputWhen.then(
        (input) => child.stdin.end(input),
        () => child.stdin.end(),
      );
    else child.stdin.end(options.input ?? '');
  });
}

export const runScript = (name: string, args: readonly string[], options?: RunOptions): Promise<Ended> =>
  runProgram(join(root, 'scripts', name), args, options);

/** Command lines of live processes that name a directory. */
export function processesNaming(directory: string): string[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .map((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim();
      } catch {
        return '';
      }
    })
    .filter((line) => line.includes(directory));
}

export const mountsBelow = (directory: string): string[] =>
  readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .filter((line) => line.includes(` ${directory}`));
