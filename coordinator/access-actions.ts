/** What administrators do to volumes, users and rights: checked here, applied in one transaction, recorded as an event. */
import type { VolumeChange, VolumeStatus } from '../protocol/access-calls.js';
import type { Done } from '../protocol/admin-calls.js';
import type { VolumeSettings } from '../protocol/entities.js';
import type { Keeper } from './cluster-keeper.js';
import type { VolumeRow } from './rows.js';
import { bytesInWords, countOf, durationInWords } from './words.js';

export class AccessActions {
  constructor(private readonly keeper: Keeper) {}

  volumeStatus(row: VolumeRow): VolumeStatus {
    const { files, directories, logicalBytes, chargedBytes, chargedFiles, uniqueBytes } = this.keeper.context.state.index.ofVolume(
      row.volume,
    );
    return { ...row, files, directories, logicalBytes, chargedBytes, chargedFiles, uniqueBytes };
  }

  createVolume(user: string, name: string, settings: VolumeChange): Done & { volume: VolumeSettings } {
    const { state, volumes } = this.keeper.context;
    const volume = state.transact((tx) => volumes.create(tx, name, settings));
    this.keeper.admins.record(user, 'volume.created', `volume ${name} created by ${user}`);
    return { text: `volume ${name} is there: ${inWords(volume)}${this.warning(volume)}`, volume };
  }

  setVolume(user: string, name: string, change: VolumeChange): Done & { volume: VolumeSettings } {
    const { state, volumes, notices } = this.keeper.context;
    const before = volumes.get(name);
    const volume = state.transact((tx) => volumes.set(tx, before, change));
    notices.volumeChanged(volume);
    if (volume.copies !== before.copies) this.keeper.repair.kick();
    // Which settings, not what they are: wrapped keys do not belong into events.
    const changed = Object.entries(change).flatMap(([key, value]) => (value === undefined ? [] : [key]));
    this.keeper.admins.record(user, 'volume.changed', `volume ${name}: ${changed.join(', ') || 'nothing'} set by ${user}`);
    return { text: `volume ${name}: ${inWords(volume)}${this.warning(volume)}`, volume };
  }

  deleteVolume(user: string, name: string, evenIfNotEmpty: string | undefined): Done {
    const { state, volumes } = this.keeper.context;
    const row = volumes.get(name);
    const { files } = state.index.ofVolume(row.volume);
    state.transact((tx) => volumes.remove(tx, row, evenIfNotEmpty));
    const what = files > 0 ? ` with ${countOf(files, 'file')}` : '';
    this.keeper.admins.record(user, 'volume.deleted', `volume ${name} deleted by ${user}${what}`, undefined, files > 0 ? 'warn' : 'info');
    return { text: `volume ${name} is deleted${what}` };
  }

  private warning({ copies }: VolumeSettings): string {
    const up = this.keeper.membership.writable().length;
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
