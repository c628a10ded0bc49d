/** N7, N8, N13, D2: disks of nodes that fill up, lose power or cannot be listed. Small file systems of their own need root. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { Cluster } from '../client/index.js';
import { codeOf, hasProgram, PATIENCE_MS, ProcessRig, random, readFile, sha256, unlink, waitUntil, writeFile } from './process-rig.js';

const NODES = ['n1', 'n2', 'n3'];
const TIMEOUT_MS = 180_000;
const isRoot = process.getuid?.() === 0;
const run = (program: string, ...args: string[]): void => {
  execFileSync(program, args, { stdio: ['ignore', 'ignore', 'pipe'] });
};

/** XFS in a file: a small disk whose power can be cut. */
function mountXfs(image: string, directory: string): void {
  run('mount', '-o', 'loop', image, directory);
}
function makeXfs(image: string): void {
  writeFileSync(image, '');
  truncateSync(image, 320 * 1024 * 1024);
  run('mkfs.xfs', '-q', image);
}
/** Why no such disk can be made here; undefined when it can. */
function whyNoXfs(): string | undefined {
  if (!isRoot) return 'needs root';
  if (!hasProgram('mkfs.xfs') || !hasProgram('xfs_io')) return 'needs xfsprogs';
  const directory = mkdtempSync(join(tmpdir(), 'holdfast-xfs-'));
  try {
    makeXfs(join(directory, 'image'));
    mkdirSync(join(directory, 'mnt'));
    mountXfs(join(directory, 'image'), join(directory, 'mnt'));
    run('umount', join(directory, 'mnt'));
    return undefined;
  } catch {
    return 'loop devices or XFS cannot be mounted here';
  } finally {
    rmSync(directory, { recursive: true });
  }
}
const noXfs = whyNoXfs();

async function withRig(
  options: Parameters<typeof ProcessRig.start>[0],
  body: (rig: ProcessRig, client: Cluster) => Promise<void>,
): Promise<void> {
  const rig = await ProcessRig.start(options);
  try {
    await body(rig, await rig.client());
  } finally {
    await rig.stop();
  }
}
async function expectWhole(rig: ProcessRig, manifest: ReadonlyMap<string, string>): Promise<void> {
  const reader = await rig.client();
  for (const [name, sum] of manifest) expect(sha256(await readFile(reader, name)), name).toBe(sum);
  // It stays connected: the coordinator can ask it whether it holds what is deleted later.
}

describe.skipIf(!isRoot)(`nodes with small disks${isRoot ? '' : ' (skipped: needs root)'}`, () => {
  it('N7 N8 go on while one is full, say ENOSPC when all are, by bytes or by inodes, keep what they have and recover by deleting', {
    timeout: TIMEOUT_MS,
  }, async () => {
    const undo: (() => void)[] = [];
    const options = {
      coordinatorArgs: ['--deletion-grace', '0'],
      prepare: (cluster: ProcessRig['cluster']): void => {
        for (const name of NODES) {
          const data = cluster.nodeData(name);
          mkdirSync(data, { recursive: true });
          run('mount', '-t', 'tmpfs', '-o', 'size=48m,nr_inodes=420', 'tmpfs', data);
          undo.push(() => run('umount', '-l', data));
        }
      },
    };
    try {
      await withRig(options, async (rig, client) => {
        for (const action of undo) rig.atEnd(action);
        undo.length = 0;
        const manifest = new Map<string, string>();
        let next = 0;
        /** Until it is refused, with what. */
        const fill = async (sizeBytes: number): Promise<string> => {
          for (;;) {
            const name = `f${next++}`;
            const content = random(sizeBytes);
            const code = await codeOf(writeFile(client, name, content, true));
            if (code !== 'none') return code;
            manifest.set(name, sha256(content));
          }
        };
        const empty = async (): Promise<void> => {
          for (const name of [...manifest.keys()]) {
            await unlink(client, name);
            manifest.delete(name);
          }
        };
        const worksAgain = (sizeBytes: number): Promise<boolean> =>
          waitUntil(async () => (await codeOf(writeFile(client, `again${next++}`, random(sizeBytes), true))) === 'none', PATIENCE_MS, 500);

        // Chunks that are files of their own, few bytes: the inodes come to their end first.
        expect(await fill(140_000)).toBe('ENOSPC');
        expect(manifest.size).toBeGreaterThan(60);
        expect(manifest.size * 2 * 140_000).toBeLessThan(3 * 40 * 1024 * 1024);
        await expectWhole(rig, manifest);
        await empty();
        expect(await worksAgain(140_000)).toBe(true);

        // One disk is filled by somebody else: the others take what comes.
        expect(await waitUntil(() => NODES.every((name) => rig.chunkFiles(name).length < 5), PATIENCE_MS)).toBe(true);
        const hog = join(rig.cluster.nodeData('n1'), 'hog');
        execFileSync('sh', ['-c', `head -c 100000000 /dev/zero > '${hog}' || true`], { stdio: 'ignore' });
        await rig.cluster.waitFor(
          ({ nodes }) => nodes.every(({ name, isFull }) => isFull === (name === 'n1')),
          PATIENCE_MS,
          'n1 full and the others not',
        );
        for (let i = 0; i < 4; i++) {
          const content = random(1_500_000);
          await writeFile(client, `beside${i}`, content, true);
          manifest.set(`beside${i}`, sha256(content));
        }
        expect(await fill(1_500_000)).toBe('ENOSPC');
        await expectWhole(rig, manifest);
        await empty();
        rmSync(hog);
        expect(await worksAgain(1_500_000)).toBe(true);
        await rig.waitForOrder();
      });
    } finally {
      for (const action of undo) action();
    }
  });
});

