/** From a wish to an action: refuse with the reason, ask first, or run at once. */
import type { Proposal } from './actions.js';
import { type Flash, only, type State, type Step } from './model.js';

const FLASH_MS = 6000;
/** A result line: what failed stays until a key, everything else fades after a while. */
export const flash = (state: State, level: Flash['level'], text: string): State => ({
  ...state,
  flash: { level, text, untilMs: level === 'bad' ? null : state.nowMs + FLASH_MS },
});

export function propose(state: State, proposal: Proposal): Step {
  const { action, confirmation } = proposal;
  if (state.options.readOnly) return only(flash(state, 'bad', `not done: ${action.label}: this screen was started with --read-only`));
  if (proposal.refusal) return only(flash(state, 'bad', `not done: ${action.label}: ${proposal.refusal}`));
  if (action.kind === 'call') {
    if (state.link.kind !== 'live')
      return only(flash(state, 'bad', `not done: ${action.label}: the coordinator is not connected; local S, T and K still work`));
    if (!state.link.isAdmin)
      return only(flash(state, 'bad', `not done: ${action.label}: ${state.link.user} may look but not change; use an admin's token`));
  }
  if (confirmation.level === 'none') return { state, effects: [{ kind: 'run', action }] };
  return only({ ...state, overlay: { kind: 'confirm', action, confirmation, text: '' } });
}
