/**
 * Programs that run at two clients at once on the same files, each with a rule that is easy to check whatever the order was.
 */
import type { Cluster, FileHandle } from '../../client/api.js';
import type { InodeId } from '../../protocol/entities.js';
import { HoldfastError } from '../../protocol/errors.js';
import { type ClientSeat, listAll, Program, ROOT_IDENTITY, readFileAt, readWhole, type Surroundings } from './program.js';

const makeFile = (cluster: Cluster, name: string): Promise<InodeId> =>
  cluster.tree
    .create({ parent: cluster.tree.root, name, kind: 'file', mode: 0o644, as: ROOT_IDENTITY, exclusive: false })
    .then((created) => created.attributes.inode);
export const inodeOf = async (cluster: Cluster, name: string): Promise<InodeId> => (await cluster.tree.resolve(`/${name}`)).inode;

/** Between finding a name and opening what it leads to, somebody may have replaced it: then it is looked up again, as the kernel does. */
async function openNamed(cluster: Cluster, name: string): Promise<FileHandle> {
  for (let left = 5; ; left--) {
    const inode = await inodeOf(cluster, name);
    try {
      return await cluster.open(inode);
    } catch (error) {
      if (left === 0 || !(error instanceof HoldfastError && error.code === 'ESTALE')) throw error;
    }
  }
}

export abstract class SharedProgram extends Program {
  protected hasLostPower = false;
  protected readonly fileName: string;
  constructor(
    name: string,
    around: Surroundings,
    protected readonly seats: readonly [ClientSeat, ClientSeat],
  ) {
    super(name, around);
    this.fileName = name;
  }
  override get isWaiting(): boolean {
    return this.hasLostPower;
  }
  protected override get mayBeUndone(): boolean {
    return this.hasLostPower;
  }
  override coordinatorLostPower(): void {
    this.hasLostPower = true;
  }
  protected nodesLost = false;
  override nodesLostPower(): void {
    this.nodesLost = true;
  }
  protected async readAll(seat: ClientSeat): Promise<Buffer | undefined> {
    try {
      return await seat.use(async (cluster) => readFileAt(cluster, await inodeOf(cluster, this.fileName)));
    } catch (error) {
      // What was never synced may be gone with its nodes' power.
      if (!(this.nodesLost && error instanceof HoldfastError && error.errno === 'EIO'))
        this.fail(
          `cannot be read after everything healed: ${error instanceof HoldfastError ? `${error.code} ${error.message}` : String(error)}`,
        );
      return undefined;
    }
  }
  async cleanUp(seat: ClientSeat): Promise<void> {
    await seat
      .use((cluster) => cluster.tree.unlink(cluster.tree.root, this.fileName, ROOT_IDENTITY))
      .catch((error: unknown) => {
        if (!(error instanceof HoldfastError && error.code === 'ENOENT')) throw error;
      });
  }
  protected async recreate(seat: ClientSeat): Promise<void> {
    await this.cleanUp(seat);
    await seat.use((cluster) => makeFile(cluster, this.fileName));
    await seat.use((cluster) => cluster.syncTree());
  }
}

const RECORD_BYTES = 32;
const recordText = (writer: string, number: number): string =>
  `${writer}:${String(number).padStart(8, '0')}`.padEnd(RECORD_BYTES - 1, '.').concat('\n');

/**
 * Two clients append records to one file. Every record whose flush returned is there once, whole, in its writer's order; none is there twice.
 */
export class AppendProgram extends SharedProgram {
  private readonly next = new Map<string, number>();
  /** Record numbers per writer. */
  private readonly promised = new Map<string, Set<number>>();
  private readonly synced = new Map<string, Set<number>>();
  private readonly written = new Map<string, Set<number>>();

  override coordinatorLostPower(): void {
    super.coordinatorLostPower();
    // They may be undone, and no later sync brings them back.
    for (const [name, numbers] of this.synced) this.promised.set(name, new Set(numbers));
  }
  override nodesLostPower(): void {
    for (const [name, numbers] of this.written)
      if ([...numbers].some((number) => !this.synced.get(name)?.has(number))) this.nodesLost = true;
  }

