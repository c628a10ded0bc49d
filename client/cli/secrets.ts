/**
 * What opens an encrypted volume, read from files only (arguments are seen by every user of a machine). In this order: --key-file or
 * --passphrase-file, HOLDFAST_KEY_FILE or HOLDFAST_PASSPHRASE_FILE, and for the main volume the key that scripts/up made.
 */
import { existsSync, readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import type { Unlock } from '../api.js';
import { passphraseIn } from '../volume-key.js';
import { CliError, EXIT } from './exit-codes.js';

export interface SecretOptions {
  readonly keyFile?: string;
  readonly passphraseFile?: string;
}

/** Where scripts/up keeps the key of the main volume, in its state directory. */
export const LOCAL_KEY_FILE = 'volume-key';

/**
 * undefined when nothing was given.
 * @throws {CliError} usage, when both kinds are given; not found or denied, when the file cannot be read
 */
export function findUnlock(
  given: SecretOptions,
  env: Readonly<Record<string, string | undefined>>,
  localKeyFile: string | undefined,
): Unlock | undefined {
  const isSaid = given.keyFile !== undefined || given.passphraseFile !== undefined;
  const keyFile = isSaid ? given.keyFile : env.HOLDFAST_KEY_FILE;
  const passphraseFile = isSaid ? given.passphraseFile : env.HOLDFAST_PASSPHRASE_FILE;
  if (keyFile !== undefined && passphraseFile !== undefined)
    throw new CliError('a key file and a passphrase file are given: give the one that the volume was encrypted with', EXIT.usage);
  if (keyFile !== undefined) return { keyFile: readKeyFile(keyFile) };
  if (passphraseFile !== undefined) return { passphrase: readPassphraseFile(passphraseFile) };
  return localKeyFile !== undefined && existsSync(localKeyFile) ? { keyFile: readKeyFile(localKeyFile) } : undefined;
}

/** @throws {CliError} */
export const readKeyFile = (file: string): Buffer => read(file, 'key file');

/** The first line is the passphrase. @throws {CliError} */
export function readPassphraseFile(file: string): string {
  const line = passphraseIn(read(file, 'passphrase file'));
  if (line === '') throw new CliError(`the passphrase file ${file} has an empty first line`, EXIT.usage);
  return line;
}

function read(file: string, what: string): Buffer {
  try {
    return readFileSync(resolve(file));
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') throw new CliError(`there is no ${what} ${file}`, EXIT.notFound, 'NO_KEY');
    throw new CliError(`cannot read the ${what} ${file}: ${message}`, EXIT.denied, 'NO_KEY');
  }
}
