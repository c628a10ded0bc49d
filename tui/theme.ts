/** Styles and glyphs. Sixteen ANSI colours at most, so the user's own theme applies; a word or symbol always repeats what a colour says. */

export type Style = 'plain' | 'bold' | 'dim' | 'ok' | 'warn' | 'bad' | 'accent' | 'select' | 'badge-ok' | 'badge-warn' | 'badge-bad';

/** `color`: 16 colours; `mono`: bold, dim and inverse only (NO_COLOR); `none`: no codes at all (TERM=dumb). */
export type ColorMode = 'color' | 'mono' | 'none';

const COLOR: Record<Style, string> = {
  plain: '',
  bold: '1',
  dim: '2',
  ok: '32',
  warn: '33',
  bad: '31',
  accent: '36',
  select: '7',
  'badge-ok': '1;32',
  'badge-warn': '1;33',
  'badge-bad': '1;31;7',
};
const MONO: Record<Style, string> = {
  ...COLOR,
  ok: '',
  warn: '',
  bad: '1',
  accent: '',
  'badge-ok': '1',
  'badge-warn': '1',
  'badge-bad': '1;7',
};

/** The SGR parameters of a style, '' for none. */
export function codesOf(style: Style, mode: ColorMode): string {
  if (mode === 'none') return '';
  return mode === 'mono' ? MONO[style] : COLOR[style];
}

export interface Glyphs {
  readonly topLeft: string;
  readonly topRight: string;
  readonly bottomLeft: string;
  readonly bottomRight: string;
  readonly horizontal: string;
  readonly vertical: string;
  readonly barFull: string;
  readonly barEmpty: string;
  /** Lowest first; the first one means nothing. */
  readonly spark: readonly string[];
}
export const UTF8_GLYPHS: Glyphs = {
  topLeft: '┌',
  topRight: '┐',
  bottomLeft: '└',
  bottomRight: '┘',
  horizontal: '─',
  vertical: '│',
  barFull: '█',
  barEmpty: '░',
  spark: [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'],
};
export const ASCII_GLYPHS: Glyphs = {
  topLeft: '+',
  topRight: '+',
  bottomLeft: '+',
  bottomRight: '+',
  horizontal: '-',
  vertical: '|',
  barFull: '#',
  barEmpty: '.',
  spark: [' ', '.', ':', '-', '=', '+', '*', '#', '@'],
};

/** What the environment says about colours; `flag` is --no-color. */
export function colorModeOf(env: Readonly<Record<string, string | undefined>>, flag: boolean): ColorMode {
  if (env.TERM === 'dumb') return 'none';
  if (flag || (env.NO_COLOR !== undefined && env.NO_COLOR !== '')) return 'mono';
  return 'color';
}

/** True when the locale says UTF-8. */
export function isUtf8(env: Readonly<Record<string, string | undefined>>): boolean {
  const locale = env.LC_ALL || env.LC_CTYPE || env.LANG || '';
  return /utf-?8/i.test(locale);
}