  async setUp(): Promise<void> {
    await this.recreate(this.seats[0]);
    this.forget();
  }
  private forget(): void {
    for (const seat of this.seats) {
      this.promised.set(seat.name, new Set());
      this.synced.set(seat.name, new Set());
      this.written.set(seat.name, new Set());
    }
  }

  /** Each seat is driven by its own loop. */
  async step(): Promise<void> {
    await Promise.all(this.seats.map((seat) => this.append(seat)));
  }
  private async append(seat: ClientSeat): Promise<void> {
    await this.around.pause(this.random.between(0, 5));
    if (!seat.isAlive) return;
    const { life } = seat;
    const opened = await this.attempt('open log', seat, async (cluster) => cluster.open(await inodeOf(cluster, this.fileName)));
    if (opened.state !== 'ok') return;
    const handle = opened.value;
    const count = 1 + this.random.int(3);
    const inThis: number[] = [];
    for (let at = 0; at < count; at++) {
      const number = this.next.get(seat.name) ?? 1;
      this.next.set(seat.name, number + 1);
      inThis.push(number);
      this.written.get(seat.name)?.add(number);
      const wrote = await this.attempt('append', seat, () => handle.write(0, Buffer.from(recordText(seat.name, number)), { append: true }));
      if (wrote.state !== 'ok') return;
    }
    const isSync = this.random.chance(0.3);
    const before = [...this.promised].map(([name, numbers]) => [name, [...numbers]] as const);
    const flushed = await this.attempt(isSync ? 'sync log' : 'flush log', seat, () => (isSync ? handle.sync() : handle.flush()));
    if (flushed.state === 'ok' && seat.life === life) {
      // All handles of a client share its dirty data: an earlier append that failed to be flushed is flushed by now, or its error was reported.
      for (const number of inThis) (this.promised.get(seat.name) as Set<number>).add(number);
      // A sync is for the whole file, whoever wrote it.
      if (isSync)
        for (const [name, numbers] of [...before, [seat.name, inThis] as const])
          for (const number of numbers) if (this.promised.get(name)?.has(number)) this.synced.get(name)?.add(number);
    }
    await this.attempt('close log', seat, () => handle.release());
  }

  async verify(seat: ClientSeat): Promise<void> {
    for (const one of this.seats) {
      if (one.isAlive) await one.use((cluster) => cluster.flushAll({ durable: false })).catch(() => {});
    }
    const content = await this.readAll(seat);
    if (content) this.check(content);
    await this.recreate(seat);
    this.forget();
    this.hasLostPower = false;
    this.nodesLost = false;
  }
  private check(content: Buffer): void {
    const seen = new Map<string, number[]>();
    if (content.length % RECORD_BYTES !== 0) this.fail(`the log of ${content.length} bytes does not hold whole records`);
    for (let at = 0; at + RECORD_BYTES <= content.length; at += RECORD_BYTES) {
      const text = content.toString('latin1', at, at + RECORD_BYTES);
      const [writer = '', rest = ''] = text.split(':');
      const number = Number(rest.slice(0, 8));
      if (!this.next.has(writer) || text !== recordText(writer, number)) {
        this.fail(`the log holds what nobody wrote at ${at}: ${JSON.stringify(text)}`);
        return;
      }
      const numbers = seen.get(writer) ?? [];
      numbers.push(number);
      seen.set(writer, numbers);
    }
    for (const { name } of this.seats) {
      const numbers = seen.get(name) ?? [];
      const distinct = new Set(numbers);
      if (distinct.size !== numbers.length) this.fail(`records of ${name} are in the log twice: ${repeated(numbers).join(', ')}`);
      const must = (this.hasLostPower ? this.synced : this.promised).get(name) as Set<number>;
      const lost = [...must].filter((number) => !distinct.has(number));
      if (lost.length > 0) this.fail(`records of ${name} that were flushed are not in the log: ${lost.join(', ')}`);
    }
  }
}
const repeated = (numbers: readonly number[]): number[] => numbers.filter((number, at) => numbers.indexOf(number) !== at);

