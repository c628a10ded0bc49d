/**
 * /dev/fuse through the binding: one request at a time in, answers out, and notifications to the kernel.
 *
 * Reading and answering happen on the JavaScript thread: neither ever blocks. Notifications do (the kernel waits for page and directory
 * locks that may be held by calls we have yet to answer), so they are written one at a time from the thread pool; otherwise the
 * mount would wait for itself.
 */
import { close, write } from 'node:fs';
import { constants } from 'node:os';
import { Notify, OUT_HEADER_BYTES, REQUEST_BUFFER_BYTES, writeI64, writeU64 } from './kernel-protocol.js';
import { KernelRequest } from './kernel-request.js';

/** What the patched binding hands to `kernelChannel.opened` (scripts/fuse-native.patch). */
export interface BindingChannel {
  /** A duplicate of the descriptor that we must close. */
  readonly notifyFd: number;
  /** Length of the request, or minus an errno. */
  read(buffer: Buffer): number;
  write(head: Buffer, tail?: Buffer): number;
  initialized(): void;
  ended(): void;
}

const { EAGAIN, ENODEV } = constants.errno;
/** Requests taken before timers and sockets get their turn. */
const REQUESTS_PER_TURN = 64;
/** Larger requests keep the buffer they were read into; smaller ones are copied out of it. */
const COPY_BELOW_BYTES = 32 * 1024;

export class KernelChannel {
  #scratch = Buffer.allocUnsafeSlow(REQUEST_BUFFER_BYTES);
  #isOpen = true;
  /** Attributes: the kernel takes them without waiting for anybody. */
  readonly #quick: NotificationLane;
  /** Pages and names: the kernel may wait for a lock whose holder waits for us. */
  readonly #patient: NotificationLane;

  constructor(
    private readonly binding: BindingChannel,
    private readonly onRequest: (request: KernelRequest) => void,
  ) {
    const idle = (): void => this.#closeNotifyFd();
    this.#quick = new NotificationLane(binding.notifyFd, idle);
    this.#patient = new NotificationLane(binding.notifyFd, idle);
  }

