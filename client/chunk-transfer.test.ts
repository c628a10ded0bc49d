import { beforeEach, describe, expect, it } from 'vitest';
import { buildChunk } from '../protocol/chunk.js';
import type { ChunkPeer, EncodedChunk } from '../protocol/chunk-http.js';
import type { ChunkId, NodeContact, NodeId } from '../protocol/entities.js';
import { HoldfastError } from '../protocol/errors.js';
import { FakeEnvironment } from '../test/fake-environment.js';
import { ChunkFetcher } from './chunk-fetcher.js';
import { ChunkUploader, type UploadChunk } from './chunk-uploader.js';
import { LeafCache } from './leaf-cache.js';
import { NodePool } from './node-pool.js';

type Behaviour = 'good' | 'dead' | 'frozen' | 'full' | 'corrupt' | 'empty' | 'expired-once';

/** A node that keeps chunks in memory and behaves as told. */
class TestNode implements ChunkPeer {
  readonly chunks = new Map<ChunkId, Buffer>();
  behaviour: Behaviour = 'good';
  puts = 0;
  gets = 0;
  abortedPuts = 0;
  constructor(
    readonly node: NodeId,
    private readonly environment: FakeEnvironment,
  ) {}
  async put(chunks: readonly EncodedChunk[], options: { durable: boolean; timeoutMs: number; signal?: AbortSignal }) {
    this.puts++;
    await this.behave(options, () => this.abortedPuts++);
    if (this.behaviour === 'full') return chunks.map(() => new HoldfastError('ENOSPC', 'full'));
    return chunks.map((chunk) => {
      this.chunks.set(chunk.id, Buffer.concat(chunk.parts));
      return `receipt of ${this.node}`;
    });
  }
  async get(chunk: ChunkId, _leaves: unknown, options: { timeoutMs: number; signal?: AbortSignal }) {
    this.gets++;
    await this.behave(options, () => {});
    const stored = this.chunks.get(chunk);
    if (!stored || this.behaviour === 'empty') throw new HoldfastError('CHUNK_MISSING', 'not here');
    if (this.behaviour !== 'corrupt') return stored;
    const bad = Buffer.from(stored);
    bad[bad.length - 1] = bad[bad.length - 1]! ^ 1;
    return bad;
  }
  sync(chunks: readonly ChunkId[]) {
    return Promise.resolve({ missing: chunks.filter((chunk) => !this.chunks.has(chunk)) });
  }
  private behave(options: { timeoutMs: number; signal?: AbortSignal }, aborted: () => void): Promise<void> {
    if (this.behaviour === 'dead') return Promise.reject(new HoldfastError('UNREACHABLE', 'connection refused'));
    if (this.behaviour === 'expired-once') {
      this.behaviour = 'good';
      return Promise.reject(new HoldfastError('PERMIT_EXPIRED', 'too old'));
    }
    return new Promise((resolve, reject) => {
      if (this.behaviour !== 'frozen') {
        this.environment.setTimer(2, resolve);
        return;
      }
      options.signal?.addEventListener('abort', () => {
        aborted();
        reject(new HoldfastError('DEADLINE', 'given up'));
      });
      this.environment.setTimer(options.timeoutMs, () => reject(new HoldfastError('DEADLINE', 'no answer')));
    });
  }
}

const contactOf = (node: NodeId, change: Partial<NodeContact> = {}): NodeContact => ({
  node,
  name: `n${node}`,
  url: `http://n${node}`,
  state: 'up',
  writable: true,
  zone: '',
  capacityBytes: 1e9,
  freeBytes: 1e9,
  ...change,
});

let environment: FakeEnvironment;
let nodes: Map<NodeId, TestNode>;
let pool: NodePool;
let renewals: number;
const permits = {
  permit: 'permit',
  renewPermit: () => {
    renewals++;
    return Promise.resolve();
  },
};
const chunkOf = (text: string): UploadChunk & { payload: Buffer } => {
  const payload = Buffer.from(text);
  const { id, header } = buildChunk(payload, 1);
  return { id, parts: [header, payload], receipts: new Map(), payload };
};
function behave(behaviours: Partial<Record<NodeId, Behaviour>>): void {
  for (const [node, behaviour] of Object.entries(behaviours)) nodes.get(Number(node))!.behaviour = behaviour ?? 'good';
}
/** Runs a promise to its end on the simulated clock; tells how long it took. */
async function run<T>(promise: Promise<T>): Promise<{ value?: T; error?: HoldfastError; tookMs: number }> {
  const startedMs = environment.monotonicMs();
  let outcome: { value?: T; error?: HoldfastError } | undefined;
  promise.then(
    (value) => {
      outcome = { value };
    },
    (error: HoldfastError) => {
      outcome = { error };
    },
  );
  await environment.until(() => outcome !== undefined);
  return { ...outcome!, tookMs: environment.monotonicMs() - startedMs };
}

