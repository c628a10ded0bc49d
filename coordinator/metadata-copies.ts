/**
 * Copies of the metadata on nodes, so that losing the coordinator's disk is not losing the file system. Each of the chosen nodes holds
 *
 *   snapshot-<epoch>-<sequence>       all rows as of that record (snapshot.ts)
 *   journal-<epoch>-<sequence + 1>    every record after it, as on the coordinator's disk
 *
 * One stream per node, at most one request under way, everything that gathered meanwhile in the next. A sync waits for the copies that keep up; one
 * that is silent for SILENT_MS is not waited for until it has caught up again, and one whose node is away for REPLACE_AFTER_MS is replaced by another node's.
 */
import { PassThrough } from 'node:stream';
import type { ClusterStatus } from '../protocol/admin-calls.js';
import type { NodeContact, NodeId } from '../protocol/entities.js';
import { type Environment, type Timer, wallMs } from '../protocol/environment.js';
import { isCode } from '../protocol/errors.js';
import type { JournalCopies } from './journal.js';
import type { MetadataPeer } from './metadata-peer.js';
import type { Change } from './rows.js';
import { writeSnapshot } from './snapshot.js';

const SILENT_MS = 400;
/** Records nobody waits for are sent this long after the first of them. */
const GATHER_MS = 250;
const REPLACE_AFTER_MS = 5000;
const LOOK_INTERVAL_MS = 1000;
/** A stream this long (or twice its snapshot) is replaced by a new snapshot, or one that is this far behind is begun anew. */
const MAX_STREAM_BYTES = 64 * 1024 * 1024;
const MAX_APPEND_BYTES = 4 * 1024 * 1024;
const FIRST_RETRY_MS = 200;
const LONGEST_RETRY_MS = 5000;

export interface CopiesPorts {
  readonly environment: Environment;
  readonly wanted: number;
  readonly cluster: string;
  readonly epoch: number;
  readonly contacts: () => readonly NodeContact[];
  readonly peer: (contact: NodeContact) => MetadataPeer;
  /** All rows as of now and the sequence of the record that will hold the last change in them. */
  readonly take: () => { rows: Change[]; sequence: number };
}

export const snapshotName = (epoch: number, sequence: number): string => `snapshot-${epoch}-${sequence}`;
export const journalName = (epoch: number, firstSequence: number): string => `journal-${epoch}-${firstSequence}`;

class CopyStream {
  /** Everything up to here is on stable storage there. */
  durableSequence = 0;
  isCurrent = false;
  awaySinceMs: number | undefined;
  pendingBytes = 0;
  private pending: { bytes: Buffer; sequence: number }[] = [];
  private file: { name: string; sizeBytes: number; firstSequence: number } | undefined;
  private snapshotBytes = 0;
  private isEnded = false;
  private retryMs = FIRST_RETRY_MS;
  private waiting: { sequence: number; resolve: () => void }[] = [];
  private isRunning = false;
  private gathering: Timer | undefined;

  constructor(
    readonly contact: NodeContact,
    private readonly peer: MetadataPeer,
    private readonly ports: CopiesPorts,
  ) {
    this.run();
  }

  append(bytes: Buffer, sequence: number): void {
    // Whatever was changed before a snapshot is taken is in it.
    if (!this.file || sequence < this.file.firstSequence) return;
    this.pending.push({ bytes, sequence });
    this.pendingBytes += bytes.length;
    // Nobody waits for it: one write and sync there for everything of a moment, not one for each record.
    this.gathering ??= this.ports.environment.setTimer(GATHER_MS, () => {
      this.gathering = undefined;
      this.run();
    });
  }

  /** Resolves when the copy has the record, or has been silent for too long; undefined = nothing to wait for. */
  durable(sequence: number): Promise<void> | undefined {
    if (!this.isCurrent || this.durableSequence >= sequence) return undefined;
    return new Promise((resolve) => {
      const timer = this.ports.environment.setTimer(SILENT_MS, () => {
        this.isCurrent = false;
        resolve();
      });
      this.waiting.push({
        sequence,
        resolve: () => {
          timer.cancel();
          resolve();
        },
      });
      this.run();
    });
  }

