/**
 * `holdfast recover`: a new data directory from the metadata copies that nodes keep (metadata-copies.ts). Every node is asked, also those that only the
 * metadata names; the best verified copy wins: highest epoch, then highest sequence. Nothing on the nodes is changed.
 */
import { Readable } from 'node:stream';
import { Command } from 'commander';
import { HoldfastError, isCode } from '../protocol/errors.js';
import { accessKeyOf } from '../protocol/permit.js';
import { type PeerTls, readTls, type TlsFiles } from '../protocol/tls.js';
import { buildDataDirectory, RowCollection, rebuiltEpoch } from './backup.js';
import { changesOf, RECORD_HEADER_BYTES, recordAt } from './journal-format.js';
import { journalName } from './metadata-copies.js';
import { coordinatorPermit, HttpMetadataPeer, type MetadataPeer } from './metadata-peer.js';
import { nextSteps, type PlaceFlags, placeOf, runOffline, withPlaceOptions } from './offline-command.js';
import type { InodeRow, NodeRow } from './rows.js';
import { readSnapshot } from './snapshot.js';

export interface FoundCopy {
  readonly node: string;
  readonly epoch: number;
  readonly snapshotSequence: number;
  /** Of the last whole record. */
  readonly sequence: number;
  readonly rows: RowCollection;
  readonly cluster: string;
  readonly atMs: number;
}
export interface RecoveryReport {
  readonly best: FoundCopy | undefined;
  /** One line per copy: what it is, or why it cannot be used. */
  readonly lines: readonly string[];
  /** Nodes whose copies could not be looked at: one of them may hold a better one. */
  readonly notAsked: readonly string[];
}

/** Reads one copy: snapshot, then records that follow it one by one, up to the first that is missing or torn. */
export async function readCopy(node: string, snapshot: Buffer, journal: Buffer): Promise<FoundCopy> {
  const rows = new RowCollection();
  const head = await readSnapshot(Readable.from([snapshot]), rows.apply);
  let { sequence } = head;
  for (let at = 0; at < journal.length; ) {
    const record = recordAt(journal, at);
    if (!record || record.sequence > sequence + 1) break;
    at += RECORD_HEADER_BYTES + record.payload.length;
    if (record.sequence <= sequence) continue;
    for (const change of changesOf(record)) rows.apply(change);
    sequence = record.sequence;
  }
  return { node, epoch: head.epoch, snapshotSequence: head.sequence, sequence, rows, cluster: head.cluster, atMs: head.atMs };
}

/** Asks every node for its copies and keeps the best. Broken copies are passed over, with a line saying so. */
export async function findBestCopy(nodes: readonly { readonly name: string; readonly peer: MetadataPeer }[]): Promise<RecoveryReport> {
  const lines: string[] = [];
  const notAsked: string[] = [];
  let best: FoundCopy | undefined;
  for (const { name, peer } of nodes) {
    try {
      const blobs = await peer.list();
      const names = new Set(blobs.map((blob) => blob.name));
      const snapshots = blobs.flatMap((blob) => {
        const match = /^snapshot-(\d+)-(\d+)$/.exec(blob.name);
        return match ? [{ name: blob.name, epoch: Number(match[1]), sequence: Number(match[2]) }] : [];
      });
      if (snapshots.length === 0) lines.push(`${name}: has no copy of the metadata`);
      for (const snapshot of snapshots) {
        try {
          const journal = journalName(snapshot.epoch, snapshot.sequence + 1);
          const found = await readCopy(name, await peer.get(snapshot.name), names.has(journal) ? await peer.get(journal) : Buffer.alloc(0));
          lines.push(
            `${name}: epoch ${found.epoch}, up to record ${found.sequence} (snapshot of record ${found.snapshotSequence}, ${new Date(found.atMs).toISOString()}), ${found.rows.count} rows`,
          );
          if (!best || isBetter(found, best)) best = found;
        } catch (error) {
          if (isCode(error, 'UNREACHABLE', 'DEADLINE')) throw error;
          lines.push(`${name}: ${snapshot.name} cannot be used: ${(error as Error).message}`);
        }
      }
    } catch (error) {
      notAsked.push(name);
      lines.push(`${name}: not asked: ${(error as Error).message}`);
    }
  }
  return { best, lines, notAsked };
}
const isBetter = (one: FoundCopy, other: FoundCopy): boolean =>
  one.epoch > other.epoch || (one.epoch === other.epoch && one.sequence > other.sequence);

