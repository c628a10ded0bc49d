/**
 * Who may do what, by the token presented. A token is 256 random bits, shown once to whoever makes it and kept as its SHA-256 only: there is
 * nothing to guess, so no slow hash is needed, and looking it up by its hash tells nothing by the time it takes.
 *
 * The cluster's own administrator ("admin") is whoever has the admin token of the data directory. All others are rows: a user with tokens that end
 * when they are revoked or expire, and rights per volume. Rights are asked for at every connection and at every change, so what is taken away
 * is gone at once; what a node was told by a permit is taken back by the permit's tags (permits.ts).
 */
import { createHash, timingSafeEqual } from 'node:crypto';
import type { NewToken } from '../protocol/access-calls.js';
import type { Connection } from '../protocol/call.js';
import { secretOf } from '../protocol/enrolment.js';
import { ROOT_VOLUME, type VolumeId } from '../protocol/entities.js';
import { type Environment, type Timer, wallMs } from '../protocol/environment.js';
import { HoldfastError } from '../protocol/errors.js';
import type { NewEvent } from './events.js';
import type { Access, AuthenticatedUser, ClientCaller } from './ports.js';
import type { TokenRow, UserRow } from './rows.js';
import { nextNumber, type State, type Transaction } from './state.js';

/** Whoever holds the admin token. Nobody else may be called so. */
export const ADMIN = 'admin';
const RESERVED: ReadonlySet<string> = new Set([ADMIN, 'coordinator', 'all', 'none']);
const TOKEN_BYTES = 32;
const EXPIRY_CHECK_MS = 1_000;
const LOGIN_AGAIN_MS = 60_000;
const LAST_USER_SETTING = 'lastUser';
const LAST_TOKEN_SETTING = 'lastToken';
const LAST_GRANT_SETTING = 'lastGrant';

export const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');

/** What permits say beside the client, so that nodes can be told to honour them no more. */
export const tokenTag = (token: string): string => `token-${token}`;
export const grantTag = (grant: number): string => `grant-${grant}`;

/** Who is connected, and by what. */
interface Attached {
  readonly user: string;
  readonly token: string | undefined;
}

export interface UsersParts {
  readonly environment: Environment;
  readonly state: State;
  readonly adminToken: string;
}

export class Users {
  private readonly adminHash: Buffer;
  private readonly byHash = new Map<string, { readonly user: string; readonly token: string }>();
  private readonly attached = new Map<Connection, Attached>();
  private readonly logins = new Map<string, number>();
  private expiryTimer: Timer | undefined;
  /** Set by the coordinator: sessions of this user (by one token, in one volume; undefined = any) end now. */
  onEnded: ((user: string, which: { token?: string; volume?: VolumeId }) => void) | undefined;
  /** Set by the coordinator: permits with these tags count no more. */
  onVoid: ((tags: readonly string[]) => void) | undefined;
  /** Set by the coordinator: rights of this user in this volume are others now. */
  onChanged: ((user: string, volume: VolumeId) => void) | undefined;

  constructor(private readonly parts: UsersParts) {
    this.adminHash = Buffer.from(sha256(parts.adminToken), 'hex');
    const { state } = parts;
    for (const [user, row] of state.table('users').all()) this.index(user, undefined, row);
    state.onChange('users', (user, before, after) => this.index(user, before, after));
  }
  stop(): void {
    this.expiryTimer?.cancel();
    this.expiryTimer = undefined;
  }

  // ---- who is it ----

  /** @throws {HoldfastError} UNAUTHORIZED */
  authenticate(token: string): AuthenticatedUser {
    const hash = sha256(secretOf(token));
    if (timingSafeEqual(Buffer.from(hash, 'hex'), this.adminHash))
      return { user: ADMIN, isAdmin: true, id: undefined, token: undefined, home: ROOT_VOLUME };
    const found = this.byHash.get(hash);
    const row = found && this.parts.state.get('users', found.user);
    const known = row?.tokens.find((one) => one.id === found?.token);
    if (!found || !row || !known) throw new HoldfastError('UNAUTHORIZED', 'the token is not valid here; is it the one of this cluster?');
    if (this.isExpired(known)) throw new HoldfastError('UNAUTHORIZED', `the token ${known.id} has expired: ask for a new one`);
    return { user: found.user, isAdmin: row.isAdmin, id: row.id, token: known.id, home: row.home };
  }
  /** The same user as of now. @throws {HoldfastError} UNAUTHORIZED when its token counts no more */
  current(before: AuthenticatedUser): AuthenticatedUser {
    if (before.token === undefined) return before;
    const row = this.parts.state.get('users', before.user);
    const known = row?.tokens.find((one) => one.id === before.token);
    if (!row || !known || this.isExpired(known)) throw new HoldfastError('UNAUTHORIZED', 'the token has been revoked or has expired');
    return { ...before, isAdmin: row.isAdmin, home: row.home };
  }

