import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { tmpdir } from 'node:os';
import { gzipSync } from 'node:zlib';
import { request } from 'undici';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { SHA256_HEADER } from '../protocol/chunk-http.js';
import { realEnvironment } from '../protocol/environment.js';
import { HoldfastError } from '../protocol/errors.js';
import { HttpChunkPeer } from '../protocol/http-chunk-peer.js';
import { MAX_PUT_BODY_BYTES } from '../protocol/limits.js';
import { limitPeers } from '../protocol/peer-limit.js';
import { metricsTokenOf, type Permit, sign } from '../protocol/permit.js';
import { ChunkService } from './chunk-service.js';
import { chunkOf } from './chunk-store.contract.js';
import { createChunkServer } from './http-server.js';
import { MemoryChunkStore } from './memory-chunk-store.js';
import { MetadataStore } from './metadata-store.js';
import { nodeMetrics } from './metrics.js';

const KEY = Buffer.alloc(32, 1);
const claims: Permit = { kind: 'permit', cluster: 'c', volume: 1, access: 'write', client: 'me', generation: 1 };
const permit = sign(KEY, claims);
const readOnly = sign(KEY, { ...claims, access: 'read' });
const coordinators = sign(KEY, { ...claims, volume: 0, client: 'coordinator' });
const [small, large] = [chunkOf(4096, 1), chunkOf(300_000, 2)];

let server: Server;
let store: MemoryChunkStore;
let url: string;
let data: string;
let peer: HttpChunkPeer;
let reasons: string[];
const options = { permit, durable: true, timeoutMs: 20_000 };

const listening = async (target: Server): Promise<string> => {
  await new Promise<void>((resolve) => target.listen(0, '127.0.0.1', resolve));
  return `http://127.0.0.1:${(target.address() as AddressInfo).port}`;
};

beforeEach(async () => {
  data = await mkdtemp(`${tmpdir()}/hf-node-http-`);
  await mkdir(`${data}/tmp`);
  store = new MemoryChunkStore();
  reasons = [];
  const service = new ChunkService(store, realEnvironment());
  service.setMembership({ cluster: 'c', node: 1, accessKey: KEY, generation: 1, revokedClients: new Set() });
  server = createChunkServer({
    service,
    metadata: await MetadataStore.open(data),
    metrics: nodeMetrics(service, () => 0),
    environment: realEnvironment(),
    unreadyReasons: () => reasons,
  });
  url = await listening(server);
  peer = new HttpChunkPeer({ node: 1, url });
});
afterEach(async () => {
  await peer.close();
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
  await rm(data, { recursive: true });
});

const ask = async (
  method: 'GET' | 'PUT' | 'POST' | 'HEAD' | 'DELETE',
  path: string,
  more: { body?: Buffer | string; headers?: Record<string, string>; permit?: string } = {},
): Promise<{ status: number; body: Buffer }> => {
  const reply = await request(url + path, {
    method,
    headers: { ...(more.permit === '' ? {} : { authorization: `Bearer ${more.permit ?? permit}` }), ...more.headers },
    ...(more.body === undefined ? {} : { body: more.body }),
  });
  return { status: reply.statusCode, body: Buffer.from(await reply.body.arrayBuffer()) };
};
const codeOf = ({ body }: { body: Buffer }): string => (JSON.parse(body.toString()) as { code: string }).code;

