/**
 * Locks of whole files (flock) and of byte ranges (POSIX), cluster-wide. No call ever waits: who meets a conflict gets EAGAIN and is told by a push
 * when the inode's locks change. Locks belong to a session and an owner within it; they are rows, so they survive a restart of the coordinator
 * as long as their session does.
 */
import type { ReplyOf, RequestOf } from '../protocol/call.js';
import type { ClientCalls, LockRange } from '../protocol/client-calls.js';
import type { ClientId, InodeId } from '../protocol/entities.js';
import { HoldfastError } from '../protocol/errors.js';
import { LOCKED_TO_THE_END, rangeOf, withRange } from '../protocol/lock-ranges.js';
import type { FileTree } from './file-tree.js';
import type { ClientCaller } from './ports.js';
import { type LockRow, lockKey } from './rows.js';
import type { Transaction } from './state.js';

type Range = LockRow['ranges'][number];
type LockRequest = RequestOf<ClientCalls, 'lock'>;
/** More ranges of one owner on one file than this are a mistake or an attack. */
const MAX_RANGES_PER_OWNER = 10_000;

const conflicts = (range: Range, kind: 'read' | 'write', start: number, end: number): boolean =>
  range.start < end && start < range.end && (range.kind === 'write' || kind === 'write');

export class Locks {
  /** Keys of all locks of a client, so that its end needs no search. */
  private readonly byClient = new Map<ClientId, Set<string>>();
  /** Who got EAGAIN on an inode since its locks changed last. */
  private readonly waiting = new Map<InodeId, Set<ClientId>>();
  /** Set by the coordinator: tells clients that locks of an inode may be free now. */
  onUnlocked: ((inode: InodeId, clients: Iterable<ClientId>) => void) | undefined;

  constructor(private readonly tree: FileTree) {
    for (const [key, row] of tree.state.table('locks').all()) this.index(key, undefined, row);
    tree.state.onChange('locks', (key, before, after) => this.index(key, before, after));
  }

  private index(key: string, before: LockRow | undefined, after: LockRow | undefined): void {
    const client = key.split(':', 3)[2] as ClientId;
    const keys = this.byClient.get(client) ?? new Set();
    if (after) keys.add(key);
    else if (before) keys.delete(key);
    if (keys.size > 0) this.byClient.set(client, keys);
    else this.byClient.delete(client);
  }

  private conflict(caller: ClientCaller, request: LockRequest): { pid: number; range: Range } | undefined {
    if (request.kind === 'unlock') return undefined;
    const [start, end] = rangeOf(request);
    const own = lockKey(request.inode, request.family, caller.client, request.owner);
    const prefix = `${request.family}:`;
    for (const [rest, row] of this.tree.state.table('locks').of(request.inode)) {
      if (!rest.startsWith(prefix) || `${request.inode}:${rest}` === own) continue;
      for (const range of row.ranges) if (conflicts(range, request.kind, start, end)) return { pid: row.pid, range };
    }
    return undefined;
  }

  /** @throws {HoldfastError} EAGAIN, ENOLCK */
  lock(tx: Transaction, caller: ClientCaller, request: LockRequest): ReplyOf<ClientCalls, 'lock'> {
    this.tree.row(caller, request.inode);
    if (this.conflict(caller, request)) {
      const waiting = this.waiting.get(request.inode) ?? new Set();
      this.waiting.set(request.inode, waiting.add(caller.client));
      throw new HoldfastError('EAGAIN', 'somebody else holds a lock there');
    }
    const key = lockKey(request.inode, request.family, caller.client, request.owner);
    const [start, end] = rangeOf(request);
    const before = tx.get('locks', key)?.ranges ?? [];
    const ranges = withRange(before, request.kind === 'unlock' ? undefined : request.kind, start, end);
    if (ranges.length > MAX_RANGES_PER_OWNER) throw new HoldfastError('ENOLCK', 'too many locked ranges');
    if (ranges.length > 0) tx.put('locks', key, { pid: request.pid, ranges });
    else tx.remove('locks', key);
    if (before.length > 0) tx.afterwards(() => this.tellWaiting(request.inode));
    return {};
  }

  test(caller: ClientCaller, request: LockRequest): ReplyOf<ClientCalls, 'testLock'> {
    this.tree.row(caller, request.inode);
    const found = this.conflict(caller, request);
    if (!found) return { conflict: null };
    const { range, pid } = found;
    const conflict: LockRange & { pid: number } = {
      kind: range.kind,
      start: range.start,
      length: range.end === LOCKED_TO_THE_END ? 0 : range.end - range.start,
      pid,
    };
    return { conflict };
  }

  /** Drops every lock of an owner; no error when it has none or the file is gone. */
  drop(
    tx: Transaction,
    caller: ClientCaller,
    { inode, family, owner }: RequestOf<ClientCalls, 'dropLocks'>,
  ): ReplyOf<ClientCalls, 'dropLocks'> {
    const key = lockKey(inode, family, caller.client, owner);
    if (tx.get('locks', key) === undefined) return {};
    tx.remove('locks', key);
    tx.afterwards(() => this.tellWaiting(inode));
    return {};
  }

  /** The session is gone: so are its locks. */
  dropClient(tx: Transaction, client: ClientId): void {
    for (const key of [...(this.byClient.get(client) ?? [])]) {
      const inode = Number(key.slice(0, key.indexOf(':')));
      tx.remove('locks', key);
      tx.afterwards(() => this.tellWaiting(inode));
    }
    tx.afterwards(() => {
      for (const [inode, clients] of this.waiting) {
        clients.delete(client);
        if (clients.size === 0) this.waiting.delete(inode);
      }
    });
  }

  private tellWaiting(inode: InodeId): void {
    const waiting = this.waiting.get(inode);
    if (!waiting) return;
    this.waiting.delete(inode);
    this.onUnlocked?.(inode, waiting);
  }
}
