/** D1: the same content is deleted and written again all the time while the collector sweeps without grace. 2,000 cycles in every run, 10,000 with HOLDFAST_SOAK=1. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { PATIENCE_MS, ProcessRig, random, readFile, unlink, waitUntil, writeFile } from './process-rig.js';

const isSoak = process.env.HOLDFAST_SOAK === '1';
const cycles = isSoak ? 10_000 : 2000;
const LANES = 4;
let rig: ProcessRig;

beforeAll(async () => {
  rig = await ProcessRig.start({ coordinatorArgs: ['--deletion-grace', '0'] });
}, PATIENCE_MS);
afterAll(() => rig?.stop(), PATIENCE_MS);

describe('D1 deleting and writing the same content again while deletion runs', () => {
  it(`loses no chunk in ${cycles} cycles, and leaves none behind`, { timeout: isSoak ? 3_600_000 : 420_000 }, async () => {
    const contents = [random(3000), random(3000), random(70_000)];
    const clients = [await rig.client(), await rig.client()];
    const lane = async (number: number): Promise<void> => {
      for (let cycle = number; cycle < cycles; cycle += LANES) {
        const client = clients[cycle % 2] as (typeof clients)[number];
        const reader = clients[(cycle + 1) % 2] as (typeof clients)[number];
        const content = contents[cycle % contents.length] as Buffer;
        const name = `f${number}`;
        await writeFile(client, name, content, cycle % 7 === 0);
        // Through the other client, so that the bytes come from nodes.
        if (cycle % 5 === 0) expect((await readFile(reader, name)).equals(content), `content of ${name} in cycle ${cycle}`).toBe(true);
        await unlink(client, name);
      }
    };
    // When one fails the others have ended, too, before anything else begins.
    const outcomes = await Promise.allSettled(Array.from({ length: LANES }, (_, number) => lane(number)));
    for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason;
    const last = contents[0] as Buffer;
    await writeFile(clients[0] as (typeof clients)[number], 'last', last);
    const report = await rig.waitForOrder();
    expect(report.missing).toBe(0);
    expect((await readFile(clients[1] as (typeof clients)[number], 'last')).equals(last)).toBe(true);
    await unlink(clients[0] as (typeof clients)[number], 'last');
    const isEmpty = async (): Promise<boolean> => (await rig.cluster.status()).chunks.total === 0;
    expect(await waitUntil(isEmpty, PATIENCE_MS, 200)).toBe(true);
  });
});