  end(): void {
    this.gathering?.cancel();
    this.isEnded = true;
    this.isCurrent = false;
    for (const one of this.waiting.splice(0)) one.resolve();
    this.peer.close();
  }

  private run(): void {
    if (this.isRunning || this.isEnded) return;
    this.isRunning = true;
    this.send().then(
      () => {
        this.isRunning = false;
        this.retryMs = FIRST_RETRY_MS;
        if (this.pending.length > 0 && (this.waiting.length > 0 || !this.gathering)) this.run();
      },
      (error: unknown) => {
        this.isRunning = false;
        this.isCurrent = false;
        for (const one of this.waiting.splice(0)) one.resolve();
        if (this.isEnded) return;
        // A stream whose end is not where we believe it (or that another coordinator wrote) is begun anew.
        if (!isCode(error, 'UNREACHABLE', 'DEADLINE')) this.file = undefined;
        if (this.retryMs === FIRST_RETRY_MS)
          this.ports.environment.log('warn', 'a metadata copy is not kept up', {
            node: this.contact.name,
            error: String((error as Error).message),
          });
        this.ports.environment.setTimer(this.retryMs, () => this.run());
        this.retryMs = Math.min(this.retryMs * 2, LONGEST_RETRY_MS);
      },
    );
  }

  private async send(): Promise<void> {
    const limitBytes = Math.max(MAX_STREAM_BYTES, 2 * this.snapshotBytes);
    if (!this.file || this.file.sizeBytes > limitBytes || this.pendingBytes > limitBytes) await this.begin();
    this.gathering?.cancel();
    this.gathering = undefined;
    while (this.pending.length > 0 && !this.isEnded) {
      const file = this.file as { name: string; sizeBytes: number };
      let sizeBytes = 0;
      let count = 0;
      for (const one of this.pending) {
        if (count > 0 && sizeBytes + one.bytes.length > MAX_APPEND_BYTES) break;
        sizeBytes += one.bytes.length;
        count++;
      }
      const batch = this.pending.slice(0, count);
      await this.appendAll(file, Buffer.concat(batch.map((one) => one.bytes)));
      this.pending.splice(0, count);
      this.pendingBytes -= sizeBytes;
      this.reached((batch.at(-1) as { sequence: number }).sequence);
      // What came meanwhile may gather, unless it is waited for or much.
      if (this.waiting.length === 0 && this.pendingBytes < MAX_APPEND_BYTES) break;
    }
  }

  /** A repeated append may find that the first attempt did arrive. */
  private async appendAll(file: { name: string; sizeBytes: number }, bytes: Buffer): Promise<void> {
    const start = file.sizeBytes;
    for (let at = 0; at < bytes.length; ) {
      const piece = bytes.subarray(at, at + MAX_APPEND_BYTES);
      try {
        await this.peer.append(file.name, start + at, this.ports.epoch, piece);
        at += piece.length;
      } catch (error) {
        const there = isCode(error, 'EINVAL') ? Number(error.facts?.sizeBytes) - start : Number.NaN;
        if (!(there > at && there <= bytes.length)) throw error;
        at = there;
      }
    }
    file.sizeBytes = start + bytes.length;
  }

  /** A new snapshot and an empty journal after it; then older ones go. */
  private async begin(): Promise<void> {
    const { epoch, cluster, environment } = this.ports;
    const { rows, sequence } = this.ports.take();
    this.pending = [];
    this.pendingBytes = 0;
    const file = { name: journalName(epoch, sequence + 1), sizeBytes: 0, firstSequence: sequence + 1 };
    // From this very moment records are kept for the stream: the snapshot has everything before.
    this.file = file;
    try {
      const name = snapshotName(epoch, sequence);
      const content = await snapshotContent(rows, { cluster, epoch, sequence, atMs: wallMs(environment) });
      this.snapshotBytes = content.length;
      await this.peer.put(name, epoch, content);
      await this.peer.remove(file.name, epoch);
      for (const blob of await this.peer.list()) {
        if (/^(snapshot|journal)-\d+-\d+$/.test(blob.name) && blob.name !== name && blob.name !== file.name)
          await this.peer.remove(blob.name, epoch);
      }
    } catch (error) {
      if (this.file === file) this.file = undefined;
      throw error;
    }
    this.reached(sequence);
  }

