/**
 * The past of volumes put together: snapshots by hand and by schedule, the trash and its end, copies of trees. Answers to people are in
 * history-actions.ts; here is what happens by itself, and what takes several steps.
 */
import type { InodeId, VolumeId } from '../protocol/entities.js';
import type { Timer } from '../protocol/environment.js';
import { HoldfastError } from '../protocol/errors.js';
import { inSnapshot, isLiveInode, SNAPSHOTS_NAME } from '../protocol/hidden.js';
import type { HistorySettings, SnapshotChange } from '../protocol/history-calls.js';
import { BackgroundSteps } from './background-steps.js';
import type { ChangeContext } from './file-tree.js';
import { checkName, cleanPath, isDotName } from './names.js';
import type { ClientCaller } from './ports.js';
import { entryKey, type InodeRow, type SnapshotRow, type VolumeRow } from './rows.js';
import { type SnapshotPorts, Snapshots } from './snapshots.js';
import { Trash } from './trash.js';
import { differences } from './tree-diff.js';
import { makeHolder, removeStep, TreeCopy } from './tree-steps.js';
import type { TreeView } from './tree-view.js';
import { bytesInWords, countOf } from './words.js';

const LOOK_MS = 1000;
const TRASH_FILES_PER_STEP = 200;
/** One look at a volume takes so many steps; what is due beyond that waits for the next one. */
const MAX_TRASH_STEPS = 20;
/** Trash goes early when less of the nodes' space than this is free, and as much as brings it back there. */
const FREE_SHARE = 0.05;
/** What was dropped takes the collector some seconds to free; only then is it known whether more has to go. */
const AFTER_PRESSURE_MS = 15_000;

export interface HistoryPorts extends SnapshotPorts {
  readonly space: (volume: VolumeId) => { readonly totalBytes: number; readonly freeBytes: number };
  readonly mayFree: () => boolean;
  readonly note: (kind: string, text: string, user?: string) => void;
}

/** What a volume keeps of its past. */
export function historySettings(row: VolumeRow | undefined): HistorySettings {
  return { trashKeepMs: row?.trashKeepMs ?? 0, snapshotEveryMs: row?.snapshots?.everyMs ?? 0, snapshotKeep: row?.snapshots?.keep ?? 0 };
}

const beyond = (used: number, quota: number | null): number => (quota === null ? 0 : Math.max(0, used - quota));

/** Who acts when nobody asked. */
export const ownCaller = (volume: VolumeId, user = 'holdfast'): ClientCaller => ({ client: 'coordinator', user, volume, access: 'admin' });

export class HistoryKeeper {
  readonly snapshots: Snapshots;
  readonly trash: Trash;
  private timer: Timer | undefined;
  private isStopped = false;
  private readonly removal: BackgroundSteps;
  private isLooking = false;
  private pressedAtMs = Number.NEGATIVE_INFINITY;

  constructor(private readonly ports: HistoryPorts) {
    this.snapshots = new Snapshots(ports);
    this.trash = new Trash(ports.tree, ports.wallMs, () => ports.environment.monotonicMs());
    this.removal = new BackgroundSteps(ports.pause, () => this.removeSome());
  }

  /** For reading: live trees, snapshots and hidden directories alike. */
  get view(): TreeView {
    return this.ports.tree.view;
  }

  start(): void {
    const { state } = this.ports.tree;
    const building = [...state.table('treeTasks').all()].filter(([, row]) => row.kind === 'building');
    if (building.length > 0)
      state.transact((tx) => {
        for (const [inode, row] of building) tx.put('treeTasks', inode, { ...row, kind: 'removing' });
      });
    this.snapshots.start();
    this.removal.begin();
    const tick = (): void => {
      this.timer = this.ports.environment.setTimer(LOOK_MS, () => {
        if (this.isStopped) return;
        void this.look();
        tick();
      });
    };
    tick();
  }
  stop(): void {
    this.isStopped = true;
    this.timer?.cancel();
    this.removal.stop();
    this.snapshots.stop();
  }
  /** Resolves when nothing is being removed in the background any more. */
  async settled(): Promise<void> {
    await this.removal.settled();
    await this.snapshots.settled();
  }

  // ---- what happens by itself ----

  private async look(): Promise<void> {
    if (this.isLooking) return;
    this.isLooking = true;
    try {
      this.trash.look();
      for (const volume of [...this.ports.tree.state.table('volumes').values()]) {
        await this.takeDue(volume);
        await this.emptyDue(volume.volume);
      }
      await this.emptyOverUserQuotas();
      this.dropOfNoVolume();
    } catch (error) {
      this.ports.environment.log('warn', 'snapshots or trash could not be looked after', { error: String(error) });
    } finally {
      this.isLooking = false;
    }
  }

