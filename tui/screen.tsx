/** Puts the parts together: terminal, store, coordinator, local processes; and takes them apart again on every way out. */
import { resolve } from 'node:path';
import { render } from 'ink';
import { findTarget, tlsFiles } from '../client/cli/target.js';
import { liveEnvironment } from '../client/live-environment.js';
import { peerTls } from '../client/own-certificate.js';
import type { Environment } from '../protocol/environment.js';
import { socketDialer } from '../protocol/socket.js';
import { type PeerTls, readTls } from '../protocol/tls.js';
import { AdminSource } from './admin-source.js';
import { App } from './app.js';
import { actLocally, localProcesses } from './local-cluster.js';
import { type Action, type Effect, initialState, type State } from './model.js';
import type { TuiOptions } from './options.js';
import { Store } from './store.js';
import { Terminal } from './terminal.js';
import { guardTerminal, type TerminalGuard } from './terminal-guard.js';
import { ASCII_GLYPHS, colorModeOf, isUtf8, UTF8_GLYPHS } from './theme.js';
import { wantedWatches } from './topics.js';

const LOCAL_POLL_MS = 1000;

function stateDirectoryOf(options: TuiOptions, environment: Readonly<Record<string, string | undefined>>): string | null {
  if (options.state !== undefined) return resolve(options.state);
  if (options.coordinator !== undefined) return null;
  try {
    const { state } = findTarget({}, environment);
    return state ?? null;
  } catch {
    return environment.HOLDFAST_STATE ? resolve(environment.HOLDFAST_STATE) : null;
  }
}

/** Which cluster it is may be known only later; then what was named has to do. */
async function tlsOf(options: TuiOptions): Promise<PeerTls> {
  const named = tlsFiles(options, process.env);
  try {
    const { url, token } = findTarget(options, process.env);
    return await peerTls(url, token, named);
  } catch {
    return await readTls(named);
  }
}

