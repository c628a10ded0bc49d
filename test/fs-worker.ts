/** A process that does file system calls for a test (fs-worker.py): a test must never touch its own mount by itself. */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const script = fileURLToPath(new URL('./fs-worker.py', import.meta.url));

export interface Outcome {
  /** Name of the errno, or null when the call succeeded. */
  readonly error: string | null;
  readonly result: unknown;
}
export interface Stat {
  readonly kind: string;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  readonly nlink: number;
  readonly inode: number;
  readonly blocks: number;
  readonly rdev: number;
  /** Nanoseconds since 1970. */
  readonly atime: string;
  readonly mtime: string;
  readonly ctime: string;
}

export class FsWorker {
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #pending = new Map<number, (outcome: Outcome) => void>();
  #next = 1;
  #rest = '';
  #errors = '';

  constructor(readonly directory: string) {
    this.#child = spawn('python3', [script, directory], { stdio: 'pipe' });
    this.#child.stdout.setEncoding('utf8');
    this.#child.stdout.on('data', (text: string) => {
      const lines = (this.#rest + text).split('\n');
      this.#rest = lines.pop() ?? '';
      for (const line of lines) {
        const [id, error, result] = JSON.parse(line) as [number, string | null, unknown];
        this.#pending.get(id)?.({ error, result });
        this.#pending.delete(id);
      }
    });
    this.#child.stderr.on('data', (text: Buffer) => {
      this.#errors += text.toString();
    });
    this.#child.on('exit', () => {
      for (const done of this.#pending.values()) done({ error: `the worker ended: ${this.#errors}`, result: null });
      this.#pending.clear();
    });
  }

  /** The outcome of one call, errors included. */
  attempt(name: string, ...args: unknown[]): Promise<Outcome> {
    return this.start(name, ...args).outcome;
  }
  /** As attempt, for calls that wait ("lock&", "flock&"): `id` may be given to the command "signal". */
  start(name: string, ...args: unknown[]): { id: number; outcome: Promise<Outcome> } {
    const id = this.#next++;
    const outcome = new Promise<Outcome>((resolve) => {
      this.#pending.set(id, resolve);
      this.#child.stdin.write(`${JSON.stringify([id, name, ...args])}\n`);
    });
    return { id, outcome };
  }
  /** The result of a call that must succeed. */
  async call<T = unknown>(name: string, ...args: unknown[]): Promise<T> {
    const { error, result } = await this.attempt(name, ...args);
    if (error !== null) throw new Error(`${name}(${args.map((one) => JSON.stringify(one)).join(', ')}) failed: ${error}`);
    return result as T;
  }
  /** The errno of a call, null when it succeeded. */
  async errorOf(name: string, ...args: unknown[]): Promise<string | null> {
    return (await this.attempt(name, ...args)).error;
  }
  stat(path: string): Promise<Stat> {
    return this.call<Stat>('lstat', path);
  }

  async stop(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const ended = new Promise<void>((resolve) => this.#child.once('exit', () => resolve()));
    this.#child.stdin.end();
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), 5000);
    await ended;
    clearTimeout(timer);
  }
}
