/**
 * A program that does everything in a directory of its own: creates, writes, overwrites, truncates, renames, links, copies, deletes; moves from one
 * client to the other; reads its files through the other one. It knows exactly what must be there.
 */
import type { FileHandle } from '../../client/api.js';
import type { InodeId } from '../../protocol/entities.js';
import { HoldfastError } from '../../protocol/errors.js';
import { FileModel } from './file-model.js';
import { type ClientSeat, listAll, Program, ROOT_IDENTITY, readFileAt, readWhole, removeContent, type Surroundings } from './program.js';
import {
  type ChangeOf,
  childrenOf,
  exchange,
  move,
  nameOf,
  parentOf,
  put,
  remove,
  removeDirectory,
  type Tree,
  TreeModel,
  type TreeNode,
  treeText,
} from './tree-model.js';

interface OpenFile {
  readonly handle: FileHandle;
  readonly seat: ClientSeat;
  readonly life: number;
}
/** What was found at a path. */
interface Found {
  readonly kind: string;
  readonly inode: InodeId;
  readonly nlink: number;
  readonly sizeBytes: number;
  /** Files; an error when it cannot be read. */
  readonly content?: Buffer | HoldfastError;
  readonly target?: string | undefined;
}

const operationWeights = {
  create: 10,
  write: 14,
  append: 6,
  overwrite: 8,
  truncate: 4,
  punch: 2,
  flush: 8,
  sync: 6,
  release: 5,
  readOpen: 6,
  readElsewhere: 8,
  rename: 6,
  exchange: 2,
  link: 3,
  unlink: 8,
  makeDirectory: 2,
  removeDirectory: 2,
  symlink: 1,
  copyRange: 4,
  list: 3,
  syncTree: 2,
  wrong: 3,
  move: 1,
  saveWhole: 8,
};
type Operation = keyof typeof operationWeights;

export class TreeProgram extends Program {
  private readonly tree = new TreeModel();
  private readonly open = new Map<FileModel, OpenFile>();
  /** Files that may have lost bytes that nobody was promised to keep. */
  private readonly excused = new Set<FileModel>();
  private home: ClientSeat;
  private readonly directory: string;

  constructor(name: string, around: Surroundings) {
    super(name, around);
    this.directory = `/${name}`;
    this.home = this.random.pick(around.clients);
  }

  protected override get mayBeUndone(): boolean {
    return this.tree.hasLostPower;
  }
  override get isWaiting(): boolean {
    return this.tree.isTooUncertain;
  }

  async setUp(): Promise<void> {
    const made = await this.attempt('make own directory', this.home, (cluster) =>
      cluster.tree.create({
        parent: cluster.tree.root,
        name: this.name,
        kind: 'directory',
        mode: 0o755,
        as: ROOT_IDENTITY,
        exclusive: true,
      }),
    );
    if (made.state !== 'ok') this.fail(`own directory could not be made: ${JSON.stringify(made)}`);
  }

  async step(): Promise<void> {
    if (!this.home.isAlive) this.home = this.around.clients.find((seat) => seat.isAlive) ?? this.home;
    if (!this.home.isAlive) return;
    const operation = this.random.weighted<Operation>(operationWeights);
    await this[operation]();
  }

  override clientDied(seat: ClientSeat): void {
    for (const [file, open] of this.open) {
      if (open.seat !== seat) continue;
      this.open.delete(file);
    }
    this.clientLostData(seat);
  }
  override clientLostData(seat: ClientSeat): void {
    // Anything unflushed was in that client's memory; its last messages may still be on their way.
    if (seat === this.home) {
      for (const file of this.files()) if (file.isDirty) this.poison(file, 'flushed');
    }
  }
  override coordinatorLostPower(): void {
    this.tree.powerLost();
    for (const file of this.files()) {
      file.coordinatorLostPower();
      this.poison(file, 'synced');
    }
  }
  override nodesLostPower(): void {
    for (const file of this.files()) if (file.synced < file.versions.length - 1) this.excused.add(file);
  }

