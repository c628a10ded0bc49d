/**
 * V8 begins a full garbage collection when its old heap has grown by some part since the last one, and buffers count. A program with a heap of 20 MiB
 * through which 100 MB of chunks pass each second would collect eight times a second, for nothing. Here it may grow by a fixed number of bytes.
 */
import { getHeapStatistics, setFlagsFromString } from 'node:v8';

const GROWTH_BYTES = 96 * 1024 * 1024;
/** A heap for which the growth would be less than this has V8's own rule. */
const LEAST_PERCENT = 50;
const LOOK_INTERVAL_MS = 5_000;

/** By how much of itself a heap may grow between two full collections; 0 = as V8 finds right. Pure. @param usedBytes of the heap, without buffers */
export function growthPercent(usedBytes: number): number {
  const percent = Math.floor((GROWTH_BYTES * 100) / Math.max(1, usedBytes));
  return percent < LEAST_PERCENT ? 0 : Math.min(percent, 1000);
}

/** For the life of the process. A flag V8 does not know (any more) is told on stderr and changes nothing. */
export function letSmallHeapGrow(): void {
  let last = -1;
  const look = (): void => {
    const percent = growthPercent(getHeapStatistics().used_heap_size);
    // The heap's size moves all the time.
    if (last >= 0 && Math.abs(percent - last) <= last / 4) return;
    last = percent;
    setFlagsFromString(`--heap-growing-percent=${percent}`);
  };
  look();
  setInterval(look, LOOK_INTERVAL_MS).unref();
}
