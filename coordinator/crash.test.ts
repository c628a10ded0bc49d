import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { CoordinatorRig, chunkOf, type RigClient, ROOT_USER } from '../test/coordinator-rig.js';
import { FakeEnvironment, settle } from '../test/fake-environment.js';
import type { TableName } from './rows.js';
import type { State } from './state.js';

/** What files are, as text: two equal texts are two equal file systems. */
function contents(state: State): string {
  const tables: TableName[] = ['inodes', 'entries', 'extents', 'xattrs', 'chunks', 'orphans'];
  return JSON.stringify(
    tables.map((name) => [
      name,
      [...state.table(name).all()].map(([key, row]) => [String(key), row]).sort((a, b) => (String(a[0]) < String(b[0]) ? -1 : 1)),
    ]),
  );
}

function expectCounted(state: State): void {
  const references = new Map<string, number>();
  for (const [, extent] of state.table('extents').all()) references.set(extent.chunk, (references.get(extent.chunk) ?? 0) + 1);
  for (const [chunk, row] of state.table('chunks').all()) expect(row.refs).toBe(references.get(chunk) ?? 0);
  for (const [, inode] of state.table('entries').all()) expect(state.get('inodes', inode)).toBeDefined();
  let logicalBytes = 0;
  for (const [, row] of state.table('inodes').all()) if (row.kind === 'file' && row.nlink > 0) logicalBytes += row.sizeBytes;
  expect(state.index.ofVolume(1).logicalBytes).toBe(logicalBytes);
}

type Step =
  | { what: 'create' | 'mkdir' | 'unlink' | 'rmdir' | 'xattr' | 'truncate'; a: number; b: number }
  | { what: 'rename' | 'link' | 'write'; a: number; b: number }
  | { what: 'sync' | 'checkpoint' | 'restart'; a: number; b: number };
const step: fc.Arbitrary<Step> = fc.record({
  what: fc.constantFrom(
    'create',
    'create',
    'mkdir',
    'unlink',
    'rmdir',
    'xattr',
    'truncate',
    'rename',
    'rename',
    'link',
    'write',
    'write',
    'sync',
    'checkpoint',
    'restart',
  ),
  a: fc.nat(5),
  b: fc.nat(5),
}) as fc.Arbitrary<Step>;
const names = ['a', 'b', 'c', 'd', 'e', 'f'];

/** One call of a client on the root directory; what is refused is refused. */
async function perform(client: RigClient, { what, a, b }: Step): Promise<void> {
  const { root } = client;
  const name = names[a] as string;
  const other = names[b] as string;
  const inodeOf = async (): Promise<number> => (await client.call('lookup', { parent: root, name })).attributes?.inode ?? 999_999;
  if (what === 'create') await client.create(root, name);
  else if (what === 'mkdir') await client.mkdir(root, name);
  else if (what === 'unlink') await client.call('unlink', { parent: root, name, keepOpen: b > 3 });
  else if (what === 'rmdir') await client.call('removeDirectory', { parent: root, name, as: ROOT_USER });
  else if (what === 'rename') await client.rename(root, name, root, other);
  else if (what === 'link') await client.call('link', { inode: await inodeOf(), parent: root, name: other });
  else if (what === 'xattr')
    await client.call('setXattr', { inode: await inodeOf(), name: `user.${other}`, value: Buffer.from(other), how: 'any' });
  else if (what === 'truncate') await client.call('truncate', { inode: await inodeOf(), sizeBytes: b * 7 });
  else if (what === 'write')
    await client.call('commit', {
      inode: await inodeOf(),
      extents: [{ offset: b * 5, length: 10, chunk: chunkOf(a * 10 + b), chunkOffset: 0 }],
      receipts: [`${chunkOf(a * 10 + b)}:10`],
      sizeBytes: b * 5 + 10,
    });
  else if (what === 'sync') await client.call('sync', {});
}

interface Run {
  /** Contents after each step, oldest first. */
  readonly history: string[];
  /** Index of the contents that must survive a dead process, and a power loss. */
  acknowledged: number;
  synced: number;
}

