/** The command palette: everything by name, with completion. */
import {
  COORDINATOR,
  drain,
  forget,
  localAction,
  nextSpeed,
  rebalance,
  repair,
  repairSpeed,
  scrub,
  setCopies,
  stopScrub,
  undrain,
  volumeOf,
} from './actions.js';
import { only, SCREENS, type ScreenName, type State, type Step } from './model.js';
import { openNode } from './open.js';
import { flash, propose } from './propose.js';
import { escapeControl } from './text.js';
import { clusterHead, type DatedNode, nodesOf } from './topics.js';

export interface Command {
  readonly name: string;
  /** What follows the name, for people; '' when nothing does. */
  readonly argument: string;
  readonly help: string;
  readonly changes: boolean;
  /** Possible arguments, for completion. */
  readonly complete: (state: State) => readonly string[];
  readonly run: (state: State, argument: string) => Step;
}
const nothing = (): readonly string[] => [];
const nodeNames = (state: State): readonly string[] => nodesOf(state).map((one) => one.name);
const processNames = (state: State): readonly string[] => {
  const local = Object.keys(state.local);
  return local.length > 0 ? local : [...nodeNames(state), COORDINATOR];
};
const look = (name: string, argument: string, help: string, complete: Command['complete'], run: Command['run']): Command => ({
  name,
  argument,
  help,
  changes: false,
  complete,
  run,
});
const act = (name: string, argument: string, help: string, complete: Command['complete'], run: Command['run']): Command => ({
  name,
  argument,
  help,
  changes: true,
  complete,
  run,
});
const withNode =
  (then: (state: State, node: DatedNode) => Step): Command['run'] =>
  (state, name) => {
    const node = nodesOf(state).find((one) => one.name === name);
    return node ? then(state, node) : only(flash(state, 'bad', `there is no node "${escapeControl(name)}"; tab completes names`));
  };
const local = (verb: 'start' | 'stop' | 'kill' | 'pause' | 'resume', help: string): Command =>
  act(verb, 'NAME', help, processNames, (state, name) =>
    name === ''
      ? only(flash(state, 'bad', `${verb} what? A node's name or "coordinator"`))
      : propose(state, localAction(state, verb, name)),
  );
const screen = (name: ScreenName): Command => look(name, '', `screen ${name}`, nothing, (state) => only({ ...state, screen: name }));

