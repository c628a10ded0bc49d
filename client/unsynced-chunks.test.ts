import { beforeEach, describe, expect, it } from 'vitest';
import type { ChunkId, NodeContact, NodeId, NodeState } from '../protocol/entities.js';
import { HoldfastError } from '../protocol/errors.js';
import { FakeEnvironment } from '../test/fake-environment.js';
import type { ClientCore } from './core.js';
import type { PendingChunk } from './pending-cut.js';
import { UnsyncedChunks } from './unsynced-chunks.js';

/** How long a node takes to sync a chunk that it has not begun with; Infinity = it hangs. */
let perChunkMs: Map<NodeId, number>;
let states: Map<NodeId, NodeState>;
/** When the disk of a node has brought a chunk down: what was begun goes on though nobody waits for it. */
let doneAtMs: Map<string, number>;
let environment: FakeEnvironment;
let calls: Map<NodeId, number>;
let uploaded: ChunkId[];
/** Nodes that have lost everything, and those that the coordinator names. */
let empty: Set<NodeId>;
let located: NodeId[];

const chunkId = (index: number): ChunkId => String(index).padStart(64, '0');

function peer(node: NodeId) {
  let busyUntilMs = 0;
  return {
    sync: async (chunks: readonly ChunkId[], { timeoutMs }: { timeoutMs: number }) => {
      calls.set(node, (calls.get(node) ?? 0) + 1);
      const nowMs = environment.monotonicMs();
      let endMs = nowMs;
      for (const chunk of chunks) {
        const key = `${node} ${chunk}`;
        if (!doneAtMs.has(key)) {
          busyUntilMs = Math.max(busyUntilMs, nowMs) + (perChunkMs.get(node) as number);
          doneAtMs.set(key, busyUntilMs);
        }
        endMs = Math.max(endMs, doneAtMs.get(key) as number);
      }
      const isLate = endMs - nowMs > timeoutMs;
      await new Promise<void>((resolve) => {
        environment.setTimer(isLate ? timeoutMs : endMs - nowMs, resolve);
      });
      if (isLate) throw new HoldfastError('DEADLINE', 'no answer in time');
      return { missing: empty.has(node) ? chunks : [] };
    },
    get: async () => {
      if (empty.has(node)) throw new HoldfastError('CHUNK_MISSING', 'no such chunk');
      return Buffer.from('bytes');
    },
  };
}

function unsynced(count: number): UnsyncedChunks {
  const peers = new Map([1, 2, 3, 4].map((node) => [node, peer(node)]));
  const core = {
    environment,
    session: { permit: 'p', outageTimeoutMs: 30_000, renewPermit: async () => {}, call: async () => ({}) },
    volume: { copies: 2 },
    locations: { get: (chunk: ChunkId) => ({ chunk, sizeBytes: 5, nodes: located }) },
    pool: {
      contact: (node: NodeId) => ({ node, state: states.get(node) }) as NodeContact,
      peer: (node: NodeId) => peers.get(node),
      readOrder: (nodes: readonly NodeId[]) => nodes.filter((node) => states.get(node) === 'up'),
      writableCount: 3,
    },
    uploader: {
      upload: async ([chunk]: [PendingChunk]) => {
        uploaded.push(chunk.id);
        chunk.receipts.set(3, { receipt: 'r', isDurable: true });
      },
    },
  } as unknown as ClientCore;
  const chunks = new UnsyncedChunks(core);
  chunks.noteLocations(Array.from({ length: count }, (_, index) => ({ chunk: chunkId(index), sizeBytes: 5, nodes: [1, 2] })));
  return chunks;
}

async function sync(count: number): Promise<{ tookMs: number; error?: unknown }> {
  const startedMs = environment.monotonicMs();
  const all = new Set(Array.from({ length: count }, (_, index) => chunkId(index)));
  let ended: { error?: unknown } | undefined;
  unsynced(count)
    .sync([], async () => all)
    .then(
      () => {
        ended = {};
      },
      (error: unknown) => {
        ended = { error };
      },
    );
  await environment.until(() => ended !== undefined);
  return { ...ended, tookMs: environment.monotonicMs() - startedMs };
}

beforeEach(() => {
  environment = new FakeEnvironment(1);
  perChunkMs = new Map([
    [1, 1],
    [2, 1],
    [3, 1],
    [4, 1],
  ]);
  states = new Map([
    [1, 'up'],
    [2, 'up'],
    [3, 'up'],
    [4, 'up'],
  ]);
  doneAtMs = new Map();
  calls = new Map();
  uploaded = [];
  empty = new Set();
  located = [1, 2];
});

describe('making chunks stable', () => {
  it('waits for disks that are slow, however much there is, and stores nothing twice', async () => {
    perChunkMs.set(1, 100).set(2, 150);
    const { error, tookMs } = await sync(1000);
    expect(error).toBeUndefined();
    expect(tookMs).toBeGreaterThan(140_000);
    expect(tookMs).toBeLessThan(200_000);
    expect(uploaded).toEqual([]);
  });

  it('stores elsewhere what a node has that hangs, and asks it no more once it is suspect', async () => {
    perChunkMs.set(2, Number.POSITIVE_INFINITY);
    environment.setTimer(1500, () => states.set(2, 'suspect'));
    const { error, tookMs } = await sync(300);
    expect(error).toBeUndefined();
    expect(calls.get(2)).toBe(1);
    expect(uploaded).toHaveLength(300);
    expect(tookMs).toBeLessThan(6000);
  });

  it('gives up waiting for a disk that hangs while its node lives', async () => {
    perChunkMs.set(2, Number.POSITIVE_INFINITY);
    const { error, tookMs } = await sync(100);
    expect(error).toBeUndefined();
    expect(uploaded).toHaveLength(100);
    expect(tookMs).toBeLessThan(40_000);
  });

  it('finds them where they have moved to since they were written', async () => {
    empty.add(1).add(2);
    located = [3, 4];
    expect((await sync(100)).error).toBeUndefined();
    expect(uploaded).toEqual([]);
    // Nowhere at all: whoever wrote them must know.
    empty.add(3).add(4);
    expect((await sync(1)).error).toMatchObject({ code: 'EIO' });
  });

  it('is not kept from those that are wanted by others that are lost', async () => {
    const lost = unsynced(3);
    empty = new Set([1, 2, 3, 4]);
    doneAtMs.clear();
    const wanted = chunkId(1);
    let error: unknown;
    const failing = lost
      .sync([], async () => new Set([chunkId(0)]), new Set([chunkId(0)]))
      .catch((reason: unknown) => {
        error = reason;
      });
    await environment.until(() => error !== undefined);
    await failing;
    expect(error).toMatchObject({ code: 'EIO' });
    empty = new Set();
    let isDone = false;
    void lost
      .sync([], async () => new Set([wanted]), new Set([wanted]))
      .then(() => {
        isDone = true;
      });
    await environment.until(() => isDone);
    expect(lost.isEmpty).toBe(false);
  });
});
