/**
 * Captures every screen of a running cluster as text, in the three layouts, for README and docs.
 *
 *   scripts/run capture-tui --state DIR [--to FOLDER]
 *
 * Needs tmux. The file shown is the first file of the root folder.
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

/** A screen: its name, the keys from the one before, and what shows that it is there. */
const SCREENS: readonly (readonly [string, readonly string[], string | RegExp])[] = [
  ['overview', ['1'], /HEALTHY|DEGRADED|AT RISK|DATA LOSS/],
  ['nodes', ['2'], '[2 Nodes]'],
  ['files', ['3'], / (entry|entries) /],
  ['file', ['G', 'Enter', 'Right'], /Chunk(s| \d)/],
  ['events', ['4'], '[4 Events]'],
  ['jobs', ['5'], '[5 Jobs]'],
  ['help', ['?'], 'Keys'],
];

const { values } = parseArgs({ options: { state: { type: 'string' }, to: { type: 'string', default: 'docs/screens' } } });
if (!values.state || tmuxMissing) {
  console.error(tmuxMissing ?? 'which cluster? Give its state directory: scripts/run capture-tui --state DIR [--to FOLDER]');
  process.exit(2);
}
const folder = resolve(values.to);
mkdirSync(folder, { recursive: true });
for (const [columns, rows] of SIZES) {
  const terminal = new TuiTerminal(['--state', resolve(values.state)], { columns, rows });
  try {
    await terminal.shows('LIVE', 60_000);
    for (const [name, keys, sign] of SCREENS) {
      terminal.keys(...keys);
      const screen = await terminal.shows(sign);
      const file = join(folder, `${name}-${columns}x${rows}.txt`);
      writeFileSync(file, `${screen.trimEnd()}\n`);
      console.log(file);
    }
  } finally {
    terminal.end();
  }
}
