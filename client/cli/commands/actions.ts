/** What administrators order: nodes, repair, rebalance, copies. The coordinator checks each again and refuses what would lose data. */
import type { AdminCalls, Done } from '../../../protocol/admin-calls.js';
import type { RequestOf } from '../../../protocol/call.js';
import type { Context } from '../context.js';
import { CliError, EXIT } from '../exit-codes.js';
import { sizeWords, table } from '../words.js';

type ActionName = {
  [M in keyof AdminCalls]: AdminCalls[M] extends { readonly reply?: infer R } ? (Exclude<R, undefined> extends Done ? M : never) : never;
}[keyof AdminCalls];

async function act<M extends ActionName>(context: Context, method: M, request: RequestOf<AdminCalls, M>): Promise<void> {
  const admin = await context.admin();
  const done = (await admin.call(method, request)) as Done;
  if (context.isJson) context.json({ schema: 1, ...done });
  else context.print(done.text + (done.job ? ` (job ${done.job}: holdfast jobs)` : ''));
}

export async function nodeList(context: Context): Promise<void> {
  const admin = await context.admin();
  const { nodes } = await admin.call('status', {});
  if (context.isJson) return context.json({ schema: 1, nodes });
  const rows = nodes.map((node) => [
    node.name,
    node.state,
    sizeWords(node.usedBytes),
    sizeWords(node.freeBytes),
    String(node.replicas),
    node.url,
  ]);
  for (const line of table([['NODE', 'STATE', 'USED', 'FREE', 'REPLICAS', 'ADDRESS'], ...rows], [2, 3, 4])) context.print(line);
}

/** Moves everything off a node, so that it can be taken away. `--wait` returns when it may be. */
export async function drain(context: Context, options: { wait?: boolean; dryRun?: boolean }, node: string): Promise<void> {
  const admin = await context.admin();
  const find = async () => {
    const found = (await admin.call('status', {})).nodes.find((one) => one.name === node);
    if (!found) throw new CliError(`there is no node ${node}: "holdfast node ls" lists them`, EXIT.notFound, 'ENOENT');
    return found;
  };
  if (options.dryRun) {
    const { replicas, usedBytes } = await find();
    if (context.isJson) context.json({ schema: 1, dryRun: true, node, replicas, usedBytes });
    else context.print(`Would copy up to ${replicas.toLocaleString('en')} replicas (${sizeWords(usedBytes)}) from ${node} to other nodes.`);
    return;
  }
  await act(context, 'drainNode', { node });
  if (!options.wait) return;
  const { waitUntil } = await import('../progress.js');
  await waitUntil(context, `drain ${node}`, async () => {
    const found = await find();
    if (found.state !== 'draining') throw new CliError(`${node} is no longer draining: it is ${found.state}`, EXIT.conflict, 'CHANGED');
    return { isDone: found.safeToRemove, left: found.drainLeft ?? 0 };
  });
  if (!context.isJson) context.print(`${node} may be removed: "holdfast node remove ${node}".`);
}

export const undrain = (context: Context, _options: unknown, node: string): Promise<void> => act(context, 'undrainNode', { node });

export const remove = (context: Context, options: { evenIfDataIsLost?: string }, node: string): Promise<void> =>
  act(context, 'removeNode', { node, ...(options.evenIfDataIsLost === undefined ? {} : { evenIfDataIsLost: options.evenIfDataIsLost }) });

export const scrub = (context: Context, options: { stop?: boolean }, node?: string): Promise<void> =>
  act(context, 'scrub', { action: options.stop ? 'stop' : 'start', ...(node === undefined ? {} : { node }) });

export async function repair(context: Context, options: { speed?: 'gentle' | 'normal' | 'urgent' }): Promise<void> {
  if (options.speed !== undefined) await act(context, 'setRepairSpeed', { speed: options.speed });
  else await act(context, 'repairNow', {});
}

const rebalanceActions = ['start', 'pause', 'resume', 'cancel'] as const;
export async function rebalance(context: Context, _options: unknown, action = 'start'): Promise<void> {
  const chosen = rebalanceActions.find((one) => one === action);
  if (!chosen) throw new CliError(`rebalance can ${rebalanceActions.join(', ')}, not ${action}`, EXIT.usage);
  await act(context, 'rebalance', { action: chosen });
}

export async function copies(context: Context, options: { volume?: string }, count: string): Promise<void> {
  const number = Number(count);
  if (!Number.isInteger(number) || number < 1 || number > 8) throw new CliError('copies is a whole number from 1 to 8', EXIT.usage);
  await act(context, 'setCopies', { volume: options.volume ?? 'main', copies: number });
}
