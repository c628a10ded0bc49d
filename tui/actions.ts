/** What can be changed from the screen, each with what must be confirmed first. The coordinator repeats every check. */
import type { DirectoryRow, FileStat, JobStatus, NodeStatus, RepairSpeed } from '../protocol/admin-calls.js';
import { duration, plural } from './format.js';
import type { Action, Confirmation, LocalVerb, State } from './model.js';
import { escapeControl } from './text.js';
import { clusterHead, nodesOf } from './topics.js';

export interface Proposal {
  readonly action: Action;
  readonly confirmation: Confirmation;
  /** Not possible now; says why. */
  readonly refusal?: string;
}
const none: Confirmation = { level: 'none' };
const yes = (effect: string): Confirmation => ({ level: 'yes', effect });
const typed = (word: string, effect: string): Confirmation => ({ level: 'type', word, effect });
const call = (method: string, args: Record<string, unknown>, label: string): Action => ({ kind: 'call', method, args, label });

export const COORDINATOR = 'coordinator';

/** What happens to the data when a node goes. */
function lossOf(node: NodeStatus | undefined): string {
  if (!node) return '';
  if (node.onlyCopies > 0) return `${plural(node.onlyCopies, 'chunk')} would be UNREADABLE: the only good copy is there`;
  return node.replicas > 0 ? `${plural(node.replicas, 'chunk')} would have one copy less` : 'it holds no chunks';
}

/** start, stop, kill, pause or resume a process under the state directory. */
export function localAction(state: State, verb: LocalVerb, name: string): Proposal {
  const action: Action = { kind: 'local', verb, name, label: `${verb} ${name}` };
  if (!state.options.stateDir) {
    return { action, confirmation: none, refusal: `${verb} works on local clusters only: start the screen with --state DIR` };
  }
  const process = state.local[name];
  if (process === undefined && Object.keys(state.local).length > 0) {
    return { action, confirmation: none, refusal: `${name} is not a process of the cluster in ${state.options.stateDir}` };
  }
  if (verb === 'start') {
    // Whether it runs is for the script to say: what is known here may be a second old, and a process that just died must be startable.
    return { action, confirmation: none, ...(process === 'paused' ? { refusal: `${name} is paused: Z lets it go on` } : {}) };
  }
  if (verb === 'resume') return { action, confirmation: none };
  if (process === 'stopped') return { action, confirmation: none, refusal: `${name} does not run` };
  const words = { stop: 'stops', kill: 'kills', pause: 'pauses' }[verb];
  if (name === COORDINATOR) return { action, confirmation: yes(`${words} the coordinator: files wait until it is back`) };
  const node = nodesOf(state).find((one) => one.name === name);
  const effect = `${words} ${name}: ${lossOf(node)}`;
  return { action, confirmation: node && node.onlyCopies > 0 ? typed(name, effect) : yes(effect) };
}
export const pauseAction = (state: State, name: string): Proposal =>
  localAction(state, state.local[name] === 'paused' ? 'resume' : 'pause', name);
export const drain = (node: NodeStatus): Proposal => ({
  action: call('drainNode', { node: node.name }, `drain ${node.name}`),
  confirmation: yes(`moves ${plural(node.replicas, 'chunk')} off ${node.name}; nothing is lost, it can be ended with U`),
  ...(node.state === 'draining' ? { refusal: `${node.name} is draining already` } : {}),
});
export const undrain = (node: NodeStatus): Proposal => ({
  action: call('undrainNode', { node: node.name }, `undrain ${node.name}`),
  confirmation: none,
});
export const forget = (node: NodeStatus): Proposal => ({
  action: call('removeNode', { node: node.name, ...(node.onlyCopies > 0 ? { evenIfDataIsLost: node.name } : {}) }, `forget ${node.name}`),
  confirmation: typed(node.name, `removes ${node.name} from the cluster for ever: ${lossOf(node)}`),
  ...(node.state === 'up' ? { refusal: `${node.name} is up: drain it (D) or stop it (T) first` } : {}),
});
export const scrub = (node?: string): Proposal => ({
  action: call('scrub', { ...(node ? { node } : {}), action: 'start' }, node ? `scrub ${node}` : 'scrub'),
  confirmation: none,
});
export const stopScrub = (): Proposal => ({ action: call('scrub', { action: 'stop' }, 'stop scrub'), confirmation: none });
export function repair(state: State): Proposal {
  const chunks = clusterHead(state)?.chunks.belowCopies ?? 0;
  return {
    action: call('repairNow', {}, 'repair'),
    confirmation: yes(`starts copying ${plural(chunks, 'chunk')} now, without waiting for nodes to come back`),
    ...(clusterHead(state)?.health === 'HEALTHY' ? { refusal: 'every chunk has its copies: there is nothing to repair' } : {}),
  };
}
export const repairSpeed = (speed: RepairSpeed): Proposal => ({
  action: call('setRepairSpeed', { speed }, `repair ${speed}`),
  confirmation: none,
});
export const nextSpeed = (speed: RepairSpeed | undefined): RepairSpeed =>
  speed === 'gentle' ? 'normal' : speed === 'normal' ? 'urgent' : 'gentle';
export const rebalance = (what: 'start' | 'pause' | 'resume' | 'cancel'): Proposal => ({
  action: call('rebalance', { action: what }, `rebalance ${what}`),
  confirmation: what === 'start' ? yes('moves chunks from the fullest nodes to the emptiest; copies first, removes after') : none,
});
export const cancelJob = (job: JobStatus): Proposal => ({
  action: call('cancelJob', { job: job.job }, `cancel ${job.job}`),
  confirmation: yes(`cancels ${job.job}: ${escapeControl(job.subject)} (${job.doneChunks} of ${plural(job.totalChunks, 'chunk')} done)`),
});
/** The volume whose tree is shown: the first one (volumes are listed by the coordinator in their order). */
export const volumeOf = (state: State): string | undefined => clusterHead(state)?.volumes[0]?.name;
export const verify = (path: string): Proposal => ({ action: call('verify', { path }, `verify ${path}`), confirmation: none });
export const setCopies = (volume: string, copies: number, before: number | undefined): Proposal => ({
  action: call('setCopies', { volume, copies }, `copies ${copies}`),
  confirmation: yes(
    copies < (before ?? 0)
      ? `volume ${volume} keeps ${copies} instead of ${before} copies: surplus copies are deleted`
      : `volume ${volume} keeps ${copies} copies: missing ones are made`,
  ),
});
/** What becomes of a deleted file. */
function keptFor(state: State): string {
  const keepMs = clusterHead(state)?.volumes[0]?.trashKeepMs ?? 0;
  return keepMs > 0 ? `into the trash, where it is kept for ${duration(keepMs)}` : 'for ever';
}
export const remove = (state: State, path: string, entry: Pick<DirectoryRow | FileStat, 'kind'>): Proposal => ({
  action: call('deleteFile', { path }, `delete ${path}`),
  confirmation: typed(escapeControl(path.split('/').at(-1) ?? path), `deletes ${escapeControl(path)} ${keptFor(state)}`),
  ...(entry.kind === 'directory' ? { refusal: 'only files are deleted here; folders by rmdir on the mount' } : {}),
});
