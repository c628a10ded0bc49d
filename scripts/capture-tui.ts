/**
 * Captures every screen of a running cluster as text, in the three layouts, for README and docs.
 *
 *   scripts/run capture-tui --state DIR [--to FOLDER] [--file PATH] [--plain] [--ascii] [--codes] [--away]
 *
 * Needs tmux. The file shown is PATH, else the last of the root folder. --plain is NO_COLOR, --codes keeps colours and attributes as escape
 * codes (cat shows them), --away says that the coordinator is out of reach: only the first screen is captured then.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { TuiTerminal, tmuxMissing } from '../test/tui-terminal.js';

const SIZES = [
  [100, 30],
  [80, 24],
  [60, 16],
] as const;

const { values } = parseArgs({
  options: {
    state: { type: 'string' },
    to: { type: 'string', default: 'docs/screens' },
    file: { type: 'string' },
    plain: { type: 'boolean', default: false },
    ascii: { type: 'boolean', default: false },
    codes: { type: 'boolean', default: false },
    away: { type: 'boolean', default: false },
  },
});
if (!values.state || tmuxMissing) {
  console.error(tmuxMissing ?? 'which cluster? Give its state directory: scripts/run capture-tui --state DIR [--to FOLDER]');
  process.exit(2);
}
const { file, plain, ascii, codes, away } = values;
/** A stop without a name is only passed through. */
const opening = file === undefined ? ['G', 'Enter'] : [':', ...`file ${file}`, 'Enter'];

/** A screen: its name, the keys from the one before, and what shows that it is there. */
type Stop = readonly [name: string, keys: readonly string[], sign: string | RegExp];
const TOUR: readonly Stop[] = [
  ['overview', ['1'], /HEALTHY|DEGRADED|AT RISK|DATA LOSS/],
  ['nodes', ['2'], '[2 Nodes]'],
  ['confirm', ['D'], '[y/N]'],
  ['files', ['n', '3'], / (entry|entries) /],
  ['', opening, /Chunk 0 /],
  ['file', ['Right'], /Chunk 1 |An empty file/],
  ['events', ['4'], '[4 Events]'],
  ['jobs', ['5'], '[5 Jobs]'],
  ['help', ['?'], 'Keys'],
  ['palette', ['Escape', ':'], 'Command'],
];
const tour: readonly Stop[] = away ? [['away', [], /OFFLINE|No coordinator/]] : TOUR;

const folder = resolve(values.to);
mkdirSync(folder, { recursive: true });
for (const [columns, rows] of SIZES) {
  const terminal = new TuiTerminal(['--state', resolve(values.state), ...(ascii ? ['--ascii'] : [])], {
    columns,
    rows,
    environment: plain ? { NO_COLOR: '1' } : {},
  });
  try {
    if (!away) await terminal.shows('LIVE', 60_000);
    for (const [name, keys, sign] of tour) {
      terminal.keys(...keys);
      await terminal.shows((screen) => (typeof sign === 'string' ? screen.includes(sign) : sign.test(screen)), 60_000);
      await terminal.shows((screen) => !screen.includes('asking the coordinator'), 60_000);
      if (name === '') continue;
      const path = join(folder, `${name}-${columns}x${rows}.txt`);
      writeFileSync(path, `${terminal.capture(codes).trimEnd()}\n`);
      console.log(path);
    }
  } finally {
    terminal.end();
  }
}
