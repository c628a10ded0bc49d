import { rm } from 'node:fs/promises';
import type { Demo } from './stage.js';

const MIB = 1024 * 1024;

export const lostDisk: Demo = {
  name: 'lost-disk',
  summary: 'a disk is replaced by an empty one; the cluster refuses to mistake it for the old one, and refills it when told',
  cluster: { nodes: 3, coordinatorArgs: ['--down-after', '3000'] },
  run: async (stage) => {
    const { cluster } = stage;
    await stage.write('data', 64 * MIB);
    await cluster.node('n1').kill();
    await rm(cluster.nodeData('n1'), { recursive: true, force: true });
    stage.say('64 MiB written. n1 was killed and its disk emptied; now it is started on the empty disk');
    const refusal = await cluster.startNode('n1', 30_000).then(
      () => undefined,
      (error: Error) => error,
    );
    stage.expect(refusal !== undefined, `refused: ${refusal?.message ?? 'no, it joined as if nothing had happened'}`);
    await cluster.node('n1').kill();
    await stage.forgetCaches();
    await stage.expectAllReadable();
    await stage.expectHealed(40_000);
    const removed = await stage.holdfast('node', 'remove', 'n1');
    stage.expect(removed.code === 0, (removed.stdout || removed.stderr).trim());
    await rm(cluster.nodeData('n1'), { recursive: true, force: true });
    await cluster.startNode('n1');
    stage.expect(
      (await cluster.status()).nodes.some((node) => node.name === 'n1' && node.state === 'up'),
      'after that n1 joins as a new, empty node',
    );
    await stage.write('more', 32 * MIB);
    await stage.expectAllReadable();
    await stage.expectSound();
  },
};
