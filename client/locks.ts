/**
 * flock and fcntl locks, held at the coordinator. It never lets a call wait; we ask again when it says the lock may be free, and twice a second.
 *
 * What the coordinator holds for us may differ from what our programs hold: a power failure undoes its last second, and the reply to an unlock may
 * never come. A lock that no program knows of would never be let go. So we remember what is held and was let go lately, and tell it again.
 */
import type { InodeId } from '../protocol/entities.js';
import { HoldfastError, isCode } from '../protocol/errors.js';
import { LOCKED_TO_THE_END, type LockedRange, rangeOf, withRange } from '../protocol/lock-ranges.js';
import type { LockRequest, Locks } from './api.js';
import type { ClientCore } from './core.js';
import type { OpenFiles } from './open-files.js';

const ASK_AGAIN_MS = 500;
/** A power failure of the coordinator undoes the last second; this is more. */
const RELEASED_KEPT_MS = 10_000;

type Family = LockRequest['family'];
/** What an owner holds on a file, as its programs were told. */
interface Holding {
  readonly inode: InodeId;
  readonly family: Family;
  readonly owner: string;
  readonly pid: number;
  ranges: readonly LockedRange[];
  /** A change went unanswered: the coordinator may hold something else. */
  isUnsure: boolean;
  changedMs: number;
}

export class ClientLocks implements Locks {
  private readonly waiting = new Map<InodeId, Set<() => void>>();
  private readonly held = new Map<string, Holding>();
  /** Everything let go, the longest ago first. */
  private readonly released = new Map<string, Holding>();
  /** The last change under way of each owner and file: they go one after the other. */
  private readonly turns = new Map<string, Promise<void>>();
  private seenLosses = 0;

  constructor(
    private readonly core: ClientCore,
    private readonly files: OpenFiles,
  ) {}

  async lock(inode: InodeId, request: LockRequest, options: { wait: boolean; signal?: AbortSignal }): Promise<void> {
    if (request.kind === 'unlock') await this.flush(inode);
    for (;;) {
      if (options.signal?.aborted) throw interrupted();
      try {
        await this.change(inode, request, request);
        break;
      } catch (error) {
        if (!options.wait || !isCode(error, 'EAGAIN')) throw error;
        await this.unlockedOrLater(inode, options.signal);
      }
    }
    if (request.kind === 'unlock') return;
    if (options.signal?.aborted) {
      await this.change(inode, request, { ...request, kind: 'unlock' });
      throw interrupted();
    }
    // What the last holder wrote is seen from now on.
    this.core.cache.recall(inode);
    this.files.get(inode)?.reader.drop();
  }

  async test(inode: InodeId, request: LockRequest): Promise<(LockRequest & { pid: number }) | null> {
    const { conflict } = await this.core.session.call('testLock', { inode, ...request });
    return conflict ? { family: request.family, owner: '', ...conflict } : null;
  }

  async drop(inode: InodeId, family: 'flock' | 'posix', owner: string): Promise<void> {
    await this.flush(inode);
    await this.change(inode, { family, owner, pid: 0 }, 'drop');
  }

  /** The session was forgotten, and with it all locks. */
  lost(): void {
    this.held.clear();
    this.released.clear();
  }

  /** There is a new connection: tells again what the coordinator may not know. */
  connected(): void {
    const { losses } = this.core.session;
    const isUndone = losses !== this.seenLosses;
    this.seenLosses = losses;
    for (const holdings of [this.held, this.released])
      for (const [key, holding] of [...holdings]) if (isUndone || holding.isUnsure) void this.inTurn(key, () => this.tellAgain(key));
  }

  /** Pushed by the coordinator: these may be free now. */
  unlocked(inodes: readonly InodeId[]): void {
    for (const inode of inodes) for (const wake of [...(this.waiting.get(inode) ?? [])]) wake();
  }

