/** The little a node remembers beside its chunks: who it is, whom it obeys, how far the scrub got. Named JSON values, each replaced as a whole. */
import { type DiskFiles, errnoOf, nodeFiles, replaceFile } from './disk-files.js';
import { temporaryDirectory } from './disk-layout.js';

export type StateName = 'identity' | 'scrub' | 'credentials' | 'certificate';

export interface NodeState {
  /** @returns undefined when it was never saved. Throws when it is there but cannot be read: then nothing may be assumed. */
  load(name: StateName): Promise<unknown>;
  /** On stable storage when it resolves; a crash leaves the old or the new value. */
  save(name: StateName, value: unknown): Promise<void>;
}

export function diskNodeState(data: string, files: DiskFiles = nodeFiles): NodeState {
  return {
    load: async (name) => {
      const path = `${data}/${name}.json`;
      let fd: number;
      try {
        fd = await files.open(path, 'r');
      } catch (error) {
        if (errnoOf(error) === 'ENOENT') return undefined;
        throw error;
      }
      try {
        return JSON.parse((await files.read(fd, await files.sizeOf(path), 0)).toString());
      } finally {
        await files.close(fd);
      }
    },
    save: (name, value) => replaceFile(files, `${data}/${name}.json`, temporaryDirectory(data), Buffer.from(`${JSON.stringify(value)}\n`)),
  };
}

/** For simulations: survives a simulated crash, as it is synced by contract. */
export function memoryNodeState(): NodeState {
  const values = new Map<string, string>();
  return {
    load: async (name) => (values.has(name) ? JSON.parse(values.get(name)!) : undefined),
    save: async (name, value) => {
      values.set(name, JSON.stringify(value));
    },
  };
}
