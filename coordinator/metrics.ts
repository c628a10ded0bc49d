/** What Prometheus may read from the coordinator: the status in numbers. */
import type { ClusterStatus } from '../protocol/admin-calls.js';
import type { EventLog } from './events.js';

const HEALTH_NUMBER = { HEALTHY: 0, DEGRADED: 1, 'AT RISK': 2, 'DATA LOSS': 3, OFFLINE: 4 } as const;
const quoted = (text: string): string => `"${text.replace(/[\\"\n]/g, (c) => (c === '\n' ? '\\n' : `\\${c}`))}"`;

export function metricsText(status: ClusterStatus, events: EventLog): string {
  const lines: string[] = [];
  const metric = (
    name: string,
    help: string,
    type: 'gauge' | 'counter',
    values: readonly (readonly [Record<string, string>, number])[],
  ): void => {
    lines.push(`# HELP holdfast_${name} ${help}`, `# TYPE holdfast_${name} ${type}`);
    for (const [labels, value] of values) {
      const text = Object.entries(labels)
        .map(([key, label]) => `${key}=${quoted(label)}`)
        .join(',');
      lines.push(`holdfast_${name}${text ? `{${text}}` : ''} ${value}`);
    }
  };
  const gauge = (name: string, help: string, value: number): void => metric(name, help, 'gauge', [[{}, value]]);
  gauge('health', '0 healthy, 1 degraded, 2 at risk, 3 data loss', HEALTH_NUMBER[status.health]);
  gauge('epoch', 'starts of the coordinator', status.epoch);
  gauge('safe_mode', '1 while nodes have not reported since the start', status.safeMode.isActive ? 1 : 0);
  gauge('files', 'files with a name', status.files);
  gauge('directories', 'directories', status.directories);
  gauge('logical_bytes', 'sum of file sizes', status.logicalBytes);
  gauge('unique_bytes', 'bytes of distinct referenced chunks', status.uniqueBytes);
  gauge('stored_bytes', 'bytes of all replicas', status.storedBytes);
  gauge('chunks', 'referenced chunks', status.chunks.total);
  gauge('chunks_below_copies', 'chunks with fewer good copies than wished', status.chunks.belowCopies);
  gauge('chunks_endangered', 'chunks with one good copy left', status.chunks.endangered);
  gauge('chunks_lost', 'chunks without a readable copy', status.chunks.lost);
  gauge('deletion_waiting_chunks', 'unreferenced chunks not deleted yet', status.deletion.waiting);
  gauge('clients', 'connected clients', status.clients);
  gauge('jobs_running', 'jobs running', status.jobs.running);
  gauge('calls_per_second', 'client calls answered', status.rates.callsPerS);
  gauge('written_bytes_per_second', 'bytes committed by clients', status.rates.writtenBytesPerS);
  gauge('repair_bytes_per_second', 'bytes copied between nodes', status.rates.repairBytesPerS);
  gauge('metadata_sequence', 'last journal record', status.metadata.sequence);
  metric('events_total', 'events noted', 'counter', [[{}, events.newest]]);
  const perNode = (name: string, help: string, value: (node: ClusterStatus['nodes'][number]) => number): void =>
    metric(
      name,
      help,
      'gauge',
      status.nodes.map((node) => [{ node: node.name }, value(node)]),
    );
  perNode('node_up', '1 when the node is up', (node) => (node.state === 'up' || node.state === 'draining' ? 1 : 0));
  perNode('node_capacity_bytes', 'size of the disk', (node) => node.capacityBytes);
  perNode('node_free_bytes', 'free for chunks', (node) => node.freeBytes);
  perNode('node_replicas', 'replicas known there', (node) => node.replicas);
  perNode('node_only_copies', 'chunks whose only good copy is there', (node) => node.onlyCopies);
  perNode('node_errors', 'disk errors the node counted', (node) => node.errors);
  return `${lines.join('\n')}\n`;
}
