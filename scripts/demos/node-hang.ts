import { type Demo, seconds } from './stage.js';

const MIB = 1024 * 1024;

export const nodeHang: Demo = {
  name: 'node-hang',
  summary: 'a node freezes without dying; readers and writers go on with the others',
  cluster: { nodes: 3 },
  run: async (stage) => {
    const { cluster } = stage;
    await stage.write('before', 64 * MIB);
    await stage.forgetCaches();
    stage.say('64 MiB written. A program writes and syncs small files without a break; after a while n3 is frozen (SIGSTOP)');
    const load = await stage.load();
    await stage.write('other', 4 * MIB);
    await cluster.node('n3').pause();
    stage.say('n3 is frozen: its connections stay open, but nothing answers');
    const startMs = performance.now();
    await stage.expectAllReadable();
    stage.expect(
      performance.now() - startMs < 15_000,
      `reading everything took ${seconds(performance.now() - startMs)} although n3 answers nothing`,
    );
    await cluster.waitFor((status) => status.nodes.some((node) => node.name === 'n3' && node.state !== 'up'), 15_000, 'n3 suspected');
    const { written, errors, worstMs } = await load.stop();
    stage.expect(
      errors.length === 0 && written > 0,
      `${written} files written and synced meanwhile, ${errors.length} errors${errors[0] ? ` (${errors[0]})` : ''}`,
    );
    stage.expect(worstMs < 5000, `the slowest of them took ${seconds(worstMs)}`);
    await cluster.node('n3').resume();
    stage.say('n3 goes on as if nothing had been');
    await cluster.waitFor((status) => status.nodes.every((node) => node.state === 'up'), 20_000, 'n3 up again');
    await stage.expectHealed(30_000);
    await stage.expectAllReadable();
    await stage.expectSound();
  },
};
