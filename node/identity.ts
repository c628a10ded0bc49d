/** Which cluster and node a data directory belongs to, and the highest coordinator epoch ever obeyed with it. */
import { z } from 'zod';
import type { NodeId } from '../protocol/entities.js';
import { HoldfastError } from '../protocol/errors.js';
import type { NodeState } from './node-state.js';

const identitySchema = z.object({
  format: z.literal(1, 'this data directory was written by a newer version of Holdfast: use that version'),
  name: z.string(),
  cluster: z.string().optional(),
  node: z.number().int().positive().optional(),
  epoch: z.number().int().nonnegative(),
  coordinatorStartId: z.string(),
});
type Stored = z.infer<typeof identitySchema>;

export interface Order {
  readonly epoch: number;
  readonly coordinatorStartId: string;
}

export class Identity {
  private saving: Promise<void> = Promise.resolve();
  private constructor(
    private readonly state: NodeState,
    private stored: Stored,
  ) {}

  /**
   * @param name of this node as configured
   * @throws {HoldfastError} REFUSED when the directory belongs to a node of another name
   */
  static async load(state: NodeState, name: string): Promise<Identity> {
    const value = await state.load('identity');
    if (value === undefined) return new Identity(state, { format: 1, name, epoch: 0, coordinatorStartId: '' });
    const parsed = identitySchema.safeParse(value);
    if (!parsed.success)
      throw new HoldfastError('REFUSED', `identity.json cannot be used: ${parsed.error.issues[0]?.message ?? 'malformed'}`);
    if (parsed.data.name !== name)
      throw new HoldfastError(
        'REFUSED',
        `this data directory belongs to node ${parsed.data.name}, not ${name}: start it with --name ${parsed.data.name}, or choose another --data directory`,
      );
    return new Identity(state, parsed.data);
  }

  get name(): string {
    return this.stored.name;
  }
  get cluster(): string | undefined {
    return this.stored.cluster;
  }
  get node(): NodeId | undefined {
    return this.stored.node;
  }

  /**
   * Remembers which cluster took this node in. @throws {HoldfastError} WRONG_CLUSTER when it was another one before
   */
  async joined(cluster: string, node: NodeId): Promise<void> {
    if (this.stored.cluster !== undefined && (this.stored.cluster !== cluster || this.stored.node !== node))
      throw new HoldfastError(
        'WRONG_CLUSTER',
        `this data directory belongs to node ${this.stored.node} of cluster ${this.stored.cluster}, the coordinator is of cluster ${cluster} and calls it node ${node}: check --coordinator, or use an empty --data directory`,
      );
    if (this.stored.cluster === undefined) await this.change(() => ({ ...this.stored, cluster, node }));
  }

  /**
   * Says whether an order may be obeyed. The epoch is on stable storage before this resolves: an older coordinator must find it after any crash.
   * @throws {HoldfastError} STALE_EPOCH
   */
  obey(order: Order): Promise<void> | undefined {
    this.check(order);
    if (order.epoch === this.stored.epoch) return undefined;
    return this.change(() => {
      this.check(order);
      return { ...this.stored, epoch: order.epoch, coordinatorStartId: order.coordinatorStartId };
    });
  }

  private check(order: Order): void {
    const { epoch, coordinatorStartId } = this.stored;
    if (order.epoch < epoch)
      throw new HoldfastError(
        'STALE_EPOCH',
        `this node obeys epoch ${epoch} already, the order is of epoch ${order.epoch}: an old coordinator or an old copy of its data is running`,
        { epoch },
      );
    if (order.epoch === epoch && order.coordinatorStartId !== coordinatorStartId)
      throw new HoldfastError(
        'STALE_EPOCH',
        `another coordinator gave orders with epoch ${epoch} before: two of them run on copies of the same data`,
        { epoch },
      );
  }

  private change(next: () => Stored): Promise<void> {
    const saved = this.saving.then(async () => {
      const stored = next();
      await this.state.save('identity', stored);
      this.stored = stored;
    });
    this.saving = saved.catch(() => {});
    return saved;
  }
}
