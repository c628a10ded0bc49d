/** The small values a node keeps beside its chunks, on a simulated disk: saved durably, cut off from a process that is gone. */
import type { NodeState } from '../../node/node-state.js';
import type { SimProcess } from './world.js';

export interface DiskNodeValues {
  of(process: SimProcess): NodeState;
}

export function memoryValues(): DiskNodeValues {
  const values = new Map<string, string>();
  return {
    of: (process) => {
      const { incarnation } = process;
      const wait = (): Promise<void> =>
        new Promise((resolve) => {
          process.world.schedule(0.3, '', () => process.run(incarnation, resolve));
        });
      return {
        load: async (name) => {
          await wait();
          const text = values.get(name);
          return text === undefined ? undefined : JSON.parse(text);
        },
        save: async (name, value) => {
          const text = JSON.stringify(value);
          await wait();
          values.set(name, text);
          await wait();
        },
      };
    },
  };
}