beforeEach(() => {
  environment = new FakeEnvironment(7);
  nodes = new Map([1, 2, 3, 4].map((node) => [node, new TestNode(node, environment)]));
  pool = new NodePool(environment, (contact) => nodes.get(contact.node)!);
  pool.update([1, 2, 3, 4].map((node) => contactOf(node)));
  renewals = 0;
});

describe('uploading', () => {
  const uploader = (copies = 2) => new ChunkUploader(environment, pool, permits, () => copies);
  const in30s = () => ({ durable: false, untilMs: environment.monotonicMs() + 30_000 });

  it('brings a chunk to exactly as many nodes as copies when all is well', async () => {
    const chunk = chunkOf('hello');
    await run(uploader(2).upload([chunk], in30s()));
    expect(chunk.receipts.size).toBe(2);
    expect([...nodes.values()].reduce((sum, node) => sum + node.puts, 0)).toBe(2);
  });

  it.each(['dead', 'full'] as const)('goes to other nodes at once when two are %s', async (behaviour) => {
    const chunk = chunkOf('hello');
    const [first, second] = pool.candidates(chunk.id);
    behave({ [first!]: behaviour, [second!]: behaviour });
    const { tookMs } = await run(uploader(2).upload([chunk], in30s()));
    expect([...chunk.receipts.keys()].sort()).toEqual([1, 2, 3, 4].filter((node) => node !== first && node !== second));
    expect(tookMs).toBeLessThan(50);
  });

  it('replaces a frozen node after some hundred milliseconds, gives its request up, and avoids it next time', async () => {
    const chunk = chunkOf('hello');
    const [first] = pool.candidates(chunk.id);
    behave({ [first!]: 'frozen' });
    const { tookMs } = await run(uploader(2).upload([chunk], in30s()));
    expect(chunk.receipts.size).toBe(2);
    expect(chunk.receipts.has(first!)).toBe(false);
    expect(tookMs).toBeLessThan(1000);
    expect(nodes.get(first!)!.abortedPuts).toBe(1);
    const again = await run(uploader(2).upload([chunkOf('hello')], in30s()));
    expect(again.tookMs).toBeLessThan(50);
  });

  it('says ENOSPC when every node is full', async () => {
    behave({ 1: 'full', 2: 'full', 3: 'full', 4: 'full' });
    const { error, tookMs } = await run(uploader(2).upload([chunkOf('x')], in30s()));
    expect(error?.code).toBe('ENOSPC');
    expect(tookMs).toBeLessThan(5000);
  });

  it('waits for nodes to come back, and says NO_NODES after the deadline', async () => {
    behave({ 1: 'dead', 2: 'dead', 3: 'dead', 4: 'dead' });
    environment.setTimer(5000, () => behave({ 1: 'good', 3: 'good' }));
    const chunk = chunkOf('patient');
    await run(uploader(2).upload([chunk], in30s()));
    expect([...chunk.receipts.keys()].sort()).toEqual([1, 3]);
    behave({ 1: 'dead', 3: 'dead' });
    const { error, tookMs } = await run(uploader(2).upload([chunkOf('hopeless')], in30s()));
    expect(error?.code).toBe('NO_NODES');
    expect(tookMs).toBeGreaterThanOrEqual(30_000);
    expect(tookMs).toBeLessThan(45_000);
  });

  it('is content with fewer receipts only when the coordinator says fewer nodes may be written', async () => {
    behave({ 2: 'frozen', 3: 'frozen', 4: 'frozen' });
    const chunk = chunkOf('alone');
    environment.setTimer(3000, () =>
      pool.update([contactOf(1), ...[2, 3, 4].map((n) => contactOf(n, { state: 'suspect', writable: false }))]),
    );
    const { tookMs } = await run(uploader(2).upload([chunk], in30s()));
    expect([...chunk.receipts.keys()]).toEqual([1]);
    expect(tookMs).toBeGreaterThanOrEqual(3000);
    expect(tookMs).toBeLessThan(6000);
  });

  it('fetches a new permit when a node calls ours too old', async () => {
    behave({ 1: 'expired-once', 2: 'expired-once', 3: 'expired-once', 4: 'expired-once' });
    const chunk = chunkOf('hello');
    await run(uploader(2).upload([chunk], in30s()));
    expect(chunk.receipts.size).toBe(2);
    expect(renewals).toBeGreaterThan(0);
  });

  it('keeps a group of small chunks on the same nodes', async () => {
    const group = Array.from({ length: 50 }, (_, i) => chunkOf(`small ${i}`));
    await run(uploader(2).upload(group, in30s()));
    const homes = new Set(group.map((chunk) => [...chunk.receipts.keys()].sort().join()));
    expect(homes.size).toBe(1);
    expect([...nodes.values()].reduce((sum, node) => sum + node.puts, 0)).toBe(2);
  });
});

