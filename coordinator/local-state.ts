/**
 * The state directory of a local cluster (scripts/cluster-state.ts makes it), as far as `recover` and `restore` need it: where the coordinator's
 * data belongs, where the nodes listen, and the tokens that outlive the coordinator's disk.
 */
import { readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { z } from 'zod';
import { HoldfastError } from '../protocol/errors.js';

const configSchema = z.object({ nodes: z.array(z.object({ host: z.string(), port: z.number().int() })) });

export interface LocalState {
  readonly data: string;
  readonly nodeUrls: readonly string[];
  /** undefined when the file is not there. */
  readonly nodeToken: string | undefined;
  readonly adminToken: string | undefined;
}

/** @throws {HoldfastError} ENOENT there is no cluster in it, EINVAL its cluster.json is damaged */
export async function readLocalState(directory: string): Promise<LocalState> {
  const state = resolve(directory);
  const file = join(state, 'cluster.json');
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch {
    throw new HoldfastError('ENOENT', `there is no local cluster in ${state}: ${file} is not there`);
  }
  let config: z.infer<typeof configSchema>;
  try {
    config = configSchema.parse(JSON.parse(text));
  } catch {
    throw new HoldfastError('EINVAL', `${file} is damaged`);
  }
  return {
    data: join(state, 'coordinator', 'data'),
    nodeUrls: config.nodes.map(({ host, port }) => `http://${host.includes(':') ? `[${host}]` : host}:${port}`),
    nodeToken: await readToken(join(state, 'tokens', 'node-token')),
    adminToken: await readToken(join(state, 'tokens', 'admin-token')),
  };
}

async function readToken(file: string): Promise<string | undefined> {
  const text = (await readFile(file, 'utf8').catch(() => '')).trim();
  return text === '' ? undefined : text;
}

/**
 * The token in a file that was named on the command line.
 * @throws {HoldfastError} EINVAL it cannot be read or is empty
 */
export async function tokenIn(file: string, option: string): Promise<string> {
  let text: string;
  try {
    text = (await readFile(file, 'utf8')).trim();
  } catch (error) {
    throw new HoldfastError('EINVAL', `${option} ${file} cannot be read: ${(error as NodeJS.ErrnoException).code ?? 'unknown reason'}`);
  }
  if (text === '') throw new HoldfastError('EINVAL', `${option} ${file} is empty`);
  return text;
}
