/** status, check, why, events, jobs: what the cluster says of itself. */
import type { ClusterStatus, NodeStatus } from '../../../protocol/admin-calls.js';
import { sleep } from '../../../protocol/environment.js';
import { liveEnvironment } from '../../live-environment.js';
import type { Context } from '../context.js';
import { countWords, durationWords, type Paint, printable, sizeWords, table } from '../words.js';

const paintOfHealth = (health: string): Paint => (health === 'HEALTHY' ? 'good' : health === 'DEGRADED' ? 'warn' : 'bad');
const paintOfNode = (state: string): Paint => (state === 'up' ? 'good' : state === 'down' ? 'bad' : 'warn');

export async function status(context: Context, options: { watch?: boolean }): Promise<void> {
  const admin = await context.admin();
  if (!options.watch) {
    const now = await admin.call('status', {}, { timeoutMs: context.waitMs });
    if (context.isJson) context.json(now);
    else for (const line of statusLines(now, context)) context.print(line);
    return;
  }
  const environment = liveEnvironment();
  while (!context.interrupted.signal.aborted) {
    const now = await admin.call('status', {}).catch((error: Error) => error);
    if (context.isJson) {
      if (!(now instanceof Error)) context.json(now);
    } else {
      // Home and clear below: the screen does not flicker as with a full clear.
      if (process.stdout.isTTY) process.stdout.write('\x1b[H\x1b[J');
      if (now instanceof Error) context.print(`${context.paint('bad', 'OFFLINE')}  ${now.message}`);
      else for (const line of statusLines(now, context)) context.print(line);
    }
    await Promise.race([sleep(environment, 1000), aborted(context.interrupted.signal)]);
  }
}

export const aborted = (signal: AbortSignal): Promise<void> =>
  new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });

function nodeCells(node: NodeStatus): string[] {
  const remarks: string[] = [];
  if (node.isFull) remarks.push('full');
  if (node.isReadOnly) remarks.push('read-only');
  if (node.errors > 0) remarks.push(countWords(node.errors, 'disk error'));
  if (node.onlyCopies > 0) remarks.push(`${countWords(node.onlyCopies, 'chunk')} only here`);
  if (node.drainLeft !== null)
    remarks.push(node.safeToRemove ? 'drained: safe to remove' : `${countWords(node.drainLeft, 'chunk')} to move`);
  return [
    node.name,
    node.state,
    durationWords(node.stateForMs),
    sizeWords(node.usedBytes),
    sizeWords(node.freeBytes),
    node.replicas.toLocaleString('en'),
    node.zone,
    node.url,
    remarks.join(', '),
  ];
}