  private reached(sequence: number): void {
    this.durableSequence = sequence;
    this.isCurrent = true;
    this.waiting = this.waiting.filter((one) => {
      if (one.sequence > sequence) return true;
      one.resolve();
      return false;
    });
  }
}

async function snapshotContent(rows: readonly Change[], head: Parameters<typeof writeSnapshot>[1]): Promise<Buffer> {
  const pieces: Buffer[] = [];
  const sink = new PassThrough();
  sink.on('data', (piece: Buffer) => pieces.push(piece));
  await writeSnapshot(rows, head, sink);
  return Buffer.concat(pieces);
}

export class MetadataCopies implements JournalCopies {
  private readonly streams = new Map<NodeId, CopyStream>();
  private timer: Timer | undefined;
  private latestSequence = 0;

  constructor(private readonly ports: CopiesPorts) {}

  start(): void {
    this.look();
    this.timer = this.ports.environment.setTimer(LOOK_INTERVAL_MS, () => this.start());
  }
  stop(): void {
    this.timer?.cancel();
    for (const stream of this.streams.values()) stream.end();
    this.streams.clear();
  }

  append(bytes: Buffer, sequence: number): void {
    this.latestSequence = sequence;
    for (const stream of this.streams.values()) stream.append(bytes, sequence);
  }
  durable(sequence: number): Promise<void> | undefined {
    let waits: Promise<void>[] | undefined;
    for (const stream of this.streams.values()) {
      const wait = stream.durable(sequence);
      if (!wait) continue;
      waits ??= [];
      waits.push(wait);
    }
    return waits && Promise.all(waits).then(() => {});
  }
  status(): ClusterStatus['metadata']['copies'] {
    return [...this.streams.values()].map((stream) => ({
      node: stream.contact.name,
      sequence: stream.durableSequence,
      lagBytes: stream.pendingBytes,
      isCurrent: stream.isCurrent && stream.durableSequence >= this.latestSequence - 1000,
    }));
  }

  /** Chooses nodes: enough of them, in different zones, the same ones as long as they live. */
  private look(): void {
    const { wanted, environment, contacts } = this.ports;
    const nowMs = environment.monotonicMs();
    const known = new Map(contacts().map((contact) => [contact.node, contact]));
    for (const [node, stream] of this.streams) {
      const contact = known.get(node);
      const isThere =
        contact !== undefined && (contact.state === 'up' || contact.state === 'draining') && contact.url === stream.contact.url;
      stream.awaySinceMs = isThere ? undefined : (stream.awaySinceMs ?? nowMs);
      const isMoved = contact !== undefined && contact.url !== stream.contact.url;
      if (isMoved || contact?.state === 'removed' || (stream.awaySinceMs !== undefined && nowMs - stream.awaySinceMs > REPLACE_AFTER_MS)) {
        stream.end();
        this.streams.delete(node);
      }
    }
    const candidates = [...known.values()].filter(
      (contact) => contact.state === 'up' && contact.freeBytes > 0 && !this.streams.has(contact.node),
    );
    while (this.streams.size < wanted && candidates.length > 0) {
      const zones = new Set([...this.streams.values()].map((stream) => stream.contact.zone));
      const at = Math.max(
        0,
        candidates.findIndex((contact) => !zones.has(contact.zone)),
      );
      const [contact] = candidates.splice(at, 1) as [NodeContact];
      this.streams.set(contact.node, new CopyStream(contact, this.ports.peer(contact), this.ports));
    }
  }
}
