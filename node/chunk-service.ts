/**
 * What a node does with chunks, between its HTTP port and its store: checks permits, verifies bytes, gives receipts, carries out the
 * coordinator's orders about chunks. Knows neither HTTP nor disks.
 *
 * Deletion must not lose a chunk that is being uploaded. Per id, put and remove exclude each other (IdLocks). `condemn` only sets a mark. A put
 * takes the mark away in the same synchronous step in which it makes its receipt, and it does so under the lock; `remove` deletes, under the lock,
 * only what still carries the very mark it saw when the order arrived. So for a put and a remove of one id, in whatever order they overlap:
 *   put ends first   → the mark is gone, the chunk stays;
 *   remove ends first → the put, which looks at the store only afterwards, finds nothing and writes the chunk again;
 * and the sequence that `remove` answers is older than every receipt for a chunk that stayed or came back.
 */
import { type ChunkHeader, isChunkId, MAX_HEADER_BYTES, verifyChunk } from '../protocol/chunk.js';
import type { ChunkId, NodeId } from '../protocol/entities.js';
import type { Environment } from '../protocol/environment.js';
import { HoldfastError } from '../protocol/errors.js';
import { MAX_IDS_PER_CALL, SMALL_CHUNK_BYTES } from '../protocol/limits.js';
import type { InventoryItem } from '../protocol/node-calls.js';
import { checkPermit, isSameSecret, KnownPermits, metricsTokenOf, type Permit, sign } from '../protocol/permit.js';
import type { CheckResult, ChunkProblem, ChunkStore, ChunkToPut } from './chunk-store.js';
import { IdLocks } from './id-locks.js';
import { inParallel } from './parallel.js';

/** What a node knows of its cluster by itself, from its data directory and its token. */
export interface Home {
  readonly cluster: string;
  readonly accessKey: Buffer;
}

/** What registration tells the service; without it every request is answered NOT_READY. */
export interface Membership {
  readonly cluster: string;
  readonly node: NodeId;
  readonly accessKey: Buffer;
  readonly generation: number;
  readonly revokedClients: ReadonlySet<string>;
}

export type FoundBy = 'scrub' | 'read' | 'order' | 'start';
export interface ServiceCounters {
  readBytes: number;
  /** Those of readBytes that other nodes fetched by order of the coordinator. */
  repairReadBytes: number;
  writtenBytes: number;
  puts: number;
  gets: number;
  corruptFound: number;
}

const PARALLEL_CHECKS = 2;
const PARALLEL_READS = 16;

export class ChunkService {
  /** Random per start of this process; see Receipt. */
  readonly startId: string;
  readonly counters: ServiceCounters = { readBytes: 0, repairReadBytes: 0, writtenBytes: 0, puts: 0, gets: 0, corruptFound: 0 };
  /** Told about replicas that turned out bad; they are out of service already. */
  onBadReplica: ((chunk: ChunkId, problem: ChunkProblem, detail: string, foundBy: FoundBy) => void) | undefined;
  private membership: Membership | undefined;
  private home: Home | undefined;
  private sequence = 0;
  private readonly permits = new KnownPermits();
  private readonly locks = new IdLocks();
  /** Condemned chunks; the value tells one mark from a later one for the same id. */
  private readonly marks = new Map<ChunkId, number>();
  private nextMark = 1;

  constructor(
    readonly store: ChunkStore,
    private readonly environment: Environment,
  ) {
    this.startId = environment.randomBytes(8).toString('hex');
    store.onDamaged = (chunk, problem, detail) => this.report(chunk, problem, detail, 'scrub');
  }

  get isReady(): boolean {
    return this.membership !== undefined;
  }
  setMembership(membership: Membership): void {
    this.membership = membership;
  }
  /** Known from before: enough to recognise the coordinator's own permit before registration. */
  setHome(home: Home): void {
    this.home = home;
  }

  /** What every heartbeat brings. */
  renew(generation: number, revokedClients: readonly string[]): void {
    if (this.membership) this.membership = { ...this.membership, generation, revokedClients: new Set(revokedClients) };
  }

  /** @throws {HoldfastError} NOT_READY, UNAUTHORIZED, PERMIT_EXPIRED, FORBIDDEN */
  authorize(permit: string, access: 'read' | 'write'): Permit {
    const membership = this.member();
    return this.permits.check(membership.accessKey, permit, {
      cluster: membership.cluster,
      access,
      now: membership.generation,
      isRevoked: (client) => membership.revokedClients.has(client),
    });
  }

