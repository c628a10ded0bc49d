/**
 * Memory for the bodies of requests and replies under way: all together, and for one holder of permits, so that who sends slowly, or does not fetch
 * what he asked for, cannot take the room of the others. Beyond it a request is refused as OVERLOADED, which may be repeated; the log has one line a minute.
 */
import type { Environment } from '../protocol/environment.js';
import { HoldfastError } from '../protocol/errors.js';
import type { Permit } from '../protocol/permit.js';
import { Seldom } from '../protocol/seldom.js';

const MAX_BYTES = 256 * 1024 * 1024;
/** More than a mount has under way with one node: eight connections with the largest chunks. */
const MAX_BYTES_OF_ONE = 96 * 1024 * 1024;

export class Shares {
  private bytes = 0;
  private readonly ofHolder = new Map<string, number>();
  private readonly warning: Seldom;
  constructor(
    /** "receiving", for messages. */
    private readonly doing: string,
    private readonly environment: Pick<Environment, 'monotonicMs' | 'log'>,
  ) {
    this.warning = new Seldom(() => environment.monotonicMs());
  }

  /** @returns gives them back, however often it is called. @throws {HoldfastError} OVERLOADED */
  take(permit: Permit, bytes: number): () => void {
    const holder = holderOf(permit);
    const held = this.ofHolder.get(holder) ?? 0;
    if (this.bytes + bytes > MAX_BYTES)
      throw new HoldfastError('OVERLOADED', `this node is ${this.doing} as much as it can: try again shortly`);
    // What the coordinator ordered is bounded by its orders.
    if (held + bytes > MAX_BYTES_OF_ONE && permit.client !== 'coordinator') {
      this.log(holder);
      throw new HoldfastError('OVERLOADED', `this node is ${this.doing} as much of yours as it can: try again when some of it has ended`);
    }
    this.bytes += bytes;
    this.ofHolder.set(holder, held + bytes);
    let isTaken = true;
    return () => {
      if (!isTaken) return;
      isTaken = false;
      this.bytes -= bytes;
      const left = (this.ofHolder.get(holder) ?? 0) - bytes;
      if (left > 0) this.ofHolder.set(holder, left);
      else this.ofHolder.delete(holder);
    };
  }

  private log(holder: string): void {
    if (this.warning.isDue())
      this.environment.log('warn', `one client has more under way than its share of ${this.doing}: the rest is refused`, { holder });
  }
}

/** All mounts by one token are one holder: making up more clients brings nothing. */
const holderOf = ({ client, tags }: Permit): string => tags?.[0] ?? client;
