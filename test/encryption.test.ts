/** An encrypted volume over real sockets and disks: what leaves the client, what a reader gets, and who is refused. */
import { createHash, randomBytes } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Cluster, ConnectParts, Unlock } from '../client/index.js';
import { newEncryption, newKeyFile, rewrap } from '../client/volume-key.js';
import { buildChunk } from '../protocol/chunk.js';
import { HttpChunkPeer } from '../protocol/http-chunk-peer.js';
import { type InProcessCluster, startInProcessCluster } from './in-process-cluster.js';
import { TcpProxy } from './tcp-proxy.js';

const me = { uid: 0, gid: 0 };
const MARKER = Buffer.from('HOLDFAST-PLAINTEXT-MARKER');
const unlock: Unlock = { keyFile: newKeyFile(randomBytes) };
const MIB = 1024 * 1024;

let cluster: InProcessCluster;
/** In front of each node, by its address. */
const proxies = new Map<string, TcpProxy>();

/** Encrypts the main volume, which is empty. */
async function encryptMain(one: InProcessCluster): Promise<void> {
  const encryption = await newEncryption(unlock, randomBytes);
  one.coordinator.state.transact((tx) => {
    const row = tx.get('volumes', 1);
    if (!row) throw new Error('no main volume');
    tx.put('volumes', 1, { ...row, encryption });
  });
}
const chunkIds = (): string[] => [...cluster.coordinator.state.table('chunks').all()].map(([id]) => id).sort();
const encryptionOf = (one: InProcessCluster): Record<string, unknown> => one.coordinator.state.get('volumes', 1)?.encryption ?? {};

beforeAll(async () => {
  // Chunks that nothing names any more stay while they are counted.
  cluster = await startInProcessCluster({ coordinator: { deletionGraceMs: 3_600_000 } });
  await encryptMain(cluster);
  for (const { url } of cluster.coordinator.keeper.contacts()) {
    const proxy = await TcpProxy.start(url);
    proxy.isRecording = true;
    proxies.set(url, proxy);
  }
});
afterAll(async () => {
  await cluster?.stop();
  for (const proxy of proxies.values()) await proxy.stop();
});

/** Every byte between such a client and the nodes goes through a recorder. */
const recorded: ConnectParts = { peers: ({ node, url }) => new HttpChunkPeer({ node, url: proxies.get(url)?.url ?? url }) };
const captured = (): Buffer => Buffer.concat([...proxies.values()].flatMap((proxy) => proxy.recordedBytes));

async function write(client: Cluster, name: string, data: Buffer): Promise<number> {
  const { attributes } = await client.tree.create({ parent: client.tree.root, name, kind: 'file', mode: 0o644, as: me, exclusive: false });
  const file = await client.open(attributes.inode);
  for (let at = 0; at < data.length; at += 128 * 1024) await file.write(at, data.subarray(at, at + 128 * 1024));
  await file.sync();
  await file.release();
  return attributes.inode;
}
async function read(client: Cluster, name: string): Promise<Buffer> {
  const attributes = await client.tree.resolve(name);
  const file = await client.open(attributes.inode);
  const pieces: Buffer[] = [];
  for (let at = 0; at < attributes.sizeBytes; at += 128 * 1024) pieces.push(await file.read(at, 128 * 1024));
  await file.release();
  return Buffer.concat(pieces);
}
async function filesUnder(directory: string): Promise<Buffer> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true });
  return Buffer.concat(
    await Promise.all(entries.filter((entry) => entry.isFile()).map((entry) => readFile(join(entry.parentPath, entry.name)))),
  );
}
/** Leaves of 64 KiB and chunks of 1 MiB, as hashes: raw and in hexadecimal, and the id the bytes would have without encryption. */
function plainHashes(data: Buffer): Buffer[] {
  const pieces = [data];
  for (const size of [65536, MIB]) for (let at = 0; at < data.length; at += size) pieces.push(data.subarray(at, at + size));
  const digests = pieces.flatMap((piece) => {
    const digest = createHash('sha256').update(piece).digest();
    return [digest, Buffer.from(digest.toString('hex'))];
  });
  for (let at = 0; at < data.length; at += MIB) {
    const { id } = buildChunk(data.subarray(at, at + MIB), 1);
    digests.push(Buffer.from(id), Buffer.from(id, 'hex'));
  }
  return digests;
}
const marked = (sizeBytes: number): Buffer => {
  const data = randomBytes(sizeBytes);
  for (let at = 0; at + MARKER.length <= sizeBytes; at += 10_007) MARKER.copy(data, at);
  return data;
};