/** Performs steps until the storage stops working; then everything is as if the process had been killed there. */
async function runUntilDeath(
  environment: FakeEnvironment,
  rig: CoordinatorRig,
  steps: readonly Step[],
  prepare: () => void,
): Promise<Run & { died: boolean }> {
  const client = await rig.client();
  const run: Run = { history: [contents(rig.coordinator.state)], acknowledged: 0, synced: 0 };
  await client.call('sync', {});
  prepare();
  for (const one of steps) {
    let isDone = false;
    const work = (
      one.what === 'checkpoint'
        ? environment.advance(2500)
        : one.what === 'restart'
          ? restart(environment, rig, client)
          : perform(client, one)
    ).then(
      () => {
        isDone = true;
      },
      () => {
        isDone = true;
      },
    );
    for (let turns = 0; !isDone && rig.fatal.length === 0 && turns < 500; turns++) await settle(1);
    run.history.push(contents(rig.coordinator.state));
    if (rig.fatal.length > 0 || !isDone) {
      void work;
      return { ...run, died: true };
    }
    run.acknowledged = run.history.length - 1;
    if (one.what === 'sync' || one.what === 'restart') run.synced = run.acknowledged;
  }
  return { ...run, died: false };
}

async function restart(environment: FakeEnvironment, rig: CoordinatorRig, client: RigClient): Promise<void> {
  await rig.coordinator.stop();
  await rig.start();
  await client.connect();
  await environment.advance(2000);
}

describe('a crash', () => {
  it('at any step of journal, segment switch and checkpoint leaves everything acknowledged, and nothing half done', async () => {
    let deaths = 0;
    await fc.assert(
      fc.asyncProperty(
        fc.array(step, { minLength: 3, maxLength: 25 }),
        fc.nat(40),
        fc.constantFrom('journal', 'store', 'none'),
        fc.constantFrom('process', 'power'),
        fc.nat(1_000_000),
        async (steps, after, where, kind, seed) => {
          const environment = new FakeEnvironment(seed);
          const rig = await new CoordinatorRig(environment, {}, 4096).start();
          const run = await runUntilDeath(environment, rig, steps, () => {
            if (where === 'journal') rig.journalStorage.stepsLeft = after;
            else if (where === 'store') rig.store.stepsLeft = after % 4;
          });
          if (run.died) deaths++;
          rig.crash(kind as 'process' | 'power');
          await rig.start();
          const found = contents(rig.coordinator.state);
          const required = kind === 'process' ? run.acknowledged : run.synced;
          expect(run.history.slice(required)).toContain(found);
          expectCounted(rig.coordinator.state);
          // And it goes on from there, twice.
          const again = await rig.client();
          await environment.advance(2000);
          await again.create(again.root, 'new');
          rig.crash('process');
          await rig.start();
          expect(rig.coordinator.state.table('entries').lookup(again.root, 'new')).toBeDefined();
          expect(rig.coordinator.epoch).toBeGreaterThanOrEqual(3);
        },
      ),
      { numRuns: 250 },
    );
    // A test of deaths that nobody died in proves nothing.
    expect(deaths).toBeGreaterThan(20);
  });

  it('after every single step of a fixed history is survived', async () => {
    const steps: Step[] = [
      { what: 'create', a: 0, b: 0 },
      { what: 'write', a: 0, b: 1 },
      { what: 'checkpoint', a: 0, b: 0 },
      { what: 'rename', a: 0, b: 1 },
      { what: 'mkdir', a: 2, b: 0 },
      { what: 'sync', a: 0, b: 0 },
      { what: 'unlink', a: 1, b: 0 },
      { what: 'create', a: 3, b: 0 },
      { what: 'checkpoint', a: 0, b: 0 },
      { what: 'create', a: 4, b: 0 },
    ];
    let deaths = 0;
    for (let after = 0; after < 60; after++) {
      const environment = new FakeEnvironment(after + 1);
      const rig = await new CoordinatorRig(environment, {}, 2048).start();
      const run = await runUntilDeath(environment, rig, steps, () => {
        rig.journalStorage.stepsLeft = after;
      });
      if (run.died) deaths++;
      rig.crash(after % 2 === 0 ? 'process' : 'power');
      await rig.start();
      expect(run.history.slice(after % 2 === 0 ? run.acknowledged : run.synced)).toContain(contents(rig.coordinator.state));
      if (!run.died) break;
    }
    expect(deaths).toBeGreaterThan(10);
  });
});
