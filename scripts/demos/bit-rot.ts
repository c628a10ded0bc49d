import { open, rename, stat, truncate } from 'node:fs/promises';
import type { Demo } from './stage.js';

const MIB = 1024 * 1024;

export const bitRot: Demo = {
  name: 'bit-rot',
  summary: 'a disk returns other bytes than were written; readers never see them, a scrub finds and heals them',
  cluster: { nodes: 3 },
  run: async (stage) => {
    const { cluster } = stage;
    for (let index = 0; index < 24; index++) await stage.write(`file${index}`, 2 * MIB);
    await cluster.stopMount('stop');
    const files = (await stage.chunkFiles('n1')).sort();
    const [a, b, c, d, e] = files;
    if (!a || !b || !c || !d || !e) throw new Error('n1 holds too few chunks');
    await flipBit(a);
    await truncate(b, Math.floor((await stat(b)).size / 2));
    await truncate(c, 0);
    await rename(d, `${d}.x`);
    await rename(e, d);
    await rename(`${d}.x`, e);
    stage.say('48 MiB written. On the disk of n1: one bit flipped, one chunk cut in half, one emptied, two swapped');
    await cluster.startMount();
    await stage.expectAllReadable();
    const before = await cluster.admin('events', { after: 0, limit: 1000 });
    const { stdout } = await stage.holdfast('node', 'scrub', 'n1');
    stage.say(stdout.trim());
    const bad = async (): Promise<number> => {
      const { events } = await cluster.admin('events', { after: 0, limit: 1000 });
      return new Set(events.filter((event) => event.kind === 'replica.bad').map((event) => event.chunk ?? event.text)).size;
    };
    await cluster.waitFor(() => true, 1000);
    const deadline = performance.now() + 30_000;
    while ((await bad()) < 5 && performance.now() < deadline) await new Promise((resolve) => setTimeout(resolve, 200));
    stage.expect(
      (await bad()) >= 5,
      `${await bad()} damaged replicas found (${before.events.filter((event) => event.kind === 'replica.bad').length} of them already by the readers)`,
    );
    await stage.expectHealed(30_000);
    await stage.forgetCaches();
    await stage.expectAllReadable();
    await stage.expectSound();
  },
};

async function flipBit(path: string): Promise<void> {
  const file = await open(path, 'r+');
  try {
    const at = Math.floor((await file.stat()).size / 2);
    const byte = Buffer.alloc(1);
    await file.read(byte, 0, 1, at);
    byte[0] = (byte[0] ?? 0) ^ 1;
    await file.write(byte, 0, 1, at);
  } finally {
    await file.close();
  }
}
