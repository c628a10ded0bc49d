/**
 * What goes wrong in a simulation. Every fault heals itself after a while; the plan of a phase says which may come together, so that no more is broken
 * than the promises allow for: damage to stored bytes hits one node only, and not in the same phase as a loss of power.
 */
import type { AdminCalls } from '../../protocol/admin-calls.js';
import type { RequestOf } from '../../protocol/call.js';
import type { ChunkId } from '../../protocol/entities.js';
import type { Cluster } from './cluster.js';
import type { SimNode } from './node-machine.js';
import type { Random } from './random.js';
import type { SimProcess } from './world.js';

/** How the faults of a phase may be combined. */
export type Weather = 'calm' | 'crashes' | 'media' | 'power';

export interface FaultContext {
  readonly cluster: Cluster;
  readonly random: Random;
  /** The only node whose disk may spoil what it holds in this phase. */
  readonly spoiling: SimNode;
  pause(delayMs: number): Promise<void>;
}
export interface Fault {
  readonly in: readonly Weather[];
  readonly weight: number;
  /** @returns false when there was nothing to break */
  run(context: FaultContext): Promise<boolean>;
}

const everywhere: readonly Weather[] = ['crashes', 'media', 'power'];
const somewhere = <T>(context: FaultContext, items: readonly T[]): T => context.random.pick(items);
const seconds = (context: FaultContext, from: number, to: number): Promise<void> => context.pause(context.random.between(from, to) * 1000);

async function partition(context: FaultContext, a: SimProcess, b: SimProcess): Promise<boolean> {
  const { network } = context.cluster;
  const ways = context.random.pick([1, 1, 2, 3]);
  if (ways & 1) network.block(a, b);
  if (ways & 2) network.block(b, a);
  await seconds(context, 0.5, 9);
  network.unblock(a, b);
  network.unblock(b, a);
  return true;
}
const isDrainingNow = (context: FaultContext, node: string): boolean =>
  [...(context.cluster.coordinator.state()?.table('nodes').values() ?? [])].some((row) => row.name === node && row.isDraining);
/** Asks until it is so and stays so: a coordinator that loses power may have forgotten the answer only if it was not given. */
async function untilDone<M extends 'undrainNode' | 'setCopies'>(
  context: FaultContext,
  method: M,
  args: RequestOf<AdminCalls, M>,
  isDone: () => boolean,
): Promise<boolean> {
  for (;;) {
    await context.cluster.administrator.tell(method, args);
    if (isDone()) return true;
    await seconds(context, 0.2, 0.4);
  }
}

/** Sets a disk fault of one node for a while. */
async function spoil(
  context: FaultContext,
  node: SimNode,
  change: Partial<SimNode['disk']['faults']>,
  calm: Partial<SimNode['disk']['faults']>,
): Promise<boolean> {
  Object.assign(node.disk.faults, change);
  await seconds(context, 0.5, 5);
  Object.assign(node.disk.faults, calm);
  return true;
}

