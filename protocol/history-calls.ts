/** What people ask about the past of a volume (namespace /admin): snapshots, trash, and copies of trees that share their data. */
import { z } from 'zod';
import { query } from './call.js';
import type { InodeKind } from './entities.js';

export interface SnapshotInfo {
  readonly name: string;
  /** Wall clock, milliseconds since 1970. */
  readonly atMs: number;
  readonly origin: 'manual' | 'schedule' | 'restore';
  /** Of the volume then. */
  readonly files: number;
  readonly logicalBytes: number;
  /** What was changed or deleted between this snapshot and the next one (the newest: until now). */
  readonly changedBytes: number;
}
export interface SnapshotChange {
  readonly change: 'added' | 'removed' | 'changed' | 'renamed';
  readonly path: string;
  /** Where what was renamed had been. */
  readonly from?: string;
  readonly kind: InodeKind;
  readonly sizeBytes: number;
}
export interface TrashEntry {
  /** Name in `.trash`. */
  readonly name: string;
  /** Where it was. */
  readonly path: string;
  readonly sizeBytes: number;
  readonly deletedAtMs: number;
  readonly user: string;
  /** A program still has it open. */
  readonly isOpen: boolean;
  /** It had not been there for a minute, and goes after ten. */
  readonly isShortLived: boolean;
}
/** How a volume keeps its past; 0 = not. */
export interface HistorySettings {
  readonly trashKeepMs: number;
  readonly snapshotEveryMs: number;
  readonly snapshotKeep: number;
}

const path = z.string().max(8192);
const volume = z.string().max(64).optional();
/** A plain name, since it becomes one in `.snapshots`. */
export const snapshotName = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9._+@-]{0,99}$/, 'a snapshot is named by letters, digits and . _ + @ -, at most 100 of them');
const milliseconds = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER);

export const historyCalls = {
  /** Copies a file or tree at once and as a whole, sharing all data. Answers when the copy is there. @throws EEXIST, ENOENT, EDQUOT */
  clone: query<{ text: string; inodes: number }>()(z.object({ from: path, to: path, volume })),
  snapshots: query<{ snapshots: SnapshotInfo[]; heldBytes: number; settings: HistorySettings }>()(z.object({ volume })),
  createSnapshot: query<{ text: string; snapshot: SnapshotInfo }>()(z.object({ name: snapshotName.optional(), volume })),
  deleteSnapshot: query<{ text: string }>()(z.object({ name: z.string().max(100), volume })),
  /** Puts a path (all of the volume by default) back as it was. What is there now is kept as a snapshot first. */
  restoreSnapshot: query<{ text: string; inodes: number; before: string }>()(z.object({ name: z.string().max(100), path, volume })),
  /** From one snapshot to another, or to now. */
  diffSnapshot: query<{ changes: SnapshotChange[]; isCut: boolean }>()(
    z.object({
      name: z.string().max(100),
      other: z.string().max(100).optional(),
      path,
      limit: z.number().int().min(1).max(20_000),
      volume,
    }),
  ),
  /** Newest first. */
  trash: query<{ files: TrashEntry[]; total: number; totalBytes: number; settings: HistorySettings }>()(
    z.object({ path, limit: z.number().int().min(1).max(10_000), volume }),
  ),
  /** By the path it had, a directory's for all that was below it, or by its name in `.trash`. `to`: another place, for one file. */
  restoreTrash: query<{ text: string; restored: string[]; failed: { path: string; why: string }[] }>()(
    z.object({ path, to: path.optional(), volume }),
  ),
  /** For good. */
  emptyTrash: query<{ text: string; files: number; bytes: number }>()(z.object({ path, olderThanMs: milliseconds, volume })),
};
