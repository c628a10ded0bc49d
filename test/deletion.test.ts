/**
 * Deletion against uploads: the coordinator's keeper and real node services on a simulated clock and network. Clients upload, commit, drop and
 * upload the same few contents again while connections break, nodes and the coordinator restart.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Keeper } from '../coordinator/cluster-keeper.js';
import type { ClientCaller, ClusterContext } from '../coordinator/ports.js';
import { State } from '../coordinator/state.js';
import { Volumes } from '../coordinator/volumes.js';
import { MemoryChunkStore } from '../node/memory-chunk-store.js';
import type { NodeState } from '../node/node-state.js';
import { StorageNode } from '../node/storage-node.js';
import type { CallFrame, Connection, PushFrame } from '../protocol/call.js';
import { buildChunk } from '../protocol/chunk.js';
import type { ChunkId } from '../protocol/entities.js';
import { type Environment, sleep } from '../protocol/environment.js';
import { HoldfastError, isCode } from '../protocol/errors.js';
import { FakeEnvironment } from './fake-environment.js';

const CLUSTER = 'c1';
const KEY = Buffer.alloc(32, 7);

/** Two ends of a connection; frames arrive in order after a random delay, and not at all once it is closed. */
function connectionPair(environment: Environment, mayDrop: () => boolean): [Connection, Connection] {
  const ends: (Connection & { isOpen: boolean })[] = [];
  const pending = [new Set<(error: Error) => void>(), new Set<(error: Error) => void>()];
  const arrivesAt = [0, 0];
  const later = (side: number, action: () => void): void => {
    const nowMs = environment.monotonicMs();
    // In order: never before what was sent before.
    arrivesAt[side] = Math.max(arrivesAt[side] ?? 0, nowMs + Math.floor(environment.random() * 8));
    environment.setTimer((arrivesAt[side] ?? nowMs) - nowMs, action);
  };
  const end = (side: number): Connection & { isOpen: boolean } => ({
    isOpen: true,
    peer: 'memory',
    onCall: undefined,
    onPush: undefined,
    onClose: undefined,
    call(frame: CallFrame, timeoutMs: number): Promise<unknown> {
      return new Promise((resolve, reject) => {
        if (!this.isOpen) {
          reject(new HoldfastError('UNREACHABLE', 'closed'));
          return;
        }
        let timer: { cancel(): void } | undefined;
        const fail = (error: Error): void => {
          timer?.cancel();
          pending[side]?.delete(fail);
          reject(error);
        };
        timer = environment.setTimer(timeoutMs, () => fail(new HoldfastError('DEADLINE', frame.method)));
        pending[side]?.add(fail);
        later(side, () => {
          const other = ends[1 - side];
          // What was sent before the end closed may still be carried out, though nobody hears the answer.
          if (!other?.onCall) return;
          const answer = (settle: () => void): void =>
            later(1 - side, () => {
              if (mayDrop()) {
                ends[side]?.close('broken');
                return;
              }
              if (!pending[side]?.delete(fail)) return;
              timer?.cancel();
              settle();
            });
          other.onCall(structuredClone(frame)).then(
            (ok) => answer(() => resolve(structuredClone(ok))),
            (error: unknown) => answer(() => reject(error as Error)),
          );
        });
      });
    },
    push(frame: PushFrame): void {
      later(side, () => ends[1 - side]?.isOpen && ends[1 - side]?.onPush?.(frame));
    },
    close(reason: string): void {
      for (const at of [side, 1 - side]) {
        const one = ends[at];
        if (!one?.isOpen) continue;
        one.isOpen = false;
        for (const fail of [...(pending[at] ?? [])]) fail(new HoldfastError('UNREACHABLE', `closed: ${reason}`));
        environment.setTimer(0, () => one.onClose?.(reason));
      }
    },
  });
  ends.push(end(0), end(1));
  return [ends[0] as Connection, ends[1] as Connection];
}

