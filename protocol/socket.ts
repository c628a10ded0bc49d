/**
 * Connection and Dialer (call.ts) over Socket.IO: the only file that knows the library on either side.
 *
 * Frames: event "call" (CallFrame, acknowledged by one ReplyFrame) and event "push" (PushFrame), both directions, websocket only.
 * The library's own comforts are off: no reconnection (a dial is tried once, the caller decides), no connection state recovery (it skips
 * authentication), no buffering of emits while disconnected (a stale call would run late), no compression.
 */
import type { Server as HttpServer, IncomingMessage } from 'node:http';
import type { Server as HttpsServer } from 'node:https';
import type { Socket } from 'node:net';
import { Socket as ServerSocket, Server as SocketIoServer } from 'socket.io';
import { type Socket as ClientSocket, io } from 'socket.io-client';
import { type Accept, type CallFrame, type Connection, callFrameOf, type Dialer, type PushFrame, type ReplyFrame } from './call.js';
import type { Environment } from './environment.js';
import { fromWire, HoldfastError, toWire, type WireError } from './errors.js';
import { MAX_MESSAGE_BYTES } from './limits.js';
import { PeerGuard, type RawConnection, Turns } from './peer-guard.js';
import { clientTls, type PeerTls, tlsReason } from './tls.js';

const NAMESPACES = ['client', 'node', 'admin'] as const;
/** Frames that arrive before the dialer's caller had a chance to set its handlers; more than this in one tick is not a peer of ours. */
const MAX_HELD_FRAMES = 10_000;

type AnySocket = ServerSocket | ClientSocket;
type Log = Environment['log'];

const unreachable = (why: string): HoldfastError => new HoldfastError('UNREACHABLE', why);

class SocketConnection implements Connection {
  onCall: Connection['onCall'];
  onPush: Connection['onPush'];
  onClose: Connection['onClose'];
  isOpen = true;
  /** Rejecters of calls that wait for their reply. */
  private readonly pending = new Set<(error: HoldfastError) => void>();
  /** Sends asked for while the server still decides about the connection; sent in order once it is joined. */
  private early: (() => void)[] | undefined;
  /** Arrivals before the dialer's caller could set its handlers. */
  private held: (() => void)[] | undefined;

  constructor(
    private readonly socket: AnySocket,
    readonly peer: string,
    state: { isJoined: boolean; holdsArrivals: boolean },
    private readonly log: Log | undefined,
    /** Only a server needs one. */
    private readonly guard?: PeerGuard,
  ) {
    if (!state.isJoined) this.early = [];
    if (state.holdsArrivals) this.held = [];
    const any = socket as ClientSocket;
    any.on('call', (frame: unknown, reply: unknown) => this.arrived(() => this.answer(frame, reply)));
    any.on('push', (frame: unknown) => this.arrived(() => this.receive(frame)));
    any.on('disconnect', (reason: string) => this.ended(reason));
    any.on('error', () => {}); // A malformed packet must not become an uncaught exception.
  }

  call(frame: CallFrame, timeoutMs: number): Promise<unknown> {
    if (!this.isOpen) return Promise.reject(unreachable(`connection to ${this.peer} is closed`));
    return new Promise((resolve, reject) => {
      const settle = (error: HoldfastError | undefined, value?: unknown): void => {
        if (!this.pending.delete(fail)) return;
        if (error) reject(error);
        else resolve(value);
      };
      const fail = (error: HoldfastError): void => settle(error);
      const deadline = (): HoldfastError =>
        new HoldfastError('DEADLINE', `${this.peer} did not answer ${frame.method} within ${timeoutMs} ms`);
      this.pending.add(fail);
      const send = (leftMs: number): void => {
        try {
          (this.socket as ClientSocket)
            .timeout(leftMs)
            .emit('call', frame, (late: Error | null, reply?: Partial<{ ok: unknown; error: WireError }>) => {
              if (late) fail(this.isOpen ? deadline() : unreachable(`connection to ${this.peer} closed`));
              else if (typeof reply !== 'object' || reply === null)
                fail(new HoldfastError('BAD_MESSAGE', `${this.peer} sent a malformed reply to ${frame.method}`));
              else if (reply.error) fail(fromWire(reply.error));
              else settle(undefined, reply.ok);
            });
        } catch (error) {
          fail(new HoldfastError('INTERNAL', `${frame.method} could not be encoded: ${String(error)}`));
        }
      };
      if (!this.early) {
        send(timeoutMs);
        return;
      }
      const startedMs = performance.now();
      const timer = setTimeout(() => fail(deadline()), timeoutMs);
      this.early.push(() => {
        clearTimeout(timer);
        if (this.pending.has(fail)) send(Math.max(1, timeoutMs - (performance.now() - startedMs)));
      });
    });
  }

  push(frame: PushFrame): void {
    if (!this.isOpen) return;
    if (this.early) this.early.push(() => (this.socket as ClientSocket).emit('push', frame));
    else (this.socket as ClientSocket).emit('push', frame);
  }

