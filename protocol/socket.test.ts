import { createServer, type Server } from 'node:http';
import { type AddressInfo, connect, createServer as createTcpServer } from 'node:net';
import { WebSocket } from 'undici';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Accept, Connection } from './call.js';
import { HoldfastError } from './errors.js';
import { listen, type SocketServer, type SocketServerOptions, socketDialer } from './socket.js';

let http: Server;
let server: SocketServer | undefined;
let url: string;
const opened: Connection[] = [];

const listening = async (target: { listen: Server['listen']; address: Server['address'] }): Promise<string> => {
  await new Promise<void>((resolve) => target.listen(0, '127.0.0.1', resolve));
  return `http://127.0.0.1:${(target.address() as AddressInfo).port}`;
};
const serve = (accept: Accept, options?: SocketServerOptions): void => {
  server = listen(http, accept, options);
};
const dial = async (handshake: Record<string, unknown> = {}, timeoutMs = 20_000): Promise<Connection> => {
  const connection = await socketDialer(url).dial('client', handshake, timeoutMs);
  opened.push(connection);
  return connection;
};
const closed = (connection: Connection): Promise<string> =>
  new Promise((resolve) => {
    connection.onClose = resolve;
  });

beforeEach(async () => {
  http = createServer();
  url = await listening(http);
});
afterEach(async () => {
  for (const connection of opened.splice(0)) connection.close('test over');
  server?.close();
  server = undefined;
  await new Promise((resolve) => http.close(resolve));
});