  /** What a user may do in a volume now; undefined = nothing. `grant` changes with every change of it. */
  accessOf(user: string, volume: VolumeId): { readonly access: Access; readonly grant?: number } | undefined {
    if (user === ADMIN) return { access: 'admin' };
    const row = this.parts.state.get('users', user);
    if (!row) return undefined;
    const granted = row.access[volume];
    return row.isAdmin ? { access: 'admin' } : granted;
  }

  /** A connection by this token: it is closed when the token ends. */
  attach(connection: Connection, { user, token }: AuthenticatedUser): void {
    this.attached.set(connection, { user, token });
    const expires = this.parts.state.get('users', user)?.tokens.some((one) => one.id === token && one.expiresAtMs !== null);
    if (expires) this.armExpiry();
  }
  /** What to record of a new session: once in a while for each token, since every command is a session. */
  login({ user, token }: Pick<AuthenticatedUser, 'user' | 'token'>, description: string): NewEvent | undefined {
    if (token === undefined) return undefined;
    const nowMs = this.parts.environment.monotonicMs();
    const before = this.logins.get(token);
    if (before !== undefined && nowMs - before < LOGIN_AGAIN_MS) return undefined;
    this.logins.set(token, nowMs);
    return { level: 'info', kind: 'user.login', text: `${user} connected by token ${token}: ${description}`, user };
  }
  detach(connection: Connection): void {
    this.attached.delete(connection);
  }
  /** Connections now. */
  connectionsOf(user: string, token?: string): number {
    let count = 0;
    for (const one of this.attached.values()) if (one.user === user && (token === undefined || one.token === token)) count++;
    return count;
  }

  // ---- users ----

  /** @throws {HoldfastError} ENOENT */
  get(user: string): UserRow {
    const row = this.parts.state.get('users', user);
    if (!row) throw new HoldfastError('ENOENT', `there is no user ${user}`);
    return row;
  }

  /** @throws {HoldfastError} EEXIST, REFUSED */
  create(
    tx: Transaction,
    user: string,
    given: {
      readonly isAdmin: boolean;
      readonly home: VolumeId | null;
      readonly quotaBytes: number | null;
      readonly quotaFiles: number | null;
    },
  ): UserRow {
    if (RESERVED.has(user.toLowerCase())) throw new HoldfastError('REFUSED', `${user} is a name of the cluster's own: choose another`);
    if (tx.get('users', user)) throw new HoldfastError('EEXIST', `there is a user ${user} already`);
    const row: UserRow = {
      ...given,
      id: nextNumber(tx, LAST_USER_SETTING),
      access: given.home === null ? {} : { [given.home]: { access: 'admin', grant: nextNumber(tx, LAST_GRANT_SETTING) } },
      tokens: [],
      createdAtMs: this.nowMs,
    };
    tx.put('users', user, row);
    return row;
  }

  set(tx: Transaction, user: string, change: Partial<Pick<UserRow, 'isAdmin' | 'quotaBytes' | 'quotaFiles'>>): UserRow {
    const before = this.get(user);
    const after = { ...before, ...change };
    tx.put('users', user, after);
    if (before.isAdmin !== after.isAdmin)
      tx.afterwards(() => {
        // An administrator's rights come from no grant, so there is no tag to take back but those of the tokens: they are for good.
        this.onEnded?.(user, {});
        this.disconnect(user, undefined, 'the rights of this user changed');
      });
    return after;
  }

  /** All its tokens and rights go with it. */
  remove(tx: Transaction, user: string): void {
    const row = this.get(user);
    tx.remove('users', user);
    tx.afterwards(() =>
      this.end(
        user,
        row.tokens.map((one) => one.id),
      ),
    );
  }

  // ---- tokens ----

  /** @param expiresInMs null = it does not expire */
  makeToken(tx: Transaction, user: string, label: string, expiresInMs: number | null): NewToken {
    const row = this.get(user);
    const token = `hf-${this.parts.environment.randomBytes(TOKEN_BYTES).toString('base64url')}`;
    const id = `T${nextNumber(tx, LAST_TOKEN_SETTING)}`;
    const expiresAtMs = expiresInMs === null ? null : this.nowMs + expiresInMs;
    const made: TokenRow = { id, sha256: sha256(token), label, createdAtMs: this.nowMs, expiresAtMs };
    tx.put('users', user, { ...row, tokens: [...row.tokens, made] });
    return { id, token, expiresAtMs };
  }

