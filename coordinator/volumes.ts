/**
 * Volumes: file trees with settings of their own. Ids are never given twice, because they are part of chunk ids and of headers on nodes' disks.
 *
 * Deleting one happens at once for everybody who looks (its row is gone, so no name leads to it and no session works in it); its inodes and
 * references of chunks go in the background, in small steps. What is left to do is remembered in the settings, so a restart goes on with it.
 */
import type { VolumeChange } from '../protocol/access-calls.js';
import { DEFAULT_VOLUME_NAME, type InodeId, ROOT_VOLUME, type VolumeId, type VolumeSettings } from '../protocol/entities.js';
import type { Environment } from '../protocol/environment.js';
import { HoldfastError } from '../protocol/errors.js';
import { entryKey, type VolumeRow } from './rows.js';
import { numberSetting, type State, type Transaction } from './state.js';

const LAST_VOLUME_SETTING = 'lastVolume';
const REMOVING_SETTING = 'removingVolumes';
/** Rows looked at, or changed, before others get their turn. */
const LOOKED_AT_PER_STEP = 20_000;
const ENTRIES_PER_STEP = 1_000;
const INODES_PER_STEP = 200;

export interface VolumesParts {
  readonly environment: Environment;
  readonly state: State;
  /** Makes the root directory of a new volume. */
  createRoot(tx: Transaction, volume: VolumeId): InodeId;
  /** Takes a bounded part of an inode away; true when nothing is left of it. */
  reapStep(tx: Transaction, inode: InodeId): boolean;
}

const refuse = (why: string): HoldfastError => new HoldfastError('REFUSED', why);

export class Volumes {
  /** Set by the coordinator: nobody may work in it any more. Called after the transaction. */
  onRemoved: ((volume: VolumeId) => void) | undefined;
  private isStopped = false;

  constructor(private readonly parts: VolumesParts) {}

  /** Takes up removals that an earlier run began. Call once the state is loaded. */
  start(): void {
    if (this.removing.length > 0) this.removeSoon();
  }
  stop(): void {
    this.isStopped = true;
  }

  all(): VolumeRow[] {
    return [...this.parts.state.table('volumes').values()];
  }
  byName(name: string): VolumeRow | undefined {
    return this.all().find((one) => one.name === name);
  }
  byId(volume: VolumeId | null): VolumeRow | undefined {
    return volume === null ? undefined : this.parts.state.get('volumes', volume);
  }
  /** @throws {HoldfastError} ENOENT */
  get(name: string): VolumeRow {
    const found = this.byName(name);
    if (!found) throw noVolume(name);
    return found;
  }

  /** @throws {HoldfastError} EEXIST */
  create(tx: Transaction, name: string, settings: VolumeChange): VolumeSettings {
    if (this.byName(name)) throw new HoldfastError('EEXIST', `there is a volume ${name} already`);
    const { state } = this.parts;
    const main = state.get('volumes', ROOT_VOLUME);
    const last = Math.max(numberSetting(state, LAST_VOLUME_SETTING), ROOT_VOLUME, ...this.all().map((one) => one.volume));
    const volume = last + 1;
    tx.put('settings', LAST_VOLUME_SETTING, volume);
    const row: VolumeSettings = {
      volume,
      name,
      root: this.parts.createRoot(tx, volume),
      copies: settings.copies ?? main?.copies ?? 2,
      chunkSizeBytes: settings.chunkSizeBytes ?? main?.chunkSizeBytes ?? 1024 * 1024,
      quotaBytes: settings.quotaBytes ?? null,
      quotaFiles: settings.quotaFiles ?? null,
      encryption: settings.encryption ?? null,
      trashKeepMs: settings.trashKeepMs ?? main?.trashKeepMs ?? 0,
      snapshots: settings.snapshots ?? null,
    };
    tx.put('volumes', volume, row);
    return row;
  }

