/** Reading directories, with or without the attributes of each entry. */
import type { InodeAttributes, InodeId } from '../../protocol/entities.js';
import { direntType } from '../attributes.js';
import { DirectoryListing } from '../directory-listing.js';
import { align8, DIRENT_HEADER_BYTES, ENTRY_BYTES, writeU64 } from '../kernel-protocol.js';
import type { KernelRequest } from '../kernel-request.js';
import { type Answer, inodeOfNode, type MountState, nodeOfInode, toldKernel } from '../mount-state.js';

const OPEN_OUT_BYTES = 16;

/** opendir(3). */
export function opendir(mount: MountState, request: KernelRequest): Answer {
  const out = Buffer.alloc(OPEN_OUT_BYTES);
  writeU64(out, 0, mount.handles.addDirectory(new DirectoryListing(mount.cluster.tree, inodeOfNode(mount, request.node))));
  return out;
}

export function releasedir(mount: MountState, request: KernelRequest): Answer {
  mount.handles.removeDirectory(request.u64(0));
  return undefined;
}

/** fsync(2) of a directory: every change of names acknowledged so far is on stable storage. */
export async function fsyncdir(mount: MountState): Promise<Answer> {
  await mount.cluster.syncTree();
  return undefined;
}

/** getdents(2). Entries made or removed meanwhile may or may not be seen; all others are seen once. */
export function readdir(mount: MountState, request: KernelRequest): Promise<Answer> {
  return list(mount, request, false);
}

/** getdents(2) when the kernel expects that the entries will be looked at: the same with attributes, which spares a lookup each. */
export function readdirplus(mount: MountState, request: KernelRequest): Promise<Answer> {
  return list(mount, request, true);
}

/** Bytes an entry with a name of ordinary length takes in the answer: how many to ask for. */
const TYPICAL_ENTRY_BYTES = 48;
const MIN_ENTRIES = 64;
const MAX_ENTRIES = 1000;

async function list(mount: MountState, request: KernelRequest, withAttributes: boolean): Promise<Answer> {
  const listing = mount.handles.directory(request.u64(0));
  let position = request.u64(8);
  const out = new DirectoryAnswer(mount, listing.inode, request.u32(16), withAttributes);
  if (position === 0) {
    listing.rewind();
    out.addDot('.', listing.inode, 1);
    position = 1;
  }
  if (position === 1) {
    out.addDot('..', listing.inode, 2);
    position = 2;
  }
  const perEntry = TYPICAL_ENTRY_BYTES + (withAttributes ? ENTRY_BYTES : 0);
  const limit = Math.max(MIN_ENTRIES, Math.min(MAX_ENTRIES, Math.floor(request.u32(16) / perEntry)));
  const { entries, isFresh } = await listing.entriesFrom(position - 2, limit).catch((error: unknown) => {
    // A removed directory in which somebody still stands has no entries.
    if (mount.known.removed(listing.inode)) return { entries: [], isFresh: false };
    throw error;
  });
  for (const entry of entries) {
    position++;
    if (!out.add(entry.name, entry.attributes, position, isFresh)) break;
  }
  return out.bytes();
}

class DirectoryAnswer {
  readonly #out: Buffer;
  #length = 0;

  constructor(
    private readonly mount: MountState,
    private readonly directory: InodeId,
    sizeBytes: number,
    private readonly withAttributes: boolean,
  ) {
    this.#out = Buffer.alloc(Math.min(sizeBytes, 1024 * 1024));
  }

  addDot(name: '.' | '..', inode: number, next: number): void {
    const at = this.#room(name);
    if (at !== undefined) this.#writeDirent(at, inode, 4, name, next);
  }

  /** False when the answer is full. */
  add(name: string, attributes: InodeAttributes, next: number, isFresh: boolean): boolean {
    const at = this.#room(name);
    if (at === undefined) return false;
    // Attributes from an earlier call, or of a file with unsaved data here, could overwrite newer ones the kernel has: then only the name.
    if (this.withAttributes && isFresh && !this.mount.handles.isOpen(attributes.inode)) {
      toldKernel(this.mount, attributes, this.directory, name);
      this.mount.timeouts.writeEntry(this.#out, at - ENTRY_BYTES, nodeOfInode(this.mount, attributes.inode), attributes);
    }
    this.#writeDirent(at, attributes.inode, direntType(attributes.kind), name, next);
    return true;
  }

  /** Where the dirent of this name goes, with room for the entry before it; undefined when it does not fit. */
  #room(name: string): number | undefined {
    const before = this.withAttributes ? ENTRY_BYTES : 0;
    const total = before + align8(DIRENT_HEADER_BYTES + Buffer.byteLength(name));
    if (this.#length + total > this.#out.length) return undefined;
    const at = this.#length + before;
    this.#length += total;
    return at;
  }

  #writeDirent(at: number, inode: number, type: number, name: string, next: number): void {
    writeU64(this.#out, at, inode);
    writeU64(this.#out, at + 8, next);
    this.#out.writeUInt32LE(this.#out.write(name, at + DIRENT_HEADER_BYTES, 'utf8'), at + 16);
    this.#out.writeUInt32LE(type, at + 20);
  }

  bytes(): Buffer {
    return this.#out.subarray(0, this.#length);
  }
}