  /**
   * Recognises the coordinator itself. Before registration the current generation is unknown: then only the permit that never grows old counts.
   * @throws {HoldfastError} NOT_READY, UNAUTHORIZED, PERMIT_EXPIRED, FORBIDDEN
   */
  authorizeCoordinator(permitText: string): Permit {
    const { membership } = this;
    let permit: Permit;
    if (membership || !this.home) permit = this.authorize(permitText, 'write');
    else
      permit = checkPermit(this.home.accessKey, permitText, {
        cluster: this.home.cluster,
        access: 'write',
        now: Number.MAX_SAFE_INTEGER,
      });
    if (permit.client !== 'coordinator') throw new HoldfastError('FORBIDDEN', 'metadata copies are for the coordinator only');
    return permit;
  }

  /** Who may see the metrics. @throws {HoldfastError} NOT_READY, UNAUTHORIZED */
  authorizeMetrics(token: string): void {
    const key = (this.membership ?? this.home)?.accessKey;
    if (!key) throw new HoldfastError('NOT_READY', 'this node has not been in a cluster yet');
    if (!isSameSecret(token, metricsTokenOf(key))) throw new HoldfastError('UNAUTHORIZED', 'not the metrics token of this cluster');
  }

  /**
   * Stores chunks for the holder of a permit: a receipt or an error for each, in order. `id` and bytes are not trusted.
   * @param permit as `authorize` returned it for 'write'
   */
  async put(permit: Permit, chunks: readonly { id: string; encoded: Buffer }[], durable: boolean): Promise<(string | HoldfastError)[]> {
    const results: (string | HoldfastError | undefined)[] = [];
    const good: ChunkToPut[] = [];
    for (const { id, encoded } of chunks) {
      const header = verified(permit, id, encoded);
      results.push(header instanceof HoldfastError ? header : undefined);
      if (!(header instanceof HoldfastError)) good.push({ id, encoded, header });
    }
    const outcomes = good.length > 0 ? await this.putVerified(good, durable, permit.client) : [];
    let next = 0;
    return results.map((result) => result ?? outcomes[next++]!);
  }

  /** Stores chunks whose bytes the caller has verified; receipts are made out to `client`. */
  putVerified(chunks: readonly ChunkToPut[], durable: boolean, client: string): Promise<(string | HoldfastError)[]> {
    return this.locks.with(
      chunks.map(({ id }) => id),
      async () => {
        // The same chunk twice in one batch is one put: the store must not see it twice at a time.
        const distinct = chunks.length === 1 ? chunks : [...new Map(chunks.map((chunk) => [chunk.id, chunk])).values()];
        const outcomes = await this.store.put(distinct, durable);
        const failures = new Map<ChunkId, HoldfastError>();
        distinct.forEach((chunk, i) => {
          const failure = outcomes[i];
          if (failure) failures.set(chunk.id, failure);
          else {
            this.counters.puts++;
            this.counters.writtenBytes += chunk.encoded.length;
          }
        });
        return chunks.map((chunk) => failures.get(chunk.id) ?? this.receipt(chunk.id, chunk.header, durable, client));
      },
    );
  }

  /**
   * Encoded header and leaves [first, first + count) for the holder of a permit.
   * @param permit as `authorize` returned it for 'read'
   * @throws {HoldfastError} CHUNK_MISSING, CHUNK_CORRUPT, EIO, BAD_MESSAGE
   */
  async get(permit: Permit, id: string, first: number, count: number): Promise<Buffer> {
    if (!isChunkId(id)) throw new HoldfastError('BAD_MESSAGE', 'not a chunk id');
    let bytes: Buffer;
    try {
      bytes = await this.store.read(id, first, count);
    } catch (error) {
      const isForeign = permit.volume !== 0 && (await this.store.describe(id).catch(() => undefined))?.volume !== permit.volume;
      if (error instanceof HoldfastError && (error.code === 'CHUNK_CORRUPT' || error.code === 'EIO')) await this.checkNow(id, 'read');
      // Also what is wrong with it, or with what was asked of it, is for those who may see it.
      throw isForeign ? missing(id) : error;
    }
    // The volume lies at a fixed place in the header. Whoever may not see the chunk learns nothing about its existence.
    if (permit.volume !== 0 && bytes.readUInt32LE(8) !== permit.volume) throw missing(id);
    this.served(permit, bytes.length);
    return bytes;
  }

