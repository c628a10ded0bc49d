import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { escapeControl, padEnd, padStart, truncate, truncateMiddle, widthOf } from './text.js';

// biome-ignore lint/suspicious/noControlCharactersInRegex: looking for them is the test
const COMMANDING = /[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]/;
const anyText = fc.string({ unit: 'binary', maxLength: 60 });
const harmless = anyText.map(escapeControl);

describe('text for a terminal', () => {
  it('never lets a name command the terminal', () => {
    fc.assert(fc.property(anyText, (text) => !COMMANDING.test(escapeControl(text))));
    expect(escapeControl('a\u001b[2J\nb\t\u202etxt')).toBe('a\\x1b[2J\\nb\\t\\u202etxt');
  });
  it('leaves ordinary names as they are, accents and wide characters included', () => {
    for (const name of ['plain.txt', 'Grüße.txt', '日本語.md', 'a b']) expect(escapeControl(name)).toBe(name);
  });
  it('is cut to at most the columns given, and unchanged when it fits', () => {
    fc.assert(
      fc.property(harmless, fc.integer({ min: 0, max: 50 }), (text, columns) => {
        for (const cut of [truncate(text, columns), truncateMiddle(text, columns)]) {
          expect(widthOf(cut)).toBeLessThanOrEqual(columns);
          if (widthOf(text) <= columns) expect(cut).toBe(text);
        }
      }),
    );
  });
  it('keeps both ends of a long path', () => {
    expect(truncateMiddle('/photos/2026/summer/beach.jpg', 17)).toBe('/photos/~each.jpg');
  });
  it('is padded to exactly the columns given', () => {
    fc.assert(
      fc.property(harmless, fc.integer({ min: 0, max: 50 }), (text, columns) => {
        expect(widthOf(padEnd(text, columns))).toBe(columns);
        expect(widthOf(padStart(text, columns))).toBe(columns);
      }),
    );
  });
  it('never cuts a wide character in two', () => {
    expect(padEnd('日本語', 4)).toBe('日~ ');
    expect(widthOf(padEnd('日本語', 4))).toBe(4);
  });
});
