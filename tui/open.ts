/** Jumps from one screen to a thing on another. */
import type { ClusterEvent } from '../protocol/admin-calls.js';
import type { InodeId } from '../protocol/entities.js';
import { type FileViewState, type FolderState, only, type State, type Step } from './model.js';
import { clusterHead } from './topics.js';

export const folderAt = (inode: InodeId): FolderState => ({ inode, selected: 0, top: 0, offset: 0 });
export const fileAt = (inode: InodeId, name: string): FileViewState => ({
  inode,
  name,
  cursor: 0,
  zoom: 1,
  nodeTop: 0,
  mode: 'state',
  offset: 0,
  windowsToSearch: 0,
});

/** The root folder, once the coordinator has told which inode it is. */
export function withRoot(state: State): State {
  if (state.files.folders.length > 0) return state;
  const root = clusterHead(state)?.volumes[0]?.root;
  return root === undefined ? state : { ...state, files: { ...state.files, folders: [folderAt(root)] } };
}
export const openFile = (state: State, inode: InodeId, name: string): State => ({
  ...withRoot(state),
  screen: 'files',
  files: { ...withRoot(state).files, file: fileAt(inode, name) },
});
export const openFolder = (state: State, inode: InodeId): State => {
  const rooted = withRoot(state);
  const { folders } = rooted.files;
  const known = folders.findIndex((one) => one.inode === inode);
  const next = known >= 0 ? folders.slice(0, known + 1) : [...folders, folderAt(inode)];
  return { ...rooted, screen: 'files', files: { ...rooted.files, folders: next, filter: '', file: null } };
};
export const openNode = (state: State, name: string): State => ({
  ...state,
  screen: 'nodes',
  nodes: { ...state.nodes, selected: name, filter: '' },
});

/** Where an event points: a file, a node, a job, or nowhere. */
export function openEvent(state: State, event: ClusterEvent | undefined): Step {
  if (!event) return only(state);
  if (event.inode !== undefined) return only(openFile(state, event.inode, ''));
  if (event.node !== undefined) return only(openNode(state, event.node));
  if (/^(repair|drain|scrub|verify|rebalance)\./.test(event.kind)) {
    const job = /\bJ-\d+\b/.exec(event.text)?.[0] ?? null;
    return only({ ...state, screen: 'jobs', jobs: { selected: job } });
  }
  return only(state);
}
