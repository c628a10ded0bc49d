/** How much room several nodes have together. Pure. */
import type { NodeSpace } from './member.js';

export interface NodeRoom {
  readonly space: NodeSpace;
  readonly isWritable: boolean;
}

/**
 * Bytes all of them could hold and still take. Nodes on one file system share its room: however many they are, it counts once.
 * @param nodes those whose room is to be counted; only writable ones have any that is free
 */
export function roomOf(nodes: readonly NodeRoom[]): { totalBytes: number; freeBytes: number } {
  const disks = new Map<string, { totalBytes: number; freeBytes: number; mostTotalBytes: number; mostFreeBytes: number }>();
  for (const [index, { space, isWritable }] of nodes.entries()) {
    const { capacityBytes, freeBytes, disk } = space;
    const key = disk ? `disk ${disk.id}` : `node ${index}`;
    const sum = disks.get(key) ?? { totalBytes: 0, freeBytes: 0, mostTotalBytes: 0, mostFreeBytes: 0 };
    sum.totalBytes += capacityBytes;
    if (isWritable) sum.freeBytes += freeBytes;
    // Each looked at the disk at its own moment: the last look of any of them is near enough.
    sum.mostTotalBytes = Math.max(sum.mostTotalBytes, disk?.capacityBytes ?? capacityBytes);
    sum.mostFreeBytes = Math.max(sum.mostFreeBytes, disk?.freeBytes ?? freeBytes);
    disks.set(key, sum);
  }
  let totalBytes = 0;
  let freeBytes = 0;
  for (const sum of disks.values()) {
    totalBytes += Math.min(sum.totalBytes, sum.mostTotalBytes);
    freeBytes += Math.min(sum.freeBytes, sum.mostFreeBytes);
  }
  return { totalBytes, freeBytes };
}
