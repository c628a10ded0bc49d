import { isUtf8 } from 'node:buffer';
import { HoldfastError } from '../protocol/errors.js';
import { MAX_NAME_BYTES } from '../protocol/limits.js';
import { IN_HEADER_BYTES, readI64, readU64 } from './kernel-protocol.js';

/** One request of the kernel. Offsets given to its readers count from the end of the header. */
export class KernelRequest {
  readonly opcode: number;
  /** The kernel's number for this request; the answer repeats it. */
  readonly unique: number;
  /** The node asked about: the inode id, or ROOT_NODE. */
  readonly node: number;
  /** Who asks; another than the kernel says when root is squashed. */
  uid: number;
  gid: number;
  readonly pid: number;
  isAnswered = false;
  #abort: AbortController | undefined;

  constructor(
    readonly bytes: Buffer,
    /** Nobody else will use this memory: what is kept of it needs no copy. */
    readonly ownsBytes = false,
  ) {
    this.opcode = bytes.readUInt32LE(4);
    this.unique = readU64(bytes, 8);
    this.node = readU64(bytes, 16);
    this.uid = bytes.readUInt32LE(24);
    this.gid = bytes.readUInt32LE(28);
    this.pid = bytes.readUInt32LE(32);
  }

  /** Aborted when the caller was interrupted by a signal. */
  get signal(): AbortSignal {
    this.#abort ??= new AbortController();
    return this.#abort.signal;
  }
  interrupt(): void {
    this.#abort?.abort();
  }

  u32(at: number): number {
    return this.bytes.readUInt32LE(IN_HEADER_BYTES + at);
  }
  u64(at: number): number {
    return readU64(this.bytes, IN_HEADER_BYTES + at);
  }
  i64(at: number): number {
    return readI64(this.bytes, IN_HEADER_BYTES + at);
  }
  /** A 64 bit number that is only a name, exactly. */
  token(at: number): string {
    return this.bytes.readBigUInt64LE(IN_HEADER_BYTES + at).toString(16);
  }
  payload(at: number, length?: number): Buffer {
    const from = IN_HEADER_BYTES + at;
    return this.bytes.subarray(from, length === undefined ? undefined : from + length);
  }

  /**
   * The NUL-terminated string at `at` and where the next one starts.
   * @throws EILSEQ when it is not UTF-8: two such names must never become one
   */
  text(at: number): { text: string; next: number } {
    const from = IN_HEADER_BYTES + at;
    let end = this.bytes.indexOf(0, from);
    if (end < 0) end = this.bytes.length;
    const part = this.bytes.subarray(from, end);
    if (!isUtf8(part)) throw new HoldfastError('EILSEQ', 'the name is not UTF-8');
    return { text: part.toString('utf8'), next: end + 1 - IN_HEADER_BYTES };
  }

  /** As `text`, for the name of an entry. The kernel passes more than 255 bytes on. @throws ENAMETOOLONG */
  name(at: number): { text: string; next: number } {
    const found = this.text(at);
    if (found.next - at - 1 > MAX_NAME_BYTES) throw new HoldfastError('ENAMETOOLONG', 'a name may have 255 bytes');
    return found;
  }
}
