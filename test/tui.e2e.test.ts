/** The screen in a real terminal (tmux) against invented data of full size: 200 nodes, 100,000 files, a file of 10,000 chunks. */
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { TuiGenerator } from './tui-generator.js';
import { type StartOptions, TuiTerminal, tmuxMissing } from './tui-terminal.js';

const root = fileURLToPath(new URL('..', import.meta.url));
if (tmuxMissing) console.log(`skipped: ${tmuxMissing}`);

describe.skipIf(tmuxMissing)('the screen in a terminal', () => {
  let generator: TuiGenerator;
  const terminals: TuiTerminal[] = [];
  const args = (): string[] => ['--coordinator', generator.url, '--token-file', generator.tokenFile];
  async function open(options: StartOptions & { more?: string[] } = {}): Promise<TuiTerminal> {
    const terminal = new TuiTerminal([...args(), ...(options.more ?? [])], options);
    terminals.push(terminal);
    await terminal.shows(/LIVE|Holdfast needs/, 60_000);
    return terminal;
  }
  beforeEach(async () => {
    generator = await new TuiGenerator().start();
  });
  afterEach(async () => {
    for (const one of terminals.splice(0)) one.end();
    await generator.end();
  });

  it('fits 100x30, 80x24 and 60x16, says what it needs below, and follows a resize without leftovers', async () => {
    const terminal = await open();
    for (const [columns, rows] of [
      [80, 24],
      [60, 16],
      [120, 40],
      [100, 30],
    ] as const) {
      terminal.resize(columns, rows);
      const isWhole = (screen: string): boolean => {
        const lines = screen.split('\n');
        return (
          lines[0]!.includes('HOLDFAST') &&
          lines[2]!.includes('1 Overview') &&
          lines[rows - 1]!.includes('enter open') &&
          lines[3]!.length === (columns === 60 ? lines[3]!.length : columns)
        );
      };
      const screen = await terminal.shows(isWhole);
      const lines = screen.split('\n').slice(0, rows);
      expect(lines).toHaveLength(rows);
      expect(lines[1]).toContain('HEALTHY');
      for (const line of lines) expect(line.length).toBeLessThanOrEqual(columns);
      // Every box has as many left as right edges: nothing of the former size is left over.
      expect(screen.split('┌').length).toBe(screen.split('┐').length);
      expect(screen.split('└').length).toBe(screen.split('┘').length);
    }
    terminal.resize(59, 15);
    await terminal.shows('this is 59x15');
  });

  it('leads from the start to the nodes of chunk 3 in five keys', async () => {
    const terminal = await open();
    terminal.keys('3');
    await terminal.shows('1-22 of 100,000 entries');
    terminal.keys('Enter');
    await terminal.shows('of 10,000');
    terminal.keys('Right', 'Right', 'Right');
    const screen = await terminal.shows('Chunk 3 ');
    for (const name of generator.holdersOf(3)) expect(screen).toMatch(new RegExp(`${name} +(good|unchecked)`));
  });

  it('answers keys at once with 200 nodes, 100,000 files and 10,000 chunks', async () => {
    const terminal = await open();
    const times: number[] = [];
    const press = async (key: string, what: string | RegExp): Promise<void> => {
      const startedMs = performance.now();
      terminal.keys(key);
      await terminal.shows(what);
      times.push(performance.now() - startedMs);
    };
    await press('2', '[2 Nodes]');
    await press('G', /> n200 /);
    await press('g', /> n1 /);
    terminal.keys('3');
    await terminal.shows('1-22 of 100,000 entries');
    for (let index = 2; index < 8; index += 1) await press('j', index === 2 ? '> evil' : `> file-00000${index - 1}`);
    terminal.keys('g');
    await terminal.shows('> big-file');
    terminal.keys('Enter');
    await terminal.shows('of 10,000');
    for (let index = 1; index < 8; index += 1) await press('l', `Chunk ${index} `);
    await press('-', '2 per cell');
    times.sort((a, b) => a - b);
    const median = times[Math.floor(times.length / 2)]!;
    console.log(`key to repaint, tmux included: median ${median.toFixed(0)} ms, worst ${times.at(-1)!.toFixed(0)} ms of ${times.length}`);
    expect(median).toBeLessThan(1000);
  });

  it('rests when nothing happens', async () => {
    const terminal = await open();
    await terminal.shows('J-1');
    await delay(1000);
    const before = terminal.processorMs;
    const startedMs = performance.now();
    await delay(5000);
    const share = (terminal.processorMs - before) / (performance.now() - startedMs);
    console.log(`idle: ${(share * 100).toFixed(1)} % of a core`);
    expect(share).toBeLessThan(0.3);
  });

  it('shows a node that goes down on overview, map and events', async () => {
    const terminal = await open();
    terminal.keys('3');
    await terminal.shows('> big-file');
    terminal.keys('Enter');
    await terminal.shows(/n4 +up/);
    generator.setNode('n4', 'down');
    await terminal.shows(/n4 +DOWN +\.xxx/);
    terminal.keys('n');
    await terminal.shows(/n4 +down/);
    terminal.keys('1');
    await terminal.shows(/DEGRADED .*n4 down/);
    await terminal.shows(/> n4 +DOWN/);
    terminal.keys('4');
    await terminal.shows(/ERR +n4 is down/);
  });

  it('asks for everything again when a change was lost', async () => {
    const terminal = await open();
    await terminal.shows('Nodes: 200 up');
    generator.loseOne();
    generator.setNode('n7', 'suspect');
    await terminal.shows(/n7 +SUSPECT/);
  });

  it('stays up, dimmed, while the coordinator is away, and is live again by itself', async () => {
    const terminal = await open();
    await terminal.shows('Nodes: 200 up');
    await generator.stop();
    const away = await terminal.shows('OFFLINE');
    expect(away).toContain('Nodes: 200 up');
    expect(terminal.capture(true)).toContain('\u001b[2m');
    terminal.keys('B');
    await terminal.shows('the coordinator is not connected');
    await generator.start();
    await terminal.shows('connected again after', 60_000);
    await terminal.shows('LIVE');
    generator.setNode('n9', 'down');
    await terminal.shows(/n9 +DOWN/);
  });

  it('sends an action after y only, and shows the refusal of the server with its reason', async () => {
    const terminal = await open();
    terminal.keys('2');
    await terminal.shows('[2 Nodes]');
    terminal.keys('D');
    await terminal.shows('drain n1?');
    terminal.keys('n');
    await terminal.shows('drain n1: not done');
    terminal.keys('D');
    await terminal.shows('drain n1?');
    terminal.keys('y');
    await terminal.shows('drainNode done');
    expect(generator.actions).toEqual([{ method: 'drainNode', args: { node: 'n1' } }]);
    generator.setNode('n1', 'down');
    await terminal.shows(/n1 +DOWN/);
    terminal.keys('F');
    await terminal.shows('Type n1 to confirm');
    terminal.keys('n', '1', 'Enter');
    await terminal.shows('a chunk has its last good copy there (REFUSED)');
  });

  it('only watches the views of the present screen', async () => {
    const terminal = await open();
    terminal.keys('5');
    await terminal.shows('[5 Jobs]');
    await expect.poll(() => generator.watched.map((one) => one.topic).sort(), { timeout: 20_000 }).toEqual(['jobs', 'overview']);
    expect(terminal.capture()).toContain('LIVE');
  });

  it.each([
    ['q', (terminal: TuiTerminal) => terminal.keys('q'), 0],
    ['Ctrl-C', (terminal: TuiTerminal) => terminal.keys('C-c'), 0],
    ['SIGTERM', (terminal: TuiTerminal) => void process.kill(terminal.pid, 'SIGTERM'), 143],
    ['SIGHUP', (terminal: TuiTerminal) => void process.kill(terminal.pid, 'SIGHUP'), 129],
  ])('gives the terminal back after %s', async (_how, leave, code) => {
    const terminal = await open();
    expect(terminal.flags).toEqual({ isAlternate: true, isCursorShown: false });
    leave(terminal);
    const screen = await terminal.shows(`EXIT ${code}`);
    expect(screen).toContain('BEFORE');
    expect(screen).not.toContain('HOLDFAST');
    expect(terminal.flags).toEqual({ isAlternate: false, isCursorShown: true });
  });

  it('gives the terminal back even after kill -9', async () => {
    const terminal = await open();
    expect(terminal.settings).toContain('-icanon');
    process.kill(terminal.pid, 'SIGKILL');
    await expect.poll(() => terminal.flags, { timeout: 20_000 }).toEqual({ isAlternate: false, isCursorShown: true });
    await expect.poll(() => terminal.settings, { timeout: 20_000 }).toEqual(expect.arrayContaining(['icanon', 'echo', 'opost']));
    expect(terminal.capture()).toContain('BEFORE');
  });

  it('gives the terminal back after a crash and tells the error', async () => {
    const crash = "data:text/javascript,process.on('SIGUSR2',()=>{madeUpCrash()})";
    const terminal = await open({ environment: { NODE_OPTIONS: `--import=${crash}` } });
    process.kill(terminal.pid, 'SIGUSR2');
    const screen = await terminal.shows('EXIT 1', 60_000);
    expect(screen).toContain('madeUpCrash is not defined');
    expect(terminal.flags).toEqual({ isAlternate: false, isCursorShown: true });
  });

  it('uses no colours with NO_COLOR and no characters beyond ASCII with --ascii', async () => {
    const terminal = await open({ environment: { NO_COLOR: '1' }, more: ['--ascii'] });
    const screen = await terminal.shows('Nodes: 200 up');
    expect(screen).toMatch(/^[\x20-\x7e\n]*$/);
    const codes = [...terminal.capture(true).matchAll(new RegExp(`${String.fromCharCode(27)}\\[([\\d;]*)m`, 'g'))].flatMap((one) =>
      one[1]!.split(';').map(Number),
    );
    // 39 and 49 only say "no colour".
    expect(codes.filter((one) => one >= 30 && one !== 39 && one !== 49)).toEqual([]);
  });

  it('changes nothing when started with --read-only', async () => {
    const terminal = await open({ more: ['--read-only'] });
    await terminal.shows('READ-ONLY');
    terminal.keys('B');
    await terminal.shows('started with --read-only');
    expect(generator.actions).toEqual([]);
  });

  it('tells what was tried when there is no coordinator, and goes live when one comes', async () => {
    await generator.stop();
    const terminal = new TuiTerminal(args());
    terminals.push(terminal);
    const screen = await terminal.shows('No coordinator answered', 60_000);
    expect(screen).toContain(generator.url);
    expect(screen).toContain('scripts/up');
    await generator.start();
    await terminal.shows('Nodes: 200 up', 60_000);
  });
});

