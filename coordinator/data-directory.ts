/**
 * The coordinator's data directory:
 *
 *   identity.json   format, cluster id, state; says that there is (or is about to be) data
 *   metadata.db     rows (database.ts), with -wal beside it while running
 *   journal/        segments (journal-files.ts)
 *   admin-token, node-token   secrets, readable by the owner only
 *   backup/         the last snapshot taken
 *   url             where the running coordinator listens
 *
 * It is never taken for empty when it is not: identity.json is written first, and what it promises must be there. One process at a time: the lock
 * is a listening abstract Unix socket named after the directory's real path, which the kernel frees however the process ends.
 */
import { createHash, randomBytes } from 'node:crypto';
import { realpathSync } from 'node:fs';
import { chmod, mkdir, open, readdir, readFile, rename, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { z } from 'zod';
import { HoldfastError } from '../protocol/errors.js';

const FORMAT = 1;
/** What helps when the metadata is gone. The node token is still in the directory that is moved away. */
const recoverHint = (path: string): string =>
  `To rebuild the metadata, move ${path} away (say, to ${path}.old); then get it back from the copies that nodes keep: "holdfast recover --from-nodes URL... --node-token-file ${path}.old/node-token --data ${path}" ("holdfast recover --state DIR" for a cluster of scripts/up), or from a backup: "holdfast restore".`;

const identitySchema = z.object({
  format: z.number().int(),
  cluster: z.string().min(1).max(64),
  /**
   * `new` until the first start has made everything: a crash before that leaves nothing worth keeping. `rebuilding` while a recovery or restore
   * fills it: a crash before its end leaves a directory that must not be started, since it holds less than the cluster had.
   */
  state: z.enum(['new', 'rebuilding', 'ready']),
});
export type Identity = z.infer<typeof identitySchema>;

export interface DataDirectory {
  readonly path: string;
  readonly cluster: string;
  readonly isNew: boolean;
  readonly adminToken: string;
  readonly nodeToken: string;
  readonly databaseFile: string;
  readonly journalDirectory: string;
  /** The first start has made everything. */
  ready(): Promise<void>;
  /** Lets another process in. */
  unlock(): Promise<void>;
}

const refuse = (message: string): never => {
  throw new HoldfastError('REFUSED', message);
};

/** Writes a file durably: temporary file, sync, rename, sync of the directory. */
export async function writeDurably(directory: string, name: string, text: string, mode = 0o600): Promise<void> {
  const temporary = join(directory, `.${name}.${process.pid}.tmp`);
  const file = await open(temporary, 'w', mode);
  try {
    await file.writeFile(text);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(temporary, join(directory, name));
  const parent = await open(directory, 'r');
  try {
    await parent.sync();
  } finally {
    await parent.close();
  }
}

async function lock(path: string): Promise<() => Promise<void>> {
  const digest = createHash('sha256').update(realpathSync(path)).digest('hex').slice(0, 32);
  const server = createServer((socket) => socket.destroy());
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      reject(
        error.code === 'EADDRINUSE'
          ? new HoldfastError('EBUSY', `another coordinator is running on ${path}: stop it first, or choose another --data directory`)
          : error,
      );
    });
    server.listen(`\0holdfast-coordinator-${digest}`, () => {
      server.unref();
      resolve(() => new Promise((done) => server.close(() => done())));
    });
  });
}

/** For a directory that is being rebuilt: the cluster it will belong to, and tokens to keep; those not given are made anew. */
export interface Rebuild {
  readonly cluster: string;
  readonly nodeToken?: string;
  readonly adminToken?: string;
}

/**
 * Locks the directory and reads who it belongs to; makes a new one when it is empty or absent.
 * @throws {HoldfastError} EBUSY (in use), REFUSED (foreign, damaged, newer: the message says what helps)
 */
