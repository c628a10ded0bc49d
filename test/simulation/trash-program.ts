/**
 * Two clients make files and delete them, by unlink or by renaming over them, while an administrator restores some from the trash and empties it of
 * others. What was flushed before it was deleted comes back byte for byte; what was emptied never does. With this program the trash of the whole
 * volume is on: the deletions of all other programs go through it as well.
 */
import type { Cluster } from '../../client/api.js';
import { SHORT_LIVED_KEEP_MS } from '../../coordinator/trash.js';
import { HoldfastError, isCode } from '../../protocol/errors.js';
import { type ClientSeat, listAll, ROOT_IDENTITY, readFileAt } from './program.js';
import { inodeOf, SharedProgram } from './shared-programs.js';

const KEEP_MS = 86_400_000;
const MOST_BYTES = 20_000;
const MOST_TRASHED = 6;

interface Trashed {
  readonly content: Buffer;
  /** What the coordinator's clock showed before it was deleted. */
  readonly fromMs: number;
}

export class TrashProgram extends SharedProgram {
  private made = 0;
  /** Deleted for certain, with what they held: names in the root. */
  private readonly trashed = new Map<string, Trashed>();

  async setUp(): Promise<void> {
    await this.around.administrator.ask('setVolume', { volume: 'main', trashKeepMs: KEEP_MS });
  }

  async step(): Promise<void> {
    const names = [...this.trashed.keys()];
    if (names.length === 0 || (names.length < MOST_TRASHED && this.random.chance(0.5))) await this.make();
    else if (this.random.chance(0.6)) await this.restore(this.random.pick(names));
    else await this.empty(this.random.pick(names));
  }

  private async make(): Promise<void> {
    const seat = this.random.pick(this.seats);
    if (!seat.isAlive) return;
    const name = `${this.fileName}-${++this.made}`;
    const content = this.contents.any(1 + this.random.int(MOST_BYTES));
    const written = await this.attempt(`make ${name}`, seat, async (cluster) => {
      const handle = await cluster.open((await this.create(cluster, name)).attributes.inode);
      try {
        await handle.write(0, Buffer.from(content));
        await handle.flush();
      } finally {
        await handle.release();
      }
    });
    if (written.state === 'ok') await this.remove(name, content);
  }
  private create(cluster: Cluster, name: string) {
    return cluster.tree.create({ parent: cluster.tree.root, name, kind: 'file', mode: 0o644, as: ROOT_IDENTITY, exclusive: false });
  }

  private async remove(name: string, content: Buffer): Promise<void> {
    const seat = this.random.pick(this.seats);
    if (!seat.isAlive) return;
    const fromMs = this.around.coordinatorClockMs();
    const isReplaced = this.random.chance(0.4);
    const gone = await this.attempt(`${isReplaced ? 'replace' : 'unlink'} ${name}`, seat, async (cluster) => {
      const { root } = cluster.tree;
      if (!isReplaced) return cluster.tree.unlink(root, name, ROOT_IDENTITY);
      await this.create(cluster, `${name}-new`);
      await cluster.tree.rename({ parent: root, name: `${name}-new` }, { parent: root, name }, 'replace', ROOT_IDENTITY);
      // Out of the way of a restore; it never held anything.
      await cluster.tree.unlink(root, name, ROOT_IDENTITY);
    });
    if (gone.state === 'ok' && !this.hasLostPower) this.trashed.set(name, { content, fromMs });
  }

  private async restore(name: string): Promise<void> {
    const trashed = this.trashed.get(name) as Trashed;
    const { content } = trashed;
    this.trashed.delete(name);
    // Of a file that was replaced, the empty one that took its place was deleted last: both wait under the same path.
    const entry = (await this.entries(name)).find(({ sizeBytes }) => sizeBytes === content.length);
    if (!entry) {
      this.missed(name, trashed);
      return;
    }
    let isToldGone = false;
    await this.around.administrator.ask('restoreTrash', { path: `.trash/${entry.name}`, to: `/${name}` }).catch((error: unknown) => {
      if (!isCode(error, 'EEXIST', 'ENOENT', 'REFUSED', 'ENOSPC')) throw error;
      isToldGone = isCode(error, 'ENOENT');
    });
    const seat = this.random.pick(this.seats);
    if (!seat.isAlive || this.hasLostPower) return;
    const read = await this.attempt(`read the restored ${name}`, seat, async (cluster) =>
      readFileAt(cluster, await inodeOf(cluster, name)),
    );
    if (this.hasLostPower) return;
    // Given up for want of room since it was listed; or it is back, and the answer to that was lost.
    if (read.state === 'refused' && isToldGone) this.missed(name, trashed);
    else if (read.state === 'refused') this.fail(`${name} was restored and cannot be read by ${seat.name}: ${read.errno}`);
    if (read.state !== 'ok') return;
    this.judge(name, content, read.value, seat.name);
    await this.remove(name, content);
  }

  private async empty(name: string): Promise<void> {
    this.trashed.delete(name);
    await this.around.administrator.tell('emptyTrash', { path: `/${name}`, olderThanMs: 0 });
    if (this.hasLostPower) return;
    const left = await this.entries(name);
    if (left.length > 0 && !this.hasLostPower) this.fail(`${name} is in the trash after it was emptied of it`);
  }

  private async entries(name: string) {
    return (await this.around.administrator.ask('trash', { path: `/${name}`, limit: 10 })).files;
  }
  private missed(name: string, { fromMs }: Trashed): void {
    // The coordinator's clock was set forward, so its time is over: all that is deleted here was made just before, and is kept for minutes.
    const isOver = this.around.coordinatorClockMs() - fromMs >= SHORT_LIVED_KEEP_MS;
    // A disk that was nearly full may have had its room back.
    if (!this.hasLostPower && !isOver && !this.around.mayBeFull())
      this.fail(`${name} is not in the trash, though it was deleted and nobody emptied it`);
  }
  private judge(name: string, expected: Buffer, found: Buffer, who: string): void {
    if (!found.equals(expected))
      this.fail(`${who} found ${found.length} bytes in ${name} that are not the ${expected.length} it held when it was deleted`);
  }

  async verify(seat: ClientSeat): Promise<void> {
    for (const [name, trashed] of this.trashed) {
      if (this.hasLostPower) break;
      const { content } = trashed;
      const entry = (await this.entries(name)).find(({ sizeBytes }) => sizeBytes === content.length);
      if (!entry) {
        this.missed(name, trashed);
        continue;
      }
      try {
        const found = await seat.use(async (cluster) => readFileAt(cluster, await inodeOf(cluster, `.trash/${entry.name}`)));
        this.judge(name, content, found, seat.name);
      } catch (error) {
        const isExcused = error instanceof HoldfastError && this.nodesLost && error.errno === 'EIO';
        if (!isExcused) this.fail(`${name} cannot be read in the trash after everything healed: ${String(error)}`);
      }
    }
    await this.cleanUp(seat);
    this.hasLostPower = false;
    this.nodesLost = false;
  }

  override async cleanUp(seat: ClientSeat): Promise<void> {
    this.trashed.clear();
    await seat.use(async (cluster) => {
      const { root } = cluster.tree;
      for (const { name } of await listAll(cluster, root))
        if (name.startsWith(`${this.fileName}-`)) await cluster.tree.unlink(root, name, ROOT_IDENTITY);
      await cluster.syncTree();
    });
    await this.around.administrator.ask('emptyTrash', { path: '/', olderThanMs: 0 });
  }
}
