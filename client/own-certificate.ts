/**
 * A user's certificate for one cluster, when none is named: asked for by his token the first time, kept below ~/.config/holdfast/certificates (0700), and
 * asked for again when its end is near. Only tokens that say which authority to believe do this; others need --tls-ca and a certificate made by hand.
 */
import { createHash, randomBytes, X509Certificate } from 'node:crypto';
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { keyPair } from '../protocol/certificate.js';
import { askForCertificate, authorityOf, fetchAuthority, secretOf, signRequest } from '../protocol/enrolment.js';
import { type PeerTls, readTls, type TlsFiles } from '../protocol/tls.js';

const RENEWED_BEFORE_END_MS = 14 * 86_400_000;

/**
 * What to connect to a coordinator with.
 * @throws {HoldfastError} EINVAL, UNREACHABLE, UNAUTHORIZED
 */
export async function peerTls(
  url: string,
  token: string,
  given: TlsFiles,
  env: Readonly<Record<string, string | undefined>> = process.env,
): Promise<PeerTls> {
  const named = await readTls(given);
  if (named.cert !== undefined || new URL(url).protocol !== 'https:' || authorityOf(token) === undefined) return named;
  const base = join(env.XDG_CONFIG_HOME ?? join(env.HOME ?? homedir(), '.config'), 'holdfast', 'certificates');
  const directory = join(base, createHash('sha256').update(secretOf(token)).digest('hex').slice(0, 16));
  const kept = await keptIn(directory);
  if (kept) return kept;
  const ca = named.ca ?? (await fetchAuthority(url, token));
  const { pem: key } = keyPair();
  const cert = await askForCertificate(url, ca, key, signRequest({ token, role: 'client', name: 'user', hosts: [] }, key));
  const made = { ca, cert, key };
  // Where nothing can be kept it serves this once.
  await keep(base, directory, made).catch(() => {});
  return made;
}

const files = { ca: 'ca.pem', cert: 'cert.pem', key: 'key.pem' } as const;

async function keptIn(directory: string): Promise<PeerTls | undefined> {
  try {
    const read = (name: keyof typeof files): Promise<string> => readFile(join(directory, files[name]), 'utf8');
    const kept = { ca: await read('ca'), cert: await read('cert'), key: await read('key') };
    return Date.parse(new X509Certificate(kept.cert).validTo) - Date.now() > RENEWED_BEFORE_END_MS ? kept : undefined;
  } catch {
    return undefined;
  }
}

/** As a whole: another command at the same time finds all of it or nothing. */
async function keep(base: string, directory: string, made: Required<PeerTls>): Promise<void> {
  await mkdir(base, { recursive: true, mode: 0o700 });
  const next = `${directory}.${randomBytes(4).toString('hex')}`;
  try {
    await mkdir(next, { mode: 0o700 });
    for (const name of ['ca', 'cert', 'key'] as const) await writeFile(join(next, files[name]), made[name], { mode: 0o600, flag: 'wx' });
    await rm(directory, { recursive: true, force: true });
    await rename(next, directory);
  } finally {
    await rm(next, { recursive: true, force: true });
  }
}