/** One client replaces a file by renaming a new one over it; the other always finds a whole one, never older than the last that was in place. */
export class ReplaceProgram extends SharedProgram {
  private attempted = 0;
  private placed = 0;
  private durable = 0;
  private isUnsure = false;
  private readonly bodies = new Map<number, Buffer>();

  async setUp(): Promise<void> {
    await this.place(this.seats[0], true);
    if (this.placed !== 1) this.fail('the first version could not be placed');
  }
  async step(): Promise<void> {
    await Promise.all([this.place(this.seats[0], this.random.chance(0.3)), this.look(), this.look()]);
  }
  private body(version: number): Buffer {
    let body = this.bodies.get(version);
    if (!body) {
      const rest = this.contents.any(this.random.chance(0.1) ? 66_000 : this.random.int(5000));
      body = Buffer.concat([Buffer.from(`version ${String(version).padStart(8, '0')} of ${rest.length + 32}`.padEnd(32)), rest]);
      this.bodies.set(version, body);
    }
    return body;
  }
  private async place(seat: ClientSeat, isDurable: boolean): Promise<void> {
    // A rename without answer may still come: another one now would leave open which is the last.
    if (!seat.isAlive || this.isUnsure) return;
    const version = ++this.attempted;
    const temporary = `${this.fileName}.tmp${version}`;
    const body = this.body(version);
    const placed = await this.attempt(`place version ${version}`, seat, async (cluster) => {
      const { tree } = cluster;
      const created = await tree.create({
        parent: tree.root,
        name: temporary,
        kind: 'file',
        mode: 0o644,
        as: ROOT_IDENTITY,
        exclusive: false,
      });
      const handle = await cluster.open(created.attributes.inode);
      try {
        if (!created.isNew) await handle.truncate(0);
        await handle.write(0, Buffer.from(body));
        await (isDurable ? handle.sync() : handle.flush());
        await tree.rename({ parent: tree.root, name: temporary }, { parent: tree.root, name: this.fileName }, 'replace', ROOT_IDENTITY);
        if (isDurable) await cluster.syncTree();
      } finally {
        await handle.release();
      }
    });
    if (placed.state === 'refused') this.fail(`placing version ${version}: ${placed.errno}`);
    this.isUnsure = placed.state !== 'ok';
    if (placed.state !== 'ok') return;
    this.placed = Math.max(this.placed, version);
    if (isDurable) this.durable = Math.max(this.durable, version);
  }
  private async look(): Promise<void> {
    await this.around.pause(this.random.between(0, 20));
    const seat = this.random.pick(this.around.clients);
    if (!seat.isAlive || this.hasLostPower) return;
    const atLeast = this.placed;
    const read = await this.attempt('look', seat, async (cluster) => {
      const handle = await openNamed(cluster, this.fileName);
      try {
        return await readWhole(handle);
      } finally {
        await handle.release();
      }
    });
    if (this.hasLostPower) return;
    if (read.state === 'refused') this.fail(`looking at ${this.fileName} by ${seat.name}: ${read.errno}`);
    if (read.state === 'ok') this.judge(read.value, atLeast, seat.name);
  }
  private judge(content: Buffer, atLeast: number, who: string): void {
    const version = Number(content.toString('latin1', 8, 16));
    const body = this.bodies.get(version);
    if (!body?.equals(content))
      this.fail(`${who} found ${content.length} bytes that are no whole version (${content.toString('latin1', 0, 32)})`);
    else if (version < atLeast) this.fail(`${who} found version ${version} although ${atLeast} was in place`);
    else if (version > this.attempted) this.fail(`${who} found version ${version} before it was written`);
  }
  async verify(seat: ClientSeat): Promise<void> {
    const content = await this.readAll(seat);
    if (content) this.judge(content, this.hasLostPower ? this.durable : this.placed, seat.name);
    this.hasLostPower = false;
    this.nodesLost = false;
    this.isUnsure = false;
    const [writer] = this.seats;
    if (writer.isAlive) await writer.use((cluster) => cluster.flushAll({ durable: false })).catch(() => {});
    await this.removeUnplaced(seat);
    const before = this.placed;
    await this.place(seat, true);
    if (this.placed === before) this.fail('no new version could be placed after everything healed');
  }
  override async cleanUp(seat: ClientSeat): Promise<void> {
    await super.cleanUp(seat);
    await this.removeUnplaced(seat);
  }
  /**
   * As a person would: a version that was not placed is removed. Its bytes may have gone with the power of the only node that had them, which nobody
   * can heal; its writer was told.
   */
  private async removeUnplaced(seat: ClientSeat): Promise<void> {
    await seat.use(async (cluster) => {
      const { root } = cluster.tree;
      for (const { name } of await listAll(cluster, root))
        if (name.startsWith(`${this.fileName}.tmp`)) await cluster.tree.unlink(root, name, ROOT_IDENTITY);
    });
  }
}

