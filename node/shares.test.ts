import { describe, expect, it } from 'vitest';
import type { Permit } from '../protocol/permit.js';
import { Shares } from './shares.js';

const MIB = 1024 * 1024;
const permit = (client: string, tags?: string[]): Permit => ({
  ...{ kind: 'permit', cluster: 'c', volume: 1, access: 'write', client, generation: 1 },
  ...(tags ? { tags } : {}),
});

describe('shares of what is under way', () => {
  it('refuse one holder beyond its share, by whatever client, while others go on; what is given back counts no more', () => {
    const lines: string[] = [];
    const shares = new Shares('receiving', { monotonicMs: () => 1, log: (_level, message) => lines.push(message) });
    const first = Array.from({ length: 12 }, (_, i) => shares.take(permit(`client${i}`, ['token-T1']), 8 * MIB));
    for (let i = 0; i < 5; i++) expect(() => shares.take(permit('another', ['token-T1']), 1)).toThrow(/of yours/);
    expect(lines).toHaveLength(1);
    const second = shares.take(permit('b'), 90 * MIB);
    first[0]?.();
    first[0]?.();
    shares.take(permit('another', ['token-T1']), 8 * MIB);
    expect(() => shares.take(permit('c'), 90 * MIB)).toThrow(/as much as it can/);
    second();
    shares.take(permit('c'), 90 * MIB);
  });
  it('of the coordinator are bounded by the whole only', () => {
    const shares = new Shares('sending', { monotonicMs: () => 1, log: () => {} });
    shares.take(permit('coordinator'), 200 * MIB);
    expect(() => shares.take(permit('coordinator'), 100 * MIB)).toThrow(/as much as it can/);
  });
});
