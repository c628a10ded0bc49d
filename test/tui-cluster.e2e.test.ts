/** The screen of a real cluster: real processes, really killed, and every action from its key to its effect. */

import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { LocalCluster, waitUntil } from '../scripts/cluster.js';
import { TuiTerminal, tmuxMissing } from './tui-terminal.js';

const root = fileURLToPath(new URL('..', import.meta.url));
const MIB = 1024 * 1024;
/** Processes are started and stopped here, on machines that do other things as well. */
const LONG_MS = 90_000;
/** So many that, wherever chance puts them, each of four nodes has more than one. */
const FILM_CHUNKS = 32;
if (tmuxMissing) console.log(`skipped: ${tmuxMissing}`);

describe.skipIf(tmuxMissing)('the screen of a real cluster', () => {
  const directory = mkdtempSync(join(tmpdir(), 'holdfast-tui-cluster-'));
  const state = join(directory, 'state');
  let cluster: LocalCluster;
  let terminal: TuiTerminal;
  const shows = (what: Parameters<TuiTerminal['shows']>[0]): Promise<string> => terminal.shows(what, LONG_MS);
  /** Opens the nodes screen with this node selected. */
  async function select(name: string): Promise<void> {
    const isAsked = (screen: string): boolean => screen.includes('[y/N]') || screen.includes('to confirm');
    if (isAsked(terminal.capture())) {
      // Left by an attempt that failed.
      terminal.keys('Escape');
      await shows((screen) => !isAsked(screen));
    }
    terminal.keys(':', `node ${name}`, 'Enter');
    await shows((screen) => screen.includes(`> ${name} `) && screen.includes(`Node ${name}: `));
  }
  /** Presses a key and answers the question it must lead to. */
  async function confirmed(key: string, question: string | RegExp): Promise<void> {
    terminal.keys(key);
    await shows((screen) => screen.includes('[y/N]') && screen.search(question) >= 0);
    terminal.keys('y');
  }

  beforeAll(async () => {
    cluster = await LocalCluster.create(state, { nodes: 4, copies: 2, port: 0, mount: null });
    await cluster.start();
    await cluster.waitHealthy();
    const film = join(directory, 'film.bin');
    const note = join(directory, 'note.txt');
    writeFileSync(note, 'to be deleted\n');
    const holdfast = (...args: string[]) =>
      promisify(execFile)(join(root, 'scripts/holdfast'), [...args, '--state', state], { timeout: LONG_MS });
    await holdfast('upload', note, '/');
    writeFileSync(film, randomBytes(FILM_CHUNKS * MIB));
    await holdfast('upload', film, '/');
    // A put that was slow for a moment leaves a third copy, which is given up some seconds later.
    const isSettled = async (): Promise<boolean> =>
      (await cluster.admin('stat', { path: '/film.bin' })).chunks.every(({ replicas }) => replicas.length === 2);
    expect(await waitUntil(isSettled, LONG_MS)).toBe(true);
    terminal = new TuiTerminal(['--state', state]);
    await shows('LIVE');
  });
  afterAll(async () => {
    terminal?.end();
    await cluster?.purge();
    rmSync(directory, { recursive: true, force: true });
  });

  it('leads to the nodes of chunk 3 in five keys from the start', async () => {
    // As fast as they can be typed: what is still being loaded must not swallow them.
    terminal.keys('3');
    await shows('> film.bin');
    terminal.keys('Enter', 'Right', 'Right', 'Right');
    const screen = await shows(/─ Chunk 3 ─[\s\S]*COPY ON/);
    expect(screen.match(/│ n\d +(good|unchecked) /g)).toHaveLength(2);
  });

  it('shows a node that is killed behind its back on map, overview and events', async () => {
    await shows(new RegExp(`copies +${'2'.repeat(FILM_CHUNKS)}`));
    const startedMs = performance.now();
    await cluster.node('n3').kill();
    await shows(/n3 +(\?|DOWN)/);
    console.log(`kill -9 of a node to its sign on the map: ${(performance.now() - startedMs).toFixed(0)} ms`);
    terminal.keys('1');
    await shows(/n3 +(SUSPECT|DOWN)/);
    terminal.keys('4');
    await shows(/(WARN|ERR) +.*n3/);
  });

  it('S starts a dead node; it is up again and the cluster healthy by itself', async () => {
    await select('n3');
    await shows('not running: S starts it');
    terminal.keys('S');
    await shows('n3 started');
    await shows(/> n3 +up/);
    await shows('HEALTHY  4 nodes');
    expect(cluster.node('n3').state).toBe('running');
  });

  it('K kills, Z pauses and lets go on, T stops: after y only', async () => {
    await select('n2');
    terminal.keys('K');
    await shows('kill n2?');
    terminal.keys('x');
    await shows('kill n2: not done');
    expect(cluster.node('n2').state).toBe('running');
    await confirmed('K', /kills n2: \d+ chunks? would have one copy less/);
    await shows('n2 killed');
    await shows(/> n2 +(SUSPECT|DOWN)/);
    terminal.keys('S');
    await shows(/> n2 +up/);
    // Its process is looked at once a second, and may register before that.
    await shows('runs here');

    await confirmed('Z', 'pauses n2');
    await shows('paused here: Z lets it go on');
    await shows(/> n2 +(SUSPECT|DOWN)/);
    expect(cluster.node('n2').state).toBe('paused');
    terminal.keys('S');
    await shows('not done: start n2: n2 is paused');
    terminal.keys('Z');
    await shows(/> n2 +up/);
    await shows('runs here');

    await confirmed('T', 'stops n2');
    await shows('n2 stopped');
    await shows(/> n2 +(SUSPECT|DOWN)/);
    terminal.keys('T');
    await shows('not done: stop n2: n2 does not run');
    terminal.keys('S');
    await shows(/> n2 +up/);
    await shows('HEALTHY  4 nodes');
  });

  it('D drains, U takes it back, F forgets a node after its name is typed and refuses one that is up', async () => {
    await select('n4');
    await shows(/> n4 +up/);
    terminal.keys('F');
    await shows('not done: forget n4: n4 is up: drain it (D) or stop it (T) first');
    await confirmed('D', /moves \d+ chunks? off n4/);
    await shows(/> n4 +(drain|drained)/);
    terminal.keys('U');
    await shows('n4 takes new chunks again');
    await shows(/> n4 +up/);
    await confirmed('D', /moves \d+ chunks? off n4/);
    await shows(/> n4 +drained/);
    terminal.keys('F');
    await shows('Type n4 to confirm');
    terminal.keys('n', '3', 'Enter');
    await shows('forget n4: not done: "n3" is not "n4"');
    terminal.keys('F');
    await shows('Type n4 to confirm');
    terminal.keys('n', '4', 'Enter');
    await shows('n4 is removed');
    await shows('Nodes: 3 up');
  });

  it('V verifies a file, C sets the copies, X deletes a file after its name is typed', async () => {
    // The file is still open there; the digit of the present screen leads to its beginning.
    terminal.keys('3', '3');
    await shows(new RegExp(`film\\.bin +${FILM_CHUNKS}\\.0 MiB`));
    terminal.keys('g', 'V');
    await shows(/verify \/film\.bin: all \d+ cop(y|ies) match/);
    terminal.keys('C');
    await shows('copies of volume main (1-8)');
    terminal.keys('9', 'Enter');
    await shows('copies must be a number from 1 to 8, not "9"');
    terminal.keys('C');
    await shows('copies of volume main (1-8)');
    terminal.keys('3', 'Enter');
    await shows('keeps 3 copies: missing ones are made');
    terminal.keys('y');
    await shows('volume main wants 3 copies');
    await shows(/film\.bin .* 3 of 3 HEALTHY/);
    terminal.keys('G', 'X');
    await shows('Type note.txt to confirm');
    terminal.keys(...'note', 'Enter');
    await shows('"note" is not "note.txt"');
    expect(terminal.capture()).toMatch(/note\.txt +14 B/);
    terminal.keys('X');
    await shows('Type note.txt to confirm');
    terminal.keys(...'note.txt', 'Enter');
    await shows('/note.txt is deleted');
    await shows('1 entry');
  });

  it('B scrubs, L levels, I sets how hard repair works, R has nothing to do and says so', async () => {
    terminal.keys('5');
    await shows('[5 Jobs]');
    terminal.keys('B');
    await shows(/done: +scrub of .* started/);
    await shows(/J-\d+ +scrub/);
    await confirmed('L', 'moves chunks from the fullest');
    await shows(/J-\d+ +rebalance/);
    terminal.keys('I');
    await shows('repair speed urgent');
    await shows('HEALTHY  3 nodes');
    terminal.keys('R');
    await shows('not done: repair: every chunk has its copies');
  });

  it('asks for the name where data would be out of reach, and repairs at once when told to', async () => {
    // Three copies on three nodes: with two of them dead, the third has the last of everything.
    await Promise.all([cluster.node('n1').kill(), cluster.node('n2').kill()]);
    await select('n3');
    await shows(/AT RISK/);
    await shows(/only good one: [1-9]/);
    terminal.keys('K');
    await shows(/UNREADABLE: the only good copy is there[\s\S]*Type n3 to confirm/);
    terminal.keys('Escape');
    await shows('kill n3: not done');
    expect(cluster.node('n3').state).toBe('running');
    terminal.keys('1');
    await shows('[1 Overview]');
    await confirmed('R', /starts copying \d+ chunks? now/);
    await shows(/done: .*below copies/);
    terminal.keys('4');
    await shows(/repair asked for|repair/);
    cluster.node('n1').start();
    cluster.node('n2').start();
    terminal.keys('1');
    await shows('HEALTHY  3 nodes');
  });

  it('outlives a killed coordinator and is live again when it is started from the screen', async () => {
    terminal.keys(':', ...'kill coordinator', 'Enter');
    await shows('kills the coordinator: files wait until it is back');
    terminal.keys('y');
    await shows('OFFLINE');
    expect(terminal.capture()).toContain('Nodes: 3 up');
    terminal.keys('B');
    await shows('the coordinator is not connected; local S, T and K still work');
    terminal.keys('S');
    await shows((screen) => screen.includes('LIVE') && !screen.includes('OFFLINE'));
    await shows(/Nodes: 3 up/);
  });
});
