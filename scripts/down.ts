// Stops a local cluster: mount first, so that everything is saved, then nodes, then coordinator.
import { LocalCluster } from './cluster.js';
import { realDirectory, withStateLock } from './cluster-state.js';
import { run, script } from './command.js';

const command = script('down', 'Stops the cluster; the data stay for the next scripts/up.')
  .option('--purge', 'delete data, logs and the state directory as well')
  .action(async (options: { state: string; purge?: boolean }) => {
    const state = realDirectory(options.state);
    await withStateLock(state, async () => {
      if (!LocalCluster.exists(state)) {
        console.log(`Nothing to stop: there is no cluster in ${state}.`);
        return;
      }
      const cluster = LocalCluster.open(state);
      const stopped = await cluster.stop();
      console.log(stopped.length > 0 ? `Stopped ${stopped.join(', ')}.` : 'Nothing was running.');
      if (options.purge) {
        await cluster.purge();
        console.log(`Deleted ${state}.`);
      }
    });
  });

await run(command);