  private poison(file: FileModel, certainty: 'flushed' | 'synced'): void {
    file.isPoisoned = true;
    if (file.certainty !== 'synced') file.certainty = certainty;
  }
  private files(): Set<FileModel> {
    const files = new Set<FileModel>(this.open.keys());
    for (const tree of this.tree.candidates()) for (const node of tree.values()) if (node.kind === 'file') files.add(node.file);
    return files;
  }

  private paths(wanted: (node: TreeNode) => boolean): string[] {
    return [...this.tree.current].filter(([path, node]) => wanted(node) && !this.tree.isPoisoned(path)).map(([path]) => path);
  }
  private pickFile(): { path: string; file: FileModel } | undefined {
    const paths = this.paths((node) => node.kind === 'file' && !node.file.isPoisoned);
    if (paths.length === 0) return undefined;
    const path = this.random.pick(paths);
    return { path, file: (this.tree.current.get(path) as { file: FileModel }).file };
  }
  private newPath(): string {
    const directories = ['', ...this.paths((node) => node.kind === 'directory')];
    const parent = this.random.pick(directories);
    return `${parent}/${this.random.pick(['a', 'b', 'c', 'd', 'e', 'f'])}`;
  }
  private inodeOf(path: string): (cluster: { tree: { resolve(path: string): Promise<{ inode: InodeId }> } }) => Promise<InodeId> {
    return async (cluster) => (await cluster.tree.resolve(this.directory + path)).inode;
  }

  /** A handle of the file in the home client. */
  private async handleOf(path: string, file: FileModel): Promise<FileHandle | undefined> {
    const open = this.open.get(file);
    if (open && open.seat === this.home && open.life === this.home.life) return open.handle;
    const { home } = this;
    const { life } = home;
    const opened = await this.attempt(`open ${path}`, home, async (cluster) => cluster.open(await this.inodeOf(path)(cluster)));
    if (opened.state === 'refused') this.fail(`open ${path}: ${opened.errno}, but it is there: ${treeText(this.tree.current)}`);
    if (opened.state !== 'ok') return undefined;
    this.open.set(file, { handle: opened.value, seat: home, life });
    if (this.open.size > 3) await this.releaseOne();
    return this.open.get(file)?.handle;
  }

  /** A change of names: applied, refused as expected, or without answer. */
  private async changeTree<T>(
    what: string,
    changeOf: ChangeOf,
    paths: readonly string[],
    action: Parameters<typeof this.attempt<T>>[2],
    expected?: string,
  ): Promise<T | undefined> {
    const outcome = await this.attempt(what, this.home, action);
    if (outcome.state === 'unknown') {
      this.tree.unanswered(changeOf, paths);
      return undefined;
    }
    if (outcome.state === 'refused') {
      if (outcome.errno !== expected)
        this.fail(`${what}: ${outcome.errno}, expected ${expected ?? 'success'}: ${treeText(this.tree.current)}`);
      return undefined;
    }
    if (expected !== undefined && !this.tree.mayHaveBeen(paths, (tree, ...at) => changeOf(...at)(tree) !== tree))
      this.fail(`${what} succeeded, expected ${expected}: ${treeText(this.tree.current)}`);
    this.tree.answered(changeOf, paths);
    return outcome.value;
  }

  // Names.

  private async create(): Promise<void> {
    const path = this.newPath();
    if (this.tree.isPoisoned(path)) return;
    const exclusive = this.random.chance(0.5);
    const there = this.tree.current.get(path);
    if (there && (there.kind !== 'file' || !exclusive)) return;
    const file = new FileModel(this.around.chunkSizeBytes);
    await this.changeTree(
      `create ${path}`,
      (at) => put(at, { kind: 'file', file }),
      [path],
      async (cluster) => {
        const parent = await this.inodeOf(parentOf(path))(cluster);
        const created = await cluster.tree.create({ parent, name: nameOf(path), kind: 'file', mode: 0o644, as: ROOT_IDENTITY, exclusive });
        if (!created.isNew && !this.tree.mayHaveBeen([path], (tree, at = '') => tree.get(at)?.kind === 'file'))
          this.fail(`create ${path} found something that is not there`);
      },
      there ? 'EEXIST' : undefined,
    );
  }