export async function openDataDirectory(path: string, rebuild?: Rebuild): Promise<DataDirectory> {
  await mkdir(path, { recursive: true, mode: 0o700 });
  const unlock = await lock(path);
  try {
    return await prepare(path, unlock, rebuild);
  } catch (error) {
    await unlock();
    throw error;
  }
}

async function prepare(path: string, unlock: () => Promise<void>, rebuild: Rebuild | undefined): Promise<DataDirectory> {
  const names = new Set((await readdir(path)).filter((name) => name !== 'lost+found'));
  let identity = names.has('identity.json') ? await readIdentity(path) : undefined;
  if (!identity) {
    const strangers = [...names].filter((name) => !['admin-token', 'node-token'].includes(name) && !/^\..*\.tmp$/.test(name));
    if (names.has('metadata.db'))
      refuse(`${path} holds metadata but its identity.json is missing: put it back from a backup of the directory. ${recoverHint(path)}`);
    if (strangers.length > 0) refuse(`${path} holds something else (${strangers.slice(0, 3).join(', ')}): choose an empty directory`);
  } else if (rebuild && identity.state === 'ready')
    refuse(`${path} is the data directory of a cluster already: choose an empty one, or move this one away first`);
  else if (!rebuild && identity.state === 'rebuilding')
    refuse(
      `${path} was being made by "holdfast recover" or "holdfast restore", which did not get to its end: run that again, with the same --data`,
    );
  if (!identity || rebuild) {
    identity = rebuild
      ? { format: FORMAT, cluster: rebuild.cluster, state: 'rebuilding' }
      : { format: FORMAT, cluster: randomBytes(16).toString('hex'), state: 'new' };
    await writeDurably(path, 'identity.json', JSON.stringify(identity));
  }
  const isNew = identity.state !== 'ready';
  const databaseFile = join(path, 'metadata.db');
  const journalDirectory = join(path, 'journal');
  if (isNew) {
    // A first start, or a rebuilding, that did not get to its end: nobody was told anything yet.
    for (const name of ['metadata.db', 'metadata.db-wal', 'metadata.db-shm', 'journal'])
      await rm(join(path, name), { recursive: true, force: true });
  } else {
    if (!names.has('metadata.db')) refuse(`${path} belongs to a cluster with data, but metadata.db is missing. ${recoverHint(path)}`);
    if (!names.has('journal')) refuse(`${path} belongs to a cluster with data, but its journal is missing. ${recoverHint(path)}`);
  }
  const adminToken = await token(path, 'admin-token', rebuild?.adminToken);
  const nodeToken = await token(path, 'node-token', rebuild?.nodeToken);
  return {
    path,
    cluster: identity.cluster,
    isNew,
    adminToken,
    nodeToken,
    databaseFile,
    journalDirectory,
    ready: async () => {
      if (isNew) await writeDurably(path, 'identity.json', JSON.stringify({ ...identity, state: 'ready' }));
    },
    unlock,
  };
}

async function readIdentity(path: string): Promise<Identity> {
  const text = await readFile(join(path, 'identity.json'), 'utf8');
  let parsed: Identity;
  try {
    parsed = identitySchema.parse(JSON.parse(text));
  } catch {
    return refuse(`${join(path, 'identity.json')} is damaged: put it back from a backup of the directory. ${recoverHint(path)}`);
  }
  if (parsed.format > FORMAT) refuse(`${path} was written by a newer version of holdfast (format ${parsed.format}): use that version`);
  return parsed;
}

async function token(path: string, name: string, given?: string): Promise<string> {
  const file = join(path, name);
  const present = given === undefined ? await readFile(file, 'utf8').catch(() => '') : '';
  if (present.trim() !== '') {
    await chmod(file, 0o600);
    return present.trim();
  }
  const made = given ?? randomBytes(32).toString('hex');
  await writeDurably(path, name, `${made}\n`);
  return made;
}

/** What to tell people when the metadata cannot be trusted. */
export const damagedMessage = (path: string, reason: string): string =>
  `the metadata in ${path} cannot be used: ${reason}. Nothing was changed. ${recoverHint(path)}`;