  /** A volume that was deleted has no past either. */
  private dropOfNoVolume(): void {
    const { state } = this.ports.tree;
    const isGone = ({ volume }: { volume: VolumeId }): boolean => !state.get('volumes', volume);
    const snapshots = [...state.table('snapshots').values()].filter((row) => isGone(row) && !row.isDeleting);
    const trashed = this.trash
      .volumes()
      .filter((volume) => isGone({ volume }))
      .flatMap((volume) => this.trash.all(volume))
      .slice(0, TRASH_FILES_PER_STEP * 10);
    if (snapshots.length + trashed.length === 0) return;
    state.transact((tx) => {
      for (const row of snapshots) tx.put('snapshots', row.number, { ...row, isDeleting: true });
      for (const { inode } of trashed) tx.remove('trash', inode);
    });
    this.snapshots.start();
  }

  /** A snapshot when its time has come, and the end of those of the schedule that are too many. */
  private async takeDue(row: VolumeRow): Promise<void> {
    const { volume } = row;
    const { snapshotEveryMs, snapshotKeep } = historySettings(row);
    if (snapshotEveryMs <= 0) return;
    const scheduled = (): SnapshotRow[] => this.snapshots.history.listed(volume).filter((row) => row.origin === 'schedule');
    const nowMs = this.ports.wallMs();
    const lastMs = scheduled().at(-1)?.atMs;
    // A clock that was set back must not stop the schedule for as long.
    if (lastMs === undefined || nowMs - lastMs >= snapshotEveryMs || nowMs < lastMs)
      await this.snapshots.create(ownCaller(volume), 'schedule');
    const all = scheduled();
    for (const row of all.slice(0, Math.max(0, all.length - snapshotKeep))) await this.snapshots.delete(ownCaller(volume), row);
  }

  private async emptyDue(volume: VolumeId): Promise<void> {
    const { files, bytes } = this.trash.totalsOf(volume);
    if (files === 0) return;
    const nowMs = this.ports.environment.monotonicMs();
    const { totalBytes, freeBytes } = this.ports.space(volume);
    const lacking = Math.ceil(totalBytes * FREE_SHARE) - freeBytes;
    // After a restart not all nodes have told how much room they have, and giving files up would free none of it yet.
    const mayPress = this.ports.mayFree() && nowMs - this.pressedAtMs >= AFTER_PRESSURE_MS;
    const isPressed = mayPress && totalBytes > 0 && lacking > 0;
    const room = isPressed ? lacking : 0;
    let dropped = 0;
    for (let step = 0; step < MAX_TRASH_STEPS; step++) {
      const now = this.trash.totalsOf(volume);
      const over = this.overQuota(volume);
      const wanted = { bytes: Math.max(room - (bytes - now.bytes), over.bytes), files: over.files };
      const due = this.trash.due(volume, wanted, TRASH_FILES_PER_STEP);
      if (due.length === 0) break;
      await this.purge(volume, due);
      dropped += due.length;
      await this.ports.pause();
    }
    if (!isPressed || dropped === 0) return;
    this.pressedAtMs = nowMs;
    const freed = bytesInWords(bytes - this.trash.totalsOf(volume).bytes);
    this.ports.note('trash.pressed', `the nodes are nearly full: ${countOf(dropped, 'deleted file')} (${freed}) left the trash early`);
  }
  /** What is deleted does not keep anybody from writing (quotas.ts), so both together may be more than a quota for a moment: until here. */
  private overQuota(volume: VolumeId): { bytes: number; files: number } {
    const { state } = this.ports.tree;
    const { quotaBytes = null, quotaFiles = null } = state.get('volumes', volume) ?? {};
    const { chargedBytes, chargedFiles } = state.index.ofVolume(volume);
    return { bytes: beyond(chargedBytes, quotaBytes), files: beyond(chargedFiles, quotaFiles) };
  }
  private async emptyOverUserQuotas(): Promise<void> {
    const { quotas, state } = this.ports.tree;
    for (const { id, quotaBytes, quotaFiles } of quotas.limitedUsers()) {
      for (let step = 0; step < MAX_TRASH_STEPS; step++) {
        const used = state.index.ofUser(id);
        const over = { bytes: beyond(used.bytes, quotaBytes), files: beyond(used.files, quotaFiles) };
        if (over.bytes + over.files === 0) break;
        const due = this.trash.dueOfUser(id, over, TRASH_FILES_PER_STEP);
        if (due.length === 0) break;
        for (const volume of new Set(due.map((one) => one.volume)))
          await this.purge(
            volume,
            due.filter((one) => one.volume === volume).map(({ inode }) => inode),
          );
        await this.ports.pause();
      }
    }
  }
  private async purge(volume: VolumeId, inodes: readonly InodeId[]): Promise<void> {
    await this.ports.change(ownCaller(volume), (context) => {
      for (const inode of inodes) this.trash.purge(context, inode);
    });
  }

