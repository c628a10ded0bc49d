/** A connected client: joins session, caches, files, locks and nodes. The only place that knows all of them. */
import type { Dialer } from '../protocol/call.js';
import type { InodeAttributes, InodeId, NodeContact, VolumeSettings } from '../protocol/entities.js';
import type { Environment } from '../protocol/environment.js';
import { sleep } from '../protocol/environment.js';
import { HoldfastError } from '../protocol/errors.js';
import type { Cluster, ConnectOptions, FileHandle, Unlock } from './api.js';
import { ChunkFetcher } from './chunk-fetcher.js';
import { type ChunkForm, plainForm } from './chunk-form.js';
import { ChunkLocations } from './chunk-locations.js';
import { ChunkUploader } from './chunk-uploader.js';
import type { ClientCore } from './core.js';
import { Deduplicator } from './deduplicator.js';
import { DirtyBudget } from './dirty-budget.js';
import { Handle } from './file-handle.js';
import { ClientFileTree } from './file-tree.js';
import { LeafCache } from './leaf-cache.js';
import { ClientLocks } from './locks.js';
import { MetadataCache } from './metadata-cache.js';
import { NodePool, type PeerFactory } from './node-pool.js';
import { OpenFiles } from './open-files.js';
import { type RecalledInode, Session } from './session.js';
import { VolumeCipher } from './volume-cipher.js';
import { openVolumeKey } from './volume-key.js';

const DEFAULT_OUTAGE_TIMEOUT_MS = 30_000;
const DEDUPLICATE_FROM_BYTES = 256 * 1024;
const DEFAULT_DIRTY_BUDGET_BYTES = 64 * 1024 * 1024;
const DEFAULT_CACHE_BUDGET_BYTES = 256 * 1024 * 1024;
const FIRST_CONNECTION_MS = 10_000;
const STRAY_REPORT_AFTER_MS = 2000;
/** How long the end of a client waits for its dirty files. */
const CLOSE_TIMEOUT_MS = 30_000;

type ChangeListener = (change: { inode: InodeId; names?: readonly string[] }) => void | Promise<void>;

export class ConnectedCluster implements Cluster {
  readonly tree: ClientFileTree;
  readonly locks: ClientLocks;
  private readonly core: ClientCore;
  private readonly session: Session;
  private readonly cache: MetadataCache;
  private readonly pool: NodePool;
  private readonly files: OpenFiles;
  private readonly changeListeners: ChangeListener[] = [];
  private readonly connectionListeners: ((isConnected: boolean, reason: string) => void)[] = [];
  private cacheNumber = 0;
  private form: ChunkForm = plainForm;
  /** Whether the volume was encrypted when we connected. */
  private wasEncrypted: boolean | undefined;
  /** Why no file may be opened or written here. */
  private refusal: HoldfastError | undefined;
  /** Losses of acknowledged changes that syncTree has told of. */
  private seenLosses = 0;
  private isClosed = false;

