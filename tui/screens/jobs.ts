/** Jobs: what the cluster is doing to itself: repair, drain, scrub, verify, rebalance. */
import type { JobStatus, RepairSpeed } from '../../protocol/admin-calls.js';
import { cancelJob, nextSpeed, rebalance, repair, repairSpeed, scrub, stopScrub } from '../actions.js';
import { bar, block, type Column, panel, type Row, row, scrollTo, span, table } from '../draw.js';
import { bytes, count, duration, moment, percent } from '../format.js';
import { moved } from '../list.js';
import { layoutOf, only, type State, type Step } from '../model.js';
import { flash, propose } from '../propose.js';
import { escapeControl, padStart } from '../text.js';
import { clusterHead, isActive, jobsOf } from '../topics.js';
import { jobSpeed, jobStyle, shareOf } from '../words.js';

const speedOf = (state: State): RepairSpeed | undefined =>
  (state.topics.jobs?.head.repairSpeed as RepairSpeed | undefined) ?? clusterHead(state)?.repairSpeed;
const selectedIndex = (state: State, jobs: readonly JobStatus[]): number =>
  Math.max(
    0,
    jobs.findIndex((one) => one.job === state.jobs.selected),
  );

function columnsFor(state: State, columns: number): Column<JobStatus>[] {
  const barWidth = columns >= 100 ? 14 : 8;
  const timeWidth = columns >= 100 ? 12 : 8;
  const taken = 6 + 9 + 9 + (barWidth + 5) + 4 + (columns >= 80 ? 12 + timeWidth + 2 : 0) + (columns >= 100 ? 4 + 1 : 0);
  const subject = Math.max(8, columns - 4 - 2 - 1 - taken);
  const all: (Column<JobStatus> & { readonly from: number })[] = [
    { from: 0, title: 'JOB', width: 6, cell: (job) => job.job },
    { from: 0, title: 'KIND', width: 9, cell: (job) => job.kind },
    { from: 0, title: 'SUBJECT', width: subject, cell: (job) => escapeControl(job.subject) },
    { from: 0, title: 'STATE', width: 9, cell: (job) => span(job.state, jobStyle(job)) },
    {
      from: 0,
      title: 'DONE',
      width: barWidth + 5,
      cell: (job) => `${bar(shareOf(job), barWidth, state.options.glyphs)} ${padStart(percent(shareOf(job), 1), 4)}`,
    },
    { from: 80, title: 'SPEED', width: 12, align: 'right', cell: (job) => (isActive(job) ? jobSpeed(job) : '') },
    {
      from: 80,
      title: columns >= 100 ? 'LEFT / ENDED' : 'LEFT',
      width: timeWidth,
      align: 'right',
      cell: (job) =>
        isActive(job)
          ? job.etaMs === null
            ? '-'
            : duration(job.etaMs)
          : moment(job.endedAtMs ?? job.startedAtMs, state.wallMs).slice(0, timeWidth),
    },
    { from: 100, title: 'ERR', width: 4, align: 'right', cell: (job) => span(count(job.errors), job.errors > 0 ? 'bad' : 'plain') },
  ];
  return all.filter((one) => columns >= one.from);
}

/** Rows of the box below the list: none without a job, what counts most where room is short. */
const detailHeight = (state: State, hasJob: boolean): number => (!hasJob ? 0 : layoutOf(state.columns, state.rows) === 'small' ? 4 : 6);

export function drawJobs(state: State, columns: number, height: number): Row[] {
  const jobs = jobsOf(state);
  const { glyphs } = state.options;
  const list = height - detailHeight(state, jobs.length > 0);
  const selected = selectedIndex(state, jobs);
  const top = scrollTo(selected, 0, list - 3, jobs.length);
  const rows = table(columnsFor(state, columns), jobs.slice(top, top + list - 3), (_, index) => top + index === selected);
  if (jobs.length === 0) {
    const words = state.topics.jobs
      ? [
          'No jobs: nothing is repaired, drained or re-read.',
          'B re-reads all chunks, R repairs now, L levels nodes;',
          'D on the Nodes screen drains one.',
        ]
      : ['asking the coordinator ...'];
    rows.push(...words.map((line) => row(span(`  ${line}`, 'dim'))));
  }
  const active = jobs.filter(isActive).length;
  const title = `Jobs: ${count(active)} active, ${count(jobs.length - active)} ended, repair speed ${speedOf(state) ?? '-'}`;
  const job = jobs[selected];
  const detail: Row[] = job
    ? [
        row(
          span('chunks  ', 'dim'),
          `${count(job.doneChunks)} of ${count(job.totalChunks)}   ${bytes(job.doneBytes)} of ${bytes(job.totalBytes)}`,
        ),
        row(
          span('time    ', 'dim'),
          `started ${moment(job.startedAtMs, state.wallMs)}, ${job.endedAtMs === null ? `runs ${duration(Math.max(0, state.wallMs - job.startedAtMs))}` : `took ${duration(job.endedAtMs - job.startedAtMs)}`}`,
        ),
        row(span('subject ', 'dim'), escapeControl(job.subject)),
        row(
          span('errors  ', 'dim'),
          span(`${count(job.errors)}${job.lastError ? `: ${escapeControl(job.lastError)}` : ''}`, job.errors > 0 ? 'bad' : 'plain'),
        ),
      ]
    : [];
  const [chunks = [], time = [], subject = [], errors = []] = detail;
  const shownDetail =
    layoutOf(state.columns, state.rows) === 'small' ? [subject, job && job.errors > 0 ? errors : time] : [chunks, time, subject, errors];
  return block(
    [
      ...panel(title, rows, columns, list, { glyphs, isFocused: true }),
      ...(job ? panel(`${job.job} ${job.kind} ${job.state}`, shownDetail, columns, height - list, { glyphs }) : []),
    ],
    columns,
    height,
  );
}

export function jobsKey(state: State, key: string): Step | null {
  const jobs = jobsOf(state);
  const at = selectedIndex(state, jobs);
  const to = moved(key, at, jobs.length, Math.max(1, state.rows - 8 - detailHeight(state, jobs.length > 0)));
  if (to !== null) return only({ ...state, jobs: { selected: jobs[to]?.job ?? null } });
  const job = jobs[at];
  switch (key) {
    case 'B':
      return propose(state, scrub());
    case 'R':
      return propose(state, repair(state));
    case 'L':
      return propose(state, rebalance('start'));
    case 'I':
      return propose(state, repairSpeed(nextSpeed(speedOf(state))));
    case 'P':
      if (job?.kind !== 'rebalance' || !isActive(job))
        return only(flash(state, 'bad', 'not done: only a rebalance can be paused; X cancels the others'));
      return propose(state, rebalance(job.state === 'paused' ? 'resume' : 'pause'));
    case 'X':
      if (!job) return only(state);
      if (!isActive(job)) return only(flash(state, 'bad', `not done: ${job.job} has ended already`));
      if (job.kind === 'scrub') return propose(state, stopScrub());
      return propose(state, cancelJob(job));
    case 'enter':
      return only(state);
    default:
      return null;
  }
}
