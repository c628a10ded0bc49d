/** Files: the tree as folders and files with their health; only the rows in view are ever asked for. */
import type { DirectoryRow } from '../../protocol/admin-calls.js';
import { remove, repair, setCopies, verify, volumeOf } from '../actions.js';
import { block, type Column, panel, type Row, row, scrollTo, span, table } from '../draw.js';
import { bytes, count, moment } from '../format.js';
import { moved } from '../list.js';
import { DIRECTORY_SORTS, FOLDER_WINDOW_ROWS, type FolderState, only, type State, type Step } from '../model.js';
import { folderAt, openFile, openFolder, withRoot } from '../open.js';
import { flash, propose } from '../propose.js';
import { escapeControl, truncateMiddle } from '../text.js';
import { clusterHead, directoryOf } from '../topics.js';
import { healthStyle } from '../words.js';

const SORT_TITLES = { name: 'NAME', size: 'SIZE', mtime: 'CHANGED', health: 'HEALTH' } as const;
const listRows = (state: State): number => Math.max(1, state.rows - 5 - 3);

/** The window of rows to ask for so that `top`..`top+page` is inside with room on both sides; moves in steps, not with every row. */
export function windowOffset(top: number, page: number, current: number): number {
  if (top >= current && top + page <= current + FOLDER_WINDOW_ROWS) return current;
  const step = FOLDER_WINDOW_ROWS / 3;
  return Math.max(0, Math.floor((top - step) / step) * step);
}

/** Path of an entry of the open folder. */
export const pathOf = (folder: string, name: string): string => (folder.endsWith('/') ? `${folder}${name}` : `${folder}/${name}`);

export function filesTitle(state: State): string {
  const directory = directoryOf(state);
  const path = directory ? escapeControl(directory.head.path || '/') : '...';
  return state.files.filter ? `${path}   filter "${escapeControl(state.files.filter)}"` : path;
}

export function drawFiles(state: State, columns: number, height: number): Row[] {
  const { glyphs } = state.options;
  const folder = state.files.folders.at(-1);
  const directory = directoryOf(state);
  const refusal = state.refusals.directory;
  if (!folder || !directory) {
    const text = refusal ? `cannot be shown: ${escapeControl(refusal)}` : 'asking the coordinator ...';
    return block(panel('Files', [row(span(text, refusal ? 'bad' : 'dim'))], columns, height, { glyphs, isFocused: true }), columns, height);
  }
  const { head } = directory;
  const page = Math.max(1, height - 3);
  const top = scrollTo(folder.selected, folder.top, page, head.matching);
  const goal = clusterHead(state)?.volumes[0]?.copies ?? null;
  const hasTime = columns >= 100;
  const nameWidth = columns - 4 - 2 - 10 - 8 - 8 - 11 - (hasTime ? 14 : 0) - 5;
  const { sort, descending } = state.files;
  const titled = (by: keyof typeof SORT_TITLES): string =>
    sort === by ? `${SORT_TITLES[by]}${descending ? ' v' : ' ^'}` : SORT_TITLES[by];
  interface Shown {
    readonly index: number;
    readonly entry: DirectoryRow | undefined;
  }
  const isFolder = (entry: DirectoryRow): boolean => entry.kind === 'directory';
  const tableColumns: Column<Shown>[] = [
    {
      title: titled('name'),
      width: nameWidth,
      cell: ({ entry }) => {
        if (!entry) return span('...', 'dim');
        const mark = isFolder(entry) ? '/' : entry.kind === 'symlink' ? '@' : '';
        return span(truncateMiddle(escapeControl(entry.name), nameWidth - 1) + mark, isFolder(entry) ? 'bold' : 'plain');
      },
    },
    { title: titled('size'), width: 10, align: 'right', cell: ({ entry }) => (entry && !isFolder(entry) ? bytes(entry.sizeBytes) : '') },
    { title: 'CHUNKS', width: 8, align: 'right', cell: ({ entry }) => (entry && !isFolder(entry) ? count(entry.chunks) : '') },
    {
      title: 'COPIES',
      width: 8,
      align: 'right',
      cell: ({ entry }) => (entry && entry.fewestCopies !== null ? `${entry.fewestCopies}${goal === null ? '' : ` of ${goal}`}` : ''),
    },
    {
      title: titled('health'),
      width: 11,
      cell: ({ entry }) => (entry && entry.fewestCopies !== null ? span(entry.health, healthStyle(entry.health)) : ''),
    },
  ];
  if (hasTime)
    tableColumns.push({ title: titled('mtime'), width: 13, cell: ({ entry }) => (entry ? moment(entry.mtimeMs, state.wallMs) : '') });
  const shown: Shown[] = Array.from({ length: Math.max(0, Math.min(page, head.matching - top)) }, (_, index) => ({
    index: top + index,
    entry: directory.at(top + index),
  }));
  const rows = table(tableColumns, shown, (one) => one.index === folder.selected);
  if (head.matching === 0) {
    rows.push(
      row(
        span(
          state.files.filter ? '  nothing matches; esc clears the filter' : '  No files here yet. Try: holdfast upload README.md /',
          'dim',
        ),
      ),
    );
  }
  const range = head.matching > shown.length ? `${count(top + 1)}-${count(top + shown.length)} of ` : '';
  const title = `${truncateMiddle(filesTitle(state), Math.max(10, columns - 50))}   ${range}${count(head.matching)}${head.matching < head.total ? ` matching of ${count(head.total)}` : ''} ${head.matching === 1 ? 'entry' : 'entries'}`;
  return block(panel(title, rows, columns, height, { glyphs, isFocused: true }), columns, height);
}

