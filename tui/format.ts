/** Numbers for people. Unknown is "-", never 0. */

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB'] as const;

/** "1.2 GiB"; whole bytes below 1 KiB. */
export function bytes(sizeBytes: number | null | undefined): string {
  if (sizeBytes === null || sizeBytes === undefined || !Number.isFinite(sizeBytes)) return '-';
  let value = Math.max(0, sizeBytes);
  let unit = 0;
  // 1023.95 would round to "1024.0": the next unit takes over before that.
  while (value >= (unit === 0 ? 1024 : 1023.95) && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return unit === 0 ? `${Math.round(value)} B` : `${value < 99.95 ? value.toFixed(1) : Math.round(value)} ${UNITS[unit]}`;
}

/** "24 MiB/s"; a rest of traffic is "0". */
export function rate(bytesPerS: number | null | undefined): string {
  if (bytesPerS === null || bytesPerS === undefined || !Number.isFinite(bytesPerS)) return '-';
  return bytesPerS < 1 ? '0' : `${bytes(bytesPerS)}/s`;
}

/** Bytes a second for a column whose heading says "/s". */
export const rateCell = (bytesPerS: number): string => (bytesPerS < 1 ? '0' : bytes(bytesPerS));

/** "0.4s", "48s", "2m05s", "3h12m", "5d4h". */
export function duration(ms: number | null | undefined): string {
  if (ms === null || ms === undefined || !Number.isFinite(ms)) return '-';
  const s = Math.max(0, ms) / 1000;
  if (s < 9.95) return `${s.toFixed(1)}s`;
  if (s < 60) return `${Math.floor(s)}s`;
  if (s < 3600) return `${Math.floor(s / 60)}m${String(Math.floor(s % 60)).padStart(2, '0')}s`;
  if (s < 86_400) return `${Math.floor(s / 3600)}h${String(Math.floor((s % 3600) / 60)).padStart(2, '0')}m`;
  return `${Math.floor(s / 86_400)}d${Math.floor((s % 86_400) / 3600)}h`;
}

/** Whole seconds and coarser, for ages that change every frame otherwise. */
export const age = (ms: number | null | undefined): string =>
  ms === null || ms === undefined || !Number.isFinite(ms) ? '-' : duration(Math.floor(ms / 1000) * 1000).replace('.0s', 's');

/** 12345 as "12,345". */
export function count(value: number | null | undefined): string {
  if (value === null || value === undefined || !Number.isFinite(value)) return '-';
  return String(Math.round(value)).replace(/\B(?=(\d{3})+$)/g, ',');
}

/** At most 6 columns: "12,345", "1.2M", "340M", "1.2G". */
export function shortCount(value: number | null | undefined): string {
  if (value === null || value === undefined || !Number.isFinite(value) || value < 99_999.5) return count(value);
  let short = value;
  for (const unit of ['k', 'M', 'G', 'T']) {
    short /= 1000;
    if (short < 999.5) return `${short < 9.95 ? short.toFixed(1) : Math.round(short)}${unit}`;
  }
  return `${Math.round(short)}T`;
}

const two = (value: number): string => String(value).padStart(2, '0');

/** Local wall clock "12:04:31". */
export function clock(wallMs: number): string {
  const at = new Date(wallMs);
  return `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
}

/** Today "12:04:31", earlier "21 Nov 12:04" (both at most 12 columns). */
export function moment(atMs: number, wallMs: number): string {
  const at = new Date(atMs);
  if (!Number.isFinite(at.getTime())) return '-';
  const now = new Date(wallMs);
  const isToday = at.getDate() === now.getDate() && at.getMonth() === now.getMonth() && at.getFullYear() === now.getFullYear();
  if (isToday) return clock(atMs);
  const months = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];
  return `${two(at.getDate())} ${months[at.getMonth()]} ${two(at.getHours())}:${two(at.getMinutes())}`;
}

/** Columns that times of these need: fewer while all are of today. */
export const momentWidth = (atMs: readonly number[], wallMs: number): number =>
  Math.max(8, ...atMs.map((one) => moment(one, wallMs).length));

/** 0.1234 as "12%"; 100% only when it is all, 0% only when it is nothing. */
export function percent(part: number, whole: number): string {
  if (!(whole > 0)) return '-';
  const value = Math.min(100, Math.max(0, (part / whole) * 100));
  const rounded = part >= whole ? 100 : part <= 0 ? 0 : Math.min(99, Math.max(1, Math.round(value)));
  return `${rounded}%`;
}

/** "1 chunk", "3 chunks". */
export const plural = (value: number, noun: string): string => `${count(value)} ${noun}${value === 1 ? '' : 's'}`;