describe('chunk port and peer', () => {
  it('puts one chunk or a batch, gets all or some leaves, and syncs', async () => {
    const receipts = await peer.put([{ id: small.id, parts: [small.encoded] }], options);
    expect(receipts).toEqual([expect.any(String)]);
    const bad = { id: chunkOf(1, 9).id, parts: [small.encoded] };
    const batch = await peer.put([{ id: large.id, parts: [large.encoded.subarray(0, 100), large.encoded.subarray(100)] }, bad], options);
    expect(batch).toEqual([expect.any(String), expect.any(HoldfastError)]);
    expect(batch[1]).toMatchObject({ code: 'CHUNK_CORRUPT' });
    expect((await peer.get(large.id, 'all', options)).equals(large.encoded)).toBe(true);
    const { headerBytes } = large.header;
    const leaf = await peer.get(large.id, { first: 1, count: 2 }, options);
    expect(leaf.subarray(headerBytes).equals(large.encoded.subarray(headerBytes + 65536, headerBytes + 3 * 65536))).toBe(true);
    expect(await peer.sync([small.id, bad.id], options)).toEqual({ missing: [bad.id] });
    await expect(peer.get(bad.id, 'all', options)).rejects.toMatchObject({ code: 'CHUNK_MISSING' });
    await expect(peer.get(large.id, { first: 99, count: 1 }, options)).rejects.toMatchObject({ code: 'BAD_MESSAGE' });
    expect((await ask('HEAD', `/chunks/${small.id}`)).status).toBe(200);
    expect((await ask('HEAD', `/chunks/${bad.id}`)).status).toBe(404);
  });

  it('gives many small chunks with one request, and leaves out large ones, absent ones and those of other volumes', async () => {
    const foreign = chunkOf(100, 5, 2);
    const other = chunkOf(0, 6);
    const chunks = [small, large, foreign, other];
    await store.put(chunks, true);
    const ids = [...chunks.map(({ id }) => id), chunkOf(10, 77).id];
    const got = await peer.getSmall(ids, { permit: readOnly, timeoutMs: 20_000 });
    expect([...got.keys()]).toEqual([small.id, other.id]);
    expect(got.get(small.id)?.equals(small.encoded)).toBe(true);
    expect((await peer.getSmall(ids, { permit: coordinators, timeoutMs: 20_000 })).size).toBe(3);
    await expect(peer.getSmall(ids, { permit: 'a.b', timeoutMs: 20_000 })).rejects.toMatchObject({ code: 'UNAUTHORIZED' });
    await expect(peer.getSmall(['x'], { permit, timeoutMs: 20_000 })).rejects.toMatchObject({ code: 'BAD_MESSAGE' });
  });

  it('says 401 without a permit and with a forged one, the same whether the chunk exists or not', async () => {
    await peer.put([{ id: small.id, parts: [small.encoded] }], options);
    const replies = [];
    for (const id of [small.id, large.id])
      for (const wrong of ['', 'a.b', `${permit.slice(0, -4)}AAAA`]) replies.push(await ask('GET', `/chunks/${id}`, { permit: wrong }));
    for (const reply of replies) {
      expect(reply.status).toBe(401);
      expect(codeOf(reply)).toBe('UNAUTHORIZED');
    }
    expect((await ask('PUT', `/chunks/${small.id}`, { permit: readOnly, body: small.encoded })).status).toBe(403);
  });

  it('says 400 to ids that are not ids', async () => {
    for (const id of ['..%2f..%2fetc', '%00', small.id.slice(1), `${small.id}0`, small.id.toUpperCase(), '../chunks', 'a/b']) {
      for (const method of ['GET', 'PUT'] as const) {
        const reply = await ask(method, `/chunks/${id}`, method === 'PUT' ? { body: 'x' } : {});
        expect([400, 404]).toContain(reply.status);
        expect(codeOf(reply)).toBe('BAD_MESSAGE');
      }
    }
  });

  it('says 422 to a body that does not hash to the id, and stores nothing', async () => {
    const reply = await ask('PUT', `/chunks/${large.id}`, { body: small.encoded });
    expect(reply.status).toBe(422);
    expect(store.has(large.id)).toBe(false);
  });

  it('D4 shows a chunk that fifty clients put at once, one of which breaks off, only when it is whole', async () => {
    const broken = connect(Number(new URL(url).port), '127.0.0.1');
    broken.on('error', () => {});
    broken.write(
      `PUT /chunks/${large.id} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${permit}\r\ncontent-length: ${large.encoded.length}\r\n\r\n`,
    );
    await new Promise((resolve) => broken.write(large.encoded.subarray(0, large.encoded.length >> 1), resolve));
    expect((await ask('GET', `/chunks/${large.id}`)).status).toBe(404);
    const puts = Array.from({ length: 49 }, async () => (await ask('PUT', `/chunks/${large.id}`, { body: large.encoded })).status);
    broken.destroy();
    expect(new Set(await Promise.all(puts))).toEqual(new Set([201]));
    expect((await ask('GET', `/chunks/${large.id}`)).body.equals(large.encoded)).toBe(true);
  });

  it('refuses an announced body that is too large before it is sent, and cuts an endless one', async () => {
    const socket = connect(Number(new URL(url).port), '127.0.0.1');
    const head = `PUT /chunks/${small.id} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${permit}\r\n`;
    socket.write(`${head}content-length: ${MAX_PUT_BODY_BYTES + 1}\r\n\r\n`);
    const [reply] = (await once(socket, 'data')) as [Buffer];
    expect(reply.toString()).toContain('413');
    socket.destroy();

    const endless = connect(Number(new URL(url).port), '127.0.0.1');
    endless.on('error', () => {});
    let received = '';
    endless.on('data', (piece: Buffer) => {
      received += piece.toString();
    });
    endless.write(`${head}transfer-encoding: chunked\r\n\r\n`);
    const piece = Buffer.concat([Buffer.from('100000\r\n'), Buffer.alloc(0x100000), Buffer.from('\r\n')]);
    const ended = new Promise((resolve) => endless.once('close', resolve));
    let sentBytes = 0;
    const send = (): void => {
      // Far more than is allowed; the other side must have hung up long before.
      while (sentBytes < 64 * MAX_PUT_BODY_BYTES && !endless.destroyed) {
        sentBytes += piece.length;
        if (!endless.write(piece)) {
          endless.once('drain', send);
          return;
        }
      }
    };
    send();
    await ended;
    expect(sentBytes).toBeLessThan(8 * MAX_PUT_BODY_BYTES);
    expect(received === '' || received.includes('413')).toBe(true);
  });

  it('says 415 to any content-encoding', async () => {
    const reply = await ask('PUT', `/chunks/${small.id}`, { body: gzipSync(small.encoded), headers: { 'content-encoding': 'gzip' } });
    expect(reply.status).toBe(415);
  });

  it('says 400 to malformed batches and id lists', async () => {
    for (const body of ['x', Buffer.alloc(100, 255)]) expect((await ask('POST', '/chunks', { body })).status).toBe(400);
    for (const body of ['', '{', '{"ids":5}', '{"ids":["x"]}', '{"ids":[null]}', '{"__proto__":{}}'])
      expect((await ask('POST', '/sync', { body })).status).toBe(400);
  });

  it('says 507 when there is no room', async () => {
    const full = new MemoryChunkStore({ capacityBytes: 10 });
    const service = new ChunkService(full, realEnvironment());
    service.setMembership({ cluster: 'c', node: 1, accessKey: KEY, generation: 1, revokedClients: new Set() });
    const other = createChunkServer({ service, environment: realEnvironment(), unreadyReasons: () => [] });
    const otherPeer = new HttpChunkPeer({ node: 2, url: await listening(other) });
    await expect(otherPeer.put([{ id: small.id, parts: [small.encoded] }], options)).rejects.toMatchObject({ code: 'ENOSPC' });
    await otherPeer.close();
    await new Promise((resolve) => other.close(resolve));
  });

  it('shows health, readiness with reasons, and metrics without ids', async () => {
    expect((await ask('GET', '/healthz', { permit: '' })).status).toBe(200);
    expect((await ask('GET', '/readyz', { permit: '' })).status).toBe(200);
    reasons = ['not registered with the coordinator'];
    const unready = await ask('GET', '/readyz', { permit: '' });
    expect(unready.status).toBe(503);
    expect(unready.body.toString()).toContain('not registered');
    await peer.put([{ id: small.id, parts: [small.encoded] }], options);
    for (const wrong of ['', permit, metricsTokenOf(Buffer.alloc(32, 2))])
      expect((await ask('GET', '/metrics', { permit: wrong })).status).toBe(401);
    const metrics = (await ask('GET', '/metrics', { permit: metricsTokenOf(KEY) })).body.toString();
    expect(metrics).toContain('holdfast_node_chunks 1');
    expect(metrics).not.toContain(small.id);
  });
});