  /** For good, in steps. @param inodes as `Trash.all` names them */
  async empty(volume: VolumeId, inodes: readonly InodeId[]): Promise<void> {
    for (let at = 0; at < inodes.length; at += TRASH_FILES_PER_STEP) {
      await this.purge(volume, inodes.slice(at, at + TRASH_FILES_PER_STEP));
      await this.ports.pause();
    }
  }

  /** @param to another place than where it was. @returns its path now. @throws {HoldfastError} ENOENT, EEXIST, ENOTDIR, EDQUOT */
  async restoreTrashed(caller: ClientCaller, inode: InodeId, to?: string): Promise<string> {
    const target = to === undefined ? undefined : this.place(caller, to);
    return await this.ports.change(caller, (context) => this.trash.restore(context, inode, target));
  }

  private async removeSome(): Promise<boolean> {
    const { tree } = this.ports;
    const next = [...tree.state.table('treeTasks').all()].find(([, row]) => row.kind === 'removing');
    if (!next) return false;
    const [holder, { volume }] = next;
    await this.ports.change(ownCaller(volume), (context) => removeStep(tree, context, holder));
    return true;
  }

  // ---- copies ----

  /**
   * Copies a tree as it is now (or was, from a snapshot) to a new name; nobody sees a part of it.
   * @throws {HoldfastError} ENOENT, ENOTDIR, EEXIST, EDQUOT
   */
  async clone(caller: ClientCaller, from: string, to: string): Promise<number> {
    const { tree } = this.ports;
    const source = tree.resolve(caller.volume, from);
    const { parent, name } = this.place(caller, to);
    const free = (): void => {
      if (tree.view.lookup(parent, name) !== undefined) throw new HoldfastError('EEXIST', `${to} is there already`);
    };
    free();
    const copyOf = async (frozen: InodeId): Promise<number> => {
      const { holder, copy } = await this.build(caller, [{ source: frozen, name }]);
      await this.finish(caller, [holder], (context) => {
        free();
        const directory = tree.directory(caller, parent);
        const moved = this.move(context, holder, name, parent, name);
        context.effects.touch(parent, name);
        tree.update(context, directory, {
          mtimeS: context.now.s,
          mtimeNs: context.now.ns,
          nlink: directory.nlink + (moved.kind === 'directory' ? 1 : 0),
        });
      });
      return copy.count;
    };
    // What is in a snapshot does not change; a live tree is copied from a cut of this moment.
    if (!isLiveInode(source)) return await copyOf(source);
    return await this.withCut(caller, (cut) => copyOf(inSnapshot(cut.number, source)));
  }

  /** Directory and name a path leads to, whether it is there or not. @throws {HoldfastError} EROFS, ENOENT, EEXIST */
  private place(caller: ClientCaller, path: string): { parent: InodeId; name: string } {
    const cut = path.replace(/\/+$/, '');
    const name = cut.slice(cut.lastIndexOf('/') + 1);
    if (name === '' || isDotName(name)) throw new HoldfastError('EEXIST', `${path} is there already`);
    checkName(name);
    const { tree } = this.ports;
    const parent = tree.directory(caller, tree.resolve(caller.volume, cut.slice(0, cut.length - name.length) || '/')).inode;
    if (!isLiveInode(parent)) throw new HoldfastError('EROFS', 'snapshots and trash cannot be written to');
    return { parent, name };
  }

  /** Runs with a cut of the volume as it is now, which nobody else sees and which is gone afterwards. */
  private async withCut<T>(caller: ClientCaller, run: (cut: SnapshotRow) => Promise<T>): Promise<T> {
    const cut = await this.snapshots.create(caller, 'internal');
    try {
      return await run(cut);
    } finally {
      await this.snapshots.delete(caller, cut);
    }
  }