  /** Takes what waits. Called when the descriptor is readable, and with an error status when the connection ended. */
  readable(): void {
    for (let taken = 0; taken < REQUESTS_PER_TURN && this.#isOpen; taken++) {
      const length = this.binding.read(this.#scratch);
      if (length < 0) {
        if (length === -EAGAIN) return;
        // ENODEV: unmounted. Anything else is as final: the descriptor is unusable.
        this.close();
        if (length !== -ENODEV) process.emitWarning(`reading /dev/fuse failed with errno ${-length}; the mount ends`);
        this.binding.ended();
        return;
      }
      const isLarge = length >= COPY_BELOW_BYTES;
      let bytes: Buffer;
      if (!isLarge) {
        bytes = Buffer.from(this.#scratch.subarray(0, length));
      } else {
        bytes = this.#scratch.subarray(0, length);
        this.#scratch = Buffer.allocUnsafeSlow(REQUEST_BUFFER_BYTES);
      }
      this.onRequest(new KernelRequest(bytes, isLarge));
    }
  }

  /** The kernel has our answer to INIT: the mount can be used. */
  initialized(): void {
    this.binding.initialized();
  }

  /** Answers a request with success and up to two pieces, or with an errno (positive). A caller that is gone is no error. */
  answer(request: KernelRequest, errno: number, head?: Buffer, tail?: Buffer): void {
    if (request.isAnswered || !this.#isOpen) return;
    request.isAnswered = true;
    const headBytes = head?.length ?? 0;
    const out = Buffer.allocUnsafe(OUT_HEADER_BYTES + headBytes);
    out.writeUInt32LE(OUT_HEADER_BYTES + headBytes + (tail?.length ?? 0), 0);
    out.writeInt32LE(-errno, 4);
    writeU64(out, 8, request.unique);
    head?.copy(out, OUT_HEADER_BYTES);
    const written = tail && tail.length > 0 ? this.binding.write(out, tail) : this.binding.write(out);
    if (written === -constants.errno.EINVAL || written === -constants.errno.EFAULT) {
      // Our answer made no sense to the kernel. The caller must not wait for ever.
      process.emitWarning(`the kernel refused the answer to operation ${request.opcode} (errno ${-written})`);
      const failure = Buffer.alloc(OUT_HEADER_BYTES);
      failure.writeUInt32LE(OUT_HEADER_BYTES, 0);
      failure.writeInt32LE(-constants.errno.EIO, 4);
      writeU64(failure, 8, request.unique);
      this.binding.write(failure);
    }
  }

  /** Drops the attributes the kernel holds of a node and, unless `attributesOnly`, its pages. Resolves when it is done. */
  invalidateInode(node: number, attributesOnly = false): Promise<void> {
    const body = Buffer.alloc(24);
    writeU64(body, 0, node);
    writeI64(body, 8, attributesOnly ? -1 : 0);
    return this.#notify(attributesOnly ? this.#quick : this.#patient, `i${node}`, Notify.INVALIDATE_INODE, body);
  }

  /** Drops what the kernel knows of one name. Resolves when it is done. */
  invalidateEntry(parentNode: number, name: string): Promise<void> {
    const nameBytes = Buffer.from(name, 'utf8');
    const body = Buffer.alloc(16 + nameBytes.length + 1);
    writeU64(body, 0, parentNode);
    body.writeUInt32LE(nameBytes.length, 8);
    nameBytes.copy(body, 16);
    return this.#notify(this.#patient, `e${parentNode}/${name}`, Notify.INVALIDATE_ENTRY, body);
  }

  #notify(lane: NotificationLane, key: string, code: number, body: Buffer): Promise<void> {
    if (!this.#isOpen) return Promise.resolve();
    const message = Buffer.alloc(OUT_HEADER_BYTES + body.length);
    message.writeUInt32LE(message.length, 0);
    message.writeInt32LE(code, 4);
    body.copy(message, OUT_HEADER_BYTES);
    return lane.send(key, message);
  }

  #isNotifyFdClosed = false;
  #closeNotifyFd(): void {
    if (this.#isNotifyFdClosed || this.#isOpen || !this.#quick.isIdle || !this.#patient.isIdle) return;
    this.#isNotifyFdClosed = true;
    close(this.binding.notifyFd, () => {});
  }

  /** No more requests, answers or notifications. */
  close(): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    this.#quick.stop();
    this.#patient.stop();
    this.#closeNotifyFd();
  }
}

/** Notifications, one at a time and in order. Those of the same thing that wait together are sent once. */
class NotificationLane {
  #waiting = new Map<string, { message: Buffer; done: (() => void)[] }>();
  #isSending = false;

  constructor(
    private readonly fd: number,
    private readonly onIdle: () => void,
  ) {}

  get isIdle(): boolean {
    return !this.#isSending && this.#waiting.size === 0;
  }

  send(key: string, message: Buffer): Promise<void> {
    return new Promise((resolve) => {
      const same = this.#waiting.get(key);
      if (same) {
        same.done.push(resolve);
        return;
      }
      this.#waiting.set(key, { message, done: [resolve] });
      this.#next();
    });
  }

  /** What waits is not sent any more. */
  stop(): void {
    for (const { done } of this.#waiting.values()) for (const resolve of done) resolve();
    this.#waiting.clear();
  }

  #next(): void {
    if (this.#isSending) return;
    const first = this.#waiting.entries().next();
    if (first.done) {
      this.onIdle();
      return;
    }
    const [key, { message, done }] = first.value;
    // Out of the map before it is sent: a change from now on needs a notification of its own.
    this.#waiting.delete(key);
    this.#isSending = true;
    // An error only says that the kernel knew nothing of it, or that the mount is gone.
    write(this.fd, message, () => {
      this.#isSending = false;
      for (const resolve of done) resolve();
      this.#next();
    });
  }
}
