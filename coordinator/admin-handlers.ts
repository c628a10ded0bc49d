/** Calls of administrators and watchers: event in, checked, one function called, reply or error out. No rules here but who may. */
import type { z } from 'zod';
import { type AdminCalls, adminCalls } from '../protocol/admin-calls.js';
import type { CallFrame, Connection, Handlers, RequestOf } from '../protocol/call.js';
import { clientHandshake } from '../protocol/client-calls.js';
import { DEFAULT_VOLUME_NAME, type VolumeId } from '../protocol/entities.js';
import { HoldfastError } from '../protocol/errors.js';
import { checked, checkedHandshake } from './checked.js';
import type { Keeper } from './cluster-keeper.js';
import type { AuthenticatedUser, ClientCaller } from './ports.js';
import type { VolumeRow } from './rows.js';
import { noVolume } from './volumes.js';

interface AdminCaller {
  readonly user: AuthenticatedUser;
  readonly volume: string;
  readonly connection: Connection;
}

const ADMIN_ONLY: ReadonlySet<keyof AdminCalls> = new Set<keyof AdminCalls>([
  'check',
  'drainNode',
  'undrainNode',
  'removeNode',
  'scrub',
  'repairNow',
  'setRepairSpeed',
  'rebalance',
  'cancelJob',
  'setCopies',
  'backup',
  'readBackup',
  'verifyChunk',
  'createVolume',
  'setVolume',
  'deleteVolume',
]);

/** @throws {HoldfastError} PROTOCOL_VERSION, UNAUTHORIZED, BAD_MESSAGE */
export function acceptAdmin(keeper: Keeper, handshake: unknown, connection: Connection): void {
  const { token, volume } = checkedHandshake(clientHandshake, handshake);
  const user = keeper.context.authenticateUser(token);
  const caller: AdminCaller = { user, volume: volume ?? DEFAULT_VOLUME_NAME, connection };
  const handlers = handlersOf(keeper);
  connection.onClose = () => keeper.watches.closeAll(connection);
  connection.onCall = async (frame: CallFrame): Promise<unknown> => {
    const { method } = frame;
    if (!Object.hasOwn(adminCalls, method)) throw new HoldfastError('BAD_MESSAGE', `administrators cannot call ${method.slice(0, 64)}`);
    const name = method as keyof AdminCalls;
    if (ADMIN_ONLY.has(name) && !user.isAdmin) throw new HoldfastError('FORBIDDEN', `${name} is for administrators; you are ${user.user}`);
    const args = checked(adminCalls[name].request as z.ZodType<never>, frame.args, name);
    return await handlers[name](caller, args);
  };
}

