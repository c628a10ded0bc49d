/**
 * One background process of a local cluster: started detached, found again by its pid file, and hurt on demand.
 *
 * The pid file holds the process's start time as well, so a pid that the system gave to somebody else is never signalled. When the pid file is
 * lost (its folder was deleted by hand) the process is still found by its command line, which names our state directory.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, fstatSync, mkdirSync, openSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

export type ProcessState = 'running' | 'paused' | 'stopped';

export interface Command {
  readonly program: string;
  readonly args: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
  /** Neighbouring arguments that no other process has: how it is found without a pid file. */
  readonly mark: readonly string[];
}

/** Something went wrong that a person can do something about: shown without a stack. */
export class ClusterError extends Error {
  override readonly name = 'ClusterError';
  constructor(
    message: string,
    readonly exitCode = 1,
  ) {
    super(message);
  }
}

interface ProcessStat {
  readonly state: string;
  /** Clock ticks since boot; together with the pid it is unique until the next boot. */
  readonly startTime: string;
}

/** undefined when there is no such process, or only its remains that the parent has not collected. */
export function processStat(pid: number): ProcessStat | undefined {
  let text: string;
  try {
    text = readFileSync(`/proc/${pid}/stat`, 'utf8');
  } catch {
    return undefined;
  }
  // The name in parentheses may hold blanks and parentheses itself.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  const state = fields[0] ?? '';
  if (state === 'Z' || state === 'X') return undefined;
  return { state, startTime: fields[19] ?? '' };
}

const bootId = (): string => readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();

function commandLine(pid: number): string[] {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
  } catch {
    return [];
  }
}

/** Pids of live processes whose arguments hold `mark` one after the other. */
export function findByMark(mark: readonly string[]): number[] {
  const isMarked = (args: readonly string[]): boolean =>
    args.some((_, index) => mark.every((argument, offset) => args[index + offset] === argument));
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => pid !== process.pid && isMarked(commandLine(pid)) && processStat(pid) !== undefined);
}

/** Waits until `isTrue` holds; false when timeoutMs passed first. */
export async function waitUntil(isTrue: () => boolean | Promise<boolean>, timeoutMs: number, pauseMs = 25): Promise<boolean> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    if (await isTrue()) return true;
    if (performance.now() > deadline) return false;
    await delay(pauseMs);
  }
}

export class LocalProcess {
  private child: ChildProcess | undefined;
  /** Size of the log at the last start by this object. */
  private logFrom = 0;

  /**
   * @param name for messages: "coordinator", "n1", "mount"
   * @param directory holds the files `pid` and `log`
   */
  constructor(
    readonly name: string,
    readonly directory: string,
    private readonly command: () => Command,
  ) {}

  get pidFile(): string {
    return join(this.directory, 'pid');
  }
  get logFile(): string {
    return join(this.directory, 'log');
  }

  /** The live process's pid. */
  get pid(): number | undefined {
    const fromFile = this.pidFromFile();
    if (fromFile !== undefined) return fromFile;
    const [found] = findByMark(this.command().mark);
    if (found !== undefined) this.remember(found);
    return found;
  }

  private pidFromFile(): number | undefined {
    try {
      const [pid, startTime, boot] = readFileSync(this.pidFile, 'utf8').trim().split(' ');
      const number = Number(pid);
      if (!Number.isInteger(number) || number < 2 || boot !== bootId()) return undefined;
      return processStat(number)?.startTime === startTime ? number : undefined;
    } catch {
      return undefined;
    }
  }

  private remember(pid: number): void {
    const startTime = processStat(pid)?.startTime;
    if (startTime === undefined) return;
    // Renamed into place, so nobody reads half a file.
    const temporary = `${this.pidFile}.${process.pid}`;
    try {
      writeFileSync(temporary, `${pid} ${startTime} ${bootId()}\n`);
      renameSync(temporary, this.pidFile);
    } catch {
      // Its directory was deleted under it; the command line still finds the process.
    }
  }

  get state(): ProcessState {
    const { pid } = this;
    if (pid === undefined) return 'stopped';
    const state = processStat(pid)?.state;
    return state === undefined ? 'stopped' : state === 'T' || state === 't' ? 'paused' : 'running';
  }

