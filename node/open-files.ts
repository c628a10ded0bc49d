/** Keeps recently read chunk files open: a leaf read is then one system call instead of three. */
import type { ChunkId } from '../protocol/entities.js';
import type { DiskFiles } from './disk-files.js';

interface OpenFile {
  readonly fd: Promise<number>;
  users: number;
  isDropped: boolean;
}

export class OpenFiles {
  private readonly byChunk = new Map<ChunkId, OpenFile>();
  constructor(
    private readonly files: DiskFiles,
    private readonly pathOf: (id: ChunkId) => string,
    private readonly maxOpen: number,
  ) {}

  /** Runs `use` with a descriptor that stays valid meanwhile, even when the file is removed or replaced. */
  async use<T>(id: ChunkId, use: (fd: number) => Promise<T>): Promise<T> {
    let file = this.byChunk.get(id);
    if (file) {
      // To the young end: a Map keeps the order of insertion.
      this.byChunk.delete(id);
      this.byChunk.set(id, file);
    } else {
      file = { fd: this.files.open(this.pathOf(id), 'r'), users: 0, isDropped: false };
      this.byChunk.set(id, file);
      if (this.byChunk.size > this.maxOpen) this.drop(this.byChunk.keys().next().value!);
    }
    file.users++;
    let isBroken = false;
    try {
      return await use(await file.fd);
    } catch (error) {
      isBroken = true;
      throw error;
    } finally {
      file.users--;
      if (isBroken && this.byChunk.get(id) === file) this.drop(id);
      else if (file.isDropped && file.users === 0) this.release(file);
    }
  }

  /** The file under this name is another one now, or none. */
  drop(id: ChunkId): void {
    const file = this.byChunk.get(id);
    if (!file) return;
    this.byChunk.delete(id);
    file.isDropped = true;
    if (file.users === 0) this.release(file);
  }

  dropAll(): void {
    for (const id of [...this.byChunk.keys()]) this.drop(id);
  }

  private release(file: OpenFile): void {
    // Nothing depends on this close: the descriptor was for reading only.
    file.fd.then((fd) => this.files.close(fd)).catch(() => {});
  }
}
