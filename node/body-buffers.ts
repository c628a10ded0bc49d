/**
 * Memory for large request bodies, used again and again: fresh memory of this size costs page faults each time and brings the collector, which
 * together cost a node more than hashing what it stores.
 */
const UNIT_BYTES = 256 * 1024;
/** Kept for the next bodies; what is given back beyond it goes to the collector. */
const MAX_KEPT_BYTES = 16 * 1024 * 1024;

export class BodyBuffers {
  /** By capacity. */
  private readonly free = new Map<number, ArrayBuffer[]>();
  private keptBytes = 0;

  /** Exactly this long; holds anything. */
  take(lengthBytes: number): Buffer {
    if (lengthBytes < UNIT_BYTES) return Buffer.allocUnsafe(lengthBytes);
    const capacity = Math.ceil(lengthBytes / UNIT_BYTES) * UNIT_BYTES;
    const kept = this.free.get(capacity)?.pop();
    if (kept) this.keptBytes -= capacity;
    return Buffer.from(kept ?? (Buffer.allocUnsafeSlow(capacity).buffer as ArrayBuffer), 0, lengthBytes);
  }

  /** Nobody looks at this buffer, or at a part of it, from now on. */
  giveBack(buffer: Buffer): void {
    if (buffer.length < UNIT_BYTES) return;
    const memory = buffer.buffer as ArrayBuffer;
    if (this.keptBytes + memory.byteLength > MAX_KEPT_BYTES) return;
    this.keptBytes += memory.byteLength;
    const list = this.free.get(memory.byteLength);
    if (list) list.push(memory);
    else this.free.set(memory.byteLength, [memory]);
  }
}
