/** A real terminal for the screen's tests and captures: tmux, on a server of its own. */
import { execFileSync, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));

/** Why there is no terminal to test with, or undefined. */
export const tmuxMissing: string | undefined =
  spawnSync('tmux', ['-V']).status === 0 ? undefined : 'tmux is not installed (scripts/setup --for-tests installs it)';

export interface StartOptions {
  readonly columns?: number;
  readonly rows?: number;
  readonly environment?: Readonly<Record<string, string>>;
  /** Program to run instead of the sources through tsx: the built one. */
  readonly program?: readonly string[];
}
const quoted = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`;

export class TuiTerminal {
  private readonly server = `hf-${process.pid}-${randomBytes(4).toString('hex')}`;

  /** Starts `holdfast tui` with these arguments in a shell that tells the exit code after it. */
  constructor(args: readonly string[], options: StartOptions = {}) {
    // What was built, as users run it; from the sources it would take seconds to start.
    const program = options.program ?? [process.execPath, join(root, 'dist/client/cli/main.js')];
    // CI is unset: Ink writes only the last frame when it is set. COLORTERM etc. of the tester must not decide what is tested.
    const environment = { LANG: 'C.UTF-8', LC_ALL: 'C.UTF-8', TSX_TSCONFIG_PATH: join(root, 'tsconfig.json'), ...options.environment };
    const variables = Object.entries(environment).map(([name, value]) => `${name}=${quoted(value)}`);
    const command = [
      'env',
      '-u',
      'CI',
      '-u',
      'NO_COLOR',
      '-u',
      'FORCE_COLOR',
      '-u',
      'HOLDFAST_STATE',
      ...variables,
      ...[...program, 'tui', ...args].map(quoted),
    ].join(' ');
    this.tmux(
      '-f',
      '/dev/null',
      'new-session',
      '-d',
      '-x',
      String(options.columns ?? 100),
      '-y',
      String(options.rows ?? 30),
      `echo BEFORE; ${command}; echo EXIT $?; exec sleep 1000`,
    );
    this.tmux('set-option', '-g', 'status', 'off');
  }

  private tmux(...args: string[]): string {
    return execFileSync('tmux', ['-L', this.server, ...args], { encoding: 'utf8' });
  }

  /** What is on screen; `codes` with colours and attributes. */
  capture(codes = false): string {
    return this.tmux('capture-pane', '-p', ...(codes ? ['-e'] : []));
  }

  /** Presses keys by their tmux names ("Enter", "Right", "C-c") or as themselves. */
  keys(...names: string[]): void {
    for (const name of names) this.tmux('send-keys', ...(name.length === 1 ? ['-l', name] : [name]));
  }

  /** Waits until the screen shows it. @returns the screen @throws with the screen when it does not in time */
  async shows(what: string | RegExp | ((screen: string) => boolean), timeoutMs = 30_000): Promise<string> {
    const isShown = (screen: string): boolean =>
      typeof what === 'function' ? what(screen) : typeof what === 'string' ? screen.includes(what) : what.test(screen);
    const untilMs = performance.now() + timeoutMs;
    for (;;) {
      const screen = this.capture();
      if (isShown(screen)) return screen;
      if (performance.now() > untilMs) throw new Error(`not on screen within ${timeoutMs} ms: ${String(what)}\n${screen}`);
      await delay(10);
    }
  }

  resize(columns: number, rows: number): void {
    this.tmux('resize-window', '-x', String(columns), '-y', String(rows));
  }

  /** "1" while a program has the alternate screen, and whether the cursor is shown. */
  get flags(): { isAlternate: boolean; isCursorShown: boolean } {
    const [alternate, cursor] = this.tmux('display-message', '-p', '#{alternate_on} #{cursor_flag}').trim().split(' ');
    return { isAlternate: alternate === '1', isCursorShown: cursor === '1' };
  }

  /** Settings of the terminal as stty tells them ("icanon", "-echo", ...). */
  get settings(): readonly string[] {
    const device = this.tmux('display-message', '-p', '#{pane_tty}').trim();
    return execFileSync('stty', ['-a', '-F', device], { encoding: 'utf8' }).split(/[\s;]+/);
  }

  /** Pid of the running program. */
  get pid(): number {
    const shell = this.tmux('display-message', '-p', '#{pane_pid}').trim();
    const child = readFileSync(`/proc/${shell}/task/${shell}/children`, 'utf8').trim().split(' ')[0];
    return Number(child);
  }

  /** Milliseconds of processor time the program has used. */
  get processorMs(): number {
    const stat = readFileSync(`/proc/${this.pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return (Number(fields[11]) + Number(fields[12])) * 10;
  }

  end(): void {
    spawnSync('tmux', ['-L', this.server, 'kill-server']);
  }
}
