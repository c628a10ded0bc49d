/**
 * The simulated network: connections that behave like protocol/socket.ts over TCP, and single requests that behave like HTTP.
 *
 * TCP keeps order within a connection and loses nothing while it lives: a blocked link holds what is sent until it is free again or the
 * connection is given up. What is not in the same connection may overtake. A call is lost with its connection only: before it arrived,
 * or after it was carried out and before the reply did; asking again is up to the caller, which is how a request comes to run twice.
 */
import type { Accept, CallFrame, Connection, Dialer, PushFrame } from '../../protocol/call.js';
import type { Timer } from '../../protocol/environment.js';
import { fromWire, HoldfastError, toWire, type WireError } from '../../protocol/errors.js';
import type { Random } from './random.js';
import type { SimProcess, World } from './world.js';

/** What a message becomes by being sent: a copy, without undefined, with every byte array a Buffer. */
export function wireCopy(value: unknown): unknown {
  if (value === null || typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean') return value;
  if (value === undefined || typeof value === 'function' || typeof value === 'symbol') return undefined;
  if (typeof value === 'bigint') throw new Error('a bigint cannot be sent');
  if (value instanceof Uint8Array) return Buffer.from(value);
  if (Array.isArray(value)) return value.map((item) => (item === undefined ? null : wireCopy(item)));
  if (value instanceof Map || value instanceof Set) return {};
  const copy: Record<string, unknown> = {};
  for (const key of Object.keys(value)) {
    const item = wireCopy((value as Record<string, unknown>)[key]);
    if (item !== undefined) copy[key] = item;
  }
  return copy;
}

interface Held {
  readonly label: string;
  readonly action: () => void;
}

/** One direction of one connection: in order, nothing lost while both ends live. */
class Channel {
  private lastAtMs = 0;
  private held: Held[] = [];
  readonly fromIncarnation: number;
  readonly toIncarnation: number;

  constructor(
    private readonly network: Network,
    readonly from: SimProcess,
    readonly to: SimProcess,
  ) {
    this.fromIncarnation = from.incarnation;
    this.toIncarnation = to.incarnation;
  }

  /** `sizeBytes` makes large messages slower. */
  send(label: string, action: () => void, sizeBytes = 0): void {
    const { network, from, to } = this;
    if (this.held.length > 0 || network.isBlocked(from, to)) {
      this.held.push({ label, action });
      network.holding.add(this);
      return;
    }
    const { world } = network;
    const atMs = Math.max(world.nowMs + network.delayMs(from, to, sizeBytes), this.lastAtMs + 1e-5);
    this.lastAtMs = atMs;
    world.schedule(atMs - world.nowMs, label, () => {
      if (this.held.length > 0 || network.isBlocked(from, to)) {
        this.held.push({ label, action });
        network.holding.add(this);
      } else to.run(this.toIncarnation, action);
    });
  }

  /** The link is free again. */
  release(): void {
    const held = this.held.splice(0);
    for (const { label, action } of held) this.send(label, action);
  }
  get isHolding(): boolean {
    return this.held.length > 0;
  }
}

export interface NetworkFaults {
  callsCut: number;
  repliesCut: number;
}

export class Network {
  readonly holding = new Set<Channel>();
  /** Ends of open connections, to cut or time out. */
  readonly ends = new Set<End>();
  /** Chance that a connection breaks when a call (or its reply) is sent on it. */
  cutCallChance = 0;
  cutReplyChance = 0;
  readonly injected: NetworkFaults = { callsCut: 0, repliesCut: 0 };
  private readonly blocked = new Set<string>();
  private readonly slowMs = new Map<string, number>();
  private readonly random: Random;

  constructor(readonly world: World) {
    this.random = world.random.fork();
  }

  isBlocked(from: SimProcess, to: SimProcess): boolean {
    return this.blocked.has(`${from.name}>${to.name}`);
  }
  /** One way. Connections over a link blocked for 4 to 6 s are given up by the end that hears nothing. */
  block(from: SimProcess, to: SimProcess): void {
    const key = `${from.name}>${to.name}`;
    if (this.blocked.has(key)) return;
    this.blocked.add(key);
    this.world.note(`link ${key} blocked`);
    const blockedAtMs = this.world.nowMs;
    this.blockedSinceMs.set(key, blockedAtMs);
    for (const end of [...this.ends]) {
      if (!end.touches(from, to)) continue;
      // Either direction being dead stops the pings: both ends notice, each in its own time.
      this.world.schedule(this.pingTimeoutMs(), '', () => {
        // Or the link is whole again, but the other end has given the connection up meanwhile.
        if (this.blockedSinceMs.get(key) === blockedAtMs || !end.other.isOpen) end.broken('ping timeout');
      });
    }
  }
  private readonly blockedSinceMs = new Map<string, number>();
  pingTimeoutMs(): number {
    return this.random.between(4000, 6000);
  }
  unblock(from: SimProcess, to: SimProcess): void {
    const key = `${from.name}>${to.name}`;
    if (!this.blocked.delete(key)) return;
    this.blockedSinceMs.delete(key);
    this.world.note(`link ${key} free`);
    for (const channel of [...this.holding]) {
      if (channel.from !== from || channel.to !== to) continue;
      this.holding.delete(channel);
      channel.release();
    }
  }
  /** Makes everything to or from a process slower by up to that much. */
  slow(process: SimProcess, byMs: number): void {
    if (byMs > 0) this.slowMs.set(process.name, byMs);
    else this.slowMs.delete(process.name);
  }
  delayMs(from: SimProcess, to: SimProcess, sizeBytes: number): number {
    const extraMs = (this.slowMs.get(from.name) ?? 0) + (this.slowMs.get(to.name) ?? 0);
    // Mostly quick, now and then a straggler.
    const base = this.random.chance(0.02) ? this.random.between(2, 40) : this.random.between(0.05, 1.5);
    return base + (extraMs > 0 ? this.random.between(0, extraMs) : 0) + sizeBytes / 500_000;
  }

  /** Cuts every connection between two processes, both ends notice at once. */
  cut(a: SimProcess, b: SimProcess): void {
    for (const end of [...this.ends]) if (end.touches(a, b)) end.broken('transport close');
  }

  shouldCut(what: 'call' | 'reply'): boolean {
    const chance = what === 'call' ? this.cutCallChance : this.cutReplyChance;
    if (chance === 0 || !this.random.chance(chance)) return false;
    if (what === 'call') this.injected.callsCut++;
    else this.injected.repliesCut++;
    return true;
  }

  /**
   * Dials from one process to another. `acceptOf` is asked at the moment the connection arrives.
   */
  dialer(from: SimProcess, to: SimProcess, acceptOf: () => Accept | undefined): Dialer {
    const { incarnation } = from;
    return {
      dial: (namespace, handshake, timeoutMs) =>
        new Promise<Connection>((resolve, reject) => {
          const { world } = this;
          if (!from.isCurrent(incarnation)) return;
          let isSettled = false;
          const settle = (): boolean => {
            if (isSettled) return false;
            isSettled = true;
            timer.cancel();
            return true;
          };
          const refuse = (error: HoldfastError): void => {
            if (settle()) reject(error);
          };
          const timer = world.schedule(timeoutMs, '', () =>
            from.run(incarnation, () =>
              refuse(new HoldfastError('UNREACHABLE', `${to.name} did not finish the handshake within ${timeoutMs} ms`)),
            ),
          );
          const sent = wireCopy(handshake);
          this.knock(from, to, () => {
            if (!to.isAlive) {
              // The machine answers for the port nobody listens on; without power nobody does.
              if (to.isPowered && !this.isBlocked(to, from))
                world.schedule(this.delayMs(to, from, 0), '', () =>
                  from.run(incarnation, () => refuse(new HoldfastError('UNREACHABLE', `cannot connect to ${to.name}: ECONNREFUSED`))),
                );
              return;
            }
            to.run(to.incarnation, () => {
              if (!from.isCurrent(incarnation)) return;
              const accept = acceptOf();
              const here = new End(this, to, from);
              const there = new End(this, from, to);
              here.join(there);
              const no = (error: unknown): void => {
                if (!(error instanceof HoldfastError)) world.fail(`accepting a connection failed: ${describe(error)}`);
                const wire = toWire(error);
                here.ended('refused');
                here.channel.send(`${to.name} refuses ${from.name}: ${wire.code}`, () => {
                  there.forget();
                  refuse(fromWire(wire));
                });
              };
              if (!accept) {
                no(new HoldfastError('UNREACHABLE', 'not listening yet'));
                return;
              }
              Promise.resolve()
                .then(() => accept(namespace, sent, here))
                .then(() => {
                  if (!here.isOpen) {
                    no(new HoldfastError('UNREACHABLE', 'closed during the handshake'));
                    return;
                  }
                  here.channel.send(`${to.name} accepts ${from.name} /${namespace}`, () => {
                    if (isSettled) {
                      there.close('too late');
                      return;
                    }
                    settle();
                    resolve(there);
                  });
                  here.joined();
                }, no)
                .catch((error: unknown) => world.fail(`handshake: ${describe(error)}`));
            });
          });
        }),
    };
  }

  /** The first packet of something new; unlike Channel it may reach a process that started after it was sent. */
  private knock(from: SimProcess, to: SimProcess, action: () => void): void {
    const attempt = (): void => {
      if (this.isBlocked(from, to) || to.isHung) {
        // SYN again after a while, as TCP does; whoever waits has a deadline of its own.
        this.world.schedule(1000, '', attempt);
        return;
      }
      action();
    };
    this.world.schedule(this.delayMs(from, to, 0), '', attempt);
  }

  /**
   * One request and its reply, like HTTP with a connection of its own.
   * @param serve runs in the other process; what it throws is what the caller gets
   */
  request<Reply>(
    from: SimProcess,
    to: SimProcess,
    label: string,
    sizeBytes: number,
    options: { timeoutMs: number; signal?: AbortSignal },
    serve: () => Promise<Reply>,
    replySizeBytes: (reply: Reply) => number,
  ): Promise<Reply> {
    const { world } = this;
    const { incarnation } = from;
    return new Promise<Reply>((resolve, reject) => {
      if (!from.isCurrent(incarnation)) return;
      let isSettled = false;
      let timer: Timer | undefined;
      const onAbort = (): void => finish(() => reject(new HoldfastError('UNREACHABLE', `request to ${to.name} was given up`)));
      const finish = (outcome: () => void): void => {
        if (isSettled) return;
        isSettled = true;
        timer?.cancel();
        options.signal?.removeEventListener('abort', onAbort);
        outcome();
      };
      const lost = (why: string): void => {
        if (isSettled) return;
        world.schedule(this.delayMs(to, from, 0), '', () =>
          from.run(incarnation, () => finish(() => reject(new HoldfastError('UNREACHABLE', `${to.name}: ${why}`)))),
        );
      };
      if (options.signal?.aborted) {
        onAbort();
        return;
      }
      options.signal?.addEventListener('abort', onAbort);
      timer = world.schedule(options.timeoutMs, '', () =>
        from.run(incarnation, () =>
          finish(() => reject(new HoldfastError('DEADLINE', `${to.name} did not answer ${label} within ${options.timeoutMs} ms`))),
        ),
      );
      this.knock(from, to, () => {
        if (isSettled) return;
        if (!to.isAlive) {
          if (to.isPowered) lost('ECONNREFUSED');
          return;
        }
        const back = new Channel(this, to, from);
        const serverIncarnation = to.incarnation;
        to.onEnd.push((isPowerLoss) => {
          if (!isPowerLoss && !this.isBlocked(to, from)) lost('connection reset');
        });
        if (this.shouldCut('call')) {
          lost('connection cut');
          return;
        }
        world.schedule(sizeBytes / 500_000, `${from.name} > ${to.name} ${label}`, () => {
          to.run(serverIncarnation, () => {
            const answer = (outcome: () => void, bytes: number): void => {
              if (!to.isCurrent(serverIncarnation)) return;
              if (this.shouldCut('reply')) {
                lost('connection cut');
                return;
              }
              back.send('', () => finish(outcome), bytes);
            };
            serve().then(
              (reply) => answer(() => resolve(reply), replySizeBytes(reply)),
              (error: unknown) => {
                if (!(error instanceof HoldfastError)) world.fail(`${to.name} ${label} failed: ${describe(error)}`);
                const wire = toWire(error);
                answer(() => reject(fromWire(wire)), 0);
              },
            );
          });
        });
      });
    });
  }
}

export const describe = (error: unknown): string => (error instanceof Error ? (error.stack ?? error.message) : String(error));

interface PendingCall {
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: HoldfastError) => void;
  readonly timer: Timer;
}

