/** What administrators do to volumes, users and rights: checked here, applied in one transaction, recorded as an event. */
import type { accessCalls, NewToken, UserStatus, VolumeChange, VolumeStatus } from '../protocol/access-calls.js';
import type { Done } from '../protocol/admin-calls.js';
import type { RequestOf } from '../protocol/call.js';
import { withAuthority } from '../protocol/enrolment.js';
import type { VolumeSettings } from '../protocol/entities.js';
import { HoldfastError } from '../protocol/errors.js';
import type { Keeper } from './cluster-keeper.js';
import type { Access, Actor } from './ports.js';
import type { UserRow, VolumeRow } from './rows.js';
import { ADMIN } from './users.js';
import { bytesInWords, countOf, durationInWords } from './words.js';

/** Long enough to walk to another machine. */
const JOIN_TOKEN_MS = 3_600_000;

export class AccessActions {
  constructor(private readonly keeper: Keeper) {}

  // ---- volumes ----

  volumeStatus(row: VolumeRow): VolumeStatus {
    const { files, directories, logicalBytes, chargedBytes, chargedFiles, uniqueBytes } = this.context.state.index.ofVolume(row.volume);
    return { ...row, files, directories, logicalBytes, chargedBytes, chargedFiles, uniqueBytes };
  }

  createVolume(by: Actor, name: string, settings: VolumeChange): Done & { volume: VolumeSettings } {
    const { state, volumes } = this.context;
    const volume = state.transact((tx) => volumes.create(tx, name, settings));
    this.record(by, 'volume.created', `volume ${name} created by ${by.user}`, volume);
    return { text: `volume ${name} is there: ${inWords(volume)}${this.warning(volume)}`, volume };
  }

  setVolume(by: Actor, name: string, change: VolumeChange): Done & { volume: VolumeSettings } {
    const { state, volumes, notices } = this.context;
    const before = volumes.get(name);
    const volume = state.transact((tx) => volumes.set(tx, before, change));
    notices.volumeChanged(volume);
    if (volume.copies !== before.copies) this.keeper.repair.kick();
    // Which settings, not what they are: wrapped keys do not belong into events.
    const changed = Object.entries(change).flatMap(([key, value]) => (value === undefined ? [] : [key]));
    this.record(by, 'volume.changed', `volume ${name}: ${changed.join(', ') || 'nothing'} set by ${by.user}`, volume);
    return { text: `volume ${name}: ${inWords(volume)}${this.warning(volume)}`, volume };
  }

  deleteVolume(by: Actor, name: string, evenIfNotEmpty: string | undefined): Done {
    const { state, users, volumes } = this.context;
    const row = volumes.get(name);
    const { files } = state.index.ofVolume(row.volume);
    state.transact((tx) => {
      volumes.remove(tx, row, evenIfNotEmpty);
      users.forgetVolume(tx, row.volume);
    });
    const what = files > 0 ? ` with ${countOf(files, 'file')}` : '';
    this.record(by, 'volume.deleted', `volume ${name} deleted by ${by.user}${what}`, undefined, files > 0 ? 'warn' : 'info');
    return { text: `volume ${name} is deleted${what}` };
  }

  setAccess(by: Actor, volumeName: string, user: string, wanted: Access | 'none'): Done {
    const { state, users, volumes } = this.context;
    const volume = volumes.get(volumeName);
    if (user === ADMIN) throw new HoldfastError('REFUSED', `${ADMIN} may do everything: that cannot be changed`);
    const before = state.transact((tx) => users.grant(tx, user, volume.volume, wanted === 'none' ? undefined : wanted)) ?? 'none';
    this.record(by, 'access.changed', `access of ${user} to volume ${volumeName} is ${wanted} (was ${before}), set by ${by.user}`);
    const rest = users.get(user).isAdmin ? `, and as administrator of the cluster ${user} may do everything` : '';
    return { text: `${user} has access ${wanted} to volume ${volumeName}${rest}` };
  }

  // ---- users ----

  users(): UserStatus[] {
    const found = [...this.context.state.table('users').all()].map(([user, row]) => this.userStatus(user, row));
    return found.sort((a, b) => (a.user < b.user ? -1 : 1));
  }

  createUser(by: Actor, request: RequestOf<typeof accessCalls, 'createUser'>): Done & { user: UserStatus; token: NewToken } {
    const { state, users, volumes } = this.context;
    const { user } = request;
    const { home, token } = state.transact((tx) => {
      const home = request.hasHome === false ? undefined : volumes.create(tx, user, {});
      users.create(tx, user, {
        isAdmin: request.isAdmin ?? false,
        home: home?.volume ?? null,
        quotaBytes: request.quotaBytes ?? null,
        quotaFiles: request.quotaFiles ?? null,
      });
      return { home, token: this.carried(users.makeToken(tx, user, request.label ?? '', request.expiresInMs ?? null)) };
    });
    const role = request.isAdmin ? 'administrator' : 'user';
    this.record(by, 'user.created', `${role} ${user} created by ${by.user}, with token ${token.id}`);
    const text = `${role} ${user} is there${home ? `, at home in volume ${home.name}` : ''}`;
    return { text, user: this.userStatus(user, users.get(user)), token };
  }

