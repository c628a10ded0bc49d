/**
 * Every key, once: handlers ask by name, footer and help are drawn from here. Lower case looks, capitals change something
 * (only exception: G, the end of a list).
 */
import type { ScreenName } from './model.js';

export type KeyScope = 'global' | ScreenName | 'file';
export interface KeyEntry {
  readonly scope: KeyScope;
  /** As the dispatcher names them; several mean the same. */
  readonly keys: readonly string[];
  /** As people read them. */
  readonly label: string;
  /** Short, for the footer. */
  readonly short: string;
  /** A sentence for the help. */
  readonly help: string;
  /** Changes something: hidden when read-only. */
  readonly changes?: boolean;
  /** Shown in the footer of its scope. */
  readonly inFooter?: boolean;
}
const entry = (
  scope: KeyScope,
  keys: string,
  label: string,
  short: string,
  help: string,
  more: { changes?: boolean; inFooter?: boolean } = {},
): KeyEntry => ({ scope, keys: keys.split(' '), label, short, help, ...more });
const footer = { inFooter: true } as const;
const action = { changes: true, inFooter: true } as const;

export const KEYS: readonly KeyEntry[] = [
  entry('global', '1 2 3 4 5', '1-5', 'screens', 'Overview, Nodes, Files, Events, Jobs'),
  entry('global', 'up down left right h j k l', 'arrows, hjkl', 'move', 'move the selection'),
  entry('global', 'g home', 'g', 'first', 'to the first'),
  entry('global', 'G end', 'G', 'last', 'to the last (in Events: follow the newest)'),
  entry('global', 'pageup pagedown ctrl-u ctrl-d', 'PgUp PgDn', 'page', 'a page up or down (also ctrl-u, ctrl-d)'),
  entry('global', 'enter', 'enter', 'open', 'open what is selected'),
  entry('global', 'esc', 'esc', 'back', 'one step back; never quits'),
  entry('global', '/', '/', 'filter', 'filter the list while typing'),
  entry('global', ':', ':', 'command', 'command palette: jump anywhere, do anything by name'),
  entry('global', '?', '?', 'help', 'this page'),
  entry('global', 'f', 'f', 'freeze', 'freeze and thaw what is shown'),
  entry('global', 'r', 'r', 'refresh', 'ask for everything again (offline: try to connect now)'),
  entry('global', '< >', '< >', 'rate', 'repaint for new data every 0.5, 1, 2 or 5 s'),
  entry('global', 'q ctrl-c', 'q', 'quit', 'leave'),

  entry('overview', 'enter', 'enter', 'open', 'to the selected node, job, or what the event is about', footer),
  entry('overview', 'tab shift-tab', 'tab', 'pane', 'next pane: nodes, jobs, events', footer),
  entry('overview', 'S', 'S', 'start', 'start the selected local node (or the coordinator when it is away)', action),
  entry('overview', 'T', 'T', 'stop', 'stop the selected local node', action),
  entry('overview', 'D', 'D', 'drain', 'move everything off the selected node', action),
  entry('overview', 'B', 'B', 'scrub', 'have all nodes re-read all chunks', action),
  entry('overview', 'R', 'R', 'repair', 'repair now, without waiting for graces', action),

  entry('nodes', 'o', 'o', 'sort', 'next sort column; again: reverse', footer),
  entry('nodes', 'S', 'S', 'start', 'start this local node', action),
  entry('nodes', 'T', 'T', 'stop', 'stop this local node cleanly', action),
  entry('nodes', 'K', 'K', 'kill', 'kill this local node (as a crash would)', action),
  entry('nodes', 'Z', 'Z', 'pause', 'freeze this local node, or let it go on', action),
  entry('nodes', 'D', 'D', 'drain', 'move everything off this node', action),
  entry('nodes', 'U', 'U', 'undrain', 'end the drain', action),
  entry('nodes', 'B', 'B', 'scrub', 'have this node re-read its chunks', action),
  entry('nodes', 'F', 'F', 'forget', 'remove this node from the cluster for ever', action),

  entry('files', 'enter right l', 'enter', 'open', 'open the folder or the file', footer),
  entry('files', 'left h backspace', 'left', 'up', 'to the folder above'),
  entry('files', 'o', 'o', 'sort', 'next sort column; again: reverse', footer),
  entry('files', 'V', 'V', 'verify', 'have every copy of this file read now', action),
  entry('files', 'R', 'R', 'repair', 'repair now', action),
  entry('files', 'C', 'C', 'copies', 'how many copies this volume keeps', action),
  entry('files', 'X', 'X', 'delete', 'delete this file', action),

  entry('file', 'left right h l', 'arrows', 'chunk', 'move over the chunks; up and down by a row of the map', footer),
  entry('file', 'n', 'n', 'next problem', 'next chunk below its copies', footer),
  entry('file', '+ -', '+/-', 'zoom', 'fewer or more chunks per cell', footer),
  entry('file', 'm', 'm', 'map mode', 'map shows state, age of the last check, or sharing', footer),
  entry('file', '[ ]', '[ ]', 'nodes', 'scroll the rows of nodes'),
  entry('file', 'c', 'c', 'copy id', "put the chunk's id on the clipboard (terminals with OSC 52)"),
  entry('file', 'V', 'V', 'verify', 'have every copy of this file read now', action),
  entry('file', 'R', 'R', 'repair', 'repair now', action),
  entry('file', 'X', 'X', 'delete', 'delete this file', action),

  entry('events', 'enter', 'enter', 'open', 'to the file, node or job it is about', footer),
  entry('events', 'w', 'w', 'warnings', 'only warnings and errors; again: all', footer),
  entry('events', 'e', 'e', 'errors', 'only errors; again: all', footer),

  entry('jobs', 'P', 'P', 'pause', 'pause the rebalance, or let it go on', action),
  entry('jobs', 'X', 'X', 'cancel', 'cancel this job', action),
  entry('jobs', 'B', 'B', 'scrub', 'have all nodes re-read all chunks', action),
  entry('jobs', 'R', 'R', 'repair', 'repair now', action),
  entry('jobs', 'L', 'L', 'level', 'rebalance: level how full the nodes are', action),
  entry('jobs', 'I', 'I', 'intensity', 'repair gentle, normal or urgent', action),
];