export const faults: Record<string, Fault> = {
  'a node is killed': {
    in: everywhere,
    weight: 5,
    run: async (context) => {
      const node = somewhere(context, context.cluster.nodes);
      if (!node.process.isAlive) return false;
      node.kill(false);
      await seconds(context, 0.02, 9);
      await node.start();
      return true;
    },
  },
  'two nodes are killed': {
    in: ['crashes'],
    weight: 2,
    run: async (context) => {
      const nodes = context.random.shuffled(context.cluster.nodes).slice(0, 2);
      if (nodes.some((node) => !node.process.isAlive)) return false;
      for (const node of nodes) node.kill(false);
      await seconds(context, 0.1, 6);
      for (const node of nodes) await node.start();
      return true;
    },
  },
  'a node stops cleanly': {
    in: everywhere,
    weight: 1,
    run: async (context) => {
      const node = somewhere(context, context.cluster.nodes);
      if (!node.process.isAlive || node.process.isHung) return false;
      await node.stopCleanly();
      await seconds(context, 0.2, 4);
      await node.start();
      return true;
    },
  },
  'a node hangs': {
    in: everywhere,
    weight: 3,
    run: async (context) => {
      const node = somewhere(context, context.cluster.nodes);
      if (!node.process.isAlive) return false;
      node.process.hang();
      await seconds(context, 0.3, 12);
      node.process.wake();
      return true;
    },
  },
  'a node loses power': {
    in: ['power'],
    weight: 5,
    run: async (context) => {
      const node = somewhere(context, context.cluster.nodes);
      if (!node.process.isAlive) return false;
      node.kill(true);
      context.cluster.nodesLostPower();
      await seconds(context, 0.5, 8);
      await node.start();
      return true;
    },
  },
  'everything loses power': {
    in: ['power'],
    weight: 3,
    run: async (context) => {
      const { cluster } = context;
      cluster.coordinator.kill(true);
      for (const node of cluster.nodes) node.kill(true);
      cluster.nodesLostPower();
      await seconds(context, 0.2, 2);
      for (const start of context.random.shuffled([
        () => cluster.coordinator.start(),
        ...cluster.nodes.map((node) => () => node.start()),
      ])) {
        await start();
        await seconds(context, 0, 0.5);
      }
      return true;
    },
  },
  'a disk is slow': {
    in: everywhere,
    weight: 2,
    run: (context) =>
      spoil(context, somewhere(context, context.cluster.nodes), { slowMs: context.random.between(50, 1500) }, { slowMs: 0 }),
  },
  'a node is far away': {
    in: everywhere,
    weight: 2,
    run: async (context) => {
      const { process } = somewhere(context, context.cluster.nodes);
      context.cluster.network.slow(process, context.random.between(50, 900));
      await seconds(context, 0.5, 5);
      context.cluster.network.slow(process, 0);
      return true;
    },
  },
  'a disk is full': {
    in: everywhere,
    weight: 2,
    run: (context) => spoil(context, somewhere(context, context.cluster.nodes), { isFull: true }, { isFull: false }),
  },
  'all disks are full': {
    in: ['crashes'],
    weight: 1,
    run: async (context) => {
      for (const node of context.cluster.nodes) node.disk.faults.isFull = true;
      await seconds(context, 0.5, 4);
      for (const node of context.cluster.nodes) node.disk.faults.isFull = false;
      return true;
    },
  },
  'a disk fails to read': {
    in: ['media'],
    weight: 2,
    run: (context) => spoil(context, context.spoiling, { readEio: 0.3 }, { readEio: 0 }),
  },
  'a disk fails to write': {
    in: ['media'],
    weight: 2,
    run: (context) => spoil(context, context.spoiling, { writeEio: 0.3 }, { writeEio: 0 }),
  },
  'a disk fails to sync': {
    in: ['media'],
    weight: 2,
    run: (context) => spoil(context, context.spoiling, { syncEio: 0.3 }, { syncEio: 0 }),
  },
  'a disk gives wrong bytes': {
    in: ['media'],
    weight: 3,
    run: (context) => spoil(context, context.spoiling, { readFlip: 0.3 }, { readFlip: 0 }),
  },
  'replicas are damaged': {
    in: ['media'],
    weight: 5,
    run: async (context) => {
      const { cluster, random, spoiling } = context;
      let done = false;
      for (let count = 1 + random.int(4); count > 0; count--) {
        const ids: ChunkId[] = spoiling.disk.ids().filter((id) => cluster.nodes.some((node) => node !== spoiling && node.disk.isGood(id)));
        if (ids.length === 0) break;
        spoiling.disk.damage(random.pick(ids), random.pick(['flip', 'flip', 'truncate', 'empty', 'lose']));
        done = true;
      }
      return done;
    },
  },
  'the coordinator is killed': {
    in: everywhere,
    weight: 6,
    run: async (context) => {
      const { coordinator } = context.cluster;
      if (!coordinator.process.isAlive) return false;
      coordinator.kill(false);
      await seconds(context, 0.02, 6);
      await coordinator.start();
      return true;
    },
  },
  'the coordinator loses power': {
    in: ['power'],
    weight: 4,
    run: async (context) => {
      const { coordinator } = context.cluster;
      if (!coordinator.process.isAlive) return false;
      coordinator.kill(true);
      await seconds(context, 0.2, 3);
      await coordinator.start();
      return true;
    },
  },
  'the coordinator hangs': {
    in: everywhere,
    weight: 2,
    run: async (context) => {
      const { process } = context.cluster.coordinator;
      if (!process.isAlive) return false;
      process.hang();
      await seconds(context, 0.3, 10);
      process.wake();
      return true;
    },
  },
  'every process of the cluster is killed': {
    in: everywhere,
    weight: 2,
    run: async (context) => {
      const { cluster } = context;
      cluster.coordinator.kill(false);
      for (const node of cluster.nodes) node.kill(false);
      await seconds(context, 0.1, 2);
      for (const start of context.random.shuffled([
        () => cluster.coordinator.start(),
        ...cluster.nodes.map((node) => () => node.start()),
      ])) {
        await start();
        await seconds(context, 0, 1);
      }
      return true;
    },
  },
  'the journal is slow': {
    in: everywhere,
    weight: 2,
    run: async (context) => {
      const { disk } = context.cluster.coordinator;
      disk.slowMs = context.random.between(20, 800);
      await seconds(context, 0.5, 4);
      disk.slowMs = 0;
      return true;
    },
  },
  'the journal has no room': {
    in: everywhere,
    weight: 1,
    run: async (context) => {
      const { disk, diskCounters } = context.cluster.coordinator;
      disk.isFull = true;
      diskCounters.full++;
      await seconds(context, 0.5, 4);
      disk.isFull = false;
      return true;
    },
  },
  'the journal fails to sync': {
    in: ['power'],
    weight: 1,
    run: async (context) => {
      const { disk } = context.cluster.coordinator;
      disk.syncEio = 1;
      await seconds(context, 0.5, 2);
      disk.syncEio = 0;
      return true;
    },
  },
  'a client is killed': {
    in: everywhere,
    weight: 4,
    run: async (context) => {
      const client = somewhere(context, context.cluster.clients);
      if (!client.process.isAlive) return false;
      client.kill();
      await seconds(context, 0.05, 3);
      await client.start();
      return true;
    },
  },
  'a client hangs': {
    in: everywhere,
    weight: 3,
    run: async (context) => {
      const { process } = somewhere(context, context.cluster.clients);
      if (!process.isAlive) return false;
      process.hang();
      await seconds(context, 0.3, 12);
      process.wake();
      return true;
    },
  },
  'a client cannot reach a node': {
    in: everywhere,
    weight: 3,
    run: (context) =>
      partition(context, somewhere(context, context.cluster.clients).process, somewhere(context, context.cluster.nodes).process),
  },
  'a client cannot reach the coordinator': {
    in: everywhere,
    weight: 3,
    run: (context) => partition(context, somewhere(context, context.cluster.clients).process, context.cluster.coordinator.process),
  },
  'a node cannot reach the coordinator': {
    in: everywhere,
    weight: 3,
    run: (context) => partition(context, somewhere(context, context.cluster.nodes).process, context.cluster.coordinator.process),
  },
  'two nodes cannot reach each other': {
    in: everywhere,
    weight: 1,
    run: (context) => {
      const [a, b] = context.random.shuffled(context.cluster.nodes) as [SimNode, SimNode];
      return partition(context, a.process, b.process);
    },
  },
  'connections break': {
    in: everywhere,
    weight: 2,
    run: async (context) => {
      const { cluster } = context;
      for (let count = 1 + context.random.int(4); count > 0; count--) {
        const other = somewhere(context, [...cluster.clients, ...cluster.nodes]);
        cluster.network.cut(other.process, cluster.coordinator.process);
        await seconds(context, 0, 0.5);
      }
      return true;
    },
  },
  'calls get lost': {
    in: everywhere,
    weight: 3,
    run: async (context) => {
      const { network } = context.cluster;
      network.cutCallChance = 0.03;
      await seconds(context, 0.5, 3);
      network.cutCallChance = 0;
      return true;
    },
  },
  'replies get lost': {
    in: everywhere,
    weight: 4,
    run: async (context) => {
      const { network } = context.cluster;
      network.cutReplyChance = 0.03;
      await seconds(context, 0.5, 3);
      network.cutReplyChance = 0;
      return true;
    },
  },
  'a node is drained': {
    in: everywhere,
    weight: 3,
    run: async (context) => {
      const { administrator } = context.cluster;
      const { name: node } = somewhere(context, context.cluster.nodes);
      const isDraining = await administrator.tell('drainNode', { node });
      await seconds(context, 0.1, 7);
      return (await untilDone(context, 'undrainNode', { node }, () => !isDrainingNow(context, node))) && isDraining;
    },
  },
  'three copies are wanted for a while': {
    in: everywhere,
    weight: 2,
    run: async (context) => {
      const { administrator } = context.cluster;
      const wanted = await administrator.tell('setCopies', { volume: 'main', copies: 3 });
      await seconds(context, 0.1, 7);
      const copies = (): number | undefined => context.cluster.coordinator.state()?.get('volumes', 1)?.copies;
      return (await untilDone(context, 'setCopies', { volume: 'main', copies: 2 }, () => copies() === 2)) && wanted;
    },
  },
  'the nodes are evened out': {
    in: everywhere,
    weight: 1,
    run: async (context) => {
      const { administrator } = context.cluster;
      const isBegun = await administrator.tell('rebalance', { action: 'start' });
      await seconds(context, 0.1, 3);
      if (context.random.chance(0.3)) await administrator.tell('rebalance', { action: 'cancel' });
      return isBegun;
    },
  },
  'a scrub is ordered': {
    in: everywhere,
    weight: 1,
    run: (context) =>
      context.cluster.administrator.tell('scrub', { action: 'start', node: somewhere(context, context.cluster.nodes).name }),
  },
  'a clock jumps': {
    in: everywhere,
    weight: 1,
    run: async (context) => {
      const { cluster } = context;
      const one = somewhere(context, [cluster.coordinator, ...cluster.nodes, ...cluster.clients]);
      one.process.wallOffsetMs += context.random.pick([-2 * 3_600_000, 365 * 86_400_000, 5000, -700]);
      await seconds(context, 0, 0.1);
      return true;
    },
  },
};
export const faultNames: readonly string[] = Object.keys(faults);