describe('an encrypted volume', () => {
  it('gives back what was written, of every size, to another client with the key', async () => {
    const [one, two] = [await cluster.connect({ unlock }), await cluster.connect({ unlock })];
    for (const size of [0, 1, 4096, 65_535, 65_536, 65_537, MIB, 5_300_001]) {
      const data = marked(size);
      await write(one, `size-${size}`, data);
      expect((await read(two, `size-${size}`)).equals(data)).toBe(true);
    }
  });

  it('has random overwrites, punched holes, a cut end and copied ranges in their places', async () => {
    const [one, two] = [await cluster.connect({ unlock }), await cluster.connect({ unlock })];
    const model = marked(3_000_000);
    const inode = await write(one, 'random', model);
    const file = await one.open(inode);
    for (let i = 0; i < 200; i++) {
      const data = randomBytes(1 + ((i * 7919) % 9000));
      const at = (i * 104_729) % (model.length - data.length);
      data.copy(model, at);
      await file.write(at, data);
      if (i % 50 === 49) await file.flush();
    }
    await file.punch(100_001, 700_000, true);
    model.fill(0, 100_001, 800_001);
    await file.truncate(2_900_001);
    expect(await file.copyRange(1_000_003, file, 2_000_001, 400_000)).toBe(400_000);
    model.copy(model, 2_000_001, 1_000_003, 1_400_003);
    await file.flush();
    expect((await read(two, 'random')).equals(model.subarray(0, 2_900_001))).toBe(true);
  });

  it('stores equal bytes once', async () => {
    const client = await cluster.connect({ unlock });
    const data = randomBytes(4 * MIB);
    await write(client, 'first', data);
    const before = cluster.coordinator.state.table('chunks').size;
    await write(client, 'second', data);
    expect(cluster.coordinator.state.table('chunks').size).toBe(before);
  });

  it('shows no plaintext and no plain hash of it: not on the wire, not on a disk, not in the metadata', async () => {
    const client = await cluster.connect({ unlock }, recorded);
    const data = marked(3 * MIB + 12_345);
    await write(client, 'secret', data);
    const fresh = await cluster.connect({ unlock }, recorded);
    expect((await read(fresh, 'secret')).equals(data)).toBe(true);
    const places = {
      wire: captured(),
      disks: await filesUnder(cluster.directory),
      metadata: Buffer.from(JSON.stringify([...cluster.coordinator.state.table('chunks').all(), encryptionOf(cluster)])),
    };
    expect(places.wire.length).toBeGreaterThan(2 * data.length);
    expect(places.disks.length).toBeGreaterThan(2 * data.length);
    for (const [place, bytes] of Object.entries(places)) {
      expect(bytes.includes(MARKER), place).toBe(false);
      for (const hash of plainHashes(data)) expect(bytes.includes(hash), place).toBe(false);
    }
  });

  it('is read at random by fetching a leaf, not a chunk', async () => {
    const writer = await cluster.connect({ unlock });
    const data = randomBytes(16 * MIB);
    const inode = await write(writer, 'large', data);
    let fetchedBytes = 0;
    let requests = 0;
    const reader = await cluster.connect(
      { unlock },
      {
        peers: ({ node, url }) => {
          const peer = new HttpChunkPeer({ node, url });
          const { get } = peer;
          peer.get = async (...args: Parameters<typeof get>) => {
            const answer = await get.apply(peer, args);
            requests++;
            fetchedBytes += answer.length;
            return answer;
          };
          return peer;
        },
      },
    );
    const file = await reader.open(inode);
    const READS = 40;
    for (let i = 0; i < READS; i++) {
      // Far from each other, so that nothing looks like reading in sequence; each within one leaf.
      const at = ((i * 7) % 16) * MIB + ((i * 5 + Math.floor(i / 16)) % 16) * 65_536 + 4096 * (i % 15);
      expect((await file.read(at, 4096)).equals(data.subarray(at, at + 4096))).toBe(true);
    }
    expect(requests).toBeGreaterThan(READS / 2);
    expect(fetchedBytes / requests).toBeLessThan(65_536 + 1024);
  });

  it('is closed to a wrong key and to none, by a clear word, and nothing is changed', async () => {
    const { state } = cluster.coordinator;
    const rows = (): string => JSON.stringify([[...state.table('inodes').all()], chunkIds(), encryptionOf(cluster)]);
    const before = rows();
    const wrong = cluster.connect({ unlock: { keyFile: newKeyFile(randomBytes) } });
    await expect(wrong).rejects.toMatchObject({ code: 'EACCES', message: expect.stringContaining('does not open with this key file') });
    await expect(cluster.connect()).rejects.toMatchObject({ code: 'EACCES', message: expect.stringContaining('--key-file') });
    const names = await cluster.connect({ namesOnly: true });
    expect(await names.tree.lookup(names.tree.root, 'large')).toMatchObject({ sizeBytes: 16 * MIB });
    await expect(names.open((await names.tree.resolve('large')).inode)).rejects.toMatchObject({ code: 'EACCES' });
    expect(rows()).toBe(before);
  });

  it('opens with its new key after rekeying, without one chunk written again', async () => {
    const next: Unlock = { keyFile: newKeyFile(randomBytes) };
    const chunks = chunkIds();
    const before = encryptionOf(cluster);
    const after = await rewrap(before, unlock, next, false, 'main', randomBytes);
    const set = (encryption: Record<string, unknown>): void =>
      cluster.coordinator.state.transact((tx) => {
        const row = tx.get('volumes', 1);
        if (row) tx.put('volumes', 1, { ...row, encryption });
      });
    set(after);
    try {
      const client = await cluster.connect({ unlock: next });
      expect((await read(client, 'size-4096')).includes(MARKER)).toBe(true);
      await expect(cluster.connect({ unlock })).rejects.toMatchObject({ code: 'EACCES' });
      expect(chunkIds()).toEqual(chunks);
    } finally {
      set(before);
    }
  });

  it('with a chunk that was put there in the clear refuses to read it', async () => {
    const client = await cluster.connect({ unlock });
    const inode = await write(client, 'forged', randomBytes(1000));
    const plain = await startInProcessCluster({ nodes: 2 });
    try {
      // What a hostile coordinator could do: say that the volume is not encrypted.
      await expect(plain.connect({ unlock })).rejects.toMatchObject({ code: 'EINVAL', message: expect.stringContaining('not encrypted') });
    } finally {
      await plain.stop();
    }
    cluster.coordinator.state.transact((tx) => {
      const row = tx.get('volumes', 1);
      if (row) tx.put('volumes', 1, { ...row, encryption: null });
    });
    const inTheClear = await cluster.connect();
    const file = await inTheClear.open(inode);
    await file.write(0, MARKER);
    await file.flush();
    // So the search above would have found it.
    expect((await filesUnder(cluster.directory)).includes(MARKER)).toBe(true);
    await encryptMain(cluster);
    const again = await cluster.connect({ unlock });
    const opened = await again.open(inode);
    await expect(opened.read(0, 10)).rejects.toMatchObject({ code: 'EIO', message: expect.stringContaining('not encrypted') });
  });
});