/** One end of a connection. */
class End implements Connection {
  onCall: Connection['onCall'];
  onPush: Connection['onPush'];
  onClose: Connection['onClose'];
  isOpen = true;
  readonly peer: string;
  readonly channel: Channel;
  /** Of the same connection. */
  other!: End;
  private readonly pending = new Map<number, PendingCall>();
  private nextCall = 1;
  private early: (() => void)[] | undefined;
  private readonly incarnation: number;

  constructor(
    private readonly network: Network,
    private readonly owner: SimProcess,
    private readonly far: SimProcess,
  ) {
    this.peer = far.name;
    this.channel = new Channel(network, owner, far);
    this.incarnation = owner.incarnation;
  }

  /** On the accepting side; the dialing side is `other`. */
  join(other: End): void {
    this.other = other;
    other.other = this;
    this.early = [];
    this.network.ends.add(this);
    this.network.ends.add(other);
    for (const end of [this, other]) {
      end.owner.onEnd.push((isPowerLoss) => end.ownerEnded(isPowerLoss));
    }
  }
  joined(): void {
    const early = this.early ?? [];
    this.early = undefined;
    if (this.isOpen) for (const send of early) send();
  }
  forget(): void {
    this.isOpen = false;
    this.network.ends.delete(this);
  }
  touches(a: SimProcess, b: SimProcess): boolean {
    return (this.owner === a && this.far === b) || (this.owner === b && this.far === a);
  }

