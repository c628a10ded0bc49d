/**
 * How much a volume, and what one user made in whatever volume, may take. The counts are kept row by row (chunk-index.ts), so they are right after
 * any crash, and they are compared in the very transaction that would exceed them. Deleted files in the trash are counted, but they do not keep
 * anybody from writing: where there is no room beside them they go, oldest first, within a second (history-keeper.ts).
 */
import type { VolumeId } from '../protocol/entities.js';
import { HoldfastError } from '../protocol/errors.js';
import type { InodeRow, UserRow } from './rows.js';
import type { State } from './state.js';

export interface Totals {
  readonly files: number;
  readonly bytes: number;
}
export const NOTHING: Totals = { files: 0, bytes: 0 };
/** What would leave the trash at once if room were needed. */
export interface TrashTotals {
  ofVolume(volume: VolumeId): Totals;
  ofUser(user: number): Totals;
}

export class Quotas {
  /** Set by the trash. */
  trash: TrashTotals = { ofVolume: () => NOTHING, ofUser: () => NOTHING };
  /** Only users that have a quota. */
  private readonly users = new Map<number, { readonly name: string; readonly row: UserRow }>();

  constructor(private readonly state: State) {
    for (const [name, row] of state.table('users').all()) this.index(name, undefined, row);
    state.onChange('users', (name, before, after) => this.index(name, before, after));
  }

  /** One inode more. @throws {HoldfastError} EDQUOT */
  checkFiles(volume: VolumeId, user: number | undefined): void {
    const quota = this.state.get('volumes', volume)?.quotaFiles ?? null;
    if (quota !== null && this.inVolume(volume).files >= quota)
      throw new HoldfastError('EDQUOT', `the volume may hold at most ${quota} files and directories`);
    const own = this.of(user);
    if (own?.row.quotaFiles != null && this.ofUser(own.row.id).files >= own.row.quotaFiles)
      throw new HoldfastError('EDQUOT', `${own.name} may have at most ${own.row.quotaFiles} files and directories`);
  }

  /** This inode grows. Who made it is charged, whoever writes. @throws {HoldfastError} EDQUOT */
  checkBytes({ volume, creator }: Pick<InodeRow, 'volume' | 'creator'>, grownBytes: number): void {
    if (grownBytes <= 0) return;
    const quota = this.state.get('volumes', volume)?.quotaBytes ?? null;
    if (quota !== null && this.inVolume(volume).bytes + grownBytes > quota)
      throw new HoldfastError('EDQUOT', `the volume may hold at most ${quota} bytes`);
    const own = this.of(creator);
    if (own?.row.quotaBytes != null && this.ofUser(own.row.id).bytes + grownBytes > own.row.quotaBytes)
      throw new HoldfastError('EDQUOT', `${own.name} may have at most ${own.row.quotaBytes} bytes`);
  }

  /** What is left for this user in this volume; Infinity where nothing limits. `quotaBytes`: the smaller of both limits. */
  left(volume: VolumeId, user: number | undefined): { quotaBytes: number; leftBytes: number; leftFiles: number } {
    const settings = this.state.get('volumes', volume);
    const inVolume = this.inVolume(volume);
    const own = this.of(user)?.row;
    const used = user === undefined ? NOTHING : this.ofUser(user);
    const orEndless = (quota: number | null | undefined): number => quota ?? Number.POSITIVE_INFINITY;
    return {
      quotaBytes: Math.min(orEndless(settings?.quotaBytes), orEndless(own?.quotaBytes)),
      leftBytes: Math.max(0, Math.min(orEndless(settings?.quotaBytes) - inVolume.bytes, orEndless(own?.quotaBytes) - used.bytes)),
      leftFiles: Math.max(0, Math.min(orEndless(settings?.quotaFiles) - inVolume.files, orEndless(own?.quotaFiles) - used.files)),
    };
  }

  limitedUsers(): UserRow[] {
    return [...this.users.values()].map(({ row }) => row);
  }

  private inVolume(volume: VolumeId): Totals {
    const { chargedBytes, chargedFiles } = this.state.index.ofVolume(volume);
    const trash = this.trash.ofVolume(volume);
    return { bytes: chargedBytes - trash.bytes, files: chargedFiles - trash.files };
  }
  private ofUser(user: number): Totals {
    const made = this.state.index.ofUser(user);
    const trash = this.trash.ofUser(user);
    return { bytes: made.bytes - trash.bytes, files: made.files - trash.files };
  }
  private of(user: number | undefined): { readonly name: string; readonly row: UserRow } | undefined {
    return user === undefined ? undefined : this.users.get(user);
  }
  private index(name: string, before: UserRow | undefined, after: UserRow | undefined): void {
    if (before) this.users.delete(before.id);
    if (after && (after.quotaBytes !== null || after.quotaFiles !== null)) this.users.set(after.id, { name, row: after });
  }
}
