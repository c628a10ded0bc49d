// scripts/node, scripts/coordinator and scripts/mount: start, stop and hurt the processes of a local cluster.
import { LocalCluster } from './cluster.js';
import { realDirectory, withStateLock } from './cluster-state.js';
import { report, run, script } from './command.js';
import type { LocalProcess } from './local-process.js';

type Part = 'node' | 'coordinator' | 'mount';
type Verb = 'start' | 'stop' | 'kill' | 'pause' | 'resume';
const meaning: Record<Verb, string> = {
  start: 'start it and wait until it works',
  stop: 'end it gently (SIGTERM)',
  kill: 'end it as a crash would (SIGKILL)',
  pause: 'freeze it: it lives but does not answer (SIGSTOP)',
  resume: 'let a paused one go on (SIGCONT)',
};

const [part, ...argv] = process.argv.slice(2) as [Part, ...string[]];

async function act(cluster: LocalCluster, verb: Verb, name: string): Promise<void> {
  const process = part === 'node' ? cluster.node(name) : part === 'mount' ? cluster.mount : cluster.coordinator;
  const { state: before } = process;
  switch (verb) {
    case 'start':
      return tellStart(process, await startOne(cluster, process));
    case 'stop':
      if (part === 'mount') await cluster.stopMount('stop');
      else await process.stop();
      return console.log(before === 'stopped' ? `${process.name} was not running.` : `${process.name} stopped.`);
    case 'kill':
      await process.kill();
      return console.log(before === 'stopped' ? `${process.name} was not running.` : `${process.name} killed.`);
    case 'pause':
    case 'resume': {
      const isRunning = verb === 'pause' ? await process.pause() : await process.resume();
      return console.log(isRunning ? `${process.name} ${verb}d.` : `${process.name} is not running.`);
    }
  }
}

function startOne(cluster: LocalCluster, process: LocalProcess): Promise<'started' | 'already running'> {
  if (part === 'node')
    return cluster.coordinator.pid === undefined ? cluster.startNodeAlone(process.name) : cluster.startNode(process.name);
  return part === 'mount' ? cluster.startMount() : cluster.startCoordinator();
}

function tellStart(process: LocalProcess, how: 'started' | 'already running'): void {
  console.log(
    how === 'started' ? `${process.name} started (pid ${process.pid}).` : `${process.name} is already running (pid ${process.pid}).`,
  );
}

/** Where the process is, and for nodes what the coordinator thinks of it. */
async function list(cluster: LocalCluster): Promise<void> {
  const status = await cluster.status().catch(() => undefined);
  for (const name of cluster.nodeNames) {
    const process = cluster.node(name);
    const seen = status?.nodes.find((node) => node.name === name)?.state;
    const said = status ? `the coordinator sees it ${seen ?? 'for the first time'}` : 'the coordinator is not there';
    console.log(`${name.padEnd(12)} ${process.state.padEnd(8)} ${String(process.pid ?? '-').padEnd(8)} ${cluster.nodeUrl(name)}   ${said}`);
  }
}

async function locked(options: { state: string }, action: (cluster: LocalCluster) => Promise<void>): Promise<void> {
  const state = realDirectory(options.state);
  await withStateLock(state, () => action(LocalCluster.open(state)));
}

const command = script(part, `Starts, stops and hurts ${part === 'node' ? 'the nodes' : `the ${part}`} of a local cluster.`);
const state = () => command.opts<{ state: string }>();
const sub = (usage: string, summary: string) =>
  command.command(usage).description(summary).option('--state <dir>', 'state directory of the cluster');
/** --state is taken before and after the verb. */
const chosen = (own: { state?: string }): { state: string } => ({ state: own.state ?? state().state });

for (const verb of Object.keys(meaning) as Verb[]) {
  if (part === 'node')
    sub(`${verb} <name...>`, meaning[verb]).action((names: string[], own: { state?: string }) =>
      locked(chosen(own), async (cluster) => {
        for (const name of names) cluster.node(name); // a wrong name is refused before anything is done
        for (const name of names) await act(cluster, verb, name);
      }),
    );
  else sub(verb, meaning[verb]).action((own: { state?: string }) => locked(chosen(own), (cluster) => act(cluster, verb, part)));
}
if (part === 'node') {
  sub('list', 'the nodes, their processes, and what the coordinator thinks of them').action((own: { state?: string }) =>
    list(LocalCluster.open(chosen(own).state)),
  );
  sub('add [name]', 'make a new node and start it').action((name: string | undefined, own: { state?: string }) =>
    locked(chosen(own), async (cluster) => {
      const added = await cluster.addNode(name);
      await act(cluster, 'start', added);
    }),
  );
}

if (!['node', 'coordinator', 'mount'].includes(part)) process.exitCode = report('control', new Error(`unknown part ${part}`));
else await run(command, [process.argv[0] ?? '', part, ...argv]);
