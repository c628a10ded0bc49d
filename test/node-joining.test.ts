import { existsSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { AdminConnection } from '../client/index.js';
import { Credentials } from '../node/credentials.js';
import { memoryNodeState } from '../node/node-state.js';
import { type NodeOptions, type RunningNode, startNode } from '../node/start.js';
import type { HoldfastError } from '../protocol/errors.js';
import { FakeEnvironment } from './fake-environment.js';
import { type InProcessCluster, startInProcessCluster, waitFor } from './in-process-cluster.js';

let cluster: InProcessCluster;
let admin: AdminConnection;
const running: RunningNode[] = [];

/** Starts a node without the cluster's token. @returns it, and why it was refused for good */
async function start(name: string, joinToken?: string): Promise<{ node: RunningNode; refusal: () => HoldfastError | undefined }> {
  let refused: HoldfastError | undefined;
  const options: NodeOptions = {
    ...{ data: join(cluster.directory, name), name, coordinator: cluster.coordinatorUrl, reserveBytes: 1024 * 1024 },
    ...(joinToken === undefined ? {} : { joinToken }),
    onFatal: (error) => {
      refused = error;
    },
  };
  const node = await startNode(options);
  running.push(node);
  return { node, refusal: () => refused };
}
const joinToken = async (): Promise<string> => (await admin.call('createJoinToken', {})).token.token;
const PATIENCE_MS = 120_000;

beforeAll(async () => {
  cluster = await startInProcessCluster({ nodes: 1 });
  admin = await cluster.admin();
});
afterAll(async () => {
  for (const node of running) await node.stop();
  await cluster?.stop();
});

describe('a join token', () => {
  it(
    'lets one new node in, which comes back by a token of its own',
    async () => {
      const token = await joinToken();
      const first = await start('shelf', token);
      await waitFor(() => first.node.isRegistered, 'the node to join');
      const file = join(cluster.directory, 'shelf', 'credentials.json');
      expect(statSync(file).mode & 0o777).toBe(0o600);
      const own = (JSON.parse(readFileSync(file, 'utf8')) as { token: string }).token;
      expect(own).not.toBe(token);
      const rows = JSON.stringify([
        ...cluster.coordinator.state.table('nodes').all(),
        ...cluster.coordinator.state.table('settings').all(),
      ]);
      for (const secret of [own, token]) expect(rows).not.toContain(secret);
      await first.node.stop();
      const again = await start('shelf');
      await waitFor(() => again.node.isRegistered, 'the node to come back');

      const second = await start('thief', token);
      await waitFor(() => second.refusal() !== undefined, 'the second use to be refused');
      expect(second.refusal()).toMatchObject({ code: 'UNAUTHORIZED' });
      await admin.call('removeNode', { node: 'shelf', evenIfDataIsLost: 'shelf' });
      await waitFor(() => again.refusal() !== undefined, 'the removed node to be told');
      expect(again.refusal()).toMatchObject({ code: 'REFUSED' });
    },
    PATIENCE_MS,
  );
  it(
    'is not for the name of a node that is known, and not needed twice',
    async () => {
      const token = await joinToken();
      const impostor = await startNode({
        ...{ data: join(cluster.directory, 'impostor'), name: 'n1', coordinator: cluster.coordinatorUrl, joinToken: token },
        onFatal: (error) => {
          refusal = error;
        },
      });
      let refusal: HoldfastError | undefined;
      running.push(impostor);
      await waitFor(() => refusal !== undefined, 'the impostor to be refused');
      expect(['FORBIDDEN', 'REFUSED']).toContain(refusal?.code);
      const honest = await start('honest', token);
      await waitFor(() => honest.node.isRegistered, 'the token to be good still');
    },
    PATIENCE_MS,
  );
  it('or the cluster token must be there at a first start', async () => {
    await expect(start('nobody')).rejects.toMatchObject({ code: 'EINVAL' });
    expect(existsSync(join(cluster.directory, 'nobody', 'credentials.json'))).toBe(false);
  });
});

describe('credentials', () => {
  it('try the own token when the join token turns out used: the reply to the join was lost', async () => {
    const state = memoryNodeState();
    const environment = new FakeEnvironment();
    const first = await Credentials.load(state, { joinToken: 'join' }, environment);
    expect(first.presented).toMatchObject({ token: 'join', ownTokenSha256: expect.stringMatching(/^[0-9a-f]{64}$/) });
    expect(first.refused()).toBe(true);
    const { token } = first.presented;
    expect(token).toMatch(/^hf-node-/);
    expect(first.refused()).toBe(false);
    const restarted = await Credentials.load(state, { joinToken: 'join' }, environment);
    expect(restarted.presented).toEqual({ token });
    expect(restarted.refused()).toBe(true);
    expect(restarted.presented).toMatchObject({ token: 'join' });
    await restarted.joined('00'.repeat(32));
    const later = await Credentials.load(state, {}, environment);
    expect(later.presented).toEqual({ token });
    expect(later.accessKey('c')).toEqual(Buffer.alloc(32));
  });
});
