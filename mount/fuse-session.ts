/**
 * The conversation with the kernel: INIT, then each request to its operation and the outcome back.
 *
 * Requests run side by side without limit; one that waits (for a lock, for a node) holds up no other. Every request is answered in the end,
 * because every call of the client has a deadline; the exceptions (lock waits, --hard) end when the caller is interrupted.
 */
import { constants, endianness } from 'node:os';
import type { Cluster, Identity } from '../client/api.js';
import type { InodeId } from '../protocol/entities.js';
import { HoldfastError } from '../protocol/errors.js';
import { KernelTimeouts } from './attributes.js';
import { Handles } from './handles.js';
import { HeldLocks } from './held-locks.js';
import { type BindingChannel, KernelChannel } from './kernel-channel.js';
import { InitFlag, InitFlag2, KERNEL_MAJOR, KERNEL_MINOR, MAX_REQUEST_BYTES, Opcode } from './kernel-protocol.js';
import type { KernelRequest } from './kernel-request.js';
import { KnownInodes } from './known-inodes.js';
import { type Answer, KERNEL_CLOCK_MS, type MountState, nodeOfInode, type Operation } from './mount-state.js';
import { operations, unanswered } from './operations/index.js';
import { squash } from './root-squash.js';

export interface FuseSessionOptions {
  readonly isReadOnly: boolean;
  /** Who root is here (root-squash.ts); absent: root. */
  readonly rootIs?: Identity | undefined;
  /** Longest time the kernel may answer attributes and directory names by itself. */
  readonly attributeTimeoutMs: number;
  /** One line per problem that is ours and not the caller's. */
  readonly log: (message: string) => void;
}

/** Read-ahead asked for; the kernel's default of 128 KiB would make each read a small trip. */
const MAX_READAHEAD_BYTES = 4 * 1024 * 1024;
const MAX_BACKGROUND = 64;
const CONGESTION_THRESHOLD = 48;

export class FuseSession {
  #channel: KernelChannel | undefined;
  #mount: MountState | undefined;
  readonly #running = new Map<number, KernelRequest>();
  #isConnected = true;

  constructor(
    private readonly cluster: Cluster,
    private readonly options: FuseSessionOptions,
  ) {
    if (endianness() !== 'LE') throw new HoldfastError('INTERNAL', 'mounting needs a little-endian machine');
    cluster.onConnection((isConnected) => {
      this.#isConnected = isConnected;
    });
  }

  /** What the binding calls (scripts/fuse-native.patch). */
  get receiver(): { readOnly: boolean; opened: (binding: BindingChannel) => void; readable: () => void } {
    return {
      readOnly: this.options.isReadOnly,
      opened: (binding) => this.#opened(binding),
      readable: () => this.#channel?.readable(),
    };
  }

  /** Open files of this mount with their inode, for the last flush. */
  get mount(): MountState | undefined {
    return this.#mount;
  }

  /** Before the binding unmounts. */
  close(): void {
    this.#channel?.close();
  }

  #opened(binding: BindingChannel): void {
    const channel = new KernelChannel(binding, (request) => this.#dispatch(request));
    this.#channel = channel;
    const mount: MountState = {
      cluster: this.cluster,
      kernel: channel,
      timeouts: new KernelTimeouts(this.options.attributeTimeoutMs, () => this.cluster.mayBeKeptMs),
      handles: new Handles(),
      known: new KnownInodes(),
      locks: new HeldLocks(),
      isReadOnly: this.options.isReadOnly,
    };
    this.#mount = mount;
    const { root } = this.cluster.tree;
    this.cluster.onChanged(({ inode, names }) => {
      if (inode !== root && !mount.known.has(inode)) return;
      return dropFromKernel(mount, inode, names ?? []);
    });
  }