  /** Builds copies side by side in a new holder. On failure nothing is left of them. */
  private async build(
    caller: ClientCaller,
    parts: readonly { source: InodeId; name: string }[],
  ): Promise<{ holder: InodeId; copy: TreeCopy }> {
    const { ports } = this;
    if (ports.isFull()) throw new HoldfastError('ENOSPC', 'the disk of the coordinator is full: free some space there');
    const holder = await ports.change(caller, (context) => makeHolder(ports.tree, context));
    const copy = new TreeCopy(ports, caller);
    try {
      for (const { source, name } of parts) await copy.copy(source, holder, name);
    } catch (error) {
      this.discard(holder);
      throw error;
    }
    return { holder, copy };
  }
  /** Puts what was built where it belongs, in one transaction; what is in the holders afterwards is removed. */
  private async finish(caller: ClientCaller, holders: readonly InodeId[], put: (context: ChangeContext) => void): Promise<void> {
    try {
      await this.ports.change(caller, put);
    } finally {
      for (const holder of holders) this.discard(holder);
    }
  }
  private discard(holder: InodeId): void {
    const { state } = this.ports.tree;
    const task = state.get('treeTasks', holder);
    if (task) state.transact((tx) => tx.put('treeTasks', holder, { ...task, kind: 'removing' }));
    this.removal.begin();
  }

  /** Moves an entry between directories, without a look at times and links of either. */
  private move({ tx, effects }: ChangeContext, from: InodeId, fromName: string, to: InodeId, toName: string): InodeRow {
    const inode = tx.get('entries', entryKey(from, fromName));
    const row = inode === undefined ? undefined : tx.get('inodes', inode);
    if (!row) throw new HoldfastError('ESTALE', `"${fromName}" is gone`);
    tx.remove('entries', entryKey(from, fromName));
    tx.put('entries', entryKey(to, toName), row.inode);
    const moved = { ...row, parent: to, name: toName, change: row.change + 1 };
    tx.put('inodes', row.inode, moved);
    effects.touch(row.inode);
    return moved;
  }

  // ---- going back ----

  /**
   * Makes a path, or all of the volume, what it was. What is there now is replaced in one step, and kept as a snapshot.
   * @returns how many inodes were made, and the name of the snapshot of what was there before
   * @throws {HoldfastError} ENOENT the snapshot, the path in it, or the directory to put it into; EDQUOT
   */
  async restore(caller: ClientCaller, name: string, path: string): Promise<{ inodes: number; before: string }> {
    const { tree } = this.ports;
    const snapshot = this.snapshots.find(caller.volume, name);
    const clean = cleanPath(path);
    const source = tree.resolve(caller.volume, `/${SNAPSHOTS_NAME}/${snapshot.name}${clean}`);
    const place = clean === '/' ? undefined : this.place(caller, clean);
    const parts = place
      ? [{ source, name: place.name }]
      : tree.view.sorted(source).map((child) => ({ source: tree.view.lookup(source, child) as InodeId, name: child }));
    const before = await this.snapshots.create(caller, 'restore');
    const { holder, copy } = await this.build(caller, parts);
    const old = await this.ports.change(caller, (context) => makeHolder(tree, context));
    await this.finish(caller, [holder, old], (context) => {
      const parent = place?.parent ?? tree.resolve(caller.volume, '/');
      const target = tree.directory(caller, parent);
      let { nlink } = target;
      const names = place ? [place.name] : tree.view.sorted(parent);
      for (const one of [...names]) {
        if (tree.state.table('entries').lookup(parent, one) === undefined) continue;
        if (this.move(context, parent, one, old, one).kind === 'directory') nlink--;
        context.effects.touch(parent, one);
      }
      for (const part of parts) {
        if (this.move(context, holder, part.name, parent, part.name).kind === 'directory') nlink++;
        context.effects.touch(parent, part.name);
      }
      const was = place ? undefined : tree.view.inode(source);
      const { mode, uid, gid } = was ?? target;
      tree.update(context, target, { mtimeS: context.now.s, mtimeNs: context.now.ns, nlink, mode, uid, gid });
    });
    return { inodes: copy.count, before: before.name };
  }

  /** @param other undefined = now. @throws {HoldfastError} ENOENT */
  async diff(
    caller: ClientCaller,
    name: string,
    other: string | undefined,
    path: string,
    limit: number,
  ): Promise<{ changes: SnapshotChange[]; isCut: boolean }> {
    const { tree, pause } = this.ports;
    const { volume } = caller;
    const clean = cleanPath(path);
    const { root } = tree.state.get('volumes', volume) ?? { root: 0 };
    const at = (row: SnapshotRow): InodeId | undefined => {
      let inode: InodeId | undefined = inSnapshot(row.number, root);
      for (const part of clean.split('/').filter(Boolean)) inode = inode === undefined ? undefined : tree.view.lookup(inode, part);
      return inode;
    };
    const before = this.snapshots.find(volume, name);
    const compare = async (after: SnapshotRow) => {
      const [old, now] = [at(before), at(after)];
      if (old === undefined && now === undefined) throw new HoldfastError('ENOENT', `${clean} is in neither`);
      return await differences(tree.view, old, now, clean, pause, limit);
    };
    if (other !== undefined) return await compare(this.snapshots.find(volume, other));
    return await this.withCut(caller, compare);
  }
}
