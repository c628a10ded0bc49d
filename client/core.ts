/** What the parts of one connected client share. */
import type { InodeAttributes, VolumeSettings } from '../protocol/entities.js';
import type { Environment } from '../protocol/environment.js';
import type { HoldfastError } from '../protocol/errors.js';
import type { ChunkFetcher } from './chunk-fetcher.js';
import type { ChunkForm } from './chunk-form.js';
import type { ChunkLocations } from './chunk-locations.js';
import type { ChunkUploader } from './chunk-uploader.js';
import type { Deduplicator } from './deduplicator.js';
import type { DirtyBudget } from './dirty-budget.js';
import type { LeafCache } from './leaf-cache.js';
import type { MetadataCache } from './metadata-cache.js';
import type { NodePool } from './node-pool.js';
import type { Session } from './session.js';

export interface ClientCore {
  readonly environment: Environment;
  readonly session: Session;
  readonly cache: MetadataCache;
  readonly pool: NodePool;
  readonly uploader: ChunkUploader;
  readonly fetcher: ChunkFetcher;
  readonly deduplicator: Deduplicator;
  /** From this size on it pays to ask first whether a chunk exists. */
  readonly deduplicateFromBytes: number;
  readonly locations: ChunkLocations;
  readonly leaves: LeafCache;
  readonly budget: DirtyBudget;
  readonly volume: VolumeSettings;
  /** As the volume was when this client connected: what a coordinator says later cannot make it write in the clear. */
  readonly form: ChunkForm;
  /** Why no file may be opened or written. */
  readonly refusal: HoldfastError | undefined;
  isLeaseValid(): boolean;
  /** Grows whenever everything cached was forgotten. */
  cacheNumber(): number;
  /** From the cache or the coordinator. */
  attributes(inode: number): Promise<InodeAttributes>;
}
