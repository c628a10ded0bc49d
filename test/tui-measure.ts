/**
 * Measures the screen with 200 nodes, 100,000 files and a file of 10,000 chunks: time from key to repaint, processor time at rest and under
 * changes, memory over time.
 *
 *   scripts/run ../test/tui-measure [minutes]
 */
import { readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { TuiGenerator } from './tui-generator.js';
import { TuiTerminal } from './tui-terminal.js';

const minutes = Number(process.argv[2] ?? 10);
const residentMiB = (pid: number): number => {
  const line = readFileSync(`/proc/${pid}/status`, 'utf8')
    .split('\n')
    .find((one) => one.startsWith('VmRSS'));
  return Math.round(Number(line?.replace(/\D/g, '')) / 1024);
};
/** Share of one core over a time. */
async function share(terminal: TuiTerminal, overMs: number): Promise<string> {
  const before = terminal.processorMs;
  const startMs = performance.now();
  await delay(overMs);
  return `${(((terminal.processorMs - before) / (performance.now() - startMs)) * 100).toFixed(1)} %`;
}

const generator = await new TuiGenerator().start();
const busy = await new TuiGenerator({ changeEveryMs: 500 }).start();
const open = async (one: TuiGenerator): Promise<TuiTerminal> => {
  const terminal = new TuiTerminal(['--coordinator', one.url, '--token-file', one.tokenFile]);
  await terminal.shows('Nodes: 200 up', 60_000);
  return terminal;
};
const resting = await open(generator);
const changing = await open(busy);
try {
  const times: number[] = [];
  /** What tmux alone needs to answer: part of every figure below. */
  const tmux: number[] = [];
  const press = async (key: string, what: string): Promise<void> => {
    const beforeMs = performance.now();
    resting.capture();
    tmux.push(performance.now() - beforeMs);
    const startMs = performance.now();
    resting.keys(key);
    await resting.shows(what);
    times.push(performance.now() - startMs);
  };
  await resting.shows('Nodes: 200 up');
  resting.keys('2');
  await resting.shows('> n1 ');
  for (let round = 0; round < 10; round += 1) {
    await press('G', '> n200 ');
    await press('g', '> n1 ');
  }
  resting.keys('3');
  await resting.shows('of 100,000 entries');
  await press('j', '> evil');
  await press('g', '> big-file');
  resting.keys('Enter');
  await resting.shows('of 10,000');
  for (let index = 1; index <= 30; index += 1) await press('l', `Chunk ${index} `);
  times.sort((a, b) => a - b);
  tmux.sort((a, b) => a - b);
  const at = (list: readonly number[], part: number): string => (list[Math.floor((list.length - 1) * part)] ?? 0).toFixed(0);
  console.log(`key to repaint: median ${at(times, 0.5)} ms, p95 ${at(times, 0.95)} ms, worst ${at(times, 1)} ms (${times.length} keys)`);
  console.log(`of it asking tmux once: median ${at(tmux, 0.5)} ms`);
  resting.keys('1');
  await resting.shows('[1 Overview]');
  console.log(`processor at rest, overview: ${await share(resting, 20_000)} of a core`);
  console.log(`processor with changes twice a second: ${await share(changing, 20_000)} of a core`);
  const startMs = performance.now();
  for (let minute = 0; minute <= minutes; minute += 1) {
    console.log(`minute ${minute}: memory at rest ${residentMiB(resting.pid)} MiB, with changes ${residentMiB(changing.pid)} MiB`);
    if (minute < minutes) await delay(Math.max(0, startMs + (minute + 1) * 60_000 - performance.now()));
  }
} finally {
  resting.end();
  changing.end();
  await generator.end();
  await busy.end();
}