const memoryState = (): NodeState => {
  const values = new Map<string, unknown>();
  return {
    load: (name: string) => Promise.resolve(values.get(name)),
    save: (name: string, value: unknown) => {
      values.set(name, structuredClone(value));
      return Promise.resolve();
    },
  } as NodeState;
};

class Rig {
  readonly state = new State();
  keeper: Keeper;
  private epoch = 0;
  private isCoordinatorDown = false;
  private readonly connections = new Set<Connection>();
  breakage = 0;
  readonly stores: MemoryChunkStore[] = [];
  readonly nodes: StorageNode[] = [];
  private readonly nodeStates: NodeState[] = [];

  constructor(
    readonly environment: FakeEnvironment,
    private readonly graceMs: number,
  ) {
    this.state.transact((tx) =>
      tx.put('volumes', 1, {
        ...{ volume: 1, name: 'main', root: 1, copies: 2, chunkSizeBytes: 65536, quotaBytes: null, quotaFiles: null },
        ...{ encryption: null, trashKeepMs: 0 },
      }),
    );
    this.keeper = this.makeKeeper();
  }

  private makeKeeper(): Keeper {
    this.epoch++;
    const { environment } = this;
    const context: ClusterContext = {
      environment,
      state: this.state,
      options: { downAfterMs: 5_000, stoppedGraceMs: 5_000, deletionGraceMs: this.graceMs, version: 't' },
      notices: { contactsChanged: () => {}, volumeChanged: () => {} },
      volumes: new Volumes({ environment, state: this.state, createRoot: () => 1, reapStep: () => true }),
      cluster: CLUSTER,
      epoch: this.epoch,
      coordinatorStartId: `start-${this.epoch}`,
      accessKey: KEY,
      url: () => 'http://coordinator',
      written: () => sleep(environment, environment.random() * 3),
      synced: () => sleep(environment, environment.random() * 3),
      authenticateUser: () => ({ user: 'admin', isAdmin: true, access: () => 'admin' }),
      authenticateNode: () => {},
      metadataStatus: () => ({ sequence: 0, bytes: 0, copies: [], isDiskFull: false }),
      connectedClients: () => 0,
      resolve: () => 1,
      pathOf: () => '/',
      deleteFile: () => Promise.resolve(),
      backup: () => Promise.reject(new Error('none')),
      readBackup: () => Promise.reject(new Error('none')),
    };
    const keeper = new Keeper(context);
    keeper.start();
    return keeper;
  }

  async startNode(at: number): Promise<void> {
    const { environment } = this;
    this.stores[at] ??= new MemoryChunkStore({ environment });
    this.nodeStates[at] ??= memoryState();
    const node = await StorageNode.create({
      environment,
      store: this.stores[at] as MemoryChunkStore,
      state: this.nodeStates[at] as NodeState,
      dialer: {
        dial: (_namespace, handshake) => {
          const [mine, theirs] = connectionPair(environment, () => environment.random() < this.breakage);
          if (this.isCoordinatorDown) return Promise.reject(new HoldfastError('UNREACHABLE', 'the coordinator is down'));
          this.connections.add(mine);
          this.keeper.acceptNode(handshake, theirs);
          return Promise.resolve(mine);
        },
      },
      peerAt: (url) => this.peerAt(url),
      name: `n${at + 1}`,
      token: 't',
      zone: '',
      version: 't',
      onFatal: (error) => {
        throw error;
      },
    });
    this.nodes[at] = node;
    await node.start(`http://n${at + 1}`);
  }
  private peerAt(url: string) {
    const node = this.nodes[Number(url.slice('http://n'.length)) - 1];
    return {
      node: 0,
      put: () => Promise.reject(new HoldfastError('UNREACHABLE')),
      get: async (chunk: ChunkId, _leaves: unknown, { permit }: { permit: string }) => {
        await sleep(this.environment, this.environment.random() * 5);
        if (!node?.isRegistered) throw new HoldfastError('UNREACHABLE');
        return node.service.get(node.service.authorize(permit, 'read'), chunk, 0, 1);
      },
      sync: () => Promise.reject(new HoldfastError('UNREACHABLE')),
    };
  }
  /** kill -9 and a new start on the same store. */
  async restartNode(at: number): Promise<void> {
    await this.nodes[at]?.crash();
    await sleep(this.environment, this.environment.random() * 200);
    await this.startNode(at);
  }
  async restartCoordinator(): Promise<void> {
    // Killed: its connections break, its timers do nothing any more, its rows stay.
    const old = this.keeper;
    this.isCoordinatorDown = true;
    await old.stop();
    // With the process every connection ends, also those that were about to register: nothing answers on them any more.
    for (const connection of this.connections) connection.close('the coordinator was killed');
    this.connections.clear();
    await sleep(this.environment, this.environment.random() * 50);
    this.isCoordinatorDown = false;
    this.keeper = this.makeKeeper();
  }
  isReady(): boolean {
    return (
      this.keeper.membership.all().length >= this.stores.length &&
      this.keeper.membership.all().every((member) => member.inventory === 'complete')
    );
  }