describe.skipIf(noXfs !== undefined)(`nodes whose power can be cut${noXfs ? ` (skipped: ${noXfs})` : ''}`, () => {
  it('N13 have every synced chunk after a loss of power of one, and of all at once', { timeout: TIMEOUT_MS }, async () => {
    const undo: (() => void)[] = [];
    let imageOf = (_name: string): string => '';
    const options = {
      prepare: (cluster: ProcessRig['cluster']): void => {
        imageOf = (name) => join(cluster.stateDirectory, '..', `${name}.img`);
        for (const name of NODES) {
          const data = cluster.nodeData(name);
          mkdirSync(data, { recursive: true });
          makeXfs(imageOf(name));
          mountXfs(imageOf(name), data);
          undo.push(() => run('umount', '-l', data));
        }
      },
    };
    try {
      await withRig(options, async (rig, client) => {
        for (const action of undo) rig.atEnd(action);
        undo.length = 0;
        const { cluster } = rig;
        const manifest = new Map<string, string>();
        /** Small and large chunks, all synced, while others are only closed. */
        const write = async (prefix: string, count: number): Promise<void> => {
          for (let i = 0; i < count; i++) {
            const content = random(i % 3 === 0 ? 1_300_000 : 2000 + i * 1000);
            await writeFile(client, `${prefix}${i}`, content, true);
            manifest.set(`${prefix}${i}`, sha256(content));
            await writeFile(client, `${prefix}unsynced${i}`, random(50_000));
          }
        };
        const cutPower = (name: string): void => run('xfs_io', '-x', '-c', 'shutdown', cluster.nodeData(name));
        const bootAgain = async (name: string): Promise<void> => {
          await cluster.node(name).kill();
          const data = cluster.nodeData(name);
          // A killed process lets go of its files a moment after its end is seen.
          const isUnmounted = async (): Promise<boolean> => (await codeOf((async () => run('umount', data))())) === 'none';
          expect(await waitUntil(isUnmounted, PATIENCE_MS, 100)).toBe(true);
          mountXfs(imageOf(name), data);
          // Half of an upload may have been lying there.
          writeFileSync(join(data, 'tmp', 'left-over'), 'half');
          await rig.restart(name);
          expect(readdirSync(join(data, 'tmp'))).not.toContain('left-over');
        };
        await write('first', 6);
        cutPower('n1');
        await write('meanwhile', 3);
        await bootAgain('n1');
        await cluster.waitHealthy(PATIENCE_MS);
        await expectWhole(rig, manifest);

        await write('second', 6);
        for (const name of NODES) cutPower(name);
        for (const name of NODES) await cluster.node(name).kill();
        await Promise.all(NODES.map(bootAgain));
        await expectWhole(rig, manifest);
        // What was only closed may be gone, as a whole; it is not made up.
        const report = await cluster.admin('check', {}, PATIENCE_MS);
        expect([report.dangling, report.wrongReferenceCounts]).toEqual([0, 0]);
      });
    } finally {
      for (const action of undo) action();
    }
  });
});

describe('a node that cannot list what it has', () => {
  it('D2 does not start with a part of it, and nothing is deleted anywhere because of that', { timeout: TIMEOUT_MS }, async () => {
    await withRig({ coordinatorArgs: ['--deletion-grace', '0', '--down-after', '60000'] }, async (rig, client) => {
      const { cluster } = rig;
      const manifest = new Map<string, string>();
      for (let i = 0; i < 12; i++) {
        const content = random(200_000);
        await writeFile(client, `f${i}`, content, true);
        manifest.set(`f${i}`, sha256(content));
      }
      await rig.waitForNoSurplus();
      const stored = new Map(NODES.map((name) => [name, rig.chunkFiles(name).sort()]));
      await cluster.node('n1').kill();
      const [anyChunk = ''] = stored.get('n1') ?? [];
      const folder = join(anyChunk, '..');
      renameSync(folder, `${folder}.aside`);
      // Listing it fails, as on a damaged disk.
      writeFileSync(folder, '');
      expect(await codeOf(cluster.startNode('n1', PATIENCE_MS))).toContain('n1');
      expect(cluster.node('n1').pid).toBe(undefined);
      for (const name of ['n2', 'n3']) expect(rig.chunkFiles(name).sort()).toEqual(stored.get(name));
      rmSync(folder);
      renameSync(`${folder}.aside`, folder);
      await rig.restart('n1');
      await rig.waitForOrder();
      expect(rig.chunkFiles('n1').sort()).toEqual(stored.get('n1'));
      await expectWhole(rig, manifest);
    });
  });
});
