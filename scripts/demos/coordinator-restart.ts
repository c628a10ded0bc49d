import { setTimeout as delay } from 'node:timers/promises';
import { type Demo, seconds } from './stage.js';

const MIB = 1024 * 1024;

export const coordinatorRestart: Demo = {
  name: 'coordinator-restart',
  summary: 'the coordinator is killed three times under load; programs see pauses and no errors',
  cluster: { nodes: 3 },
  run: async (stage) => {
    const { cluster } = stage;
    await stage.write('data', 32 * MIB);
    stage.say('A program writes and syncs small files without a break; the coordinator is killed (kill -9) three times');
    const load = await stage.load();
    for (let round = 1; round <= 3; round++) {
      await delay(3500);
      await cluster.coordinator.kill();
      stage.say(`killed for the ${['first', 'second', 'third'][round - 1]} time; reading of what is known goes on without it`);
      await delay(1000);
      const startMs = performance.now();
      await cluster.startCoordinator();
      stage.say(`started again: it answers after ${seconds(performance.now() - startMs)}`);
    }
    await delay(2000);
    const { written, errors, worstMs } = await load.stop();
    stage.expect(
      errors.length === 0 && written > 0,
      `${written} files written and synced, ${errors.length} errors${errors[0] ? ` (${errors[0]})` : ''}`,
    );
    stage.expect(worstMs < 15_000, `the slowest of them took ${seconds(worstMs)}`);
    await cluster.waitHealthy(30_000);
    await stage.forgetCaches();
    await stage.expectAllReadable();
    await stage.expectSound();
  },
};