  close(reason: string): void {
    if (!this.isOpen) return;
    this.ended(reason);
    if (this.socket instanceof ServerSocket) this.socket.disconnect(true);
    else this.socket.disconnect();
  }

  /** The server has let the connection in: what waited goes out. */
  joined(): void {
    const early = this.early ?? [];
    this.early = undefined;
    if (this.isOpen) for (const send of early) send();
  }

  /** The dialer's caller has set its handlers. */
  release(): void {
    const held = this.held ?? [];
    this.held = undefined;
    for (const deliver of held) deliver();
  }

  ended(reason: string): void {
    if (!this.isOpen) return;
    this.isOpen = false;
    const error = unreachable(`connection to ${this.peer} closed: ${reason}`);
    for (const fail of [...this.pending]) fail(error);
    this.arrived(() => this.onClose?.(reason));
  }

  private arrived(deliver: () => void): void {
    if (!this.held) deliver();
    else if (this.held.length < MAX_HELD_FRAMES) this.held.push(deliver);
  }

  private receive(frame: unknown): void {
    if (!this.isOpen || typeof frame !== 'object' || frame === null) return;
    const { topic, data } = frame as Partial<PushFrame>;
    if (typeof topic !== 'string' || topic.length > 64) return;
    try {
      this.onPush?.({ topic, data });
    } catch (error) {
      this.log?.('error', 'handling a push failed', { topic, error: describe(error) });
    }
  }

  private answer(frame: unknown, acknowledge: unknown): void {
    // A call without acknowledgement cannot be answered: whoever sends it does not speak this protocol.
    if (typeof acknowledge !== 'function') return;
    const reply = (answer: ReplyFrame): void => {
      try {
        (acknowledge as (answer: ReplyFrame) => void)(answer);
      } catch (error) {
        this.log?.('error', 'a reply could not be encoded', { error: describe(error) });
        (acknowledge as (answer: ReplyFrame) => void)({ error: toWire(error) });
      }
    };
    const call = callFrameOf(frame);
    if (!call) {
      reply({ error: { code: 'BAD_MESSAGE', message: 'not a call frame' } });
      return;
    }
    const { onCall } = this;
    if (!onCall) {
      reply({ error: { code: 'BAD_MESSAGE', message: `${call.method} is not served on this connection` } });
      return;
    }
    const refuse = (error: unknown): void => {
      if (!(error instanceof HoldfastError))
        this.log?.('error', 'a call failed unexpectedly', { method: call.method, error: describe(error) });
      reply({ error: toWire(error) });
    };
    const start = async (): Promise<void> => {
      try {
        reply({ ok: await onCall(call) });
      } catch (error) {
        refuse(error);
      }
    };
    if (this.guard) this.guard.call(start, refuse);
    else void start();
  }
}

const describe = (error: unknown): string => (error instanceof Error ? (error.stack ?? error.message) : String(error));

const peerOf = ({ remoteAddress, remotePort }: Socket): string => `${remoteAddress ?? '?'}:${remotePort ?? '?'}`;

export interface SocketServerOptions {
  /** More connections than this are refused at the upgrade. Default 2000. */
  readonly maxConnections?: number;
  /** A websocket that joins no namespace within this time is closed. Default 5 s. */
  readonly connectTimeoutMs?: number;
  readonly log?: Log;
  /** Asked at the upgrade, before anything is said; default: everybody. */
  readonly mayConnect?: (request: IncomingMessage) => boolean;
}
export interface SocketServer {
  /** Number of open connections, joined or not. */
  readonly connectionCount: number;
  /** Closes every connection. The HTTP server stays the caller's. */
  close(): void;
}

/**
 * Serves connections on an HTTP(S) server. `accept` is asked for each one before the other side may send anything; what it throws is what the
 * dialer's promise rejects with. Pushes and calls made inside `accept` are sent once it has returned; it must not wait for an answer to one.
 * `onClose` is called once for every connection that ended, by whichever side, also when that happens while `accept` is still running.
 */
