/**
 * Holds the state outside React and decides when to paint: keys at once, data at most every `refreshMs`, the clock once a second. A paint whose
 * lines are the same as before reaches nobody.
 */
import { type Environment, type Timer, wallMs } from '../protocol/environment.js';
import { paint } from './draw.js';
import { drawFrame } from './frame.js';
import type { Effect, Message, State } from './model.js';
import { requestKey } from './topics.js';
import { update } from './update.js';

const TICK_MS = 1000;

export interface Frame {
  readonly lines: readonly string[];
  readonly columns: number;
}

export class Store {
  private frame: Frame;
  private readonly listeners = new Set<() => void>();
  private paintTimer: Timer | undefined;
  private tickTimer: Timer | undefined;
  private paintedAtMs = Number.NEGATIVE_INFINITY;
  private isDirty = false;

  /** @param onStep called after every message: with what the outside has to do, and whenever the wanted views may have changed */
  constructor(
    public state: State,
    private readonly environment: Environment,
    private readonly onStep: (state: State, effects: readonly Effect[]) => void,
  ) {
    this.advanceClock();
    this.frame = this.draw();
  }

  /** Starts the clock on screen. */
  start(): void {
    this.tick();
  }

  stop(): void {
    this.paintTimer?.cancel();
    this.tickTimer?.cancel();
    this.paintTimer = undefined;
    this.tickTimer = undefined;
  }

  readonly subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  };
  readonly getFrame = (): Frame => this.frame;

  readonly dispatch = (message: Message): void => {
    if (this.isHeldBack(message)) return;
    this.advanceClock();
    const wasFrozen = this.state.isFrozen;
    const step = update(this.state, message);
    this.state = step.state;
    // What was not applied while frozen is made good by new snapshots.
    const effects: readonly Effect[] = wasFrozen && !step.state.isFrozen ? [...step.effects, { kind: 'reconnect' }] : step.effects;
    this.onStep(step.state, effects);
    // A view that was just opened shows at once; changes of what is on screen wait for their turn.
    if (message.kind === 'changes' || message.kind === 'local') this.paintLater();
    else this.paintNow();
  };

  /** Frozen: what is on screen stays. A view that is not there yet may still come. */
  private isHeldBack(message: Message): boolean {
    if (!this.state.isFrozen) return false;
    if (message.kind === 'changes') return true;
    if (message.kind !== 'snapshot') return false;
    const known = this.state.topics[message.request.topic];
    return known !== null && requestKey(known.request) === requestKey(message.request);
  }

  private advanceClock(): void {
    const { environment } = this;
    this.state = update(this.state, {
      kind: 'tick',
      nowMs: environment.monotonicMs(),
      wallMs: wallMs(environment),
    }).state;
  }

  private tick(): void {
    this.advanceClock();
    this.paintLater();
    this.tickTimer = this.environment.setTimer(TICK_MS, () => this.tick());
  }

  private paintLater(): void {
    this.isDirty = true;
    if (this.paintTimer) return;
    const waitMs = Math.max(0, this.paintedAtMs + this.state.refreshMs - this.environment.monotonicMs());
    this.paintTimer = this.environment.setTimer(waitMs, () => {
      this.paintTimer = undefined;
      if (this.isDirty) this.paintNow();
    });
  }

  private paintNow(): void {
    this.isDirty = false;
    this.paintedAtMs = this.environment.monotonicMs();
    const next = this.draw();
    const isSame =
      next.columns === this.frame.columns &&
      next.lines.length === this.frame.lines.length &&
      next.lines.every((line, index) => line === this.frame.lines[index]);
    if (isSame) return;
    this.frame = next;
    for (const listener of this.listeners) listener();
  }

  private draw(): Frame {
    const { color } = this.state.options;
    return { lines: drawFrame(this.state).map((one) => paint(one, color)), columns: this.state.columns };
  }
}