/** Runs until the user leaves. @returns the exit code */
export async function runScreen(options: TuiOptions): Promise<number> {
  const environment: Environment = liveEnvironment();
  const tls = await tlsOf(options);
  const stateDir = stateDirectoryOf(options, process.env);
  let finish: (code: number) => void = () => {};
  const ended = new Promise<number>((resolve_) => {
    finish = resolve_;
  });

  const terminal = new Terminal(process.stdout, (size) => store.dispatch({ kind: 'resize', ...size }));
  const initial = initialState(
    {
      glyphs: options.ascii || !isUtf8(process.env) ? ASCII_GLYPHS : UTF8_GLYPHS,
      color: colorModeOf(process.env, options.noColor),
      readOnly: options.readOnly,
      stateDir,
    },
    terminal.size,
    options.coordinator ?? '',
  );
  const perform = (effects: readonly Effect[]): void => {
    for (const effect of effects) {
      switch (effect.kind) {
        case 'quit':
          finish(0);
          break;
        case 'copy':
          terminal.copy(effect.text);
          break;
        case 'reconnect':
          source.refresh();
          terminal.repaint();
          break;
        case 'find':
          void find(effect.path);
          break;
        case 'run':
          void run(effect.action);
          break;
      }
    }
  };
  const store: Store = new Store(initial, environment, (state: State, effects) => {
    source.want(wantedWatches(state));
    perform(effects);
  });
  const source = new AdminSource({
    environment,
    target: () => {
      const { url, token } = findTarget({
        ...(options.state === undefined ? {} : { state: options.state }),
        ...(options.coordinator === undefined ? {} : { coordinator: options.coordinator }),
        ...(options.tokenFile === undefined ? {} : { tokenFile: options.tokenFile }),
      });
      return { url, token };
    },
    dialerFor: (url) => socketDialer(url, { tls }),
    emit: store.dispatch,
  });

  const words = (error: unknown): string => {
    const { code, message } = error as { code?: string; message?: string };
    return `${message ?? String(error)}${code && !message?.includes(code) ? ` (${code})` : ''}`;
  };
  async function run(action: Action): Promise<void> {
    const { label } = action;
    store.dispatch({ kind: 'started', label });
    try {
      const text =
        action.kind === 'local'
          ? await actLocally(stateDir ?? '', action.verb, action.name)
          : resultOf(label, await source.call(action.method, action.args));
      store.dispatch({ kind: 'done', label, ok: true, text });
    } catch (error) {
      store.dispatch({ kind: 'done', label, ok: false, text: `${label}: ${words(error)}` });
    }
    pollLocal();
  }
  async function find(path: string): Promise<void> {
    try {
      const { inode, kind } = (await source.call('stat', { path })) as { inode: number; kind: string };
      store.dispatch({ kind: 'found', path, inode, isFolder: kind === 'directory' });
    } catch (error) {
      store.dispatch({ kind: 'done', label: `file ${path}`, ok: false, text: `${path}: ${words(error)}` });
    }
  }
  let seen = '';
  const pollLocal = (): void => {
    if (stateDir === null) return;
    const processes = localProcesses(stateDir);
    const now = JSON.stringify(processes);
    if (now === seen) return;
    seen = now;
    store.dispatch({ kind: 'local', processes });
  };

  // Every way out gives the terminal back. `exit` also covers process.exit by others; LEAVE is written synchronously to a terminal.
  let guard: TerminalGuard | undefined;
  const giveBack = (): void => {
    terminal.leave();
    guard?.dismiss();
  };
  const signals = ['SIGTERM', 'SIGINT', 'SIGHUP'] as const;
  const onSignal = (signal: NodeJS.Signals): void => finish(128 + ({ SIGINT: 2, SIGTERM: 15, SIGHUP: 1 }[signal as 'SIGINT'] ?? 0));
  let crash: unknown;
  const onCrash = (error: unknown): void => {
    crash = error;
    finish(1);
  };
  const onContinue = (): void => {
    if (process.stdin.isTTY) process.stdin.setRawMode(true);
    terminal.repaint();
  };
  process.once('exit', giveBack);
  // `on`, not `once`: Ink's signal-exit ends the process by the signal when it finds itself the only listener.
  for (const signal of signals) process.on(signal, onSignal);
  process.on('SIGCONT', onContinue);
  process.on('uncaughtException', onCrash);
  process.on('unhandledRejection', onCrash);

  guard = guardTerminal(process.stdin);
  terminal.enter();
  const app = render(<App store={store} />, {
    stdout: terminal.sink as unknown as NodeJS.WriteStream,
    stdin: process.stdin,
    // Whole frames come out of Ink; the terminal writes what changed in them.
    debug: true,
    exitOnCtrlC: false,
    patchConsole: false,
    isScreenReaderEnabled: false,
  });
  app.waitUntilExit().then(
    () => finish(0),
    (error: unknown) => onCrash(error),
  );
  store.start();
  pollLocal();
  const poll = setInterval(pollLocal, LOCAL_POLL_MS);
  source.want(wantedWatches(store.state));
  void source.run();

  const code = await ended;
  clearInterval(poll);
  store.stop();
  source.close();
  terminal.leave();
  app.unmount();
  for (const signal of signals) process.off(signal, onSignal);
  process.off('SIGCONT', onContinue);
  process.off('uncaughtException', onCrash);
  process.off('unhandledRejection', onCrash);
  process.off('exit', giveBack);
  guard.dismiss();
  process.stdin.pause();
  if (crash !== undefined)
    process.stderr.write(`holdfast tui ended by an error: ${crash instanceof Error ? crash.stack : String(crash)}\n`);
  return code;
}

/** The sentence of an action's reply; a verify answers with findings instead. */
function resultOf(label: string, reply: unknown): string {
  const { text, good, bad } = (reply ?? {}) as { text?: string; good?: number; bad?: readonly { node: string; problem: string }[] };
  if (text) return text;
  if (good !== undefined && bad !== undefined) {
    if (bad.length === 0) return `${label}: all ${good} copies match`;
    return `${label}: ${good} copies good, ${bad.length} bad: ${bad
      .slice(0, 3)
      .map((one) => `${one.node} ${one.problem}`)
      .join(', ')}`;
  }
  return label;
}