describe('fetching', () => {
  let reports: string[];
  const fetcher = () =>
    new ChunkFetcher(environment, pool, permits, new LeafCache(1e6), (_chunk, node, problem) => reports.push(`${node} ${problem}`));
  const stored = (text: string, on: NodeId[]) => {
    const chunk = chunkOf(text);
    for (const node of on) nodes.get(node)!.chunks.set(chunk.id, Buffer.concat(chunk.parts));
    return { chunk: chunk.id, sizeBytes: chunk.payload.length, nodes: on };
  };
  const read = async (from: ChunkFetcher, location: ReturnType<typeof stored>): Promise<string> => {
    let text = '';
    await from.read(location, { first: 0, count: 1 }, (_leaf, data) => {
      text = data.toString();
    });
    return text;
  };
  beforeEach(() => {
    reports = [];
  });

  it.each(['dead', 'corrupt', 'empty'] as const)('takes another replica when one is %s, and never gives wrong bytes', async (behaviour) => {
    for (let i = 0; i < 6; i++) {
      const location = stored(`text ${behaviour} ${i}`, [1, 2]);
      behave({ 1: behaviour });
      const { value, tookMs } = await run(read(fetcher(), location));
      expect(value).toBe(`text ${behaviour} ${i}`);
      expect(tookMs).toBeLessThan(100);
    }
    if (behaviour === 'corrupt') expect(new Set(reports)).toEqual(new Set(['1 corrupt']));
    if (behaviour === 'empty') expect(new Set(reports)).toEqual(new Set(['1 missing']));
  });

  it('asks a second replica soon when the first is frozen', async () => {
    const location = stored('slow', [1, 2]);
    behave({ 1: 'frozen' });
    for (let i = 0; i < 6; i++) {
      const { value, tookMs } = await run(read(fetcher(), location));
      expect(value).toBe('slow');
      expect(tookMs).toBeLessThan(600);
    }
    // The coordinator is told, so that others prefer the quicker ones as well.
    expect(new Set(reports)).toEqual(new Set(['1 slow']));
  });

  it('says EIO within ten seconds when no replica answers, and reads again when one is back', async () => {
    const location = stored('gone for a while', [1, 2]);
    behave({ 1: 'dead', 2: 'frozen' });
    const { error, tookMs } = await run(read(fetcher(), location));
    expect(error?.errno).toBe('EIO');
    expect(tookMs).toBeLessThanOrEqual(13_000);
    behave({ 1: 'good' });
    expect((await run(read(fetcher(), location))).value).toBe('gone for a while');
  });

  it('does not let everybody wait anew for a chunk that could not be read a moment ago', async () => {
    const location = stored('asked by many', [1, 2]);
    behave({ 1: 'frozen', 2: 'frozen' });
    const one = fetcher();
    expect((await run(read(one, location))).error?.code).toBe('CHUNK_UNREADABLE');
    const again = await run(read(one, location));
    expect([again.error?.code, again.tookMs]).toEqual(['CHUNK_UNREADABLE', 0]);
    behave({ 1: 'good' });
    await environment.advance(1001);
    expect((await run(read(one, location))).value).toBe('asked by many');
  });

  it('says CHUNK_MISSING at once when every replica answers that it has none', async () => {
    const { error, tookMs } = await run(read(fetcher(), { ...stored('x', []), nodes: [1, 2] }));
    expect(error?.code).toBe('CHUNK_MISSING');
    expect(tookMs).toBeLessThan(100);
  });

  it('asks once for leaves that many want at the same time', async () => {
    const location = stored('popular', [1]);
    const one = fetcher();
    const { value } = await run(Promise.all(Array.from({ length: 20 }, () => read(one, location))));
    expect(new Set(value)).toEqual(new Set(['popular']));
    expect(nodes.get(1)!.gets).toBe(1);
  });
});