  /** As an editor saves: a new file, written whole, closed or synced, renamed over the old one. */
  private async saveWhole(): Promise<void> {
    const path = this.newPath();
    const temporary = `${parentOf(path)}/tmp${this.random.int(3)}`;
    if (this.tree.isPoisoned(path) || this.tree.isPoisoned(temporary) || this.tree.current.has(temporary)) return;
    const there = this.tree.current.get(path);
    if (there && there.kind !== 'file') return;
    const file = new FileModel(this.around.chunkSizeBytes);
    const created = await this.changeTree(
      `create ${temporary}`,
      (at) => put(at, { kind: 'file', file }),
      [temporary],
      async (cluster) => {
        const parent = await this.inodeOf(parentOf(temporary))(cluster);
        await cluster.tree.create({ parent, name: nameOf(temporary), kind: 'file', mode: 0o600, as: ROOT_IDENTITY, exclusive: true });
        return true;
      },
    );
    if (!created) return;
    await this.writeTo(temporary, file, 0, this.contents.any(this.contents.length()));
    if (file.isPoisoned) return;
    const durable = this.random.chance(0.5);
    await this.flushOrSync(temporary, file, durable);
    if (file.isPoisoned || file.isDirty) return;
    await this.renameTo(temporary, path);
  }

  private async rename(): Promise<void> {
    const from = this.random.pick(['', ...this.paths(() => true)]);
    const to = this.newPath();
    if (from === '' || from === to || this.tree.isPoisoned(from) || this.tree.isPoisoned(to)) return;
    await this.renameTo(from, to);
  }
  private async renameTo(from: string, to: string): Promise<void> {
    const source = this.tree.current.get(from);
    const target = this.tree.current.get(to);
    if (!source || this.tree.isPoisoned(from) || this.tree.isPoisoned(to)) return;
    let expected: string | undefined;
    if (to.startsWith(`${from}/`)) expected = 'EINVAL';
    else if (source.kind === 'directory' && target && target.kind !== 'directory') expected = 'ENOTDIR';
    else if (source.kind !== 'directory' && target?.kind === 'directory') expected = 'EISDIR';
    else if (target?.kind === 'directory' && childrenOf(this.tree.current, to).length > 0) expected = 'ENOTEMPTY';
    // Two errors at once: which one comes first is not worth a rule.
    if (expected === 'EINVAL' || (from.startsWith(`${to}/`) && target)) return;
    await this.changeTree(
      `rename ${from} ${to}`,
      move,
      [from, to],
      async (cluster) => {
        const parent = await this.inodeOf(parentOf(from))(cluster);
        const toParent = await this.inodeOf(parentOf(to))(cluster);
        await cluster.tree.rename({ parent, name: nameOf(from) }, { parent: toParent, name: nameOf(to) }, 'replace', ROOT_IDENTITY);
      },
      expected,
    );
  }

  private async exchange(): Promise<void> {
    const paths = this.paths((node) => node.kind === 'file');
    if (paths.length < 2) return;
    const [a, b] = this.random.shuffled(paths) as [string, string];
    await this.changeTree(`exchange ${a} ${b}`, exchange, [a, b], async (cluster) => {
      const parent = await this.inodeOf(parentOf(a))(cluster);
      const toParent = await this.inodeOf(parentOf(b))(cluster);
      await cluster.tree.rename({ parent, name: nameOf(a) }, { parent: toParent, name: nameOf(b) }, 'exchange', ROOT_IDENTITY);
    });
  }

  private async link(): Promise<void> {
    const picked = this.pickFile();
    const to = this.newPath();
    if (!picked || this.tree.isPoisoned(to)) return;
    const there = this.tree.current.has(to);
    await this.changeTree(
      `link ${picked.path} ${to}`,
      (at) => put(at, { kind: 'file', file: picked.file }),
      [to],
      async (cluster) => {
        const inode = await this.inodeOf(picked.path)(cluster);
        await cluster.tree.link(inode, await this.inodeOf(parentOf(to))(cluster), nameOf(to));
      },
      there ? 'EEXIST' : undefined,
    );
  }

