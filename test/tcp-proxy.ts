/**
 * A TCP proxy that can keep what the server says to itself, drop both directions, slow them down, and cut every connection (for replies that are lost
 * after the work was done, for partitions, and for slow machines), and keep a copy of everything that passes.
 */
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';

export class TcpProxy {
  /** While true, bytes from the server are thrown away. */
  isSwallowing = false;
  /** Bytes thrown away so far. */
  swallowedBytes = 0;
  isRecording = false;
  /** Both directions, as it came. */
  readonly recordedBytes: Buffer[] = [];
  /** While true, bytes from the client are thrown away: with isSwallowing as well, nobody hears the other, and nobody is told. */
  isDeaf = false;
  /** Each piece that arrives waits this long before it is passed on. */
  delayMs = 0;
  /** Bytes a second that pass in each direction of a connection; 0 = as they come. */
  bytesPerS = 0;
  private readonly sockets = new Set<Socket>();
  private constructor(
    private readonly server: Server,
    readonly url: string,
  ) {}

  static async start(targetUrl: string): Promise<TcpProxy> {
    const target = new URL(targetUrl);
    const server = createServer();
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(0, '127.0.0.1', resolve);
    });
    const proxy = new TcpProxy(server, `http://127.0.0.1:${(server.address() as AddressInfo).port}`);
    server.on('connection', (near) => {
      const far = connect(Number(target.port), target.hostname);
      for (const [socket, other] of [
        [near, far],
        [far, near],
      ] as const) {
        proxy.sockets.add(socket);
        socket.on('error', () => {}); // 'close' follows
        socket.on('close', () => {
          proxy.sockets.delete(socket);
          other.destroy();
        });
      }
      near.on('data', (bytes) => proxy.pass(near, far, bytes, () => proxy.isDeaf));
      far.on('data', (bytes) => proxy.pass(far, near, bytes, () => proxy.isSwallowing));
    });
    return proxy;
  }
  private pass(from: Socket, to: Socket, bytes: Buffer, isDropped: () => boolean): void {
    const waitMs = this.delayMs + (this.bytesPerS === 0 ? 0 : (bytes.length * 1000) / this.bytesPerS);
    if (this.isRecording) this.recordedBytes.push(bytes);
    const send = (): void => {
      if (isDropped()) this.swallowedBytes += bytes.length;
      else if (!to.destroyed) to.write(bytes);
    };
    if (waitMs === 0) {
      send();
      return;
    }
    // The sender is held up as by a slow line; what comes later does not overtake.
    from.pause();
    setTimeout(() => {
      send();
      from.resume();
    }, waitMs);
  }
  /** Breaks every connection that passes through; new ones are taken. */
  cut(): void {
    for (const socket of this.sockets) socket.destroy();
  }
  async stop(): Promise<void> {
    this.cut();
    await new Promise((resolve) => this.server.close(resolve));
  }
}
