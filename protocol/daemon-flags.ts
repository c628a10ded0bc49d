/** Options that every daemon has, and how their values are read. Each can also come from an environment variable HOLDFAST_<NAME>. */
import { readFile } from 'node:fs/promises';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { HoldfastError } from './errors.js';
import type { TlsFiles } from './tls.js';

export interface DaemonFlags extends TlsFiles {
  readonly data: string;
  readonly listen: { host: string; port: number };
  readonly insecure: boolean;
  readonly logLevel: string;
}

/** @param name of the environment variable after HOLDFAST_ */
export const option = (flags: string, description: string, name: string): Option => new Option(flags, description).env(`HOLDFAST_${name}`);

/** @param more what the help says besides */
export const listenOption = (port: number, more = ''): Option =>
  option('--listen <host:port>', `where to listen; port 0 = any free one${more}`, 'LISTEN')
    .default({ host: '127.0.0.1', port }, `127.0.0.1:${port}`)
    .argParser(addressOf);

/** @param ca what `--tls-ca` makes this daemon do */
export const withTlsOptions = (command: Command, ca: string): Command =>
  command
    .addOption(option('--tls-key <file>', 'private key, PEM: serve HTTPS', 'TLS_KEY'))
    .addOption(option('--tls-cert <file>', 'certificate, PEM', 'TLS_CERT'))
    .addOption(option('--tls-ca <file>', `the cluster's certificate authority, PEM: ${ca}`, 'TLS_CA'));

export const withCommonOptions = (command: Command): Command =>
  command
    .addOption(option('--insecure', 'allow listening beyond this machine without TLS', 'INSECURE').default(false))
    .addOption(
      option('--log-level <level>', 'debug, info, warn or error', 'LOG_LEVEL').choices(['debug', 'info', 'warn', 'error']).default('info'),
    );

function addressOf(text: string): { host: string; port: number } {
  const match = /^(?:\[([^\]]+)\]|([^:]*)):(\d{1,5})$/.exec(text);
  const port = Number(match?.[3]);
  if (!match || port > 65535) throw new InvalidArgumentError('Must be host:port, e.g. 127.0.0.1:4700.');
  return { host: match[1] ?? (match[2] || '127.0.0.1'), port };
}

/** Reads "1M", "500G", "1073741824". */
export function bytesOf(text: string): number {
  const match = /^(\d+(?:\.\d+)?)([KMGT]?)(?:i?B)?$/i.exec(text);
  if (!match) throw new InvalidArgumentError('Must be a number of bytes, e.g. 1073741824 or 500G.');
  return Math.round(Number(match[1]) * 1024 ** ' KMGT'.indexOf((match[2] || ' ').toUpperCase()));
}

export const integerBetween =
  (min: number, max: number) =>
  (text: string): number => {
    const value = Number(text);
    if (!/^\d+$/.test(text) || value < min || value > max) throw new InvalidArgumentError(`Must be a whole number from ${min} to ${max}.`);
    return value;
  };

/** The file an option names. @throws {HoldfastError} EINVAL with option, file and reason */
export async function readNamedFile(path: string, flag: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    throw new HoldfastError('EINVAL', `${flag} ${path} cannot be read: ${(error as NodeJS.ErrnoException).code ?? 'unknown reason'}`);
  }
}
