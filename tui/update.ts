/** The next state after a message, and what the outside has to do. Pure: no clock, no socket, no terminal. */

import { localAction } from './actions.js';
import { duration } from './format.js';
import { changesSomething, isText } from './keys.js';
import { moved } from './list.js';
import {
  type Effect,
  layoutOf,
  type Message,
  type Overlay,
  only,
  REFRESH_RATES_MS,
  SCREENS,
  type ScreenName,
  type State,
  type Step,
} from './model.js';
import { openFile, openFolder, withRoot } from './open.js';
import { runCommand, suggestions } from './palette.js';
import { flash, propose } from './propose.js';
import { eventsKey } from './screens/events.js';
import { fileKey, problemArrived } from './screens/file.js';
import { copiesAnswered, filesKey } from './screens/files.js';
import { helpLength } from './screens/help.js';
import { jobsKey } from './screens/jobs.js';
import { nodesKey } from './screens/nodes.js';
import { overviewKey } from './screens/overview.js';
import { escapeControl } from './text.js';
import { fromSnapshot, requestKey, wantedWatches, withChanges } from './topics.js';

const SCREEN_KEYS: Record<ScreenName, (state: State, key: string) => Step | null> = {
  overview: overviewKey,
  nodes: nodesKey,
  files: (state, key) => (state.files.file ? fileKey(state, key) : filesKey(state, key)),
  events: eventsKey,
  jobs: jobsKey,
};
const NONE: Overlay = { kind: 'none' };

/** The list filter of the present screen; null when it has none. */
function filterOf(state: State): string | null {
  if (state.screen === 'nodes') return state.nodes.filter;
  if (state.screen === 'events') return state.events.filter;
  if (state.screen === 'files' && !state.files.file) return state.files.filter;
  return null;
}
function withFilter(state: State, filter: string): State {
  switch (state.screen) {
    case 'nodes':
      return { ...state, nodes: { ...state.nodes, filter, top: 0 } };
    case 'events':
      return { ...state, events: { ...state.events, filter } };
    case 'files': {
      const folders = state.files.folders.map((one, index) =>
        index === state.files.folders.length - 1 ? { ...one, selected: 0, top: 0, offset: 0 } : one,
      );
      return { ...state, files: { ...state.files, filter, folders } };
    }
    default:
      return state;
  }
}

/** Editing of a one-line text; null when the key does not edit. */
function edited(text: string, key: string): string | null {
  if (key === 'backspace') return [...text].slice(0, -1).join('');
  if (key === 'ctrl-u') return '';
  if (isText(key) && text.length < 256) return text + key;
  return null;
}

function overlayKey(state: State, key: string): Step {
  const { overlay } = state;
  const close: State = { ...state, overlay: NONE };
  switch (overlay.kind) {
    case 'none':
      return only(state);
    case 'help': {
      const to = moved(key, overlay.top, helpLength(state), Math.max(1, state.rows - 8));
      if (to !== null && key !== 'G') return only({ ...state, overlay: { ...overlay, top: to } });
      return only(close);
    }
    case 'filter': {
      if (key === 'enter') return only(close);
      if (key === 'esc') return only(withFilter(close, overlay.before));
      const text = edited(overlay.text, key);
      return text === null ? only(state) : only(withFilter({ ...state, overlay: { ...overlay, text } }, text));
    }
    case 'prompt': {
      if (key === 'esc') return only(close);
      if (key === 'enter') return copiesAnswered(close, overlay.text.trim());
      const text = edited(overlay.text, key);
      return text === null ? only(state) : only({ ...state, overlay: { ...overlay, text } });
    }
    case 'palette': {
      const lines = suggestions(state, overlay.text);
      if (key === 'esc') return only(close);
      if (key === 'enter') return runCommand(close, overlay.text);
      if (key === 'tab' || key === 'shift-tab') {
        const chosen = lines[Math.min(overlay.index, lines.length - 1)];
        return chosen ? only({ ...state, overlay: { ...overlay, text: chosen.line, index: 0 } }) : only(state);
      }
      if (key === 'down' || key === 'up') {
        const index = Math.max(0, Math.min(lines.length - 1, overlay.index + (key === 'down' ? 1 : -1)));
        return only({ ...state, overlay: { ...overlay, index } });
      }
      const text = edited(overlay.text, key);
      if (text === '' && overlay.text === '') return only(close);
      return text === null ? only(state) : only({ ...state, overlay: { ...overlay, text, index: 0 } });
    }
    case 'confirm': {
      const { action, confirmation } = overlay;
      const run: Step = { state: close, effects: [{ kind: 'run', action }] };
      if (key === 'esc' || key === 'ctrl-c') return only(flash(close, 'note', `${action.label}: not done`));
      if (confirmation.level !== 'type') return key === 'y' || key === 'Y' ? run : only(flash(close, 'note', `${action.label}: not done`));
      if (key === 'enter') {
        if (overlay.text === confirmation.word) return run;
        return only(flash(close, 'bad', `${action.label}: not done: "${escapeControl(overlay.text)}" is not "${confirmation.word}"`));
      }
      const text = edited(overlay.text, key);
      return text === null ? only(state) : only({ ...state, overlay: { ...overlay, text } });
    }
  }
}