/** Some 7 ms of processor time each. */
const REPAINTS = process.env.HOLDFAST_SOAK === '1' ? 20_000 : 2000;

describe('the screen over hours', () => {
  it('keeps a flat heap over thousands of repaints', () => {
    const output = execFileSync(
      process.execPath,
      ['--expose-gc', '--import', join(root, 'node_modules/tsx/dist/loader.mjs'), join(root, 'test/tui-repaint.ts'), String(REPAINTS)],
      {
        encoding: 'utf8',
        env: { ...process.env, NODE_ENV: 'production', TSX_TSCONFIG_PATH: join(root, 'tsconfig.json') },
        timeout: process.env.HOLDFAST_SOAK === '1' ? 1_200_000 : 115_000,
      },
    );
    const { quarterBytes, endBytes, writtenBytes, perRepaintMs } = JSON.parse(output) as Record<string, number>;
    console.log(
      `heap after ${REPAINTS / 4} repaints ${(quarterBytes! / 1e6).toFixed(1)} MB, after ${REPAINTS} ${(endBytes! / 1e6).toFixed(1)} MB; ${perRepaintMs!.toFixed(1)} ms each`,
    );
    expect(writtenBytes).toBeGreaterThan(1_000_000);
    // Ink's own text cache would hold some 15 new rows a repaint, for ever: several MB for the last three quarters.
    expect(endBytes! - quarterBytes!).toBeLessThan(3_000_000);
  });
});
