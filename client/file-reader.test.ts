import { expect, it } from 'vitest';
import { buildChunk } from '../protocol/chunk.js';
import type { Extent, InodeAttributes } from '../protocol/entities.js';
import { plainForm } from './chunk-form.js';
import type { ClientCore } from './core.js';
import { FileReader, ReadPosition } from './file-reader.js';

const nothingNewer = {
  mustCommit: () => false,
  flush: () => Promise.resolve(),
  readableSize: (committed: InodeAttributes): number => committed.sizeBytes,
  read: (_offset: number, into: Buffer, gap: (start: number, end: number) => void): void => gap(0, into.length),
};

it('never joins the size of one version of a file with the extents of another, when nothing may be cached', async () => {
  const versions = [Buffer.from('first'), Buffer.from('first and second')].map((bytes, at) => {
    const chunk = buildChunk(bytes, 1).id;
    const extents: Extent[] = [{ offset: 0, length: bytes.length, chunk, chunkOffset: 0 }];
    const attributes = { inode: 7, sizeBytes: bytes.length, dataVersion: at + 1, change: at + 1 } as InodeAttributes;
    return { bytes, chunk, extents, attributes };
  });
  let now = 0;
  const asked: string[] = [];
  const core = {
    // The lease has lapsed: no answer counts for more than the read that asked.
    form: plainForm,
    isLeaseValid: () => false,
    cacheNumber: () => 1,
    cache: { stamp: () => 1, isFresh: () => false, putAttributes: () => {}, attributes: () => undefined },
    locations: { learn: () => {}, get: (chunk: string) => ({ chunk, sizeBytes: 100, nodes: [1] }) },
    attributes: () => {
      asked.push('attributes');
      return Promise.resolve(versions[now]!.attributes);
    },
    session: {
      call: () => {
        asked.push('extents');
        const { attributes, extents } = versions[now]!;
        now = 1; // Somebody appends right after the first answer.
        return Promise.resolve({ attributes, extents, locations: [], nextOffset: null });
      },
    },
    fetcher: {
      read: (location: { chunk: string }, _leaves: unknown, take: (leaf: number, data: Buffer) => void) => {
        take(0, versions.find(({ chunk }) => chunk === location.chunk)!.bytes);
        return Promise.resolve();
      },
    },
  } as unknown as ClientCore;
  const read = await new FileReader(core, 7).read(0, 1000, nothingNewer, new ReadPosition());
  expect(read.toString()).toBe('first and second');
  expect(asked.slice(0, 2)).toEqual(['extents', 'attributes']);
});
