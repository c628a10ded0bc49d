/** Nodes: the table of all nodes, and the selected one in detail. */
import { drain, forget, localAction, pauseAction, scrub, undrain } from '../actions.js';
import { bar, beside, block, type Column, panel, type Row, row, scrollTo, span, table } from '../draw.js';
import { age, count, percent, rate, rateCell } from '../format.js';
import { moved } from '../list.js';
import { layoutOf, NODE_SORTS, only, type State, type Step } from '../model.js';
import { propose } from '../propose.js';
import { escapeControl, padEnd, padStart, truncateMiddle } from '../text.js';
import { compareNames, type DatedNode, eventsOf, nodesOf } from '../topics.js';
import { isSilent, NODE_TROUBLE, nameWidth, nodeState, nodesTitle, spaceWords, wrappedEventRows } from '../words.js';

export function visibleNodes(state: State): DatedNode[] {
  const { sort, descending, filter } = state.nodes;
  const words = filter.toLowerCase().split(/\s+/).filter(Boolean);
  const matches = (node: DatedNode): boolean =>
    words.every((word) => `${node.name} ${node.state} ${node.zone} ${node.url}`.toLowerCase().includes(word));
  const order: Record<typeof sort, (a: DatedNode, b: DatedNode) => number> = {
    name: () => 0,
    state: (a, b) => NODE_TROUBLE[a.state] - NODE_TROUBLE[b.state],
    used: (a, b) => a.usedBytes / Math.max(1, a.capacityBytes) - b.usedBytes / Math.max(1, b.capacityBytes),
    copies: (a, b) => a.replicas - b.replicas,
  };
  const sign = descending ? -1 : 1;
  return nodesOf(state)
    .filter(matches)
    .sort((a, b) => sign * (order[sort](a, b) || compareNames(a.name, b.name)));
}
const selectedIndex = (state: State, nodes: readonly DatedNode[]): number =>
  Math.max(
    0,
    nodes.findIndex((one) => one.name === state.nodes.selected),
  );

