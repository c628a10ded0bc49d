/**
 * The seams inside the coordinator: what the file tree needs from whoever keeps the cluster (chunks, nodes), and what that one gets from the rest.
 * Both sides are built and tested against these interfaces.
 */
import type { Access } from '../protocol/access-calls.js';
import type { ClusterEvent, ClusterStatus } from '../protocol/admin-calls.js';
import type { Connection } from '../protocol/call.js';
import type { ChunkId, ChunkLocation, ClientId, InodeId, NodeContact, NodeId, VolumeId, VolumeSettings } from '../protocol/entities.js';
import type { Environment } from '../protocol/environment.js';
import type { HistoryKeeper } from './history-keeper.js';
import type { State, Transaction } from './state.js';
import type { Users } from './users.js';
import type { Volumes } from './volumes.js';

export type { Access } from '../protocol/access-calls.js';

/** Who a client call comes from. */
export interface ClientCaller {
  readonly client: ClientId;
  readonly user: string;
  readonly volume: VolumeId;
  readonly access: Access;
  /** Number of the user, whose quota counts; undefined for the cluster's own administrator. */
  readonly userId?: number | undefined;
  /** The token and the grant it speaks by: permits are tagged with them. */
  readonly token?: string | undefined;
  readonly grant?: number | undefined;
}

/** Who does something, for the record. */
export interface Actor {
  readonly user: string;
  /** Which of the actor's requests. */
  readonly request?: string | undefined;
}

/** What the file tree asks of the keeper of chunks. */
export interface ChunkKeeper {
  /** Resolves when no removal of one of these chunks is under way any more; undefined (the usual case) = nothing to wait for. Ask right before the transaction. */
  settle(chunks: readonly ChunkId[]): Promise<void> | undefined;
  /**
   * Inside a commit's transaction, before addReferences: checks receipts and puts chunk rows and replicas for what was uploaded.
   * @param chunks every chunk the commit's extents name
   * @returns those of them that may not be on stable storage yet
   * @throws {HoldfastError} UPLOAD_AGAIN facts.chunks
   */
  acceptCommit(tx: Transaction, caller: ClientCaller, chunks: readonly ChunkId[], receipts: readonly string[]): readonly ChunkId[];
  /** One reference = one extent that names the chunk. The chunk must have a row. */
  addReferences(tx: Transaction, chunk: ChunkId, count: number): void;
  dropReferences(tx: Transaction, chunk: ChunkId, count: number): void;
  /** Chunks of the caller's volume that are there with enough good replicas; pinned for the session. */
  have(caller: ClientCaller, chunks: readonly ChunkId[]): readonly ChunkLocation[] | Promise<readonly ChunkLocation[]>;
  /** In the order asked; nodes best first. Chunks without row are left out. */
  locations(chunks: readonly ChunkId[]): ChunkLocation[];
  contacts(): readonly NodeContact[];
  permitFor(caller: ClientCaller): { permit: string; generation: number };
  /** Of the nodes, divided by the volume's copies. */
  space(volume: VolumeId): { totalBytes: number; freeBytes: number };
  reportReplica(
    caller: ClientCaller,
    report: { chunk: ChunkId; node: NodeId; problem: 'corrupt' | 'missing' | 'unreachable' | 'slow' | 'stray' },
  ): void;
  /** The session is gone for good: its pins are void. */
  sessionEnded(client: ClientId): void;
}

/** What the file tree does that people may want to see. Called after the transaction; must not throw. */
export interface TreeObserver {
  fileWritten?(inode: InodeId, caller: ClientCaller, bytes: number): void;
  /** `inode` 0 when it is not known. */
  fileDeleted?(inode: InodeId, path: string, caller: ClientCaller, request?: string): void;
  callHandled?(method: string, durationMs: number): void;
}

