import { cleanup, render } from 'ink-testing-library';
import { afterEach, describe, expect, it, vi } from 'vitest';
import type { Environment, Timer } from '../protocol/environment.js';
import { overviewSnapshot, SAMPLE_NODES, sampleNode, sampleState, WALL_MS } from '../test/tui-sample.js';
import { App } from './app.js';
import type { Effect } from './model.js';
import { Store } from './store.js';

/** A clock that stands still until it is moved. */
class Clock implements Environment {
  nowMs = 1000;
  private readonly timers = new Set<{ atMs: number; callback: () => void }>();
  monotonicMs = (): number => this.nowMs;
  wallNs = (): bigint => BigInt(WALL_MS + this.nowMs) * 1_000_000n;
  setTimer = (delayMs: number, callback: () => void): Timer => {
    const timer = { atMs: this.nowMs + delayMs, callback };
    this.timers.add(timer);
    return { cancel: () => this.timers.delete(timer) };
  };
  randomBytes = (sizeBytes: number): Buffer => Buffer.alloc(sizeBytes);
  random = (): number => 0.5;
  log = (): void => {};
  advance(ms: number): void {
    const untilMs = this.nowMs + ms;
    for (;;) {
      const next = [...this.timers].sort((a, b) => a.atMs - b.atMs)[0];
      if (!next || next.atMs > untilMs) break;
      this.timers.delete(next);
      this.nowMs = Math.max(this.nowMs, next.atMs);
      next.callback();
    }
    this.nowMs = untilMs;
  }
}

function mount() {
  const clock = new Clock();
  const effects: Effect[] = [];
  const store = new Store(sampleState(), clock, (_state, done) => effects.push(...done));
  const screen = render(<App store={store} />);
  return { clock, effects, store, screen, frame: () => screen.lastFrame() ?? '' };
}
/** Ink attaches its input handler in an effect, some turns of the event loop after the first frame. */
async function mounted() {
  const all = mount();
  await vi.waitFor(() => expect(all.screen.stdin.listenerCount('readable')).toBeGreaterThan(0), WAIT);
  return all;
}
const WAIT = { timeout: 10_000, interval: 5 };
/** React commits what a key changed in a microtask, never on a timer. */
const settled = (): Promise<void> => new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
const shows = (frame: () => string, text: string): Promise<void> => vi.waitFor(() => expect(frame()).toContain(text), WAIT);
afterEach(cleanup);

describe('the application', () => {
  it('shows the rows of the frame, not the blanks it lays out', async () => {
    const { frame } = await mounted();
    expect(frame()).toContain('AT RISK');
    expect(frame()).toContain('Nodes: 4 up (1 draining), 1 down');
    expect(frame().split('\n')).toHaveLength(30);
  });

  it('answers a key at once, without waiting for the clock', async () => {
    const { screen, frame } = await mounted();
    screen.stdin.write('2');
    await shows(frame, '[2 Nodes]');
    screen.stdin.write('?');
    await shows(frame, 'CAPITALS change something');
    screen.stdin.write('\u001b');
    await vi.waitFor(() => expect(frame()).not.toContain('CAPITALS change something'), WAIT);
    expect(frame()).toContain('[2 Nodes]');
  });

  it('knows arrows, enter, backspace and ctrl-c as terminals send them', async () => {
    const { screen, store, effects } = await mounted();
    screen.stdin.write('2');
    screen.stdin.write('\u001b[B');
    expect(store.state.nodes.selected).toBe('n2');
    screen.stdin.write('/');
    screen.stdin.write('n55');
    screen.stdin.write('\u007f');
    expect(store.state.nodes.filter).toBe('n5');
    screen.stdin.write('\r');
    expect(store.state.overlay.kind).toBe('none');
    screen.stdin.write('\u0003');
    expect(effects).toContainEqual({ kind: 'quit' });
  });

  it('paints changed data at most twice a second', async () => {
    const { clock, store, screen } = await mounted();
    store.start();
    clock.advance(3000);
    await settled();
    const before = screen.frames.length;
    for (let step = 0; step < 100; step += 1) {
      store.dispatch({
        kind: 'changes',
        request: { topic: 'overview' },
        head: undefined,
        upserts: [{ key: 'n1', ...sampleNode('n1', { replicas: 1000 + step }) }],
        removes: [],
      });
      clock.advance(10);
      await settled();
    }
    expect(screen.frames.length - before).toBeLessThanOrEqual(3);
    clock.advance(500);
    await settled();
    expect(screen.lastFrame()).toContain('1,099');
    store.stop();
  });

  it('writes nothing when nothing on screen changed', async () => {
    const { clock, store, screen } = await mounted();
    const before = screen.frames.length;
    for (let step = 0; step < 20; step += 1) {
      store.dispatch({ kind: 'changes', request: { topic: 'jobs' }, head: undefined, upserts: [], removes: [] });
      clock.advance(1);
      await settled();
    }
    expect(screen.frames.length).toBe(before);
  });

  it('keeps what is shown while frozen and asks for everything again after', async () => {
    const { clock, store, screen, effects, frame } = await mounted();
    screen.stdin.write('f');
    await shows(frame, 'FROZEN');
    store.dispatch(overviewSnapshot([...SAMPLE_NODES, sampleNode('n6')]));
    store.dispatch({
      kind: 'changes',
      request: { topic: 'overview' },
      head: undefined,
      upserts: [{ key: 'n7', ...sampleNode('n7') }],
      removes: [],
    });
    clock.advance(1000);
    await settled();
    expect(frame()).not.toContain('n6');
    expect(frame()).not.toContain('n7');
    screen.stdin.write('f');
    expect(effects).toContainEqual({ kind: 'reconnect' });
    await settled();
    expect(frame()).not.toContain('FROZEN');
  });
});
