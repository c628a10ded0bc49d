/** Everything the screen shows, as one immutable value. No React, no socket, no clock in here. */
import type { KeyedRow, WatchRequest } from '../protocol/admin-calls.js';
import type { InodeId } from '../protocol/entities.js';
import type { ColorMode, Glyphs } from './theme.js';

export type ScreenName = 'overview' | 'nodes' | 'files' | 'events' | 'jobs';
export const SCREENS: readonly ScreenName[] = ['overview', 'nodes', 'files', 'events', 'jobs'];

/** One live view as last heard: never dropped because the connection went, only replaced. */
export interface Topic {
  readonly request: WatchRequest;
  readonly head: Readonly<Record<string, unknown>>;
  readonly rows: ReadonlyMap<string, KeyedRow>;
  /** Monotonic milliseconds of the last word about it. */
  readonly receivedAtMs: number;
}

export type Link =
  | { readonly kind: 'connecting'; readonly sinceMs: number; readonly url: string }
  | { readonly kind: 'live'; readonly sinceMs: number; readonly url: string; readonly user: string; readonly isAdmin: boolean }
  | {
      readonly kind: 'offline';
      readonly sinceMs: number;
      readonly url: string;
      readonly error: string;
      /** Tries since it went away; the next one at `nextTryAtMs` (monotonic). */
      readonly attempt: number;
      readonly nextTryAtMs: number;
    };

export type NodeSort = 'name' | 'state' | 'used' | 'copies';
export const NODE_SORTS: readonly NodeSort[] = ['name', 'state', 'used', 'copies'];
export type DirectorySort = 'name' | 'size' | 'mtime' | 'health';
export const DIRECTORY_SORTS: readonly DirectorySort[] = ['name', 'size', 'mtime', 'health'];

export interface OverviewState {
  readonly pane: 'nodes' | 'jobs' | 'events';
  readonly selected: { readonly nodes: number; readonly jobs: number; readonly events: number };
}
export interface NodesState {
  /** By name, so the selection stays on its node when the order changes. */
  readonly selected: string | null;
  readonly top: number;
  readonly sort: NodeSort;
  readonly descending: boolean;
  readonly filter: string;
}
export interface FolderState {
  readonly inode: InodeId;
  readonly selected: number;
  readonly top: number;
  /** First row of the window asked for. */
  readonly offset: number;
}
export interface FilesState {
  /** From the root to the open folder; empty until the root is known. */
  readonly folders: readonly FolderState[];
  readonly sort: DirectorySort;
  readonly descending: boolean;
  readonly filter: string;
  /** The open file, if one is. */
  readonly file: FileViewState | null;
}
export type MapMode = 'state' | 'age' | 'shared';
export const MAP_MODES: readonly MapMode[] = ['state', 'age', 'shared'];
export interface FileViewState {
  readonly inode: InodeId;
  /** What it was called where it was opened; the full path comes with the data. */
  readonly name: string;
  /** Chunk index. */
  readonly cursor: number;
  /** Chunks per cell: 1, 2, 4, ... */
  readonly zoom: number;
  /** First node row shown. */
  readonly nodeTop: number;
  readonly mode: MapMode;
  /** First chunk of the window asked for (files of very many chunks come in windows). */
  readonly offset: number;
  /** Windows still to be searched for a chunk below its copies, the one asked for included; 0 when nothing is looked for. */
  readonly windowsToSearch: number;
}
export interface EventsState {
  readonly level: 'info' | 'warn' | 'error';
  readonly filter: string;
  /** null: follow the newest; else the sequence number the selection stays on. */
  readonly selected: number | null;
  /** Newest sequence when following ended: later ones count as "new". */
  readonly seen: number;
}
export interface JobsState {
  readonly selected: string | null;
}

/** A change asked for, local or at the coordinator. */
export type Action =
  | { readonly kind: 'call'; readonly method: string; readonly args: Record<string, unknown>; readonly label: string }
  | { readonly kind: 'local'; readonly verb: LocalVerb; readonly name: string; readonly label: string };
export type LocalState = 'running' | 'paused' | 'stopped';
export type LocalVerb = 'start' | 'stop' | 'kill' | 'pause' | 'resume';

/** What must happen before an action runs: nothing, y, or a name typed in full. */
export type Confirmation =
  | { readonly level: 'none' }
  | { readonly level: 'yes'; readonly effect: string }
  | { readonly level: 'type'; readonly effect: string; readonly word: string };

export type Overlay =
  | { readonly kind: 'none' }
  | { readonly kind: 'help'; readonly top: number }
  | { readonly kind: 'palette'; readonly text: string; readonly index: number }
  | { readonly kind: 'filter'; readonly text: string; readonly before: string }
  | { readonly kind: 'prompt'; readonly question: string; readonly text: string; readonly purpose: 'copies' }
  | { readonly kind: 'confirm'; readonly action: Action; readonly confirmation: Confirmation; readonly text: string };

