import type { Demo } from './stage.js';

const MIB = 1024 * 1024;

export const nodeLoss: Demo = {
  name: 'node-loss',
  summary: 'a node dies while a file is being written; nothing is lost, the copies are made again',
  cluster: { nodes: 4, coordinatorArgs: ['--down-after', '3000'] },
  run: async (stage) => {
    const { cluster } = stage;
    await stage.write('before', 48 * MIB);
    stage.say('48 MiB written. Now 96 MiB more, and in the middle of it node n2 is killed (kill -9)');
    const writing = stage.write('during', 96 * MIB);
    await cluster.waitFor((status) => status.chunks.total > 70, 30_000, 'the middle of the file');
    await cluster.node('n2').kill();
    await writing;
    stage.expect(true, 'the write ended without error');
    await cluster.waitFor(
      (status) => status.nodes.some((node) => node.name === 'n2' && node.state !== 'up'),
      10_000,
      'n2 noticed as missing',
    );
    stage.say((await cluster.status()).sentence);
    await stage.forgetCaches();
    await stage.expectAllReadable();
    await cluster.waitFor(
      (status) => status.nodes.some((node) => node.name === 'n2' && node.state === 'down'),
      20_000,
      'n2 counted as down',
    );
    stage.say('3 s of silence: n2 counts as down, the others copy from each other what it had');
    await stage.expectHealed(40_000);
    await cluster.startNode('n2');
    stage.say('n2 is back, and reports what it holds');
    await stage.expectHealed(20_000);
    await stage.expectAllReadable();
    await stage.expectSound();
  },
};
