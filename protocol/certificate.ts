/**
 * X.509 certificates of a cluster: its authority, and what it issues to coordinator, nodes and clients. Node can verify certificates but not make
 * them; what a certificate of ours needs of DER (RFC 5280, X.690) fits on this page, so there is no library for it. Keys are P-256, signatures ECDSA with SHA-256,
 * made by OpenSSL through node:crypto; only the bytes around them are put together here.
 */
import { createHash, createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject, sign, X509Certificate } from 'node:crypto';
import { isIP } from 'node:net';

export interface KeyAndCertificate {
  /** PEM, PKCS #8. */
  readonly key: string;
  /** PEM. */
  readonly cert: string;
}

const AUTHORITY_DAYS = 3650;
export const CERTIFICATE_DAYS = 825;
const DAY_MS = 86_400_000;
/** Clocks of machines differ. */
const BACKDATED_MS = 3_600_000;

// DER: tag, length, content.

function der(tag: number, ...content: Buffer[]): Buffer {
  const body = Buffer.concat(content);
  if (body.length < 0x80) return Buffer.concat([Buffer.from([tag, body.length]), body]);
  const length: number[] = [];
  for (let rest = body.length; rest > 0; rest = Math.floor(rest / 256)) length.unshift(rest % 256);
  return Buffer.concat([Buffer.from([tag, 0x80 + length.length, ...length]), body]);
}
const sequence = (...content: Buffer[]): Buffer => der(0x30, ...content);
const octets = (content: Buffer): Buffer => der(0x04, content);
const bits = (content: Buffer, unusedBits = 0): Buffer => der(0x03, Buffer.from([unusedBits]), content);
const boolean = (value: boolean): Buffer => der(0x01, Buffer.from([value ? 0xff : 0]));
/** A positive number: a leading bit that is set would mean a negative one. */
const integer = (bytes: Buffer): Buffer => der(0x02, (bytes[0] ?? 0) & 0x80 ? Buffer.concat([Buffer.from([0]), bytes]) : bytes);
const utf8 = (text: string): Buffer => der(0x0c, Buffer.from(text, 'utf8'));

function oid(dotted: string): Buffer {
  const [first = 0, second = 0, ...rest] = dotted.split('.').map(Number);
  const bytes = [first * 40 + second];
  for (const part of rest) {
    const digits = [part & 0x7f];
    for (let more = part >>> 7; more > 0; more >>>= 7) digits.unshift(0x80 | (more & 0x7f));
    bytes.push(...digits);
  }
  return der(0x06, Buffer.from(bytes));
}

/** UTCTime up to 2049, GeneralizedTime from then on. */
function time(ms: number): Buffer {
  const text = new Date(ms).toISOString().replace(/[-:T]/g, '').replace(/\.\d+/, '');
  return Number(text.slice(0, 4)) < 2050 ? der(0x17, Buffer.from(text.slice(2))) : der(0x18, Buffer.from(text));
}

const nameOf = (commonName: string): Buffer => sequence(der(0x31, sequence(oid('2.5.4.3'), utf8(commonName))));
const extension = (id: string, isCritical: boolean, value: Buffer): Buffer =>
  sequence(oid(id), ...(isCritical ? [boolean(true)] : []), octets(value));

function ipBytes(address: string): Buffer {
  if (isIP(address) === 4) return Buffer.from(address.split('.').map(Number));
  const [head = '', tail] = address.split('::');
  const groups = (text: string | undefined): number[] => (text ? text.split(':').map((group) => Number.parseInt(group, 16)) : []);
  const [front, back] = [groups(head), groups(tail)];
  const all = tail === undefined ? front : [...front, ...Array<number>(8 - front.length - back.length).fill(0), ...back];
  return Buffer.from(all.flatMap((group) => [group >> 8, group & 0xff]));
}
/** DNS names and addresses, each in its own form: a client compares them so. */
const alternativeNames = (hosts: readonly string[]): Buffer =>
  sequence(...hosts.map((host) => (isIP(host) === 0 ? der(0x82, Buffer.from(host, 'ascii')) : der(0x87, ipBytes(host)))));

/** RFC 5280 4.2.1.2, method 1: SHA-1 of the key bits. A label to find keys by, not a matter of trust. */
function keyIdentifier(publicKey: KeyObject): Buffer {
  const { x, y } = publicKey.export({ format: 'jwk' });
  const point = Buffer.concat([Buffer.from([4]), Buffer.from(x ?? '', 'base64url'), Buffer.from(y ?? '', 'base64url')]);
  return createHash('sha1').update(point).digest();
}

