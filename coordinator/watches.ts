/**
 * Live views: a snapshot first, then what changed, at most twice a second, numbered without gaps. A topic is worked out once for all who watch it;
 * what they are sent is the difference to what they were sent last.
 */
import type { Changes, DirectoryRow, KeyedRow, Snapshot, WatchRequest } from '../protocol/admin-calls.js';
import type { Connection } from '../protocol/call.js';
import type { InodeId } from '../protocol/entities.js';
import type { Timer } from '../protocol/environment.js';
import { HoldfastError } from '../protocol/errors.js';
import type { EventLog } from './events.js';
import { type FileStatParts, FileStats, mtimeMs } from './file-stat.js';
import type { JobBook } from './jobs.js';
import type { Rates } from './rates.js';
import type { PlanNodes } from './repair-plan.js';
import { seenEvent, type Viewer } from './viewer.js';

const PUSH_MS = 500;
const SHOWN_EVENTS = 1_000;
const HISTORY_OF_FILE = 20;
const MOST_WATCHES_PER_CONNECTION = 32;
/** An order by something that changes without the directory changing (size, mtime, health) is worked out again after this time. */
const ORDER_VALID_MS = 5_000;

interface View {
  readonly head: Record<string, unknown>;
  readonly rows: readonly KeyedRow[];
}
interface Watch {
  readonly id: number;
  readonly request: WatchRequest;
  readonly topicKey: string;
  readonly connection: Connection;
  readonly viewer: Viewer;
  sequence: number;
  head: string;
  /** What was sent last: the row itself when it never changes, or its text. */
  rows: Map<string, KeyedRow | string>;
}
interface DirectoryOrder {
  readonly change: number;
  readonly atMs: number;
  readonly names: readonly string[];
}

export interface WatchesParts extends FileStatParts {
  readonly events: EventLog;
  readonly jobs: JobBook;
  readonly rates: Rates;
}

export class Watches {
  private readonly watches = new Map<number, Watch>();
  private readonly orders = new Map<string, DirectoryOrder>();
  private nextId = 1;
  private timer: Timer | undefined;
  private readonly files: FileStats;

  constructor(private readonly parts: WatchesParts) {
    this.files = new FileStats(parts);
  }

  start(): void {
    this.timer = this.parts.context.environment.setTimer(PUSH_MS, () => {
      try {
        this.push();
      } catch (error) {
        this.parts.context.environment.log('error', 'a live view could not be worked out', { error: String(error) });
      }
      this.start();
    });
  }
  stop(): void {
    this.timer?.cancel();
  }
  /** @throws {HoldfastError} ENOENT, OVERLOADED */
  open(connection: Connection, request: WatchRequest, viewer: Viewer): Snapshot {
    const own = [...this.watches.values()].filter((watch) => watch.connection === connection).length;
    if (own >= MOST_WATCHES_PER_CONNECTION)
      throw new HoldfastError('OVERLOADED', `at most ${MOST_WATCHES_PER_CONNECTION} views at a time: close some`);
    const view = this.view(request, viewer);
    const watch: Watch = {
      id: this.nextId++,
      request,
      // Administrators all see the same.
      topicKey: JSON.stringify([request, viewer.isAdmin ? '' : viewer.user]),
      connection,
      viewer,
      sequence: 1,
      head: JSON.stringify(view.head),
      rows: new Map(view.rows.map((row) => [row.key, kept(request, row)])),
    };
    this.watches.set(watch.id, watch);
    return { watch: watch.id, sequence: watch.sequence, head: view.head, rows: view.rows };
  }
  close(connection: Connection, id: number): void {
    if (this.watches.get(id)?.connection === connection) this.watches.delete(id);
  }
  closeAll(connection: Connection): void {
    for (const watch of [...this.watches.values()]) if (watch.connection === connection) this.watches.delete(watch.id);
  }
  get count(): number {
    return this.watches.size;
  }

  /** Sends every watcher what changed since last time. */
  push(): void {
    if (this.watches.size === 0) {
      this.orders.clear();
      return;
    }
    const views = new Map<string, View | undefined>();
    for (const watch of [...this.watches.values()]) {
      if (!watch.connection.isOpen) {
        this.watches.delete(watch.id);
        continue;
      }
      if (!views.has(watch.topicKey)) views.set(watch.topicKey, this.viewOrGone(watch.request, watch.viewer));
      const view = views.get(watch.topicKey) ?? { head: { isGone: true }, rows: [] };
      const changes = difference(watch, view);
      if (changes) watch.connection.push({ topic: 'changes', data: changes });
    }
  }

  private viewOrGone(request: WatchRequest, viewer: Viewer): View | undefined {
    try {
      return this.view(request, viewer);
    } catch (error) {
      // The file or directory was deleted while somebody looks at it.
      if (error instanceof HoldfastError) return undefined;
      throw error;
    }
  }

