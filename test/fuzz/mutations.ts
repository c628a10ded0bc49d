/** Turns a value that would be taken into one that a hostile peer could send. */
import type { Random } from '../simulation/random.js';

const LONG = 'A'.repeat(70_000);
/** Own properties of these names, as JSON.parse makes them. */
const POLLUTED = '{"__proto__":{"isAdmin":true,"access":"admin"},"constructor":{"prototype":{"isAdmin":true}}}';

/** JSON of arrays in arrays, deeper than what could be made from a value. */
export const deepText = (levels: number): string => `${'['.repeat(levels)}${']'.repeat(levels)}`;
function deep(levels: number): unknown {
  let value: unknown = 0;
  for (let level = 0; level < levels; level++) value = level % 2 === 0 ? [value] : { a: value };
  return value;
}

const HOSTILE: readonly ((random: Random) => unknown)[] = [
  () => null,
  () => true,
  () => -1,
  () => 0,
  () => 0.5,
  () => 2 ** 31,
  () => 2 ** 52,
  () => 2 ** 53,
  () => Number.MAX_SAFE_INTEGER,
  () => -(2 ** 53),
  () => 1e308,
  () => '',
  () => '.',
  () => '..',
  () => '../../etc/passwd',
  () => 'a/b',
  () => '\0',
  () => '\uFFFD',
  () => '\uD800',
  () => '__proto__',
  () => 'constructor',
  () => 'toString',
  () => '.snapshots',
  () => '.trash',
  () => LONG,
  () => 'é'.repeat(200),
  () => [],
  () => ({}),
  () => ({ length: 1e9 }),
  () => JSON.parse(POLLUTED),
  () => deep(500),
  () => Buffer.alloc(100_000),
  (random) => random.bytes(64),
  () => Array.from({ length: 3000 }, (_, i) => i),
  () => Array.from({ length: 600 }, () => ({ offset: 0, length: 1, chunk: 'f'.repeat(64), chunkOffset: 0 })),
  (random) => random.next32(),
];
export const hostileValue = (random: Random): unknown => random.pick(HOSTILE)(random);

/** Written out it would take no more than this: repetitions of repetitions are built in a moment and would be written out for hours. */
const MOST_PARTS = 300_000;
const MOST_BYTES = 16 * 1024 * 1024;

/** A copy with one to three places changed; the value itself stays as it was. */
export function mutated(value: unknown, random: Random): unknown {
  let result: unknown = value;
  for (let times = 1 + random.int(3); times > 0; times--) {
    const next = mutatedOnce(result, random);
    if (canBeWritten(next)) result = next;
  }
  return result;
}

function canBeWritten(value: unknown): boolean {
  let parts = 0;
  let bytes = 0;
  const open: unknown[] = [value];
  while (open.length > 0) {
    const one = open.pop();
    parts++;
    if (typeof one === 'string' || one instanceof Uint8Array) bytes += one.length;
    else if (typeof one === 'object' && one !== null) for (const part of Object.values(one)) open.push(part);
    if (parts + open.length > MOST_PARTS || bytes > MOST_BYTES) return false;
  }
  return true;
}

function mutatedOnce(value: unknown, random: Random): unknown {
  if (typeof value !== 'object' || value === null || value instanceof Uint8Array || random.chance(0.05)) return hostileValue(random);
  if (Array.isArray(value)) {
    const copy: unknown[] = [...(value as unknown[])];
    if (copy.length === 0 || random.chance(0.2)) return [...copy, hostileValue(random)];
    if (random.chance(0.1)) return Array.from({ length: 2500 }, (_, i) => copy[i % copy.length]);
    const at = random.int(copy.length);
    copy[at] = mutatedOnce(copy[at], random);
    return copy;
  }
  const copy: Record<string, unknown> = { ...(value as Record<string, unknown>) };
  const keys = Object.keys(copy);
  if (keys.length === 0 || random.chance(0.1)) {
    Object.defineProperty(copy, random.pick(['__proto__', 'constructor', 'as', 'volume', 'extra']), {
      ...{ value: hostileValue(random), enumerable: true, configurable: true, writable: true },
    });
    return copy;
  }
  const key = random.pick(keys);
  if (random.chance(0.15)) delete copy[key];
  else copy[key] = mutatedOnce(copy[key], random);
  return copy;
}