  private async change(inode: InodeId, by: { family: Family; owner: string; pid: number }, what: LockRequest | 'drop'): Promise<void> {
    const { family, owner } = by;
    const key = `${inode}:${family}:${owner}`;
    const { session, environment } = this.core;
    await this.inTurn(key, async () => {
      const known = this.held.get(key) ?? this.released.get(key);
      const before = known?.ranges ?? [];
      const after = what === 'drop' ? [] : withRange(before, what.kind === 'unlock' ? undefined : what.kind, ...rangeOf(what));
      const { number } = session;
      try {
        if (what === 'drop') await session.call('dropLocks', { inode, family, owner });
        else await session.call('lock', { inode, ...what });
      } catch (error) {
        if (number === session.number && isCode(error, 'UNREACHABLE', 'DEADLINE', 'NOT_READY', 'OVERLOADED')) {
          // Nobody asks for this unlock again, so it counts; a lock that was not granted does not.
          const ranges = what === 'drop' || what.kind === 'unlock' ? after : before;
          this.note(key, { inode, family, owner, pid: known?.pid ?? by.pid, ranges, isUnsure: true, changedMs: environment.monotonicMs() });
        }
        throw error;
      }
      if (after.length === 0 && !known) return;
      const isUnsure = known?.isUnsure === true && after.length > 0;
      this.note(key, {
        inode,
        family,
        owner,
        pid: by.pid || (known?.pid ?? 0),
        ranges: after,
        isUnsure,
        changedMs: environment.monotonicMs(),
      });
      this.forgetReleased();
    });
  }

  private note(key: string, holding: Holding): void {
    this.held.delete(key);
    this.released.delete(key);
    (holding.ranges.length > 0 ? this.held : this.released).set(key, holding);
  }

  private forgetReleased(): void {
    const beforeMs = this.core.environment.monotonicMs() - RELEASED_KEPT_MS;
    for (const [key, { changedMs, isUnsure }] of this.released) {
      if (changedMs > beforeMs) break;
      if (!isUnsure) this.released.delete(key);
    }
  }

  /** Makes the coordinator hold for this owner what its programs were told, no more and if possible no less. */
  private async tellAgain(key: string): Promise<void> {
    const holding = this.held.get(key) ?? this.released.get(key);
    const { session, environment } = this.core;
    const { number } = session;
    if (!holding) return;
    const { inode, family, owner, pid } = holding;
    holding.isUnsure = true; // Until all of it is answered.
    const tell = (kind: LockedRange['kind'] | 'unlock', start: number, end: number): Promise<unknown> =>
      session.call(
        'lock',
        { inode, family, owner, pid, kind, start, length: end === LOCKED_TO_THE_END ? 0 : end - start },
        { session: number },
      );
    let kept = holding.ranges;
    try {
      if (kept.length === 0) await session.call('dropLocks', { inode, family, owner }, { session: number });
      let at = 0;
      for (const { kind, start, end } of holding.ranges) {
        if (start > at) await tell('unlock', at, start);
        at = end;
        try {
          await tell(kind, start, end);
        } catch (error) {
          if (!isCode(error, 'EAGAIN')) throw error;
          kept = withRange(kept, undefined, start, end);
          environment.log(
            'error',
            'a file lock is lost: the coordinator lost power right after granting it, and somebody else has it now',
            {
              inode,
            },
          );
        }
      }
      if (at > 0 && at < LOCKED_TO_THE_END) await tell('unlock', at, LOCKED_TO_THE_END);
    } catch (error) {
      if (isCode(error, 'UNREACHABLE', 'DEADLINE', 'NOT_READY', 'OVERLOADED')) return; // The next connection tries again.
      if (number !== session.number) return;
      kept = []; // The file is gone, and its locks.
    }
    this.note(key, { ...holding, ranges: kept, isUnsure: false, changedMs: environment.monotonicMs() });
  }

  private inTurn(key: string, run: () => Promise<void>): Promise<void> {
    const before = this.turns.get(key);
    const mine = before ? before.then(run, run) : run();
    this.turns.set(key, mine);
    const done = (): void => {
      if (this.turns.get(key) === mine) this.turns.delete(key);
    };
    mine.then(done, done);
    return mine;
  }

  /** The next holder must find our bytes. A failure stays for the handle's own flush to tell. */
  private async flush(inode: InodeId): Promise<void> {
    const file = this.files.get(inode);
    if (file?.writer.isDirty) await file.writer.flush().catch(() => {});
  }

  private unlockedOrLater(inode: InodeId, signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve) => {
      const wakers = this.waiting.get(inode) ?? new Set();
      this.waiting.set(inode, wakers);
      const done = (): void => {
        timer.cancel();
        signal?.removeEventListener('abort', done);
        wakers.delete(done);
        if (wakers.size === 0) this.waiting.delete(inode);
        resolve();
      };
      const timer = this.core.environment.setTimer(ASK_AGAIN_MS, done);
      signal?.addEventListener('abort', done);
      wakers.add(done);
    });
  }
}

const interrupted = (): HoldfastError => new HoldfastError('EINTR', 'waiting for a lock was interrupted');
