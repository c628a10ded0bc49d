/**
 * How a newcomer gets a certificate of the cluster: it makes a key of its own, shows its token (a node its join token, a user his) and is given a
 * certificate for that key; the key never leaves the machine. Whom it shows the token to it knows beforehand: a token made by a coordinator that
 * issues certificates ends with the SHA-256 of the authority's certificate.
 *
 *   GET /ca.pem          over TLS that is not believed yet: the authority's certificate, believed when its SHA-256 is the one in the token
 *   POST /certificates   over TLS checked against that authority: the request below; answered by a certificate, or { error }
 */
import { createHash, createPrivateKey, createPublicKey, type KeyObject, sign, verify, X509Certificate } from 'node:crypto';
import { request as httpsRequest } from 'node:https';
import { z } from 'zod';
import { fromWire, HoldfastError, type WireError } from './errors.js';
import { tlsReason } from './tls.js';

export const AUTHORITY_PATH = '/ca.pem';
export const CERTIFICATES_PATH = '/certificates';
export const MAX_ENROLMENT_BYTES = 16 * 1024;
const ANSWER_TIMEOUT_MS = 10_000;
const MAX_HOSTS = 16;

export const hostName = z
  .string()
  .max(253)
  .regex(/^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$|^[0-9a-fA-F:]+$/, 'the name or address of a machine');
/** Name or address in a URL, as certificates have it: IPv6 without brackets. */
export const hostOf = (url: string): string => new URL(url).hostname.replace(/^\[|\]$/g, '');
const fields = {
  token: z.string().min(1).max(512),
  role: z.enum(['node', 'client']),
  /** Of the node; of a client the coordinator knows it by the token. */
  name: z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/),
  /** By which others reach it; none for who only connects. */
  hosts: z.array(hostName).max(MAX_HOSTS),
  /** SPKI in DER, base64; a key on P-256. */
  publicKey: z.string().max(512),
};
export const enrolmentRequest = z.object({
  ...fields,
  /** Of the rest by that key, base64: who asks has it. */ signature: z.string().max(512),
});
export type EnrolmentRequest = z.infer<typeof enrolmentRequest>;
const enrolmentReply = z.object({ cert: z.string().max(64 * 1024) });

/** A token as people carry it: the secret, and what the coordinator is known by. */
export const withAuthority = (token: string, fingerprint: string | undefined): string =>
  fingerprint === undefined ? token : `${token}.${fingerprint}`;
export const secretOf = (token: string): string => token.split('.', 1)[0] ?? '';
export const authorityOf = (token: string): string | undefined => token.split('.')[1];
/** SHA-256 of a certificate, base64url. @param cert PEM */
export const fingerprintOf = (cert: string): string => createHash('sha256').update(new X509Certificate(cert).raw).digest('base64url');

const signedPart = ({ token, role, name, hosts, publicKey }: Omit<EnrolmentRequest, 'signature'>): Buffer =>
  Buffer.from(JSON.stringify(['holdfast-certificate-1', token, role, name, hosts, publicKey]));

/** @param key private, PEM */
export function signRequest(request: Omit<EnrolmentRequest, 'signature' | 'publicKey'>, key: string): EnrolmentRequest {
  const privateKey = createPrivateKey(key);
  const publicKey = createPublicKey(privateKey).export({ type: 'spki', format: 'der' }).toString('base64');
  const unsigned = { ...request, publicKey };
  return { ...unsigned, signature: sign('sha256', signedPart(unsigned), privateKey).toString('base64') };
}

/** The key a request is for. @throws {HoldfastError} EINVAL when it is of another kind, or who asks does not have it */
export function checkedKey(request: EnrolmentRequest): KeyObject {
  let key: KeyObject;
  try {
    key = createPublicKey({ key: Buffer.from(request.publicKey, 'base64'), format: 'der', type: 'spki' });
  } catch {
    throw new HoldfastError('EINVAL', 'the public key cannot be read');
  }
  if (key.asymmetricKeyType !== 'ec' || key.asymmetricKeyDetails?.namedCurve !== 'prime256v1')
    throw new HoldfastError('EINVAL', 'certificates are for keys on P-256 only');
  if (!verify('sha256', signedPart(request), key, Buffer.from(request.signature, 'base64')))
    throw new HoldfastError('EINVAL', 'the request is not signed by the key it names');
  return key;
}

/**
 * The authority's certificate (PEM), when the coordinator has the one that the token names.
 * @throws {HoldfastError} UNREACHABLE; UNAUTHORIZED when it is another one: the token has not been shown to it
 */
export async function fetchAuthority(url: string, token: string): Promise<string> {
  const { status, text } = await exchange(new URL(AUTHORITY_PATH, url), { rejectUnauthorized: false });
  if (status === 404) throw notIssued(url);
  let found: string | undefined;
  try {
    found = fingerprintOf(text);
  } catch {
    // Told below.
  }
  if (status !== 200 || found === undefined || found !== authorityOf(token))
    throw new HoldfastError(
      'UNAUTHORIZED',
      `the coordinator at ${url} is not of the cluster that made this token: its certificate authority is another one. The token was not sent`,
    );
  return text;
}

/**
 * Asks for a certificate. @param ca the authority that is believed, PEM. @param key private, PEM
 * @returns PEM. @throws {HoldfastError} UNREACHABLE; what the coordinator refuses
 */
export async function askForCertificate(url: string, ca: string, key: string, request: EnrolmentRequest): Promise<string> {
  const { status, text } = await exchange(new URL(CERTIFICATES_PATH, url), { ca }, JSON.stringify(request));
  if (status === 404 || status === 405) throw notIssued(url);
  let answer: unknown;
  try {
    answer = JSON.parse(text);
  } catch {
    throw new HoldfastError('BAD_MESSAGE', `the coordinator at ${url} answered ${status} without a reason`);
  }
  const { error } = answer as { error?: WireError };
  if (error) throw fromWire(error);
  const reply = enrolmentReply.safeParse(answer);
  const cert = reply.success ? new X509Certificate(reply.data.cert) : undefined;
  if (!cert?.checkPrivateKey(createPrivateKey(key)) || !cert.verify(new X509Certificate(ca).publicKey))
    throw new HoldfastError('BAD_MESSAGE', `the coordinator at ${url} answered with a certificate that is not for our key`);
  return cert.toString();
}

const notIssued = (url: string): HoldfastError =>
  new HoldfastError(
    'EOPNOTSUPP',
    `the coordinator at ${url} issues no certificates (it was started without --tls-ca-key): make one with "holdfast cluster issue" and give --tls-cert and --tls-key`,
  );

function exchange(url: URL, tls: { ca: string } | { rejectUnauthorized: false }, body?: string): Promise<{ status: number; text: string }> {
  return new Promise((resolve, reject) => {
    const fail = (error: Error): void =>
      reject(new HoldfastError('UNREACHABLE', `cannot ask ${url.host} for a certificate: ${tlsReason(error.message)}`));
    const headers = body === undefined ? {} : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) };
    const options = { ...tls, method: body === undefined ? 'GET' : 'POST', headers, agent: false, timeout: ANSWER_TIMEOUT_MS };
    const request = httpsRequest(url, options, (response) => {
      let text = '';
      response.on('data', (data: Buffer) => {
        text += data.toString('latin1');
        if (text.length > 64 * 1024) request.destroy(new Error('the answer is too long'));
      });
      response.on('end', () => resolve({ status: response.statusCode ?? 0, text }));
      response.on('error', fail);
    });
    request.on('timeout', () => request.destroy(new Error('no answer in time')));
    request.on('error', fail);
    request.end(body);
  });
}