/** Owns membership, deletion, repair, jobs, events, status, watches: everything about nodes and chunks. */
export interface ClusterKeeper extends ChunkKeeper, TreeObserver {
  /** State is loaded; start timers. The keeper begins in safe mode. */
  start(): void;
  stop(): Promise<void>;
  /** New connections of nodes. Must set handlers synchronously. @throws {HoldfastError} to refuse */
  acceptNode: (handshake: unknown, connection: Connection) => void;
  /** New connections of administrators (and watchers). */
  acceptAdmin: (handshake: unknown, connection: Connection) => void;
  /** False in safe mode: what nobody refers to stays on the nodes. */
  readonly mayFree: boolean;
  /** Permits of these clients or with these tags count no more, from each node's next heartbeat on. */
  revokePermits(who: readonly string[]): void;
  /** Something happened that people want to see. */
  note(event: Omit<ClusterEvent, 'sequence' | 'atMs'>): void;
  /** Text for /metrics (Prometheus) of everything the keeper knows. */
  metrics(): string | Promise<string>;
}

/** What the keeper of the cluster says to everybody who is connected as a client. */
export interface Notices {
  contactsChanged(contacts: readonly NodeContact[]): void;
  volumeChanged(volume: VolumeSettings): void;
}

/** Who presents a token. */
export interface AuthenticatedUser {
  readonly user: string;
  readonly isAdmin: boolean;
  /** undefined for the cluster's own administrator, as is the token. */
  readonly id: number | undefined;
  readonly token: string | undefined;
  /** The volume meant when none is named. */
  readonly home: VolumeId | null;
}

export interface ClusterOptions {
  readonly downAfterMs: number;
  readonly stoppedGraceMs: number;
  /** How long a chunk without references rests before its deletion begins. */
  readonly deletionGraceMs: number;
  readonly unknownGraceMs?: number;
  readonly version: string;
}

/** What the keeper of the cluster gets from the coordinator. */
export interface ClusterContext {
  readonly environment: Environment;
  /** Loaded already: an index of one's own begins with a walk over the table, then follows by `onChange`. */
  readonly state: State;
  readonly options: ClusterOptions;
  readonly notices: Notices;
  readonly volumes: Volumes;
  readonly users: Users;
  readonly cluster: string;
  readonly epoch: number;
  /** Random per start. */
  readonly coordinatorStartId: string;
  /** 32 bytes: signs permits and receipts. */
  readonly accessKey: Buffer;
  /** Known once the server listens. */
  readonly url: () => string;
  /** Everything transacted so far has been written to the journal (survives kill -9). */
  written(): Promise<void>;
  /** Everything transacted so far is on stable storage, and in the metadata copies. */
  synced(): Promise<void>;
  /** Opens the door for nodes that have none of their own. */
  readonly nodeToken: string;
  /** SHA-256 of the certificate of the authority whose key we have; undefined when we give no certificates. */
  readonly authority?: string | undefined;
  /** For status: journal sequence, bytes, copies. */
  metadataStatus(): ClusterStatus['metadata'] & { readonly isDiskFull: boolean };
  connectedClients(): number;
  /** Resolves a path (no symlinks followed) in a volume. @throws {HoldfastError} ENOENT, ENOTDIR */
  resolve(volume: VolumeId, path: string): InodeId;
  /** Absolute path of an inode within its volume; undefined when it has no name. */
  pathOf(inode: InodeId): string | undefined;
  /** Unlinks a file as an administrator, with recalls like any other change. @throws {HoldfastError} ENOENT, EISDIR */
  deleteFile(by: Actor, volume: VolumeId, path: string): Promise<void>;
  /** Snapshots, trash and copies of trees; there once the coordinator has started. */
  history(): HistoryKeeper;
  /** Snapshot of all metadata as a file. Pages of it by readBackup. */
  backup(): Promise<{ sizeBytes: number; sequence: number; sha256: string }>;
  readBackup(offset: number): Promise<{ data: Buffer; isLast: boolean }>;
}
/** coordinator/cluster-keeper.ts exports `createClusterKeeper` of this type. */
export type CreateClusterKeeper = (context: ClusterContext) => ClusterKeeper;