  call(frame: CallFrame, timeoutMs: number): Promise<unknown> {
    if (!this.isOpen) return Promise.reject(new HoldfastError('UNREACHABLE', `connection to ${this.peer} is closed`));
    const { network, owner } = this;
    const number = this.nextCall++;
    return new Promise((resolve, reject) => {
      const timer = network.world.schedule(timeoutMs, '', () =>
        owner.run(this.incarnation, () => {
          if (!this.pending.delete(number)) return;
          reject(new HoldfastError('DEADLINE', `${this.peer} did not answer ${frame.method} within ${timeoutMs} ms`));
        }),
      );
      this.pending.set(number, { resolve, reject, timer });
      let copy: CallFrame;
      try {
        copy = wireCopy(frame) as CallFrame;
      } catch (error) {
        this.settle(number, (call) => call.reject(new HoldfastError('INTERNAL', `${frame.method} could not be encoded: ${String(error)}`)));
        return;
      }
      const send = (): void => {
        if (!this.pending.has(number)) return;
        const request = copy.request === undefined ? '' : ` #${copy.request}`;
        if (network.shouldCut('call')) {
          network.world.schedule(0, 'cut before a call', () => this.broken('transport close'));
          // The other end hears nothing, and gives the connection up when its pings are not answered.
          network.world.schedule(network.pingTimeoutMs(), '', () => this.other.broken('ping timeout'));
          return;
        }
        this.channel.send(`${owner.name} > ${this.far.name} ${copy.method}${request}`, () => this.other.answer(number, copy));
      };
      if (this.early) this.early.push(send);
      else send();
    });
  }

