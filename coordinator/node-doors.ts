/**
 * By what token a node comes in: the cluster's node token (whoever has it may join, under any name), a join token (once, for a node that is not
 * known yet, and until it expires), or the node's own token, which it made itself and whose hash was put beside it when it joined.
 */
import type { NewToken } from '../protocol/access-calls.js';
import { secretOf } from '../protocol/enrolment.js';
import type { NodeId } from '../protocol/entities.js';
import { type Environment, wallMs } from '../protocol/environment.js';
import { HoldfastError } from '../protocol/errors.js';
import { isSameSecret } from '../protocol/permit.js';
import { nextNumber, type State, type Transaction } from './state.js';
import { sha256 } from './users.js';

const JOIN_TOKENS_SETTING = 'joinTokens';
const LAST_JOIN_TOKEN_SETTING = 'lastJoinToken';
const TOKEN_BYTES = 32;

export type NodeDoor =
  | { readonly kind: 'cluster' }
  | { readonly kind: 'node'; readonly node: NodeId }
  | { readonly kind: 'join'; readonly id: string };

interface JoinToken {
  readonly id: string;
  readonly sha256: string;
  readonly expiresAtMs: number;
  /** Names and addresses the node's certificate may have; absent = any that nobody else has. */
  readonly hosts?: readonly string[];
  /** SHA-256 of the public key it was shown with to get a certificate. */
  readonly certifiedKey?: string;
}

export class NodeDoors {
  private readonly nodeHash: string;

  constructor(
    private readonly environment: Environment,
    private readonly state: State,
    nodeToken: string,
  ) {
    this.nodeHash = sha256(nodeToken);
  }

  /** @throws {HoldfastError} UNAUTHORIZED */
  authenticate(token: string): NodeDoor {
    const hash = sha256(secretOf(token));
    if (isSameSecret(hash, this.nodeHash)) return { kind: 'cluster' };
    // A removed node is known, too: it is told so when it registers, which it may not any more.
    for (const [node, row] of this.state.table('nodes').all()) if (isSameSecret(hash, row.tokenSha256 ?? '')) return { kind: 'node', node };
    const join = this.joinTokens.find((one) => isSameSecret(hash, one.sha256));
    if (join) return { kind: 'join', id: join.id };
    throw new HoldfastError('UNAUTHORIZED', 'the token is not valid here: a join token counts once, and until it expires');
  }

  /** @returns the secret, which nobody can show again */
  makeJoinToken(tx: Transaction, expiresInMs: number, hosts?: readonly string[]): NewToken {
    const token = `hf-join-${this.environment.randomBytes(TOKEN_BYTES).toString('base64url')}`;
    const id = `K${nextNumber(tx, LAST_JOIN_TOKEN_SETTING)}`;
    const expiresAtMs = this.nowMs + expiresInMs;
    tx.put('settings', JOIN_TOKENS_SETTING, [...this.joinTokens, { id, sha256: sha256(token), expiresAtMs, ...(hosts ? { hosts } : {}) }]);
    return { id, token, expiresAtMs };
  }

  /** In the transaction that takes the node in: the token is used up with it. @throws {HoldfastError} UNAUTHORIZED when somebody was quicker */
  consume(tx: Transaction, id: string): void {
    const left = this.joinTokens.filter((one) => one.id !== id);
    if (left.length === this.joinTokens.length) throw new HoldfastError('UNAUTHORIZED', 'this join token has been used already');
    tx.put('settings', JOIN_TOKENS_SETTING, left);
  }

  /** What a certificate by this token may be for; undefined = nothing was said. */
  hostsOf(id: string): readonly string[] | undefined {
    return this.joinTokens.find((one) => one.id === id)?.hosts;
  }
  /** From now on only this key gets a certificate by the token. @throws {HoldfastError} UNAUTHORIZED when another one has */
  bindKey(tx: Transaction, id: string, key: string): void {
    const all = this.joinTokens;
    const token = all.find((one) => one.id === id);
    if (!token || (token.certifiedKey !== undefined && token.certifiedKey !== key))
      throw new HoldfastError('UNAUTHORIZED', 'another machine has got a certificate by this join token: make a new one');
    tx.put(
      'settings',
      JOIN_TOKENS_SETTING,
      all.map((one) => (one === token ? { ...one, certifiedKey: key } : one)),
    );
  }

  /** Those that still count. */
  private get joinTokens(): readonly JoinToken[] {
    const all = (this.state.get('settings', JOIN_TOKENS_SETTING) as JoinToken[] | undefined) ?? [];
    return all.filter((one) => one.expiresAtMs > this.nowMs);
  }
  private get nowMs(): number {
    return wallMs(this.environment);
  }
}
