/**
 * Hands out permits and counts their generations. A generation is a number in the settings, raised while the coordinator runs: permits age by
 * the coordinator's own time, never by anybody's wall clock, and do not come back to life after a restart.
 */
import type { ClientId } from '../protocol/entities.js';
import type { Environment, Timer } from '../protocol/environment.js';
import { PERMIT_GENERATION_MS, PERMIT_GENERATIONS_VALID } from '../protocol/limits.js';
import { type Permit, sign } from '../protocol/permit.js';
import type { ClientCaller } from './ports.js';
import { numberSetting, type State } from './state.js';
import { tagsOf } from './users.js';

const GENERATION_SETTING = 'permitGeneration';
const REVOKED_SETTING = 'revokedPermits';

/** [client id or tag, generation in which it was revoked] */
type Revoked = readonly [string, number];

export class Permits {
  private timer: Timer | undefined;
  private readonly issued = new Map<ClientId, { readonly generation: number; readonly shape: string; readonly permit: string }>();
  private ownPermit: { readonly generation: number; readonly permit: string } | undefined;

  constructor(
    private readonly environment: Environment,
    private readonly state: State,
    private readonly accessKey: Buffer,
    private readonly cluster: string,
  ) {}

  start(): void {
    this.timer = this.environment.setTimer(PERMIT_GENERATION_MS, () => {
      this.next();
      this.start();
    });
  }
  stop(): void {
    this.timer?.cancel();
  }

  get generation(): number {
    return numberSetting(this.state, GENERATION_SETTING);
  }
  /** Client ids and tags. */
  get revokedClients(): readonly string[] {
    return this.revoked.map(([who]) => who);
  }
  private get revoked(): readonly Revoked[] {
    return (this.state.get('settings', REVOKED_SETTING) as Revoked[] | undefined) ?? [];
  }

  /** For a client: its volume, reading or writing as it may. */
  permitFor(caller: ClientCaller): { permit: string; generation: number } {
    const { generation } = this;
    const access = caller.access === 'read' ? 'read' : 'write';
    const tags = tagsOf(caller);
    const shape = `${caller.volume}:${access}:${tags.join()}`;
    const known = this.issued.get(caller.client);
    if (known?.generation === generation && known.shape === shape) return { permit: known.permit, generation };
    const permit = this.sign({ volume: caller.volume, access, client: caller.client, ...(tags.length > 0 ? { tags } : {}) });
    this.issued.set(caller.client, { generation, shape, permit });
    return { permit, generation };
  }
  /** For orders in which one node reads from another. Receipts of what was stored then name the coordinator. */
  forOrders(): string {
    const { generation } = this;
    if (this.ownPermit?.generation !== generation)
      this.ownPermit = { generation, permit: this.sign({ volume: 0, access: 'write', client: 'coordinator' }) };
    return this.ownPermit.permit;
  }
  forget(client: ClientId): void {
    this.issued.delete(client);
  }
  /**
   * Nodes refuse permits of these clients, or with these tags, from their next heartbeat on: those given out until now, wherever they are kept.
   * Tags are never used again, and older permits have expired by themselves when the list forgets them.
   */
  revoke(who: readonly string[]): void {
    const { generation } = this;
    const kept = this.revoked.filter(([one, at]) => !who.includes(one) && at + PERMIT_GENERATIONS_VALID + 1 >= generation);
    this.state.transact((tx) => tx.put('settings', REVOKED_SETTING, [...kept, ...who.map((one) => [one, generation] as const)]));
    for (const one of who) this.forget(one);
  }

  private next(): void {
    this.state.transact((tx) => tx.put('settings', GENERATION_SETTING, this.generation + 1));
    if (this.revoked.some(([, at]) => at + PERMIT_GENERATIONS_VALID + 1 < this.generation)) this.revoke([]);
    this.issued.clear();
  }
  private sign(claims: Pick<Permit, 'volume' | 'access' | 'client' | 'tags'>): string {
    return sign(this.accessKey, { kind: 'permit', cluster: this.cluster, ...claims, generation: this.generation });
  }
}