  #dispatch(request: KernelRequest): void {
    const mount = this.#mount!;
    if (request.opcode === Opcode.INIT) this.#init(request);
    else if (request.opcode === Opcode.INTERRUPT) this.#interrupt(request.u64(0));
    else if (request.opcode === Opcode.DESTROY) mount.kernel.answer(request, 0);
    else {
      const operation = operations.get(request.opcode);
      const { rootIs } = this.options;
      // What needs no answer needs no permission either.
      const isSquashed = rootIs !== undefined && request.uid === 0 && !unanswered.has(request.opcode);
      if (operation && isSquashed) this.#run(mount, request, (...call) => squash(mount, request, rootIs).then(() => operation(...call)));
      else if (operation) this.#run(mount, request, operation);
      else mount.kernel.answer(request, constants.errno.ENOSYS);
    }
  }

  #run(mount: MountState, request: KernelRequest, operation: Operation): void {
    let outcome: Answer | Promise<Answer>;
    try {
      outcome = operation(mount, request);
    } catch (error) {
      mount.kernel.answer(request, this.#errnoOf(error, request));
      return;
    }
    if (!(outcome instanceof Promise)) {
      if (!unanswered.has(request.opcode)) answerWith(mount, request, outcome);
      return;
    }
    this.#running.set(request.unique, request);
    outcome.then(
      (answer) => {
        this.#running.delete(request.unique);
        answerWith(mount, request, answer);
      },
      (error: unknown) => {
        this.#running.delete(request.unique);
        mount.kernel.answer(request, this.#errnoOf(error, request));
      },
    );
  }

  /** The caller got a signal. Lock waits end; everything else ends soon by itself, unless the coordinator is away. */
  #interrupt(unique: number): void {
    const request = this.#running.get(unique);
    if (!request) return;
    request.interrupt();
    if (!this.#isConnected) this.#mount?.kernel.answer(request, constants.errno.EINTR);
  }

  #init(request: KernelRequest): void {
    const { kernel } = this.#mount!;
    const major = request.u32(0);
    const readaheadOffered = request.u32(8);
    const offered = request.u32(12);
    const offered2 = request.bytes.length >= 40 + 20 ? request.u32(16) : 0;
    const wanted = Object.values(InitFlag).reduce((all, flag) => all | flag, 0);
    const wanted2 = Object.values(InitFlag2).reduce((all, flag) => all | flag, 0);
    const out = Buffer.alloc(64);
    out.writeUInt32LE(KERNEL_MAJOR, 0);
    out.writeUInt32LE(KERNEL_MINOR, 4);
    // A newer kernel says its version first and then asks again with ours.
    if (major !== KERNEL_MAJOR) {
      kernel.answer(request, major > KERNEL_MAJOR ? 0 : constants.errno.EPROTO, out);
      return;
    }
    out.writeUInt32LE(Math.min(readaheadOffered, MAX_READAHEAD_BYTES), 8);
    out.writeUInt32LE((offered & wanted) >>> 0, 12);
    out.writeUInt16LE(MAX_BACKGROUND, 16);
    out.writeUInt16LE(CONGESTION_THRESHOLD, 18);
    out.writeUInt32LE(MAX_REQUEST_BYTES, 20);
    // Nanosecond timestamps.
    out.writeUInt32LE(1, 24);
    out.writeUInt16LE(MAX_REQUEST_BYTES / 4096, 28);
    out.writeUInt32LE((offered2 & wanted2) >>> 0, 32);
    kernel.answer(request, 0, out);
    kernel.initialized();
  }

  #errnoOf(error: unknown, request: KernelRequest): number {
    if (error instanceof HoldfastError) return constants.errno[error.errno as keyof typeof constants.errno] ?? constants.errno.EIO;
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
    this.options.log(`operation ${request.opcode} on inode ${request.node} failed unexpectedly: ${text}`);
    return constants.errno.EIO;
  }
}

/**
 * Somebody else has changed this. The change is acknowledged to them after our answer, and then nobody may find the old state here: so the answer
 * waits until the kernel has dropped attributes and names. It waits for a name only as long as the kernel may keep it at all: the directory's
 * lock, which the kernel takes for that, may be held by a program that waits for the very change we are asked about.
 * Pages are dropped too, for programs that have the file open, but nobody waits for that: each open drops pages of another version by itself.
 */
function dropFromKernel(mount: MountState, inode: InodeId, names: readonly string[]): Promise<void> {
  const { kernel, known, timeouts } = mount;
  const node = nodeOfInode(mount, inode);
  const nowMs = performance.now();
  const dropped = names.filter((name) => known.isNameKept(inode, name, nowMs)).map((name) => kernel.invalidateEntry(node, name));
  dropped.push(kernel.invalidateInode(node, true));
  if (names.length === 0 && known.mayHavePages(inode)) void kernel.invalidateInode(node);
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, timeouts.attributeMs + KERNEL_CLOCK_MS);
    void Promise.all(dropped).then(() => {
      clearTimeout(timer);
      resolve();
    });
  });
}

function answerWith(mount: MountState, request: KernelRequest, answer: Answer): void {
  if (answer === undefined || Buffer.isBuffer(answer)) mount.kernel.answer(request, 0, answer);
  else mount.kernel.answer(request, 0, answer[0], answer[1]);
}