describe('peer against nodes that misbehave', () => {
  const withServer = async (handle: Parameters<typeof createServer>[1], use: (rogue: HttpChunkPeer) => Promise<void>): Promise<void> => {
    const rogue = createServer(handle as never);
    const roguePeer = new HttpChunkPeer({ node: 9, url: await listening(rogue) });
    try {
      await use(roguePeer);
    } finally {
      await roguePeer.close();
      rogue.closeAllConnections();
      await new Promise((resolve) => rogue.close(resolve));
    }
  };
  const get = (rogue: HttpChunkPeer, timeoutMs = 20_000): Promise<Buffer> => rogue.get(small.id, 'all', { permit, timeoutMs });

  it('does not follow redirects, decode bodies, or take endless ones', async () => {
    await withServer(
      (_request, response) => response.writeHead(302, { location: url }).end(),
      (rogue) => expect(get(rogue)).rejects.toMatchObject({ code: 'BAD_MESSAGE' }),
    );
    await withServer(
      (_request, response) => response.writeHead(200, { 'content-encoding': 'gzip' }).end(gzipSync(Buffer.alloc(1000))),
      (rogue) => expect(get(rogue)).rejects.toMatchObject({ code: 'BAD_MESSAGE' }),
    );
    await withServer(
      (_request, response) => {
        const more = (): void => {
          while (!response.destroyed && response.write(Buffer.alloc(1 << 20)));
          if (!response.destroyed) response.once('drain', more);
        };
        more();
      },
      (rogue) => expect(get(rogue)).rejects.toMatchObject({ code: 'TOO_LARGE' }),
    );
  });

  it('gives DEADLINE to a node that is silent, EINTR when told to give up, UNREACHABLE when nobody listens', async () => {
    await withServer(
      () => {},
      async (rogue) => {
        await expect(get(rogue, 100)).rejects.toMatchObject({ code: 'DEADLINE' });
        const controller = new AbortController();
        const given = rogue.get(small.id, 'all', { permit, timeoutMs: 20_000, signal: controller.signal });
        controller.abort();
        await expect(given).rejects.toMatchObject({ code: 'EINTR' });
      },
    );
    const nobody = new HttpChunkPeer({ node: 9, url: 'http://127.0.0.1:1' });
    await expect(get(nobody)).rejects.toMatchObject({ code: 'UNREACHABLE' });
    await nobody.close();
  });

  it('asks once more on a fresh connection when a kept one turns out closed', async () => {
    let requests = 0;
    await withServer(
      (_request, response) => {
        requests++;
        if (requests === 2) response.socket!.destroy();
        else response.end('bytes');
      },
      async (rogue) => {
        await get(rogue);
        expect((await get(rogue)).toString()).toBe('bytes');
        expect(requests).toBe(3);
      },
    );
  });
});

