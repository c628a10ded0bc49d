import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { age, bytes, count, duration, percent, rate, shortCount } from './format.js';

describe('numbers for people', () => {
  it('show sizes in binary units', () => {
    expect([0, 1023, 1024, 1536, 5 * 1024 ** 2, 3e12].map(bytes)).toEqual(['0 B', '1023 B', '1.0 KiB', '1.5 KiB', '5.0 MiB', '2.7 TiB']);
  });
  it('are "-" when unknown, never 0', () => {
    expect([bytes(null), rate(undefined), duration(null), age(Number.NaN), count(null), shortCount(undefined), percent(1, 0)]).toEqual(
      Array.from({ length: 7 }, () => '-'),
    );
  });
  it('keep every size within 8 columns', () => {
    fc.assert(fc.property(fc.double({ min: 0, max: 1e18, noNaN: true }), (value) => bytes(value).length <= 8));
  });
  it('keep every short count within 6 columns', () => {
    fc.assert(fc.property(fc.double({ min: 0, max: 9e14, noNaN: true }), (value) => shortCount(value).length <= 6));
  });
  it('show durations by their two largest units', () => {
    expect([400, 48_000, 125_000, 11_520_000, 5 * 86_400_000 + 4 * 3_600_000].map(duration)).toEqual([
      '0.4s',
      '48s',
      '2m05s',
      '3h12m',
      '5d4h',
    ]);
  });
  it('say 100% only when all is done and 0% only when nothing is', () => {
    expect(percent(999, 1000)).toBe('99%');
    expect(percent(1, 1000)).toBe('1%');
    expect(percent(0, 1000)).toBe('0%');
    expect(percent(1000, 1000)).toBe('100%');
  });
});
