/**
 * Volumes, users, tokens and who may do what: calls of the namespace /admin beside those of admin-calls.ts, which takes them into its table.
 * Secrets (tokens) are in the reply of the call that makes them and nowhere else.
 */
import { z } from 'zod';
import { query } from './call.js';
import { hostName } from './enrolment.js';
import type { VolumeSettings } from './entities.js';
import { LEAF_SIZE_BYTES, MAX_CHUNK_SIZE_BYTES, MIN_CHUNK_SIZE_BYTES } from './limits.js';

const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/;
const NAME_RULE = 'a name has 1 to 63 letters, digits, ".", "_" or "-" and begins with a letter or digit';
const volumeName = z.string().regex(NAME, NAME_RULE);
const quota = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER).nullable().optional();

const OPAQUE_VALUES = 2_000;
const OPAQUE_LEVELS = 8;
const OPAQUE_CHARACTERS = 64 * 1024;
/** Of what nobody here understands: it is kept, copied and sent on for ever, and what has very many levels could not even be written down. */
function isSmall(value: unknown): boolean {
  let left = OPAQUE_VALUES;
  let characters = OPAQUE_CHARACTERS;
  let level: unknown[] = [value];
  for (let levels = 0; level.length > 0; levels++) {
    left -= level.length;
    if (levels > OPAQUE_LEVELS || left < 0) return false;
    const below: unknown[] = [];
    for (const one of level) {
      if (one instanceof Uint8Array) return false;
      if (typeof one === 'string') characters -= one.length;
      else if (typeof one === 'object' && one !== null) {
        const entries = Object.entries(one);
        if (entries.length > left) return false;
        for (const [key, inner] of entries) {
          characters -= key.length;
          below.push(inner);
        }
      }
    }
    if (characters < 0) return false;
    level = below;
  }
  return true;
}

/** What may be set of a volume; what is absent stays as it is. `null` takes a quota away. */
const volumeChange = {
  copies: z.number().int().min(1).max(8).optional(),
  /** For what is written from now on. */
  chunkSizeBytes: z
    .number()
    .int()
    .min(MIN_CHUNK_SIZE_BYTES)
    .max(MAX_CHUNK_SIZE_BYTES)
    .refine((bytes) => bytes % LEAF_SIZE_BYTES === 0, `a chunk size is a multiple of ${LEAF_SIZE_BYTES} bytes`)
    .optional(),
  quotaBytes: quota,
  quotaFiles: quota,
  /** Opaque here. Switched on or off only while the volume holds nothing. */
  encryption: z.record(z.string(), z.unknown()).refine(isSmall, 'too large, or of too many levels').nullable().optional(),
  trashKeepMs: z.number().int().min(0).optional(),
  snapshots: z
    .object({ everyMs: z.number().int().min(1000), keep: z.number().int().min(1).max(900) })
    .nullable()
    .optional(),
};
const volumeChangeSchema = z.object(volumeChange);
export type VolumeChange = z.infer<typeof volumeChangeSchema>;

export interface VolumeStatus extends VolumeSettings {
  readonly files: number;
  readonly directories: number;
  /** Sum of file sizes. */
  readonly logicalBytes: number;
  /** What the quota counts: bytes that extents cover, of files that are deleted but open, too. */
  readonly chargedBytes: number;
  readonly chargedFiles: number;
  /** Bytes of distinct chunks. */
  readonly uniqueBytes: number;
}

/** What a user may do in a volume: read; change; change its settings. */
export type Access = 'read' | 'write' | 'admin';

/** What an action answers: a sentence for the result line. */
interface Told {
  readonly text: string;
}

const userName = volumeName;
const expiresInMs = z
  .number()
  .int()
  .min(1000)
  .max(100 * 366 * 86_400_000)
  .optional();
const token = { label: z.string().max(64).optional(), expiresInMs };

/** The secret is in this reply and nowhere else. */
export interface NewToken {
  /** "T7" */
  readonly id: string;
  readonly token: string;
  readonly expiresAtMs: number | null;
}
export interface TokenStatus {
  readonly id: string;
  readonly label: string;
  readonly createdAtMs: number;
  readonly expiresAtMs: number | null;
  /** By this token, now. */
  readonly connections: number;
}
export interface UserStatus {
  readonly user: string;
  readonly isAdmin: boolean;
  /** Name of the volume. */
  readonly home: string | null;
  /** By name of the volume. */
  readonly access: Readonly<Record<string, Access>>;
  readonly tokens: readonly TokenStatus[];
  readonly quotaBytes: number | null;
  readonly quotaFiles: number | null;
  /** What this user made, in whatever volume. */
  readonly usedBytes: number;
  readonly usedFiles: number;
  readonly createdAtMs: number;
}

export const accessCalls = {
  /** Those the caller may at least read. */
  listVolumes: query<{ volumes: VolumeStatus[] }>()(z.object({})),
  /** @throws EEXIST */
  createVolume: query<Told & { volume: VolumeSettings }>()(z.object({ name: volumeName, ...volumeChange })),
  /** @throws ENOENT, REFUSED */
  setVolume: query<Told & { volume: VolumeSettings }>()(z.object({ volume: z.string().max(64), ...volumeChange })),
  /** Everything in it is gone. REFUSED while it holds something, unless `evenIfNotEmpty` repeats its name. */
  deleteVolume: query<Told>()(z.object({ volume: z.string().max(64), evenIfNotEmpty: z.string().optional() })),
  /** For administrators. Takes effect at once, also for those who are connected. */
  setAccess: query<Told>()(
    z.object({ volume: z.string().max(64), user: z.string().max(64), access: z.enum(['none', 'read', 'write', 'admin']) }),
  ),
  /** All users for administrators, oneself for others. */
  listUsers: query<{ users: UserStatus[] }>()(z.object({})),
  /** With a volume of the same name as home unless `hasHome` is false, and a first token. @throws EEXIST, REFUSED */
  createUser: query<Told & { user: UserStatus; token: NewToken }>()(
    z.object({
      user: userName,
      isAdmin: z.boolean().optional(),
      hasHome: z.boolean().optional(),
      quotaBytes: quota,
      quotaFiles: quota,
      ...token,
    }),
  ),
  setUser: query<Told & { user: UserStatus }>()(
    z.object({ user: z.string().max(64), isAdmin: z.boolean().optional(), quotaBytes: quota, quotaFiles: quota }),
  ),
  /** With home, tokens and rights; REFUSED while the home holds something, unless `evenIfNotEmpty` repeats the user's name. */
  deleteUser: query<Told>()(z.object({ user: z.string().max(64), evenIfNotEmpty: z.string().optional() })),
  /** One token more, for oneself or, as administrator, for anybody. */
  createToken: query<Told & { token: NewToken }>()(z.object({ user: z.string().max(64), ...token })),
  /** Ends a token, or all of a user, and whatever is connected by it: at once here, within a heartbeat at the nodes. */
  revokeToken: query<Told & { revoked: string[] }>()(z.object({ user: z.string().max(64), token: z.string().max(64).optional() })),
  /** Lets one new node in, once. `hosts`: what a certificate it gets by this token may be for. */
  createJoinToken: query<Told & { token: NewToken }>()(z.object({ expiresInMs, hosts: z.array(hostName).min(1).max(16).optional() })),
};
