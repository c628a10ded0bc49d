/**
 * What happened, for people: a ring of the last 10,000 events, numbered for ever; the last 1,000 are rows, so history survives a restart.
 * Noting an event never fails and never waits: rows are put a moment later, many at once.
 */
import type { ClusterEvent } from '../protocol/admin-calls.js';
import type { InodeId } from '../protocol/entities.js';
import { type Environment, type Timer, wallMs } from '../protocol/environment.js';
import type { ClientCaller } from './ports.js';
import type { State } from './state.js';
import { bytesInWords, countOf } from './words.js';

const RING_EVENTS = 10_000;
const KEPT_EVENTS = 1_000;
const FLUSH_AFTER_MS = 200;
const MAX_TEXT_LENGTH = 1_000;

/** An event as somebody may see it; undefined = not at all. */
export type EventView = (event: ClusterEvent) => ClusterEvent | undefined;
export type NewEvent = Omit<ClusterEvent, 'sequence' | 'atMs'>;

export class EventLog {
  private readonly ring: ClusterEvent[] = [];
  private unsaved: ClusterEvent[] = [];
  private flushTimer: Timer | undefined;
  private next = 1;

  constructor(
    private readonly environment: Environment,
    private readonly state: State,
  ) {}

  /** Takes over what earlier runs kept. Call once the state is loaded. */
  load(): void {
    const kept = [...this.state.table('events').values()] as ClusterEvent[];
    kept.sort((a, b) => a.sequence - b.sequence);
    this.ring.unshift(...kept);
    this.next = Math.max(this.next, (kept.at(-1)?.sequence ?? 0) + 1);
  }

  note(event: NewEvent): ClusterEvent {
    const noted: ClusterEvent = {
      ...event,
      // Names come from people and disks: no control character reaches a terminal or a log line.
      text: printable(event.text).slice(0, MAX_TEXT_LENGTH),
      sequence: this.next++,
      atMs: wallMs(this.environment),
    };
    this.ring.push(noted);
    if (this.ring.length > RING_EVENTS + 1_000) this.ring.splice(0, this.ring.length - RING_EVENTS);
    this.unsaved.push(noted);
    this.flushTimer ??= this.environment.setTimer(FLUSH_AFTER_MS, () => this.flush());
    const level = noted.level === 'info' ? 'info' : noted.level;
    if (!noted.kind.startsWith('file.'))
      this.environment.log(level, noted.text, { event: noted.kind, node: noted.node, chunk: noted.chunk });
    return noted;
  }

  /** Events with a number above `after`, oldest first. */
  after(after: number, limit: number, level?: ClusterEvent['level'], view: EventView = (event) => event): ClusterEvent[] {
    const found: ClusterEvent[] = [];
    for (let at = this.positionAfter(after); at < this.ring.length && found.length < limit; at++) {
      const event = this.ring[at] as ClusterEvent;
      const seen = !level || event.level === level ? view(event) : undefined;
      if (seen) found.push(seen);
    }
    return found;
  }
  /** The newest `count` events, oldest first. */
  latest(count: number): ClusterEvent[] {
    return this.ring.slice(-count);
  }
  /** The newest events of one inode, newest first. */
  ofInode(inode: InodeId, limit: number): ClusterEvent[] {
    const found: ClusterEvent[] = [];
    for (let at = this.ring.length - 1; at >= 0 && found.length < limit; at--) {
      const event = this.ring[at] as ClusterEvent;
      if (event.inode === inode) found.push(event);
    }
    return found;
  }
  get oldest(): number {
    return this.ring[0]?.sequence ?? 0;
  }
  get newest(): number {
    return this.next - 1;
  }

  /** Puts unsaved events into rows now. */
  flush(): void {
    this.flushTimer?.cancel();
    this.flushTimer = undefined;
    const events = this.unsaved.slice(-KEPT_EVENTS);
    if (events.length === 0) return;
    this.unsaved = [];
    try {
      this.state.transact((tx) => {
        for (const event of events) {
          tx.put('events', String(event.sequence), event);
          tx.remove('events', String(event.sequence - KEPT_EVENTS));
        }
      });
    } catch (error) {
      this.environment.log('warn', 'events could not be kept', { error: String(error) });
    }
  }

