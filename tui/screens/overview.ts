/** Overview: nodes, data, throughput, copies, jobs and the last events on one page. */
import type { JobStatus } from '../../protocol/admin-calls.js';
import { drain, localAction, repair, scrub } from '../actions.js';
import { bar, beside, block, type Column, panel, type Row, row, scrollTo, span, sparkline, table } from '../draw.js';
import { bytes, count, duration, percent, rate, rateCell, shortCount } from '../format.js';
import { moved } from '../list.js';
import { layoutOf, only, type State, type Step } from '../model.js';
import { openEvent } from '../open.js';
import { propose } from '../propose.js';
import { escapeControl, padEnd, padStart } from '../text.js';
import { clusterHead, compareNames, type DatedNode, eventsOf, isActive, jobsOf, nodesOf } from '../topics.js';
import { eventRows, isSilent, jobSpeed, jobStyle, NODE_TROUBLE, nameWidth, nodeState, nodesTitle, shareOf } from '../words.js';

/** Nodes in trouble first: with 200 of them the page must show those. */
const overviewNodes = (state: State): DatedNode[] =>
  nodesOf(state)
    .filter((one) => one.state !== 'removed')
    .sort((a, b) => NODE_TROUBLE[a.state] - NODE_TROUBLE[b.state] || compareNames(a.name, b.name));
const overviewJobs = (state: State): JobStatus[] => {
  const active = jobsOf(state).filter(isActive);
  return active.length > 0 ? active : jobsOf(state).slice(0, 3);
};
/** Newest first. */
const overviewEvents = (state: State) => eventsOf(state).slice(-100).reverse();

function nodeColumns(state: State, nodes: readonly DatedNode[], width: number, hasRates: boolean): Column<DatedNode>[] {
  const spare = Math.max(0, Math.min(20, width - (hasRates ? 59 : 49)));
  const columns: Column<DatedNode>[] = [
    { title: 'NODE', width: nameWidth(nodes, 6, 6 + spare), cell: (node) => escapeControl(node.name) },
    { title: 'STATE', width: 10, cell: (node) => nodeState(state, node) },
    {
      title: 'USED',
      width: 11,
      cell: (node) =>
        `${bar(node.capacityBytes > 0 ? node.usedBytes / node.capacityBytes : 0, 6, state.options.glyphs)} ${padStart(percent(node.usedBytes, node.capacityBytes), 4)}`,
    },
    { title: 'COPIES', width: 6, align: 'right', cell: (node) => shortCount(node.replicas) },
  ];
  if (hasRates) {
    columns.push(
      { title: 'READ/s', width: 8, align: 'right', cell: (node) => (isSilent(node) ? '-' : rateCell(node.readBytesPerS)) },
      { title: 'WRITE/s', width: 8, align: 'right', cell: (node) => (isSilent(node) ? '-' : rateCell(node.writtenBytesPerS)) },
    );
  } else columns.push({ title: 'FREE', width: 9, align: 'right', cell: (node) => bytes(node.freeBytes) });
  return columns;
}

function nodesPanel(state: State, columns: number, height: number, hasRates: boolean): Row[] {
  const nodes = overviewNodes(state);
  const isFocused = state.overview.pane === 'nodes';
  const selected = Math.min(state.overview.selected.nodes, Math.max(0, nodes.length - 1));
  const top = scrollTo(selected, 0, height - 3, nodes.length);
  const shown = nodes.slice(top, top + height - 3);
  const rows = table(nodeColumns(state, shown, columns, hasRates), shown, (_, index) => isFocused && top + index === selected);
  if (nodes.length === 0 && clusterHead(state)) rows.push(row(span('  No nodes yet. Start one: scripts/node start n1', 'dim')));
  const more =
    nodes.length > shown.length ? ` (${count(top + 1)}-${count(top + shown.length)} of ${count(nodes.length)}, worst first)` : '';
  return panel(nodesTitle(nodes) + more, rows, columns, height, { glyphs: state.options.glyphs, isFocused });
}

