/** events and jobs: what happened, and what is being done about it. */
import type { ClusterEvent, JobStatus } from '../../../protocol/admin-calls.js';
import type { Context } from '../context.js';
import { durationWords, printable, sizeWords, table, timeWords } from '../words.js';
import { aborted } from './status.js';

const PAGE = 1000;
const LEVELS = ['info', 'warn', 'error'] as const;

function eventLine(event: ClusterEvent, context: Context): string {
  const paint = event.level === 'error' ? 'bad' : event.level === 'warn' ? 'warn' : 'dim';
  return `${timeWords(event.atMs, Date.now())}  ${context.paint(paint, event.level.padEnd(5))}  ${event.kind.padEnd(20)}  ${printable(event.text)}`;
}

/** The latest events, oldest first; with `follow` also those to come, across restarts of the coordinator. */
export async function events(
  context: Context,
  options: { follow?: boolean; level?: ClusterEvent['level']; last?: number; after?: number },
): Promise<void> {
  const admin = await context.admin();
  const least = LEVELS.indexOf(options.level ?? 'info');
  const show = (event: ClusterEvent): void => {
    if (LEVELS.indexOf(event.level) < least) return;
    if (context.isJson) context.json({ schema: 1, ...event });
    else context.print(eventLine(event, context));
  };
  const { level } = options;
  const found: ClusterEvent[] = [];
  let after = options.after ?? 0;
  for (;;) {
    const page = (await admin.call('events', { after, limit: PAGE, ...(level ? { level } : {}) })).events;
    found.push(...page);
    const newest = page[page.length - 1];
    if (!newest || page.length < PAGE) break;
    after = newest.sequence;
  }
  const last = options.last ?? (options.after === undefined ? 30 : found.length);
  for (const event of found.slice(Math.max(0, found.length - last))) show(event);
  if (!options.follow) return;

  let shown = found[found.length - 1]?.sequence ?? after;
  const showNew = (rows: readonly unknown[]): void => {
    const fresh = (rows as ClusterEvent[]).filter((event) => event.sequence > shown).sort((a, b) => a.sequence - b.sequence);
    for (const event of fresh) show(event);
    shown = fresh[fresh.length - 1]?.sequence ?? shown;
  };
  admin.onConnection((isConnected, reason) =>
    context.note(isConnected ? '(connected again)' : `(coordinator lost: ${reason}; waiting for it)`),
  );
  const watch = admin.watch(
    { topic: 'events' },
    (snapshot) => showNew(snapshot.rows),
    (changes) => showNew(changes.upserts),
    (error) => context.note(error.message),
  );
  await aborted(context.interrupted.signal);
  watch.stop();
}

function jobCells(job: JobStatus): string[] {
  const share = job.totalChunks > 0 ? `${Math.floor((job.doneChunks / job.totalChunks) * 100)} %` : '-';
  const eta = job.state === 'running' && job.etaMs !== null ? `${durationWords(job.etaMs)} left` : '';
  const problem = job.errors > 0 ? `${job.errors} errors: ${printable(job.lastError ?? '')}` : '';
  return [
    job.job,
    job.kind,
    job.subject,
    job.state,
    share,
    `${job.doneChunks.toLocaleString('en')}/${job.totalChunks.toLocaleString('en')}`,
    `${sizeWords(job.bytesPerS)}/s`,
    [eta, problem].filter((text) => text !== '').join(' '),
  ];
}

export async function jobs(context: Context, options: { cancel?: string }): Promise<void> {
  const admin = await context.admin();
  if (options.cancel !== undefined) {
    const done = await admin.call('cancelJob', { job: options.cancel });
    if (context.isJson) context.json({ schema: 1, ...done });
    else context.print(done.text);
    return;
  }
  const { jobs: found } = await admin.call('jobs', {});
  if (context.isJson) context.json({ schema: 1, jobs: found });
  else if (found.length === 0) context.print('No jobs.');
  else
    for (const line of table([['JOB', 'KIND', 'WHAT', 'STATE', 'DONE', 'CHUNKS', 'RATE', ''], ...found.map(jobCells)], [4, 5, 6]))
      context.print(line);
}
