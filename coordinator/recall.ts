/**
 * Coherence: who cached what, and telling them before a change by somebody else is acknowledged.
 *
 * A client may answer from its cache while its lease holds. So a change waits, for every other session that cached one of the touched inodes, until
 * it has acknowledged the recall, or until its lease cannot hold any more: renewals are not answered while a recall is outstanding, hence the
 * lease ends at the latest LEASE_MS after the arrival of the last answered renewal. Clocks run a little differently: LEASE_MARGIN_MS.
 *
 * A client that acknowledged may still hold the file open. It stays `seen`, so that it is asked when the last name goes (`isUnlinked`).
 */
import type { Connection } from '../protocol/call.js';
import type { ClientId, InodeId, VolumeId } from '../protocol/entities.js';
import type { Environment } from '../protocol/environment.js';
import { RECALL_TIMEOUT_MS } from '../protocol/limits.js';
import type { Touched } from './effects.js';
import type { Session, Sessions } from './sessions.js';

const LEASE_MARGIN_MS = 100;
/** Beyond this many inodes of one session the oldest are recalled and forgotten. */
const MAX_INTEREST_PER_SESSION = 200_000;
const FORGET_AT_ONCE = 2000;

export class Recall {
  private readonly byInode = new Map<InodeId, Session | Set<Session>>();
  /** Sessions that must be asked about every file that loses its last name. */
  private readonly holdingAnything = new Set<Session>();
  /** Set by the coordinator: these orphans are not held by this session. */
  onNotHeld: ((session: Session, inodes: readonly InodeId[]) => void) | undefined;

  constructor(
    private readonly sessions: Sessions,
    private readonly environment: Environment,
  ) {}

  /** The session's reply names the inode: it may cache it from now on. */
  interested(session: Session, inode: InodeId): void {
    const known = session.interest.get(inode);
    if (known === 'cached') return;
    session.interest.set(inode, 'cached');
    if (known === 'seen') return;
    const sessions = this.byInode.get(inode);
    if (sessions === undefined) this.byInode.set(inode, session);
    else if (sessions instanceof Set) sessions.add(session);
    else if (sessions !== session) this.byInode.set(inode, new Set([sessions, session]));
    if (session.interest.size > MAX_INTEREST_PER_SESSION) this.forgetOldest(session);
  }

  /** A new connection or a lapsed lease: the client has dropped its caches. */
  dropCaches(session: Session): void {
    for (const [inode, kind] of session.interest) if (kind === 'cached') session.interest.set(inode, 'seen');
  }
  /** A session that was there before the coordinator's restart, so nobody knows what it holds. */
  loaded(session: Session): void {
    if (session.mayHoldAnything) this.holdingAnything.add(session);
  }
  ended(session: Session): void {
    for (const inode of session.interest.keys()) this.remove(session, inode);
    session.interest.clear();
    this.holdingAnything.delete(session);
  }
  /** The inode is gone; ids are never used again. */
  forgetInode(inode: InodeId): void {
    const sessions = this.byInode.get(inode);
    if (sessions === undefined) return;
    for (const session of sessions instanceof Set ? sessions : [sessions]) session.interest.delete(inode);
    this.byInode.delete(inode);
  }

  /** Other sessions of the volume that may hold the inode open. */
  mayHold(inode: InodeId, volume: VolumeId, except: ClientId): ClientId[] {
    const result: ClientId[] = [];
    const sessions = this.byInode.get(inode);
    if (sessions !== undefined) {
      for (const session of sessions instanceof Set ? sessions : [sessions]) if (session.client !== except) result.push(session.client);
    }
    for (const session of this.holdingAnything) {
      if (session.client !== except && session.caller.volume === volume && !result.includes(session.client)) result.push(session.client);
    }
    return result;
  }

  /**
   * Tells the others. undefined = nobody has to be told, which is the usual case.
   * @returns resolves when nobody can serve the old state from a cache any more
   */
  changed(author: ClientId, volume: VolumeId, touched: Iterable<Touched>): Promise<void> | undefined {
    let perSession: Map<Session, Touched[]> | undefined;
    const add = (session: Session, one: Touched): void => {
      if (session.client === author || session.caller.volume !== volume) return;
      perSession ??= new Map();
      const list = perSession.get(session);
      if (!list) perSession.set(session, [one]);
      else if (!list.includes(one)) list.push(one);
    };
    const waits: Promise<void>[] = [];
    for (const one of touched) {
      const sessions = this.byInode.get(one.inode);
      if (sessions !== undefined) {
        for (const session of sessions instanceof Set ? sessions : [sessions]) {
          if (session.client === author) continue;
          if (one.isUnlinked || session.interest.get(one.inode) === 'cached') add(session, one);
          else {
            // Asked already because of an earlier change: this one, too, must not be acknowledged before the answer.
            const pending = session.recalling.get(one.inode);
            if (pending) waits.push(pending);
          }
        }
      }
      if (one.isUnlinked) for (const session of this.holdingAnything) add(session, one);
    }
    for (const [session, list] of perSession ?? []) {
      const wait = this.recall(session, list);
      if (wait) waits.push(wait);
    }
    return waits.length === 0 ? undefined : Promise.all(waits).then(() => {});
  }

