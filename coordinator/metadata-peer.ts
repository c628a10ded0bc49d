/** One node as a keeper of metadata copies: named blobs (routes /metadata/* of chunk-http.ts), over HTTP or in memory for simulations. */
import { createHash } from 'node:crypto';
import { Pool } from 'undici';
import { SHA256_HEADER } from '../protocol/chunk-http.js';
import { fromWire, HoldfastError, type WireError } from '../protocol/errors.js';
import { exchange } from '../protocol/http-exchange.js';
import { type Permit, sign } from '../protocol/permit.js';
import { clientTls, type PeerTls } from '../protocol/tls.js';

export interface MetadataBlob {
  readonly name: string;
  readonly sizeBytes: number;
  readonly epoch: number;
}
/** All methods reject with HoldfastError: UNREACHABLE, DEADLINE, STALE_EPOCH, EINVAL (append at a wrong offset), ENOSPC, ... */
export interface MetadataPeer {
  list(): Promise<MetadataBlob[]>;
  /** Whole content, on stable storage when it resolves. */
  put(name: string, epoch: number, content: Buffer): Promise<void>;
  /** On stable storage when it resolves. */
  append(name: string, offset: number, epoch: number, bytes: Buffer): Promise<void>;
  get(name: string): Promise<Buffer>;
  remove(name: string, epoch: number): Promise<void>;
  close(): void;
}

const TIMEOUT_MS = 5000;
/** Whole snapshots take longer. */
const BULK_TIMEOUT_MS = 120_000;

/** The coordinator's own permit for nodes: any volume, never outdated (only who has the access key can make it). */
export function coordinatorPermit(accessKey: Buffer, cluster: string): string {
  const claims: Permit = {
    kind: 'permit',
    cluster,
    volume: 0,
    access: 'write',
    client: 'coordinator',
    generation: Number.MAX_SAFE_INTEGER,
  };
  return sign(accessKey, claims);
}

export class HttpMetadataPeer implements MetadataPeer {
  private readonly pool: Pool;
  constructor(
    readonly url: string,
    private readonly permit: string,
    tls?: PeerTls,
  ) {
    this.pool = new Pool(new URL(url).origin, {
      connections: 2,
      keepAliveTimeout: 10_000,
      keepAliveMaxTimeout: 10_000,
      // Each request has a deadline of its own.
      headersTimeout: 0,
      bodyTimeout: 0,
      connect: { timeout: 2000, ...clientTls(tls) },
    });
  }

  /** Whose node answers here; needs no permit. The cluster is null when no coordinator ever took the node in. */
  async identity(): Promise<{ name: string; cluster: string | null }> {
    const { name, cluster } = JSON.parse((await this.send('GET', '/healthz')).toString()) as { name?: unknown; cluster?: unknown };
    return { name: String(name ?? ''), cluster: typeof cluster === 'string' ? cluster : null };
  }
  async list(): Promise<MetadataBlob[]> {
    const { items } = JSON.parse((await this.send('GET', '/metadata/list')).toString()) as { items: MetadataBlob[] };
    return items;
  }
  async put(name: string, epoch: number, content: Buffer): Promise<void> {
    const digest = createHash('sha256').update(content).digest('hex');
    await this.send('PUT', `/metadata/${name}?epoch=${epoch}`, content, { [SHA256_HEADER]: digest }, BULK_TIMEOUT_MS);
  }
  async append(name: string, offset: number, epoch: number, bytes: Buffer): Promise<void> {
    await this.send('POST', `/metadata/append?name=${name}&offset=${offset}&epoch=${epoch}&sync=1`, bytes);
  }
  get(name: string): Promise<Buffer> {
    return this.send('GET', `/metadata/${name}`, undefined, {}, BULK_TIMEOUT_MS);
  }
  async remove(name: string, epoch: number): Promise<void> {
    await this.send('DELETE', `/metadata/${name}?epoch=${epoch}`);
  }
  close(): void {
    this.pool.destroy().catch(() => {});
  }

  private async send(
    method: 'GET' | 'PUT' | 'POST' | 'DELETE',
    path: string,
    body?: Buffer,
    headers: Record<string, string> = {},
    timeoutMs = TIMEOUT_MS,
  ): Promise<Buffer> {
    let status: number;
    let answer: Buffer;
    try {
      const request = { method, path, permit: this.permit, headers, maxReplyBytes: Number.MAX_SAFE_INTEGER, timeoutMs };
      ({ status, body: answer } = await exchange(this.pool, this, body ? { ...request, body: [body] } : request, timeoutMs));
    } catch (error) {
      throw new HoldfastError(
        'UNREACHABLE',
        `node at ${this.url} cannot be reached: ${(error as { code?: string }).code ?? (error as Error).message}`,
      );
    }
    if (status >= 200 && status < 300) return answer;
    let wire: WireError;
    try {
      wire = JSON.parse(answer.toString()) as WireError;
    } catch {
      throw new HoldfastError('EIO', `node at ${this.url} answered ${status}`);
    }
    throw fromWire(wire);
  }
}
