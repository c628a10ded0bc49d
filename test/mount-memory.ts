/** Mounts a cluster kept in memory: `mount-memory.ts MOUNTPOINT`. Says "mounted" on stdout and unmounts on SIGTERM. For tests of the driver. */
import { startMount } from '../mount/mounted.js';
import { realEnvironment } from '../protocol/environment.js';
import { MemoryCluster } from './memory-cluster.js';

const [mountpoint = ''] = process.argv.slice(2);
const mounted = await startMount({
  cluster: new MemoryCluster(realEnvironment()),
  mountpoint,
  log: (message) => console.error(message),
});
for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => void mounted.unmount());
console.log('mounted');
await mounted.gone;
process.exit(0);
