/** `holdfast restore`: a new data directory from a backup. */
import { Command } from 'commander';
import { HoldfastError } from '../protocol/errors.js';
import { restore } from './backup.js';
import { nextSteps, type PlaceFlags, placeOf, runOffline, withPlaceOptions } from './offline-command.js';

/** @returns exit code, as offline-command.ts says */
export function runRestore(argv: readonly string[]): Promise<number> {
  const command = withPlaceOptions(
    new Command('holdfast restore')
      .description(
        'Makes a new data directory for a coordinator from a backup. Files changed since the backup are lost; chunks newer than it are kept aside on the nodes.',
      )
      .argument('<file>', 'backup made by "holdfast backup"'),
  );
  return runOffline(command, argv, async (print, json) => {
    const place = await placeOf(command.opts<PlaceFlags>());
    const { data, nodeToken, adminToken } = place;
    if (data === undefined) throw new HoldfastError('EINVAL', 'give --data DIR (a new directory), or --state DIR');
    const found = await restore(command.args[0] as string, data, { nodeToken, ...(adminToken === undefined ? {} : { adminToken }) });
    const { cluster, sequence, atMs, rows } = found;
    print(`restored ${rows} rows of cluster ${cluster} as of ${new Date(atMs).toISOString()} into ${data}\n${nextSteps(place, data)}`);
    json({ data, cluster, sequence, atMs, rows, isAdminTokenNew: adminToken === undefined });
  });
}