  private constructor(
    options: ConnectOptions,
    private readonly environment: Environment,
    dialer: Dialer,
    peers: PeerFactory,
  ) {
    this.session = new Session(
      {
        token: options.token,
        description: options.description,
        volume: options.volume,
        outageTimeoutMs: options.hard ? Infinity : (options.outageTimeoutMs ?? DEFAULT_OUTAGE_TIMEOUT_MS),
      },
      environment,
      dialer,
      {
        recalled: (inodes) => this.recalled(inodes),
        forget: () => {
          this.cacheNumber++;
          this.cache.forgetAll();
        },
        lost: () => {
          this.files.lost();
          this.locks.lost();
        },
        nodesChanged: (nodes) => this.pool.update(nodes),
        unlocked: (inodes) => this.locks.unlocked(inodes),
        volumeChanged: () => this.checkEncryption(),
        connection: (isConnected, reason) => {
          if (isConnected) this.locks.connected();
          if (isConnected) this.checkEncryption();
          for (const listener of this.connectionListeners) listener(isConnected, reason);
        },
      },
    );
    const { session } = this;
    this.cache = new MetadataCache(() => session.isLeaseValid);
    this.pool = new NodePool(environment, peers);
    const leaves = new LeafCache(options.cacheBudgetBytes ?? DEFAULT_CACHE_BUDGET_BYTES);
    const { cache, pool } = this;
    const formNow = (): ChunkForm => this.form;
    const refusalNow = (): HoldfastError | undefined => this.refusal;
    this.core = {
      environment,
      session,
      cache,
      pool,
      uploader: new ChunkUploader(
        environment,
        pool,
        session,
        () => this.volume.copies,
        (node, chunks) => {
          // Later, when the commit that needs the chunks has surely been made.
          environment.setTimer(STRAY_REPORT_AFTER_MS, () => {
            for (const chunk of chunks) session.call('reportReplica', { chunk, node, problem: 'stray' }, { waitMs: 0 }).catch(() => {}); // An inventory finds it as well.
          });
        },
      ),
      fetcher: new ChunkFetcher(
        environment,
        pool,
        session,
        leaves,
        (chunk, node, problem) => {
          session.call('reportReplica', { chunk, node, problem }).catch(() => {}); // Only a hint: the scrub finds it as well.
        },
        () => this.form,
      ),
      deduplicator: new Deduplicator(session),
      deduplicateFromBytes: options.deduplicateFromBytes ?? DEDUPLICATE_FROM_BYTES,
      locations: new ChunkLocations(),
      leaves,
      budget: new DirtyBudget(options.dirtyBudgetBytes ?? DEFAULT_DIRTY_BUDGET_BYTES, () => this.files.writeBackAll()),
      get volume() {
        return session.welcome.volume;
      },
      get form() {
        return formNow();
      },
      get refusal() {
        return refusalNow();
      },
      isLeaseValid: () => session.isLeaseValid,
      cacheNumber: () => this.cacheNumber,
      attributes: (inode) => this.askAttributes(inode),
    };
    this.files = new OpenFiles(() => this.core);
    this.locks = new ClientLocks(this.core, this.files);
    this.tree = new ClientFileTree(this.core, this.files, () => this.access !== 'read');
  }

  static async connect(options: ConnectOptions, environment: Environment, dialer: Dialer, peers: PeerFactory): Promise<ConnectedCluster> {
    const cluster = new ConnectedCluster(options, environment, dialer, peers);
    await cluster.session.start(options.hard ? Infinity : (options.outageTimeoutMs ?? FIRST_CONNECTION_MS));
    cluster.wasEncrypted = cluster.volume.encryption !== null;
    try {
      cluster.form = await formOf(cluster.volume, options.unlock);
    } catch (error) {
      if (options.namesOnly && !options.unlock && error instanceof HoldfastError) cluster.refusal = error;
      else {
        await cluster.close();
        throw error;
      }
    }
    if (options.subdirectory !== undefined) await cluster.enter(options.subdirectory);
    return cluster;
  }

  /** See ConnectOptions.subdirectory. The connection is closed when there is no such directory. */
  private async enter(path: string): Promise<void> {
    try {
      await this.tree.enter(path);
    } catch (error) {
      await this.close();
      throw error;
    }
  }

  get volume(): VolumeSettings {
    return this.session.welcome.volume;
  }
  get access(): 'read' | 'write' | 'admin' {
    return this.session.welcome.access;
  }
  get sentBytes(): number {
    return this.core.uploader.sentBytes;
  }
  get nodes(): readonly NodeContact[] {
    return this.pool.all;
  }

  async open(inode: InodeId): Promise<FileHandle> {
    if (this.refusal) throw this.refusal;
    if (this.files.hasRemovals) await this.files.settled(inode);
    const attributes = this.cache.attributes(inode) ?? (await this.askAttributes(inode));
    if (attributes.kind === 'directory') throw new HoldfastError('EISDIR', `inode ${inode} is a directory`);
    if (attributes.kind !== 'file') throw new HoldfastError('EINVAL', `inode ${inode} is a ${attributes.kind}, not a file`);
    // Without a name it lives only for those who hold it; we may have let go of it a moment ago.
    if (attributes.nlink === 0 && !this.files.isOpen(inode)) throw new HoldfastError('ESTALE', `inode ${inode} has been deleted`);
    return new Handle(this.core, this.files, this.files.acquire(attributes), this.access !== 'read');
  }

  statVolume(): Promise<{ totalBytes: number; freeBytes: number; files: number; filesFree: number }> {
    return this.session.call('statVolume', {});
  }

