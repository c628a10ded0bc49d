/**
 * By what token a node comes in. With the cluster's node token it is simply that. With a join token, which counts once, the node first makes a token of
 * its own, puts it on stable storage (0600, in its data directory), and says its hash when it joins: from then on it comes in by its own. Because it was
 * kept before it was said, a reply that is lost leaves nobody outside: the next try finds the own token valid.
 */
import { createHash } from 'node:crypto';
import { z } from 'zod';
import type { Environment } from '../protocol/environment.js';
import { HoldfastError } from '../protocol/errors.js';
import { accessKeyOf } from '../protocol/permit.js';
import type { NodeState } from './node-state.js';

const TOKEN_BYTES = 32;
const storedSchema = z.object({
  format: z.literal(1, 'these credentials were written by a newer version of Holdfast: use that version'),
  token: z.string().min(32),
  /** Of the cluster that took the node in, hex: so that it knows its coordinator before it has registered again. */
  accessKey: z.string().optional(),
});
type Stored = z.infer<typeof storedSchema>;

/** The cluster's node token, or a join token for a node that has no token of its own yet. */
export interface GivenTokens {
  readonly token?: string | undefined;
  readonly joinToken?: string | undefined;
}

export class Credentials {
  private isJoining: boolean;
  private constructor(
    private readonly state: NodeState,
    private readonly given: GivenTokens,
    private own: Stored | undefined,
    isNew: boolean,
  ) {
    this.isJoining = isNew;
  }

  /** @throws {HoldfastError} EINVAL when there is nothing to come in by, REFUSED when what is stored cannot be used */
  static async load(state: NodeState, given: GivenTokens, environment: Pick<Environment, 'randomBytes'>): Promise<Credentials> {
    if (given.token !== undefined) return new Credentials(state, given, undefined, false);
    const value = await state.load('credentials');
    if (value !== undefined) {
      const parsed = storedSchema.safeParse(value);
      if (!parsed.success)
        throw new HoldfastError('REFUSED', `credentials.json cannot be used: ${parsed.error.issues[0]?.message ?? 'malformed'}`);
      return new Credentials(state, given, parsed.data, false);
    }
    if (given.joinToken === undefined)
      throw new HoldfastError(
        'EINVAL',
        'this node has no token of its own yet: give --join-token-file (see "holdfast node join-token"), or --token-file with the cluster\'s node token',
      );
    const own: Stored = { format: 1, token: `hf-node-${environment.randomBytes(TOKEN_BYTES).toString('base64url')}` };
    await state.save('credentials', own);
    return new Credentials(state, given, own, true);
  }

  /** What to say at the next try. `ownTokenSha256` only together with a join token. */
  get presented(): { readonly token: string; readonly ownTokenSha256?: string } {
    const { given, own } = this;
    if (given.token !== undefined || !own) return { token: given.token ?? '' };
    if (!this.isJoining || given.joinToken === undefined) return { token: own.token };
    return { token: given.joinToken, ownTokenSha256: createHash('sha256').update(own.token).digest('hex') };
  }

  /**
   * The coordinator refused what was presented. @returns true when there is another way in that was not tried since the last success
   */
  refused(): boolean {
    if (this.given.token !== undefined || this.given.joinToken === undefined || this.triedBoth) return false;
    this.triedBoth = true;
    this.isJoining = !this.isJoining;
    return true;
  }
  private triedBoth = false;

  /** Taken in: the own token counts from now on. */
  async joined(accessKey: string): Promise<void> {
    this.triedBoth = false;
    this.isJoining = false;
    if (!this.own || this.own.accessKey === accessKey) return;
    this.own = { ...this.own, accessKey };
    await this.state.save('credentials', this.own);
  }

  /** The cluster's access key as far as it is known before registration. */
  accessKey(cluster: string): Buffer | undefined {
    if (this.given.token !== undefined) return accessKeyOf(this.given.token, cluster);
    return this.own?.accessKey === undefined ? undefined : Buffer.from(this.own.accessKey, 'hex');
  }
}
