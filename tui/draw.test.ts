import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { bar, beside, block, paint, panel, row, rowText, rowWidth, scrollTo, sized, span, sparkline, table } from './draw.js';
import { escapeControl } from './text.js';
import { ASCII_GLYPHS, UTF8_GLYPHS } from './theme.js';

const text = fc.string({ unit: 'grapheme', maxLength: 30 }).map(escapeControl);
const anyRow = fc.array(text, { maxLength: 4 }).map((parts) => parts.map((one) => span(one)));
const width = fc.integer({ min: 4, max: 60 });

describe('rows', () => {
  it('are made exactly as wide as asked', () => {
    fc.assert(fc.property(anyRow, fc.integer({ min: 0, max: 60 }), (one, columns) => rowWidth(sized(one, columns)) === columns));
  });
  it('make panels of exactly the size asked, whatever is inside', () => {
    fc.assert(
      fc.property(text, fc.array(anyRow, { maxLength: 8 }), width, fc.integer({ min: 2, max: 10 }), (title, rows, columns, height) => {
        const box = panel(title, rows, columns, height, { glyphs: ASCII_GLYPHS });
        expect(box).toHaveLength(height);
        for (const one of box) expect(rowWidth(one)).toBe(columns);
      }),
    );
  });
  it('stand beside each other when their heights differ', () => {
    const both = beside(block([row('a')], 3, 1), block([row('b'), row('c')], 2, 2));
    expect(both.map(rowText)).toEqual(['a  b ', '   c ']);
  });
  it('carry no codes at all without colours, and no colour codes with NO_COLOR', () => {
    const styles = ['plain', 'bold', 'dim', 'ok', 'warn', 'bad', 'accent', 'select', 'badge-ok', 'badge-warn', 'badge-bad'] as const;
    const all = row(...styles.map((style) => span('x', style)));
    expect(paint(all, 'none')).toBe('x'.repeat(styles.length));
    // biome-ignore lint/suspicious/noControlCharactersInRegex: SGR codes begin with ESC
    const codes = [...paint(all, 'mono').matchAll(/\x1b\[([\d;]*)m/g)].flatMap((one) => one[1]!.split(';').map(Number));
    expect(codes.filter((one) => one >= 30)).toEqual([]);
  });
});

describe('a bar', () => {
  it('is full only when all is done, and shows a beginning as soon as there is one', () => {
    expect(bar(0, 10, ASCII_GLYPHS)).toBe('[........]');
    expect(bar(0.001, 10, ASCII_GLYPHS)).toBe('[#.......]');
    expect(bar(0.999, 10, ASCII_GLYPHS)).toBe('[#######.]');
    expect(bar(1, 10, ASCII_GLYPHS)).toBe('[########]');
  });
  it('has its width for any share', () => {
    fc.assert(
      fc.property(fc.double(), fc.integer({ min: 2, max: 40 }), (share, columns) => bar(share, columns, UTF8_GLYPHS).length === columns),
    );
  });
});

describe('a sparkline', () => {
  it('shows the newest values at the right, and every value above nothing', () => {
    expect(sparkline([0, 1, 100], 5, 100, ASCII_GLYPHS)).toBe('   .@');
  });
  it('has its width for any values', () => {
    fc.assert(
      fc.property(fc.array(fc.double()), fc.integer({ min: 0, max: 80 }), fc.double(), (values, columns, peak) => {
        expect(sparkline(values, columns, peak, UTF8_GLYPHS)).toHaveLength(columns);
      }),
    );
  });
});

describe('a table', () => {
  it('marks the selected row with a sign, not by colour alone', () => {
    const rows = table([{ title: 'NAME', width: 6, cell: (one: string) => one }], ['a', 'b'], (_, index) => index === 1);
    expect(rows.map(rowText)).toEqual(['  NAME   ', '  a      ', '> b      ']);
  });
});

describe('scrolling', () => {
  it('keeps the selection in view and never leaves blank rows that could be filled', () => {
    fc.assert(
      fc.property(
        fc.nat(500),
        fc.nat(500),
        fc.integer({ min: 1, max: 50 }),
        fc.integer({ min: 1, max: 500 }),
        (selected, top, height, length) => {
          const at = Math.min(selected, length - 1);
          const first = scrollTo(at, top, height, length);
          expect(first).toBeGreaterThanOrEqual(0);
          expect(at).toBeGreaterThanOrEqual(first);
          expect(at).toBeLessThan(first + height);
          expect(first).toBeLessThanOrEqual(Math.max(0, length - height));
        },
      ),
    );
  });
});
