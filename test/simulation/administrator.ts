/** Somebody who administers the cluster from a machine of their own, and asks again until there is an answer. */
import { type AdminConnection, connectAdmin } from '../../client/admin.js';
import type { AdminCalls } from '../../protocol/admin-calls.js';
import type { Dialer, ReplyOf, RequestOf } from '../../protocol/call.js';
import { type Environment, sleep } from '../../protocol/environment.js';
import { isCode } from '../../protocol/errors.js';
import { SimProcess, type World } from './world.js';

const WAIT_MS = 3000;

export class Administrator {
  private readonly environment: Environment;
  private readonly dialer: Dialer;
  private connection: Promise<AdminConnection> | undefined;

  constructor(
    world: World,
    private readonly token: string,
    dialerOf: (from: SimProcess) => Dialer,
  ) {
    const process = new SimProcess(world, 'ad');
    this.environment = process.start();
    this.dialer = dialerOf(process);
  }

  /**
   * For what may be done twice. @throws {HoldfastError} what the coordinator refuses
   */
  async ask<M extends keyof AdminCalls>(method: M, args: RequestOf<AdminCalls, M>): Promise<ReplyOf<AdminCalls, M>> {
    for (;;) {
      try {
        this.connection ??= this.connect();
        return await (await this.connection).call(method, args);
      } catch (error) {
        if (!isCode(error, 'UNREACHABLE', 'DEADLINE', 'NOT_READY')) throw error;
        await sleep(this.environment, 200);
      }
    }
  }
  private connect(): Promise<AdminConnection> {
    const { environment, dialer } = this;
    const connecting = connectAdmin(
      { coordinatorUrl: 'http://co:6000', token: this.token, description: 'administrator', waitMs: WAIT_MS },
      { environment, dialer },
    );
    connecting.catch(() => {
      this.connection = undefined;
    });
    return connecting;
  }
  /** The same, when being refused is an answer as well. @returns whether it was done, this time or (EEXIST, ENOENT) before */
  async tell<M extends keyof AdminCalls>(method: M, args: RequestOf<AdminCalls, M>): Promise<boolean> {
    try {
      await this.ask(method, args);
      return true;
    } catch (error) {
      if (isCode(error, 'EEXIST', 'ENOENT')) return true;
      // The journal has no room, the node is not up, it is done already.
      if (isCode(error, 'REFUSED', 'ENOSPC')) return false;
      throw error;
    }
  }
}