const normalUrl = (text: string): string => {
  if (!URL.canParse(text) || !/^https?:$/.test(new URL(text).protocol))
    throw new HoldfastError('EINVAL', `${text} is not the address of a node: it looks like http://127.0.0.1:4710`);
  return new URL(text).origin;
};

/** Asks nodes, and then those that the metadata names besides. */
class Search {
  private readonly asked = new Set<string>();
  private readonly lines: string[] = [];
  private readonly notAsked: string[] = [];
  private best: FoundCopy | undefined;
  constructor(
    private readonly nodeToken: string,
    private readonly tls: PeerTls,
    /** Found out from the nodes when not given. */
    private cluster: string | undefined,
  ) {}

  /** @throws {HoldfastError} EINVAL the nodes are of different clusters */
  async run(urls: readonly string[]): Promise<RecoveryReport> {
    for (let next = [...urls]; next.length > 0; ) {
      await this.ask(next);
      next = this.othersKnown();
    }
    return { best: this.best, lines: this.lines, notAsked: this.notAsked };
  }

  private async ask(urls: readonly string[]): Promise<void> {
    const members: string[] = [];
    for (const url of urls) {
      this.asked.add(url);
      const peer = new HttpMetadataPeer(url, '', this.tls);
      try {
        const { name, cluster } = await peer.identity();
        if (cluster === null) this.lines.push(`${url}: ${name || 'this node'} has never been in a cluster`);
        else if (this.cluster === undefined || cluster === this.cluster) {
          this.cluster = cluster;
          members.push(url);
        } else
          throw new HoldfastError(
            'EINVAL',
            `${url} belongs to cluster ${cluster}, others to ${this.cluster}: leave it out of --from-nodes, or say which one with --cluster`,
          );
      } catch (error) {
        if (isCode(error, 'EINVAL')) throw error;
        this.notAsked.push(url);
        this.lines.push(`${url}: not asked: ${(error as Error).message}`);
      } finally {
        peer.close();
      }
    }
    const { cluster } = this;
    if (cluster === undefined || members.length === 0) return;
    const permit = coordinatorPermit(accessKeyOf(this.nodeToken, cluster), cluster);
    const nodes = members.map((url) => ({ name: url, peer: new HttpMetadataPeer(url, permit, this.tls) }));
    try {
      const { best, lines, notAsked } = await findBestCopy(nodes);
      this.lines.push(...lines);
      this.notAsked.push(...notAsked);
      if (best && (!this.best || isBetter(best, this.best))) this.best = best;
    } finally {
      for (const { peer } of nodes) peer.close();
    }
  }

  private othersKnown(): string[] {
    const rows = [...(this.best?.rows.rows.get('nodes')?.values() ?? [])] as NodeRow[];
    return rows
      .filter((row) => !row.isRemoved && URL.canParse(row.url) && !this.asked.has(normalUrl(row.url)))
      .map((row) => normalUrl(row.url));
  }
}

/** What a copy would bring back, for people. */
export function contentsOf(copy: FoundCopy): { files: number; directories: number; bytes: number; lastChangeMs: number } {
  const contents = { files: 0, directories: 0, bytes: 0, lastChangeMs: 0 };
  for (const inode of (copy.rows.rows.get('inodes')?.values() ?? []) as Iterable<InodeRow>) {
    if (inode.kind === 'directory') contents.directories++;
    else contents.files++;
    contents.bytes += inode.kind === 'file' ? inode.sizeBytes : 0;
    contents.lastChangeMs = Math.max(contents.lastChangeMs, inode.ctimeS * 1000 + Math.floor(inode.ctimeNs / 1e6));
  }
  return contents;
}