describe('metadata copies over HTTP', () => {
  const asCoordinator = { permit: coordinators };
  it('are appended at exact offsets, replaced as a whole when the digest fits, listed, read and deleted', async () => {
    const append = (offset: number, body: string, epoch = 3): ReturnType<typeof ask> =>
      ask('POST', `/metadata/append?name=journal-1&offset=${offset}&epoch=${epoch}&sync=1`, { ...asCoordinator, body });
    expect((await append(0, 'abc')).status).toBe(200);
    expect((await append(3, 'def')).status).toBe(200);
    const wrong = await append(3, 'def');
    expect(wrong.status).toBe(409);
    expect(JSON.parse(wrong.body.toString())).toMatchObject({ code: 'EINVAL', facts: { sizeBytes: 6 } });
    const stale = await append(6, 'x', 2);
    expect([stale.status, codeOf(stale)]).toEqual([409, 'STALE_EPOCH']);
    expect((await ask('GET', '/metadata/journal-1', asCoordinator)).body.toString()).toBe('abcdef');

    const put = (body: string, digestOf: string): ReturnType<typeof ask> =>
      ask('PUT', '/metadata/snapshot?epoch=4', {
        ...asCoordinator,
        body,
        headers: { [SHA256_HEADER]: createHash('sha256').update(digestOf).digest('hex') },
      });
    expect((await put('whole', 'whole')).status).toBe(201);
    expect((await put('half', 'whole')).status).toBe(422);
    expect(await readFile(`${data}/metadata/snapshot`, 'utf8')).toBe('whole');
    const list = JSON.parse((await ask('GET', '/metadata/list', asCoordinator)).body.toString()) as unknown;
    expect(list).toEqual({
      items: [
        { name: 'journal-1', sizeBytes: 6, epoch: 3 },
        { name: 'snapshot', sizeBytes: 5, epoch: 4 },
      ],
    });
    expect((await ask('DELETE', '/metadata/snapshot?epoch=3', asCoordinator)).status).toBe(409);
    expect((await ask('DELETE', '/metadata/snapshot?epoch=4', asCoordinator)).status).toBe(200);
    expect((await ask('GET', '/metadata/snapshot', asCoordinator)).status).toBe(404);
  });

  it('survive a restart with their epochs, and belong to the coordinator alone', async () => {
    await ask('POST', '/metadata/append?name=j&offset=0&epoch=7', { ...asCoordinator, body: 'abc' });
    const reopened = await MetadataStore.open(data);
    expect(reopened.list()).toEqual([{ name: 'j', sizeBytes: 3, epoch: 7 }]);
    await expect(reopened.append('j', 3, 6, Buffer.from('x'), true)).rejects.toMatchObject({ code: 'STALE_EPOCH' });
    expect((await ask('GET', '/metadata/list')).status).toBe(403);
    for (const name of ['..', '.', 'a%2fb', 'x'.repeat(129)]) {
      const reply = await ask('GET', `/metadata/${name}`, asCoordinator);
      expect([400, 404]).toContain(reply.status);
    }
    for (const path of [
      '/metadata/append?name=../x&offset=0&epoch=1',
      '/metadata/append?name=j&epoch=1',
      '/metadata/append?name=j&offset=-1&epoch=1',
    ])
      expect((await ask('POST', path, { ...asCoordinator, body: 'x' })).status).toBe(400);
  });
});

