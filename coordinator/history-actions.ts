/** What people do with the past of a volume, by call: snapshots, trash, copies of trees. Done by the history keeper, recorded as events here. */
import type { ReplyOf, RequestOf } from '../protocol/call.js';
import { DEFAULT_VOLUME_NAME, type VolumeId } from '../protocol/entities.js';
import { HoldfastError } from '../protocol/errors.js';
import { TRASH_NAME } from '../protocol/hidden.js';
import type { historyCalls, TrashEntry } from '../protocol/history-calls.js';
import { type HistoryKeeper, historySettings } from './history-keeper.js';
import { cleanPath, isAtOrBelow } from './names.js';
import type { ClientCaller, ClusterContext } from './ports.js';
import type { TrashedFile } from './trash.js';
import { trashName } from './tree-view.js';
import { bytesInWords, countOf } from './words.js';

type Calls = typeof historyCalls;
type Request<M extends keyof Calls> = RequestOf<Calls, M>;
type Reply<M extends keyof Calls> = ReplyOf<Calls, M>;

export class HistoryActions {
  constructor(
    private readonly context: ClusterContext,
    private readonly record: (user: string, kind: string, text: string) => void,
  ) {}
  private get keeper(): HistoryKeeper {
    return this.context.history();
  }
  private settings(volume: VolumeId) {
    return historySettings(this.context.state.get('volumes', volume));
  }
  /** For sentences: " of volume photos", nothing for the main one. */
  private of(volume: VolumeId): string {
    const name = this.context.state.get('volumes', volume)?.name ?? '';
    return name === DEFAULT_VOLUME_NAME ? '' : ` of volume ${name}`;
  }

  async clone(caller: ClientCaller, { from, to }: Request<'clone'>): Promise<Reply<'clone'>> {
    const inodes = await this.keeper.clone(caller, from, to);
    this.record(
      caller.user,
      'tree.cloned',
      `${from}${this.of(caller.volume)} cloned to ${to} by ${caller.user}: ${countOf(inodes, 'inode')}`,
    );
    return { text: `${to} is a copy of ${from} (${countOf(inodes, 'file')} and directories; the data is shared)`, inodes };
  }

  snapshots({ volume }: ClientCaller): Reply<'snapshots'> {
    const { snapshots } = this.keeper;
    return { snapshots: snapshots.list(volume), heldBytes: snapshots.history.heldBytesOf(volume), settings: this.settings(volume) };
  }
  async createSnapshot(caller: ClientCaller, { name }: Request<'createSnapshot'>): Promise<Reply<'createSnapshot'>> {
    const { snapshots } = this.keeper;
    const row = await snapshots.create(caller, 'manual', name);
    const snapshot = snapshots.list(caller.volume).find((one) => one.name === row.name);
    if (!snapshot) throw new HoldfastError('ENOENT', 'the snapshot was deleted meanwhile');
    this.record(caller.user, 'snapshot.created', `snapshot ${row.name}${this.of(caller.volume)} taken by ${caller.user}`);
    return { text: `snapshot ${row.name} is taken: browse it in .snapshots/${row.name}`, snapshot };
  }
  async deleteSnapshot(caller: ClientCaller, { name }: Request<'deleteSnapshot'>): Promise<Reply<'deleteSnapshot'>> {
    const { snapshots } = this.keeper;
    await snapshots.delete(caller, snapshots.find(caller.volume, name));
    this.record(caller.user, 'snapshot.deleted', `snapshot ${name}${this.of(caller.volume)} deleted by ${caller.user}`);
    return { text: `snapshot ${name} is deleted; the space of what only it had becomes free in the next seconds` };
  }
  async restoreSnapshot(caller: ClientCaller, { name, path }: Request<'restoreSnapshot'>): Promise<Reply<'restoreSnapshot'>> {
    const { inodes, before } = await this.keeper.restore(caller, name, path);
    const what = cleanPath(path) === '/' ? 'everything' : path;
    this.record(caller.user, 'snapshot.restored', `${what}${this.of(caller.volume)} put back to snapshot ${name} by ${caller.user}`);
    return { text: `${what} is as it was in snapshot ${name}; what was there before is in snapshot ${before}`, inodes, before };
  }
  diffSnapshot(caller: ClientCaller, { name, other, path, limit }: Request<'diffSnapshot'>): Promise<Reply<'diffSnapshot'>> {
    return this.keeper.diff(caller, name, other, path, limit);
  }

