import type { Demo } from './stage.js';

const MIB = 1024 * 1024;

export const drain: Demo = {
  name: 'drain',
  summary: 'a node is emptied and taken away while programs go on; there are never fewer copies than promised',
  cluster: { nodes: 4 },
  run: async (stage) => {
    const { cluster } = stage;
    await stage.write('data', 96 * MIB);
    stage.say('96 MiB written. A program keeps writing small files while n2 is drained');
    const load = await stage.load();
    let fewest = Number.POSITIVE_INFINITY;
    let isDrained = false;
    const watching = (async () => {
      while (!isDrained) {
        const { histogram } = (await cluster.status()).chunks;
        const least = histogram.byGoodReplicas.findIndex((count) => count > 0);
        if (least >= 0) fewest = Math.min(fewest, least);
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
    })();
    const drained = await stage.holdfast('node', 'drain', 'n2', '--wait');
    isDrained = true;
    await watching;
    stage.expect(drained.code === 0, (drained.stdout || drained.stderr).trim().split('\n').pop() ?? '');
    stage.expect(fewest >= 2, `no chunk ever had fewer than ${fewest} good copies meanwhile`);
    const removed = await stage.holdfast('node', 'remove', 'n2');
    stage.expect(removed.code === 0, (removed.stdout || removed.stderr).trim());
    await cluster.node('n2').stop();
    const { written, errors } = await load.stop();
    stage.expect(
      errors.length === 0 && written > 0,
      `${written} files were written meanwhile, ${errors.length} errors${errors[0] ? ` (${errors[0]})` : ''}`,
    );
    await stage.forgetCaches();
    await stage.expectAllReadable();
    await stage.expectHealed(20_000);
    await stage.expectSound();
  },
};