export function statusLines(now: ClusterStatus, context: Pick<Context, 'paint'>): string[] {
  const { paint } = context;
  const { chunks, rates } = now;
  const lines = [paint(paintOfHealth(now.health), now.sentence.startsWith(now.health) ? now.sentence : `${now.health}  ${now.sentence}`)];
  for (const cause of now.causes) lines.push(`  - ${cause.text}`);
  lines.push('');
  const header = ['NODE', 'STATE', 'SINCE', 'USED', 'FREE', 'REPLICAS', 'ZONE', 'ADDRESS', ''];
  const [head = '', ...rows] = table([header, ...now.nodes.map(nodeCells)], [3, 4, 5]);
  lines.push(paint('dim', head));
  for (const [index, row] of rows.entries()) {
    const node = now.nodes[index];
    lines.push(node && node.state !== 'up' ? paint(paintOfNode(node.state), row) : row);
  }
  lines.push('');
  const lost = chunks.lost > 0 ? `, ${chunks.lost} LOST` : '';
  lines.push(
    `chunks   ${countWords(chunks.total, 'chunk')}, ${chunks.belowCopies.toLocaleString('en')} below their copies, ${chunks.endangered} with one left${lost}`,
  );
  const saved =
    now.uniqueBytes > 0 && now.logicalBytes > now.uniqueBytes ? ` (${(now.logicalBytes / now.uniqueBytes).toFixed(2)} x shared)` : '';
  lines.push(
    `data     ${countWords(now.files, 'file')}, ${countWords(now.directories, 'directory', 'directories')}, ${sizeWords(now.logicalBytes)}${saved}, ${sizeWords(now.storedBytes)} on disks`,
  );
  for (const { name, snapshotCount = 0, keptBytes = 0, trashFiles = 0, trashBytes = 0 } of now.volumes) {
    const past = [
      ...(snapshotCount > 0 ? [`${countWords(snapshotCount, 'snapshot')} keeping ${sizeWords(keptBytes)}`] : []),
      ...(trashFiles > 0 ? [`${countWords(trashFiles, 'deleted file')} in the trash, ${sizeWords(trashBytes)}`] : []),
    ];
    if (past.length > 0) lines.push(`past     ${now.volumes.length > 1 ? `${name}: ` : ''}${past.join('; ')}`);
  }
  lines.push(
    `traffic  ${sizeWords(rates.writtenBytesPerS)}/s written, ${sizeWords(rates.readBytesPerS)}/s read, ${sizeWords(rates.repairBytesPerS)}/s repair, ${Math.round(rates.callsPerS)} calls/s, ${countWords(now.clients, 'client')}`,
  );
  if (now.jobs.running + now.jobs.waiting > 0) lines.push(`jobs     ${now.jobs.running} running, ${now.jobs.waiting} waiting`);
  if (now.safeMode.isActive)
    lines.push(`safe mode: nothing is deleted or copied until these report: ${now.safeMode.waitingFor.join(', ') || '-'}`);
  const copies = now.metadata.copies.map((copy) => `${copy.node}${copy.isCurrent ? '' : ` (${sizeWords(copy.lagBytes)} behind)`}`);
  // Only administrators are told.
  if (now.metadata.sequence > 0) lines.push(`metadata ${sizeWords(now.metadata.bytes)}, copies on ${copies.join(', ') || 'no node'}`);
  lines.push(
    paint('dim', `cluster ${now.cluster}, coordinator ${now.coordinatorUrl}, epoch ${now.epoch}, up for ${durationWords(now.upMs)}`),
  );
  return lines.map((line) => line.trimEnd());
}

export async function check(context: Context): Promise<number> {
  const admin = await context.admin();
  const report = await admin.call('check', {}, { timeoutMs: 600_000 });
  const isSound = report.dangling + report.missing + report.missingReplicas + report.wrongReferenceCounts === 0;
  if (context.isJson) context.json(report);
  else {
    context.print(
      isSound ? context.paint('good', 'Sound: metadata and nodes agree.') : context.paint('bad', 'NOT SOUND: metadata and nodes disagree.'),
    );
    const rows: [string, number, string][] = [
      ['inodes', report.inodes, ''],
      ['chunks', report.chunks, ''],
      ['replicas', report.replicas, ''],
      ['dangling', report.dangling, 'extents without chunk, entries without inode'],
      ['missing', report.missing, 'chunks that no node holds'],
      ['missing replicas', report.missingReplicas, 'known here, not on the node'],
      ['unknown', report.unknown, 'on nodes, but in no metadata'],
      ['wrong counts', report.wrongReferenceCounts, 'reference counts'],
      ['below copies', report.belowCopies, 'chunks with too few replicas'],
    ];
    for (const line of table(
      rows.map(([name, count, what]) => [name, count.toLocaleString('en'), what]),
      [1],
    ))
      context.print(line);
    context.print(
      `asked: ${report.nodesAsked.join(', ') || 'no node'}${report.nodesNotReached.length > 0 ? `; not reached: ${report.nodesNotReached.join(', ')}` : ''}`,
    );
    for (const problem of report.problems) context.print(`  - ${printable(problem)}`);
  }
  if (!isSound) return 6;
  return report.nodesNotReached.length > 0 ? 3 : 0;
}