function globalKey(state: State, key: string): Step {
  switch (key) {
    case '1':
    case '2':
    case '3':
    case '4':
    case '5': {
      const screen = SCREENS[Number(key) - 1]!;
      const next: State = { ...state, screen };
      // The digit of the screen one is on already leads to its beginning.
      if (screen === 'files' && state.screen === 'files') return only({ ...next, files: { ...next.files, file: null } });
      return only(screen === 'files' ? withRoot(next) : next);
    }
    case 'tab':
    case 'shift-tab': {
      const step = key === 'tab' ? 1 : SCREENS.length - 1;
      const screen = SCREENS[(SCREENS.indexOf(state.screen) + step) % SCREENS.length]!;
      return only(screen === 'files' ? withRoot({ ...state, screen }) : { ...state, screen });
    }
    case 'esc':
      return only(state.screen === 'overview' ? state : { ...state, screen: 'overview' });
    case '/': {
      const before = filterOf(state);
      if (before === null) return only(flash(state, 'note', 'nothing to filter here: 2 Nodes, 3 Files and 4 Events have lists'));
      return only({ ...state, overlay: { kind: 'filter', text: before, before } });
    }
    case ':':
      return only({ ...state, overlay: { kind: 'palette', text: '', index: 0 } });
    case '?':
      return only({ ...state, overlay: { kind: 'help', top: 0 } });
    case 'f':
      return only({ ...state, isFrozen: !state.isFrozen });
    case 'r':
      return { state, effects: [{ kind: 'reconnect' }] };
    case '<':
    case '>': {
      const at = REFRESH_RATES_MS.indexOf(state.refreshMs) + (key === '>' ? 1 : -1);
      const refreshMs = REFRESH_RATES_MS[Math.max(0, Math.min(REFRESH_RATES_MS.length - 1, at))]!;
      return only(flash({ ...state, refreshMs }, 'note', `shows new data every ${duration(refreshMs)}`));
    }
    case 'q':
      return { state, effects: [{ kind: 'quit' }] };
    default:
      return only(state);
  }
}

function onKey(before: State, key: string): Step {
  if (key === 'ctrl-c') return { state: before, effects: [{ kind: 'quit' }] };
  // A failure stays until a key; that key works as ever.
  const state: State = before.flash && before.flash.untilMs === null ? { ...before, flash: null } : before;
  if (layoutOf(state.columns, state.rows) === 'too-small') return key === 'q' ? { state, effects: [{ kind: 'quit' }] } : only(state);
  if (state.overlay.kind !== 'none') return overlayKey(state, key);
  // Nothing was ever heard: only what helps now.
  if (!state.topics.overview && state.link.kind !== 'live') {
    if (key === 'S') return propose(state, localAction(state, 'start', 'coordinator'));
    if (key === 'q' || key === 'r' || key === '?' || key === ':') return globalKey(state, key);
    return only(state);
  }
  const scope = state.screen === 'files' && state.files.file ? 'file' : state.screen;
  if (state.options.readOnly && changesSomething(scope, key)) {
    return only(flash(state, 'bad', 'not done: this screen was started with --read-only'));
  }
  return SCREEN_KEYS[state.screen](state, key) ?? globalKey(state, key);
}

/** Views that were asked for meanwhile, by what the present screen needs. */
const isWanted = (state: State, key: string): boolean => wantedWatches(state).some((one) => requestKey(one) === key);

function onMessage(state: State, message: Message): Step {
  switch (message.kind) {
    case 'key':
      return onKey(state, message.key);
    case 'tick': {
      const isOver = state.flash?.untilMs !== null && state.flash !== null && state.flash.untilMs <= message.nowMs;
      return only({ ...state, nowMs: message.nowMs, wallMs: message.wallMs, flash: isOver ? null : state.flash });
    }
    case 'resize':
      return only({ ...state, columns: message.columns, rows: message.rows });
    case 'link': {
      const next = { ...state, link: message.link };
      if (message.link.kind === 'live' && state.link.kind === 'offline' && state.topics.overview) {
        return only(
          flash(next, 'note', `connected again after ${duration(state.nowMs - state.link.sinceMs)}; everything is asked for anew`),
        );
      }
      return only(next);
    }
    case 'snapshot': {
      const { topic } = message.request;
      const made = fromSnapshot(message.request, message.head, message.rows, state.nowMs);
      const { [topic]: _gone, ...refusals } = state.refusals;
      const next: State = { ...state, topics: { ...state.topics, [topic]: made }, refusals };
      return only(problemArrived(topic === 'overview' && next.screen === 'files' ? withRoot(next) : next));
    }
    case 'changes': {
      const { topic } = message.request;
      const known = state.topics[topic];
      if (!known || requestKey(known.request) !== requestKey(message.request)) return only(state);
      return only({ ...state, topics: { ...state.topics, [topic]: withChanges(known, message, state.nowMs) } });
    }
    case 'refused': {
      if (!isWanted(state, requestKey(message.request))) return only(state);
      return only({ ...state, refusals: { ...state.refusals, [message.request.topic]: message.reason } });
    }
    case 'local':
      return only({ ...state, local: message.processes });
    case 'started':
      return only({ ...state, busy: [...state.busy, message.label] });
    case 'done': {
      const at = state.busy.indexOf(message.label);
      const busy = state.busy.filter((_, index) => index !== at);
      // What failed stays until a key is pressed, also when something else succeeds meanwhile.
      if (message.ok && state.flash?.level === 'bad') return only({ ...state, busy });
      return only(flash({ ...state, busy }, message.ok ? 'ok' : 'bad', message.text));
    }
    case 'found': {
      const name = message.path.split('/').filter(Boolean).at(-1) ?? '/';
      return only(message.isFolder ? openFolder(state, message.inode) : openFile(state, message.inode, name));
    }
  }
}

/** One message, one step. */
export function update(state: State, message: Message): Step {
  return onMessage(state, message);
}

/** Several messages in order. */
export function updateAll(state: State, messages: readonly Message[]): Step {
  const effects: Effect[] = [];
  let next = state;
  for (const message of messages) {
    const step = update(next, message);
    next = step.state;
    effects.push(...step.effects);
  }
  return { state: next, effects };
}
