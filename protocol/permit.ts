/**
 * Permits and receipts: HMAC-SHA-256 over a short JSON claim with the cluster's access key, which only the coordinator and its nodes know.
 * Form: base64url(JSON claims) "." base64url(MAC). Compared in constant time. There is one algorithm, so nothing to negotiate.
 *
 * A permit lets a client (or a node copying from another) read or write the chunks of one volume. It names a generation instead of a time:
 * the coordinator counts generations and tells nodes the current one with every heartbeat reply, so no wall clock is trusted.
 * A receipt is a node's word that it holds a chunk; the coordinator accepts no replica without one.
 */
import { createHash, createHmac, timingSafeEqual } from 'node:crypto';
import type { ChunkId, ClientId, NodeId, VolumeId } from './entities.js';
import { HoldfastError } from './errors.js';
import { PERMIT_GENERATIONS_VALID } from './limits.js';

/** A permit lives for some minutes, so this is plenty; when it is not, checking costs what it did. */
const MAX_KNOWN_PERMITS = 1000;

export interface Permit {
  readonly kind: 'permit';
  readonly cluster: string;
  /** 0 stands for every volume: only the coordinator and nodes get such a permit. */
  readonly volume: VolumeId;
  readonly access: 'read' | 'write';
  readonly client: ClientId | 'coordinator' | `node-${number}`;
  readonly generation: number;
  /** By what the client got it (token, grant): each can be revoked like the client itself. */
  readonly tags?: readonly string[];
}

export interface Receipt {
  readonly kind: 'receipt';
  readonly cluster: string;
  readonly chunk: ChunkId;
  readonly volume: VolumeId;
  /** Payload bytes. */
  readonly sizeBytes: number;
  readonly node: NodeId;
  /** Random per start of the node process; together with `sequence` it orders this receipt against deletions on that node. */
  readonly startId: string;
  readonly sequence: number;
  /** True when the chunk was on stable storage before the receipt was given. */
  readonly durable: boolean;
  /** Who uploaded: a receipt is of no use to another client. */
  readonly client: string;
}

/**
 * The cluster's access key (32 bytes). Whoever has the node token can work it out, so it is stored nowhere, and a node that was started while the
 * coordinator is gone has it as well.
 */
export const accessKeyOf = (nodeToken: string, cluster: string): Buffer =>
  createHmac('sha256', nodeToken).update(`holdfast-access-key${cluster}`).digest();

/** Lets a monitoring program read `/metrics` of the coordinator and of every node, and nothing else. Nobody who has it can work the key out. */
export const metricsTokenOf = (accessKey: Buffer): string =>
  `hf-metrics-${createHmac('sha256', accessKey).update('holdfast-metrics').digest('base64url')}`;

/** Compares in a time that says nothing of where they differ, or of how long the expected one is. */
export function isSameSecret(given: string, expected: string): boolean {
  const digest = (text: string): Buffer => createHash('sha256').update(text).digest();
  return timingSafeEqual(digest(given), digest(expected));
}

const mac = (key: Buffer, text: string): Buffer => createHmac('sha256', key).update(text).digest();

/** Signs claims. `key` is the cluster's access key (32 bytes). */
export function sign(key: Buffer, claims: Permit | Receipt): string {
  const text = Buffer.from(JSON.stringify(claims)).toString('base64url');
  return `${text}.${mac(key, text).toString('base64url')}`;
}

function open(key: Buffer, token: string): unknown {
  const refuse = () => new HoldfastError('UNAUTHORIZED', 'permit or receipt is not valid');
  if (typeof token !== 'string' || token.length > 4096) throw refuse();
  const dot = token.indexOf('.');
  if (dot < 0) throw refuse();
  const text = token.slice(0, dot);
  const given = Buffer.from(token.slice(dot + 1), 'base64url');
  const expected = mac(key, text);
  if (given.length !== expected.length || !timingSafeEqual(given, expected)) throw refuse();
  return JSON.parse(Buffer.from(text, 'base64url').toString());
}

/**
 * Checks a permit for an access. Write includes read.
 * @param now current generation as the node knows it
 * @throws {HoldfastError} UNAUTHORIZED, PERMIT_EXPIRED, FORBIDDEN (wrong access or cluster)
 */
export function checkPermit(key: Buffer, token: string, wanted: WantedAccess): Permit {
  return checkClaims(open(key, token) as Permit, wanted);
}

export interface WantedAccess {
  readonly cluster: string;
  readonly access: 'read' | 'write';
  readonly now: number;
  readonly isRevoked?: (clientOrTag: string) => boolean;
}

/** Permits whose MAC was found right a moment ago. The same few come with every request; what they allow now is looked at each time. */
export class KnownPermits {
  private known = new Map<string, Permit>();
  private key: Buffer | undefined;

  /** As checkPermit. */
  check(key: Buffer, token: string, wanted: WantedAccess): Permit {
    if (this.key === undefined || !this.key.equals(key)) {
      this.key = key;
      this.known.clear();
    }
    let permit = this.known.get(token);
    if (!permit) {
      permit = open(key, token) as Permit;
      if (this.known.size >= MAX_KNOWN_PERMITS) this.known.clear();
      this.known.set(token, permit);
    }
    return checkClaims(permit, wanted);
  }
}

function checkClaims(permit: Permit, wanted: WantedAccess): Permit {
  if (permit.kind !== 'permit') throw new HoldfastError('UNAUTHORIZED', 'not a permit');
  if (permit.cluster !== wanted.cluster) throw new HoldfastError('UNAUTHORIZED', 'permit of another cluster');
  if (permit.generation < wanted.now - PERMIT_GENERATIONS_VALID) throw new HoldfastError('PERMIT_EXPIRED', 'permit has expired');
  const { isRevoked } = wanted;
  if (isRevoked && [permit.client, ...(permit.tags ?? [])].some((one) => isRevoked(one)))
    throw new HoldfastError('UNAUTHORIZED', 'permit has been revoked');
  if (wanted.access === 'write' && permit.access !== 'write') throw new HoldfastError('FORBIDDEN', 'permit allows reading only');
  return permit;
}

/** @throws {HoldfastError} UNAUTHORIZED when it is not a receipt of this cluster */
export function openReceipt(key: Buffer, token: string, cluster: string): Receipt {
  const receipt = open(key, token) as Receipt;
  if (receipt.kind !== 'receipt' || receipt.cluster !== cluster) throw new HoldfastError('UNAUTHORIZED', 'not a receipt of this cluster');
  return receipt;
}