function columnsFor(state: State, nodes: readonly DatedNode[], columns: number): Column<DatedNode>[] {
  const { sort, descending } = state.nodes;
  const titled = (title: string, by: typeof sort): string => (sort === by ? `${title}${descending ? ' v' : ' ^'}` : title);
  const all: (Column<DatedNode> & { readonly from: number })[] = [
    { from: 0, title: titled('NODE', 'name'), width: nameWidth(nodes, 10, 15), cell: (node) => escapeControl(node.name) },
    { from: 0, title: titled('STATE', 'state'), width: 13, cell: (node) => nodeState(state, node) },
    {
      from: 0,
      title: titled('USED', 'used'),
      width: 15,
      cell: (node) =>
        `${bar(node.capacityBytes > 0 ? node.usedBytes / node.capacityBytes : 0, 10, state.options.glyphs)} ${padStart(percent(node.usedBytes, node.capacityBytes), 4)}`,
    },
    { from: 0, title: titled('COPIES', 'copies'), width: 8, align: 'right', cell: (node) => count(node.replicas) },
    {
      from: 80,
      title: 'ONLY',
      width: 6,
      align: 'right',
      cell: (node) => span(count(node.onlyCopies), node.onlyCopies > 0 ? 'warn' : 'plain'),
    },
    { from: 100, title: 'READ/s', width: 9, align: 'right', cell: (node) => (isSilent(node) ? '-' : rateCell(node.readBytesPerS)) },
    { from: 100, title: 'WRITE/s', width: 9, align: 'right', cell: (node) => (isSilent(node) ? '-' : rateCell(node.writtenBytesPerS)) },
    { from: 80, title: 'BEAT', width: 6, align: 'right', cell: (node) => beat(state, node) },
    { from: 80, title: 'ERR', width: 4, align: 'right', cell: (node) => span(count(node.errors), node.errors > 0 ? 'bad' : 'plain') },
    { from: 120, title: 'ADDRESS', width: 22, cell: (node) => truncateMiddle(node.url.replace(/^https?:\/\//, ''), 22) },
    { from: 140, title: 'ZONE', width: 12, cell: (node) => escapeControl(node.zone || '-') },
  ];
  return all.filter((one) => columns >= one.from);
}
const beat = (state: State, node: DatedNode): string =>
  node.heartbeatAgeMs === null ? '-' : age(node.heartbeatAgeMs + Math.max(0, state.nowMs - node.receivedAtMs));

function detailRows(state: State, node: DatedNode): Row[] {
  const local = state.local[node.name];
  const process =
    local === undefined
      ? state.options.stateDir
        ? 'not of this state directory'
        : 'unknown (no --state)'
      : local !== 'stopped'
        ? local === 'paused'
          ? 'paused here: Z lets it go on'
          : 'runs here'
        : 'not running: S starts it';
  const facts: readonly (readonly [string, string])[] = [
    ['address', node.url],
    ['zone', escapeControl(node.zone || '-')],
    ['version', escapeControl(node.version)],
    ['space', spaceWords(node)],
    ['traffic', `read ${rate(node.readBytesPerS)}, write ${rate(node.writtenBytesPerS)}`],
    ['copies', `${count(node.replicas)} (the only good one: ${count(node.onlyCopies)})`],
    ['beat', `${beat(state, node)} ago, ${count(node.errors)} errors${node.isReadOnly ? ', READ-ONLY' : ''}${node.isFull ? ', FULL' : ''}`],
    ['process', process],
  ];
  const rows = facts.map(([word, value]) => row(span(padEnd(word, 9), 'dim'), value));
  if (node.state === 'draining') {
    rows.push(
      row(
        span(padEnd('drain', 9), 'dim'),
        node.safeToRemove ? span('finished: it may be unplugged and forgotten (F)', 'ok') : `${count(node.drainLeft)} chunks left`,
      ),
    );
  }
  return rows;
}

function split(state: State, height: number): { list: number; detail: number } {
  if (layoutOf(state.columns, state.rows) === 'small') return { list: height, detail: 0 };
  const detail = Math.min(11, Math.max(7, Math.floor(height / 2)));
  return { list: height - detail, detail };
}

export function drawNodes(state: State, columns: number, height: number): Row[] {
  const nodes = visibleNodes(state);
  const { glyphs } = state.options;
  const { list, detail } = split(state, height);
  const selected = selectedIndex(state, nodes);
  const top = scrollTo(selected, state.nodes.top, list - 3, nodes.length);
  const shown = nodes.slice(top, top + list - 3);
  const rows = table(columnsFor(state, shown, columns), shown, (_, index) => top + index === selected);
  if (nodes.length === 0) {
    rows.push(
      row(
        span(
          state.nodes.filter
            ? `  no node matches "${escapeControl(state.nodes.filter)}"`
            : '  No nodes yet. Start one: scripts/node start n1',
          'dim',
        ),
      ),
    );
  }
  const range = nodes.length > shown.length ? ` (${top + 1}-${top + shown.length} of ${nodes.length})` : '';
  const filter = state.nodes.filter ? `, filter "${escapeControl(state.nodes.filter)}"` : '';
  const out = panel(`${nodesTitle(nodes)}${range}${filter}`, rows, columns, list, { glyphs, isFocused: true });
  const node = nodes[selected];
  if (detail === 0 || !node) return block(out, columns, height);
  const factsWidth = layoutOf(state.columns, state.rows) === 'full' ? Math.floor(columns * 0.55) : Math.floor(columns / 2);
  const events = eventsOf(state)
    .filter((one) => one.node === node.name)
    .slice(-(detail - 2))
    .reverse();
  const eventRows = events.length > 0 ? wrappedEventRows(state, events, columns - factsWidth - 4) : [row(span('none lately', 'dim'))];
  return block(
    [
      ...out,
      ...beside(
        panel(`Node ${escapeControl(node.name)}: ${nodeState(state, node).text}`, detailRows(state, node), factsWidth, detail, {
          glyphs,
        }),
        panel('Its events (newest first)', eventRows, columns - factsWidth, detail, { glyphs }),
      ),
    ],
    columns,
    height,
  );
}

export function nodesKey(state: State, key: string): Step | null {
  const nodes = visibleNodes(state);
  const at = selectedIndex(state, nodes);
  const page = Math.max(1, split(state, state.rows - 5).list - 3);
  const to = moved(key, at, nodes.length, page);
  if (to !== null) {
    return only({
      ...state,
      nodes: { ...state.nodes, selected: nodes[to]?.name ?? null, top: scrollTo(to, state.nodes.top, page, nodes.length) },
    });
  }
  const node = nodes[at];
  switch (key) {
    case 'o': {
      const { sort, descending } = state.nodes;
      // Each column twice: ascending, then descending, then the next column.
      if (!descending) return only({ ...state, nodes: { ...state.nodes, descending: true } });
      const next = NODE_SORTS[(NODE_SORTS.indexOf(sort) + 1) % NODE_SORTS.length]!;
      return only({ ...state, nodes: { ...state.nodes, sort: next, descending: false } });
    }
    case 'esc':
      if (state.nodes.filter) return only({ ...state, nodes: { ...state.nodes, filter: '' } });
      return null;
    case 'enter':
      return only(state);
  }
  if (!node) return null;
  switch (key) {
    case 'S':
      return propose(state, localAction(state, 'start', node.name));
    case 'T':
      return propose(state, localAction(state, 'stop', node.name));
    case 'K':
      return propose(state, localAction(state, 'kill', node.name));
    case 'Z':
      return propose(state, pauseAction(state, node.name));
    case 'D':
      return propose(state, drain(node));
    case 'U':
      return propose(state, undrain(node));
    case 'B':
      return propose(state, scrub(node.name));
    case 'F':
      return propose(state, forget(node));
    default:
      return null;
  }
}