  /** The last message for people in the log since this object started the process. */
  lastWords(): string | undefined {
    try {
      return lastMessage(readFileSync(this.logFile).subarray(this.logFrom).toString('utf8'));
    } catch {
      return undefined;
    }
  }

  /** Starts it detached, its output appended to `log`. Returns once the process exists; whether it works is for the caller to find out. */
  start(): 'started' | 'already running' {
    if (this.pid !== undefined) return 'already running';
    mkdirSync(this.directory, { recursive: true, mode: 0o700 });
    const { program, args, environment } = this.command();
    const log = openSync(this.logFile, 'a', 0o600);
    this.logFrom = fstatSync(log).size;
    try {
      const child = spawn(program, args, {
        cwd: '/', // so that no process of ours keeps a directory (or our own mount) busy
        detached: true,
        stdio: ['ignore', log, log],
        env: { ...process.env, ...environment },
      });
      // Without a listener a program that cannot be started would end this one; `hasExited` and the pid file tell it.
      child.on('error', () => {});
      child.unref();
      this.child = child;
      if (child.pid === undefined) throw new ClusterError(`cannot start ${this.name}: ${program} could not be run`);
      this.remember(child.pid);
    } finally {
      closeSync(log);
    }
    return 'started';
  }

  private signal(signal: NodeJS.Signals): boolean {
    const { pid } = this;
    if (pid === undefined) return false;
    try {
      process.kill(pid, signal);
      return true;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ESRCH') return false;
      throw new ClusterError(`cannot signal ${this.name} (pid ${pid}): ${(error as Error).message}`);
    }
  }

  /** Resolves true once the process is gone. */
  waitForEnd(timeoutMs: number): Promise<boolean> {
    return waitUntil(() => this.pid === undefined, timeoutMs);
  }

  /** Exit code when it was started by this very program and has ended. */
  get exitCode(): number | null | undefined {
    return this.child?.exitCode;
  }

  /**
   * SIGTERM, and waits for the end. A paused process is woken first, since it could not obey.
   * @returns false when it was not running
   * @throws {ClusterError} when it does not end in time (it is left alone then)
   */
  async stop(timeoutMs = 20_000): Promise<boolean> {
    if (!this.signal('SIGTERM')) {
      rmSync(this.pidFile, { force: true });
      return false;
    }
    this.signal('SIGCONT');
    if (!(await this.waitForEnd(timeoutMs)))
      throw new ClusterError(`${this.name} (pid ${this.pid}) did not stop within ${timeoutMs / 1000} s; its log is ${this.logFile}`);
    rmSync(this.pidFile, { force: true });
    return true;
  }

  /** SIGKILL: as a crash. @returns false when it was not running */
  async kill(): Promise<boolean> {
    if (!this.signal('SIGKILL')) {
      rmSync(this.pidFile, { force: true });
      return false;
    }
    if (!(await this.waitForEnd(20_000))) throw new ClusterError(`${this.name} (pid ${this.pid}) does not end even by SIGKILL`);
    rmSync(this.pidFile, { force: true });
    return true;
  }

  /** SIGSTOP: alive for the system, silent for everybody else. @returns false when it was not running */
  async pause(): Promise<boolean> {
    if (!this.signal('SIGSTOP')) return false;
    await waitUntil(() => this.state !== 'running', 5000, 5);
    return true;
  }

  /** SIGCONT. @returns false when it was not running */
  async resume(): Promise<boolean> {
    if (!this.signal('SIGCONT')) return false;
    await waitUntil(() => this.state !== 'paused', 5000, 5);
    return true;
  }
}

/** The last line of a log that a person should read: a JSON line of level error or worse, else the last plain line. */
export function lastMessage(log: string): string | undefined {
  let plain: string | undefined;
  let error: string | undefined;
  for (const line of log.split('\n')) {
    if (line.trim() === '') continue;
    if (line.startsWith('{')) {
      try {
        const entry = JSON.parse(line) as { level?: number | string; msg?: string; message?: string };
        const isError = typeof entry.level === 'number' ? entry.level >= 50 : entry.level === 'error' || entry.level === 'fatal';
        if (isError) error = entry.msg ?? entry.message ?? error;
        continue;
      } catch {
        // Not JSON after all.
      }
    }
    if (!/^\s+at |^\(node:|^Node\.js v/.test(line)) plain = line.trim();
  }
  return plain ?? error;
}
