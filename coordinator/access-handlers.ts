/** Calls about volumes, users, tokens and rights: who may, then one function. */
import type { accessCalls } from '../protocol/access-calls.js';
import type { Handlers } from '../protocol/call.js';
import { HoldfastError } from '../protocol/errors.js';
import type { AdminCaller } from './admin-handlers.js';
import type { Keeper } from './cluster-keeper.js';
import { noVolume } from './volumes.js';

type AccessCalls = typeof accessCalls;

/** What the administrator of one volume may set of it; the rest is the cluster's room. */
const OWN_SETTINGS: ReadonlySet<string> = new Set(['encryption', 'trashKeepMs', 'snapshots']);

/** @param durable waits until the decision is on stable storage */
export function accessHandlers(keeper: Keeper, durable: <T>(answer: T) => Promise<T>): Handlers<AccessCalls, AdminCaller> {
  const { access, context } = keeper;
  /** Oneself, or anybody as administrator; nobody else learns who there is. @throws {HoldfastError} FORBIDDEN */
  const mayManage = (caller: AdminCaller, user: string): void => {
    if (!caller.isAdmin && caller.user !== user)
      throw new HoldfastError('FORBIDDEN', `tokens of others are for administrators; you are ${caller.user}`);
  };
  return {
    listVolumes: ({ canRead }) => ({
      volumes: context.volumes.all().flatMap((row) => (canRead(row.volume) ? [access.volumeStatus(row)] : [])),
    }),
    createVolume: (caller, { name, ...settings }) => durable(access.createVolume(caller, name, settings)),
    setVolume: (caller, { volume: name, ...change }) => {
      const row = context.volumes.byName(name);
      const rights = row && caller.accessOf(row.volume);
      if (!rights) throw noVolume(name);
      const isOwn = Object.entries(change).every(([key, value]) => value === undefined || OWN_SETTINGS.has(key));
      if (!caller.isAdmin && (rights !== 'admin' || !isOwn))
        throw new HoldfastError(
          'FORBIDDEN',
          `that is for administrators${rights === 'admin' ? ' of the cluster' : ' of the volume'}; you are ${caller.user}`,
        );
      return durable(access.setVolume(caller, name, change));
    },
    deleteVolume: (caller, { volume, evenIfNotEmpty }) => durable(access.deleteVolume(caller, volume, evenIfNotEmpty)),
    setAccess: (caller, { volume, user, access: wanted }) => durable(access.setAccess(caller, volume, user, wanted)),
    listUsers: (caller) => ({ users: access.users().filter(({ user }) => caller.isAdmin || user === caller.user) }),
    createUser: (caller, request) => durable(access.createUser(caller, request)),
    setUser: (caller, { user, ...change }) => durable(access.setUser(caller, user, change)),
    deleteUser: (caller, { user, evenIfNotEmpty }) => durable(access.deleteUser(caller, user, evenIfNotEmpty)),
    createToken: (caller, { user, label, expiresInMs }) => {
      mayManage(caller, user);
      return durable(access.createToken(caller, user, label, expiresInMs));
    },
    revokeToken: (caller, { user, token }) => {
      mayManage(caller, user);
      return durable(access.revokeToken(caller, user, token));
    },
    createJoinToken: (caller, { expiresInMs, hosts }) => durable(access.createJoinToken(caller, expiresInMs, hosts)),
  };
}
