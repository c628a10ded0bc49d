/**
 * Where things lie in a data directory:
 *   chunks/aa/<id>        encoded chunks, aa = first two digits of the id
 *   small/<n>.log         small chunks not yet moved to files of their own (small-log.ts)
 *   tmp/                  files being written; swept at start. Same file system, so that rename is atomic
 *   set-aside/<why>/<id>  replicas taken out of service: unknown, corrupt, missing
 *   metadata/             copies of the coordinator's metadata (metadata-store.ts)
 *   identity.json, credentials.json, certificate.json, scrub.json, index    see identity.ts, credentials.ts, own-certificate.ts, scrubber.ts, index-file.ts
 */
import { isChunkId } from '../protocol/chunk.js';
import type { ChunkId } from '../protocol/entities.js';
import { SET_ASIDE_REASONS, type SetAsideReason } from './chunk-store.js';
import type { DiskFiles } from './disk-files.js';

const PREFIXES = Array.from({ length: 256 }, (_, i) => i.toString(16).padStart(2, '0'));

export const chunkDirectory = (data: string, id: ChunkId): string => `${data}/chunks/${id.slice(0, 2)}`;
export const chunkPath = (data: string, id: ChunkId): string => `${data}/chunks/${id.slice(0, 2)}/${id}`;
export const temporaryDirectory = (data: string): string => `${data}/tmp`;
export const smallDirectory = (data: string): string => `${data}/small`;
export const setAsidePath = (data: string, id: ChunkId, why: SetAsideReason): string => `${data}/set-aside/${why}/${id}`;
export const indexPath = (data: string): string => `${data}/index`;

/** Makes every directory there is ever to be and sweeps what was being written when the process last ended. */
export async function prepareDirectories(files: DiskFiles, data: string): Promise<void> {
  for (const name of ['', '/chunks', '/small', '/tmp', '/set-aside']) await files.mkdir(`${data}${name}`);
  for (const why of SET_ASIDE_REASONS) await files.mkdir(`${data}/set-aside/${why}`);
  const existing = new Set(await files.readdir(`${data}/chunks`));
  if (PREFIXES.some((prefix) => !existing.has(prefix))) {
    for (const prefix of PREFIXES) await files.mkdir(`${data}/chunks/${prefix}`);
    // A chunk's own directory is synced with each chunk; that the directory itself exists must be stable before that means anything.
    await files.syncDirectory(`${data}/chunks`);
    await files.syncDirectory(`${data}/set-aside`);
    await files.syncDirectory(data);
  }
  for (const name of await files.readdir(temporaryDirectory(data))) await files.unlink(`${temporaryDirectory(data)}/${name}`);
}

/** Names of all chunk files; what does not belong there is left alone and reported. */
export async function listChunkFiles(
  files: DiskFiles,
  data: string,
  found: (id: ChunkId) => void,
  stranger: (path: string) => void,
): Promise<void> {
  for (const prefix of PREFIXES) {
    for (const name of await files.readdir(`${data}/chunks/${prefix}`)) {
      if (isChunkId(name) && name.startsWith(prefix)) found(name);
      else stranger(`${data}/chunks/${prefix}/${name}`);
    }
  }
}
