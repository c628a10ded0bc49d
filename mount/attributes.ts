/** Inode attributes in the kernel's form, and how long the kernel may keep them. */
import type { InodeAttributes, InodeId, InodeKind } from '../protocol/entities.js';
import { ATTRIBUTES_BYTES, ENTRY_BYTES, Mode, ROOT_NODE, writeI64, writeU64 } from './kernel-protocol.js';

const typeBits: Record<InodeKind, number> = {
  file: Mode.FILE,
  directory: Mode.DIRECTORY,
  symlink: Mode.SYMLINK,
  fifo: Mode.FIFO,
  socket: Mode.SOCKET,
  char: Mode.CHAR,
  block: Mode.BLOCK,
};
/** The d_type of a directory entry. */
export const direntType = (kind: InodeKind): number => typeBits[kind] >> 12;

export function kindOf(mode: number): InodeKind | undefined {
  const type = mode & Mode.TYPE;
  if (type === 0) return 'file';
  return (Object.keys(typeBits) as InodeKind[]).find((kind) => typeBits[kind] === type);
}

/** What programs are told as the best size of a read or write. */
const PREFERRED_IO_BYTES = 128 * 1024;

function writeAttributes(out: Buffer, at: number, attributes: InodeAttributes): void {
  writeU64(out, at, attributes.inode);
  writeU64(out, at + 8, attributes.sizeBytes);
  writeU64(out, at + 16, Math.ceil(attributes.allocatedBytes / 512));
  writeI64(out, at + 24, attributes.atimeS);
  writeI64(out, at + 32, attributes.mtimeS);
  writeI64(out, at + 40, attributes.ctimeS);
  out.writeUInt32LE(attributes.atimeNs, at + 48);
  out.writeUInt32LE(attributes.mtimeNs, at + 52);
  out.writeUInt32LE(attributes.ctimeNs, at + 56);
  out.writeUInt32LE(typeBits[attributes.kind] | attributes.mode, at + 60);
  out.writeUInt32LE(attributes.nlink, at + 64);
  out.writeUInt32LE(attributes.uid, at + 68);
  out.writeUInt32LE(attributes.gid, at + 72);
  out.writeUInt32LE(attributes.rdev, at + 76);
  out.writeUInt32LE(PREFERRED_IO_BYTES, at + 80);
  out.writeUInt32LE(0, at + 84);
}

/**
 * How long the kernel may answer by itself. Attributes and the names of directories: `attributeMs` at most, and less when somebody changes
 * them, for then we tell it. Names of files: never. Each open or stat of a file by path asks us again (which costs no trip to
 * the coordinator), so a file replaced on another mount is seen at the next open without any window.
 */
export class KernelTimeouts {
  /** @param mayBeKeptMs how long an answer given now counts at all */
  constructor(
    readonly attributeMs: number,
    private readonly mayBeKeptMs: () => number,
  ) {}
  get nowMs(): number {
    return Math.max(0, Math.floor(Math.min(this.attributeMs, this.mayBeKeptMs())));
  }

  /** fuse_attr_out */
  attributesReply(attributes: InodeAttributes): Buffer {
    const out = Buffer.allocUnsafe(16 + ATTRIBUTES_BYTES);
    const keptMs = this.nowMs;
    writeU64(out, 0, Math.floor(keptMs / 1000));
    out.writeUInt32LE((keptMs % 1000) * 1e6, 8);
    out.writeUInt32LE(0, 12);
    writeAttributes(out, 16, attributes);
    return out;
  }

  /** fuse_entry_out at `at`. */
  writeEntry(out: Buffer, at: number, node: number, attributes: InodeAttributes): void {
    const keptMs = this.nowMs;
    const seconds = Math.floor(keptMs / 1000);
    const nanoseconds = (keptMs % 1000) * 1e6;
    const keepsName = attributes.kind === 'directory';
    writeU64(out, at, node);
    writeU64(out, at + 8, 0);
    writeU64(out, at + 16, keepsName ? seconds : 0);
    writeU64(out, at + 24, seconds);
    out.writeUInt32LE(keepsName ? nanoseconds : 0, at + 32);
    out.writeUInt32LE(nanoseconds, at + 36);
    writeAttributes(out, at + 40, attributes);
  }

  entryReply(node: number, attributes: InodeAttributes): Buffer {
    const out = Buffer.allocUnsafe(ENTRY_BYTES);
    this.writeEntry(out, 0, node, attributes);
    return out;
  }
}

/** The kernel calls the root 1, whatever its inode id is; all other nodes go by their inode id. */
export const nodeOf = (root: InodeId, inode: InodeId): number => (inode === root ? ROOT_NODE : inode);
export const inodeOf = (root: InodeId, node: number): InodeId => (node === ROOT_NODE ? root : node);