  /**
   * The small ones among these chunks, whole, in order, until a batch of them would have more than `maxBytes`. Whatever cannot be had is left out:
   * asked for singly, it tells why.
   */
  async getSmall(permit: Permit, ids: readonly ChunkId[], maxBytes: number): Promise<{ id: ChunkId; parts: Buffer[] }[]> {
    let leftBytes = maxBytes;
    const found = await inParallel([...new Set(ids)], PARALLEL_READS, async (id) => {
      const item = await this.store.describe(id);
      if (!item || item.sizeBytes > SMALL_CHUNK_BYTES || (permit.volume !== 0 && item.volume !== permit.volume)) return undefined;
      // Counted before reading, with room for header and framing, so that not more than that is ever in memory.
      const countedBytes = item.sizeBytes + MAX_HEADER_BYTES;
      if (countedBytes > leftBytes) return undefined;
      leftBytes -= countedBytes;
      try {
        return { id, parts: [await this.get(permit, id, 0, Number.POSITIVE_INFINITY)] };
      } catch (error) {
        if (error instanceof HoldfastError) return undefined;
        throw error;
      }
    });
    return found.filter((one) => one !== undefined);
  }

  async head(permit: Permit, id: string): Promise<boolean> {
    if (!isChunkId(id)) throw new HoldfastError('BAD_MESSAGE', 'not a chunk id');
    const item = await this.store.describe(id);
    return item !== undefined && (permit.volume === 0 || item.volume === permit.volume);
  }

  /** Every named chunk of the permit's volume that is there is on stable storage when this resolves. @returns those that are not there */
  async sync(permit: Permit, ids: readonly string[]): Promise<ChunkId[]> {
    if (ids.length > MAX_IDS_PER_CALL || !ids.every(isChunkId)) throw new HoldfastError('BAD_MESSAGE', 'not a list of chunk ids');
    const items = await inParallel(ids, 16, (id) => this.store.describe(id));
    const foreign = new Set(ids.filter((_, i) => !items[i] || (permit.volume !== 0 && items[i].volume !== permit.volume)));
    const own = ids.filter((id) => !foreign.has(id));
    const gone = new Set(own.length > 0 ? await this.store.sync(own) : []);
    return ids.filter((id) => foreign.has(id) || gone.has(id));
  }

  /** A durable receipt for a chunk that is here already and found good on the disk just now; undefined otherwise. */
  receiptForExisting(id: ChunkId, client: string): Promise<string | undefined> {
    return this.locks.with([id], async () => {
      const item = await this.store.describe(id);
      if (!item) return undefined;
      const checked = await this.store.check(id);
      if (checked.state !== 'good') {
        await this.takeOut(id, checked, 'order');
        return undefined;
      }
      if ((await this.store.sync([id])).length > 0) return undefined;
      return this.receiptFor(id, item.volume, item.sizeBytes, true, client);
    });
  }

  // ---- orders ----

  inventory(after: string, limit: number): Promise<{ items: InventoryItem[]; isLast: boolean }> {
    return this.store.list(after, limit);
  }

  condemn(ids: readonly ChunkId[]): { marked: ChunkId[]; missing: ChunkId[] } {
    const marked: ChunkId[] = [];
    const missing: ChunkId[] = [];
    for (const id of ids) {
      if (this.store.has(id)) {
        this.marks.set(id, this.nextMark++);
        marked.push(id);
      } else missing.push(id);
    }
    return { marked, missing };
  }

  async remove(ids: readonly ChunkId[]): Promise<{ removed: ChunkId[]; kept: ChunkId[]; startId: string; sequence: number }> {
    const { sequence } = this;
    const removed: ChunkId[] = [];
    const kept: ChunkId[] = [];
    const condemned = ids.map((id) => ({ id, mark: this.marks.get(id) }));
    await inParallel(condemned, 8, async ({ id, mark }) => {
      // Not here at all: as good as deleted, and saying so lets a lost reply be repeated.
      if (!this.store.has(id) && mark === undefined) removed.push(id);
      else if (mark === undefined) kept.push(id);
      else
        await this.locks.with([id], async () => {
          if (this.marks.get(id) !== mark) {
            kept.push(id);
            return;
          }
          await this.store.remove(id);
          this.marks.delete(id);
          removed.push(id);
        });
    });
    return { removed, kept, startId: this.startId, sequence };
  }