  /** Asks a session that came back which of these orphans it still holds. */
  ask(session: Session, inodes: readonly InodeId[]): void {
    void this.recall(
      session,
      inodes.map((inode) => ({ inode, isUnlinked: true })),
    );
  }

  private recall(session: Session, touched: readonly Touched[]): Promise<void> | undefined {
    const { connection } = session;
    const leaseLeftMs = Math.min(session.leaseEndsAtMs + LEASE_MARGIN_MS - this.environment.monotonicMs(), RECALL_TIMEOUT_MS);
    // From here on it has cached nothing of this; what a reply tells it later is the new state, and registered anew.
    for (const one of touched) if (session.interest.get(one.inode) === 'cached') session.interest.set(one.inode, 'seen');
    if (!connection?.isOpen && leaseLeftMs <= 0) return undefined;
    let finish = (): void => {};
    const over = new Promise<void>((resolve) => {
      finish = resolve;
    });
    const timer = this.environment.setTimer(Math.max(leaseLeftMs, 1), () => finish());
    for (const one of touched) session.recalling.set(one.inode, over);
    void over.then(() => {
      timer.cancel();
      for (const one of touched) if (session.recalling.get(one.inode) === over) session.recalling.delete(one.inode);
    });
    if (connection?.isOpen) this.send(session, connection, touched, finish);
    return over;
  }

  private send(session: Session, connection: Connection, touched: readonly Touched[], finish: () => void): void {
    const unlinked = touched.filter((one) => one.isUnlinked).map((one) => one.inode);
    const inodes = touched.map(({ inode, names, isUnlinked }) => ({
      inode,
      ...(names ? { names: [...names] } : {}),
      ...(isUnlinked ? { isUnlinked } : {}),
    }));
    // Until it is acknowledged no renewal is answered, so the lease cannot be prolonged behind our back.
    let settle = (): void => {};
    const settled = new Promise<void>((resolve) => {
      settle = resolve;
    });
    session.recalls.add(settled);
    void settled.then(() => session.recalls.delete(settled));
    connection.call({ method: 'recall', args: { inodes } }, RECALL_TIMEOUT_MS * 5).then(
      (answer) => {
        finish();
        settle();
        if (unlinked.length === 0) return;
        const holding = new Set((answer as { holding?: InodeId[] } | undefined)?.holding ?? []);
        const free = unlinked.filter((inode) => !holding.has(inode));
        if (free.length > 0) this.onNotHeld?.(session, free);
      },
      // Closed or silent: its lease decides when the change may go on, and it stays a holder until it comes back or its session ends.
      () => {
        settle();
        // Silent for long on a connection that lives (it was suspended): nothing else would ask it again.
        if (unlinked.length > 0 && connection.isOpen && session.connection === connection) this.ask(session, unlinked);
      },
    );
  }

  private forgetOldest(session: Session): void {
    session.mayHoldAnything = true;
    this.holdingAnything.add(session);
    const oldest: InodeId[] = [];
    for (const inode of session.interest.keys()) {
      oldest.push(inode);
      if (oldest.length === FORGET_AT_ONCE) break;
    }
    for (const inode of oldest) {
      // Back to the end of the queue, so that the next round takes others while this one is under way.
      const kind = session.interest.get(inode) as 'cached' | 'seen';
      session.interest.delete(inode);
      session.interest.set(inode, kind);
    }
    const done = this.recall(
      session,
      oldest.map((inode) => ({ inode })),
    );
    void done?.then(() => {
      for (const inode of oldest) {
        if (session.interest.get(inode) !== 'seen') continue;
        session.interest.delete(inode);
        this.remove(session, inode);
      }
    });
  }

  private remove(session: Session, inode: InodeId): void {
    const sessions = this.byInode.get(inode);
    if (sessions === session) this.byInode.delete(inode);
    else if (sessions instanceof Set) {
      sessions.delete(session);
      if (sessions.size === 0) this.byInode.delete(inode);
    }
  }

  /** Inodes with numbers from `from` to below `to` that some session has cached or seen. */
  knownBetween(from: InodeId, to: InodeId): InodeId[] {
    const found: InodeId[] = [];
    for (const inode of this.byInode.keys()) if (inode >= from && inode < to) found.push(inode);
    return found;
  }
  /** Whether a session exists for this client. */
  isKnown(client: ClientId): boolean {
    return this.sessions.get(client) !== undefined;
  }
}
