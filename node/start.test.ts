import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { Connection } from '../protocol/call.js';
import { buildChunk } from '../protocol/chunk.js';
import { HoldfastError } from '../protocol/errors.js';
import { HttpChunkPeer } from '../protocol/http-chunk-peer.js';
import type { Registered } from '../protocol/node-calls.js';
import { accessKeyOf, openReceipt, sign } from '../protocol/permit.js';
import { listen, type SocketServer } from '../protocol/socket.js';
import { chunkOf } from './chunk-store.contract.js';
import { type RunningNode, startNode } from './start.js';

const ACCESS_KEY = Buffer.alloc(32, 7);
const CLUSTER = 'c1';
const permit = sign(ACCESS_KEY, { kind: 'permit', cluster: CLUSTER, volume: 0, access: 'write', client: 'coordinator', generation: 1 });
const order = { epoch: 1, coordinatorStartId: 's1' };
const eventually = { timeout: 20_000, interval: 10 };

/** As much of a coordinator as a node needs: takes nodes in, remembers what they say. */
class Coordinator {
  readonly connections = new Map<string, Connection>();
  readonly heard: { node: string; method: string; args: unknown }[] = [];
  epoch = 1;
  refuse: HoldfastError | undefined;
  private http!: Server;
  private sockets!: SocketServer;
  url = '';

  async start(): Promise<void> {
    this.http = createServer();
    this.sockets = listen(this.http, (_namespace, handshake, connection) => {
      if ((handshake as { token: string }).token !== 'secret') throw new HoldfastError('UNAUTHORIZED', 'token is not known');
      let name = '';
      connection.onCall = async ({ method, args }) => {
        if (method === 'register') {
          if (this.refuse) throw this.refuse;
          name = (args as { name: string }).name;
          this.connections.set(name, connection);
        }
        this.heard.push({ node: name, method, args });
        return method === 'register' ? this.welcome(name) : { generation: 1, revokedClients: [], scrubBytesPerS: 0 };
      };
    });
    await new Promise<void>((resolve) => this.http.listen(0, '127.0.0.1', resolve));
    this.url = `http://127.0.0.1:${(this.http.address() as AddressInfo).port}`;
  }
  order(name: string, method: string, args: object): Promise<never> {
    return this.connections.get(name)!.call({ method, args: { ...order, ...args } }, 20_000) as Promise<never>;
  }
  async stop(): Promise<void> {
    this.sockets.close();
    await new Promise((resolve) => this.http.close(resolve));
  }
  private welcome(name: string): Registered {
    return {
      cluster: CLUSTER,
      node: Number(name.slice(1)),
      epoch: this.epoch,
      coordinatorStartId: 's1',
      accessKey: ACCESS_KEY.toString('hex'),
      generation: 1,
      revokedClients: [],
      heartbeatIntervalMs: 50,
      scrubBytesPerS: 0,
    };
  }
}

let base: string;
let coordinator: Coordinator;
const running: RunningNode[] = [];
const peers: HttpChunkPeer[] = [];

beforeEach(async () => {
  base = await mkdtemp(`${tmpdir()}/hf-node-start-`);
  coordinator = new Coordinator();
  await coordinator.start();
});
afterEach(async () => {
  await Promise.all(peers.splice(0).map((peer) => peer.close()));
  await Promise.all(running.splice(0).map((node) => node.stop()));
  await coordinator.stop();
  await rm(base, { recursive: true });
});

const start = async (name: string, more: object = {}): Promise<RunningNode> => {
  const node = await startNode({ data: `${base}/${name}`, name, coordinator: coordinator.url, token: 'secret', reserveBytes: 0, ...more });
  running.push(node);
  return node;
};
const started = async (name: string): Promise<RunningNode> => {
  const node = await start(name);
  await vi.waitUntil(() => node.isRegistered, eventually);
  return node;
};
const peerOf = (node: RunningNode): HttpChunkPeer => {
  const peer = new HttpChunkPeer({ node: 1, url: node.url });
  peers.push(peer);
  return peer;
};
const options = { permit, durable: true, timeoutMs: 20_000 };

