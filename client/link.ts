/**
 * A connection to the coordinator that comes back by itself: dials, greets, and dials again after every loss, with growing pauses.
 * Knows nothing of calls or sessions; session.ts and admin.ts give it meaning.
 */
import type { Connection, Dialer } from '../protocol/call.js';
import type { Environment, Timer } from '../protocol/environment.js';
import { HoldfastError } from '../protocol/errors.js';

const FIRST_PAUSE_MS = 50;
/** A refused dial costs little, and everybody waits for the coordinator: it is found soon after its return. */
const LONGEST_PAUSE_MS = 300;
const DIAL_TIMEOUT_MS = 4000;

export interface LinkParts {
  readonly environment: Environment;
  readonly dialer: Dialer;
  readonly namespace: 'client' | 'admin';
  readonly handshake: () => Record<string, unknown>;
  /** Sets the connection's handlers synchronously, then says hello. What it throws counts as a failed dial. */
  readonly greet: (connection: Connection) => Promise<void>;
  readonly onUp?: () => void;
  readonly onDown?: (reason: string) => void;
}

interface Waiter {
  resolve(connection: Connection): void;
  reject(error: HoldfastError): void;
  readonly timer: Timer | undefined;
}

export class Link {
  private connection: Connection | undefined;
  private isClosed = false;
  private pauseMs = FIRST_PAUSE_MS;
  private timer: Timer | undefined;
  private isDialing = false;
  private readonly waiters = new Set<Waiter>();
  /** Why the last dial failed. */
  private failure = new HoldfastError('UNREACHABLE', 'not connected to the coordinator yet');

  constructor(private readonly parts: LinkParts) {}

  start(): void {
    this.dial();
  }

  /** The greeted, open connection, or undefined while there is none. */
  get current(): Connection | undefined {
    return this.connection?.isOpen ? this.connection : undefined;
  }

  /**
   * Resolves as soon as there is a greeted connection.
   * @param waitMs how long to wait; Infinity waits on
   * @throws {HoldfastError} UNREACHABLE after that time, or at once what the coordinator refuses us with (UNAUTHORIZED, PROTOCOL_VERSION, ...)
   */
  open(waitMs: number): Promise<Connection> {
    const { current } = this;
    if (current) return Promise.resolve(current);
    if (this.isClosed) return Promise.reject(new HoldfastError('UNREACHABLE', 'this connection to the coordinator has been closed'));
    return new Promise((resolve, reject) => {
      const giveUp = (): void => {
        this.waiters.delete(waiter);
        reject(new HoldfastError('UNREACHABLE', this.failure.message, this.failure.facts));
      };
      const timer = waitMs === Infinity ? undefined : this.parts.environment.setTimer(Math.max(0, waitMs), giveUp);
      const waiter: Waiter = { resolve, reject, timer };
      this.waiters.add(waiter);
    });
  }

  /** Drops the connection, so that a new one is dialled: for a peer that does not answer any more. */
  drop(reason: string): void {
    this.connection?.close(reason);
  }

  close(reason: string): void {
    this.isClosed = true;
    this.timer?.cancel();
    this.connection?.close(reason);
    this.settleWaiters(new HoldfastError('UNREACHABLE', reason));
  }

  private settleWaiters(outcome: Connection | HoldfastError): void {
    const waiting = [...this.waiters];
    this.waiters.clear();
    for (const waiter of waiting) {
      waiter.timer?.cancel();
      if (outcome instanceof HoldfastError) waiter.reject(outcome);
      else waiter.resolve(outcome);
    }
  }

  /** Does not wait for the next try's turn. */
  redial(): void {
    if (this.connection?.isOpen) return;
    this.timer?.cancel();
    this.pauseMs = FIRST_PAUSE_MS;
    this.dial();
  }

  private dial(): void {
    if (this.isClosed || this.isDialing) return;
    this.isDialing = true;
    this.connect().then(
      (connection) => {
        this.isDialing = false;
        if (this.isClosed) return connection.close('closed');
        if (!connection.isOpen) return this.later();
        this.pauseMs = FIRST_PAUSE_MS;
        this.parts.onUp?.();
        this.settleWaiters(connection);
      },
      (error: unknown) => {
        this.isDialing = false;
        this.failure = error instanceof HoldfastError ? error : new HoldfastError('INTERNAL', String(error));
        // The coordinator is there and does not want us: waiting would not help those who wait, though an operator may change it.
        if (!this.failure.retryable) this.settleWaiters(this.failure);
        this.later();
      },
    );
  }

  private async connect(): Promise<Connection> {
    const { dialer, namespace, handshake, greet } = this.parts;
    const connection = await dialer.dial(namespace, handshake(), DIAL_TIMEOUT_MS);
    let isGreeted = false;
    connection.onClose = (reason) => {
      if (this.connection === connection) this.connection = undefined;
      if (!isGreeted) return;
      this.failure = new HoldfastError('UNREACHABLE', `connection to ${connection.peer} was lost: ${reason}`);
      this.parts.onDown?.(reason);
      this.dial();
    };
    try {
      await greet(connection);
    } catch (error) {
      connection.close('hello failed');
      throw error;
    }
    isGreeted = connection.isOpen;
    this.connection = connection;
    return connection;
  }

  private later(): void {
    if (this.isClosed) return;
    // A little chance, so that many clients of one restarted coordinator do not come in step.
    const pauseMs = this.pauseMs * (0.75 + this.parts.environment.random() * 0.5);
    this.pauseMs = Math.min(this.pauseMs * 2, LONGEST_PAUSE_MS);
    this.timer = this.parts.environment.setTimer(pauseMs, () => this.dial());
  }
}