  private storeOf(node: number): MemoryChunkStore | undefined {
    return this.stores[Number(this.state.get('nodes', node)?.name.slice(1)) - 1];
  }
  /** What must always hold: a replica that a living chunk is said to have is there. */
  check(): void {
    for (const [chunk, row] of this.state.table('chunks').all()) {
      if (row.refs === 0) continue;
      const there = row.replicas.filter((node) => this.storeOf(node)?.has(chunk));
      if (there.length < row.replicas.length) {
        throw new Error(`chunk ${chunk.slice(0, 8)} lives on ${row.replicas.join()} but is only on ${there.join()}`);
      }
    }
  }
}

const contents = Array.from({ length: 3 }, (_, i) => {
  const payload = Buffer.from(`content ${i}`);
  const { id, header } = buildChunk(payload, 1);
  return { id, encoded: Buffer.concat([header, payload]) };
});

class Client {
  readonly caller: ClientCaller;
  committed = 0;
  again = 0;
  constructor(
    private readonly rig: Rig,
    name: string,
  ) {
    this.caller = { client: name.padEnd(32, '0'), user: name, volume: 1, access: 'write' };
  }

  /** Uploads to two nodes, waits for whatever reason, and commits; once more when told so. */
  async store(content: (typeof contents)[number]): Promise<boolean> {
    const { rig } = this;
    const { environment } = rig;
    for (let attempt = 0; attempt < 20; attempt++) {
      const receipts: string[] = [];
      const isPresent = environment.random() < 0.5 && rig.keeper.have(this.caller, [content.id]).length > 0;
      if (!isPresent) {
        const first = Math.floor(environment.random() * rig.stores.length);
        await Promise.all(
          [first, (first + 1) % rig.stores.length].map(async (at) => {
            await sleep(environment, environment.random() * 20);
            const { service } = rig.nodes[at] as StorageNode;
            if (!service.isReady) return;
            const { permit } = rig.keeper.permitFor(this.caller);
            const [result] = await service.put(service.authorize(permit, 'write'), [content], false);
            if (typeof result === 'string') receipts.push(result);
          }),
        );
      }
      await sleep(environment, environment.random() < 0.1 ? environment.random() * 500 : environment.random() * 30);
      try {
        for (let wait = rig.keeper.settle([content.id]); wait; wait = rig.keeper.settle([content.id])) await wait;
        rig.state.transact((tx) => {
          rig.keeper.acceptCommit(tx, this.caller, [content.id], receipts);
          rig.keeper.addReferences(tx, content.id, 1);
        });
        rig.check();
        this.committed++;
        return true;
      } catch (error) {
        if (!isCode(error, 'UPLOAD_AGAIN')) throw error;
        this.again++;
        await sleep(environment, 10 + environment.random() * 50 * attempt);
      }
    }
    return false;
  }
  drop(content: (typeof contents)[number]): void {
    this.rig.state.transact((tx) => this.rig.keeper.dropReferences(tx, content.id, 1));
  }
}

