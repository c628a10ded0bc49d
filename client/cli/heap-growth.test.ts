import { describe, expect, it } from 'vitest';
import { growthPercent } from './heap-growth.js';

const MIB = 1024 * 1024;

describe('growth of the heap between full collections', () => {
  it('is about the same number of bytes for small heaps, and V8 decides for large ones', () => {
    expect(growthPercent(20 * MIB)).toBe(480);
    expect(growthPercent(96 * MIB)).toBe(100);
    expect(growthPercent(192 * MIB)).toBe(50);
    expect(growthPercent(193 * MIB)).toBe(0);
    expect(growthPercent(4096 * MIB)).toBe(0);
    expect(growthPercent(0)).toBe(1000);
  });
});