describe('socket connection', () => {
  it('answers calls in both directions with values, typed errors and buffers', async () => {
    let serverSide: Connection | undefined;
    serve((namespace, handshake, connection) => {
      serverSide = connection;
      connection.onCall = async (frame) => {
        if (frame.method === 'fail') throw new HoldfastError('ENOENT', 'no such file', { name: 'a' });
        if (frame.method === 'crash') throw new Error('secret /path');
        return { namespace, handshake, frame };
      };
    });
    const client = await dial({ token: 't' });
    client.onCall = async (frame) => frame.args;
    expect(await client.call({ method: 'echo', request: 3, answeredBelow: 2, args: { a: 1 } }, 20_000)).toEqual({
      namespace: 'client',
      handshake: { token: 't' },
      frame: { method: 'echo', request: 3, answeredBelow: 2, args: { a: 1 } },
    });
    await expect(client.call({ method: 'fail', args: {} }, 20_000)).rejects.toMatchObject({
      code: 'ENOENT',
      facts: { name: 'a' },
    });
    const crash = (await client.call({ method: 'crash', args: {} }, 20_000).catch((e: unknown) => e)) as HoldfastError;
    expect(crash.code).toBe('INTERNAL');
    expect(crash.message).not.toContain('secret');
    const bytes = Buffer.from([0, 1, 255]);
    expect(await serverSide!.call({ method: 'bytes', args: { bytes } }, 20_000)).toEqual({ bytes });
  });

  it('delivers pushes sent during and right after the handshake, in order', async () => {
    serve((_namespace, _handshake, connection) => {
      connection.push({ topic: 'n', data: 1 });
      connection.push({ topic: 'n', data: 2 });
      connection.onCall = async () => {
        connection.push({ topic: 'n', data: 3 });
        return null;
      };
    });
    const client = await dial();
    const got: unknown[] = [];
    client.onPush = (frame) => got.push(frame.data);
    await client.call({ method: 'more', args: null }, 20_000);
    expect(got).toEqual([1, 2, 3]);
  });

  it('answers a call that the server made before the connection was joined', async () => {
    let answer: Promise<unknown> | undefined;
    serve((_namespace, _handshake, connection) => {
      answer = connection.call({ method: 'who', args: null }, 20_000);
    });
    const client = await dial();
    client.onCall = async () => 'me';
    expect(await answer).toBe('me');
  });

  it('reports a handshake refused with that very error', async () => {
    serve(async (_namespace, handshake) => {
      await Promise.resolve();
      throw new HoldfastError('UNAUTHORIZED', 'token is not known', { given: (handshake as { token: string }).token });
    });
    await expect(dial({ token: 'x' })).rejects.toMatchObject({
      code: 'UNAUTHORIZED',
      message: 'token is not known',
      facts: { given: 'x' },
    });
  });

  it('rejects UNREACHABLE when nothing listens, and when the handshake is not finished in time', async () => {
    const silent = createTcpServer();
    const silentUrl = await listening(silent as unknown as Server);
    await expect(socketDialer('http://127.0.0.1:1').dial('client', {}, 20_000)).rejects.toMatchObject({
      code: 'UNREACHABLE',
      message: expect.stringContaining('ECONNREFUSED'),
    });
    await expect(socketDialer(silentUrl).dial('client', {}, 200)).rejects.toMatchObject({ code: 'UNREACHABLE' });
    silent.close();
  });

  it('rejects DEADLINE when no reply comes, and goes on working', async () => {
    serve((_namespace, _handshake, connection) => {
      connection.onCall = (frame) => (frame.method === 'never' ? new Promise(() => {}) : Promise.resolve('ok'));
    });
    const client = await dial();
    await expect(client.call({ method: 'never', args: null }, 100)).rejects.toMatchObject({ code: 'DEADLINE' });
    expect(await client.call({ method: 'now', args: null }, 20_000)).toBe('ok');
  });

  it('rejects pending calls UNREACHABLE at close, on both ends, and tells each end once', async () => {
    const ends: string[] = [];
    let serverSide: Connection | undefined;
    const serverClosed = new Promise<void>((resolve) => {
      serve((_namespace, _handshake, connection) => {
        serverSide = connection;
        connection.onCall = () => new Promise(() => {});
        connection.onClose = () => {
          ends.push('server');
          resolve();
        };
      });
    });
    const client = await dial();
    client.onClose = () => ends.push('client');
    client.onCall = () => new Promise(() => {});
    const fromClient = client.call({ method: 'a', args: null }, 20_000).catch((error: unknown) => error);
    const fromServer = serverSide!.call({ method: 'b', args: null }, 20_000).catch((error: unknown) => error);
    client.close('had enough');
    expect(await fromClient).toMatchObject({ code: 'UNREACHABLE' });
    expect(await fromServer).toMatchObject({ code: 'UNREACHABLE' });
    await serverClosed;
    expect(ends).toEqual(['client', 'server']);
    expect(client.isOpen || serverSide!.isOpen).toBe(false);
    await expect(client.call({ method: 'c', args: null }, 20_000)).rejects.toMatchObject({ code: 'UNREACHABLE' });
  });

  it('closes clients when the server stops', async () => {
    serve(() => {});
    const client = await dial();
    const end = closed(client);
    server!.close();
    await end;
    expect(client.isOpen).toBe(false);
  });

  it('refuses connections beyond the cap', async () => {
    serve(() => {}, { maxConnections: 1 });
    await dial();
    await expect(dial()).rejects.toMatchObject({ code: 'UNREACHABLE' });
  });

  it('answers a frame that is not one with BAD_MESSAGE', async () => {
    serve((_namespace, _handshake, connection) => {
      connection.onCall = async () => 'never';
    });
    const client = await dial();
    for (const frame of [{ method: 5, args: 1 }, 'text', { method: 'x'.repeat(100) }, { method: 'm', request: -1 }])
      await expect(client.call(frame as never, 20_000)).rejects.toMatchObject({ code: 'BAD_MESSAGE' });
  });

  it('ends the connection that sends more than the largest message', async () => {
    serve((_namespace, _handshake, connection) => {
      connection.onCall = async () => 'never';
    });
    const client = await dial();
    const big = Buffer.alloc(5 * 1024 * 1024);
    await expect(client.call({ method: 'big', args: big }, 20_000)).rejects.toMatchObject({ code: 'UNREACHABLE' });
  });
});