  /** @param id undefined = every token. @returns those that were revoked. @throws {HoldfastError} ENOENT */
  revoke(tx: Transaction, user: string, id: string | undefined): string[] {
    const row = this.get(user);
    const gone = row.tokens.filter((one) => id === undefined || one.id === id).map((one) => one.id);
    if (id !== undefined && gone.length === 0) throw new HoldfastError('ENOENT', `${user} has no token ${id}`);
    tx.put('users', user, { ...row, tokens: row.tokens.filter((one) => !gone.includes(one.id)) });
    tx.afterwards(() => {
      this.end(user, gone);
      for (const token of gone) this.logins.delete(token);
    });
    return gone;
  }

  // ---- rights ----

  /** @param access undefined = none. @returns what it was before */
  grant(tx: Transaction, user: string, volume: VolumeId, access: Access | undefined): Access | undefined {
    const row = this.get(user);
    const { [volume]: before, ...others } = row.access;
    if (before?.access === access) return before?.access;
    const granted = access === undefined ? others : { ...others, [volume]: { access, grant: nextNumber(tx, LAST_GRANT_SETTING) } };
    const isHomeGone = access === undefined && row.home === volume;
    tx.put('users', user, { ...row, access: granted, ...(isHomeGone ? { home: null } : {}) });
    if (before)
      tx.afterwards(() => {
        this.onVoid?.([grantTag(before.grant)]);
        if (access === undefined) this.onEnded?.(user, { volume });
        else this.onChanged?.(user, volume);
        // They come back at once and are told what they may do now.
        this.disconnect(user, undefined, 'the rights of this user changed');
      });
    return before?.access;
  }

  /** A volume is gone: nobody has rights in it, it is nobody's home. */
  forgetVolume(tx: Transaction, volume: VolumeId): void {
    for (const [user, row] of [...this.parts.state.table('users').all()]) {
      if (!(volume in row.access) && row.home !== volume) continue;
      const { [volume]: _gone, ...access } = row.access;
      tx.put('users', user, { ...row, access, home: row.home === volume ? null : row.home });
    }
  }

  private index(user: string, before: UserRow | undefined, after: UserRow | undefined): void {
    for (const one of before?.tokens ?? []) this.byHash.delete(one.sha256);
    for (const one of after?.tokens ?? []) this.byHash.set(one.sha256, { user, token: one.id });
  }
  private isExpired({ expiresAtMs }: TokenRow): boolean {
    return expiresAtMs !== null && expiresAtMs <= this.nowMs;
  }
  private get nowMs(): number {
    return wallMs(this.parts.environment);
  }

  /** Sessions first, so that nothing of a connection that closes is taken for one that may come back. */
  private end(user: string, tokens: readonly string[]): void {
    this.onVoid?.(tokens.map(tokenTag));
    for (const token of tokens) {
      this.onEnded?.(user, { token });
      this.disconnect(user, token, 'the token counts no more');
    }
  }
  private disconnect(user: string, token: string | undefined, why: string): void {
    for (const [connection, one] of [...this.attached])
      if (one.user === user && (token === undefined || one.token === token)) connection.close(why);
  }

  private armExpiry(): void {
    this.expiryTimer ??= this.parts.environment.setTimer(EXPIRY_CHECK_MS, () => {
      this.expiryTimer = undefined;
      this.endExpired();
    });
  }
  /** The clock of the wall decides, as people mean it; a token that has expired stays listed. */
  private endExpired(): void {
    let isMore = false;
    const expired = new Map<string, string>();
    for (const { user, token } of this.attached.values()) {
      const row = this.parts.state.get('users', user)?.tokens.find((one) => one.id === token);
      if (!row || row.expiresAtMs === null) continue;
      if (this.isExpired(row)) expired.set(row.id, user);
      else isMore = true;
    }
    for (const [token, user] of expired) this.end(user, [token]);
    if (isMore) this.armExpiry();
  }
}

/** How a caller's permits are tagged: taken back with the token or with the right. */
export const tagsOf = ({ token, grant }: Pick<ClientCaller, 'token' | 'grant'>): string[] => [
  ...(token === undefined ? [] : [tokenTag(token)]),
  ...(grant === undefined ? [] : [grantTag(grant)]),
];