export interface Flash {
  /** An action succeeded, something failed or was refused, or only a word about the screen itself. */
  readonly level: 'ok' | 'bad' | 'note';
  readonly text: string;
  /** Monotonic; failures stay until a key (null). */
  readonly untilMs: number | null;
}

export interface Options {
  readonly glyphs: Glyphs;
  readonly color: ColorMode;
  readonly readOnly: boolean;
  /** State directory of a local cluster, for start/stop/kill/pause. */
  readonly stateDir: string | null;
}

export interface State {
  readonly options: Options;
  readonly columns: number;
  readonly rows: number;
  /** Monotonic clock of the last message. */
  readonly nowMs: number;
  readonly wallMs: number;
  readonly link: Link;
  /** How long the last absence was, shown for a while after the return. */
  readonly screen: ScreenName;
  readonly overlay: Overlay;
  readonly flash: Flash | null;
  /** Actions under way, by label. */
  readonly busy: readonly string[];
  readonly isFrozen: boolean;
  /** Milliseconds between two repaints for data. */
  readonly refreshMs: number;
  readonly topics: {
    readonly overview: Topic | null;
    readonly events: Topic | null;
    readonly jobs: Topic | null;
    readonly directory: Topic | null;
    readonly file: Topic | null;
  };
  /** Why a view could not be had, by topic. */
  readonly refusals: Readonly<Partial<Record<WatchRequest['topic'], string>>>;
  /** Processes under the state directory, by name. */
  readonly local: Readonly<Record<string, LocalState>>;
  readonly overview: OverviewState;
  readonly nodes: NodesState;
  readonly files: FilesState;
  readonly events: EventsState;
  readonly jobs: JobsState;
}

export const REFRESH_RATES_MS: readonly number[] = [500, 1000, 2000, 5000];
/** Rows of a folder asked for at once; the most the coordinator gives is 500. */
export const FOLDER_WINDOW_ROWS = 300;
/** Chunks of a file asked for at once. */
export const FILE_WINDOW_CHUNKS = 5000;

export function initialState(options: Options, size: { columns: number; rows: number }, url: string): State {
  return {
    options,
    columns: size.columns,
    rows: size.rows,
    nowMs: 0,
    wallMs: 0,
    link: { kind: 'connecting', sinceMs: 0, url },
    screen: 'overview',
    overlay: { kind: 'none' },
    flash: null,
    busy: [],
    isFrozen: false,
    refreshMs: 500,
    topics: { overview: null, events: null, jobs: null, directory: null, file: null },
    refusals: {},
    local: {},
    overview: { pane: 'nodes', selected: { nodes: 0, jobs: 0, events: 0 } },
    nodes: { selected: null, top: 0, sort: 'name', descending: false, filter: '' },
    files: { folders: [], sort: 'name', descending: false, filter: '', file: null },
    events: { level: 'info', filter: '', selected: null, seen: 0 },
    jobs: { selected: null },
  };
}

/** Which of the three layouts fits. */
export type Layout = 'full' | 'medium' | 'small' | 'too-small';
export function layoutOf(columns: number, rows: number): Layout {
  if (columns >= 100 && rows >= 30) return 'full';
  if (columns >= 80 && rows >= 24) return 'medium';
  if (columns >= 60 && rows >= 16) return 'small';
  return 'too-small';
}

/** What came in: a key, a word from the coordinator, the clock, the end of an action. */
export type Message =
  | { readonly kind: 'key'; readonly key: string }
  | { readonly kind: 'tick'; readonly nowMs: number; readonly wallMs: number }
  | { readonly kind: 'resize'; readonly columns: number; readonly rows: number }
  | { readonly kind: 'link'; readonly link: Link }
  | {
      readonly kind: 'snapshot';
      readonly request: WatchRequest;
      readonly head: Record<string, unknown>;
      readonly rows: readonly KeyedRow[];
    }
  | {
      readonly kind: 'changes';
      readonly request: WatchRequest;
      readonly head?: Record<string, unknown> | undefined;
      readonly upserts: readonly KeyedRow[];
      readonly removes: readonly string[];
    }
  | { readonly kind: 'refused'; readonly request: WatchRequest; readonly reason: string }
  | { readonly kind: 'local'; readonly processes: Readonly<Record<string, LocalState>> }
  | { readonly kind: 'started'; readonly label: string }
  | { readonly kind: 'done'; readonly label: string; readonly ok: boolean; readonly text: string }
  | { readonly kind: 'found'; readonly path: string; readonly inode: InodeId; readonly isFolder: boolean };

/** What the outside has to do. */
export type Effect =
  | { readonly kind: 'run'; readonly action: Action }
  | { readonly kind: 'find'; readonly path: string }
  | { readonly kind: 'copy'; readonly text: string }
  | { readonly kind: 'reconnect' }
  | { readonly kind: 'quit' };
export interface Step {
  readonly state: State;
  readonly effects: readonly Effect[];
}
export const only = (state: State): Step => ({ state, effects: [] });
