import { beforeEach, describe, expect, it } from 'vitest';
import type { InodeAttributes } from '../protocol/entities.js';
import { MetadataCache } from './metadata-cache.js';

const attributes = (inode: number, change: number, more: Partial<InodeAttributes> = {}): InodeAttributes => ({
  inode,
  volume: 1,
  kind: 'file',
  mode: 0o644,
  uid: 0,
  gid: 0,
  sizeBytes: 0,
  allocatedBytes: 0,
  nlink: 1,
  rdev: 0,
  atimeS: 0,
  atimeNs: 0,
  mtimeS: 0,
  mtimeNs: 0,
  ctimeS: 0,
  ctimeNs: 0,
  change,
  dataVersion: 0,
  hasXattrs: false,
  ...more,
});
const directory = (change: number): InodeAttributes => attributes(1, change, { kind: 'directory' });

let isLeaseValid: boolean;
let cache: MetadataCache;
beforeEach(() => {
  isLeaseValid = true;
  cache = new MetadataCache(() => isLeaseValid);
});

describe('metadata cache', () => {
  it('answers nothing while the lease does not hold', () => {
    cache.putAttributes(cache.stamp(), attributes(7, 1));
    cache.putEntry(cache.stamp(), directory(1), 'a', 7);
    expect(cache.attributes(7)?.change).toBe(1);
    expect(cache.entry(1, 'a')).toBe(7);
    isLeaseValid = false;
    expect(cache.attributes(7)).toBeUndefined();
    expect(cache.entry(1, 'a')).toBeUndefined();
  });

  it('does not know where a name leads once what it led to is known to have none', () => {
    cache.putEntry(cache.stamp(), directory(1), 'a', 7);
    cache.putAttributes(cache.stamp(), attributes(7, 1));
    expect(cache.entry(1, 'a')).toBe(7);
    cache.putAttributes(cache.stamp(), attributes(7, 2, { nlink: 0 }));
    expect(cache.entry(1, 'a')).toBeUndefined();
    cache.putEntry(cache.stamp(), directory(2), 'a', 8);
    expect(cache.entry(1, 'a')).toBe(8);
  });

  it('keeps no answer that was under way when a recall came', () => {
    const stamp = cache.stamp();
    cache.recall(7);
    cache.putAttributes(stamp, attributes(7, 1));
    expect(cache.attributes(7)).toBeUndefined();
    cache.putAttributes(cache.stamp(), attributes(7, 2));
    expect(cache.attributes(7)?.change).toBe(2);
  });

  it('keeps an answer about another inode than the recalled one', () => {
    const stamp = cache.stamp();
    cache.recall(7);
    cache.putAttributes(stamp, attributes(8, 1));
    expect(cache.attributes(8)?.change).toBe(1);
  });

  it('keeps no answer that was under way when everything was forgotten', () => {
    const stamp = cache.stamp();
    cache.forgetAll();
    cache.putAttributes(stamp, attributes(7, 1));
    cache.putEntry(stamp, directory(1), 'a', 7);
    expect(cache.attributes(7)).toBeUndefined();
    expect(cache.entry(1, 'a')).toBeUndefined();
  });

  it('prefers the higher change counter, whichever answer comes first', () => {
    cache.putAttributes(cache.stamp(), attributes(7, 5));
    cache.putAttributes(cache.stamp(), attributes(7, 4));
    expect(cache.attributes(7)?.change).toBe(5);
  });

  it('drops what an answer it may not keep proves to be old', () => {
    const stamp = cache.stamp();
    cache.recall(7);
    cache.putAttributes(cache.stamp(), attributes(7, 3));
    cache.putAttributes(stamp, attributes(7, 4));
    expect(cache.attributes(7)).toBeUndefined();
  });

  it('knows absence of every other name only when it was told the whole directory', () => {
    cache.putEntry(cache.stamp(), directory(1), 'a', 7);
    expect(cache.entry(1, 'b')).toBeUndefined();
    cache.putEntries(cache.stamp(), directory(1), [['a', 7]], true);
    expect(cache.entry(1, 'b')).toBeNull();
    cache.recall(1);
    expect(cache.entry(1, 'a')).toBeUndefined();
    expect(cache.entry(1, 'b')).toBeUndefined();
  });

  it('never says absent of a name whose creation it heard of too late to keep', () => {
    cache.putEntries(cache.stamp(), directory(9), [], true);
    expect(cache.entry(1, 'new')).toBeNull();
    cache.putEntry(cache.stamp(), directory(8), 'new', 7);
    expect(cache.entry(1, 'new')).toBeUndefined();
    const stamp = cache.stamp();
    cache.putEntries(cache.stamp(), directory(9), [], true);
    cache.recall(1);
    cache.putEntries(cache.stamp(), directory(10), [], true);
    cache.putEntry(stamp, directory(11), 'new', 7);
    expect(cache.entry(1, 'new')).toBeUndefined();
  });
});
