/** The screen of a real cluster: real processes, really killed. */

import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { LocalCluster } from '../scripts/cluster.js';
import { TuiTerminal, tmuxMissing } from './tui-terminal.js';

const root = fileURLToPath(new URL('..', import.meta.url));
const MIB = 1024 * 1024;
if (tmuxMissing) console.log(`skipped: ${tmuxMissing}`);

describe.skipIf(tmuxMissing)('the screen of a real cluster', () => {
  const directory = mkdtempSync(join(tmpdir(), 'holdfast-tui-cluster-'));
  const state = join(directory, 'state');
  let cluster: LocalCluster;
  let terminal: TuiTerminal;

  beforeAll(async () => {
    cluster = await LocalCluster.create(state, { nodes: 4, copies: 2, port: 0, mount: null });
    await cluster.start();
    await cluster.waitHealthy();
    const file = join(directory, 'film.bin');
    writeFileSync(file, randomBytes(6 * MIB));
    await promisify(execFile)(join(root, 'scripts/holdfast'), ['upload', file, '/', '--state', state], { timeout: 60_000 });
    terminal = new TuiTerminal(['--state', state]);
    await terminal.shows('LIVE', 60_000);
  });
  afterAll(async () => {
    terminal?.end();
    await cluster?.purge();
    rmSync(directory, { recursive: true, force: true });
  });

  it('shows a killed node on map, overview and events', async () => {
    terminal.keys('3');
    await terminal.shows('> film.bin');
    terminal.keys('Enter');
    await terminal.shows(/copies +222222/);
    const startedMs = performance.now();
    await cluster.node('n3').kill();
    await terminal.shows(/n3 (\?|DOWN)/);
    console.log(`kill -9 of a node to its sign on the map: ${(performance.now() - startedMs).toFixed(0)} ms`);
    terminal.keys('1');
    await terminal.shows(/n3 +(SUSPECT|DOWN)/);
    terminal.keys('4');
    await terminal.shows(/(WARN|ERR) +.*n3/);
  });

  it('starts the node again from the screen, and it is up again', async () => {
    terminal.keys('2');
    await terminal.shows('[2 Nodes]');
    terminal.keys('g', 'j', 'j');
    await terminal.shows(/> n3/);
    await terminal.shows('not running: S starts it');
    terminal.keys('S');
    await terminal.shows('n3 started', 60_000);
    await terminal.shows(/> n3 +up/, 60_000);
    expect(cluster.node('n3').state).toBe('running');
  });

  it('outlives a killed coordinator and is live again when it is started from the screen', async () => {
    terminal.keys('1');
    await terminal.shows('[1 Overview]');
    await cluster.coordinator.kill();
    await terminal.shows('OFFLINE');
    expect(terminal.capture()).toContain('Nodes: ');
    terminal.keys('S');
    await terminal.shows((screen) => screen.includes('LIVE') && !screen.includes('OFFLINE'), 60_000);
    await terminal.shows(/Nodes: 4 up/, 60_000);
  });
});
