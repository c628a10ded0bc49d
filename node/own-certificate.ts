/**
 * The node's own certificate, when nobody gave it one: asked for with the token it joins by, and kept beside its identity (certificate.json, 0600). The key is on
 * stable storage before it is named to anybody: a reply that is lost is asked for again with the same key, which is all a join token allows.
 */
import { X509Certificate } from 'node:crypto';
import { z } from 'zod';
import { keyPair } from '../protocol/certificate.js';
import { askForCertificate, authorityOf, fetchAuthority, signRequest } from '../protocol/enrolment.js';
import { type Environment, sleep, wallMs } from '../protocol/environment.js';
import { HoldfastError, isCode } from '../protocol/errors.js';
import type { PeerTls } from '../protocol/tls.js';
import type { NodeState } from './node-state.js';

const RENEWED_BEFORE_END_MS = 90 * 86_400_000;
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 10_000;

const storedSchema = z.object({
  format: z.literal(1, 'this certificate was written by a newer version of Holdfast: use that version'),
  key: z.string(),
  ca: z.string(),
  cert: z.string().optional(),
});

export interface CertificateParts {
  readonly state: NodeState;
  readonly environment: Environment;
  readonly coordinator: string;
  readonly name: string;
  /** By which others reach the node. */
  readonly hosts: readonly string[];
  /** Join token, or the cluster's node token. */
  readonly token: string | undefined;
  /** The authority, when it was given (PEM); else it is the one the token names. */
  readonly ca: string | undefined;
}

/**
 * undefined when there is none and nothing to ask for one by.
 * @throws {HoldfastError} what the coordinator refuses; an absent coordinator is waited for
 */
export async function ownCertificate(parts: CertificateParts): Promise<PeerTls | undefined> {
  const { state, environment, token } = parts;
  const value = await state.load('certificate');
  const parsed = value === undefined ? undefined : storedSchema.safeParse(value);
  if (parsed && !parsed.success)
    throw new HoldfastError('REFUSED', `certificate.json cannot be used: ${parsed.error.issues[0]?.message ?? 'malformed'}`);
  const stored = parsed?.data;
  if (stored?.cert !== undefined) return await renewed(parts, { ...stored, cert: stored.cert });
  if (token === undefined || (parts.ca === undefined && authorityOf(token) === undefined)) return undefined;
  // One key, however often it has to be asked.
  const key = stored?.key ?? keyPair().pem;
  return await patiently(parts, async () => {
    const ca = parts.ca ?? (await fetchAuthority(parts.coordinator, token));
    await state.save('certificate', { format: 1, key, ca });
    const cert = await ask(parts, ca, key, token);
    await state.save('certificate', { format: 1, key, ca, cert });
    environment.log('info', 'the cluster has given this node a certificate', { validTo: new X509Certificate(cert).validTo });
    return { ca, key, cert };
  });
}

const ask = ({ coordinator, name, hosts }: CertificateParts, ca: string, key: string, token: string): Promise<string> =>
  askForCertificate(coordinator, ca, key, signRequest({ token, role: 'node', name, hosts: [...hosts] }, key));

/** Near its end another one is asked for by the node's own token; should that fail, the one there is serves as long as it may. */
async function renewed(parts: CertificateParts, { key, ca, cert }: { key: string; ca: string; cert: string }): Promise<PeerTls> {
  const { environment, state } = parts;
  const leftMs = Date.parse(new X509Certificate(cert).validTo) - wallMs(environment);
  if (leftMs > RENEWED_BEFORE_END_MS) return { ca, key, cert };
  try {
    const own = (await state.load('credentials')) as { token?: string } | undefined;
    const token = parts.token ?? own?.token;
    if (token === undefined) throw new HoldfastError('EINVAL', 'there is no token to ask for another one by');
    const next = await ask(parts, ca, key, token);
    await state.save('certificate', { format: 1, key, ca, cert: next });
    return { ca, key, cert: next };
  } catch (error) {
    environment.log('warn', "this node's certificate nears its end and could not be renewed", {
      validTo: new X509Certificate(cert).validTo,
      error: String(error),
    });
    return { ca, key, cert };
  }
}

async function patiently<T>({ environment }: CertificateParts, attempt: () => Promise<T>): Promise<T> {
  for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS)) {
    try {
      return await attempt();
    } catch (error) {
      if (!isCode(error, 'UNREACHABLE', 'NOT_READY')) throw error;
      environment.log('warn', 'no certificate yet', { reason: error.message });
      await sleep(environment, pauseMs);
    }
  }
}