/** Two clients count in one file under a lock. No increment that was answered is lost, none counts twice. */
export class CounterProgram extends SharedProgram {
  private answered = 0;
  private unanswered = 0;
  private synced = 0;

  async setUp(): Promise<void> {
    await this.recreate(this.seats[0]);
  }
  async step(): Promise<void> {
    await Promise.all(this.seats.map((seat, at) => this.increment(seat, `owner${at}`)));
  }
  private async increment(seat: ClientSeat, owner: string): Promise<void> {
    await this.around.pause(this.random.between(0, 10));
    if (!seat.isAlive || this.hasLostPower) return;
    const lock = { family: this.random.pick(['flock', 'flock', 'posix'] as const), owner, pid: 1, start: 0, length: 0 };
    const family = 'flock' as const;
    const isSync = this.random.chance(0.3);
    let isWritten = false;
    const outcome = await this.attempt('count', seat, async (cluster) => {
      const inode = await inodeOf(cluster, this.fileName);
      await cluster.locks.lock(inode, { ...lock, family, kind: 'write' }, { wait: true });
      try {
        const handle = await cluster.open(inode);
        try {
          const atLeast = this.answered;
          const now = await handle.read(0, 8);
          const value = now.length === 8 ? Number(now.readBigUInt64LE()) : 0;
          if (!this.hasLostPower && (value < atLeast || value > this.answered + this.unanswered))
            this.fail(`${seat.name} holds the lock and reads ${value}; counted ${atLeast} surely and ${this.unanswered} perhaps`);
          const next = Buffer.alloc(8);
          next.writeBigUInt64LE(BigInt(value + 1));
          isWritten = true;
          this.unanswered++;
          await handle.write(0, next);
          await (isSync ? handle.sync() : handle.flush());
          this.unanswered--;
          this.answered++;
          // Behind a loss of power increments that were answered may be undone: what is synced then is the number that was written.
          if (isSync) this.synced = this.hasLostPower ? value + 1 : this.answered;
        } finally {
          await handle.release();
        }
      } finally {
        await cluster.locks.lock(inode, { ...lock, family, kind: 'unlock' }, { wait: false });
      }
    });
    if (outcome.state === 'refused') this.fail(`counting: ${outcome.errno}`);
    void isWritten;
  }
  async verify(seat: ClientSeat): Promise<void> {
    const content = await this.readAll(seat);
    if (content) {
      const value = content.length === 8 ? Number(content.readBigUInt64LE()) : 0;
      const atLeast = this.hasLostPower ? this.synced : this.answered;
      if (value < atLeast || value > this.answered + this.unanswered)
        this.fail(`counted to ${value}; surely ${atLeast}, perhaps ${this.unanswered} more`);
    }
    await this.recreate(seat);
    this.answered = 0;
    this.unanswered = 0;
    this.synced = 0;
    this.hasLostPower = false;
    this.nodesLost = false;
  }
}

interface BlockWrite {
  readonly data: Buffer;
  readonly askedMs: number;
  flushedMs: number;
  syncedMs: number;
}
const BLOCK_BYTES = 4096;
const BLOCKS = 5;

/** Two clients write whole blocks of one file without any lock. A block is always one of the writes, whole, and never one that was surely overwritten. */
export class RegionProgram extends SharedProgram {
  private writes: BlockWrite[][] = [];

