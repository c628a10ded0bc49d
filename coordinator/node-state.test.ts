import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { downAtMs, forgive, knownBefore, type Liveness, type LivenessInput, type LivenessTimes, shownState, step } from './node-state.js';

const times: LivenessTimes = { suspectAfterMs: 3_000, downAfterMs: 30_000, stoppedGraceMs: 300_000 };
const up = (nowMs: number): Liveness => step(knownBefore(false, 0), 'registered', nowMs, times);

describe('a node', () => {
  it('is up once registered and stays up while it beats', () => {
    let node = up(0);
    for (let nowMs = 1_000; nowMs <= 60_000; nowMs += 1_000) {
      node = step(step(node, 'heartbeat', nowMs, times), 'tick', nowMs + 500, times);
      expect(node.presence).toBe('up');
    }
    expect(node.sinceMs).toBe(0);
  });

  it('is suspect after three missed beats, up again at the next beat', () => {
    const quiet = step(up(0), 'tick', 2_999, times);
    expect(quiet.presence).toBe('up');
    const suspect = step(quiet, 'tick', 3_000, times);
    expect(suspect).toMatchObject({ presence: 'suspect', sinceMs: 3_000, isConnected: true });
    expect(step(suspect, 'heartbeat', 9_000, times)).toMatchObject({ presence: 'up', sinceMs: 9_000 });
  });

  it('is suspect the moment its socket closes and down downAfterMs later', () => {
    const closed = step(up(0), 'closed', 1_000, times);
    expect(closed).toMatchObject({ presence: 'suspect', isConnected: false });
    expect(step(closed, 'tick', 30_999, times).presence).toBe('suspect');
    expect(step(closed, 'tick', 31_000, times).presence).toBe('down');
    expect(downAtMs(closed, times)).toBe(31_000);
  });

  it('gets the longer grace after a clean goodbye', () => {
    const stopped = step(step(up(0), 'goodbye', 1_000, times), 'closed', 1_010, times);
    expect(step(stopped, 'tick', 200_000, times).presence).toBe('suspect');
    expect(step(stopped, 'tick', 301_000, times).presence).toBe('down');
  });

  it('comes back from down by registering, not by a late beat', () => {
    const down = step(step(up(0), 'closed', 0, times), 'tick', 30_000, times);
    expect(step(down, 'heartbeat', 31_000, times)).toBe(down);
    expect(step(down, 'registered', 31_000, times).presence).toBe('up');
  });

  it('is not blamed for time in which the coordinator slept', () => {
    expect(step(forgive(up(0), 60_000), 'tick', 61_000, times).presence).toBe('up');
  });

  it('known before a restart is suspect, or down when it was down', () => {
    expect(knownBefore(false, 5).presence).toBe('suspect');
    expect(knownBefore(true, 5).presence).toBe('down');
  });

  it('shows draining only while it lives, and removed always', () => {
    expect(shownState('up', { isDraining: true, isRemoved: false })).toBe('draining');
    expect(shownState('down', { isDraining: true, isRemoved: false })).toBe('down');
    expect(shownState('up', { isDraining: false, isRemoved: true })).toBe('removed');
  });

  it('is judged consistently whatever happens in whatever order', () => {
    const inputs = fc.array(
      fc.tuple(fc.constantFrom<LivenessInput>('registered', 'heartbeat', 'closed', 'goodbye', 'tick'), fc.integer({ min: 0, max: 40_000 })),
      { maxLength: 60 },
    );
    fc.assert(
      fc.property(inputs, (list) => {
        let nowMs = 0;
        let node = knownBefore(false, 0);
        let registeredSinceDown = true;
        for (const [input, passedMs] of list) {
          nowMs += passedMs;
          const before = node;
          node = step(node, input, nowMs, times);
          if (node.presence === 'down') registeredSinceDown = false;
          if (input === 'registered') registeredSinceDown = true;
          // Down is left by registering only.
          if (!registeredSinceDown) expect(node.presence).toBe('down');
          // It never becomes down except by a tick after enough silence.
          if (node.presence === 'down' && before.presence !== 'down') {
            expect(input).toBe('tick');
            expect(nowMs - before.heardMs).toBeGreaterThanOrEqual(before.saidGoodbye ? times.stoppedGraceMs : times.downAfterMs);
          }
          if (node.presence !== before.presence) expect(node.sinceMs).toBe(nowMs);
          else expect(node.sinceMs).toBe(before.sinceMs);
          if (node.presence === 'up') expect(node.isConnected && !node.saidGoodbye).toBe(true);
          // Judging twice at the same time changes nothing.
          const judged = step(node, 'tick', nowMs, times);
          expect(step(judged, 'tick', nowMs, times)).toBe(judged);
        }
      }),
    );
  });
});