  setUser(by: Actor, user: string, change: Omit<RequestOf<typeof accessCalls, 'setUser'>, 'user'>): Done & { user: UserStatus } {
    const { state, users } = this.context;
    const given = Object.fromEntries(Object.entries(change).filter(([, value]) => value !== undefined));
    const row = state.transact((tx) => users.set(tx, user, given));
    this.record(by, 'user.changed', `user ${user}: ${Object.keys(given).join(', ') || 'nothing'} set by ${by.user}`);
    return { text: `user ${user} is changed`, user: this.userStatus(user, row) };
  }

  deleteUser(by: Actor, user: string, evenIfNotEmpty: string | undefined): Done {
    const { state, users, volumes } = this.context;
    const row = users.get(user);
    const home = volumes.byId(row.home);
    state.transact((tx) => {
      if (home) {
        if (!volumes.isEmpty(home) && evenIfNotEmpty !== user)
          throw new HoldfastError(
            'REFUSED',
            `the home of ${user} (volume ${home.name}) holds files: to delete them all, repeat the name ("--even-if-not-empty ${user}")`,
          );
        volumes.remove(tx, home, home.name);
        users.forgetVolume(tx, home.volume);
      }
      users.remove(tx, user);
    });
    this.record(by, 'user.deleted', `user ${user} deleted by ${by.user}${home ? `, with volume ${home.name}` : ''}`, undefined, 'warn');
    return { text: `user ${user} is deleted${home ? `, with volume ${home.name}` : ''}` };
  }

  // ---- tokens ----

  createToken(by: Actor, user: string, label: string | undefined, expiresInMs: number | undefined): Done & { token: NewToken } {
    const { state, users } = this.context;
    const token = this.carried(state.transact((tx) => users.makeToken(tx, user, label ?? '', expiresInMs ?? null)));
    this.record(by, 'token.created', `token ${token.id} of ${user} created by ${by.user}`);
    return { text: `${user} has a new token ${token.id}`, token };
  }

  revokeToken(by: Actor, user: string, id: string | undefined): Done & { revoked: string[] } {
    const { state, users } = this.context;
    const revoked = state.transact((tx) => users.revoke(tx, user, id));
    const which = revoked.length === 1 ? `token ${revoked[0]}` : countOf(revoked.length, 'token');
    this.record(by, 'token.revoked', `${which} of ${user} revoked by ${by.user}`);
    return { text: `${which} of ${user} revoked`, revoked };
  }

  createJoinToken(by: Actor, expiresInMs: number = JOIN_TOKEN_MS, hosts?: readonly string[]): Done & { token: NewToken } {
    const token = this.carried(this.context.state.transact((tx) => this.keeper.doors.makeJoinToken(tx, expiresInMs, hosts)));
    this.record(by, 'token.created', `join token ${token.id} created by ${by.user}`);
    return { text: `one node may join with ${token.id} in the next ${durationInWords(expiresInMs)}`, token };
  }

  /** With it goes what the coordinator is known by, when it gives certificates for tokens. */
  private carried(made: NewToken): NewToken {
    return { ...made, token: withAuthority(made.token, this.context.authority) };
  }
  private userStatus(user: string, row: UserRow): UserStatus {
    const { state, users, volumes } = this.context;
    const used = state.index.ofUser(row.id);
    const access: Record<string, Access> = {};
    for (const [volume, granted] of Object.entries(row.access)) {
      const named = volumes.byId(Number(volume));
      if (named) access[named.name] = granted.access;
    }
    return {
      ...{ user, isAdmin: row.isAdmin, home: volumes.byId(row.home)?.name ?? null, access },
      tokens: row.tokens.map(({ id, label, createdAtMs, expiresAtMs }) => ({
        ...{ id, label, createdAtMs, expiresAtMs },
        connections: users.connectionsOf(user, id),
      })),
      ...{ quotaBytes: row.quotaBytes, quotaFiles: row.quotaFiles, usedBytes: used.bytes, usedFiles: used.files },
      createdAtMs: row.createdAtMs,
    };
  }
  private get context(): Keeper['context'] {
    return this.keeper.context;
  }
  private record(by: Actor, kind: string, text: string, volume?: VolumeSettings, level: 'info' | 'warn' = 'info'): void {
    this.keeper.admins.record(by, kind, text, undefined, level, volume?.volume);
  }
  private warning({ copies }: VolumeSettings): string {
    const up = this.keeper.membership.takers().length;
    return up < copies ? `; only ${countOf(up, 'node')} can take chunks: start more` : '';
  }
}

const inWords = ({ copies, chunkSizeBytes, quotaBytes, quotaFiles, trashKeepMs, snapshots }: VolumeSettings): string =>
  [
    `${copies} ${copies === 1 ? 'copy' : 'copies'}`,
    `chunks of ${bytesInWords(chunkSizeBytes)}`,
    quotaBytes === null ? 'no quota' : `quota ${bytesInWords(quotaBytes)}`,
    ...(quotaFiles === null ? [] : [`at most ${countOf(quotaFiles, 'file')}`]),
    ...(trashKeepMs === 0 ? [] : [`deleted files kept for ${durationInWords(trashKeepMs)}`]),
    ...(snapshots ? [`a snapshot every ${durationInWords(snapshots.everyMs)}, the last ${snapshots.keep} kept`] : []),
  ].join(', ');
