/** The real environment of a client: its timers keep the process alive, because whoever waits for the cluster must not be ended by an empty event loop. */
import { type Environment, realEnvironment } from '../protocol/environment.js';

export function liveEnvironment(log?: Environment['log']): Environment {
  return {
    ...realEnvironment(log),
    setTimer: (delayMs, callback) => {
      const timer = setTimeout(callback, delayMs);
      return { cancel: () => clearTimeout(timer) };
    },
  };
}
