import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Cluster } from '../client/index.js';
import type { InodeAttributes } from '../protocol/entities.js';
import { HttpChunkPeer } from '../protocol/http-chunk-peer.js';
import { type InProcessCluster, startInProcessCluster } from './in-process-cluster.js';

const me = { uid: 0, gid: 0 };
let cluster: InProcessCluster;
let client: Cluster;
/** What was asked of nodes since the last look. */
let asked: ('put' | 'put durable' | 'sync')[] = [];

class RecordingPeer extends HttpChunkPeer {
  override put(...[chunks, options]: Parameters<HttpChunkPeer['put']>) {
    asked.push(options.durable ? 'put durable' : 'put');
    return super.put(chunks, options);
  }
  override sync(...parameters: Parameters<HttpChunkPeer['sync']>) {
    asked.push('sync');
    return super.sync(...parameters);
  }
}

beforeAll(async () => {
  cluster = await startInProcessCluster();
  client = await cluster.connect({}, { peers: (contact) => new RecordingPeer({ node: contact.node, url: contact.url }) });
});
afterAll(() => cluster?.stop());

async function create(name: string, bytes: number): Promise<InodeAttributes> {
  const { attributes } = await client.tree.create({ parent: client.tree.root, name, kind: 'file', mode: 0o644, as: me, exclusive: true });
  const file = await client.open(attributes.inode);
  await file.write(0, randomBytes(bytes));
  await file.flush();
  await file.release();
  return attributes;
}
function look(): Set<string> {
  const seen = new Set(asked);
  asked = [];
  return seen;
}

describe('bytes that take the place of others are stable before the old ones go, so that no power failure leaves neither', () => {
  it('while those of a new file are not waited for', async () => {
    await create('new', 5000);
    expect(look()).toEqual(new Set(['put']));
  });
  it('when a part of a file is overwritten', async () => {
    const { inode } = await create('overwritten', 300_000);
    look();
    const file = await client.open(inode);
    await file.write(1000, randomBytes(100));
    await file.flush();
    expect(look()).toContain('put durable');
    await file.write(300_000, randomBytes(100));
    await file.flush();
    expect(look()).toEqual(new Set(['put']));
    await file.release();
  });
  it('when a file is cut and written anew', async () => {
    const { inode } = await create('cut', 5000);
    look();
    await client.tree.truncate(inode, 0);
    const file = await client.open(inode);
    await file.truncate(0);
    await file.write(0, randomBytes(6000));
    await file.flush();
    expect(look()).toEqual(new Set(['put durable']));
    await file.release();
  });
  it('when a new file is renamed over another', async () => {
    await create('old', 5000);
    await create('old.tmp', 5000);
    look();
    await client.tree.rename({ parent: client.tree.root, name: 'old.tmp' }, { parent: client.tree.root, name: 'old' }, 'replace', me);
    expect(look()).toEqual(new Set(['sync']));
    await create('other', 5000);
    expect(await client.tree.lookup(client.tree.root, 'free name')).toBeNull();
    look();
    await client.tree.rename({ parent: client.tree.root, name: 'other' }, { parent: client.tree.root, name: 'free name' }, 'replace', me);
    expect(look()).toEqual(new Set());
  });
});
