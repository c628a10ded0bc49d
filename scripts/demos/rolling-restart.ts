import { type Demo, seconds } from './stage.js';

const MIB = 1024 * 1024;

export const rollingRestart: Demo = {
  name: 'rolling-restart',
  summary: 'every process is restarted in turn, as for an update; programs notice nothing, no data is copied',
  cluster: { nodes: 3 },
  run: async (stage) => {
    const { cluster } = stage;
    await stage.write('data', 64 * MIB);
    stage.say('A program writes and syncs small files without a break while each node, then the coordinator, is stopped and started');
    const load = await stage.load();
    for (const name of cluster.nodeNames) {
      await cluster.node(name).stop();
      await cluster.startNode(name);
      await cluster.waitFor((status) => status.chunks.belowCopies === 0 && status.health === 'HEALTHY', 40_000, `health after ${name}`);
      stage.say(`${name} restarted`);
    }
    await cluster.coordinator.stop();
    await cluster.startCoordinator();
    await cluster.waitHealthy(40_000);
    stage.say('the coordinator restarted');
    const { written, errors, worstMs } = await load.stop();
    stage.expect(
      errors.length === 0 && written > 0,
      `${written} files written and synced, ${errors.length} errors${errors[0] ? ` (${errors[0]})` : ''}`,
    );
    stage.expect(worstMs < 10_000, `the slowest of them took ${seconds(worstMs)}`);
    const { jobs } = await cluster.admin('jobs', {});
    const copied = jobs.filter((job) => job.kind === 'repair').reduce((sum, job) => sum + job.doneBytes, 0);
    stage.expect(
      copied < 32 * MIB,
      `${Math.round(copied / MIB)} MiB were copied for it: a clean stop starts no repair of what the node holds`,
    );
    await stage.forgetCaches();
    await stage.expectAllReadable();
    await stage.expectSound();
  },
};