  trash({ volume }: ClientCaller, { path, limit }: Request<'trash'>): Reply<'trash'> {
    const isMeant = isAtOrBelow(cleanPath(path));
    const found = this.keeper.trash.all(volume).filter((file) => isMeant(file.path));
    const files = found.reverse().slice(0, limit).map(shown);
    return {
      files,
      total: found.length,
      totalBytes: found.reduce((sum, file) => sum + file.sizeBytes, 0),
      settings: this.settings(volume),
    };
  }

  async restoreTrash(caller: ClientCaller, { path, to }: Request<'restoreTrash'>): Promise<Reply<'restoreTrash'>> {
    const found = this.trashed(caller.volume, cleanPath(path));
    if (found.length === 0)
      throw new HoldfastError('ENOENT', `nothing in the trash was at ${path}: "holdfast trash list" shows what there is`);
    if (to !== undefined && found.length > 1)
      throw new HoldfastError(
        'EINVAL',
        `${countOf(found.length, 'file')} were below ${path}: another place can be given for one file only`,
      );
    const restored: string[] = [];
    const failed: { path: string; why: string }[] = [];
    for (const file of found) {
      try {
        restored.push(await this.keeper.restoreTrashed(caller, file.inode, to === undefined ? undefined : cleanPath(to)));
      } catch (error) {
        if (found.length === 1 || !(error instanceof HoldfastError)) throw error;
        failed.push({ path: file.path, why: error.message });
      }
    }
    this.record(
      caller.user,
      'trash.restored',
      `${countOf(restored.length, 'file')}${this.of(caller.volume)} restored from the trash by ${caller.user}`,
    );
    const rest = failed.length > 0 ? `; ${failed.length} could not be restored` : '';
    return {
      text: `${restored.length === 1 ? `${restored[0]} is` : `${countOf(restored.length, 'file')} are`} back${rest}`,
      restored,
      failed,
    };
  }
  /** By the name in the trash, or by where it was. */
  private trashed(volume: VolumeId, path: string): TrashedFile[] {
    const { trash } = this.keeper;
    const named = new RegExp(`^/(?:${TRASH_NAME.replace('.', '\\.')}/)?([^/]+\\.~\\d+)$`).exec(path)?.[1];
    const one = named === undefined ? undefined : trash.all(volume).find((file) => trashName(file.inode, file) === named);
    return one ? [one] : trash.below(volume, path);
  }
  async emptyTrash(caller: ClientCaller, { path, olderThanMs }: Request<'emptyTrash'>): Promise<Reply<'emptyTrash'>> {
    const isMeant = isAtOrBelow(cleanPath(path));
    const { trash } = this.keeper;
    const due = trash.all(caller.volume).filter((file) => trash.ageMs(file.atMs) >= olderThanMs && isMeant(file.path));
    await this.keeper.empty(
      caller.volume,
      due.map((file) => file.inode),
    );
    const bytes = due.reduce((sum, file) => sum + file.sizeBytes, 0);
    const what = `${countOf(due.length, 'deleted file')} (${bytesInWords(bytes)})`;
    this.record(caller.user, 'trash.emptied', `${what}${this.of(caller.volume)} removed from the trash by ${caller.user}`);
    return { text: `${what} are gone for good`, files: due.length, bytes };
  }
}

const shown = (file: TrashedFile): TrashEntry => ({
  name: trashName(file.inode, file),
  path: file.path,
  sizeBytes: file.sizeBytes,
  deletedAtMs: file.atMs,
  user: file.user,
  isOpen: file.isOpen,
  isShortLived: file.isShortLived === true,
});
