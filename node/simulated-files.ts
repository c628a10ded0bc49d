/**
 * A disk in memory that is as unkind as the rules allow, for tests of the order of durability. Content is stable only after fdatasync, names only
 * after syncDirectory; a power loss keeps or loses everything else as `chance` decides, piece by piece. A failing fdatasync loses the dirty
 * bytes AND says yes the next time, as Linux may.
 */
import { constants } from 'node:buffer';
import type { DiskFiles } from './disk-files.js';

interface Inode {
  volatile: Buffer;
  stable: Buffer;
  isLying?: boolean;
}
interface Directory {
  volatile: Map<string, Inode>;
  stable: Map<string, Inode>;
}

const fault = (code: string): Error => Object.assign(new Error(`simulated ${code}`), { code });

export class SimulatedFiles implements DiskFiles {
  /** Called before each step with its name; throw to fail it. */
  onStep: ((step: keyof DiskFiles, path: string) => void) | undefined;
  freeBytes: number = constants.MAX_LENGTH;
  /** Steps done, for tests that look at their order. */
  readonly trace: string[] = [];
  private directories = new Map<string, Directory>();
  private open_ = new Map<number, { inode: Inode; path: string }>();
  private nextFd = 3;

  /** The machine loses power. Open descriptors are gone; `chance` says for each thing not yet stable whether it made it. */
  powerLoss(chance: () => boolean): void {
    this.open_.clear();
    const seen = new Set<Inode>();
    for (const directory of this.directories.values()) {
      const names = new Set([...directory.volatile.keys(), ...directory.stable.keys()]);
      const after = new Map<string, Inode>();
      for (const name of names) {
        const now = directory.volatile.get(name);
        const before = directory.stable.get(name);
        const inode = now === before || chance() ? now : before;
        if (!inode) continue;
        after.set(name, inode);
        if (seen.has(inode) || inode.volatile === inode.stable) continue;
        seen.add(inode);
        const fate = chance() ? 'lost' : chance() ? 'zeros' : 'kept';
        if (fate === 'lost') inode.volatile = inode.stable;
        // The length made it but the bytes did not: the classic zero-filled file.
        const growth = Math.max(0, inode.volatile.length - inode.stable.length);
        if (fate === 'zeros') inode.volatile = Buffer.concat([inode.stable, Buffer.alloc(growth)]);
        inode.stable = inode.volatile;
      }
      directory.volatile = after;
      directory.stable = new Map(after);
    }
    for (const directory of this.directories.values()) for (const inode of directory.volatile.values()) inode.stable = inode.volatile;
  }

  async open(path: string, flags: string | number): Promise<number> {
    this.step('open', path);
    const { directory, name } = this.place(path);
    let inode = directory.volatile.get(name);
    const isMaking = String(flags).startsWith('w');
    if (!inode && !isMaking) throw fault('ENOENT');
    if (inode && String(flags).includes('x')) throw fault('EEXIST');
    if (!inode) {
      inode = { volatile: Buffer.alloc(0), stable: Buffer.alloc(0) };
      directory.volatile.set(name, inode);
    } else if (isMaking) inode.volatile = Buffer.alloc(0);
    const fd = this.nextFd++;
    this.open_.set(fd, { inode, path });
    return fd;
  }
  async close(fd: number): Promise<void> {
    if (!this.open_.delete(fd)) throw fault('EBADF');
  }
  async read(fd: number, length: number, position: number): Promise<Buffer> {
    const { inode, path } = this.at(fd);
    this.step('read', path);
    return Buffer.from(inode.volatile.subarray(position, position + length));
  }
  async write(fd: number, parts: readonly Buffer[], position: number): Promise<void> {
    const { inode, path } = this.at(fd);
    const bytes = Buffer.concat(parts);
    if (bytes.length > this.freeBytes) throw fault('ENOSPC');
    this.step('write', path);
    const before = inode.volatile;
    const after = Buffer.alloc(Math.max(before.length, position + bytes.length));
    before.copy(after);
    bytes.copy(after, position);
    inode.volatile = after;
    this.freeBytes -= bytes.length;
  }
  async fdatasync(fd: number): Promise<void> {
    const { inode, path } = this.at(fd);
    try {
      this.step('fdatasync', path);
    } catch (error) {
      // The kernel marks the pages clean although they never reached the disk: from now on it says yes and means nothing.
      inode.isLying = true;
      throw error;
    }
    if (!inode.isLying) inode.stable = inode.volatile;
  }
  async syncDirectory(path: string): Promise<void> {
    this.step('syncDirectory', path);
    const directory = this.directory(path);
    directory.stable = new Map(directory.volatile);
  }
  async rename(from: string, to: string): Promise<void> {
    this.step('rename', to);
    const source = this.place(from);
    const target = this.place(to);
    const inode = source.directory.volatile.get(source.name);
    if (!inode) throw fault('ENOENT');
    source.directory.volatile.delete(source.name);
    target.directory.volatile.set(target.name, inode);
  }
  async unlink(path: string): Promise<void> {
    this.step('unlink', path);
    const { directory, name } = this.place(path);
    const inode = directory.volatile.get(name);
    if (!inode) throw fault('ENOENT');
    directory.volatile.delete(name);
    this.freeBytes += inode.volatile.length;
  }
  async mkdir(path: string): Promise<void> {
    // Directories are made once, at the first start; what is tested here is files.
    if (!this.directories.has(path)) this.directories.set(path, { volatile: new Map(), stable: new Map() });
  }
  async readdir(path: string): Promise<string[]> {
    const below = [...this.directories.keys()].filter((other) => other.startsWith(`${path}/`)).map((other) => other.slice(path.length + 1));
    return [...below.filter((name) => !name.includes('/')), ...this.directory(path).volatile.keys()];
  }
  async sizeOf(path: string): Promise<number> {
    const { directory, name } = this.place(path);
    const inode = directory.volatile.get(name);
    if (!inode) throw fault('ENOENT');
    return inode.volatile.length;
  }
  async truncate(fd: number, length: number): Promise<void> {
    const { inode } = this.at(fd);
    inode.volatile = inode.volatile.subarray(0, length);
  }
  async statfs(): Promise<{ freeBytes: number; totalBytes: number; freeInodes: number; totalInodes: number }> {
    return { freeBytes: this.freeBytes, totalBytes: constants.MAX_LENGTH, freeInodes: 1e9, totalInodes: 1e9 };
  }

  private step(step: keyof DiskFiles, path: string): void {
    this.trace.push(`${step} ${path}`);
    this.onStep?.(step, path);
  }
  private at(fd: number): { inode: Inode; path: string } {
    const file = this.open_.get(fd);
    if (!file) throw fault('EBADF');
    return file;
  }
  private directory(path: string): Directory {
    const directory = this.directories.get(path);
    if (!directory) throw fault('ENOENT');
    return directory;
  }
  private place(path: string): { directory: Directory; name: string } {
    const cut = path.lastIndexOf('/');
    return { directory: this.directory(path.slice(0, cut)), name: path.slice(cut + 1) };
  }
}