  private async unlink(): Promise<void> {
    const paths = this.paths((node) => node.kind !== 'directory');
    if (paths.length === 0) return;
    const path = this.random.pick(paths);
    await this.changeTree(`unlink ${path}`, remove, [path], async (cluster) =>
      cluster.tree.unlink(await this.inodeOf(parentOf(path))(cluster), nameOf(path), ROOT_IDENTITY),
    );
  }

  private async makeDirectory(): Promise<void> {
    const path = `/${this.random.pick(['d0', 'd1'])}`;
    if (this.tree.isPoisoned(path)) return;
    const directory: TreeNode = { kind: 'directory' };
    await this.changeTree(
      `mkdir ${path}`,
      (at) => put(at, directory),
      [path],
      async (cluster) => {
        const parent = await this.inodeOf('')(cluster);
        await cluster.tree.create({ parent, name: nameOf(path), kind: 'directory', mode: 0o755, as: ROOT_IDENTITY, exclusive: true });
      },
      this.tree.current.has(path) ? 'EEXIST' : undefined,
    );
  }

  private async removeDirectory(): Promise<void> {
    const paths = this.paths((node) => node.kind === 'directory');
    if (paths.length === 0) return;
    const path = this.random.pick(paths);
    const isEmpty = childrenOf(this.tree.current, path).length === 0;
    await this.changeTree(
      `rmdir ${path}`,
      removeDirectory,
      [path],
      async (cluster) => cluster.tree.removeDirectory(await this.inodeOf(parentOf(path))(cluster), nameOf(path), ROOT_IDENTITY),
      isEmpty ? undefined : 'ENOTEMPTY',
    );
  }

  private async symlink(): Promise<void> {
    const path = this.newPath();
    if (this.tree.isPoisoned(path) || this.tree.current.has(path)) return;
    const target = `to/${this.random.int(1000)}`;
    await this.changeTree(
      `symlink ${path}`,
      (at) => put(at, { kind: 'symlink', target }),
      [path],
      async (cluster) => {
        const parent = await this.inodeOf(parentOf(path))(cluster);
        await cluster.tree.create({ parent, name: nameOf(path), kind: 'symlink', mode: 0o777, as: ROOT_IDENTITY, exclusive: true, target });
      },
    );
  }

  /** Things that must be refused. */
  private async wrong(): Promise<void> {
    const path = this.newPath();
    if (this.tree.isPoisoned(path) || this.tree.current.has(path)) return;
    await this.changeTree(
      `unlink absent ${path}`,
      // Nothing, unless a loss of power brings the name back while it is under way.
      remove,
      [path],
      async (cluster) => cluster.tree.unlink(await this.inodeOf(parentOf(path))(cluster), nameOf(path), ROOT_IDENTITY),
      'ENOENT',
    );
  }

  // Data.

