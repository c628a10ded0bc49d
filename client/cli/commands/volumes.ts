/** volume: list, create, set, delete. */
import type { VolumeChange, VolumeStatus } from '../../../protocol/access-calls.js';
import type { VolumeSettings } from '../../../protocol/entities.js';
import type { Context } from '../context.js';
import { CliError, EXIT } from '../exit-codes.js';
import { sizeWords, table } from '../words.js';

/** As the options of `volume create` and `volume set` give them. */
export interface VolumeOptions {
  readonly copies?: number;
  readonly chunkSize?: number;
  readonly quota?: number | null;
  readonly quotaFiles?: number | null;
  readonly trashKeep?: number;
  readonly snapshotEvery?: number;
  readonly snapshotKeep?: number;
}
const DEFAULT_SNAPSHOTS_KEPT = 24;

/** How often, and how many: what is not given stays as it is. */
function snapshotsOf({ snapshotEvery, snapshotKeep }: VolumeOptions, before: VolumeSettings['snapshots']): VolumeChange {
  if (snapshotEvery === undefined && snapshotKeep === undefined) return {};
  const everyMs = snapshotEvery ?? before?.everyMs ?? 0;
  if (everyMs === 0 && snapshotEvery === undefined)
    throw new CliError('no snapshots are taken by themselves: say how often, e.g. --snapshot-every 1h', EXIT.usage);
  return { snapshots: everyMs === 0 ? null : { everyMs, keep: snapshotKeep ?? before?.keep ?? DEFAULT_SNAPSHOTS_KEPT } };
}

const changeOf = ({ copies, chunkSize, quota, quotaFiles, trashKeep }: VolumeOptions): VolumeChange => ({
  ...(copies === undefined ? {} : { copies }),
  ...(chunkSize === undefined ? {} : { chunkSizeBytes: chunkSize }),
  ...(quota === undefined ? {} : { quotaBytes: quota }),
  ...(quotaFiles === undefined ? {} : { quotaFiles }),
  ...(trashKeep === undefined ? {} : { trashKeepMs: trashKeep }),
});

export async function list(context: Context): Promise<void> {
  const admin = await context.admin();
  const { volumes } = await admin.call('listVolumes', {});
  if (context.isJson) return context.json({ schema: 1, volumes });
  const rows = volumes.map((volume) => [
    volume.name,
    String(volume.copies),
    sizeWords(volume.chunkSizeBytes),
    volume.files.toLocaleString('en'),
    sizeWords(volume.logicalBytes),
    quotaWords(volume),
    volume.encryption === null ? '' : 'encrypted',
  ]);
  const head = ['VOLUME', 'COPIES', 'CHUNKS', 'FILES', 'SIZE', 'QUOTA', ''];
  for (const line of table([head, ...rows], [1, 2, 3, 4, 5])) context.print(line);
}

function quotaWords({ quotaBytes, quotaFiles, chargedBytes, chargedFiles }: VolumeStatus): string {
  const share = (used: number, quota: number): string => (quota === 0 ? 'full' : `${Math.round((used / quota) * 100)}%`);
  const parts = [
    ...(quotaBytes === null ? [] : [`${sizeWords(quotaBytes)} (${share(chargedBytes, quotaBytes)})`]),
    ...(quotaFiles === null ? [] : [`${quotaFiles.toLocaleString('en')} files (${share(chargedFiles, quotaFiles)})`]),
  ];
  return parts.join(', ') || 'none';
}

export async function create(context: Context, options: VolumeOptions & { readonly encrypt?: boolean }, name: string): Promise<void> {
  const admin = await context.admin();
  const settings = { name, ...changeOf(options), ...snapshotsOf(options, null) };
  const { text, volume } = options.encrypt
    ? await (await import('./encryption.js')).withNewEncryption(context, (encryption) =>
        admin.call('createVolume', { ...settings, encryption }),
      )
    : await admin.call('createVolume', settings);
  if (context.isJson) context.json({ schema: 1, text, volume });
  else context.print(text);
}

export async function set(context: Context, options: VolumeOptions, name: string): Promise<void> {
  const admin = await context.admin();
  const before = (await admin.call('listVolumes', {})).volumes.find((one) => one.name === name);
  const change = { ...changeOf(options), ...snapshotsOf(options, before?.snapshots) };
  if (Object.keys(change).length === 0) throw new CliError('nothing to set: say what, e.g. --quota 10G', EXIT.usage);
  const { text, volume } = await admin.call('setVolume', { volume: name, ...change });
  if (context.isJson) context.json({ schema: 1, text, volume });
  else context.print(text);
}

export async function remove(context: Context, options: { evenIfNotEmpty?: string }, name: string): Promise<void> {
  const admin = await context.admin();
  const { evenIfNotEmpty } = options;
  const { text } = await admin.call('deleteVolume', { volume: name, ...(evenIfNotEmpty === undefined ? {} : { evenIfNotEmpty }) });
  if (context.isJson) context.json({ schema: 1, text });
  else context.print(text);
}