  private view(request: WatchRequest, viewer: Viewer): View {
    const { events, jobs, rates, repair, status } = this.parts;
    switch (request.topic) {
      case 'overview': {
        const { nodes, ...head } = status.statusFor(viewer);
        return {
          head: { ...head, ...(viewer.isAdmin ? { history: rates.history } : {}) },
          rows: nodes.map((node) => ({ key: node.name, ...node })),
        };
      }
      case 'events':
        return {
          head: { oldest: events.oldest, newest: events.newest },
          rows: events.latest(SHOWN_EVENTS).flatMap((event) => {
            const seen = seenEvent(event, viewer);
            return seen ? [this.eventRow(seen)] : [];
          }),
        };
      case 'jobs':
        return {
          head: { repairSpeed: repair.speed },
          rows: viewer.isAdmin ? jobs.all().map((job) => ({ key: job.id, ...job.status })) : [],
        };
      case 'directory':
        return this.directory(request);
      case 'file': {
        const { chunks, ...head } = this.files.stat(request.inode);
        const history = events.ofInode(request.inode, HISTORY_OF_FILE).flatMap((event) => seenEvent(event, viewer) ?? []);
        return { head: { ...head, history }, rows: chunks.map((chunk) => ({ key: String(chunk.index), ...chunk })) };
      }
    }
  }

  /** Event rows are made once, so that comparing a thousand of them is comparing references. */
  private readonly eventRows = new WeakMap<object, KeyedRow>();
  private eventRow(event: { readonly sequence: number }): KeyedRow {
    let row = this.eventRows.get(event);
    if (!row) {
      row = { key: String(event.sequence), ...event };
      this.eventRows.set(event, row);
    }
    return row;
  }

  private directory(request: Extract<WatchRequest, { topic: 'directory' }>): View {
    const { state, pathOf } = this.parts.context;
    const row = this.files.inode(request.inode);
    if (row.kind !== 'directory') throw new HoldfastError('ENOTDIR', 'not a directory');
    const nodes = this.parts.repair.planNodes();
    const names = this.order(request, row.change, nodes);
    const entries = state.table('entries').of(request.inode);
    const rows: (KeyedRow & DirectoryRow)[] = [];
    for (let at = request.offset; at < names.length && rows.length < request.limit; at++) {
      const name = names[at] as string;
      const child = entries.get(name);
      if (child !== undefined) rows.push({ key: String(at), ...this.files.row(name, child, nodes) });
    }
    return {
      head: {
        path: pathOf(request.inode) ?? '/',
        inode: request.inode,
        total: entries.size,
        matching: names.length,
        parent: row.parent === request.inode ? null : row.parent,
      },
      rows,
    };
  }

  /** Names of a directory in the asked order; kept until the directory changes. */
  private order(request: Extract<WatchRequest, { topic: 'directory' }>, change: number, nodes: PlanNodes): readonly string[] {
    const { environment, state } = this.parts.context;
    const { inode, sort, descending, filter } = request;
    const key = JSON.stringify([inode, sort, descending, filter]);
    const nowMs = environment.monotonicMs();
    const known = this.orders.get(key);
    if (known?.change === change && (sort === 'name' || nowMs - known.atMs < ORDER_VALID_MS)) return known.names;
    const table = state.table('entries');
    const wanted = filter.toLowerCase();
    let names: readonly string[] = table.sorted(inode);
    names = wanted === '' ? [...names] : names.filter((name) => name.toLowerCase().includes(wanted));
    if (sort !== 'name') {
      const children = table.of(inode);
      const values = new Map(names.map((name) => [name, this.sortValue(sort, children.get(name) ?? 0, nodes)]));
      // Byte order of names stays the order among equals.
      names = [...names].sort((a, b) => (values.get(a) ?? 0) - (values.get(b) ?? 0));
    }
    if (descending) names = [...names].reverse();
    if (this.orders.size > 100) this.orders.clear();
    this.orders.set(key, { change, atMs: nowMs, names });
    return names;
  }
  private sortValue(sort: 'size' | 'mtime' | 'health', inode: InodeId, nodes: PlanNodes): number {
    const row = this.parts.context.state.get('inodes', inode);
    if (!row) return 0;
    if (sort === 'size') return row.sizeBytes;
    if (sort === 'mtime') return mtimeMs(row);
    return this.files.copiesOf(row, nodes, 200).fewest ?? Number.MAX_SAFE_INTEGER;
  }
}

const kept = (request: WatchRequest, row: KeyedRow): KeyedRow | string => (request.topic === 'events' ? row : JSON.stringify(row));

/** What the watcher lacks of the view; the watch then counts it as sent. Undefined when nothing changed. */
function difference(watch: Watch, view: View): Changes | undefined {
  const head = JSON.stringify(view.head);
  const rows = new Map<string, KeyedRow | string>();
  const upserts: KeyedRow[] = [];
  for (const row of view.rows) {
    const now = kept(watch.request, row);
    rows.set(row.key, now);
    if (watch.rows.get(row.key) !== now) upserts.push(row);
  }
  const removes: string[] = [];
  for (const key of watch.rows.keys()) if (!rows.has(key)) removes.push(key);
  const isHeadNew = head !== watch.head;
  if (!isHeadNew && upserts.length === 0 && removes.length === 0) return undefined;
  watch.head = head;
  watch.rows = rows;
  watch.sequence++;
  return { watch: watch.id, sequence: watch.sequence, ...(isHeadNew ? { head: view.head } : {}), upserts, removes };
}