  private async writeTo(path: string, file: FileModel, offset: number | 'end', data: Buffer): Promise<void> {
    const handle = await this.handleOf(path, file);
    if (!handle || file.isPoisoned) return;
    const at = offset === 'end' ? file.sizeBytes : offset;
    const outcome = await this.attempt(`write ${path} ${at}+${data.length}`, this.home, () =>
      handle.write(offset === 'end' ? 0 : offset, Buffer.from(data), { append: offset === 'end' }),
    );
    if (outcome.state === 'refused') this.fail(`write ${path}: ${outcome.errno}`);
    if (outcome.state === 'ok' && outcome.value !== at) this.fail(`write ${path} says it wrote at ${outcome.value}, not at ${at}`);
    file.write(at, data, this.world.nowMs, offset === 'end');
    if (outcome.state !== 'ok') this.poison(file, 'flushed');
  }
  private async write(): Promise<void> {
    const picked = this.pickFile();
    if (!picked) return;
    const { path, file } = picked;
    const data = this.contents.any(this.contents.length());
    // Often where a chunk begins, so that equal contents become equal chunks.
    const offset = this.random.chance(0.5) ? 0 : this.random.int(file.sizeBytes + 5000);
    if (offset + data.length > this.around.maxFileBytes) return;
    await this.writeTo(path, file, offset, data);
  }
  private async append(): Promise<void> {
    const picked = this.pickFile();
    if (!picked) return;
    const data = this.contents.any(1 + this.random.int(3000));
    if (picked.file.sizeBytes + data.length > this.around.maxFileBytes) return;
    await this.writeTo(picked.path, picked.file, 'end', data);
  }
  private async overwrite(): Promise<void> {
    const picked = this.pickFile();
    if (!picked || picked.file.sizeBytes === 0) return;
    const { file, path } = picked;
    const offset = this.random.int(file.sizeBytes);
    const length = 1 + this.random.int(Math.min(4096, file.sizeBytes - offset));
    await this.writeTo(path, file, offset, this.contents.unique(length));
  }
  private async truncate(): Promise<void> {
    const picked = this.pickFile();
    if (!picked) return;
    const { path, file } = picked;
    const handle = await this.handleOf(path, file);
    if (!handle || file.isPoisoned) return;
    const sizeBytes = this.random.chance(0.3) ? 0 : this.random.int(Math.min(file.sizeBytes + 3000, this.around.maxFileBytes));
    const outcome = await this.attempt(`truncate ${path} ${sizeBytes}`, this.home, () => handle.truncate(sizeBytes));
    if (outcome.state === 'refused') this.fail(`truncate ${path}: ${outcome.errno}`);
    file.truncate(sizeBytes, this.world.nowMs);
    if (outcome.state !== 'ok') this.poison(file, 'flushed');
  }
  private async punch(): Promise<void> {
    const picked = this.pickFile();
    if (!picked || picked.file.sizeBytes < 2) return;
    const { path, file } = picked;
    const handle = await this.handleOf(path, file);
    if (!handle || file.isPoisoned) return;
    const offset = this.random.int(file.sizeBytes - 1);
    const length = 1 + this.random.int(file.sizeBytes - offset);
    const outcome = await this.attempt(`punch ${path} ${offset}+${length}`, this.home, () => handle.punch(offset, length, true));
    if (outcome.state === 'refused') this.fail(`punch ${path}: ${outcome.errno}`);
    file.punch(offset, length, this.world.nowMs);
    if (outcome.state !== 'ok') this.poison(file, 'flushed');
  }

  private async flushOrSync(path: string, file: FileModel, isSync: boolean): Promise<void> {
    const handle = await this.handleOf(path, file);
    if (!handle || file.isPoisoned) return;
    const mark = file.mark;
    const treeMark = this.tree.mark;
    const outcome = await this.attempt(`${isSync ? 'sync' : 'flush'} ${path}`, this.home, () => (isSync ? handle.sync() : handle.flush()));
    if (outcome.state === 'refused') this.fail(`flush or sync ${path}: ${outcome.errno}`);
    if (outcome.state !== 'ok') return;
    if (isSync) {
      file.syncedTo(mark);
      this.tree.durableTo(treeMark);
      this.excused.delete(file);
    } else file.flushedTo(mark);
  }
  private async flush(): Promise<void> {
    const picked = this.pickFile();
    if (picked) await this.flushOrSync(picked.path, picked.file, false);
  }
  private async sync(): Promise<void> {
    const picked = this.pickFile();
    if (picked) await this.flushOrSync(picked.path, picked.file, true);
  }
  private async syncTree(): Promise<void> {
    const mark = this.tree.mark;
    const outcome = await this.attempt('sync tree', this.home, (cluster) => cluster.syncTree());
    if (outcome.state === 'ok') this.tree.durableTo(mark);
  }
  private async release(): Promise<void> {
    if (this.open.size > 0) await this.releaseOne();
  }
  private async releaseOne(): Promise<void> {
    const entry = this.random.pick([...this.open]);
    const [file, { handle, seat, life }] = entry;
    this.open.delete(file);
    if (seat.life !== life) return;
    if (this.random.chance(0.8) && !file.isPoisoned) {
      const mark = file.mark;
      const flushed = await this.attempt('flush before release', seat, () => handle.flush());
      if (flushed.state === 'ok') file.flushedTo(mark);
    }
    await this.attempt('release', seat, () => handle.release());
  }