  async verify(ids: readonly ChunkId[]): Promise<{ good: ChunkId[]; bad: { chunk: ChunkId; problem: ChunkProblem; detail: string }[] }> {
    const good: ChunkId[] = [];
    const bad: { chunk: ChunkId; problem: ChunkProblem; detail: string }[] = [];
    await inParallel(ids, PARALLEL_CHECKS, async (chunk) => {
      const result = await this.checkNow(chunk, undefined);
      if (result.state === 'good') good.push(chunk);
      else bad.push({ chunk, problem: result.state, detail: result.detail.slice(0, 512) });
    });
    return { good, bad };
  }

  async setAside(ids: readonly ChunkId[]): Promise<ChunkId[]> {
    const done = await inParallel(ids, 8, (id) => this.locks.with([id], () => this.store.setAside(id, 'unknown')));
    for (const id of ids) this.marks.delete(id);
    return ids.filter((_, i) => done[i]);
  }

  /**
   * Reads a replica whole and takes it out of service when it is bad; one that the disk does not give now stays, and is only reported.
   * @param foundBy whom to name in the report; undefined = no report, the caller answers itself
   */
  async checkNow(id: ChunkId, foundBy: FoundBy | undefined): Promise<CheckResult> {
    const first = await this.store.check(id);
    if (first.state === 'good') return first;
    return this.locks.with([id], async () => {
      // Again under the lock: it may have been replaced or removed while it was being read.
      const again = await this.store.check(id);
      // The coordinator counts on it or has no other: the bytes set aside may be better than the disk gave them then.
      if (again.state === 'missing' && foundBy === undefined && (await this.store.takeBack(id))) return this.store.check(id);
      if (again.state !== 'good') await this.takeOut(id, again, foundBy);
      return again;
    });
  }

  private async takeOut(id: ChunkId, result: Exclude<CheckResult, { state: 'good' }>, foundBy: FoundBy | undefined): Promise<void> {
    const wasHere = this.store.has(id);
    // A disk that fails now may be read again later, and this may be the last replica: it stays, and the coordinator no longer counts on it.
    if (wasHere && result.state !== 'io-error') await this.store.setAside(id, result.state);
    this.marks.delete(id);
    // Removed by order while it was being looked at is no finding.
    if (foundBy && wasHere) this.report(id, result.state, result.detail, foundBy);
  }

  private report(chunk: ChunkId, problem: ChunkProblem, detail: string, foundBy: FoundBy): void {
    this.counters.corruptFound++;
    this.environment.log('warn', 'a replica turned out bad and is out of service', { chunk, problem, detail, foundBy });
    this.onBadReplica?.(chunk, problem, detail.slice(0, 512), foundBy);
  }

  private served(permit: Permit, bytes: number): void {
    this.counters.gets++;
    this.counters.readBytes += bytes;
    if (permit.client === 'coordinator') this.counters.repairReadBytes += bytes;
  }

  private member(): Membership {
    if (!this.membership) throw new HoldfastError('NOT_READY', 'this node has not joined its cluster yet: try again shortly');
    return this.membership;
  }

  /** Takes the mark away and signs, in one synchronous step; the id's lock is held. */
  private receipt(id: ChunkId, header: ChunkHeader, durable: boolean, client: string): string {
    return this.receiptFor(id, header.volume, header.payloadBytes, durable, client);
  }

  private receiptFor(chunk: ChunkId, volume: number, sizeBytes: number, durable: boolean, client: string): string {
    this.marks.delete(chunk);
    const { accessKey, cluster, node } = this.member();
    const sequence = ++this.sequence;
    return sign(accessKey, { kind: 'receipt', cluster, chunk, volume, sizeBytes, node, startId: this.startId, sequence, durable, client });
  }
}

const missing = (chunk: ChunkId): HoldfastError => new HoldfastError('CHUNK_MISSING', 'no such chunk on this node', { chunk });

function verified(permit: Permit, id: string, encoded: Buffer): ChunkHeader | HoldfastError {
  if (!isChunkId(id)) return new HoldfastError('BAD_MESSAGE', 'not a chunk id');
  try {
    const header = verifyChunk(id, encoded);
    if (permit.volume !== 0 && header.volume !== permit.volume)
      return new HoldfastError('FORBIDDEN', 'this permit is for another volume', { chunk: id });
    return header;
  } catch (error) {
    if (error instanceof HoldfastError) return error;
    throw error;
  }
}