interface RecoverFlags extends PlaceFlags, TlsFiles {
  readonly fromNodes?: string[] | true;
  readonly cluster?: string;
  readonly dryRun: boolean;
  readonly acceptMissing: boolean;
}

/**
 * `holdfast recover --from-nodes URL... --node-token-file F --data DIR`, or `holdfast recover --state DIR` for a local cluster.
 * @returns exit code, as offline-command.ts says
 */
export function runRecover(argv: readonly string[]): Promise<number> {
  const command = withPlaceOptions(
    new Command('holdfast recover')
      .description(
        'Makes a new data directory for a coordinator from the metadata copies that nodes keep. The nodes must be running, the coordinator must not; nothing on the nodes is changed.',
      )
      .option('--from-nodes [url...]', 'nodes, http://host:port each; one is enough, the metadata names the others')
      .option('-n, --dry-run', 'only say what would come back', false)
      .option('--accept-missing', 'go on although some nodes cannot be asked: what only their copies hold is lost', false)
      .option('--cluster <id>', 'id of the cluster, when the nodes are of several')
      .option('--tls-ca <file>', "the cluster's certificate authority, PEM, for https nodes")
      .option('--tls-cert <file>', 'our certificate, PEM')
      .option('--tls-key <file>', 'its private key, PEM'),
  );
  return runOffline(command, argv, async (print, json) => {
    const flags = command.opts<RecoverFlags>();
    const place = await placeOf(flags);
    const given = Array.isArray(flags.fromNodes) ? flags.fromNodes : (place.local?.nodeUrls ?? []);
    if (given.length === 0) throw new HoldfastError('EINVAL', 'give the addresses of the nodes with --from-nodes URL..., or --state DIR');
    const { data } = place;
    if (data === undefined && !flags.dryRun)
      throw new HoldfastError('EINVAL', 'give --data DIR (a new directory), --state DIR, or --dry-run');
    const tls = await readTls(flags);
    const { best, lines, notAsked } = await new Search(place.nodeToken, tls, flags.cluster).run(given.map(normalUrl));
    for (const line of lines) print(line);
    if (!best)
      throw notAsked.length > 0
        ? new HoldfastError(
            'UNREACHABLE',
            `no copy of the metadata was found, and ${notAsked.join(', ')} could not be asked: start them and try again`,
          )
        : new HoldfastError('ENOENT', 'no copy of the metadata was found: give all nodes with --from-nodes, or restore a backup');
    const contents = contentsOf(best);
    print(
      `best: ${best.node}, epoch ${best.epoch}, record ${best.sequence}: ${contents.files} files, ${contents.directories} directories, ${contents.bytes} bytes, last change ${new Date(contents.lastChangeMs).toISOString()}`,
    );
    const { cluster, epoch, sequence } = best;
    const found = { cluster, best: { node: best.node, epoch, sequence, ...contents }, nodes: lines, notAsked };
    if (flags.dryRun) {
      if (notAsked.length > 0) print(`${notAsked.join(', ')} could not be asked and may hold a newer copy`);
      json({ dryRun: true, ...found });
      return;
    }
    if (notAsked.length > 0 && !flags.acceptMissing)
      throw new HoldfastError(
        'UNREACHABLE',
        `${notAsked.join(', ')} could not be asked and may hold a newer copy: start them and try again, or go on without them with --accept-missing`,
      );
    const { nodeToken, adminToken } = place;
    const target = data as string;
    await buildDataDirectory(target, best.rows, {
      ...{ cluster, nodeToken, epoch: rebuiltEpoch(epoch, Date.now()) },
      ...(adminToken === undefined ? {} : { adminToken }),
    });
    print(`recovered into ${target}\n${nextSteps(place, target)}`);
    json({ dryRun: false, data: target, ...found, isAdminTokenNew: adminToken === undefined });
  });
}
