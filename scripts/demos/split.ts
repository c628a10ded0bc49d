import { execFileSync } from 'node:child_process';
import type { Demo } from './stage.js';

const MIB = 1024 * 1024;
/** Of this process alone, so that two demos at once do not meet. */
const subnet = `10.${200 + (process.pid % 50)}.${Math.floor(process.pid / 50) % 250}`;
const space = `hf-demo-${process.pid}`;
const link = `hfd${process.pid % 1_000_000}`;

const ip = (...args: string[]): void => {
  execFileSync('ip', args, { stdio: ['ignore', 'ignore', 'pipe'] });
};

function obstacle(): string | undefined {
  if (process.getuid?.() !== 0) return 'network namespaces need root';
  try {
    ip('netns', 'add', `${space}-try`);
    ip('netns', 'del', `${space}-try`);
    return undefined;
  } catch (error) {
    return `network namespaces cannot be made here: ${(error as Error).message.split('\n')[0]}`;
  }
}

/** A namespace for n3, joined to this one by a cable that can be pulled. */
function lay(): void {
  ip('netns', 'add', space);
  ip('link', 'add', link, 'type', 'veth', 'peer', 'name', `${link}p`);
  ip('link', 'set', `${link}p`, 'netns', space);
  ip('addr', 'add', `${subnet}.1/24`, 'dev', link);
  ip('link', 'set', link, 'up');
  ip('netns', 'exec', space, 'ip', 'addr', 'add', `${subnet}.2/24`, 'dev', `${link}p`);
  ip('netns', 'exec', space, 'ip', 'link', 'set', `${link}p`, 'up');
  ip('netns', 'exec', space, 'ip', 'link', 'set', 'lo', 'up');
}

function clear(): void {
  for (const args of [
    ['link', 'del', link],
    ['netns', 'del', space],
  ]) {
    try {
      ip(...args);
    } catch {
      // Already gone, or never made.
    }
  }
}

export const split: Demo = {
  name: 'split',
  summary: 'the cable of a node is pulled and plugged in again: both sides go on, nothing is deleted, nothing is lost',
  obstacle,
  cluster: { nodes: 2, coordinatorArgs: ['--down-after', '3000'] },
  host: `${subnet}.1`,
  before: (stage) => {
    stage.onEnd(clear);
    lay();
  },
  afterCreate: async (stage) => {
    await stage.cluster.addNode('n3', { host: `${subnet}.2`, wrapper: ['ip', 'netns', 'exec', space] });
  },
  run: async (stage) => {
    const { cluster } = stage;
    await stage.write('before', 64 * MIB);
    const held = (await stage.chunkFiles('n3')).length;
    stage.say(`64 MiB written, ${held} chunks of it on n3, which has a network of its own. Its cable is pulled`);
    ip('link', 'set', link, 'down');
    stage.onEnd(() => ip('link', 'set', link, 'up'));
    await stage.write('meanwhile', 16 * MIB);
    stage.say('16 MiB written while n3 is away');
    await stage.forgetCaches();
    await stage.expectAllReadable();
    await cluster.waitFor((status) => status.nodes.some((node) => node.name === 'n3' && node.state === 'down'), 30_000, 'n3 down');
    await stage.expectHealed(40_000);
    const left = (await stage.chunkFiles('n3')).length;
    stage.expect(left >= held, `n3 deleted nothing while nobody could tell it what to do (${left} chunks)`);
    ip('link', 'set', link, 'up');
    stage.say('the cable is plugged in again');
    await cluster.waitFor((status) => status.nodes.every((node) => node.state === 'up'), 30_000, 'n3 up again');
    await stage.expectHealed(30_000);
    await stage.forgetCaches();
    await stage.expectAllReadable();
    await stage.expectSound();
  },
};
