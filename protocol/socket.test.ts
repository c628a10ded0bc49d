import { createServer, type Server } from 'node:http';
import { type AddressInfo, createServer as createTcpServer } from 'node:net';
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
