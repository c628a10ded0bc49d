/** Coordinator, nodes and clients over TLS on the loopback: everybody shows a certificate of the cluster, and nobody else gets a word. */
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { connect as connectTcp } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Cluster, connect, connectAdmin } from '../client/index.js';
import { type RunningCoordinator, startCoordinator } from '../coordinator/server.js';
import { type RunningNode, startNode } from '../node/start.js';
import { issueCertificate, newAuthority } from '../protocol/certificate.js';
import { HttpChunkPeer } from '../protocol/http-chunk-peer.js';
import type { PeerTls } from '../protocol/tls.js';
import { waitFor } from './in-process-cluster.js';

const authority = newAuthority('Holdfast test', Date.now(), randomBytes(16));
const stranger = newAuthority('Somebody else', Date.now(), randomBytes(16));
const peer = (name: string, hosts: string[], from = authority): PeerTls => ({
  ca: authority.cert,
  ...issueCertificate(from, name, hosts, Date.now(), randomBytes(16)),
});
const anna = peer('anna', []);
/** Whoever is refused tries again until then: long enough that the reason has come back from a loaded machine. */
const REFUSED_AFTER_MS = 5000;

let directory: string;
let tries = 0;
let coordinator: RunningCoordinator;
const nodes: RunningNode[] = [];
const open: { close(): void | Promise<void> }[] = [];

const node = (name: string, tls: PeerTls): Promise<RunningNode> =>
  startNode({
    data: join(directory, name),
    name,
    coordinator: coordinator.url,
    token: coordinator.nodeToken,
    reserveBytes: 1024 * 1024,
    tls,
  });
async function client(tls: PeerTls | undefined, url = coordinator.url, outageTimeoutMs = 20_000): Promise<Cluster> {
  const options = { coordinatorUrl: url, token: coordinator.adminToken, description: 'test', outageTimeoutMs };
  const cluster = await connect({ ...options, ...(tls ? { tls } : {}) });
  open.push(cluster);
  return cluster;
}
const upNodes = (): string[] =>
  coordinator.coordinator.keeper
    .contacts()
    .filter((contact) => contact.writable)
    .map((contact) => contact.name);

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'holdfast-tls-'));
  const tls = peer('coordinator', ['127.0.0.1']);
  coordinator = await startCoordinator({ data: join(directory, 'coordinator'), host: '127.0.0.1', port: 0, tls });
  for (const name of ['n1', 'n2']) nodes.push(await node(name, peer(name, ['127.0.0.1'])));
  await waitFor(() => upNodes().length === 2, 'the nodes to register');
});
afterAll(async () => {
  for (const one of open) await one.close();
  for (const one of nodes) await one.stop();
  await coordinator?.stop();
  await rm(directory, { recursive: true, force: true });
});

describe('a cluster with TLS', () => {
  it('works for whoever has a certificate of it', async () => {
    expect(coordinator.url).toMatch(/^https:/);
    const cluster = await client(anna);
    expect(cluster.nodes.every(({ url }) => url.startsWith('https:'))).toBe(true);
    const { tree } = cluster;
    const as = { uid: 0, gid: 0 };
    const name = `a-${++tries}`;
    const { attributes } = await tree.create({ parent: tree.root, name, kind: 'file', mode: 0o644, as, exclusive: true });
    const data = randomBytes(3_000_000);
    const file = await cluster.open(attributes.inode);
    await file.write(0, data);
    await file.sync();
    await file.release();
    const other = await client(anna);
    const again = await other.open((await other.tree.resolve(name)).inode);
    expect((await again.read(0, data.length)).equals(data)).toBe(true);
    await again.release();
    const admin = await connectAdmin({ coordinatorUrl: coordinator.url, token: coordinator.adminToken, description: 'test', tls: anna });
    open.push(admin);
    expect((await admin.call('status', {})).nodes).toHaveLength(2);
  });

  it('refuses clients without a certificate, with one of another authority, and in the clear, whatever their token', async () => {
    const refused = (tls: PeerTls | undefined, url = coordinator.url): Promise<Cluster> => client(tls, url, REFUSED_AFTER_MS);
    await Promise.all([
      expect(refused({ ca: authority.cert })).rejects.toMatchObject({ message: expect.stringContaining('certificate') }),
      expect(refused(peer('mallory', [], stranger))).rejects.toMatchObject({ code: 'UNREACHABLE' }),
      expect(refused(undefined, coordinator.url.replace('https', 'http'))).rejects.toMatchObject({ code: 'UNREACHABLE' }),
    ]);
    const data = { permit: 'x', timeoutMs: 20_000 };
    for (const tls of [{ ca: authority.cert }, peer('mallory', [], stranger)]) {
      const one = new HttpChunkPeer({ node: 1, url: nodes[0]?.url ?? '', tls });
      open.push(one);
      await expect(one.get('0'.repeat(64), 'all', data)).rejects.toMatchObject({ code: 'UNREACHABLE' });
    }
    const member = new HttpChunkPeer({ node: 1, url: nodes[0]?.url ?? '', tls: anna });
    open.push(member);
    await expect(member.get('0'.repeat(64), 'all', data)).rejects.toMatchObject({ code: 'UNAUTHORIZED' });
  });

  it('is not believed by clients that trust another authority, or when its certificate is for another name', async () => {
    const elsewhere = coordinator.url.replace('127.0.0.1', 'localhost');
    await Promise.all([
      expect(client({ ...anna, ca: stranger.cert }, coordinator.url, REFUSED_AFTER_MS)).rejects.toMatchObject({
        message: expect.stringContaining('--tls-ca'),
      }),
      expect(client(anna, elsewhere, REFUSED_AFTER_MS)).rejects.toMatchObject({ message: expect.stringContaining('altnames') }),
    ]);
  });

  it('does not take a node with a certificate of another authority, though it has the node token', async () => {
    const foreign = await node('n3', peer('n3', ['127.0.0.1'], stranger));
    try {
      await expect(waitFor(() => foreign.isRegistered, 'n3', 1500)).rejects.toThrow();
      expect(upNodes().sort()).toEqual(['n1', 'n2']);
    } finally {
      await foreign.stop();
    }
  });

  it('says nothing in the clear, not even to who speaks HTTP', async () => {
    const answer = await new Promise<string>((resolve) => {
      const socket = connectTcp(Number(new URL(coordinator.url).port), '127.0.0.1');
      let heard = '';
      socket.on('data', (bytes) => {
        heard += bytes.toString('latin1');
      });
      socket.on('error', () => {}); // 'close' follows
      socket.on('close', () => resolve(heard));
      socket.end('GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n');
    });
    expect(answer).not.toContain('HTTP/1.1 200');
  });
});
