/**
 * Hands out permits and counts their generations. A generation is a number in the settings, raised while the coordinator runs: permits age by
 * the coordinator's own time, never by anybody's wall clock, and do not come back to life after a restart.
 */
import type { ClientId } from '../protocol/entities.js';
import type { Environment, Timer } from '../protocol/environment.js';
import { PERMIT_GENERATION_MS } from '../protocol/limits.js';
import { type Permit, sign } from '../protocol/permit.js';
import type { ClientCaller } from './ports.js';
import { numberSetting, type State } from './state.js';

const GENERATION_SETTING = 'permitGeneration';
const REVOKED_SETTING = 'revokedClients';
const MOST_REVOKED = 10_000;

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
  get revokedClients(): readonly string[] {
    return (this.state.get('settings', REVOKED_SETTING) as string[] | undefined) ?? [];
  }

  /** For a client: its volume, reading or writing as it may. */
  permitFor(caller: ClientCaller): { permit: string; generation: number } {
    const { generation } = this;
    const access = caller.access === 'read' ? 'read' : 'write';
    const shape = `${caller.volume}:${access}`;
    const known = this.issued.get(caller.client);
    if (known?.generation === generation && known.shape === shape) return { permit: known.permit, generation };
    const permit = this.sign({ volume: caller.volume, access, client: caller.client });
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
  /** Nodes refuse this client's permits from their next heartbeat on. */
  revoke(client: ClientId): void {
    const revoked = [...this.revokedClients.filter((one) => one !== client), client].slice(-MOST_REVOKED);
    this.state.transact((tx) => tx.put('settings', REVOKED_SETTING, revoked));
    this.forget(client);
  }

  private next(): void {
    this.state.transact((tx) => tx.put('settings', GENERATION_SETTING, this.generation + 1));
    this.issued.clear();
  }
  private sign(claims: Pick<Permit, 'volume' | 'access' | 'client'>): string {
    return sign(this.accessKey, { kind: 'permit', cluster: this.cluster, ...claims, generation: this.generation });
  }
}