  private async copyRange(): Promise<void> {
    const from = this.pickFile();
    const to = this.pickFile();
    if (!from || !to || from.file === to.file || from.file.sizeBytes === 0) return;
    const source = await this.handleOf(from.path, from.file);
    const target = await this.handleOf(to.path, to.file);
    // Opening the second may have closed the first.
    if (!source || !target || from.file.isPoisoned || to.file.isPoisoned || !this.open.has(from.file) || !this.open.has(to.file)) return;
    const offset = this.random.chance(0.5) ? 0 : this.random.int(from.file.sizeBytes);
    const length = 1 + this.random.int(from.file.sizeBytes);
    const toOffset = this.random.chance(0.5) ? 0 : this.random.int(to.file.sizeBytes + 1000);
    if (toOffset + length > this.around.maxFileBytes) return;
    const marks = { from: from.file.mark, to: to.file.mark };
    const outcome = await this.attempt(`copy ${from.path} ${offset}+${length} to ${to.path} ${toOffset}`, this.home, () =>
      source.copyRange(offset, target, toOffset, length),
    );
    if (outcome.state === 'refused') this.fail(`copy ${from.path} to ${to.path}: ${outcome.errno}`);
    // A source that went back while the answer was awaited, because the coordinator lost power, is copied as it is then.
    const parts = from.file.possible().map((bytes) => bytes.subarray(offset, offset + length));
    if (outcome.state === 'ok') {
      const copied = parts.filter((part) => part.length === outcome.value);
      if (copied.length === 0)
        this.fail(`copy ${from.path} to ${to.path} copied ${outcome.value} bytes, not ${parts.map((part) => part.length).join(' or ')}`);
      // Data that was dirty in both has been committed first.
      from.file.flushedTo(marks.from);
      to.file.flushedTo(marks.to);
      to.file.copy(toOffset, copied.length > 0 ? copied : parts, this.world.nowMs);
      to.file.flushedTo(to.file.mark);
    } else {
      to.file.copy(toOffset, parts, this.world.nowMs);
      this.poison(to.file, 'flushed');
    }
  }

  private async readOpen(): Promise<void> {
    const picked = this.pickFile();
    if (!picked) return;
    const { path, file } = picked;
    const handle = await this.handleOf(path, file);
    if (!handle || file.isPoisoned) return;
    if (this.random.chance(0.5)) {
      const offset = this.random.int(file.sizeBytes + 100);
      const length = this.random.int(20_000);
      const part = await this.attempt(`read ${path} ${offset}+${length}`, this.home, () => handle.read(offset, length));
      if (part.state === 'refused') this.fail(`read ${path}: ${part.errno}`);
      // While the answer was awaited the coordinator lost power, and with it what was not synced.
      if (file.isPoisoned) return;
      if (part.state === 'ok' && !part.value.equals(file.latest.subarray(offset, offset + length)))
        this.fail(`read ${path} ${offset}+${length} gives ${part.value.length} bytes that are not what was written last`);
      return;
    }
    const whole = await this.attempt(`read ${path}`, this.home, () => readWhole(handle));
    if (whole.state === 'refused') this.fail(`read ${path}: ${whole.errno}`);
    if (whole.state !== 'ok') return;
    const wrong = file.judge(whole.value, file.isPoisoned ? file.certainty : 'exact');
    if (wrong !== undefined) this.fail(`read ${path} by its writer: ${wrong}`);
  }

