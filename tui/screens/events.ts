/** Events: what happened, oldest at the top; follows the newest until scrolled. */
import type { ClusterEvent } from '../../protocol/admin-calls.js';
import { block, panel, type Row, restyle, row, span } from '../draw.js';
import { count } from '../format.js';
import { moved } from '../list.js';
import { type EventsState, layoutOf, only, type State, type Step } from '../model.js';
import { openEvent } from '../open.js';
import { escapeControl, wrapWords } from '../text.js';
import { eventsOf } from '../topics.js';
import { eventRows } from '../words.js';

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

/** Rows below the list for the selected event in full. */
const detailRows = (state: State): number => (layoutOf(state.columns, state.rows) === 'small' ? 2 : 4);
const pageOf = (state: State, height: number): number => Math.max(1, height - 2 - detailRows(state));

/** The selected event, its text on as many lines as there are. */
function detail(state: State, event: ClusterEvent | undefined, columns: number): Row[] {
  const isSmall = layoutOf(state.columns, state.rows) === 'small';
  const lines = event ? wrapWords(escapeControl(event.text), columns - (isSmall ? 2 : 4)) : [];
  if (isSmall)
    return block(
      lines.map((line) => row(` ${line}`)),
      columns,
      2,
    );
  const facts = event
    ? [`Event ${count(event.sequence)}`, event.kind, event.user ? `by ${event.user}` : '', event.request ? `request ${event.request}` : '']
    : ['Event'];
  const title = escapeControl(facts.filter(Boolean).join(', '));
  return panel(
    title,
    lines.map((line) => row(line)),
    columns,
    4,
    { glyphs: state.options.glyphs },
  );
}

export function drawEvents(state: State, columns: number, height: number): Row[] {
  const events = visibleEvents(state);
  const { glyphs } = state.options;
  const page = pageOf(state, height);
  const selected = selectedIndex(events, state.events.selected);
  const isFollowing = state.events.selected === null;
  // Following: the newest at the bottom; else the selection stays in the middle of what was read.
  const top = Math.max(0, Math.min(isFollowing ? events.length - page : selected - Math.floor(page / 2), events.length - page));
  const shown = events.slice(top, top + page);
  const lines = eventRows(state, shown);
  const rows = shown.map((_, index) => {
    const where = top + index === selected;
    const line: Row = [span(where ? '> ' : '  '), ...(lines[index] ?? [])];
    return where && !isFollowing ? restyle(line, 'select') : line;
  });
  if (events.length === 0) {
    const isFiltered = state.events.filter !== '' || state.events.level !== 'info';
    rows.push(
      row(
        span(
          isFiltered
            ? '  nothing matches; esc shows all'
            : state.topics.events
              ? '  nothing has happened yet'
              : '  asking the coordinator ...',
          'dim',
        ),
      ),
    );
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
  const list = panel(title, rows, columns, page + 2, { glyphs, isFocused: true });
  return block([...list, ...detail(state, events[selected], columns)], columns, height);
}

export function eventsKey(state: State, key: string): Step | null {
  const events = visibleEvents(state);
  const put = (change: Partial<EventsState>): Step => only({ ...state, events: { ...state.events, ...change } });
  const at = selectedIndex(events, state.events.selected);
  if (key === 'G' || key === 'end') return put({ selected: null });
  const to = moved(key, at, events.length, pageOf(state, state.rows - 5));
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