  async setUp(): Promise<void> {
    await this.start(this.seats[0]);
  }
  private async start(seat: ClientSeat): Promise<void> {
    await this.recreate(seat);
    const zeros = { data: Buffer.alloc(BLOCK_BYTES), askedMs: 0, flushedMs: 0, syncedMs: 0 };
    this.writes = Array.from({ length: BLOCKS }, () => [{ ...zeros }]);
    await seat.use(async (cluster) => {
      const handle = await cluster.open(await inodeOf(cluster, this.fileName));
      await handle.truncate(BLOCKS * BLOCK_BYTES);
      await handle.sync();
      await handle.release();
    });
  }
  async step(): Promise<void> {
    await Promise.all(this.seats.map((seat) => (this.random.chance(0.6) ? this.write(seat) : this.look(seat))));
  }
  private async write(seat: ClientSeat): Promise<void> {
    await this.around.pause(this.random.between(0, 10));
    if (!seat.isAlive || this.hasLostPower) return;
    const { life } = seat;
    const opened = await this.attempt('open region', seat, async (cluster) => cluster.open(await inodeOf(cluster, this.fileName)));
    if (opened.state !== 'ok') return;
    const handle = opened.value;
    const mine: BlockWrite[] = [];
    for (let count = 1 + this.random.int(2); count > 0; count--) {
      const block = this.random.int(BLOCKS);
      const write: BlockWrite = {
        data: this.contents.unique(BLOCK_BYTES),
        askedMs: this.world.nowMs,
        flushedMs: Number.POSITIVE_INFINITY,
        syncedMs: Number.POSITIVE_INFINITY,
      };
      (this.writes[block] as BlockWrite[]).push(write);
      mine.push(write);
      const wrote = await this.attempt(`write block ${block}`, seat, () => handle.write(block * BLOCK_BYTES, Buffer.from(write.data)));
      if (wrote.state !== 'ok') break;
    }
    const isSync = this.random.chance(0.2);
    const flushed = await this.attempt(isSync ? 'sync region' : 'flush region', seat, () => (isSync ? handle.sync() : handle.flush()));
    if (flushed.state === 'ok' && seat.life === life) {
      for (const write of mine) {
        write.flushedMs = this.world.nowMs;
        if (isSync) write.syncedMs = this.world.nowMs;
      }
    }
    await this.attempt('close region', seat, () => handle.release());
  }
  private async look(seat: ClientSeat): Promise<void> {
    await this.around.pause(this.random.between(0, 10));
    if (!seat.isAlive || this.hasLostPower) return;
    const openedMs = this.world.nowMs;
    const read = await this.attempt('read region', seat, async (cluster) => readFileAt(cluster, await inodeOf(cluster, this.fileName)));
    if (read.state === 'ok' && !this.hasLostPower) this.judge(read.value, openedMs, seat.name, (write) => write.flushedMs);
  }
  private judge(content: Buffer, fromMs: number, who: string, sure: (write: BlockWrite) => number): void {
    if (content.length !== BLOCKS * BLOCK_BYTES) this.fail(`${who} found ${content.length} bytes`);
    this.writes.forEach((writes, block) => {
      const found = content.subarray(block * BLOCK_BYTES, (block + 1) * BLOCK_BYTES);
      const matching = writes.filter((write) => write.data.equals(found));
      if (matching.length === 0) {
        this.fail(`${who} found in block ${block} what nobody wrote as a whole`);
        return;
      }
      const isAllowed = matching.some((write) => !writes.some((later) => sure(later) < fromMs && later.askedMs > sure(write)));
      if (!isAllowed) this.fail(`${who} found in block ${block} a write that was overwritten before`);
    });
  }
  async verify(seat: ClientSeat): Promise<void> {
    for (const one of this.seats) {
      if (one.isAlive) await one.use((cluster) => cluster.flushAll({ durable: false })).catch(() => {});
    }
    const content = await this.readAll(seat);
    if (content) this.judge(content, this.world.nowMs, seat.name, (write) => (this.hasLostPower ? write.syncedMs : write.flushedMs));
    this.hasLostPower = false;
    this.nodesLost = false;
    await this.start(seat);
  }
}
