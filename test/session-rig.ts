/** The coordinator's end of a client's connections; what it answers, and when, the test decides. */
import type { CallFrame, Connection, Dialer } from '../protocol/call.js';
import { HoldfastError } from '../protocol/errors.js';
import type { FakeEnvironment } from './fake-environment.js';

type Answer = (frame: CallFrame) => Promise<unknown> | undefined;

export class TestConnection implements Connection {
  onCall: Connection['onCall'];
  onPush: Connection['onPush'];
  onClose: Connection['onClose'];
  isOpen = true;
  readonly peer = 'test';
  private readonly pending = new Set<(error: HoldfastError) => void>();
  constructor(private readonly server: TestCoordinator) {}
  call(frame: CallFrame, timeoutMs: number): Promise<unknown> {
    if (!this.isOpen) return Promise.reject(new HoldfastError('UNREACHABLE', 'closed'));
    this.server.frames.push(frame);
    return new Promise((resolve, reject) => {
      this.pending.add(reject);
      this.server.environment.setTimer(timeoutMs, () => reject(new HoldfastError('DEADLINE', 'no answer')));
      this.server.answer(frame)?.then(resolve, reject);
    });
  }
  push(): void {}
  close(reason: string): void {
    if (!this.isOpen) return;
    this.isOpen = false;
    for (const reject of this.pending) reject(new HoldfastError('UNREACHABLE', reason));
    this.onClose?.(reason);
  }
}

export class TestCoordinator implements Dialer {
  readonly frames: CallFrame[] = [];
  readonly secrets: string[] = [];
  connection: TestConnection | undefined;
  isUp = true;
  resumes = true;
  answerRenewals = true;
  /** Joins every welcome. */
  welcome: Record<string, unknown> = {};
  private known = new Set<string>();
  /** Anything but hello and renew. */
  handler: Answer = () => Promise.resolve({});
  constructor(readonly environment: FakeEnvironment) {}
  dial(_namespace: string, handshake: Record<string, unknown>): Promise<Connection> {
    if (!this.isUp) return Promise.reject(new HoldfastError('UNREACHABLE', 'refused'));
    this.secrets.push(String(handshake.clientSecret));
    this.connection = new TestConnection(this);
    return Promise.resolve(this.connection);
  }
  answer(frame: CallFrame): Promise<unknown> | undefined {
    if (frame.method === 'hello') {
      const secret = this.secrets[this.secrets.length - 1]!;
      const resumed = this.resumes && this.known.has(secret);
      this.known.add(secret);
      return Promise.resolve({ resumed, permit: 'first', nodes: [], volume: {}, access: 'admin', ...this.welcome });
    }
    if (frame.method === 'renew') return this.answerRenewals ? Promise.resolve({ permit: 'renewed', generation: 1 }) : undefined;
    return this.handler(frame);
  }
}
