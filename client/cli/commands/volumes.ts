/** volume: list, create, set, delete. */
import type { VolumeChange, VolumeStatus } from '../../../protocol/access-calls.js';
import type { Context } from '../context.js';
import { CliError, EXIT } from '../exit-codes.js';
import { sizeWords, table } from '../words.js';

/** As the options of `volume create` and `volume set` give them. */
export interface VolumeOptions {
  readonly copies?: number;
  readonly chunkSize?: number;
  readonly quota?: number | null;
  readonly quotaFiles?: number | null;
}

const changeOf = ({ copies, chunkSize, quota, quotaFiles }: VolumeOptions): VolumeChange => ({
  ...(copies === undefined ? {} : { copies }),
  ...(chunkSize === undefined ? {} : { chunkSizeBytes: chunkSize }),
  ...(quota === undefined ? {} : { quotaBytes: quota }),
  ...(quotaFiles === undefined ? {} : { quotaFiles }),
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
  const settings = { name, ...changeOf(options) };
  const { text, volume } = options.encrypt
    ? await (await import('./encryption.js')).withNewEncryption(context, (encryption) =>
        admin.call('createVolume', { ...settings, encryption }),
      )
    : await admin.call('createVolume', settings);
  if (context.isJson) context.json({ schema: 1, text, volume });
  else context.print(text);
}

export async function set(context: Context, options: VolumeOptions, name: string): Promise<void> {
  const change = changeOf(options);
  if (Object.keys(change).length === 0) throw new CliError('nothing to set: say what, e.g. --quota 10G', EXIT.usage);
  const admin = await context.admin();
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