  async flushAll(options: { durable: boolean; timeoutMs?: number }): Promise<{ failed: { inode: InodeId; error: Error }[] }> {
    const failed: { inode: InodeId; error: Error }[] = [];
    const late = new HoldfastError('DEADLINE', 'not saved in time');
    let timer: { cancel(): void } | undefined;
    const deadline = new Promise<never>((_, reject) => {
      if (options.timeoutMs !== undefined) timer = this.environment.setTimer(options.timeoutMs, () => reject(late));
    });
    deadline.catch(() => {}); // Looked at only through the races below.
    const files = options.durable ? this.files.all() : this.files.dirty();
    await Promise.all(
      files.map(async ({ inode, writer }) => {
        try {
          const done = options.durable && (writer.isDirty || !writer.unsynced.isEmpty) ? writer.sync() : writer.flush();
          await Promise.race([done, deadline]);
        } catch (error) {
          failed.push({ inode, error: error instanceof Error ? error : new Error(String(error)) });
        }
      }),
    );
    timer?.cancel();
    return { failed };
  }

  async syncTree(): Promise<void> {
    await this.session.call('sync', {});
    const { losses } = this.session;
    if (losses === this.seenLosses) return;
    this.seenLosses = losses;
    this.files.toldOfLosses();
    throw new HoldfastError('EIO', 'the coordinator lost power and with it changes of the file tree that were not synced yet');
  }

  onChanged(listener: ChangeListener): void {
    this.changeListeners.push(listener);
  }

  onConnection(listener: (isConnected: boolean, reason: string) => void): void {
    this.connectionListeners.push(listener);
  }

  async close(): Promise<void> {
    if (this.isClosed) return;
    this.isClosed = true;
    if (this.session.isConnected) {
      await this.flushAll({ durable: false, timeoutMs: CLOSE_TIMEOUT_MS });
      // The coordinator need not keep for us what others delete. Without this it forgets us when the session times out.
      await Promise.race([this.session.call('leave', {}, { waitMs: 0 }).catch(() => {}), sleep(this.environment, 1000)]);
    }
    this.files.close();
    this.session.close('closed');
    await this.pool.close();
  }

  /** Encryption was switched on or off under us (the volume was empty then): nothing may go on in the old form. */
  private checkEncryption(): void {
    if (this.wasEncrypted === undefined || this.wasEncrypted === (this.volume.encryption !== null)) return;
    this.refusal = new HoldfastError('EIO', `the encryption of volume ${this.volume.name} was switched: connect to it again`);
    this.files.lost();
  }

  get mayBeKeptMs(): number {
    return this.session.leaseLeftMs;
  }

  private recalled(inodes: readonly RecalledInode[]): InodeId[] | Promise<InodeId[]> {
    const holding: InodeId[] = [];
    const waits: Promise<void>[] = [];
    for (const { inode, names, isUnlinked } of inodes) {
      this.cache.recall(inode);
      if (this.files.recalled(inode, isUnlinked === true)) holding.push(inode);
      for (const listener of this.changeListeners) {
        const wait = listener(names ? { inode, names } : { inode });
        if (wait) waits.push(wait);
      }
    }
    return waits.length === 0 ? holding : Promise.all(waits).then(() => holding);
  }

  private async askAttributes(inode: InodeId): Promise<InodeAttributes> {
    const stamp = this.cache.stamp();
    const { attributes } = await this.session.call('getAttributes', { inode });
    this.cache.putAttributes(stamp, attributes);
    return attributes;
  }
}

/** @throws {HoldfastError} EACCES, EINVAL, EOPNOTSUPP when the volume and what was given to open it do not fit */
async function formOf({ name, encryption }: VolumeSettings, unlock: Unlock | undefined): Promise<ChunkForm> {
  if (encryption && unlock) return new VolumeCipher(await openVolumeKey(encryption, unlock, name));
  if (unlock)
    throw new HoldfastError(
      'EINVAL',
      `volume ${name} is not encrypted, yet a key was given: leave the key out to use the volume in the clear`,
    );
  if (encryption)
    throw new HoldfastError('EACCES', `volume ${name} is encrypted: give its key with --key-file FILE or --passphrase-file FILE`, {
      volumeKey: 'missing',
    });
  return plainForm;
}
