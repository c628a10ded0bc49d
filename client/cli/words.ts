/** Sizes, times and tables for people. */
import stringWidth from 'string-width';

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
/** 1536 → "1.5 KiB" */
export function sizeWords(sizeBytes: number): string {
  let value = sizeBytes;
  let unit = 0;
  while (Math.abs(value) >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${UNITS[unit]}`;
}

/** 93000 → "1 min 33 s" */
export function durationWords(durationMs: number): string {
  const s = Math.round(durationMs / 1000);
  if (durationMs < 1000) return `${Math.round(durationMs)} ms`;
  if (s < 60) return `${s} s`;
  const both = (large: number, unit: string, small: number, smallUnit: string): string =>
    `${Math.floor(large)} ${unit}${Math.floor(small) > 0 ? ` ${Math.floor(small)} ${smallUnit}` : ''}`;
  if (s < 3600) return both(s / 60, 'min', s % 60, 's');
  if (s < 86_400) return both(s / 3600, 'h', (s % 3600) / 60, 'min');
  return both(s / 86_400, 'd', (s % 86_400) / 3600, 'h');
}

/** Local time of day, with the date when it is not today. */
export function timeWords(atMs: number, nowMs: number): string {
  const at = new Date(atMs);
  const two = (number: number): string => String(number).padStart(2, '0');
  const time = `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
  if (at.toDateString() === new Date(nowMs).toDateString()) return time;
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${time}`;
}

export const countWords = (count: number, one: string, many = `${one}s`): string =>
  `${count.toLocaleString('en')} ${count === 1 ? one : many}`;

/** Names of files may hold anything; a terminal must not obey it. Control characters become \xNN, as do the marks that turn text around. */
export const printable = (text: string): string =>
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  text.replace(/[\u0000-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufffd]/g, (character) => {
    const code = character.charCodeAt(0);
    return code < 256 ? `\\x${code.toString(16).padStart(2, '0')}` : `\\u${code.toString(16).padStart(4, '0')}`;
  });

/** Columns padded to their widest cell; those named in `right` to the right. Lines end without blanks. */
export function table(rows: readonly (readonly string[])[], right: readonly number[] = []): string[] {
  const widths: number[] = [];
  for (const row of rows) for (const [column, cell] of row.entries()) widths[column] = Math.max(widths[column] ?? 0, stringWidth(cell));
  return rows.map((row) =>
    row
      .map((cell, column) => {
        const blanks = ' '.repeat((widths[column] ?? 0) - stringWidth(cell));
        return right.includes(column) ? blanks + cell : cell + blanks;
      })
      .join('  ')
      .trimEnd(),
  );
}

export type Paint = 'good' | 'warn' | 'bad' | 'dim' | 'bold';
const CODES: Record<Paint, string> = { good: '32', warn: '33', bad: '31', dim: '2', bold: '1' };
/** Colours only when `isOn`; the words always say it too. */
export const painter =
  (isOn: boolean) =>
  (paint: Paint, text: string): string =>
    isOn ? `\x1b[${CODES[paint]}m${text}\x1b[0m` : text;
export type Painter = ReturnType<typeof painter>;

/** "rw-r--r--" with a letter for the kind, as ls shows it. */
export function modeWords(kind: string, mode: number): string {
  const letter = { directory: 'd', symlink: 'l', fifo: 'p', socket: 's', char: 'c', block: 'b' }[kind] ?? '-';
  let text = '';
  for (let shift = 6; shift >= 0; shift -= 3) {
    const bits = (mode >> shift) & 7;
    text += `${bits & 4 ? 'r' : '-'}${bits & 2 ? 'w' : '-'}`;
    const special = shift === 6 ? mode & 0o4000 : shift === 3 ? mode & 0o2000 : mode & 0o1000;
    const marked = shift === 0 ? 't' : 's';
    text += special ? (bits & 1 ? marked : marked.toUpperCase()) : bits & 1 ? 'x' : '-';
  }
  return letter + text;
}
