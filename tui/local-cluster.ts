/**
 * The processes of a cluster on this machine, as the scripts keep them in a state directory: whether they run, and starting, stopping and hurting
 * them. Works without a coordinator, which is how a dead one is started again from the screen.
 */
import { spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { COORDINATOR } from './actions.js';
import type { LocalState, LocalVerb } from './model.js';

const ACTION_TIMEOUT_MS = 90_000;

/** The folder that holds scripts/, from source (tui/) and from the build (dist/tui/); null in an installation without scripts. */
function scriptsDirectory(): string | null {
  let at = dirname(fileURLToPath(import.meta.url));
  for (let up = 0; up < 4; up += 1) {
    if (existsSync(join(at, 'scripts', 'run'))) return join(at, 'scripts');
    at = dirname(at);
  }
  return null;
}

/** By its pid file; the start time in it guards against a pid given to somebody else. */
function stateOf(pidFile: string): LocalState {
  try {
    const text = readFileSync(pidFile, 'utf8').trim();
    const [pid = '', startTime] = text.split(/\s+/);
    const stat = readFileSync(`/proc/${Number(pid)}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    if (fields[0] === 'Z' || fields[0] === 'X' || startTime !== fields[19]) return 'stopped';
    return fields[0] === 'T' ? 'paused' : 'running';
  } catch {
    return 'stopped';
  }
}

/** Every process the state directory knows by name; empty when there is no cluster in it (yet). */
export function localProcesses(stateDirectory: string): Record<string, LocalState> {
  let names: string[];
  try {
    const config = JSON.parse(readFileSync(join(stateDirectory, 'cluster.json'), 'utf8')) as { nodes?: { name?: unknown }[] };
    names = [COORDINATOR, ...(config.nodes ?? []).map((one) => String(one.name))];
  } catch {
    return {};
  }
  return Object.fromEntries(names.map((name) => [name, stateOf(join(stateDirectory, name, 'pid'))]));
}

/**
 * Runs scripts/node or scripts/coordinator.
 * @returns the last line it printed
 * @throws {Error} with what it said on stderr
 */
export function actLocally(stateDirectory: string, verb: LocalVerb, name: string): Promise<string> {
  const scripts = scriptsDirectory();
  if (!scripts) return Promise.reject(new Error('this installation has no scripts/: start and stop processes with your service manager'));
  const command = name === COORDINATOR ? [join(scripts, 'coordinator'), verb] : [join(scripts, 'node'), verb, name];
  return new Promise((resolve, reject) => {
    const child = spawn(command[0]!, [...command.slice(1), '--state', stateDirectory], {
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: ACTION_TIMEOUT_MS,
      // Colours and React's mode are this screen's business only.
      env: { ...process.env, NODE_ENV: undefined, FORCE_COLOR: undefined },
    });
    let output = '';
    let errors = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      output = (output + text).slice(-4000);
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      errors = (errors + text).slice(-4000);
    });
    child.on('error', reject);
    child.on('close', (code, signal) => {
      const last = (text: string): string => text.trim().split('\n').at(-1) ?? '';
      if (code === 0) resolve(last(output) || `${verb} ${name}: done`);
      else reject(new Error(last(errors) || last(output) || `scripts ended with ${signal ?? `code ${code}`}`));
    });
  });
}
