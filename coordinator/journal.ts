/**
 * The journal: what a transaction changed becomes part of the open group; a group becomes one record and one write. While a write is under way the
 * next group gathers, so the group size follows the load by itself.
 *
 *   append (in memory) → written (survives the process: replies go out) → synced (survives the machine: fsync is answered)
 *
 * A failed sync ends the process (`onFatal`): what the kernel dropped must not be called safe; the restart reads what is really there.
 */
import type { Environment } from '../protocol/environment.js';
import { BACKGROUND_SYNC_INTERVAL_MS } from '../protocol/limits.js';
import { changesOf, encodeRecord, RECORD_HEADER_BYTES, recordAt, recordsAnywhereAfter } from './journal-format.js';
import type { JournalStorage } from './journal-storage.js';
import type { AnyKey, Change, TableName } from './rows.js';

/** The journal holds damage that no crash explains. */
export class JournalDamaged extends Error {
  override readonly name = 'JournalDamaged';
}

interface Group {
  readonly changes: Map<TableName, Map<AnyKey, unknown>>;
  readonly done: Promise<void>;
  readonly finish: () => void;
}
function newGroup(): Group {
  let finish = (): void => {};
  const done = new Promise<void>((resolve) => {
    finish = resolve;
  });
  return { changes: new Map(), done, finish };
}

/** Where copies of the journal go besides the local disk. */
export interface JournalCopies {
  /** A record was written here. */
  append(bytes: Buffer, sequence: number): void;
  /** Resolves when the configured number of copies has everything up to `sequence` on stable storage, or they were given up on. */
  durable(sequence: number): Promise<void> | undefined;
}

export interface JournalPosition {
  /** Of the last record; 0 before the first. */
  readonly sequence: number;
  readonly crc: number;
}

export class Journal {
  copies: JournalCopies | undefined;
  private open: Group | undefined;
  private writing: Group | undefined;
  private syncing: Promise<void> | undefined;
  private writtenSequence: number;
  private syncedSequence: number;
  private crc: number;
  private isStopped = false;
  private timer: { cancel(): void } | undefined;

  /** @param position of the last record that recovery found */
  constructor(
    private readonly storage: JournalStorage,
    private readonly environment: Environment,
    position: JournalPosition,
    private readonly onFatal: (error: Error) => void,
  ) {
    this.writtenSequence = position.sequence;
    this.syncedSequence = position.sequence;
    this.crc = position.crc;
  }

  /** Sequence of the record that the next written group will be, or was: everything appended so far is in records up to this one. */
  get sequence(): number {
    return this.writtenSequence + (this.writing ? 1 : 0) + (this.open ? 1 : 0);
  }
  /** Of the last record that gathers no more changes. The open one may still get changes of later transactions: rows taken now hold only part of it. */
  get closedSequence(): number {
    return this.writtenSequence + (this.writing ? 1 : 0);
  }
  get position(): JournalPosition {
    return { sequence: this.writtenSequence, crc: this.crc };
  }
  get isFull(): boolean {
    return this.storage.isFull;
  }
  get sizeBytes(): number {
    return this.storage.sizeBytes;
  }

  /** State.onCommit: takes the changes of one transaction into the open group. */
  readonly append = (changes: readonly Change[]): void => {
    let group = this.open;
    if (!group) {
      group = newGroup();
      this.open = group;
      if (!this.writing) queueMicrotask(() => this.write());
    }
    for (const [table, key, row] of changes) {
      let rows = group.changes.get(table);
      if (!rows) {
        rows = new Map();
        group.changes.set(table, rows);
      }
      rows.set(key, row);
    }
  };

  /** Nothing to wait for: everything appended is written. */
  get isWritten(): boolean {
    return this.open === undefined && this.writing === undefined;
  }
  /** Resolves when everything appended so far survives the death of the process. */
  written(): Promise<void> {
    return (this.open ?? this.writing)?.done ?? Promise.resolve();
  }
  /** Resolves when everything appended so far is on stable storage, and in the copies. */
  async synced(): Promise<void> {
    await this.written();
    // The disk here and the disks of the copies work at the same time: a record that only a copy kept is one that nobody was promised.
    const copied = this.copies?.durable(this.writtenSequence);
    await this.syncedLocally();
    await copied;
  }
  /** As `synced`, without the copies. */
  async syncedLocally(): Promise<void> {
    await this.written();
    const target = this.writtenSequence;
    while (this.syncedSequence < target && !this.isStopped) await this.sync();
    // A dead journal promises nothing any more.
    if (this.syncedSequence < target) await new Promise(() => {});
  }

  /** Begins syncing in the background. */
  start(): void {
    const tick = (): void => {
      this.timer = this.environment.setTimer(BACKGROUND_SYNC_INTERVAL_MS, () => {
        if (this.syncedSequence < this.writtenSequence) void this.sync().then(tick);
        else tick();
      });
    };
    tick();
  }
  /** Writes and syncs what is there and closes the storage. */
  async stop(): Promise<void> {
    this.timer?.cancel();
    await this.synced();
    this.isStopped = true;
    this.timer?.cancel();
    await this.storage.close();
  }
  /** From now on nothing is written any more (simulated death). */
  abandon(): void {
    this.isStopped = true;
    this.timer?.cancel();
  }