  push(frame: PushFrame): void {
    if (!this.isOpen) return;
    const copy = wireCopy(frame) as PushFrame;
    const send = (): void => {
      this.channel.send(`${this.owner.name} > ${this.far.name} push ${copy.topic}`, () => {
        const { other } = this;
        if (!other.isOpen) return;
        try {
          other.onPush?.(copy);
        } catch (error) {
          this.network.world.fail(`${other.owner.name} handling push ${copy.topic}: ${describe(error)}`);
        }
      });
    };
    if (this.early) this.early.push(send);
    else send();
  }

  close(reason: string): void {
    if (!this.isOpen) return;
    this.ended(reason);
    this.channel.send('', () => this.other.ended('transport close'));
  }

  /** The transport broke; each end notices when it does. */
  broken(reason: string): void {
    if (!this.isOpen) return;
    this.owner.run(this.incarnation, () => this.ended(reason));
  }

  ended(reason: string): void {
    if (!this.isOpen) return;
    this.isOpen = false;
    this.network.ends.delete(this);
    if (!this.owner.isCurrent(this.incarnation)) return;
    const error = new HoldfastError('UNREACHABLE', `connection to ${this.peer} closed: ${reason}`);
    for (const number of [...this.pending.keys()]) this.settle(number, (call) => call.reject(error));
    this.onClose?.(reason);
  }

