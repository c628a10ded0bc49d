/** Rows of styled text and the few shapes made of them: panels, tables, bars, sparklines. All pure; every row made here has the width asked for. */
import { dropColumns, padEnd, truncate, widthOf } from './text.js';
import { type ColorMode, codesOf, type Glyphs, type Style } from './theme.js';

export interface Span {
  readonly text: string;
  readonly style: Style;
}
export type Row = readonly Span[];

export const span = (text: string, style: Style = 'plain'): Span => ({ text, style });
export const row = (...parts: (Span | string)[]): Row => parts.map((part) => (typeof part === 'string' ? span(part) : part));
export const rowWidth = (spans: Row): number => spans.reduce((sum, one) => sum + widthOf(one.text), 0);
export const rowText = (spans: Row): string => spans.map((one) => one.text).join('');

/** Exactly `columns` wide: cut (marked with `mark`) or filled with blanks. */
export function sized(spans: Row, columns: number, mark: '~' | '' = '~'): Row {
  const out: Span[] = [];
  let left = columns;
  for (const one of spans) {
    if (left <= 0) break;
    const width = widthOf(one.text);
    if (width <= left) {
      out.push(one);
      left -= width;
      continue;
    }
    const text = padEnd(truncate(one.text, left, mark), left);
    out.push({ text, style: one.style });
    left = 0;
  }
  if (left > 0) out.push(span(' '.repeat(left)));
  return out;
}

/** What stands in the columns `from` to `to` of a row; half a wide character becomes a blank. */
export function afterColumn(spans: Row, from: number, to: number): Row {
  const out: Span[] = [];
  let at = 0;
  for (const one of spans) {
    const width = widthOf(one.text);
    if (at >= from) out.push(one);
    else if (at + width > from) out.push({ text: dropColumns(one.text, from - at), style: one.style });
    at += width;
  }
  return sized(out, Math.max(0, to - from), '');
}

/** One style over the whole row: selection, staleness. */
export const restyle = (spans: Row, style: Style): Row => [span(rowText(spans), style)];

/** Rows beside each other; `left` must be of one width. */
export function beside(left: readonly Row[], right: readonly Row[]): Row[] {
  const height = Math.max(left.length, right.length);
  const leftWidth = rowWidth(left[0] ?? []);
  const rightWidth = rowWidth(right[0] ?? []);
  return Array.from({ length: height }, (_, y) => [
    ...(left[y] ?? [span(' '.repeat(leftWidth))]),
    ...(right[y] ?? [span(' '.repeat(rightWidth))]),
  ]);
}

/** Exactly `height` rows of `columns` columns. */
export function block(rows: readonly Row[], columns: number, height: number): Row[] {
  return Array.from({ length: Math.max(0, height) }, (_, y) => sized(rows[y] ?? [], columns));
}

export interface PanelOptions {
  readonly glyphs: Glyphs;
  readonly isFocused?: boolean;
}
/** A box with a title in its upper edge, `columns` x `height` over all. */
export function panel(title: string, rows: readonly Row[], columns: number, height: number, options: PanelOptions): Row[] {
  const { glyphs } = options;
  if (height < 2 || columns < 4) return block([], columns, height);
  const edge: Style = options.isFocused ? 'accent' : 'dim';
  const label = truncate(` ${title} `, columns - 4);
  const top = row(
    span(glyphs.topLeft + glyphs.horizontal, edge),
    span(label, options.isFocused ? 'bold' : 'plain'),
    span(glyphs.horizontal.repeat(Math.max(0, columns - 3 - widthOf(label))) + glyphs.topRight, edge),
  );
  const inner = block(rows, columns - 4, height - 2).map((one) => [
    span(`${glyphs.vertical} `, edge),
    ...one,
    span(` ${glyphs.vertical}`, edge),
  ]);
  const bottom = row(span(glyphs.bottomLeft + glyphs.horizontal.repeat(columns - 2) + glyphs.bottomRight, edge));
  return [top, ...inner, bottom];
}

/** "[###.....]" in `columns` columns (brackets included). */
export function bar(share: number, columns: number, glyphs: Glyphs): string {
  const inner = Math.max(0, columns - 2);
  const safe = Number.isFinite(share) ? Math.min(1, Math.max(0, share)) : 0;
  const full = safe > 0 && safe < 1 ? Math.min(inner - 1, Math.max(1, Math.round(safe * inner))) : Math.round(safe * inner);
  const filled = Math.max(0, full);
  return `[${glyphs.barFull.repeat(filled)}${glyphs.barEmpty.repeat(Math.max(0, inner - filled))}]`;
}

/** The last `columns` values, oldest at the left, scaled to `peak`. */
export function sparkline(values: readonly number[], columns: number, peak: number, glyphs: Glyphs): string {
  const shown = columns > 0 ? values.slice(-columns) : [];
  const steps = glyphs.spark.length - 1;
  const line = shown
    .map((value) => {
      if (!(value > 0) || !(peak > 0)) return glyphs.spark[0];
      return glyphs.spark[Math.min(steps, Math.max(1, Math.ceil((value / peak) * steps) || 1))];
    })
    .join('');
  return line.padStart(Math.max(0, columns));
}

export interface Column<T> {
  readonly title: string;
  readonly width: number;
  readonly align?: 'left' | 'right';
  readonly cell: (item: T) => Span | string;
}
/** A heading row and one row per item; columns are separated by one blank. */
export function table<T>(columns: readonly Column<T>[], items: readonly T[], isSelected: (item: T, index: number) => boolean): Row[] {
  const cells = (values: readonly (Span | string)[]): Span[] =>
    values.flatMap((value, index) => {
      const column = columns[index]!;
      const one = typeof value === 'string' ? span(value) : value;
      const short = truncate(one.text, column.width);
      const blank = ' '.repeat(Math.max(0, column.width - widthOf(short)));
      const text = column.align === 'right' ? blank + short : short + blank;
      return [{ text, style: one.style }, span(' ')];
    });
  const heading = [span('  '), ...cells(columns.map((column) => span(column.title, 'dim')))];
  return [
    heading,
    ...items.map((item, index) => {
      const content = cells(columns.map((column) => column.cell(item)));
      return isSelected(item, index) ? restyle([span('> '), ...content], 'select') : [span('  '), ...content];
    }),
  ];
}

/** A row as the terminal gets it. */
export function paint(spans: Row, mode: ColorMode): string {
  let out = '';
  for (const one of spans) {
    const codes = codesOf(one.style, mode);
    out += codes === '' ? one.text : `\x1b[${codes}m${one.text}\x1b[0m`;
  }
  return out;
}

/**
 * The first visible index of a list so that `selected` is in view, moving as little as possible.
 * @param top the index shown first until now
 */
export function scrollTo(selected: number, top: number, height: number, length: number): number {
  if (height <= 0) return 0;
  let next = top;
  if (selected < next) next = selected;
  if (selected >= next + height) next = selected - height + 1;
  return Math.max(0, Math.min(next, Math.max(0, length - height)));
}
