/** Calls of administrators and watchers: event in, checked, one function called, reply or error out. No rules here but who may. */
import type { z } from 'zod';
import { type AdminCalls, adminCalls } from '../protocol/admin-calls.js';
import type { CallFrame, Connection, Handlers, RequestOf } from '../protocol/call.js';
import { clientHandshake } from '../protocol/client-calls.js';
import type { VolumeId } from '../protocol/entities.js';
import { HoldfastError } from '../protocol/errors.js';
import { accessHandlers } from './access-handlers.js';
import { checked, checkedHandshake } from './checked.js';
import type { Keeper } from './cluster-keeper.js';
import type { Access, Actor, AuthenticatedUser, ClientCaller } from './ports.js';
import type { VolumeRow } from './rows.js';
import { seenCauses, seenEvent, type Viewer } from './viewer.js';
import { noVolume } from './volumes.js';

/** Who asks, as of this call. */
export interface AdminCaller extends Actor, Viewer {
  readonly request: string;
  readonly who: AuthenticatedUser;
  /** What the handshake named; undefined = the user's own. */
  readonly volume: string | undefined;
  readonly connection: Connection;
  accessOf(volume: VolumeId): Access | undefined;
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
  'deleteVolume',
  'setAccess',
  'createUser',
  'setUser',
  'deleteUser',
  'createJoinToken',
]);

/** @throws {HoldfastError} PROTOCOL_VERSION, UNAUTHORIZED, BAD_MESSAGE */
export function acceptAdmin(keeper: Keeper, handshake: unknown, connection: Connection): void {
  const { token, volume, description } = checkedHandshake(clientHandshake, handshake);
  const { users } = keeper.context;
  const authenticated = users.authenticate(token);
  users.attach(connection, authenticated);
  /** Rights are those of the moment of each call. */
  const callerNow = (): AdminCaller => {
    const who = users.current(authenticated);
    const accessOf = (one: VolumeId): Access | undefined => users.accessOf(who.user, one)?.access;
    const canRead = (one: VolumeId): boolean => accessOf(one) !== undefined;
    return { user: who.user, request: keeper.nextRequest(), who, isAdmin: who.isAdmin, volume, connection, accessOf, canRead };
  };
  const handlers = handlersOf(keeper);
  connection.onClose = () => {
    users.detach(connection);
    keeper.watches.closeAll(connection);
  };
  connection.onCall = async (frame: CallFrame): Promise<unknown> => {
    const { method } = frame;
    if (!Object.hasOwn(adminCalls, method)) throw new HoldfastError('BAD_MESSAGE', `administrators cannot call ${method.slice(0, 64)}`);
    const name = method as keyof AdminCalls;
    const caller = callerNow();
    const login = name === 'hello' ? users.login(caller.who, description) : undefined;
    if (login) keeper.note({ ...login, request: caller.request });
    if (ADMIN_ONLY.has(name) && !caller.isAdmin)
      throw new HoldfastError('FORBIDDEN', `${name} is for administrators; you are ${caller.user}`);
    const args = checked(adminCalls[name].request as z.ZodType<never>, frame.args, name);
    return await handlers[name](caller, args);
  };
}