  /** Close-to-open: another client that opens now sees at least what was flushed, and every answered change of names. */
  private async readElsewhere(): Promise<void> {
    const others = this.around.clients.filter((seat) => seat !== this.home && seat.isAlive);
    const picked = this.pickFile();
    if (!picked || others.length === 0) return;
    const seat = this.random.pick(others);
    const { path, file } = picked;
    const found = await this.attempt(`read ${path} elsewhere`, seat, async (cluster) =>
      readFileAt(cluster, await this.inodeOf(path)(cluster)),
    );
    if (found.state === 'refused')
      this.fail(`read ${path} by ${seat.name}: ${found.errno}, but it is there: ${treeText(this.tree.current)}`);
    if (found.state !== 'ok') return;
    const wrong = file.judge(found.value, file.isPoisoned ? file.certainty : 'flushed');
    if (wrong !== undefined) this.fail(`read ${path} by ${seat.name} (written by ${this.home.name}): ${wrong}`);
  }

  private async list(): Promise<void> {
    const seat = this.random.pick(this.around.clients.filter((one) => one.isAlive));
    const directory = this.random.pick(['', ...this.paths((node) => node.kind === 'directory')]);
    const listed = await this.attempt(`list ${directory}/`, seat, async (cluster) =>
      listAll(cluster, await this.inodeOf(directory)(cluster)),
    );
    if (listed.state === 'refused') this.fail(`list ${directory}/: ${listed.errno}`);
    if (listed.state !== 'ok') return;
    const names = new Set(listed.value.map((one) => one.name));
    if (names.size !== listed.value.length) this.fail(`list ${directory}/ by ${seat.name} names an entry twice`);
    for (const path of childrenOf(this.tree.current, directory))
      if (!this.tree.isPoisoned(path) && !names.has(nameOf(path))) this.fail(`list ${directory}/ by ${seat.name} misses ${path}`);
    for (const name of names)
      if (!this.tree.isPoisoned(`${directory}/${name}`) && !this.tree.current.has(`${directory}/${name}`))
        this.fail(`list ${directory}/ by ${seat.name} shows ${name}, which is not there`);
  }

  /** Goes on at another client. */
  private async move(): Promise<void> {
    const others = this.around.clients.filter((seat) => seat !== this.home && seat.isAlive);
    if (others.length === 0) return;
    const { home } = this;
    const outcome = await this.attempt('flush all', home, (cluster) => cluster.flushAll({ durable: false }));
    if (outcome.state !== 'ok' || outcome.value.failed.length > 0) return;
    for (const file of this.files()) if (!file.isPoisoned) file.flushedTo(file.mark);
    for (const [file, { handle, seat, life }] of [...this.open]) {
      this.open.delete(file);
      if (seat.life === life) await this.attempt('release', seat, () => handle.release());
    }
    this.home = this.random.pick(others);
  }

  // The end of a phase.

  async verify(seat: ClientSeat): Promise<void> {
    for (const [file, { handle, seat: at, life }] of [...this.open]) {
      this.open.delete(file);
      if (at.life !== life) continue;
      const mark = file.mark;
      try {
        await at.use(() => handle.flush());
        if (!file.isPoisoned) file.flushedTo(mark);
      } catch (error) {
        // Sticky errors of the fault are reported here; bytes that were refused for good may be missing.
        this.world.note(`${this.name} flush before verification: ${String(error)}`);
        if (file.isDirty) this.poison(file, 'flushed');
      }
      await at.use(() => handle.release()).catch((error: unknown) => this.world.note(`${this.name} release: ${String(error)}`));
    }
    // Handles released without a flush: their bytes are still on their way, for as long as a node that just died is given to answer.
    for (const one of this.around.clients) {
      if (one.isAlive) await one.use((cluster) => cluster.flushAll({ durable: false })).catch(() => {});
    }
    let found: Map<string, Found>;
    try {
      found = await seat.use((cluster) => this.readTree(cluster));
    } catch (error) {
      this.fail(`its directory cannot be read after everything healed: ${describeShort(error)}`);
      return;
    }
    const wrongs: string[] = [];
    for (const candidate of this.tree.candidates()) {
      const wrong = this.compare(candidate, found);
      if (wrong === undefined) {
        await this.settle(seat, candidate, found);
        return;
      }
      wrongs.push(wrong);
    }
    this.fail(
      `what is there after everything healed is none of ${wrongs.length} allowed states:\n    ${[...new Set(wrongs)].slice(0, 6).join('\n    ')}\n  found ${[...found].map(([path, one]) => `${path}=${one.kind}#${one.inode}(${one.sizeBytes})`).join(' ')}\n  model ${treeText(this.tree.current)}`,
    );
  }

