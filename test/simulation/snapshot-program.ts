/**
 * One client changes a file while an administrator takes and deletes snapshots. Between an answered flush and the next write nothing changes, so a
 * snapshot taken there holds exactly what the file held, whatever happens to both of them later.
 */
import { HoldfastError } from '../../protocol/errors.js';
import { type ClientSeat, readFileAt } from './program.js';
import { inodeOf, SharedProgram } from './shared-programs.js';

const MOST_BYTES = 20_000;
const MOST_SNAPSHOTS = 5;

export class SnapshotProgram extends SharedProgram {
  private content = Buffer.alloc(0);
  /** Something ended without an answer: what the file holds is not known before the next verification. */
  private isUnsure = false;
  private taken = 0;
  private readonly snapshots = new Map<string, Buffer>();

  async setUp(): Promise<void> {
    await this.startAnew(this.seats[0]);
  }
  private async startAnew(seat: ClientSeat): Promise<void> {
    await this.recreate(seat);
    this.content = Buffer.alloc(0);
    this.isUnsure = false;
    this.snapshots.clear();
  }
  override get isWaiting(): boolean {
    return this.hasLostPower;
  }
  override clientDied(seat: ClientSeat): void {
    if (seat === this.seats[0]) this.isUnsure = true;
  }

  async step(): Promise<void> {
    const [writer] = this.seats;
    if (!this.isUnsure && writer.isAlive) await this.change(writer);
    if (!this.isUnsure && !this.hasLostPower && this.random.chance(0.4)) await this.take();
    const names = [...this.snapshots.keys()];
    if (names.length === 0 || this.hasLostPower) return;
    const name = this.random.pick(names);
    if (this.random.chance(0.2) || names.length > MOST_SNAPSHOTS) {
      this.snapshots.delete(name);
      await this.around.administrator.tell('deleteSnapshot', { name });
    } else await this.look(name);
  }

  private async change(seat: ClientSeat): Promise<void> {
    const opened = await this.attempt('open', seat, async (cluster) => cluster.open(await inodeOf(cluster, this.fileName)));
    if (opened.state !== 'ok') return;
    const handle = opened.value;
    const next = this.changed();
    this.isUnsure = true;
    const done = await this.attempt('change', seat, async () => {
      if (next.sizeBytes < this.content.length) await handle.truncate(next.sizeBytes);
      if (next.data.length > 0) await handle.write(next.offset, Buffer.from(next.data));
      await (this.random.chance(0.3) ? handle.sync() : handle.flush());
    });
    if (done.state === 'ok') {
      const content = Buffer.alloc(Math.max(Math.min(next.sizeBytes, this.content.length), next.offset + next.data.length));
      this.content.copy(content, 0, 0, next.sizeBytes);
      next.data.copy(content, next.offset);
      this.content = content;
      this.isUnsure = this.hasLostPower;
    }
    await this.attempt('close', seat, () => handle.release());
  }
  private changed(): { sizeBytes: number; offset: number; data: Buffer } {
    const { random } = this;
    const sizeBytes = random.chance(0.2) ? random.int(this.content.length + 1) : this.content.length;
    const offset = random.chance(0.3) ? 0 : random.int(sizeBytes + 100);
    const data = random.chance(0.1)
      ? Buffer.alloc(0)
      : this.contents.any(1 + random.int(MOST_BYTES - offset > 0 ? MOST_BYTES - offset : 1));
    return data.length === 0 ? { sizeBytes, offset: 0, data } : { sizeBytes, offset, data };
  }

  private async take(): Promise<void> {
    const name = `${this.fileName}-${++this.taken}`;
    const { content } = this;
    const isTaken = await this.around.administrator.tell('createSnapshot', { name });
    this.world.note(`${this.name} snapshot ${name}: ${isTaken ? 'taken' : 'refused'}`);
    // Asked again after a loss of power it is taken later, of a file that may have gone back.
    if (isTaken && !this.hasLostPower) this.snapshots.set(name, content);
  }
  private pathOf(name: string): string {
    return `.snapshots/${name}/${this.fileName}`;
  }
  private async look(name: string): Promise<void> {
    const expected = this.snapshots.get(name);
    const seat = this.random.pick(this.around.clients);
    if (!seat.isAlive || !expected) return;
    const read = await this.attempt(`look into ${name}`, seat, async (cluster) =>
      readFileAt(cluster, await inodeOf(cluster, this.pathOf(name))),
    );
    if (this.hasLostPower) return;
    if (read.state === 'refused') this.fail(`snapshot ${name} cannot be read by ${seat.name}: ${read.errno}`);
    if (read.state === 'ok') this.judge(name, expected, read.value, seat.name);
  }
  private judge(name: string, expected: Buffer, found: Buffer, who: string): void {
    if (!found.equals(expected))
      this.fail(
        `${who} found ${found.length} bytes in snapshot ${name} that are not the ${expected.length} the file held when it was taken`,
      );
  }

  async verify(seat: ClientSeat): Promise<void> {
    const [writer] = this.seats;
    if (writer.isAlive) await writer.use((cluster) => cluster.flushAll({ durable: false })).catch(() => {});
    for (const [name, expected] of this.snapshots) {
      try {
        const found = await seat.use(async (cluster) => readFileAt(cluster, await inodeOf(cluster, this.pathOf(name))));
        this.judge(name, expected, found, seat.name);
      } catch (error) {
        const { code, errno } = error as HoldfastError;
        const isExcused = (this.hasLostPower && code === 'ENOENT') || (this.nodesLost && errno === 'EIO');
        if (!(error instanceof HoldfastError) || !isExcused)
          this.fail(`snapshot ${name} cannot be read after everything healed: ${String(error)}`);
      }
    }
    const live = await this.readAll(seat);
    if (live && !this.isUnsure && !this.hasLostPower && !live.equals(this.content))
      this.fail('the file does not hold what was flushed last');
    await this.deleteSnapshots();
    this.hasLostPower = false;
    this.nodesLost = false;
    await this.startAnew(seat);
  }
  private async deleteSnapshots(): Promise<void> {
    const { administrator } = this.around;
    const { snapshots } = await administrator.ask('snapshots', {});
    for (const { name } of snapshots) if (name.startsWith(`${this.fileName}-`)) await administrator.tell('deleteSnapshot', { name });
  }
  override async cleanUp(seat: ClientSeat): Promise<void> {
    await super.cleanUp(seat);
    await this.deleteSnapshots();
  }
}
