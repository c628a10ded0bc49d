/** Who may do what, by the token presented. Tokens are compared as hashes in constant time; only hashes are kept in memory. */
import { createHash, timingSafeEqual } from 'node:crypto';
import { HoldfastError } from '../protocol/errors.js';
import type { AuthenticatedUser } from './ports.js';
import type { State } from './state.js';

const hash = (token: string): Buffer => createHash('sha256').update(token).digest();
const ADMIN = 'admin';

export class Users {
  private readonly adminHash: Buffer;
  private readonly nodeHash: Buffer;

  constructor(
    private readonly state: State,
    tokens: { readonly adminToken: string; readonly nodeToken: string },
  ) {
    this.adminHash = hash(tokens.adminToken);
    this.nodeHash = hash(tokens.nodeToken);
  }

  /** @throws {HoldfastError} UNAUTHORIZED */
  authenticate(token: string): AuthenticatedUser {
    const given = hash(token);
    if (timingSafeEqual(given, this.adminHash)) return { user: ADMIN, isAdmin: true, access: () => 'admin' };
    let found: AuthenticatedUser | undefined;
    for (const [user, row] of this.state.table('users').all()) {
      // Every user is compared, so the time taken does not tell which one matched.
      if (timingSafeEqual(given, Buffer.from(row.tokenSha256, 'hex'))) {
        found = { user, isAdmin: row.isAdmin, access: (volume) => (row.isAdmin ? 'admin' : row.access[volume]) };
      }
    }
    if (!found) throw new HoldfastError('UNAUTHORIZED', 'the token is not valid here; is it the one of this cluster?');
    return found;
  }
  /** @throws {HoldfastError} UNAUTHORIZED */
  authenticateNode(token: string): void {
    if (!timingSafeEqual(hash(token), this.nodeHash)) throw new HoldfastError('UNAUTHORIZED', 'the node token is not valid here');
  }
  /** What a user may do now; undefined = nothing any more. */
  accessOf(user: string, volumeName: string): 'read' | 'write' | 'admin' | undefined {
    if (user === ADMIN) return 'admin';
    const row = this.state.get('users', user);
    return row?.isAdmin ? 'admin' : row?.access[volumeName];
  }
}