  private positionAfter(sequence: number): number {
    let low = 0;
    let high = this.ring.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.ring[middle] as ClusterEvent).sequence <= sequence) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

/** Control characters (also C1 and bidirectional overrides) as \u escapes. */
export const printable = (text: string): string =>
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is replaced
  text.replace(/[\u0000-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`);

const QUIET_MS = 1_000;
const MOST_PENDING_FILES = 500;
const MOST_FILE_EVENTS_PER_S = 5;

interface PendingFile {
  bytes: number;
  commits: number;
  readonly caller: Pick<ClientCaller, 'user' | 'volume'>;
  readonly sinceMs: number;
  lastMs: number;
}

/**
 * Turns commits and deletions into a bounded stream of events: the commits of one file become one event when it has been quiet for a second,
 * and above a few events a second the rest is told as a sum.
 */
export class FileEvents {
  private readonly written = new Map<InodeId, PendingFile>();
  private timer: Timer | undefined;
  private windowStartMs = 0;
  private inWindow = 0;
  private skipped = { written: 0, deleted: 0, bytes: 0 };

  constructor(
    private readonly environment: Environment,
    private readonly events: EventLog,
    private readonly pathOf: (inode: InodeId) => string | undefined,
  ) {}

  fileWritten(inode: InodeId, caller: Pick<ClientCaller, 'user' | 'volume'>, bytes: number): void {
    const nowMs = this.environment.monotonicMs();
    const known = this.written.get(inode);
    if (known) {
      known.bytes += bytes;
      known.commits++;
      known.lastMs = nowMs;
    } else if (this.written.size < MOST_PENDING_FILES) {
      this.written.set(inode, { bytes, commits: 1, caller, sinceMs: nowMs, lastMs: nowMs });
    } else {
      this.skipped.written++;
      this.skipped.bytes += bytes;
    }
    this.arm();
  }

  fileDeleted(inode: InodeId, path: string, { user, volume }: Pick<ClientCaller, 'user' | 'volume'>, request?: string): void {
    this.written.delete(inode);
    const which = inode > 0 ? { inode } : {};
    if (this.mayTell())
      this.events.note({ level: 'info', kind: 'file.deleted', text: `${path} deleted by ${user}`, ...which, user, volume, request });
    else {
      this.skipped.deleted++;
      this.arm();
    }
  }

  stop(): void {
    this.timer?.cancel();
    this.timer = undefined;
  }

  private arm(): void {
    this.timer ??= this.environment.setTimer(QUIET_MS, () => {
      this.timer = undefined;
      this.tell();
    });
  }

  private mayTell(): boolean {
    const nowMs = this.environment.monotonicMs();
    if (nowMs - this.windowStartMs >= 1_000) {
      this.windowStartMs = nowMs;
      this.inWindow = 0;
    }
    return ++this.inWindow <= MOST_FILE_EVENTS_PER_S;
  }

  private tell(): void {
    const nowMs = this.environment.monotonicMs();
    for (const [inode, file] of this.written) {
      // A file that is written without a pause is told every minute.
      if (nowMs - file.lastMs < QUIET_MS && nowMs - file.sinceMs < 60_000) continue;
      this.written.delete(inode);
      const { user, volume } = file.caller;
      const path = this.pathOf(inode);
      if (path === undefined) continue;
      if (this.mayTell()) {
        const text = `${path} written by ${user}: ${bytesInWords(file.bytes)} in ${countOf(file.commits, 'commit')}`;
        this.events.note({ level: 'info', kind: 'file.written', text, inode, user, volume });
      } else {
        this.skipped.written++;
        this.skipped.bytes += file.bytes;
      }
    }
    const { written, deleted, bytes } = this.skipped;
    this.skipped = { written: 0, deleted: 0, bytes: 0 };
    if (written > 0)
      this.events.note({ level: 'info', kind: 'file.written', text: `${countOf(written, 'more file')} written, ${bytesInWords(bytes)}` });
    if (deleted > 0) this.events.note({ level: 'info', kind: 'file.deleted', text: `${countOf(deleted, 'more file')} deleted` });
    if (this.written.size > 0) this.arm();
  }
}