  /** @throws {HoldfastError} REFUSED */
  set(tx: Transaction, before: VolumeRow, change: VolumeChange): VolumeSettings {
    if (change.encryption !== undefined && (change.encryption === null) !== (before.encryption === null) && !this.isEmpty(before))
      throw refuse(
        `encryption is switched on or off only while a volume is empty, and ${before.name} holds something: create another volume and copy`,
      );
    const given = Object.fromEntries(Object.entries(change).filter(([, value]) => value !== undefined)) as VolumeChange;
    const after = { ...before, ...given } as VolumeSettings;
    tx.put('volumes', before.volume, after);
    return after;
  }

  isEmpty({ root }: VolumeRow): boolean {
    return this.parts.state.table('entries').countOf(root) === 0;
  }

  /**
   * Takes a volume away, with everything in it.
   * @throws {HoldfastError} REFUSED for the cluster's first volume, and for one that holds something unless `evenIfNotEmpty` is its name
   */
  remove(tx: Transaction, row: VolumeRow, evenIfNotEmpty: string | undefined): void {
    if (row.volume === ROOT_VOLUME) throw refuse(`${DEFAULT_VOLUME_NAME} is the cluster's own volume: it stays`);
    if (!this.isEmpty(row) && evenIfNotEmpty !== row.name)
      throw refuse(`volume ${row.name} holds files: to delete them all, repeat its name ("--even-if-not-empty ${row.name}")`);
    tx.remove('volumes', row.volume);
    tx.put('settings', REMOVING_SETTING, [...this.removing, row.volume]);
    tx.afterwards(() => {
      this.onRemoved?.(row.volume);
      if (this.removing.length === 1) this.removeSoon();
    });
  }

  private get removing(): readonly VolumeId[] {
    return (this.parts.state.get('settings', REMOVING_SETTING) as VolumeId[] | undefined) ?? [];
  }
  private removeSoon(): void {
    const { environment } = this.parts;
    const [volume] = this.removing;
    if (volume === undefined || this.isStopped) return;
    const steps = this.removalSteps(volume);
    const next = (): void => {
      if (this.isStopped) return;
      try {
        if (steps.next().done !== true) {
          environment.setTimer(0, next);
          return;
        }
      } catch (error) {
        // Begun again at the next start: nothing is lost by that but room.
        environment.log('error', 'a deleted volume could not be taken apart', { volume, error: String(error) });
        return;
      }
      this.removeSoon();
    };
    environment.setTimer(0, next);
  }

  /** Names first, so that at no time a name leads to an inode that is gone. */
  private *removalSteps(volume: VolumeId): Generator<void> {
    const { state } = this.parts;
    const inodes: InodeId[] = [];
    let looked = 0;
    for (const [inode, row] of state.table('inodes').all()) {
      if (row.volume === volume) inodes.push(inode);
      if (++looked % LOOKED_AT_PER_STEP === 0) yield;
    }
    for (const inode of inodes) {
      while (state.table('entries').countOf(inode) > 0) {
        state.transact((tx) => {
          const names: string[] = [];
          for (const name of state.table('entries').of(inode).keys()) if (names.push(name) === ENTRIES_PER_STEP) break;
          for (const name of names) tx.remove('entries', entryKey(inode, name));
        });
        yield;
      }
    }
    for (let at = 0; at < inodes.length; ) {
      state.transact((tx) => {
        const end = Math.min(at + INODES_PER_STEP, inodes.length);
        // An inode with very many extents takes more than one step.
        while (at < end && this.parts.reapStep(tx, inodes[at] as InodeId)) at++;
      });
      yield;
    }
    state.transact((tx) =>
      tx.put(
        'settings',
        REMOVING_SETTING,
        this.removing.filter((one) => one !== volume),
      ),
    );
  }
}

/** The same words whether there is none or it is not the caller's. */
export const noVolume = (name: string): HoldfastError => new HoldfastError('ENOENT', `there is no volume ${name}, or it is not yours`);