describe('a running node', () => {
  it('registers, stores chunks durably, keeps them over a restart under the same identity, and says goodbye', async () => {
    const node = await started('n1');
    const peer = peerOf(node);
    const payload = Buffer.alloc(300_000, 3);
    const { id, header } = buildChunk(payload, 1);
    const small = [chunkOf(10, 1), chunkOf(4096, 2)];
    const receipts = [
      ...(await peer.put([{ id, parts: [header, payload] }], options)),
      ...(await peer.put(
        small.map((chunk) => ({ id: chunk.id, parts: [chunk.encoded] })),
        options,
      )),
    ];
    const opened = receipts.map((receipt) => openReceipt(ACCESS_KEY, receipt as string, CLUSTER));
    expect(opened.map(({ chunk }) => chunk)).toEqual([id, small[0]!.id, small[1]!.id]);
    expect(opened[0]).toMatchObject({ node: 1, durable: true, sizeBytes: 300_000, client: 'coordinator', sequence: 1 });
    await node.stop('test');
    expect(coordinator.heard.some(({ method }) => method === 'goodbye')).toBe(true);

    const again = await started('n1');
    const registrations = coordinator.heard.filter(({ method }) => method === 'register');
    expect(registrations[1]!.args).toMatchObject({ cluster: CLUSTER, node: 1, chunkCount: 3 });
    expect(await peerOf(again).get(id, 'all', options)).toEqual(Buffer.concat([header, payload]));
    expect(await peerOf(again).get(small[1]!.id, 'all', options)).toEqual(small[1]!.encoded);
  });

  it('started again while the coordinator is gone gives its metadata copies to the coordinator alone, and tells whose it is', async () => {
    const first = await started('n1');
    await first.stop('test');
    await coordinator.stop();
    const node = await start('n1');
    const identity = (await (await fetch(`${node.url}/healthz`)).json()) as unknown;
    expect(identity).toEqual({ ok: true, name: 'n1', cluster: CLUSTER });
    const key = accessKeyOf('secret', CLUSTER);
    const claims = { kind: 'permit', cluster: CLUSTER, volume: 0, access: 'write', client: 'coordinator' } as const;
    const ask = async (path: string, given: string): Promise<number> =>
      (await fetch(`${node.url}${path}`, { headers: { authorization: `Bearer ${given}` } })).status;
    const own = sign(key, { ...claims, generation: Number.MAX_SAFE_INTEGER });
    expect(await ask('/metadata/list', own)).toBe(200);
    expect(await ask('/metadata/list', sign(key, { ...claims, generation: 1 }))).toBe(401);
    expect(await ask('/metadata/list', sign(key, { ...claims, client: 'node-2', generation: Number.MAX_SAFE_INTEGER }))).toBe(403);
    expect(await ask('/metadata/list', sign(Buffer.alloc(32), { ...claims, generation: Number.MAX_SAFE_INTEGER }))).toBe(401);
    expect(await ask('/metadata/list', sign(key, { ...claims, cluster: 'other', generation: Number.MAX_SAFE_INTEGER }))).toBe(401);
    // Chunks are served only when the current generation is known.
    expect(await ask(`/chunks/${'a'.repeat(64)}`, own)).toBe(503);
    await coordinator.start();
  });

  it('copies a chunk from another node on order, trying the next source when one has not got it', async () => {
    const [a, b, empty] = [await started('n1'), await started('n2'), await started('n3')];
    const chunk = chunkOf(200_000, 1);
    await peerOf(a).put([{ id: chunk.id, parts: [chunk.encoded] }], options);
    const { results } = (await coordinator.order('n2', 'copy', {
      chunks: [
        { chunk: chunk.id, from: [empty.url, a.url] },
        { chunk: chunkOf(5, 9).id, from: [a.url] },
      ],
      permit,
    })) as { results: { receipt?: string; error?: string }[] };
    expect(openReceipt(ACCESS_KEY, results[0]!.receipt!, CLUSTER)).toMatchObject({ node: 2, durable: true, client: 'coordinator' });
    expect(results[1]!.error).toContain('CHUNK_MISSING');
    expect(await peerOf(b).get(chunk.id, 'all', options)).toEqual(chunk.encoded);
  });

  it('finds damage on the disk by verify, sets the replica aside and no longer serves it', async () => {
    const node = await started('n1');
    const [good, bad] = [chunkOf(200_000, 1), chunkOf(200_000, 2)];
    await peerOf(node).put(
      [good, bad].map(({ id, encoded }) => ({ id, parts: [encoded] })),
      options,
    );
    const damaged = Buffer.from(bad.encoded);
    damaged[100_000]! ^= 1;
    await writeFile(`${base}/n1/chunks/${bad.id.slice(0, 2)}/${bad.id}`, damaged);
    expect(await coordinator.order('n1', 'verify', { chunks: [good.id, bad.id] })).toMatchObject({
      good: [good.id],
      bad: [{ chunk: bad.id, problem: 'corrupt' }],
    });
    await expect(peerOf(node).get(bad.id, 'all', options)).rejects.toMatchObject({ code: 'CHUNK_MISSING' });
    expect(await readdir(`${base}/n1/set-aside/corrupt`)).toEqual([bad.id]);
  });

  it('reports what a full scrub finds, good and bad', async () => {
    const node = await started('n1');
    const chunks = [1, 2, 3].map((seed) => chunkOf(200_000, seed));
    await peerOf(node).put(
      chunks.map(({ id, encoded }) => ({ id, parts: [encoded] })),
      options,
    );
    await writeFile(`${base}/n1/chunks/${chunks[1]!.id.slice(0, 2)}/${chunks[1]!.id}`, '');
    await coordinator.order('n1', 'scrub', { action: 'start', bytesPerS: 1e12 });
    await vi.waitUntil(() => coordinator.heard.some(({ method }) => method === 'verified'), eventually);
    await vi.waitUntil(() => coordinator.heard.some(({ method }) => method === 'badReplica'), eventually);
    expect(coordinator.heard.find(({ method }) => method === 'badReplica')!.args).toMatchObject({
      chunk: chunks[1]!.id,
      problem: 'corrupt',
      foundBy: 'scrub',
    });
    const verified = coordinator.heard
      .filter(({ method }) => method === 'verified')
      .flatMap(({ args }) => (args as { chunks: string[] }).chunks);
    expect(new Set(verified)).toEqual(new Set([chunks[0]!.id, chunks[2]!.id]));
  });

  it('deletes only what is condemned and was not put again since', async () => {
    const node = await started('n1');
    const peer = peerOf(node);
    const [a, b, c] = [chunkOf(10, 1), chunkOf(10, 2), chunkOf(200_000, 3)];
    await peer.put(
      [a, b, c].map(({ id, encoded }) => ({ id, parts: [encoded] })),
      options,
    );
    expect(await coordinator.order('n1', 'condemn', { chunks: [a.id, b.id, chunkOf(1, 99).id] })).toEqual({
      marked: [a.id, b.id],
      missing: [chunkOf(1, 99).id],
    });
    await peer.put([{ id: b.id, parts: [b.encoded] }], options);
    const reply = (await coordinator.order('n1', 'remove', { chunks: [a.id, b.id, c.id] })) as { removed: string[]; kept: string[] };
    expect(reply.removed).toEqual([a.id]);
    expect(new Set(reply.kept)).toEqual(new Set([b.id, c.id]));
    const { items } = (await coordinator.order('n1', 'inventory', { after: '', limit: 10 })) as { items: { chunk: string }[] };
    expect(items.map(({ chunk }) => chunk)).toEqual([b.id, c.id].sort());
  });

  it('refuses orders of a lower epoch, and of another coordinator with the same epoch, also after a restart', async () => {
    coordinator.epoch = 5;
    const first = await started('n1');
    const ask = (epoch: number, coordinatorStartId: string): Promise<never> =>
      coordinator.order('n1', 'condemn', { chunks: [], epoch, coordinatorStartId });
    await expect(ask(4, 's1')).rejects.toMatchObject({ code: 'STALE_EPOCH' });
    await expect(ask(5, 'other')).rejects.toMatchObject({ code: 'STALE_EPOCH' });
    await ask(7, 's2');
    await first.stop();
    coordinator.connections.clear();
    await start('n1');
    await vi.waitUntil(() => coordinator.connections.has('n1'), eventually);
    // It refuses to join the coordinator of epoch 5 now.
    await vi.waitUntil(() => coordinator.heard.filter(({ method }) => method === 'register').length > 2, eventually);
    expect(running.at(-1)!.isRegistered).toBe(false);
  });

  it('registers again by itself when the connection breaks', async () => {
    const node = await started('n1');
    coordinator.connections.get('n1')!.close('broken');
    await vi.waitUntil(() => coordinator.heard.filter(({ method }) => method === 'register').length === 2, eventually);
    await vi.waitUntil(() => node.isRegistered, eventually);
  });

  it('tells why and stops trying when the coordinator refuses it for good', async () => {
    const refused: HoldfastError[] = [];
    await start('n1', { token: 'wrong', onFatal: (error: HoldfastError) => refused.push(error) });
    await vi.waitUntil(() => refused.length > 0, eventually);
    expect(refused[0]).toMatchObject({ code: 'UNAUTHORIZED' });
    coordinator.refuse = new HoldfastError('WRONG_CLUSTER', 'n2 is known with another id');
    await start('n2', { onFatal: (error: HoldfastError) => refused.push(error) });
    await vi.waitUntil(() => refused.length > 1, eventually);
    expect(refused[1]).toMatchObject({ code: 'WRONG_CLUSTER' });
  });

  it('refuses a directory in use, a directory of another node, and listening in the clear beyond this machine', async () => {
    const node = await started('n1');
    const again = { data: `${base}/n1`, name: 'n1', coordinator: coordinator.url, token: 'secret' };
    await expect(startNode(again)).rejects.toMatchObject({ code: 'EBUSY' });
    await node.stop();
    await expect(startNode({ ...again, name: 'n2' })).rejects.toMatchObject({ code: 'REFUSED' });
    await expect(startNode({ ...again, host: '192.0.2.1' })).rejects.toMatchObject({ code: 'EINVAL' });
  });
});
