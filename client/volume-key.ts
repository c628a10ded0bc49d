/**
 * The volume key and its wrappings: what `encryption` in a volume's settings holds. The coordinator keeps it and understands nothing of it.
 *
 * One random volume key, wrapped once for each secret that may open it (a key file, a passphrase). Changing a secret wraps the same key anew:
 * no data are written again. Each wrapping: AES-256-GCM with a key derived from the secret, a random salt per wrapping:
 *   key file:   HKDF-SHA256(content of the file, salt)       the file holds 32 random bytes as text; nothing to be guessed
 *   passphrase: scrypt(passphrase, salt, N = 2^17, r = 8, p = 1)       128 MiB and some 0.4 s a guess (OWASP's recommendation)
 * The tag tells a wrong secret from the right one before anything is touched. What is read from the coordinator is checked like any message: costs
 * beyond a bound are refused, so that it cannot make a client use up memory.
 */
import { createCipheriv, createDecipheriv, createHmac, hkdfSync, scrypt } from 'node:crypto';
import { z } from 'zod';
import { HoldfastError } from '../protocol/errors.js';
import type { Unlock } from './api.js';
import { VOLUME_KEY_BYTES } from './volume-cipher.js';

const FORMAT = 'holdfast-volume-key-1';
const KEY_FILE_PREFIX = 'holdfast-key-1:';
const CIPHER = 'aes-256-gcm';
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const SALT_BYTES = 32;
/** Of a key file or passphrase; shorter secrets are more likely a slip than meant. */
const MIN_KEY_FILE_BYTES = 32;
const MIN_PASSPHRASE_CHARACTERS = 8;
const MAX_WRAPPINGS = 16;

export interface ScryptCost {
  readonly n: number;
  readonly r: number;
  readonly p: number;
}
export const DEFAULT_SCRYPT_COST: ScryptCost = { n: 2 ** 17, r: 8, p: 1 };
const MAX_SCRYPT_BYTES = 1024 ** 3;

const base64 = z
  .string()
  .max(1024)
  .regex(/^[A-Za-z0-9+/]+={0,2}$/);
const wrapping = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('key-file'), salt: base64, sealed: base64 }),
  z.object({
    kind: z.literal('passphrase'),
    salt: base64,
    sealed: base64,
    scrypt: z
      .object({
        n: z
          .number()
          .int()
          .min(2)
          .max(2 ** 20),
        r: z.number().int().min(1).max(32),
        p: z.number().int().min(1).max(16),
      })
      .refine(({ n, r }) => 128 * n * r <= MAX_SCRYPT_BYTES),
  }),
]);
const encryption = z.object({
  format: z.literal(FORMAT),
  /** Tells keys apart, tells nothing of the key. */
  keyId: z.string().regex(/^[0-9a-f]{16}$/),
  wrappings: z.array(wrapping).min(1).max(MAX_WRAPPINGS),
});
type Wrapping = z.infer<typeof wrapping>;
export type VolumeEncryption = z.infer<typeof encryption>;
type RandomBytes = (sizeBytes: number) => Buffer;

/** The passphrase in a passphrase file: its first line. */
export const passphraseIn = (content: Buffer): string => content.toString('utf8').split(/\r?\n/, 1)[0] ?? '';

/** What a new key file holds: one line of text. */
export const newKeyFile = (randomBytes: RandomBytes): Buffer => Buffer.from(`${KEY_FILE_PREFIX}${randomBytes(32).toString('base64')}\n`);

/** A fresh volume key, wrapped for one secret: the `encryption` of a new volume. @throws {HoldfastError} EINVAL when the secret is too weak */
export function newEncryption(secret: Unlock, randomBytes: RandomBytes, cost?: ScryptCost): Promise<VolumeEncryption> {
  return wrap(randomBytes(VOLUME_KEY_BYTES), [], secret, randomBytes, cost);
}

/**
 * The volume key, when one of the wrappings opens with the secret.
 * @throws {HoldfastError} EACCES when none does, EOPNOTSUPP when the settings are of another version
 */
export async function openVolumeKey(settings: Record<string, unknown>, secret: Unlock, volumeName: string): Promise<Buffer> {
  const { wrappings, keyId } = parse(settings, volumeName);
  for (const each of wrappings) {
    const key = await unwrap(each, secret);
    if (key && keyIdOf(key) === keyId) return key;
  }
  throw new HoldfastError(
    'EACCES',
    `volume ${volumeName} does not open with this ${secret.keyFile ? 'key file' : 'passphrase'}: it was encrypted with another one`,
    { volumeKey: 'wrong' },
  );
}

/**
 * Wraps the volume key for another secret.
 * @param keep true: what opened the volume so far still does. False: only the new secret will (whoever copied the volume key before still has it)
 * @throws {HoldfastError} EACCES when `secret` does not open it; EINVAL when `next` is too weak
 */