  private ownerEnded(isPowerLoss: boolean): void {
    if (!this.isOpen) return;
    this.isOpen = false;
    this.network.ends.delete(this);
    const { other, network } = this;
    // A killed process's kernel closes its sockets; a machine without power says nothing.
    if (isPowerLoss || network.isBlocked(this.owner, this.far))
      network.world.schedule(4000 + (other.nextCall % 20) * 100, '', () => other.broken('ping timeout'));
    else network.world.schedule(network.delayMs(this.owner, this.far, 0), '', () => other.broken('transport close'));
  }

  private settle(number: number, outcome: (call: PendingCall) => void): void {
    const call = this.pending.get(number);
    if (!call) return;
    this.pending.delete(number);
    call.timer.cancel();
    outcome(call);
  }

  private answer(number: number, frame: CallFrame): void {
    if (!this.isOpen) return;
    const { network } = this;
    const reply = (outcome: { ok: unknown } | { error: WireError }): void => {
      if (!this.isOpen || !this.owner.isCurrent(this.incarnation)) return;
      if (network.shouldCut('reply')) {
        network.world.note(`cut before the reply to ${frame.method}`);
        this.broken('transport close');
        network.world.schedule(1, '', () => this.other.broken('transport close'));
        return;
      }
      const label = 'error' in outcome ? `${this.owner.name} > ${this.far.name} ${frame.method}: ${outcome.error.code}` : '';
      this.channel.send(label, () => {
        const { other } = this;
        if (!other.isOpen) return;
        if ('error' in outcome) other.settle(number, (call) => call.reject(fromWire(outcome.error)));
        else other.settle(number, (call) => call.resolve(outcome.ok));
      });
    };
    const refuse = (error: unknown): void => {
      if (!(error instanceof HoldfastError))
        network.world.fail(`${this.owner.name} answering ${frame.method} failed unexpectedly: ${describe(error)}`);
      reply({ error: toWire(error) });
    };
    const { onCall } = this;
    if (!onCall) {
      reply({ error: { code: 'BAD_MESSAGE', message: `${frame.method} is not served on this connection` } });
      return;
    }
    network.world.detail(() => `${this.owner.name} asked ${frame.method} ${JSON.stringify(frame.args)}`);
    try {
      onCall(frame).then((ok) => {
        try {
          network.world.detail(() => `${this.owner.name} answers ${frame.method} ${frame.request ?? ''} ${JSON.stringify(ok)}`);
          reply({ ok: wireCopy(ok) });
        } catch (error) {
          refuse(error);
        }
      }, refuse);
    } catch (error) {
      refuse(error);
    }
  }
}