function handlersOf(keeper: Keeper): Handlers<AdminCalls, AdminCaller> {
  const { context, admins, history, events, jobs, statusBook, watches } = keeper;
  const volumes = (): VolumeRow[] => context.volumes.all();
  /** The volume asked for, if the caller may do that there. @throws {HoldfastError} ENOENT, FORBIDDEN */
  const volumeOf = (caller: AdminCaller, name: string | undefined, wanted: 'read' | 'write' | 'admin' = 'read'): VolumeId => {
    const asked = name ?? caller.volume;
    const volume = asked === undefined ? context.volumes.byId(caller.who.home) : context.volumes.byName(asked);
    const rights = volume && caller.accessOf(volume.volume);
    if (!rights) throw asked === undefined ? new HoldfastError('ENOENT', 'you have no volume of your own: name one') : noVolume(asked);
    if (wanted === 'write' && rights === 'read') throw new HoldfastError('FORBIDDEN', `you may only read volume ${volume.name}`);
    if (wanted === 'admin' && rights !== 'admin') throw new HoldfastError('FORBIDDEN', `this is for who administers volume ${volume.name}`);
    return volume.volume;
  };
  /** As the author of changes of a tree. */
  const client = (caller: AdminCaller, volume: string | undefined, wanted: 'read' | 'write' | 'admin'): ClientCaller => ({
    client: 'coordinator',
    user: caller.user,
    volume: volumeOf(caller, volume, wanted),
    access: 'admin',
    userId: caller.who.id,
  });
  const inodeOf = (caller: AdminCaller, { path, volume }: { path: string; volume?: string | undefined }): number =>
    context.resolve(volumeOf(caller, volume), path);
  const mayWatch = (caller: AdminCaller, request: RequestOf<AdminCalls, 'watch'>): void => {
    if (request.topic !== 'directory' && request.topic !== 'file') return;
    const row = context.state.get('inodes', request.inode);
    if (!row || !caller.canRead(row.volume)) throw new HoldfastError('ENOENT', `no inode ${request.inode}`);
  };

  return {
    ...accessHandlers(keeper, durable),
    hello: ({ user, isAdmin, canRead }) => ({
      cluster: context.cluster,
      epoch: context.epoch,
      user,
      isAdmin,
      version: context.options.version,
      volumes: volumes().filter(({ volume }) => canRead(volume)),
    }),
    status: (caller) => statusBook.statusFor(caller),
    watch: (caller, request) => {
      mayWatch(caller, request);
      return watches.open(caller.connection, request, caller);
    },
    unwatch: ({ connection }, { watch }) => {
      watches.close(connection, watch);
      return {};
    },
    stat: (caller, request) => admins.stat(inodeOf(caller, request)),
    why: (caller, request) => {
      const report = admins.why(inodeOf(caller, request));
      return caller.isAdmin ? report : { ...report, causes: seenCauses(report.causes) };
    },
    events: (caller, { after, limit, level }) => ({ events: events.after(after, limit, level, (event) => seenEvent(event, caller)) }),
    jobs: ({ isAdmin }) => ({ jobs: isAdmin ? jobs.all().map((job) => job.status) : [] }),
    check: () => admins.check(),
    verify: (caller, request) => admins.verify(inodeOf(caller, request)),
    verifyChunk: (_caller, { chunk }) => admins.verifyChunk(chunk),
    drainNode: async (caller, { node }) => await durable(admins.drain(caller, node)),
    undrainNode: async (caller, { node }) => await durable(admins.undrain(caller, node)),
    removeNode: async (caller, { node, evenIfDataIsLost }) => await durable(admins.remove(caller, node, evenIfDataIsLost)),
    scrub: (caller, { node, action }) => admins.scrub(caller, node, action),
    repairNow: (caller) => admins.repairNow(caller),
    setRepairSpeed: async (caller, { speed }) => await durable(admins.setRepairSpeed(caller, speed)),
    rebalance: (caller, { action }) => admins.rebalance(caller, action),
    cancelJob: (caller, { job }) => admins.cancelJob(caller, job),
    setCopies: async (caller, { volume, copies }) => await durable(admins.setCopies(caller, volume, copies)),
    deleteFile: async (caller, { path, volume }) => {
      const where = volumeOf(caller, volume, 'write');
      await context.deleteFile(caller, where, path);
      return { text: `${path} is deleted` };
    },
    backup: () => context.backup(),
    readBackup: (_caller, { offset }) => context.readBackup(offset),
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
  };

  /** An administrator's decision is on stable storage before it is answered. */
  async function durable<T>(answer: T): Promise<T> {
    await context.synced();
    return answer;
  }
}
