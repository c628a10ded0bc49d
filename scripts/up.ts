// Starts a local cluster: coordinator, nodes, mount. Started by scripts/up, which prepares the machine first.

import { homedir } from 'node:os';
import { Option } from 'commander';
import type { ClusterStatus } from '../protocol/admin-calls.js';
import { LocalCluster, type Started } from './cluster.js';
import { defaultStateDirectory, realDirectory, withStateLock } from './cluster-state.js';
import { defaultMount, run, script, wholeNumber } from './command.js';
import { ClusterError } from './local-process.js';

const DEFAULT_NODES = 3;
const DEFAULT_COPIES = 2;
const DEFAULT_PORT = 4700;

interface Options {
  state: string;
  nodes?: number;
  copies?: number;
  /** false by --no-mount, undefined when not said. */
  mount?: string | false;
  port?: number;
  downAfter?: number;
  /** false by --no-encrypt, undefined when not said; the same for the trash. */
  encrypt?: boolean;
  trash?: boolean;
}

const command = script('up', 'Starts a cluster on this machine and returns when it is healthy. Running it again is harmless.')
  .option('--nodes <n>', `storage nodes (default ${DEFAULT_NODES})`, wholeNumber(1, 64))
  .option('--copies <n>', `nodes that hold each chunk (default ${DEFAULT_COPIES})`, wholeNumber(1, 8))
  .option('--mount <dir>', `where the folder appears (default ${defaultMount()})`)
  .option('--no-mount', 'without a folder: the command line and the library only')
  .option('--no-encrypt', 'store content as it is; otherwise it is encrypted, with a key that is kept in the state directory')
  .addOption(new Option('--encrypt', 'the default').hideHelp())
  .option('--no-trash', 'deleted files are gone at once; otherwise they can be restored for 24 hours')
  .addOption(new Option('--trash', 'the default').hideHelp())
  .option(
    '--port <port>',
    `port of the coordinator (default ${DEFAULT_PORT}; 0 = any free ones, of HOLDFAST_PORTS=FIRST-LAST if set)`,
    wholeNumber(0, 65_000),
  )
  .option(
    '--down-after <ms>',
    'silence after which a node counts as down and its chunks are copied again (default 30000)',
    wholeNumber(100, 86_400_000),
  )
  .action(async (options: Options) => {
    const state = realDirectory(options.state);
    await withStateLock(state, async () => {
      const cluster = LocalCluster.exists(state) ? await reopen(state, options) : await create(state, options);
      let started: Started;
      try {
        started = await cluster.start();
      } catch (error) {
        // A cluster that never ran leaves nothing behind.
        if (!cluster.hasData) await cluster.purge();
        throw error;
      }
      tell(cluster, started, await cluster.status());
    });
  });
// commander gives --no-... a default of true; "not said" must stay apart from "yes".
for (const name of ['mount', 'encrypt', 'trash']) command.setOptionValueWithSource(name, undefined, 'default');

function create(state: string, options: Options): Promise<LocalCluster> {
  const nodes = options.nodes ?? DEFAULT_NODES;
  return LocalCluster.create(state, {
    nodes,
    copies: options.copies ?? Math.min(DEFAULT_COPIES, nodes),
    port: options.port ?? DEFAULT_PORT,
    mount: options.mount === false ? null : (options.mount ?? defaultMount()),
    isEncrypted: options.encrypt ?? true,
    hasTrash: options.trash ?? true,
    coordinatorArgs: options.downAfter === undefined ? [] : ['--down-after', String(options.downAfter)],
  });
}

/** Opens the cluster that is there and takes over what may change later. */
async function reopen(state: string, options: Options): Promise<LocalCluster> {
  const cluster = LocalCluster.open(state);
  if (options.copies !== undefined && options.copies !== cluster.copies)
    throw new ClusterError(
      `this cluster keeps ${cluster.copies} copies: change that with scripts/holdfast copies ${options.copies} --state ${state}`,
      2,
    );
  if (options.encrypt && !cluster.isEncrypted)
    throw new ClusterError(
      `this cluster is not encrypted, and what is stored stays as it is: make an encrypted volume in it with scripts/holdfast volume create NAME --encrypt --key-file FILE --state ${state}`,
      2,
    );
  if (options.encrypt === false && cluster.isEncrypted)
    throw new ClusterError(
      `this cluster is encrypted and stays so: for a volume without, scripts/holdfast volume create NAME --state ${state}`,
      2,
    );
  if (options.trash !== undefined && options.trash !== cluster.wasMadeWithTrash)
    throw new ClusterError(
      `how long deleted files are kept is a setting of each volume: scripts/holdfast volume set main --trash-keep ${options.trash ? '24h' : '0'} --state ${state}`,
      2,
    );
  const missing = (options.nodes ?? 0) - cluster.nodeNames.length;
  for (let index = 0; index < missing; index++) await cluster.addNode();
  if (options.mount !== undefined) cluster.setMount(options.mount === false ? null : options.mount);
  return cluster;
}

function tell(cluster: LocalCluster, { started, alreadyRunning }: Started, status: ClusterStatus): void {
  const { mountPath, stateDirectory } = cluster;
  const short = (path: string): string => (path.startsWith(`${homedir()}/`) ? `~${path.slice(homedir().length)}` : path);
  const isDefault = stateDirectory === realDirectory(defaultStateDirectory());
  const state = isDefault ? '' : ` --state ${stateDirectory}`;
  const count = (number: number, word: string): string => `${number} ${word}${number === 1 ? '' : number === 1 ? 'y' : 's'}`;
  if (started.length === 0) console.log('Already running.');
  else if (alreadyRunning.length > 0) console.log(`Started what was missing: ${started.join(', ')}.`);
  console.log(
    `Holdfast is up: ${count(status.nodes.length, 'node')}, ${cluster.copies === 1 ? '1 copy' : `${cluster.copies} copies`} of every chunk. ${status.sentence}`,
  );
  console.log(`  folder       ${mountPath === null ? 'none (--no-mount)' : short(mountPath)}`);
  console.log(`  coordinator  ${cluster.url}`);
  console.log(`  state        ${short(stateDirectory)}`);
  if (cluster.isEncrypted)
    console.log(`  key          ${short(cluster.volumeKeyFile)}   keep a copy elsewhere: without it the files are lost`);
  const folder = mountPath === null ? undefined : short(mountPath);
  const victim = cluster.nodeNames[1] ?? cluster.nodeNames[0] ?? 'n1';
  const lines: [string, string][] = folder
    ? [
        [`cp -r /usr/share/doc ${folder}/`, 'store something'],
        [`scripts/holdfast stat ${folder}/doc${state}`, 'where its chunks are'],
      ]
    : [
        [`scripts/holdfast upload README.md /${state}`, 'store something'],
        [`scripts/holdfast stat /README.md${state}`, 'where its chunks are'],
      ];
  lines.push(
    [`scripts/node kill ${victim}${state}`, 'lose a machine; the files stay readable'],
    [`scripts/holdfast status${state}`, 'watch it heal'],
    [`scripts/tui${state}`, 'the same, live, on one screen'],
    [`scripts/down${state}`, 'stop everything (--purge also deletes the data)'],
  );
  const width = Math.max(...lines.map(([what]) => what.length));
  console.log('\nTry:');
  for (const [what, why] of lines) console.log(`  ${what.padEnd(width)}   # ${why}`);
}

await run(command);