export async function rewrap(
  settings: Record<string, unknown>,
  secret: Unlock,
  next: Unlock,
  keep: boolean,
  volumeName: string,
  randomBytes: RandomBytes,
  cost?: ScryptCost,
): Promise<VolumeEncryption> {
  const key = await openVolumeKey(settings, secret, volumeName);
  const kept = keep ? parse(settings, volumeName).wrappings : [];
  if (kept.length >= MAX_WRAPPINGS)
    throw new HoldfastError('E2BIG', `volume ${volumeName} has ${MAX_WRAPPINGS} keys already: rekey without --add to drop the old ones`);
  return wrap(key, kept, next, randomBytes, cost);
}

/** For people: "key file", "passphrase", "2 keys". */
export function describeEncryption(settings: Record<string, unknown> | null): string {
  if (!settings) return 'none';
  const parsed = encryption.safeParse(settings);
  if (!parsed.success) return 'of another version';
  return parsed.data.wrappings.map(({ kind }) => (kind === 'key-file' ? 'key file' : 'passphrase')).join(', ');
}

function parse(settings: Record<string, unknown>, volumeName: string): VolumeEncryption {
  const parsed = encryption.safeParse(settings);
  if (parsed.success) return parsed.data;
  throw new HoldfastError(
    'EOPNOTSUPP',
    `the encryption of volume ${volumeName} is not of a kind this version knows: use the version that made it, or a newer one`,
  );
}

async function wrap(
  key: Buffer,
  kept: readonly Wrapping[],
  secret: Unlock,
  randomBytes: RandomBytes,
  cost = DEFAULT_SCRYPT_COST,
): Promise<VolumeEncryption> {
  checkSecret(secret);
  const salt = randomBytes(SALT_BYTES);
  const form = secret.keyFile ? ({ kind: 'key-file' } as const) : ({ kind: 'passphrase', scrypt: { ...cost } } as const);
  const nonce = randomBytes(NONCE_BYTES);
  const cipher = createCipheriv(CIPHER, await wrappingKey(secret, salt, cost), nonce);
  cipher.setAAD(Buffer.from(FORMAT));
  const sealed = Buffer.concat([nonce, cipher.update(key), cipher.final(), cipher.getAuthTag()]);
  const wrapped: Wrapping = { ...form, salt: salt.toString('base64'), sealed: sealed.toString('base64') };
  return { format: FORMAT, keyId: keyIdOf(key), wrappings: [...kept, wrapped] };
}

async function unwrap(wrapped: Wrapping, secret: Unlock): Promise<Buffer | undefined> {
  if ((wrapped.kind === 'key-file') !== (secret.keyFile !== undefined)) return undefined;
  const sealed = Buffer.from(wrapped.sealed, 'base64');
  if (sealed.length !== NONCE_BYTES + VOLUME_KEY_BYTES + TAG_BYTES) return undefined;
  const cost = wrapped.kind === 'passphrase' ? wrapped.scrypt : DEFAULT_SCRYPT_COST;
  const wrapKey = await wrappingKey(secret, Buffer.from(wrapped.salt, 'base64'), cost);
  const decipher = createDecipheriv(CIPHER, wrapKey, sealed.subarray(0, NONCE_BYTES), { authTagLength: TAG_BYTES });
  decipher.setAAD(Buffer.from(FORMAT));
  decipher.setAuthTag(sealed.subarray(-TAG_BYTES));
  const key = decipher.update(sealed.subarray(NONCE_BYTES, -TAG_BYTES));
  try {
    decipher.final();
  } catch {
    return undefined;
  }
  return key;
}

function wrappingKey(secret: Unlock, salt: Buffer, { n, r, p }: ScryptCost): Promise<Buffer> {
  if (secret.keyFile) return Promise.resolve(Buffer.from(hkdfSync('sha256', trimmed(secret.keyFile), salt, FORMAT, 32)));
  return new Promise((resolve, reject) => {
    const passphrase = (secret.passphrase ?? '').normalize('NFC');
    scrypt(passphrase, salt, 32, { N: n, r, p, maxmem: 2 * MAX_SCRYPT_BYTES }, (error, key) => (error ? reject(error) : resolve(key)));
  });
}

/** Editors add line ends. */
function trimmed(keyFile: Buffer): Buffer {
  let end = keyFile.length;
  while (end > 0 && (keyFile[end - 1] === 0x0a || keyFile[end - 1] === 0x0d)) end--;
  return keyFile.subarray(0, end);
}

/** @throws {HoldfastError} EINVAL */
function checkSecret(secret: Unlock): void {
  if (secret.keyFile) {
    if (trimmed(secret.keyFile).length < MIN_KEY_FILE_BYTES)
      throw new HoldfastError(
        'EINVAL',
        `a key file has at least ${MIN_KEY_FILE_BYTES} random bytes; make one with "holdfast volume key FILE"`,
      );
  } else if ((secret.passphrase ?? '').length < MIN_PASSPHRASE_CHARACTERS)
    throw new HoldfastError('EINVAL', `a passphrase has at least ${MIN_PASSPHRASE_CHARACTERS} characters; five random words are good`);
}

const keyIdOf = (key: Buffer): string => createHmac('sha256', key).update('holdfast-1 key id').digest('hex').slice(0, 16);
