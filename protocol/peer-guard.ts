/**
 * What one peer may take of a server of sockets. Nobody who means well meets any of this; whoever does not must not cost others more than a share:
 *
 * - Before it was let in, a connection may send some KiB and a few packets: memory is not for strangers.
 * - Calls of one connection run in turns: some, then those of the others. Meanwhile nothing more is read from it, so a flood waits in the
 *   sender's own buffers. The same holds beyond a rate, and while it does not fetch its answers.
 * - Calls that are under way are counted: beyond a number no peer of ours reaches, each is refused as OVERLOADED, which may be repeated.
 */
import type { EventEmitter } from 'node:events';
import type { Socket as NetSocket } from 'node:net';
import type { Environment } from './environment.js';
import { HoldfastError } from './errors.js';
import { Seldom } from './seldom.js';

const MAX_BYTES_BEFORE_JOINING = 64 * 1024;
const MAX_PACKETS_BEFORE_JOINING = 16;
/** One turn of the event loop. A read brings up to 64 KiB of packets, so a turn can see more packets than it runs. */
const CALLS_PER_TURN = 32;
const PACKETS_PER_TURN = 256;
const CALLS_PER_S = 20_000;
const MAX_CALLS_UNDER_WAY = 4096;
/** Answers that the peer does not fetch: beyond this its calls wait. What exceeds the second is no peer of ours. */
const MAX_UNFETCHED_BYTES = 8 * 1024 * 1024;
const END_UNFETCHED_BYTES = 128 * 1024 * 1024;
/** The largest buffer in any call is the value of an extended attribute. */
const MAX_BUFFER_BYTES = 256 * 1024;
const MAX_BUFFERS_IN_A_ROW = 4;
const HELD_CHECK_MS = 10;

/** The parts of an engine.io connection that are used here. */
export interface RawConnection {
  readonly request: { readonly socket: NetSocket };
  readonly transport: EventEmitter & { readonly socket?: { pause(): void; resume(): void } };
  on(event: 'packet' | 'packetCreate', listener: (packet: { data?: unknown }) => void): void;
  on(event: 'flush', listener: () => void): void;
  once(event: 'close', listener: () => void): void;
}

/** Gives every guard with something to do a turn, one after the other, and lets the sockets be read in between. */
export class Turns {
  private waiting = new Set<PeerGuard>();
  private isArmed = false;
  private readonly warning = new Seldom(() => performance.now());
  constructor(private readonly write: Environment['log'] | undefined) {}

  ask(guard: PeerGuard): void {
    this.waiting.add(guard);
    if (this.isArmed) return;
    this.isArmed = true;
    setImmediate(() => {
      this.isArmed = false;
      const { waiting } = this;
      this.waiting = new Set();
      for (const one of waiting) one.newTurn();
    });
  }
  /** Once in a while only: a flood must not become one of the log. */
  log(message: string, peer: string): void {
    if (this.warning.isDue()) this.write?.('warn', message, { peer });
  }
}

export class PeerGuard {
  private readonly queue: (() => void)[] = [];
  private underWay = 0;
  private callsThisTurn = 0;
  private packetsThisTurn = 0;
  private callsLeft = CALLS_PER_S;
  private refilledAtMs = performance.now();
  private isHeld = false;
  private isClosed = false;
  private heldTimer: NodeJS.Timeout | undefined;
  /** Handed to the library, and by it to the transport, and not taken by the network yet. */
  private createdBytes = 0;
  private flushedBytes = 0;
  private buffersInARow = 0;
  private readonly early: { bytes: number; packets: number; count: (piece: Buffer) => void } | undefined;
  private isJoined = false;

  constructor(
    private readonly raw: RawConnection,
    private readonly peer: string,
    private readonly turns: Turns,
  ) {
    const early = {
      bytes: 0,
      packets: 0,
      count: (piece: Buffer): void => {
        early.bytes += piece.length;
        if (early.bytes > MAX_BYTES_BEFORE_JOINING) this.end('a connection sends much before it was let in: closed');
      },
    };
    this.early = early;
    raw.request.socket.on('data', early.count);
    raw.on('packet', (packet) => this.packet(packet.data));
    raw.on('packetCreate', ({ data }) => {
      this.createdBytes += typeof data === 'string' || data instanceof Uint8Array ? data.length : 0;
    });
    raw.on('flush', () => {
      this.flushedBytes += this.createdBytes;
      this.createdBytes = 0;
    });
    raw.transport.on('drain', () => {
      this.flushedBytes = 0;
    });
    raw.once('close', () => {
      this.isClosed = true;
      this.queue.length = 0;
      clearTimeout(this.heldTimer);
    });
  }