/** Two columns of words and numbers. */
function dataRows(state: State, columns: number): Row[] {
  const head = clusterHead(state);
  const left = Math.max(12, columns - 20);
  const both = (a: readonly [string, string], b: readonly [string, string]): Row =>
    row(padEnd(a[0], 8) + padStart(a[1], left - 8), '  ', padEnd(b[0], 9) + padStart(b[1], columns - left - 11));
  const saved = head && head.uniqueBytes > 0 ? `${(head.logicalBytes / head.uniqueBytes).toFixed(1)}x` : '-';
  const copies = head?.metadata.copies;
  return [
    both(['files', shortCount(head?.files)], ['logical', bytes(head?.logicalBytes)]),
    both(['folders', shortCount(head?.directories)], ['unique', bytes(head?.uniqueBytes)]),
    both(['chunks', shortCount(head?.chunks.total)], ['stored', bytes(head?.storedBytes)]),
    both(['dedup', saved], ['metadata', bytes(head?.metadata.bytes)]),
    both(
      ['clients', shortCount(head?.clients)],
      ['on nodes', copies ? `${copies.filter((one) => one.isCurrent).length} of ${copies.length}` : '-'],
    ),
    both(['calls/s', shortCount(head?.rates.callsPerS)], ['deleting', shortCount(head?.deletion.waiting)]),
  ];
}

function throughputPanel(state: State, columns: number, height: number): Row[] {
  const head = clusterHead(state);
  const history = head?.history;
  const { glyphs } = state.options;
  const series = [
    ['read', head?.rates.readBytesPerS, history?.readBytesPerS],
    ['write', head?.rates.writtenBytesPerS, history?.writtenBytesPerS],
    ['repair', head?.rates.repairBytesPerS, history?.repairBytesPerS],
  ] as const;
  const peak = Math.max(1, ...series.flatMap(([, , values]) => values ?? []));
  const width = Math.max(0, Math.min(60, columns - 4 - 20));
  const rows = series.map(([name, now, values]) =>
    row(padEnd(name, 7), padStart(rate(now), 11), '  ', span(sparkline(values ?? [], width, peak, glyphs), 'accent')),
  );
  if (height > 5 && width >= 20) rows.push(row(span(`${' '.repeat(20)}${'60 s ago'.padEnd(width - 3)}now`, 'dim')));
  return panel(`Throughput, last 60 s${peak > 1 ? ` (peak ${rate(peak)})` : ''}`, rows, columns, height, { glyphs });
}

/** Chunks by good copies, worst first: only the one at the goal is green. Of more lines than fit, empty ones give way. */
function copiesRows(state: State, columns: number, height: number): Row[] {
  const head = clusterHead(state);
  if (!head) return [row(span('-', 'dim'))];
  const goal = head.volumes[0]?.copies ?? 2;
  const histogram = head.chunks.histogram.byGoodReplicas;
  const lines: { readonly line: Row; readonly isEmpty: boolean }[] = [];
  for (let copies = 0; copies <= Math.max(goal + 1, histogram.length - 1); copies += 1) {
    const chunks = histogram[copies] ?? 0;
    const word = copies === 0 ? 'lost' : copies >= goal ? (copies === goal ? 'ok' : 'over') : copies === 1 ? 'endangered' : 'under';
    if (copies > goal + 1 && chunks === 0) continue;
    const style =
      chunks === 0 ? 'dim' : copies >= goal ? (copies === goal ? 'ok' : 'plain') : copies === 0 || copies === 1 ? 'bad' : 'warn';
    const share = head.chunks.total > 0 ? chunks / head.chunks.total : 0;
    const width = Math.max(0, columns - 23);
    const filled = chunks > 0 ? Math.max(1, Math.round(share * width)) : 0;
    const line = row(
      span(`${copies} ${padEnd(word, 10)} ${padStart(count(chunks), 9)} `, style),
      span(state.options.glyphs.barFull.repeat(filled), style),
    );
    lines.push({ line, isEmpty: chunks === 0 && copies !== goal });
  }
  while (lines.length > height) {
    const empty = lines.findLastIndex((one) => one.isEmpty);
    if (empty < 0) break;
    lines.splice(empty, 1);
  }
  return lines.slice(0, Math.max(1, height)).map((one) => one.line);
}

