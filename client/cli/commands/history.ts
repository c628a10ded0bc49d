/** clone, snapshot and trash: the past of a volume. */
import type { Context } from '../context.js';
import { EXIT } from '../exit-codes.js';
import { countWords, durationWords, printable, sizeWords, table, timeWords } from '../words.js';
import { confirm } from './files.js';

/** Trees of any size: the coordinator answers when all of it is done. */
const LONG_MS = 3_600_000;

export async function clone(context: Context, _options: unknown, from: string, to: string): Promise<void> {
  const admin = await context.admin();
  const request = { from: context.path(from), to: context.path(to), ...context.volume };
  const done = await admin.call('clone', request, { timeoutMs: LONG_MS });
  if (context.isJson) context.json({ schema: 1, ...done });
  else context.print(printable(done.text));
}

export async function createSnapshot(context: Context, _options: unknown, name?: string): Promise<void> {
  const admin = await context.admin();
  const done = await admin.call('createSnapshot', { ...(name === undefined ? {} : { name }), ...context.volume });
  if (context.isJson) context.json({ schema: 1, ...done });
  else context.print(done.text);
}

export async function listSnapshots(context: Context): Promise<void> {
  const admin = await context.admin();
  const { snapshots, heldBytes, settings } = await admin.call('snapshots', { ...context.volume });
  if (context.isJson) return context.json({ schema: 1, snapshots, heldBytes, settings });
  const nowMs = Date.now();
  const rows = snapshots.map((one) => [
    one.name,
    timeWords(one.atMs, nowMs),
    one.files.toLocaleString('en'),
    sizeWords(one.logicalBytes),
    sizeWords(one.changedBytes),
    { manual: '', schedule: 'by schedule', restore: 'before a restore' }[one.origin],
  ]);
  if (rows.length === 0) context.note('There are no snapshots.');
  else for (const line of table([['SNAPSHOT', 'TAKEN', 'FILES', 'SIZE', 'CHANGED AFTER', ''], ...rows], [2, 3, 4])) context.print(line);
  if (heldBytes > 0) context.note(`${sizeWords(heldBytes)} of data are kept for snapshots alone.`);
  if (settings.snapshotEveryMs > 0)
    context.note(`One is taken every ${durationWords(settings.snapshotEveryMs)}; the last ${settings.snapshotKeep} of these are kept.`);
}

export async function diffSnapshot(context: Context, options: { to?: string; most?: number }, name: string, path = '/'): Promise<void> {
  const admin = await context.admin();
  const { changes, isCut } = await admin.call(
    'diffSnapshot',
    {
      ...{ name, path: context.path(path), limit: options.most ?? 1000 },
      ...(options.to === undefined ? {} : { other: options.to }),
      ...context.volume,
    },
    { timeoutMs: LONG_MS },
  );
  if (context.isJson) return context.json({ schema: 1, changes, isCut });
  const signs = { added: '+', removed: '-', changed: '~', renamed: '>' };
  for (const { change, path: at, from, kind } of changes) {
    const folder = kind === 'directory' ? '/' : '';
    context.print(`${signs[change]} ${printable(from === undefined ? at + folder : `${from}${folder} -> ${at}${folder}`)}`);
  }
  if (isCut) context.note('There is more: --most shows it.');
  else if (changes.length === 0) context.note('No difference.');
}

export async function restoreSnapshot(context: Context, options: { yes?: boolean }, name: string, path = '/'): Promise<number> {
  const at = context.path(path);
  if (!options.yes && at === '/' && !(await confirm(context, `Put everything in the volume back to snapshot ${name}?`))) return EXIT.error;
  const admin = await context.admin();
  const done = await admin.call('restoreSnapshot', { name, path: at, ...context.volume }, { timeoutMs: LONG_MS });
  if (context.isJson) context.json({ schema: 1, ...done });
  else context.print(printable(done.text));
  return EXIT.ok;
}

export async function deleteSnapshot(context: Context, _options: unknown, names: string[]): Promise<void> {
  const admin = await context.admin();
  for (const name of names) {
    const done = await admin.call('deleteSnapshot', { name, ...context.volume });
    if (context.isJson) context.json({ schema: 1, name, ...done });
    else context.print(done.text);
  }
}

export async function listTrash(context: Context, options: { most?: number }, path = '/'): Promise<void> {
  const admin = await context.admin();
  const answer = await admin.call('trash', { path: context.path(path), limit: options.most ?? 200, ...context.volume });
  if (context.isJson) return context.json({ schema: 1, ...answer });
  const { files, total, totalBytes, settings } = answer;
  const nowMs = Date.now();
  const rows = files.map((file) => [
    timeWords(file.deletedAtMs, nowMs),
    sizeWords(file.sizeBytes),
    file.user,
    printable(file.path),
    [...(file.isOpen ? ['still open'] : []), ...(file.isShortLived ? ['short-lived'] : [])].join(', '),
  ]);
  if (rows.length > 0) for (const line of table([['DELETED', 'SIZE', 'BY', 'PATH', ''], ...rows], [1])) context.print(line);
  context.note(`${countWords(total, 'deleted file')}, ${sizeWords(totalBytes)}${files.length < total ? '; --most shows more' : ''}.`);
  if (settings.trashKeepMs > 0) {
    const short = files.some((file) => file.isShortLived) ? '; what was there for less than a minute, for 10 min' : '';
    context.note(`They are kept for ${durationWords(settings.trashKeepMs)}${short}, less when room runs out.`);
  } else context.note('Deleted files are not kept: "holdfast volume set NAME --trash-keep 24h" changes that.');
}

export async function restoreTrash(context: Context, options: { to?: string }, path: string): Promise<number> {
  const admin = await context.admin();
  const done = await admin.call(
    'restoreTrash',
    { path: context.path(path), ...(options.to === undefined ? {} : { to: context.path(options.to) }), ...context.volume },
    { timeoutMs: LONG_MS },
  );
  if (context.isJson) context.json({ schema: 1, ...done });
  else {
    context.print(printable(done.text));
    for (const { path: at, why } of done.failed) context.note(`  ${printable(at)}: ${printable(why)}`);
  }
  return done.failed.length > 0 ? EXIT.partial : EXIT.ok;
}

export async function emptyTrash(context: Context, options: { olderThan?: number; yes?: boolean }, path = '/'): Promise<number> {
  if (!options.yes && !(await confirm(context, 'Delete them for good?'))) return EXIT.error;
  const admin = await context.admin();
  const request = { path: context.path(path), olderThanMs: options.olderThan ?? 0, ...context.volume };
  const done = await admin.call('emptyTrash', request, { timeoutMs: LONG_MS });
  if (context.isJson) context.json({ schema: 1, ...done });
  else context.print(done.text);
  return EXIT.ok;
}