export function listen(httpServer: HttpServer | HttpsServer, accept: Accept, options: SocketServerOptions = {}): SocketServer {
  const maxConnections = options.maxConnections ?? 2000;
  const server = new SocketIoServer({
    transports: ['websocket'],
    serveClient: false,
    perMessageDeflate: false,
    httpCompression: false,
    maxHttpBufferSize: MAX_MESSAGE_BYTES,
    pingInterval: 2000,
    pingTimeout: 4000,
    connectTimeout: options.connectTimeoutMs ?? 5000,
    allowRequest: (request, callback) => {
      if (options.mayConnect?.(request) === false) {
        callback('a certificate of the cluster is needed', false);
        return;
      }
      const isFull = server.engine.clientsCount >= maxConnections;
      callback(isFull ? 'too many connections' : null, !isFull);
    },
  });
  const turns = new Turns(options.log);
  const guards = new WeakMap<object, PeerGuard>();
  const upgradeListeners = new Set(httpServer.listeners('upgrade'));
  server.attach(httpServer);
  server.engine.on('connection', (raw: RawConnection) => guards.set(raw, new PeerGuard(raw, peerOf(raw.request.socket), turns)));
  const ours = httpServer.listeners('upgrade').filter((listener) => !upgradeListeners.has(listener));
  for (const namespace of NAMESPACES) {
    const space = server.of(`/${namespace}`);
    space.use((socket, next) => {
      const guard = guards.get(socket.conn);
      const connection = new SocketConnection(
        socket,
        peerOf(socket.request.socket),
        { isJoined: false, holdsArrivals: false },
        options.log,
        guard,
      );
      socket.data.connection = connection;
      // Before it has joined, a socket hears nothing of its transport's end.
      socket.conn.once('close', (reason: string) => connection.ended(reason));
      const refuse = (error: unknown): void => {
        if (!(error instanceof HoldfastError))
          options.log?.('error', 'accepting a connection failed unexpectedly', { error: describe(error) });
        connection.ended('refused');
        const wire = toWire(error);
        next(Object.assign(new Error(wire.message), { data: wire }));
      };
      Promise.resolve()
        .then(() => accept(namespace, socket.handshake.auth, connection))
        .then(() => {
          if (connection.isOpen) {
            guard?.joined();
            next();
          } else refuse(unreachable('closed during the handshake'));
        }, refuse);
    });
    space.on('connection', (socket) => (socket.data.connection as SocketConnection).joined());
  }
  return {
    get connectionCount() {
      return server.engine.clientsCount;
    },
    close: () => {
      for (const namespace of NAMESPACES) {
        for (const socket of server.of(`/${namespace}`).sockets.values())
          (socket.data.connection as SocketConnection).close('server is stopping');
      }
      // Not server.close(): that would close the HTTP server too, which others share.
      server.disconnectSockets(true);
      server.engine.close();
      for (const listener of ours) httpServer.off('upgrade', listener as () => void);
    },
  };
}

export interface SocketDialerOptions {
  /** For https URLs. */
  readonly tls?: PeerTls;
  readonly log?: Log;
}

/**
 * Dials one server by websocket. Handlers of the connection must be set synchronously when the promise has resolved: what arrives earlier is kept
 * for them. @param url http(s)://host:port
 */
export function socketDialer(url: string, options: SocketDialerOptions = {}): Dialer {
  const peer = new URL(url).host;
  return {
    dial: (namespace, handshake, timeoutMs) =>
      new Promise((resolve, reject) => {
        const socket = io(new URL(`/${namespace}`, url).href, {
          transports: ['websocket'],
          reconnection: false,
          forceNew: true,
          multiplex: false,
          perMessageDeflate: false as never,
          timeout: timeoutMs,
          auth: handshake,
          autoConnect: false,
          ...clientTls(options.tls),
        });
        let isSettled = false;
        const settle = (): boolean => {
          if (isSettled) return false;
          isSettled = true;
          clearTimeout(timer);
          return true;
        };
        const refuse = (error: HoldfastError): void => {
          if (!settle()) return;
          socket.disconnect();
          socket.io.engine?.close();
          reject(error);
        };
        const timer = setTimeout(() => refuse(unreachable(`${peer} did not finish the handshake within ${timeoutMs} ms`)), timeoutMs);
        socket.on('connect_error', (error: Error & { data?: WireError; description?: unknown }) => {
          if (error.data && typeof error.data.code === 'string') refuse(fromWire(error.data));
          else refuse(unreachable(`cannot connect to ${peer}: ${causeOf(error, url)}`));
        });
        socket.on('connect', () => {
          if (!settle()) return;
          const connection = new SocketConnection(socket, peer, { isJoined: true, holdsArrivals: true }, options.log);
          // Whoever awaits the dial runs in the microtasks before this, so its handlers are set when held frames are delivered.
          setImmediate(() => connection.release());
          resolve(connection);
        });
        socket.on('disconnect', (reason) => refuse(unreachable(`${peer} closed the connection: ${reason}`)));
        socket.connect();
      }),
  };
}

/** engine.io hides the reason (ECONNREFUSED, certificate trouble) two levels down. */
function causeOf(error: Error & { description?: unknown }, url: string): string {
  const inner = (error.description as { error?: Error; message?: string } | undefined) ?? {};
  const reason = inner.error?.message || inner.message || error.message;
  // A server that does not like our certificate may hang up before it has said so.
  if (url.startsWith('https:') && /socket hang up|ECONNRESET|disconnected before secure|unexpected server response: 40[03]/i.test(reason))
    return `${reason}; perhaps it takes only peers with a certificate of its cluster (--tls-cert, --tls-key)`;
  return tlsReason(reason);
}
