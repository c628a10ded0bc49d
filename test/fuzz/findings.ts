/** What a fuzzer found: a reply that may not be. Each says how to meet it again. */
import { errorFacts, HoldfastError } from '../../protocol/errors.js';
import { Random } from '../simulation/random.js';

const MOST_KEPT = 20;
const SHOWN_CHARACTERS = 600;

/** In names and contents of somebody else's files; in no reply may it ever be. */
export const FOREIGN_MARKER = 'do-not-show-8f1e6c';

export class Findings {
  readonly list: string[] = [];
  /** By what was sent: how often, and how often it was answered with a value. */
  readonly sent = new Map<string, { times: number; taken: number }>();
  constructor(readonly seed: number) {}

  /** A stream of chance for each lane, the same for the same seed whatever the other lanes do. */
  random(lane: string): Random {
    let mixed = this.seed;
    for (const character of lane) mixed = Math.imul(mixed ^ character.charCodeAt(0), 0x01000193) >>> 0;
    return new Random(mixed);
  }
  add(lane: string, what: string, sent: unknown): void {
    if (this.list.length >= MOST_KEPT) return;
    this.list.push(`seed ${this.seed}, ${lane}: ${what}; sent: ${shown(sent)}`);
  }
  count(what: string, isTaken: boolean): void {
    const before = this.sent.get(what) ?? { times: 0, taken: 0 };
    this.sent.set(what, { times: before.times + 1, taken: before.taken + (isTaken ? 1 : 0) });
  }
  get total(): number {
    let total = 0;
    for (const { times } of this.sent.values()) total += times;
    return total;
  }

  /** How many kinds of what was sent were answered with a value. */
  get kindsTaken(): number {
    return [...this.sent.values()].filter(({ taken }) => taken > 0).length;
  }

  /** A value that came back. */
  value(lane: string, value: unknown, sent: unknown): void {
    if (value === undefined) this.add(lane, 'an answer without a value', sent);
    else if (holdsMarker(value)) this.add(lane, "shows somebody else's data", sent);
  }
  /** An error that came back. @returns true when the connection is over */
  error(lane: string, error: unknown, sent: unknown): boolean {
    if (!(error instanceof HoldfastError)) {
      this.add(lane, `the fuzzer itself failed: ${error instanceof Error ? error.stack : String(error)}`, sent);
      return true;
    }
    if (error.code === 'INTERNAL') this.add(lane, `a handler failed: ${error.message}`, sent);
    if (error.code === 'DEADLINE') this.add(lane, 'no answer', sent);
    if (holdsMarker([error.message, error.facts])) this.add(lane, "an error shows somebody else's data", sent);
    return error.code === 'UNREACHABLE' || error.code === 'DEADLINE' || error.code === 'UNAUTHORIZED';
  }
}

export const isKnownError = (code: unknown): boolean => typeof code === 'string' && Object.hasOwn(errorFacts, code) && code !== 'INTERNAL';

export function holdsMarker(value: unknown): boolean {
  if (value instanceof Uint8Array) return Buffer.from(value).includes(FOREIGN_MARKER);
  if (typeof value === 'string') return value.includes(FOREIGN_MARKER);
  if (typeof value !== 'object' || value === null) return false;
  return Object.entries(value).some(([key, one]) => key.includes(FOREIGN_MARKER) || holdsMarker(one));
}

function shown(value: unknown): string {
  let text: string;
  try {
    text = typeof value === 'string' ? value : (JSON.stringify(value) ?? String(value));
  } catch {
    text = String(value);
  }
  return text.length > SHOWN_CHARACTERS ? `${text.slice(0, SHOWN_CHARACTERS)}... (${text.length} characters)` : text;
}
