/** volume create --encrypt, volume encrypt, volume rekey, volume key: the key is made, wrapped and opened here, never at the coordinator. */
import { randomBytes } from 'node:crypto';
import { existsSync, rmSync } from 'node:fs';
import type { Unlock } from '../../api.js';
import { writeKeyFile } from '../../key-file.js';
import { newEncryption, openVolumeKey, rewrap, type VolumeEncryption } from '../../volume-key.js';
import type { Context } from '../context.js';
import { CliError, EXIT } from '../exit-codes.js';
import { readKeyFile, readPassphraseFile, type SecretOptions } from '../secrets.js';

export interface RekeyOptions {
  readonly newKeyFile?: string;
  readonly newPassphraseFile?: string;
  readonly add?: boolean;
}

/** The secret for a new wrapping. A key file that is not there yet is made. */
function secretFor(
  context: Context,
  { keyFile, passphraseFile }: SecretOptions,
  options: string,
): { secret: Unlock; made: string | undefined } {
  if ((keyFile === undefined) === (passphraseFile === undefined))
    throw new CliError(`say how the volume is opened: ${options} (one of the two)`, EXIT.usage);
  if (passphraseFile !== undefined) return { secret: { passphrase: readPassphraseFile(passphraseFile) }, made: undefined };
  const file = keyFile as string;
  const made = existsSync(file) ? undefined : file;
  if (made !== undefined) {
    writeKeyFile(made);
    context.note(`A new key is in ${made}. Keep copies of it elsewhere: without it nobody can read the volume, ever.`);
  }
  return { secret: { keyFile: readKeyFile(file) }, made };
}

/** Runs what the secret is for; when that fails, a key that was made for it goes again. */
async function using<T>({ made }: { made: string | undefined }, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (made !== undefined) rmSync(made, { force: true });
    throw error;
  }
}

/** Wraps a fresh volume key and has `apply` store it at the coordinator. */
export async function withNewEncryption<T>(context: Context, apply: (encryption: VolumeEncryption) => Promise<T>): Promise<T> {
  const secret = secretFor(context, context.options, '--key-file FILE or --passphrase-file FILE');
  return using(secret, async () => apply(await newEncryption(secret.secret, randomBytes)));
}

const tell = (context: Context, volume: string, text: string): void => {
  if (context.isJson) context.json({ schema: 1, volume, text });
  else context.print(text);
};

/** `volume encrypt`: switches encryption on for a volume that is still empty. */
export async function encrypt(context: Context, _options: unknown, name: string): Promise<void> {
  const admin = await context.admin();
  const { encryption } = await settingsOf(context, name);
  if (encryption)
    throw new CliError(`volume ${name} is encrypted already: "holdfast volume rekey ${name}" changes its key`, EXIT.conflict, 'EEXIST');
  await withNewEncryption(context, (made) => admin.call('setVolume', { volume: name, encryption: made }));
  tell(context, name, `volume ${name} is encrypted: whoever uses it gives its key`);
}

/** `volume rekey`: the same volume key under another secret; no data are written again. */
export async function rekey(context: Context, options: RekeyOptions, name: string): Promise<void> {
  const admin = await context.admin();
  const { encryption } = await settingsOf(context, name);
  if (!encryption) throw new CliError(`volume ${name} is not encrypted`, EXIT.usage);
  const unlock = context.unlock(name);
  if (!unlock) throw new CliError(`give what opens volume ${name} now: --key-file FILE or --passphrase-file FILE`, EXIT.usage);
  // First, so that a wrong one changes nothing and leaves no new key behind.
  await openVolumeKey(encryption, unlock, name);
  const given: SecretOptions = {
    ...(options.newKeyFile === undefined ? {} : { keyFile: options.newKeyFile }),
    ...(options.newPassphraseFile === undefined ? {} : { passphraseFile: options.newPassphraseFile }),
  };
  const next = secretFor(context, given, '--new-key-file FILE or --new-passphrase-file FILE');
  await using(next, async () => {
    const wrapped = await rewrap(encryption, unlock, next.secret, options.add === true, name, randomBytes);
    await openVolumeKey(wrapped, next.secret, name);
    await admin.call('setVolume', { volume: name, encryption: wrapped });
  });
  tell(
    context,
    name,
    options.add
      ? `volume ${name} opens with the new key as well`
      : `volume ${name} opens with the new key only; what runs now goes on with the old one until it is started again`,
  );
}

/** `volume key FILE`: a key file alone. */
export function makeKey(context: Context, _options: unknown, file: string): void {
  writeKeyFile(file);
  tell(context, '', `a new key is in ${file}; keep copies of it elsewhere`);
}

async function settingsOf(context: Context, name: string): Promise<{ encryption: Record<string, unknown> | null }> {
  const admin = await context.admin();
  const found = (await admin.call('listVolumes', {})).volumes.find((one) => one.name === name);
  if (!found)
    throw new CliError(`there is no volume ${name}, or it is not yours: "holdfast volume list" shows yours`, EXIT.notFound, 'ENOENT');
  return found;
}
