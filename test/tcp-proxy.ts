/**
 * A TCP proxy that can keep what the server says to itself, cut every connection (for replies that are lost after the work was done), and keep
 * a copy of everything that passes.
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
      near.on('data', (bytes) => {
        if (proxy.isRecording) proxy.recordedBytes.push(bytes);
        far.write(bytes);
      });
      far.on('data', (bytes) => {
        if (proxy.isRecording) proxy.recordedBytes.push(bytes);
        if (proxy.isSwallowing) proxy.swallowedBytes += bytes.length;
        else near.write(bytes);
      });
    });
    return proxy;
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