export const keysOf = (scope: KeyScope, readOnly: boolean): readonly KeyEntry[] =>
  KEYS.filter((one) => one.scope === scope && !(readOnly && one.changes));

/** "enter open  tab pane  S start ...": as many whole entries as fit, and where the others are when some do not. */
export function footerText(scope: KeyScope, readOnly: boolean, columns: number): string {
  const entries = keysOf(scope, readOnly)
    .filter((one) => one.inFooter)
    .map((one) => `${one.label} ${one.short}`);
  const all = entries.join('  ');
  if (all.length <= columns) return all;
  const more = '? more';
  while (entries.length > 0 && [...entries, more].join('  ').length > columns) entries.pop();
  return [...entries, more].join('  ');
}

/** True when the key changes something there: what --read-only refuses. */
export const changesSomething = (scope: KeyScope, key: string): boolean =>
  KEYS.some((one) => one.changes && one.scope === scope && one.keys.includes(key));

/** What Ink tells of one key press. */
export interface InkKey {
  readonly upArrow: boolean;
  readonly downArrow: boolean;
  readonly leftArrow: boolean;
  readonly rightArrow: boolean;
  readonly pageDown: boolean;
  readonly pageUp: boolean;
  readonly home: boolean;
  readonly end: boolean;
  readonly return: boolean;
  readonly escape: boolean;
  readonly ctrl: boolean;
  readonly shift: boolean;
  readonly tab: boolean;
  readonly backspace: boolean;
  readonly delete: boolean;
  readonly meta: boolean;
}
/** Names of keys; a paste or quick typing comes as several characters and becomes several keys. */
export function keyNames(input: string, key: InkKey): string[] {
  if (key.upArrow) return ['up'];
  if (key.downArrow) return ['down'];
  if (key.leftArrow) return ['left'];
  if (key.rightArrow) return ['right'];
  if (key.pageUp) return ['pageup'];
  if (key.pageDown) return ['pagedown'];
  if (key.home) return ['home'];
  if (key.end) return ['end'];
  // Ink 6 calls the Backspace key "delete" and sets meta on a lone Esc.
  if (key.backspace || key.delete) return ['backspace'];
  if (key.escape) return ['esc'];
  if (key.tab) return [key.shift ? 'shift-tab' : 'tab'];
  if (key.return) return ['enter'];
  if (key.ctrl) return input.length === 1 ? [`ctrl-${input}`] : [];
  if (key.meta) return [];
  const names: string[] = [];
  for (const character of input) {
    if (character === '\r' || character === '\n') names.push('enter');
    else if (character === '\t') names.push('tab');
    else if (character === '\x7f' || character === '\b') names.push('backspace');
    else if (character >= ' ') names.push(character);
  }
  return names;
}
/** A key that types itself. */
export const isText = (key: string): boolean => key.length === 1 || (key.length === 2 && key.codePointAt(0)! > 0xffff);
