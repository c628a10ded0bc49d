import type { Demo } from './stage.js';

const MIB = 1024 * 1024;

export const diskFull: Demo = {
  name: 'disk-full',
  summary: 'all disks fill up; writers are told, nothing old is harmed, deleting makes room again',
  cluster: { nodes: 3, nodeArgs: ['--capacity', '96M'] },
  run: async (stage) => {
    stage.say('Each node may keep 96 MiB: about 144 MiB of data with two copies. A program writes until it is refused');
    const kept: string[] = [];
    let refusal: NodeJS.ErrnoException | undefined;
    for (let index = 0; index < 100 && !refusal; index++) {
      const name = `file${index}`;
      await stage.write(name, 8 * MIB).then(
        () => kept.push(name),
        (error: NodeJS.ErrnoException) => {
          refusal = error;
        },
      );
    }
    stage.expect(
      refusal?.code === 'ENOSPC',
      `after ${kept.length} files of 8 MiB the next one is refused: ${refusal?.message ?? 'no refusal'}`,
    );
    await stage.expectAllReadable();
    const before = await stage.cluster.status();
    const half = kept.splice(0, Math.ceil(kept.length / 2));
    for (const name of half) await stage.remove(name);
    stage.say(`${half.length} files deleted`);
    const after = await stage.cluster.waitFor((status) => status.storedBytes < before.storedBytes * 0.75, 30_000, 'free space');
    stage.expect(
      after.storedBytes < before.storedBytes,
      `the disks hold ${Math.round(after.storedBytes / MIB)} MiB instead of ${Math.round(before.storedBytes / MIB)} MiB`,
    );
    await stage.cluster.waitFor((status) => status.nodes.some((node) => !node.isFull), 20_000, 'a node with room');
    const wrote = await stage.write('again', 8 * MIB).then(
      () => 'writing works again, without a restart',
      (error: Error) => error,
    );
    stage.expect(typeof wrote === 'string', typeof wrote === 'string' ? wrote : `writing still fails: ${wrote.message}`);
    await stage.expectAllReadable();
    await stage.expectSound();
  },
};