  private async readTree(cluster: Parameters<Parameters<ClientSeat['use']>[0]>[0]): Promise<Map<string, Found>> {
    const found = new Map<string, Found>();
    const walk = async (directory: InodeId, prefix: string): Promise<void> => {
      for (const { name, attributes } of await listAll(cluster, directory)) {
        const path = `${prefix}/${name}`;
        const { kind, inode, nlink, sizeBytes, target } = attributes;
        let content: Found['content'];
        if (kind === 'file') {
          try {
            content = await readFileAt(cluster, inode);
          } catch (error) {
            if (!(error instanceof HoldfastError)) throw error;
            content = error;
          }
        }
        found.set(path, { kind, inode, nlink, sizeBytes, content, target });
        if (kind === 'directory') await walk(inode, path);
      }
    };
    await walk(await this.inodeOf('')(cluster), '');
    return found;
  }

  private compare(tree: Tree, found: ReadonlyMap<string, Found>): string | undefined {
    for (const path of found.keys()) if (!tree.has(path)) return `${path} should not be there`;
    const inodes = new Map<FileModel, InodeId>();
    const links = new Map<FileModel, number>();
    for (const node of tree.values()) if (node.kind === 'file') links.set(node.file, (links.get(node.file) ?? 0) + 1);
    for (const [path, node] of tree) {
      const one = found.get(path);
      if (!one) return `${path} is missing`;
      if (one.kind !== node.kind) return `${path} is a ${one.kind}, not a ${node.kind}`;
      if (node.kind === 'symlink' && one.target !== node.target) return `${path} leads to ${one.target}, not to ${node.target}`;
      if (node.kind !== 'file') continue;
      const { file } = node;
      if ((inodes.get(file) ?? one.inode) !== one.inode) return `${path} is not the same file as its other name`;
      inodes.set(file, one.inode);
      if (one.nlink !== links.get(file)) return `${path} has nlink ${one.nlink}, not ${links.get(file)}`;
      if (one.content instanceof HoldfastError) {
        if (!this.excused.has(file)) return `${path} cannot be read: ${one.content.code} ${one.content.message}`;
        continue;
      }
      const content = one.content as Buffer;
      if (content.length !== one.sizeBytes) return `${path} lists ${one.sizeBytes} bytes but holds ${content.length}`;
      const wrong = file.judge(content, file.certainty);
      if (wrong !== undefined) return `${path} (${file.certainty}): ${wrong}`;
    }
    if (new Set(inodes.values()).size !== inodes.size) return 'two different files have one inode';
    return undefined;
  }

  private async settle(seat: ClientSeat, tree: Tree, found: ReadonlyMap<string, Found>): Promise<void> {
    let settled = tree;
    for (const [path, node] of tree) {
      if (node.kind !== 'file') continue;
      const { content } = found.get(path) as Found;
      if (!(content instanceof HoldfastError)) {
        node.file.settleAs(content as Buffer);
        continue;
      }
      // Nobody was promised these bytes; the name goes, as a person would do.
      this.world.note(`${this.name} gives up ${path}: ${content.code}`);
      await seat.use(async (cluster) => cluster.tree.unlink(await this.inodeOf(parentOf(path))(cluster), nameOf(path), ROOT_IDENTITY));
      settled = remove(path)(settled);
    }
    this.excused.clear();
    this.tree.settleAs(settled);
  }

  async cleanUp(seat: ClientSeat): Promise<void> {
    await seat.use(async (cluster) => {
      await removeContent(cluster, await this.inodeOf('')(cluster));
      await cluster.tree.removeDirectory(cluster.tree.root, this.name, ROOT_IDENTITY);
    });
  }
}

const describeShort = (error: unknown): string => (error instanceof HoldfastError ? `${error.code} ${error.message}` : String(error));