function jobsPanel(state: State, columns: number, height: number): Row[] {
  const jobs = overviewJobs(state);
  const active = jobs.filter(isActive).length;
  const isFocused = state.overview.pane === 'jobs';
  const selected = Math.min(state.overview.selected.jobs, Math.max(0, jobs.length - 1));
  const top = scrollTo(selected, 0, height - 2, jobs.length);
  const rows = jobs.slice(top, top + height - 2).map((job, index) => {
    const mark = isFocused && top + index === selected ? '> ' : '  ';
    const share = shareOf(job);
    const progress = `${bar(share, Math.max(8, Math.min(20, columns - 86)), state.options.glyphs)} ${padStart(percent(share, 1), 4)}`;
    return row(
      span(`${mark}${padEnd(job.job, 6)} ${padEnd(job.kind, 9)} `, jobStyle(job)),
      padEnd(escapeControl(job.subject), Math.max(10, Math.min(40, columns - 82))),
      ` ${progress}  ${count(job.doneChunks)}/${count(job.totalChunks)}`,
      isActive(job) ? `  ${jobSpeed(job)}  ${job.etaMs === null ? job.state : `${duration(job.etaMs)} left`}` : `  ${job.state}`,
      job.errors > 0 ? span(`  ${count(job.errors)} errors`, 'bad') : '',
    );
  });
  if (jobs.length === 0) {
    const words = state.topics.jobs ? '  none: repair, drain, scrub and rebalance show up here' : '  asking the coordinator ...';
    rows.push(row(span(words, 'dim')));
  }
  return panel(active > 0 ? `Jobs: ${active} running` : 'Jobs', rows, columns, height, { glyphs: state.options.glyphs, isFocused });
}

function eventsPanel(state: State, columns: number, height: number): Row[] {
  const events = overviewEvents(state);
  const isFocused = state.overview.pane === 'events';
  const selected = Math.min(state.overview.selected.events, Math.max(0, events.length - 1));
  const top = isFocused ? scrollTo(selected, 0, height - 2, events.length) : 0;
  const rows: Row[] = eventRows(state, events.slice(top, top + height - 2)).map((one, index) => [
    span(isFocused && top + index === selected ? '> ' : '  '),
    ...one,
  ]);
  if (events.length === 0) rows.push(row(span(state.topics.events ? '  nothing has happened yet' : '  asking the coordinator ...', 'dim')));
  return panel('Events (newest first)', rows, columns, height, { glyphs: state.options.glyphs, isFocused });
}

