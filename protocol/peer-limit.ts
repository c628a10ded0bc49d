/** How many connections one address may have to a server, so that one machine cannot take them all. */
import type { Server, Socket } from 'node:net';
import type { Environment } from './environment.js';
import { Seldom } from './seldom.js';

const SORRY =
  'HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\nconnection: close\r\n\r\n{"code":"OVERLOADED","message":"too many connections from this address: close some"}';

export interface PeerLimitOptions {
  readonly maxPerAddress: number;
  /** False for TLS, where nothing can be said before the handshake. */
  readonly speaksPlainHttp: boolean;
  readonly log?: Environment['log'] | undefined;
}

/** Refuses connections of an address that has many already: in words where that is possible, and with one line of the log a minute. */
export function limitPeers(server: Server, { maxPerAddress, speaksPlainHttp, log }: PeerLimitOptions): void {
  const counts = new Map<string, number>();
  const warning = new Seldom(() => performance.now());
  server.on('connection', (socket: Socket) => {
    const address = socket.remoteAddress ?? '';
    const count = (counts.get(address) ?? 0) + 1;
    counts.set(address, count);
    socket.once('close', () => {
      const left = (counts.get(address) ?? 1) - 1;
      if (left > 0) counts.set(address, left);
      else counts.delete(address);
    });
    if (count <= maxPerAddress) return;
    if (warning.isDue()) log?.('warn', 'more connections from one address than are taken: the rest is refused', { address, maxPerAddress });
    if (!speaksPlainHttp) socket.destroy();
    else {
      socket.on('error', () => {}); // Gone already: all the better.
      socket.end(SORRY, () => socket.destroy());
    }
  });
}
