/**
 * Which inodes are young, without a time in every row: numbers of inodes only grow, so what the counter was some time ago tells who is younger. After a
 * start nothing is known of what was there before; it counts as old.
 */
import type { InodeId } from '../protocol/entities.js';
import { INODE_COUNTER } from './file-tree.js';
import { numberSetting, type State } from './state.js';

/** As exact as this has to be. */
const SAMPLES = 30;

export class InodeAges {
  /** The last inode there was at a time; the first is the newest that is older than `youngMs`, or the start. */
  private samples: { readonly atMs: number; readonly last: InodeId }[];

  constructor(
    private readonly state: State,
    private readonly monotonicMs: () => number,
    private readonly youngMs: number,
  ) {
    this.samples = [{ atMs: monotonicMs(), last: numberSetting(state, INODE_COUNTER) }];
  }

  look(): void {
    const nowMs = this.monotonicMs();
    const newest = this.samples.at(-1);
    if (newest && nowMs - newest.atMs < this.youngMs / SAMPLES) return;
    this.samples.push({ atMs: nowMs, last: numberSetting(this.state, INODE_COUNTER) });
    let first = 0;
    while (first + 1 < this.samples.length && nowMs - (this.samples[first + 1]?.atMs ?? nowMs) >= this.youngMs) first++;
    if (first > 0) this.samples = this.samples.slice(first);
  }

  /** Made less than `youngMs` ago. */
  isYoung(inode: InodeId): boolean {
    return inode > (this.samples[0]?.last ?? 0);
  }
}