export function drawOverview(state: State, columns: number, height: number): Row[] {
  const layout = layoutOf(state.columns, state.rows);
  const { glyphs } = state.options;
  const nodes = overviewNodes(state).length;
  const jobs = Math.max(1, overviewJobs(state).length);
  if (layout === 'full') {
    const dataWidth = 39;
    // One line for each number of copies up to one more than wished.
    const lower = Math.max(6, Math.min(8, (clusterHead(state)?.volumes[0]?.copies ?? 2) + 4));
    const jobsHeight = Math.min(2 + jobs, 3 + Math.floor((height - 25) / 4) + 1);
    const top = Math.max(8, Math.min(nodes + 3, height - lower - jobsHeight - 6));
    return block(
      [
        ...beside(
          nodesPanel(state, columns - dataWidth, top, true),
          panel('Data', dataRows(state, dataWidth - 4), dataWidth, top, { glyphs }),
        ),
        ...beside(
          throughputPanel(state, columns - dataWidth, lower),
          panel(
            `Copies per chunk (goal ${clusterHead(state)?.volumes[0]?.copies ?? '-'})`,
            copiesRows(state, dataWidth - 4, lower - 2),
            dataWidth,
            lower,
            {
              glyphs,
            },
          ),
        ),
        ...jobsPanel(state, columns, jobsHeight),
        ...eventsPanel(state, columns, height - top - lower - jobsHeight),
      ],
      columns,
      height,
    );
  }
  if (layout === 'medium') {
    const right = 34;
    const lower = 6;
    // Room is short: no jobs, no box, unless one went there.
    const hasJobs = overviewJobs(state).some(isActive) || state.overview.pane === 'jobs';
    const jobsHeight = hasJobs ? Math.min(2 + jobs, 4) : 0;
    const top = Math.max(5, Math.min(nodes + 3, height - lower - jobsHeight - 4));
    return block(
      [
        ...nodesPanel(state, columns, top, false),
        ...beside(
          throughputPanel(state, columns - right, lower),
          panel('Copies per chunk', copiesRows(state, right - 4, lower - 2), right, lower, { glyphs }),
        ),
        ...(hasJobs ? jobsPanel(state, columns, jobsHeight) : []),
        ...eventsPanel(state, columns, height - top - lower - jobsHeight),
      ],
      columns,
      height,
    );
  }
  const { pane } = state.overview;
  const head = clusterHead(state);
  const draw = {
    nodes: () => nodesPanel(state, columns, height - 1, false),
    jobs: () => jobsPanel(state, columns, height - 1),
    events: () => eventsPanel(state, columns, height - 1),
  };
  return block(
    [
      row(
        ` ${count(head?.chunks.total)} chunks, ${count(head?.chunks.belowCopies)} below, ${count(head?.chunks.lost)} lost | read ${rate(head?.rates.readBytesPerS)}, write ${rate(head?.rates.writtenBytesPerS)}`,
      ),
      ...draw[pane](),
    ],
    columns,
    height,
  );
}

const PANES = ['nodes', 'jobs', 'events'] as const;
export function overviewKey(state: State, key: string): Step | null {
  const { overview } = state;
  const lists = { nodes: overviewNodes(state), jobs: overviewJobs(state), events: overviewEvents(state) };
  const { pane } = overview;
  const at = Math.min(overview.selected[pane], Math.max(0, lists[pane].length - 1));
  const to = moved(key, at, lists[pane].length, 5);
  if (to !== null) return only({ ...state, overview: { ...overview, selected: { ...overview.selected, [pane]: to } } });
  const node = lists.nodes[Math.min(overview.selected.nodes, Math.max(0, lists.nodes.length - 1))];
  switch (key) {
    case 'tab':
    case 'shift-tab': {
      const step = key === 'tab' ? 1 : PANES.length - 1;
      return only({ ...state, overview: { ...overview, pane: PANES[(PANES.indexOf(pane) + step) % PANES.length]! } });
    }
    case 'enter':
      if (pane === 'nodes')
        return node ? only({ ...state, screen: 'nodes', nodes: { ...state.nodes, selected: node.name, filter: '' } }) : only(state);
      if (pane === 'jobs') {
        const job = lists.jobs[at];
        return only({ ...state, screen: 'jobs', jobs: { selected: job?.job ?? null } });
      }
      return openEvent(state, lists.events[at]);
    case 'S':
      return propose(state, localAction(state, 'start', state.link.kind === 'offline' ? 'coordinator' : (node?.name ?? 'coordinator')));
    case 'T':
      return node ? propose(state, localAction(state, 'stop', node.name)) : only(state);
    case 'D':
      return node ? propose(state, drain(node)) : only(state);
    case 'B':
      return propose(state, scrub());
    case 'R':
      return propose(state, repair(state));
    default:
      return null;
  }
}
