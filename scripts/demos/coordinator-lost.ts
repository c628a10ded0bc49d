import { rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Demo } from './stage.js';

const MIB = 1024 * 1024;

export const coordinatorLost: Demo = {
  name: 'coordinator-lost',
  summary: "the coordinator's disk is gone; its metadata are made again from what the nodes keep",
  cluster: { nodes: 3 },
  run: async (stage) => {
    const { cluster } = stage;
    await stage.write('data', 48 * MIB);
    for (let index = 0; index < 50; index++) await stage.write(`tree/${index % 5}/file${index}`, 10_000);
    await cluster.waitFor(
      (status) => status.metadata.copies.length > 0 && status.metadata.copies.every((copy) => copy.isCurrent),
      20_000,
      'metadata copies on nodes',
    );
    const before = await cluster.status();
    await cluster.stopMount('stop');
    await cluster.coordinator.kill();
    await rm(cluster.coordinatorData, { recursive: true, force: true });
    stage.say('48 MiB and 50 small files written. The coordinator was killed and its whole data directory deleted');
    const fresh = join(cluster.stateDirectory, 'coordinator', 'recovered');
    const urls = cluster.nodeNames.map((name) => cluster.nodeUrl(name));
    const recovered = await stage.holdfast(
      'recover',
      '--from-nodes',
      ...urls,
      '--cluster',
      before.cluster,
      '--node-token-file',
      cluster.nodeTokenFile,
      '--data',
      fresh,
    );
    stage.expect(recovered.code === 0, (recovered.stdout || recovered.stderr).trim().split('\n').slice(-1)[0] ?? '');
    await rename(fresh, cluster.coordinatorData);
    await cluster.startCoordinator();
    await cluster.waitHealthy(60_000);
    const after = await cluster.status();
    stage.expect(
      after.files === before.files && after.chunks.total === before.chunks.total,
      `${after.files} files and ${after.chunks.total} chunks are known again (before: ${before.files} and ${before.chunks.total})`,
    );
    await cluster.startMount();
    await stage.expectAllReadable();
    await stage.write('after', 8 * MIB);
    await stage.expectSound();
  },
};
