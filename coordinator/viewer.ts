/**
 * What somebody who is no administrator sees of the cluster: whether it is well, and what happens in the volumes they may read. Not who else
 * there is, not what others store, nor how nodes are beyond their state. Pure.
 */
import type { ClusterEvent, ClusterStatus, HealthCause } from '../protocol/admin-calls.js';
import type { VolumeId } from '../protocol/entities.js';
import type { VolumeTotals } from './chunk-index.js';

export interface Viewer {
  readonly user: string;
  readonly isAdmin: boolean;
  canRead(volume: VolumeId): boolean;
}

/** Made once for each event, so that a live view can compare by reference. */
const withoutUser = new WeakMap<ClusterEvent, ClusterEvent>();

/** An event as this viewer may see it; undefined = not at all. */
export function seenEvent(event: ClusterEvent, viewer: Viewer): ClusterEvent | undefined {
  if (viewer.isAdmin || event.user === viewer.user) return event;
  const isOfTheirs = event.volume !== undefined && viewer.canRead(event.volume) && /^(file|volume)\./.test(event.kind);
  if (!isOfTheirs) return undefined;
  const known = withoutUser.get(event);
  if (known) return known;
  const { user, request: _request, ...rest } = event;
  const seen = user === undefined ? rest : { ...rest, text: rest.text.replaceAll(` by ${user}`, '') };
  withoutUser.set(event, seen);
  return seen;
}

/** Counts of other people's chunks are left out. */
const causeWords: Partial<Record<HealthCause['code'], string>> = {
  CHUNKS_LOST: 'some data cannot be read now',
  CHUNKS_ENDANGERED: 'some data is on one copy',
  CHUNKS_BELOW_COPIES: 'some data has fewer copies than it should',
};
export const seenCauses = (causes: readonly HealthCause[]): HealthCause[] =>
  causes.map(({ code, text }) => ({ code, text: causeWords[code] ?? text, facts: {} }));

/**
 * @param totals of the volumes the viewer may read, together
 * @param chunks of these volumes
 */
export function seenStatus(status: ClusterStatus, viewer: Viewer, totals: VolumeTotals, chunks: ClusterStatus['chunks']): ClusterStatus {
  if (viewer.isAdmin) return status;
  const causes = seenCauses(status.causes);
  return {
    ...status,
    causes,
    sentence: causes.length === 0 ? status.health : `${status.health}: ${causes.map(({ text }) => text).join(', ')}`,
    nodes: status.nodes.map(({ node, name, state, stateForMs }) => ({
      ...{ node, name, state, stateForMs, url: '', zone: '', version: '', capacityBytes: 0, usedBytes: 0, freeBytes: 0 },
      ...{ replicas: 0, onlyCopies: 0, heartbeatAgeMs: null, readBytesPerS: 0, writtenBytesPerS: 0, errors: 0 },
      ...{ isFull: false, isReadOnly: false, drainLeft: null, safeToRemove: false },
    })),
    chunks,
    files: totals.files,
    directories: totals.directories,
    logicalBytes: totals.logicalBytes,
    uniqueBytes: totals.uniqueBytes,
    storedBytes: totals.storedBytes,
    rates: { readBytesPerS: 0, writtenBytesPerS: 0, repairBytesPerS: 0, callsPerS: 0 },
    clients: 0,
    jobs: { running: 0, waiting: 0 },
    safeMode: { ...status.safeMode, waitingFor: [] },
    deletion: { waiting: 0, bytes: 0 },
    metadata: { sequence: 0, bytes: 0, copies: [] },
    volumes: status.volumes.filter(({ volume }) => viewer.canRead(volume)),
  };
}
