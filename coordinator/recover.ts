/**
 * `holdfast recover --from-nodes`: a new data directory from the metadata copies that nodes keep (metadata-copies.ts). Every node is asked; the best
 * verified copy wins: highest epoch, then highest sequence. Nothing on the nodes is changed.
 */
import { readFile } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { Command, CommanderError } from 'commander';
import { buildDataDirectory, RowCollection } from './backup.js';
import { accessKeyOf } from './coordinator.js';
import { changesOf, RECORD_HEADER_BYTES, recordAt } from './journal-format.js';
import { journalName } from './metadata-copies.js';
import { coordinatorPermit, HttpMetadataPeer, type MetadataPeer } from './metadata-peer.js';
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
  /** One line per node: what it has, or why it could not be asked. */
  readonly lines: readonly string[];
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
          if (!best || found.epoch > best.epoch || (found.epoch === best.epoch && found.sequence > best.sequence)) best = found;
        } catch (error) {
          lines.push(`${name}: ${snapshot.name} cannot be used: ${(error as Error).message}`);
        }
      }
    } catch (error) {
      lines.push(`${name}: not asked: ${(error as Error).message}`);
    }
  }
  return { best, lines };
}

/**
 * `holdfast recover --from-nodes URL... --cluster ID --node-token-file F --data DIR [--dry-run]`.
 * @returns exit code: 0 done, 1 failed or nothing found, 2 used wrongly
 */
export async function runRecover(argv: readonly string[]): Promise<number> {
  const program = new Command('holdfast recover')
    .description(
      'Makes a new data directory for a coordinator from the metadata copies that nodes keep. The nodes must be running; nothing on them is changed.',
    )
    .exitOverride()
    .requiredOption('--from-nodes <url...>', 'the nodes, http://host:port each; give all of them')
    .requiredOption('--cluster <id>', 'the id of the cluster: "cluster" in the identity.json of the old data directory or of any node')
    .requiredOption('--node-token-file <file>', "the cluster's node token")
    .option('--data <dir>', 'new data directory; must be empty')
    .option('--ca <file>', 'certificates to trust, PEM')
    .option('--dry-run', 'only say what would be recovered', false);
  let flags: { fromNodes: string[]; cluster: string; nodeTokenFile: string; data?: string; ca?: string; dryRun: boolean };
  try {
    flags = program.parse(argv, { from: 'user' }).opts();
    if (flags.data === undefined && !flags.dryRun) {
      process.stderr.write('holdfast recover: give --data DIR (a new directory), or --dry-run\n');
      return 2;
    }
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
    throw error;
  }
  const peers: MetadataPeer[] = [];
  try {
    const nodeToken = (await readFile(flags.nodeTokenFile, 'utf8')).trim();
    const ca = flags.ca === undefined ? undefined : await readFile(flags.ca, 'utf8');
    const permit = coordinatorPermit(accessKeyOf(nodeToken, flags.cluster), flags.cluster);
    const nodes = flags.fromNodes.map((url) => ({ name: url, peer: new HttpMetadataPeer(url, permit, ca) }));
    peers.push(...nodes.map((node) => node.peer));
    const { best, lines } = await findBestCopy(nodes);
    for (const line of lines) process.stdout.write(`${line}\n`);
    if (!best) throw new Error('no usable copy of the metadata was found: are all nodes running, and given?');
    process.stdout.write(`best: ${best.node}, epoch ${best.epoch}, record ${best.sequence}\n`);
    if (flags.dryRun || flags.data === undefined) return 0;
    for (const table of ['sessions', 'replies', 'locks'] as const) best.rows.rows.get(table)?.clear();
    await buildDataDirectory(flags.data, best.rows, { cluster: best.cluster, epoch: best.epoch + 1000, nodeToken });
    process.stdout.write(
      `recovered into ${flags.data}; start it with: holdfast coordinator --data ${flags.data}\nThe admin token is new: ${flags.data}/admin-token\n`,
    );
    return 0;
  } catch (error) {
    process.stderr.write(`holdfast recover: ${(error as Error).message}\n`);
    return 1;
  } finally {
    for (const peer of peers) peer.close();
  }
}