  /** Whoever answers for it has let it in. */
  joined(): void {
    if (this.isJoined || !this.early) return;
    this.isJoined = true;
    this.raw.request.socket.off('data', this.early.count);
  }

  /**
   * Runs a call, at once or when it is its turn. @param start begins it; what it returns settles when the call is answered
   * @param refuse is called instead when too many are under way
   */
  call(start: () => Promise<unknown>, refuse: (error: HoldfastError) => void): void {
    if (this.underWay + this.queue.length >= MAX_CALLS_UNDER_WAY) {
      this.turns.log('too many calls of one connection are under way: more are refused', this.peer);
      refuse(new HoldfastError('OVERLOADED', `more than ${MAX_CALLS_UNDER_WAY} calls of this connection are under way: wait for some`));
      return;
    }
    const run = (): void => {
      this.underWay++;
      this.callsThisTurn++;
      this.callsLeft--;
      const ended = (): void => {
        this.underWay--;
      };
      start().then(ended, ended);
    };
    if (this.callsThisTurn === 0) this.turns.ask(this);
    if (this.queue.length === 0 && this.mayRun()) run();
    else {
      this.queue.push(run);
      this.hold();
    }
  }

  /** Called by `Turns`. */
  newTurn(): void {
    if (this.isClosed) return;
    this.callsThisTurn = 0;
    this.packetsThisTurn = 0;
    this.refill();
    while (this.queue.length > 0 && this.mayRun()) this.queue.shift()?.();
    if (this.queue.length === 0) {
      this.letGo();
      return;
    }
    if (this.callsThisTurn >= CALLS_PER_TURN) this.turns.ask(this);
    else
      this.heldTimer ??= setTimeout(() => {
        this.heldTimer = undefined;
        this.newTurn();
      }, HELD_CHECK_MS);
  }

  private mayRun(): boolean {
    if (this.callsThisTurn >= CALLS_PER_TURN) return false;
    const unfetchedBytes = this.createdBytes + this.flushedBytes;
    if (this.callsLeft > 0 && unfetchedBytes < MAX_UNFETCHED_BYTES) return true;
    if (unfetchedBytes > END_UNFETCHED_BYTES) this.end('a connection does not fetch its answers: closed');
    else
      this.turns.log(
        this.callsLeft > 0
          ? 'a connection does not fetch its answers: its calls wait'
          : `a connection makes more than ${CALLS_PER_S} calls a second: they wait`,
        this.peer,
      );
    return false;
  }
  private refill(): void {
    const nowMs = performance.now();
    this.callsLeft = Math.min(CALLS_PER_S, this.callsLeft + ((nowMs - this.refilledAtMs) / 1000) * CALLS_PER_S);
    this.refilledAtMs = nowMs;
  }

  private packet(data: unknown): void {
    if (!this.isJoined && this.early && ++this.early.packets > MAX_PACKETS_BEFORE_JOINING)
      this.end('a connection sends much before it was let in: closed');
    if (data instanceof Uint8Array) {
      this.buffersInARow++;
      if (data.length > MAX_BUFFER_BYTES || this.buffersInARow > MAX_BUFFERS_IN_A_ROW)
        this.end('a connection sends buffers that no call has: closed');
    } else this.buffersInARow = 0;
    if (this.packetsThisTurn++ === 0) this.turns.ask(this);
    if (this.packetsThisTurn >= PACKETS_PER_TURN) this.hold();
  }

  /** Nothing more is read from it; its TCP window fills up. */
  private hold(): void {
    if (this.isHeld || this.isClosed) return;
    this.isHeld = true;
    this.raw.transport.socket?.pause();
  }
  private letGo(): void {
    if (!this.isHeld) return;
    this.isHeld = false;
    this.raw.transport.socket?.resume();
  }
  private end(why: string): void {
    this.turns.log(why, this.peer);
    this.raw.request.socket.destroy();
  }
}
