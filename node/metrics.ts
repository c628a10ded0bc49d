/** What /metrics shows. Labels are few and closed: never a chunk id, a path or a name of somebody's. */
import { collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import type { ChunkService } from './chunk-service.js';

export interface NodeMetrics {
  readonly contentType: string;
  text(): Promise<string>;
  /** A request has begun; call the result with the status when it has ended. */
  started(method: string): (status: number) => void;
}

const METHODS = new Set(['GET', 'PUT', 'POST', 'HEAD', 'DELETE']);

export function nodeMetrics(service: ChunkService, scrubbedChunks: () => number): NodeMetrics {
  const registers = [new Registry()];
  const registry = registers[0]!;
  collectDefaultMetrics({ register: registry, prefix: 'holdfast_' });
  const seconds = new Histogram({
    name: 'holdfast_node_request_seconds',
    help: "Time from a request's head to the end of its reply",
    labelNames: ['method', 'status'],
    buckets: [0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5],
    registers,
  });
  const gauge = (name: string, help: string, read: () => number): void => {
    new Gauge({
      name,
      help,
      registers,
      collect() {
        this.set(read());
      },
    });
  };
  gauge('holdfast_node_read_bytes_total', 'Bytes of chunks served', () => service.counters.readBytes);
  gauge('holdfast_node_written_bytes_total', 'Bytes of chunks stored', () => service.counters.writtenBytes);
  gauge('holdfast_node_bad_replicas_total', 'Replicas found bad and set aside', () => service.counters.corruptFound);
  gauge('holdfast_node_scrubbed_chunks_total', 'Replicas re-read by the scrub', scrubbedChunks);
  new Gauge({
    name: 'holdfast_node_disk_bytes',
    help: 'Space on this node',
    labelNames: ['kind'],
    registers,
    async collect() {
      const usage = await service.store.usage();
      this.set({ kind: 'capacity' }, usage.capacityBytes);
      this.set({ kind: 'free' }, usage.freeBytes);
      this.set({ kind: 'used' }, usage.usedBytes);
    },
  });
  new Gauge({
    name: 'holdfast_node_chunks',
    help: 'Replicas on this node',
    registers,
    async collect() {
      this.set((await service.store.usage()).chunkCount);
    },
  });
  // Looking a series up by its labels costs more than counting in it.
  const series = new Map<string, { observe(value: number): void }>();
  const seriesOf = (method: string, status: number): { observe(value: number): void } => {
    const key = `${method} ${status}`;
    let one = series.get(key);
    if (!one) {
      one = seconds.labels({ method, status: String(status) });
      series.set(key, one);
    }
    return one;
  };
  return {
    contentType: registry.contentType,
    text: () => registry.metrics(),
    started: (method) => {
      const startMs = performance.now();
      const label = METHODS.has(method) ? method : 'other';
      return (status) => seriesOf(label, status).observe((performance.now() - startMs) / 1000);
    },
  };
}
