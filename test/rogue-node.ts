/** A node that belongs to the cluster and lies: it takes every chunk, says so with good receipts, and serves anything but what it took. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { gzipSync } from 'node:zlib';
import type { Connection } from '../protocol/call.js';
import { verifyChunk } from '../protocol/chunk.js';
import { decodeBatch } from '../protocol/chunk-http.js';
import { MAX_BATCH_CHUNKS, PROTOCOL_VERSION } from '../protocol/limits.js';
import type { Registered } from '../protocol/node-calls.js';
import { type Permit, sign } from '../protocol/permit.js';
import { socketDialer } from '../protocol/socket.js';

const LIES = ['other bytes', 'endless', 'redirect', 'gzip', 'cut', 'empty', 'nonsense'] as const;
type Lie = (typeof LIES)[number];
const HEARTBEAT_MS = 500;
/** One for all: what it sends must not look like memory that the reader takes, who is in the same process. */
const PIECE = Buffer.alloc(1 << 20);
const SPACE = { capacityBytes: 1e12, freeBytes: 9e11, usedBytes: 0, chunkCount: 0 };

export class RogueNode {
  /** How often it told each lie. */
  readonly told = new Map<Lie, number>();
  private readonly chunks = new Map<string, Buffer>();
  private sequence = 0;
  private asked = 0;
  private timer: NodeJS.Timeout | undefined;
  private constructor(
    private readonly server: Server,
    private readonly connection: Connection,
    private readonly registered: Registered,
    /** Where its redirects lead. */
    private readonly honestUrl: string,
  ) {}

  static async start(coordinatorUrl: string, nodeToken: string, honestUrl: string): Promise<RogueNode> {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const connection = await socketDialer(coordinatorUrl).dial('node', { protocol: PROTOCOL_VERSION, token: nodeToken }, 20_000);
    let node: RogueNode | undefined;
    connection.onCall = ({ method, args }) => Promise.resolve(obeyed(method, args as { chunks?: string[] }, node?.sequence ?? 0));
    const args = { name: 'rogue', startId: 'rogue', url, zone: '', version: '0', ...SPACE };
    const registered = (await connection.call({ method: 'register', args }, 20_000)) as Registered;
    node = new RogueNode(server, connection, registered, honestUrl);
    server.on('request', (request: IncomingMessage, response: ServerResponse) => {
      node?.answer(request, response).catch(() => response.destroy()); // Whoever sent it has given it up half-way.
    });
    const counters = { readBytes: 0, writtenBytes: 0, errors: 0, isReadOnly: false, scrubbedChunks: 0 };
    node.timer = setInterval(() => {
      connection.call({ method: 'heartbeat', args: { ...SPACE, ...counters } }, 5000).catch(() => {}); // Down then: the test sees it.
    }, HEARTBEAT_MS);
    return node;
  }

  stop(): void {
    clearInterval(this.timer);
    this.connection.close('found out');
    this.server.closeAllConnections();
    this.server.close();
  }

  private async answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const pieces: Buffer[] = [];
    for await (const piece of request) pieces.push(piece as Buffer);
    const body = Buffer.concat(pieces);
    const path = (request.url ?? '').split('?', 1)[0] ?? '';
    const permit = JSON.parse(
      Buffer.from((request.headers.authorization ?? '').slice(7).split('.')[0] ?? '', 'base64url').toString(),
    ) as Permit;
    const json = (status: number, value: unknown): void => {
      response.writeHead(status, { 'content-type': 'application/json' });
      response.end(JSON.stringify(value));
    };
    if (request.method === 'PUT') return json(201, { receipt: this.take(path.slice(8), body, permit) });
    if (path === '/chunks')
      return json(200, { receipts: decodeBatch(body, MAX_BATCH_CHUNKS).map(({ id, encoded }) => this.take(id, encoded, permit)) });
    if (path === '/sync') return json(200, { missing: [] });
    this.lie(path.slice(8), response);
  }

  private take(id: string, encoded: Buffer, permit: Permit): string {
    const { payloadBytes, volume } = verifyChunk(id, encoded);
    this.chunks.set(id, Buffer.from(encoded));
    return sign(Buffer.from(this.registered.accessKey, 'hex'), {
      ...{ kind: 'receipt', cluster: this.registered.cluster, chunk: id, volume, sizeBytes: payloadBytes, node: this.registered.node },
      ...{ startId: 'rogue', sequence: ++this.sequence, durable: true, client: permit.client },
    });
  }

  private lie(id: string, response: ServerResponse): void {
    const lie = LIES[this.asked++ % LIES.length] as Lie;
    this.told.set(lie, (this.told.get(lie) ?? 0) + 1);
    const right = this.chunks.get(id) ?? Buffer.alloc(1000);
    if (lie === 'redirect') response.writeHead(302, { location: `${this.honestUrl}/chunks/${id}` }).end();
    else if (lie === 'gzip') response.writeHead(200, { 'content-encoding': 'gzip' }).end(gzipSync(Buffer.alloc(50_000_000)));
    else if (lie === 'cut') response.writeHead(200).end(right.subarray(0, right.length >> 1));
    else if (lie === 'empty') response.writeHead(200).end();
    else if (lie === 'nonsense') response.writeHead(200).end('<html>');
    else if (lie === 'other bytes') {
      const wrong = Buffer.from(right);
      wrong[wrong.length - 1]! ^= 1;
      response.writeHead(200).end(wrong);
    } else {
      const more = (): void => {
        while (!response.destroyed && response.write(PIECE));
        if (!response.destroyed) response.once('drain', more);
      };
      more();
    }
  }
}

/** Of orders it says what they like to hear. */
function obeyed(method: string, { chunks = [] }: { chunks?: string[] }, sequence: number): unknown {
  switch (method) {
    case 'inventory':
      return { items: [], isLast: true };
    case 'condemn':
      return { marked: chunks, missing: [] };
    case 'remove':
      return { removed: chunks, kept: [], startId: 'rogue', sequence };
    case 'verify':
      return { good: chunks, bad: [] };
    case 'copy':
      return { results: [] };
    default:
      return {};
  }
}
