/**
 * How a node's life is judged: a pure step from what was known, what happened and the time, to what is known now.
 *
 *              registered                     missed beats, socket closed, goodbye
 *      ┌───────────────────────► up ─────────────────────────────────────────────► suspect
 *      │                          ▲                 registered, heartbeat             │
 *      │                          └──────────────────────────────────────────────────┤
 *      │                                                                             │ quiet for downAfterMs
 *    down ◄──────────────────────────────────────────────────────────────────────────┘ (stoppedGraceMs after a goodbye)
 *
 * `draining` and `removed` are an administrator's decisions laid over this (see `shownState`): a draining node still lives and dies, a removed
 * one is never judged again. A node that is down comes back by registering only: that is when its inventory is asked for.
 */
import type { NodeState } from '../protocol/entities.js';
import { DEFAULT_DOWN_AFTER_MS, DEFAULT_STOPPED_GRACE_MS, HEARTBEAT_INTERVAL_MS, HEARTBEATS_MISSED_SUSPECT } from '../protocol/limits.js';

export type Presence = 'up' | 'suspect' | 'down';

export interface LivenessTimes {
  /** Silence on an open connection that makes a node suspect. */
  readonly suspectAfterMs: number;
  /** Quiet time that makes a node down. */
  readonly downAfterMs: number;
  /** The same after the node said that it stops: a restart must not start a repair. */
  readonly stoppedGraceMs: number;
}
export const defaultTimes: LivenessTimes = {
  suspectAfterMs: HEARTBEAT_INTERVAL_MS * HEARTBEATS_MISSED_SUSPECT,
  downAfterMs: DEFAULT_DOWN_AFTER_MS,
  stoppedGraceMs: DEFAULT_STOPPED_GRACE_MS,
};

export interface Liveness {
  readonly presence: Presence;
  /** When this presence began (monotonic). */
  readonly sinceMs: number;
  /** The last moment anything proved that the node lives; silence is counted from here. */
  readonly heardMs: number;
  readonly isConnected: boolean;
  readonly saidGoodbye: boolean;
}

export type LivenessInput = 'registered' | 'heartbeat' | 'closed' | 'goodbye' | 'tick';

/** A node the coordinator knows from before its start: quiet since then, or down if it was down already. */
export const knownBefore = (wasDown: boolean, nowMs: number): Liveness => ({
  presence: wasDown ? 'down' : 'suspect',
  sinceMs: nowMs,
  heardMs: nowMs,
  isConnected: false,
  saidGoodbye: false,
});

/** What is known after `input` at `nowMs`. Returns the same object when nothing changed. */
export function step(known: Liveness, input: LivenessInput, nowMs: number, times: LivenessTimes): Liveness {
  const enter = (presence: Presence): Pick<Liveness, 'presence' | 'sinceMs'> =>
    presence === known.presence ? { presence, sinceMs: known.sinceMs } : { presence, sinceMs: nowMs };
  switch (input) {
    case 'registered':
      return { ...enter('up'), heardMs: nowMs, isConnected: true, saidGoodbye: false };
    case 'heartbeat':
      // After a goodbye only a registration counts: a beat sent before the goodbye may still arrive.
      if (!known.isConnected || known.presence === 'down' || known.saidGoodbye) return known;
      return { ...known, ...enter('up'), heardMs: nowMs };
    case 'goodbye':
      if (known.presence === 'down') return known;
      return { ...known, ...enter('suspect'), heardMs: nowMs, saidGoodbye: true };
    case 'closed':
      if (!known.isConnected) return known;
      if (known.presence === 'down') return { ...known, isConnected: false };
      return { ...known, ...enter('suspect'), heardMs: known.presence === 'up' ? nowMs : known.heardMs, isConnected: false };
    case 'tick': {
      if (known.presence === 'down') return known;
      const quietMs = nowMs - known.heardMs;
      if (quietMs >= (known.saidGoodbye ? times.stoppedGraceMs : times.downAfterMs)) return { ...known, ...enter('down') };
      if (known.presence === 'up' && quietMs >= times.suspectAfterMs) return { ...known, ...enter('suspect') };
      return known;
    }
  }
}

/** Takes time the coordinator itself slept (stopped, swapped out) out of a node's silence: nobody could have been heard then. */
export const forgive = (known: Liveness, sleptMs: number): Liveness =>
  known.presence === 'down' ? known : { ...known, heardMs: known.heardMs + sleptMs };

/** The one word people see. */
export function shownState(presence: Presence, flags: { readonly isDraining: boolean; readonly isRemoved: boolean }): NodeState {
  if (flags.isRemoved) return 'removed';
  return presence === 'up' && flags.isDraining ? 'draining' : presence;
}

/** When the node will be judged down if it stays quiet; null when it is down already. */
export const downAtMs = (known: Liveness, times: LivenessTimes): number | null =>
  known.presence === 'down' ? null : known.heardMs + (known.saidGoodbye ? times.stoppedGraceMs : times.downAfterMs);