function handlersOf(keeper: Keeper): Handlers<AdminCalls, AdminCaller> {
  const { context, admins, access, history, events, jobs, statusBook, watches } = keeper;
  const volumes = (): VolumeRow[] => context.volumes.all();
  /** The volume asked for, if the caller may do that there. @throws {HoldfastError} ENOENT, FORBIDDEN */
  const volumeOf = (caller: AdminCaller, name: string | undefined, wanted: 'read' | 'write' | 'admin' = 'read'): VolumeId => {
    const asked = name ?? caller.volume;
    const rights = caller.user.access(asked);
    const volume = context.volumes.byName(asked);
    if (!volume || rights === undefined) throw noVolume(asked);
    if (wanted === 'write' && rights === 'read') throw new HoldfastError('FORBIDDEN', `you may only read volume ${asked}`);
    if (wanted === 'admin' && rights !== 'admin') throw new HoldfastError('FORBIDDEN', `this is for who administers volume ${asked}`);
    return volume.volume;
  };
  /** As the author of changes of a tree. */
  const client = (caller: AdminCaller, volume: string | undefined, wanted: 'read' | 'write' | 'admin'): ClientCaller => ({
    client: 'coordinator',
    user: caller.user.user,
    volume: volumeOf(caller, volume, wanted),
    access: 'admin',
  });
  const inodeOf = (caller: AdminCaller, { path, volume }: { path: string; volume?: string | undefined }): number =>
    context.resolve(volumeOf(caller, volume), path);
  const mayWatch = (caller: AdminCaller, request: RequestOf<AdminCalls, 'watch'>): void => {
    if (request.topic !== 'directory' && request.topic !== 'file') return;
    const row = context.state.get('inodes', request.inode);
    const volume = row && context.state.get('volumes', row.volume);
    if (!volume || caller.user.access(volume.name) === undefined) throw new HoldfastError('ENOENT', `no inode ${request.inode}`);
  };
  const name = (caller: AdminCaller): string => caller.user.user;

  return {
    hello: ({ user }) => ({
      cluster: context.cluster,
      epoch: context.epoch,
      user: user.user,
      isAdmin: user.isAdmin,
      version: context.options.version,
      volumes: volumes().filter((volume) => user.access(volume.name) !== undefined),
    }),
    status: () => statusBook.status(),
    watch: (caller, request) => {
      mayWatch(caller, request);
      return watches.open(caller.connection, request);
    },
    unwatch: ({ connection }, { watch }) => {
      watches.close(connection, watch);
      return {};
    },
    stat: (caller, request) => admins.stat(inodeOf(caller, request)),
    why: (caller, request) => admins.why(inodeOf(caller, request)),
    events: (_caller, { after, limit, level }) => ({ events: events.after(after, limit, level) }),
    jobs: () => ({ jobs: jobs.all().map((job) => job.status) }),
    check: () => admins.check(),
    verify: (caller, request) => admins.verify(inodeOf(caller, request)),
    verifyChunk: (_caller, { chunk }) => admins.verifyChunk(chunk),
    drainNode: async (caller, { node }) => await durable(admins.drain(name(caller), node)),
    undrainNode: async (caller, { node }) => await durable(admins.undrain(name(caller), node)),
    removeNode: async (caller, { node, evenIfDataIsLost }) => await durable(admins.remove(name(caller), node, evenIfDataIsLost)),
    scrub: (caller, { node, action }) => admins.scrub(name(caller), node, action),
    repairNow: (caller) => admins.repairNow(name(caller)),
    setRepairSpeed: async (caller, { speed }) => await durable(admins.setRepairSpeed(name(caller), speed)),
    rebalance: (caller, { action }) => admins.rebalance(name(caller), action),
    cancelJob: (caller, { job }) => admins.cancelJob(name(caller), job),
    setCopies: async (caller, { volume, copies }) => await durable(admins.setCopies(name(caller), volume, copies)),
    deleteFile: async (caller, { path, volume }) => {
      const where = volumeOf(caller, volume, 'write');
      await context.deleteFile(name(caller), where, path);
      return { text: `${path} is deleted` };
    },
    backup: () => context.backup(),
    readBackup: (_caller, { offset }) => context.readBackup(offset),
    listVolumes: ({ user }) => ({
      volumes: volumes().flatMap((row) => (user.access(row.name) === undefined ? [] : [access.volumeStatus(row)])),
    }),
    createVolume: async (caller, { name: volume, ...settings }) => await durable(access.createVolume(name(caller), volume, settings)),
    setVolume: async (caller, { volume, ...change }) => await durable(access.setVolume(name(caller), volume, change)),
    clone: async (caller, request) => await history.clone(client(caller, request.volume, 'write'), request),
    snapshots: (caller, { volume }) => history.snapshots(client(caller, volume, 'read')),
    createSnapshot: async (caller, request) =>
      await durable(await history.createSnapshot(client(caller, request.volume, 'write'), request)),
    deleteSnapshot: async (caller, request) =>
      await durable(await history.deleteSnapshot(client(caller, request.volume, 'admin'), request)),
    restoreSnapshot: async (caller, request) =>
      await durable(await history.restoreSnapshot(client(caller, request.volume, 'write'), request)),
    diffSnapshot: (caller, request) => history.diffSnapshot(client(caller, request.volume, 'read'), request),
    trash: (caller, request) => history.trash(client(caller, request.volume, 'read'), request),
    restoreTrash: async (caller, request) => await durable(await history.restoreTrash(client(caller, request.volume, 'write'), request)),
    emptyTrash: async (caller, request) => await durable(await history.emptyTrash(client(caller, request.volume, 'write'), request)),
    deleteVolume: async (caller, { volume, evenIfNotEmpty }) => await durable(access.deleteVolume(name(caller), volume, evenIfNotEmpty)),
  };

  /** An administrator's decision is on stable storage before it is answered. */
  async function durable<T>(answer: T): Promise<T> {
    await context.synced();
    return answer;
  }
}