describe('a peer that takes more than its share', () => {
  it('is told OVERLOADED beyond a number of calls under way, and served again when some are answered', async () => {
    const waiting: (() => void)[] = [];
    serve((_namespace, _handshake, connection) => {
      connection.onCall = () => new Promise((resolve) => waiting.push(() => resolve('late')));
    });
    const client = await dial();
    const calls = Array.from({ length: 4200 }, () =>
      client.call({ method: 'a', args: null }, 60_000).catch((error: HoldfastError) => error.code),
    );
    const refused = await Promise.race(calls);
    expect(refused).toBe('OVERLOADED');
    // The refused ones are answered at once; the others when their handlers end.
    const enough = new Promise<void>((resolve) => {
      const look = (): void => {
        if (waiting.length === 4096) resolve();
        else setImmediate(look);
      };
      look();
    });
    await enough;
    for (const answer of waiting.splice(0)) answer();
    const answers = await Promise.all(calls);
    expect(answers.filter((one) => one === 'OVERLOADED')).toHaveLength(104);
    expect(answers.filter((one) => one === 'late')).toHaveLength(4096);
  }, 60_000);

  it('does not keep the others waiting: its calls run in turns with theirs', async () => {
    let flooded = 0;
    serve((_namespace, handshake, connection) => {
      const isFlood = (handshake as { flood?: boolean }).flood === true;
      connection.onCall = async () => {
        if (!isFlood) return flooded;
        flooded++;
        const end = performance.now() + 0.2;
        while (performance.now() < end);
        return null;
      };
    });
    const flood = await dial({ flood: true });
    const good = await dial();
    const floods = Array.from({ length: 3000 }, () => flood.call({ method: 'f', args: null }, 60_000));
    const seen: number[] = [];
    for (let i = 0; i < 10; i++) seen.push((await good.call({ method: 'g', args: null }, 60_000)) as number);
    await Promise.all(floods);
    expect(flooded).toBe(3000);
    // Ten calls one after the other were answered before the flood was through.
    expect(seen.at(-1)).toBeLessThan(3000);
  }, 60_000);

  it('is cut off when it sends much before it was let in, or buffers that no call has', async () => {
    let calls = 0;
    serve((_namespace, _handshake, connection) => {
      connection.onCall = async () => ++calls;
    });
    const stranger = new WebSocket(`${url.replace('http', 'ws')}/socket.io/?EIO=4&transport=websocket`);
    const end = new Promise((resolve) => stranger.addEventListener('close', resolve));
    stranger.addEventListener('error', () => {}); // 'close' follows
    await new Promise((resolve) => stranger.addEventListener('open', resolve));
    stranger.send(`40/client,{"token":"${'x'.repeat(100_000)}"}`);
    await end;
    const client = await dial();
    expect(await client.call({ method: 'small', args: Buffer.alloc(70_000) }, 20_000)).toBe(1);
    await expect(client.call({ method: 'large', args: Buffer.alloc(300_000) }, 20_000)).rejects.toMatchObject({ code: 'UNREACHABLE' });
  });

  it('waits while it does not fetch its answers, and is cut off when it never does', async () => {
    let calls = 0;
    serve((_namespace, _handshake, connection) => {
      connection.onCall = async () => {
        calls++;
        return 'x'.repeat(1_000_000);
      };
    });
    const { hostname, port } = new URL(url);
    const deaf = connect(Number(port), hostname);
    const ended = new Promise((resolve) => deaf.once('close', resolve));
    deaf.on('error', () => {}); // 'close' follows
    deaf.write(
      'GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n',
    );
    // It has said that it was let in; from here on it listens no more.
    await new Promise<void>((resolve) => {
      let heard = '';
      let isAsked = false;
      deaf.on('data', (bytes) => {
        heard += bytes.toString('latin1');
        if (!isAsked && heard.includes('0{"sid"')) {
          isAsked = true;
          deaf.write(maskedText('40/client,{}'));
        }
        if (heard.includes('40/client,{"sid"')) resolve();
      });
    });
    deaf.pause();
    for (let i = 0; i < 500; i++) deaf.write(maskedText(`42/client,${i}["call",{"method":"a","args":null}]`));
    // Pings that it does not see are not answered either, which ends it; until then few of its calls ran.
    deaf.once('error', () => {});
    const gone = new Promise<void>((resolve) => {
      const look = (): void => {
        if (server!.connectionCount === 0) resolve();
        else setTimeout(look, 20);
      };
      look();
    });
    await gone;
    expect(calls).toBeGreaterThan(0);
    expect(calls).toBeLessThan(100);
    deaf.destroy();
    await ended;
  }, 60_000);
});

/** A websocket frame as a client sends it, with a mask of zeros. */
function maskedText(text: string): Buffer {
  const payload = Buffer.from(text);
  const head =
    payload.length < 126
      ? Buffer.from([0x81, 0x80 | payload.length])
      : Buffer.from([0x81, 0xfe, payload.length >> 8, payload.length & 255]);
  return Buffer.concat([head, Buffer.alloc(4), payload]);
}