describe('a peer that takes more than its share', () => {
  it('is refused beyond a few requests at once on one connection, and by its address beyond many connections', async () => {
    await peer.put([{ id: large.id, parts: [large.encoded] }], options);
    const pipelining = connect(Number(new URL(url).port), '127.0.0.1');
    pipelining.on('error', () => {});
    let heard = '';
    const isRefused = new Promise<void>((resolve) => {
      pipelining.on('data', (bytes: Buffer) => {
        heard += bytes.toString('latin1');
        if (heard.includes('OVERLOADED')) resolve();
      });
    });
    pipelining.write(`GET /chunks/${large.id} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${permit}\r\n\r\n`.repeat(20));
    await isRefused;
    expect(heard.match(/HTTP\/1\.1 200/g)?.length).toBe(8);
    pipelining.destroy();

    const limited = createServer((_request, response) => response.end('ok'));
    limitPeers(limited, { maxPerAddress: 3, speaksPlainHttp: true });
    const { port } = new URL(await listening(limited));
    const held = await Promise.all(
      Array.from({ length: 3 }, async () => {
        const socket = connect(Number(port), '127.0.0.1');
        await once(socket, 'connect');
        return socket;
      }),
    );
    const fourth = connect(Number(port), '127.0.0.1');
    const [sorry] = (await once(fourth, 'data')) as [Buffer];
    expect(sorry.toString()).toMatch(/503 .*OVERLOADED/s);
    const elsewhere = connect({ port: Number(port), host: '127.0.0.1', localAddress: '127.0.0.2' });
    elsewhere.write('GET / HTTP/1.1\r\nhost: x\r\n\r\n');
    expect(((await once(elsewhere, 'data')) as [Buffer])[0].toString()).toContain('200');
    for (const socket of [...held, fourth, elsewhere]) socket.destroy();
    await new Promise((resolve) => limited.close(resolve));
  });
});