const withFolder = (state: State, folder: FolderState): State => ({
  ...state,
  files: { ...state.files, folders: [...state.files.folders.slice(0, -1), folder] },
});

export function filesKey(state: State, key: string): Step | null {
  const rooted = withRoot(state);
  const folder = rooted.files.folders.at(-1);
  if (!folder) return null;
  const directory = directoryOf(rooted);
  const page = listRows(rooted);
  const isUp = key === 'left' || key === 'h' || key === 'backspace' || key === 'esc';
  if (isUp) {
    if (key === 'esc' && rooted.files.filter) return only({ ...rooted, files: { ...rooted.files, filter: '' } });
    if (rooted.files.folders.length > 1) {
      return only({ ...rooted, files: { ...rooted.files, folders: rooted.files.folders.slice(0, -1), filter: '' } });
    }
    // A folder reached by a jump has no way back of its own: its parent is known to the coordinator.
    const parent = directory?.head.parent ?? null;
    if (parent !== null && parent !== folder.inode)
      return only({ ...rooted, files: { ...rooted.files, folders: [folderAt(parent)], filter: '' } });
    return key === 'esc' ? null : only(rooted);
  }
  if (key === 'C') {
    if (!volumeOf(state)) return only(flash(state, 'bad', 'not done: the volume is not known yet'));
    return only({
      ...state,
      overlay: { kind: 'prompt', question: `copies of volume ${volumeOf(state)} (1-8)`, text: '', purpose: 'copies' },
    });
  }
  if (key === 'R') return propose(state, repair(state));
  if (!directory) return null;
  const to = moved(key, folder.selected, directory.head.matching, page);
  if (to !== null) {
    const top = scrollTo(to, folder.top, page, directory.head.matching);
    return only(withFolder(rooted, { ...folder, selected: to, top, offset: windowOffset(top, page, folder.offset) }));
  }
  if (key === 'o') {
    const { sort, descending } = rooted.files;
    const files = !descending
      ? { ...rooted.files, descending: true }
      : { ...rooted.files, descending: false, sort: DIRECTORY_SORTS[(DIRECTORY_SORTS.indexOf(sort) + 1) % DIRECTORY_SORTS.length]! };
    return only(withFolder({ ...rooted, files }, { ...folder, selected: 0, top: 0, offset: 0 }));
  }
  const entry = directory.at(folder.selected);
  if (!entry) return null;
  const path = pathOf(directory.head.path, entry.name);
  switch (key) {
    case 'enter':
    case 'right':
    case 'l':
      if (entry.kind === 'directory') return only(openFolder(rooted, entry.inode));
      if (entry.kind === 'file') return only(openFile(rooted, entry.inode, entry.name));
      return only(flash(rooted, 'bad', `${escapeControl(entry.name)} is a ${entry.kind}: it has no chunks`));
    case 'V':
      return propose(rooted, verify(path));
    case 'X':
      return propose(rooted, remove(rooted, path, entry));
    default:
      return null;
  }
}

/** What a prompt for copies leads to. */
export function copiesAnswered(state: State, text: string): Step {
  const volume = volumeOf(state);
  const copies = Number(text);
  if (!volume || !Number.isInteger(copies) || copies < 1 || copies > 8) {
    return only(flash(state, 'bad', `not done: copies must be a number from 1 to 8, not "${escapeControl(text)}"`));
  }
  return propose(state, setCopies(volume, copies, clusterHead(state)?.volumes[0]?.copies));
}