async function run(
  seed: number,
  options: { graceMs: number; cycles: number; clients: number; faults: boolean },
): Promise<{ rig: Rig; clients: Client[] }> {
  const environment = new FakeEnvironment(seed);
  const rig = new Rig(environment, options.graceMs);
  for (let at = 0; at < 3; at++) await rig.startNode(at);
  await environment.until(() => rig.isReady());
  const clients = Array.from({ length: options.clients }, (_, i) => new Client(rig, `client${i}`));
  let failure: unknown;
  let working = clients.length;
  const work = clients.map(async (client) => {
    try {
      for (let cycle = 0; cycle < options.cycles; cycle++) {
        const content = contents[Math.floor(environment.random() * contents.length)] as (typeof contents)[number];
        if (!(await client.store(content))) continue;
        await sleep(environment, environment.random() * 20);
        rig.check();
        client.drop(content);
        await sleep(environment, environment.random() * 20);
      }
    } catch (error) {
      failure ??= error;
    } finally {
      working--;
    }
  });
  const faults = (async () => {
    if (!options.faults) return;
    while (working > 0) {
      await sleep(environment, environment.random() * 1_500);
      const dice = environment.random();
      if (dice < 0.3) await rig.restartNode(Math.floor(environment.random() * 3));
      else if (dice < 0.5) await rig.restartCoordinator();
      else rig.breakage = dice < 0.8 ? 0.02 : 0;
    }
    rig.breakage = 0;
  })();
  await environment.until(() => working === 0, 3_600_000);
  if (failure) throw failure instanceof Error ? failure : new Error(String(failure));
  await Promise.all(work);
  let areFaultsOver = false;
  void faults.then(() => {
    areFaultsOver = true;
  });
  await environment.until(() => areFaultsOver);
  return { rig, clients };
}

/**
 * The same 25 runs each time; HOLDFAST_DELETION_RUNS=<n> draws n new ones. Of new ones about one in fifty fails because of this rig: what a killed
 * node had in hand (a removal) still reaches its store after the restart, which no real process can do; test/simulation kills properly.
 */
const drawn = (runs: string | undefined): fc.Parameters<[number, number]> =>
  runs === undefined ? { numRuns: 25, seed: 20_261_121, endOnFailure: true } : { numRuns: Number(runs), endOnFailure: true };

describe('deleting and storing the same content at the same time', () => {
  it('never loses a committed chunk, whatever breaks meanwhile, and leaves nothing behind', async () => {
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 1, max: 2 ** 31 }), fc.constantFrom(0, 0, 100), async (seed, graceMs) => {
        const { rig, clients } = await run(seed, { graceMs, cycles: 25, clients: 4, faults: true });
        expect(clients.reduce((sum, client) => sum + client.committed, 0)).toBeGreaterThan(20);
        rig.check();
        // Everything was dropped: in the end no row and, but for uploads never committed, no chunk is left.
        await rig.environment.until(() => rig.isReady() && rig.state.table('chunks').size === 0, 3_600_000);
        await rig.keeper.stop();
      }),
      drawn(process.env.HOLDFAST_DELETION_RUNS),
    );
  }, 240_000);

  it('misses nothing in 10,000 cycles with no grace', async () => {
    const { rig, clients } = await run(4711, { graceMs: 0, cycles: 2_500, clients: 4, faults: false });
    expect(clients.reduce((sum, client) => sum + client.committed, 0)).toBe(10_000);
    rig.check();
    await rig.keeper.stop();
  }, 240_000);
});
