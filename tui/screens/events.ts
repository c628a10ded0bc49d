/** Events: what happened, oldest at the top; follows the newest until scrolled. */
import type { ClusterEvent } from '../../protocol/admin-calls.js';
import { block, panel, type Row, restyle, row, span } from '../draw.js';
import { count } from '../format.js';
import { moved } from '../list.js';
import { type EventsState, only, type State, type Step } from '../model.js';
import { openEvent } from '../open.js';
import { escapeControl } from '../text.js';
import { eventsOf } from '../topics.js';
import { eventRow } from '../words.js';

const RANK = { info: 0, warn: 1, error: 2 } as const;

export function visibleEvents(state: State): readonly ClusterEvent[] {
  const { level, filter } = state.events;
  const all = eventsOf(state);
  if (level === 'info' && !filter) return all;
  const words = filter.toLowerCase().split(/\s+/).filter(Boolean);
  return all.filter(
    (one) =>
      RANK[one.level] >= RANK[level] &&
      words.every((word) => `${one.kind} ${one.text} ${one.node ?? ''} ${one.user ?? ''}`.toLowerCase().includes(word)),
  );
}

/** Index of the selection: the newest while following, else where its sequence number is (or would be). */
function selectedIndex(events: readonly ClusterEvent[], selected: number | null): number {
  if (selected === null) return Math.max(0, events.length - 1);
  const found = events.findIndex((one) => one.sequence >= selected);
  return found < 0 ? Math.max(0, events.length - 1) : found;
}

export function drawEvents(state: State, columns: number, height: number): Row[] {
  const events = visibleEvents(state);
  const { glyphs } = state.options;
  const page = Math.max(1, height - 2);
  const selected = selectedIndex(events, state.events.selected);
  const isFollowing = state.events.selected === null;
  // Following: the newest at the bottom; else the selection stays in the middle of what was read.
  const top = Math.max(0, Math.min(isFollowing ? events.length - page : selected - Math.floor(page / 2), events.length - page));
  const rows = events.slice(top, top + page).map((event, index) => {
    const where = top + index === selected;
    const line: Row = [
      span(where ? '> ' : '  '),
      ...eventRow(state, event),
      span(event.request ? `  (${escapeControl(event.request)})` : '', 'dim'),
    ];
    return where && !isFollowing ? restyle(line, 'select') : line;
  });
  if (events.length === 0) {
    const isFiltered = state.events.filter !== '' || state.events.level !== 'info';
    rows.push(row(span(isFiltered ? '  nothing matches; esc shows all' : '  nothing has happened yet', 'dim')));
  }
  const fresh = isFollowing ? 0 : events.filter((one) => one.sequence > state.events.seen).length;
  const title = [
    `Events: ${count(events.length)}`,
    state.events.level === 'info' ? '' : state.events.level === 'warn' ? 'warnings and errors' : 'errors only',
    state.events.filter ? `filter "${escapeControl(state.events.filter)}"` : '',
    isFollowing ? 'following' : fresh > 0 ? `${count(fresh)} new, G to follow` : 'G to follow',
  ]
    .filter(Boolean)
    .join(', ');
  return block(panel(title, rows, columns, height, { glyphs, isFocused: true }), columns, height);
}

export function eventsKey(state: State, key: string): Step | null {
  const events = visibleEvents(state);
  const put = (change: Partial<EventsState>): Step => only({ ...state, events: { ...state.events, ...change } });
  const at = selectedIndex(events, state.events.selected);
  if (key === 'G' || key === 'end') return put({ selected: null });
  const to = moved(key, at, events.length, Math.max(1, state.rows - 7));
  if (to !== null) {
    const event = events[to];
    if (!event || (state.events.selected === null && to === at)) return only(state);
    const seen = state.events.selected === null ? (eventsOf(state).at(-1)?.sequence ?? 0) : state.events.seen;
    return put({ selected: event.sequence, seen });
  }
  switch (key) {
    case 'w':
      return put({ level: state.events.level === 'warn' ? 'info' : 'warn' });
    case 'e':
      return put({ level: state.events.level === 'error' ? 'info' : 'error' });
    case 'enter':
      return openEvent(state, events[at]);
    case 'esc':
      if (state.events.filter || state.events.level !== 'info') return put({ filter: '', level: 'info' });
      if (state.events.selected !== null) return put({ selected: null });
      return null;
    default:
      return null;
  }
}
