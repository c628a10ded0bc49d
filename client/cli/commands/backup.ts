/** backup: all metadata as one file here. (`restore` is the coordinator's own, see parts.ts.) */
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { Context } from '../context.js';
import { CliError, EXIT } from '../exit-codes.js';
import { byteProgress } from '../progress.js';
import { sizeWords } from '../words.js';

export async function backup(context: Context, options: { force?: boolean }, output: string): Promise<void> {
  if (!options.force && existsSync(output)) throw new CliError(`${output} exists: --force replaces it`, EXIT.conflict, 'EEXIST');
  const admin = await context.admin();
  const made = await admin.call('backup', {}, { timeoutMs: 600_000 });
  const part = `${output}.part-${process.pid}`;
  const file = await open(part, 'wx', 0o600).catch((error: Error) => {
    throw new CliError(`cannot write ${output}: ${error.message}`);
  });
  const progress = byteProgress(context, 'backing up', made.sizeBytes);
  const hash = createHash('sha256');
  try {
    for (let offset = 0, isLast = false; !isLast; ) {
      if (context.interrupted.signal.aborted) throw context.interrupted.signal.reason;
      const piece = await admin.call('readBackup', { offset });
      await file.write(piece.data, 0, piece.data.length, offset);
      hash.update(piece.data);
      offset += piece.data.length;
      progress.add(piece.data.length);
      isLast = piece.isLast;
      if (piece.data.length === 0 && !isLast) throw new CliError('the coordinator sent an empty piece');
    }
    const sha256 = hash.digest('hex');
    if (sha256 !== made.sha256) throw new CliError('the backup was damaged on its way: try again', EXIT.corrupt, 'CHUNK_CORRUPT');
    await file.sync();
    await file.close();
    await rename(part, output);
    const directory = await open(dirname(output), 'r');
    await directory.sync();
    await directory.close();
    if (context.isJson) context.json({ schema: 1, output, ...made });
    else context.print(`Metadata as of change ${made.sequence} (${sizeWords(made.sizeBytes)}) saved to ${output}.`);
  } catch (error) {
    await file.close().catch(() => {});
    await rm(part, { force: true });
    throw error;
  } finally {
    progress.end();
  }
}