  private write(): void {
    const group = this.open;
    if (!group || this.writing || this.isStopped) return;
    this.open = undefined;
    this.writing = group;
    const changes: Change[] = [];
    for (const [table, rows] of group.changes) for (const [key, row] of rows) changes.push([table, key, row]);
    const sequence = this.writtenSequence + 1;
    const { bytes, crc } = encodeRecord(sequence, this.syncedSequence, this.crc, changes);
    this.storage.append(bytes, sequence).then(
      () => {
        if (this.isStopped) return;
        this.writtenSequence = sequence;
        this.crc = crc;
        this.writing = undefined;
        this.copies?.append(bytes, sequence);
        group.finish();
        if (this.open) this.write();
      },
      (error: Error) => this.fatal('writing the journal failed', error),
    );
  }

  private sync(): Promise<void> {
    if (this.syncing) return this.syncing;
    const upTo = this.writtenSequence;
    this.syncing = this.storage.sync().then(
      () => {
        this.syncedSequence = upTo;
        this.syncing = undefined;
      },
      (error: Error) => this.fatal('a sync of the journal failed', error),
    );
    return this.syncing;
  }

  private fatal(what: string, error: Error): void {
    if (this.isStopped) return;
    this.abandon();
    this.environment.log('error', what, { error: error.message });
    this.onFatal(error);
  }
}

/**
 * Reads everything after `appliedSequence` and cuts a torn tail off, so that the storage can be appended to.
 * @param apply called for every change, in order
 * @throws {JournalDamaged} a record is missing or broken that was on stable storage once
 */
export async function recoverJournal(
  storage: JournalStorage,
  appliedSequence: number,
  apply: (change: Change) => void,
): Promise<JournalPosition & { readonly records: number; readonly cutBytes: number }> {
  let position: JournalPosition | undefined;
  let oldestSegment: number | undefined;
  /** Of the last record that is good, or was before it was dropped. */
  let endSequence = 0;
  let records = 0;
  let cutBytes = 0;
  const cuts: { firstSequence: number; sizeBytes: number }[] = [];
  /** First sequence that is torn; every whole record after it must not have known it synced. */
  let torn: number | undefined;
  const check = (syncedSequence: number, sequence: number): void => {
    if (torn !== undefined && syncedSequence >= torn)
      throw new JournalDamaged(`record ${torn} is broken, although record ${sequence} says that it was on stable storage`);
  };
  for await (const { firstSequence, bytes } of storage.segments()) {
    let at = 0;
    if (oldestSegment === undefined) {
      oldestSegment = firstSequence;
      // What came before was dropped because the database holds it.
      endSequence = firstSequence - 1;
      if (endSequence > appliedSequence) throw new JournalDamaged(`records ${appliedSequence + 1} to ${endSequence} are missing`);
    }
    if (torn === undefined) {
      for (;;) {
        const record = recordAt(bytes, at);
        const expected = endSequence + 1;
        if (!record || record.sequence !== expected || (position && record.previousCrc !== position.crc)) {
          // Zeros to the end are the unused rest of the segment; the next segment must then go on with the expected record.
          if (record || !isZero(bytes, at)) torn = expected;
          break;
        }
        if (record.sequence > appliedSequence) {
          for (const change of changesOf(record)) apply(change);
          records++;
        }
        position = { sequence: record.sequence, crc: record.crc };
        endSequence = record.sequence;
        at += RECORD_HEADER_BYTES + record.payload.length;
      }
    } else if (bytes.length > 0) at = 0;
    for (const record of recordsAnywhereAfter(bytes, at)) {
      torn ??= endSequence + 1;
      check(record.syncedSequence, record.sequence);
    }
    if (at < bytes.length) {
      if (torn !== undefined) cutBytes += bytes.length - at;
      cuts.push({ firstSequence, sizeBytes: at });
    }
  }
  // The journal is synced before the database takes a record over, so it can never end before the database.
  if (endSequence < appliedSequence)
    throw new JournalDamaged(`the journal ends with record ${endSequence}, but the database holds record ${appliedSequence}`);
  // The oldest segment stays even if a power loss left nothing in it: its name tells the next start which records the database must have.
  for (const { firstSequence, sizeBytes } of cuts)
    await (sizeBytes === 0 && firstSequence !== oldestSegment ? storage.remove(firstSequence) : storage.cut(firstSequence, sizeBytes));
  // What only the page cache held must be safe before a new record says so.
  await storage.settle();
  return { sequence: position?.sequence ?? appliedSequence, crc: position?.crc ?? 0, records, cutBytes };
}

function isZero(bytes: Buffer, from: number): boolean {
  for (let i = from; i < bytes.length; i++) if (bytes[i] !== 0) return false;
  return true;
}
