/** How a simulated client process connects: the real library over the simulated network. */
import type { Cluster as ClientLibrary } from '../../client/api.js';
import { ConnectedCluster } from '../../client/cluster.js';
import type { Environment } from '../../protocol/environment.js';
import { ADMIN_TOKEN, type Cluster } from './cluster.js';
import type { SimProcess } from './world.js';

const OUTAGE_TIMEOUT_MS = 15_000;

/** @param onLoss called when the library says that written bytes were given up */
export function connectClient(
  cluster: Cluster,
  process: SimProcess,
  environment: Environment,
  description: string,
  onLoss: () => void,
): Promise<ClientLibrary> {
  const listening: Environment = {
    ...environment,
    log: (level, message, facts) => {
      environment.log(level, message, facts);
      if (message.includes('given up')) onLoss();
    },
  };
  return ConnectedCluster.connect(
    {
      coordinatorUrl: 'http://co:6000',
      token: ADMIN_TOKEN,
      description,
      outageTimeoutMs: OUTAGE_TIMEOUT_MS,
      // Little, so that writers meet its end.
      dirtyBudgetBytes: 300_000,
      cacheBudgetBytes: 400_000,
    },
    listening,
    cluster.dialerOf(process),
    (contact) => cluster.peer(process, contact.url, contact.node),
  );
}
