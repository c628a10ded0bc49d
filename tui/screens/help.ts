/** Help, drawn from the key table. */
import { panel, type Row, row, span } from '../draw.js';
import { type KeyScope, keysOf } from '../keys.js';
import type { State } from '../model.js';
import { padEnd } from '../text.js';

const SCOPES: readonly (readonly [KeyScope, string])[] = [
  ['global', 'Everywhere (lower case looks, CAPITALS change something)'],
  ['overview', 'Overview'],
  ['nodes', 'Nodes'],
  ['files', 'Files'],
  ['file', 'File (chunk map)'],
  ['events', 'Events'],
  ['jobs', 'Jobs'],
];

/** The present screen's keys first, then the others. */
export function helpRows(state: State): Row[] {
  const own: KeyScope = state.screen === 'files' && state.files.file ? 'file' : state.screen;
  const ordered = [...SCOPES.filter(([scope]) => scope === own), ...SCOPES.filter(([scope]) => scope !== own)];
  const rows: Row[] = [];
  for (const [scope, title] of ordered) {
    rows.push(row(span(scope === own ? `${title} (this screen)` : title, 'bold')));
    for (const one of keysOf(scope, state.options.readOnly)) {
      rows.push(row(span(`  ${padEnd(one.label, 14)}`, 'accent'), one.help));
    }
    rows.push(row());
  }
  rows.push(row(span('Filter words in Files: part of a name, !under, !risk, !lost. Health of a file:', 'bold')));
  rows.push(row('  HEALTHY all copies there; DEGRADED fewer; AT RISK one good copy left; DATA LOSS none'));
  return rows;
}
export const helpLength = (state: State): number => helpRows(state).length;

export function drawHelp(state: State, columns: number, height: number, top: number): Row[] {
  const rows = helpRows(state);
  const page = Math.max(1, height - 2);
  const first = Math.max(0, Math.min(top, rows.length - page));
  const more =
    rows.length > page
      ? ` ${first + 1}-${Math.min(rows.length, first + page)} of ${rows.length}: arrows scroll, other keys close`
      : ': any key closes';
  return panel(`Keys${more}`, rows.slice(first), columns, height, { glyphs: state.options.glyphs, isFocused: true });
}