export const COMMANDS: readonly Command[] = [
  ...SCREENS.map(screen),
  look(
    'node',
    'NAME',
    'show a node',
    nodeNames,
    withNode((state, node) => only(openNode(state, node.name))),
  ),
  look('file', 'PATH', 'open a file or folder by its path', nothing, (state, path) =>
    state.link.kind === 'live'
      ? { state, effects: [{ kind: 'find', path: path.startsWith('/') ? path : `/${path}` }] }
      : only(flash(state, 'bad', 'not done: the coordinator is not connected')),
  ),
  look('chunk', 'N', 'to chunk number N of the open file', nothing, (state, text) => {
    const { file } = state.files;
    const index = Number(text);
    if (!file || !Number.isInteger(index) || index < 0) return only(flash(state, 'bad', 'open a file first, then give a chunk number'));
    return only({
      ...state,
      screen: 'files',
      files: { ...state.files, file: { ...file, cursor: index, offset: Math.floor(index / 5000) * 5000 } },
    });
  }),
  look('help', '', 'keys', nothing, (state) => only({ ...state, overlay: { kind: 'help', top: 0 } })),
  look('quit', '', 'leave', nothing, (state) => ({ state, effects: [{ kind: 'quit' }] })),
  local('start', 'start a local process'),
  local('stop', 'stop a local process cleanly'),
  local('kill', 'kill a local process'),
  local('pause', 'freeze a local process'),
  local('resume', 'let a frozen local process go on'),
  act(
    'drain',
    'NODE',
    'move everything off a node',
    nodeNames,
    withNode((state, node) => propose(state, drain(node))),
  ),
  act(
    'undrain',
    'NODE',
    'end a drain',
    nodeNames,
    withNode((state, node) => propose(state, undrain(node))),
  ),
  act(
    'forget',
    'NODE',
    'remove a node for ever',
    nodeNames,
    withNode((state, node) => propose(state, forget(node))),
  ),
  act(
    'scrub',
    '[NODE|stop]',
    're-read all chunks',
    (state) => [...nodeNames(state), 'stop'],
    (state, name) => propose(state, name === 'stop' ? stopScrub() : scrub(name || undefined)),
  ),
  act('repair', '', 'repair now', nothing, (state) => propose(state, repair(state))),
  act(
    'speed',
    '[gentle|normal|urgent]',
    'how hard repair works',
    () => ['gentle', 'normal', 'urgent'],
    (state, text) => {
      if (text === '') return propose(state, repairSpeed(nextSpeed(clusterHead(state)?.repairSpeed)));
      if (text !== 'gentle' && text !== 'normal' && text !== 'urgent')
        return only(flash(state, 'bad', 'speed is gentle, normal or urgent'));
      return propose(state, repairSpeed(text));
    },
  ),
  act(
    'rebalance',
    '[pause|resume|cancel]',
    'level how full the nodes are',
    () => ['start', 'pause', 'resume', 'cancel'],
    (state, text) => {
      if (text === '' || text === 'start') return propose(state, rebalance('start'));
      if (text !== 'pause' && text !== 'resume' && text !== 'cancel')
        return only(flash(state, 'bad', 'rebalance start, pause, resume or cancel'));
      return propose(state, rebalance(text));
    },
  ),
  act(
    'copies',
    'N',
    'how many copies the volume keeps',
    () => ['1', '2', '3'],
    (state, text) => {
      const copies = Number(text);
      const volume = volumeOf(state);
      if (!volume || !Number.isInteger(copies) || copies < 1 || copies > 8)
        return only(flash(state, 'bad', 'copies must be a number from 1 to 8'));
      return propose(state, setCopies(volume, copies, clusterHead(state)?.volumes[0]?.copies));
    },
  ),
];

const available = (state: State): readonly Command[] => COMMANDS.filter((one) => !(state.options.readOnly && one.changes));

/** Whole lines that begin like `text`: commands first, then a command's arguments. */
export function suggestions(state: State, text: string): readonly { readonly line: string; readonly help: string }[] {
  const space = text.indexOf(' ');
  if (space < 0) {
    return available(state)
      .filter((one) => one.name.startsWith(text.trim()))
      .map((one) => ({
        line: one.argument.startsWith('[') || one.argument === '' ? one.name : `${one.name} `,
        help: `${one.argument}  ${one.help}`.trim(),
      }));
  }
  const command = available(state).find((one) => one.name === text.slice(0, space));
  if (!command) return [];
  const argument = text.slice(space + 1);
  return command
    .complete(state)
    .filter((one) => one.startsWith(argument))
    .slice(0, 50)
    .map((one) => ({ line: `${command.name} ${one}`, help: command.help }));
}

/** Carries out a line. */
export function runCommand(state: State, text: string): Step {
  const line = text.trim();
  if (line === '') return only(state);
  const space = line.indexOf(' ');
  const name = space < 0 ? line : line.slice(0, space);
  const argument = space < 0 ? '' : line.slice(space + 1).trim();
  const exact = available(state).find((one) => one.name === name);
  const alike = available(state).filter((one) => one.name.startsWith(name));
  const command = exact ?? (alike.length === 1 ? alike[0] : undefined);
  if (!command) {
    const hint = alike.length > 1 ? `: ${alike.map((one) => one.name).join(', ')}?` : '; ? lists the keys, tab completes commands';
    return only(flash(state, 'bad', `"${escapeControl(name)}" is not a command${hint}`));
  }
  return command.run(state, argument);
}
