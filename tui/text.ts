/** Text as a terminal sees it: columns instead of characters, and nothing in it that could command the terminal. */
import stringWidth from 'string-width';

const PLAIN = /^[\x20-\x7e]*$/;
/** C0, DEL, C1, line and paragraph separators, and the marks that reorder text: all of them could make a name look like something else. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: finding them is the purpose
const COMMANDING = /[\x00-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]|\p{Surrogate}/gu;
const segmenter = new Intl.Segmenter('en', { granularity: 'grapheme' });

/** Columns a text takes. */
export function widthOf(text: string): number {
  return PLAIN.test(text) ? text.length : stringWidth(text);
}

/** Makes a name harmless and visible: newline as \n, ESC as \x1b, reordering marks as \u202e. */
export function escapeControl(text: string): string {
  if (PLAIN.test(text)) return text;
  return text.replace(COMMANDING, (character) => {
    if (character === '\n') return '\\n';
    if (character === '\r') return '\\r';
    if (character === '\t') return '\\t';
    const code = character.codePointAt(0) ?? 0;
    return code < 0x100 ? `\\x${code.toString(16).padStart(2, '0')}` : `\\u${code.toString(16).padStart(4, '0')}`;
  });
}

/** The longest beginning of at most `columns` columns; never cuts a character in two. */
function take(text: string, columns: number): string {
  if (PLAIN.test(text)) return text.slice(0, Math.max(0, columns));
  let taken = '';
  let used = 0;
  for (const { segment } of segmenter.segment(text)) {
    const width = stringWidth(segment);
    if (used + width > columns) break;
    taken += segment;
    used += width;
  }
  return taken;
}

/** The longest ending of at most `columns` columns. */
function takeEnd(text: string, columns: number): string {
  if (columns <= 0) return '';
  if (PLAIN.test(text)) return text.slice(-columns);
  let taken = '';
  let used = 0;
  for (const { segment } of [...segmenter.segment(text)].reverse()) {
    const width = stringWidth(segment);
    if (used + width > columns) break;
    taken = segment + taken;
    used += width;
  }
  return taken;
}

/** At most `columns` columns, the end cut off and marked with "~" (or not at all). */
export function truncate(text: string, columns: number, mark: '~' | '' = '~'): string {
  if (columns <= 0) return '';
  if (widthOf(text) <= columns) return text;
  return `${take(text, columns - mark.length)}${mark}`;
}

/** Without its first `columns` columns; half a wide character becomes a blank. */
export function dropColumns(text: string, columns: number): string {
  const rest = takeEnd(text, widthOf(text) - columns);
  return ' '.repeat(Math.max(0, widthOf(text) - columns - widthOf(rest))) + rest;
}

/** At most `columns` columns, cut in the middle: for paths and names, whose ends tell most. */
export function truncateMiddle(text: string, columns: number): string {
  if (columns <= 0) return '';
  if (widthOf(text) <= columns) return text;
  if (columns < 5) return truncate(text, columns);
  const head = Math.ceil((columns - 1) / 2);
  return `${take(text, head)}~${takeEnd(text, columns - 1 - head)}`;
}

/** Exactly `columns` columns, text at the left. */
export function padEnd(text: string, columns: number): string {
  const short = truncate(text, columns);
  return short + ' '.repeat(Math.max(0, columns - widthOf(short)));
}

/** Exactly `columns` columns, text at the right. */
export function padStart(text: string, columns: number): string {
  const short = truncate(text, columns);
  return ' '.repeat(Math.max(0, columns - widthOf(short))) + short;
}

/** Words in lines of at most `columns`. */
export function wrapWords(text: string, columns: number): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    if (line !== '' && widthOf(line) + 1 + widthOf(word) > columns) {
      lines.push(line);
      line = word;
    } else line = line === '' ? word : `${line} ${word}`;
  }
  if (line !== '') lines.push(line);
  return lines;
}