const ECDSA_SHA256 = sequence(oid('1.2.840.10045.4.3.2'));
const pem = (bytes: Buffer): string =>
  `-----BEGIN CERTIFICATE-----\n${(bytes.toString('base64').match(/.{1,64}/g) ?? []).join('\n')}\n-----END CERTIFICATE-----\n`;

interface Request {
  readonly subject: string;
  readonly publicKey: KeyObject;
  readonly issuer: string;
  readonly issuerKey: KeyObject;
  readonly days: number;
  readonly nowMs: number;
  readonly serial: Buffer;
  readonly extensions: readonly Buffer[];
}

function certificate(request: Request): string {
  const { publicKey, issuerKey, nowMs } = request;
  const identifiers = [
    extension('2.5.29.14', false, octets(keyIdentifier(publicKey))),
    extension('2.5.29.35', false, sequence(der(0x80, keyIdentifier(createPublicKey(issuerKey))))),
  ];
  const toBeSigned = sequence(
    der(0xa0, integer(Buffer.from([2]))), // version 3
    integer(request.serial),
    ECDSA_SHA256,
    nameOf(request.issuer),
    sequence(time(nowMs - BACKDATED_MS), time(nowMs + request.days * DAY_MS)),
    nameOf(request.subject),
    publicKey.export({ type: 'spki', format: 'der' }),
    der(0xa3, sequence(...request.extensions, ...identifiers)),
  );
  return pem(sequence(toBeSigned, ECDSA_SHA256, bits(sign('sha256', toBeSigned, issuerKey))));
}

/** Sixteen random bytes that read as a positive number which does not begin with zero. */
function serialFrom(random: Buffer): Buffer {
  const serial = Buffer.from(random);
  serial.writeUInt8((serial.readUInt8(0) & 0x7f) | 0x40, 0);
  return serial;
}

/** P-256. `pem`: the private key. */
export const keyPair = (): { publicKey: KeyObject; privateKey: KeyObject; pem: string } => {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  return { publicKey, privateKey, pem: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString() };
};

/** A certificate authority for one cluster. @param random 16 bytes */
export function newAuthority(commonName: string, nowMs: number, random: Buffer): KeyAndCertificate {
  const { publicKey, privateKey, pem: key } = keyPair();
  const extensions = [
    extension('2.5.29.19', true, sequence(boolean(true), integer(Buffer.from([0])))), // an authority, for end certificates only
    extension('2.5.29.15', true, bits(Buffer.from([0x06]), 1)), // signs certificates and revocation lists
  ];
  const names = { subject: commonName, issuer: commonName };
  return {
    key,
    cert: certificate({ ...names, publicKey, issuerKey: privateKey, days: AUTHORITY_DAYS, nowMs, serial: serialFrom(random), extensions }),
  };
}

/**
 * A certificate for one peer, good for serving as `hosts` and for connecting.
 * @param hosts names and addresses by which others reach it; none for a peer that only connects
 */
export function issueCertificate(
  authority: KeyAndCertificate,
  commonName: string,
  hosts: readonly string[],
  nowMs: number,
  random: Buffer,
): KeyAndCertificate {
  const { publicKey, pem: key } = keyPair();
  return { key, cert: certifyKey(authority, publicKey, { commonName, hosts, days: CERTIFICATE_DAYS }, nowMs, random) };
}

/** The same for a key that somebody else has made and keeps. @param publicKey on P-256 */
export function certifyKey(
  authority: KeyAndCertificate,
  publicKey: KeyObject,
  { commonName, hosts, days }: { readonly commonName: string; readonly hosts: readonly string[]; readonly days: number },
  nowMs: number,
  random: Buffer,
): string {
  const extensions = [
    extension('2.5.29.19', true, sequence()),
    extension('2.5.29.15', true, bits(Buffer.from([0x80]), 7)), // digital signature
    extension('2.5.29.37', false, sequence(oid('1.3.6.1.5.5.7.3.2'), ...(hosts.length > 0 ? [oid('1.3.6.1.5.5.7.3.1')] : []))),
    ...(hosts.length > 0 ? [extension('2.5.29.17', false, alternativeNames(hosts))] : []),
  ];
  return certificate({
    ...{ subject: commonName, issuer: commonNameOf(authority.cert) },
    ...{ publicKey, issuerKey: createPrivateKey(authority.key), days, nowMs, serial: serialFrom(random), extensions },
  });
}

function commonNameOf(cert: string): string {
  const { subject } = new X509Certificate(cert);
  return /^CN=(.*)$/m.exec(subject)?.[1] ?? subject;
}
