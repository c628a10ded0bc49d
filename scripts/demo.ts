// Runs demos: each hurts a throw-away cluster in one way, narrates, and checks that nothing was lost. Started by scripts/demo.
import { Command } from 'commander';
import { report, run } from './command.js';
import { demos } from './demos/index.js';
import { type Demo, Stage, seconds } from './demos/stage.js';
import { ClusterError } from './local-process.js';
import { requireFuse } from './mounts.js';

interface Result {
  readonly name: string;
  readonly outcome: 'passed' | 'FAILED' | 'skipped';
  readonly text: string;
}

let stage: Stage | undefined;
let isStopped = false;

async function play(demo: Demo): Promise<Result> {
  const obstacle = demo.obstacle?.();
  console.log(`\n${demo.name}: ${demo.summary}`);
  if (obstacle !== undefined) {
    console.log(`  skipped: ${obstacle}`);
    return { name: demo.name, outcome: 'skipped', text: obstacle };
  }
  const startMs = performance.now();
  const current = new Stage(demo);
  stage = current;
  try {
    await current.prepare();
    await current.start();
    await demo.run(current);
  } catch (error) {
    current.expect(false, (error as Error).message);
    if (!(error instanceof ClusterError)) console.error(error);
  } finally {
    if (!isStopped) await current.end();
    stage = undefined;
  }
  const text = `${current.passed} of ${current.passed + current.failed} checks held, ${seconds(performance.now() - startMs)}`;
  console.log(`  ${current.failed === 0 ? 'PASSED' : 'FAILED'}: ${text}`);
  return { name: demo.name, outcome: current.failed === 0 && current.passed > 0 ? 'passed' : 'FAILED', text };
}

const width = Math.max(...demos.map((demo) => demo.name.length));
const command = new Command('scripts/demo')
  .description('Hurts a throw-away cluster and shows that nothing is lost. Without a name it lists the demos.')
  .argument('[name...]', 'demos to run, or "all"')
  .exitOverride()
  .action(async (names: string[]) => {
    if (names.length === 0) {
      for (const demo of demos) console.log(`${demo.name.padEnd(width)}  ${demo.summary}`);
      console.log('\nRun one with scripts/demo NAME, or all with scripts/demo all.');
      return;
    }
    const chosen = names.includes('all') ? demos : names.map((name) => find(name));
    requireFuse();
    const results: Result[] = [];
    for (const demo of chosen) if (!isStopped) results.push(await play(demo));
    console.log();
    for (const { name, outcome, text } of results) console.log(`${outcome.padEnd(8)} ${name.padEnd(width)}  ${text}`);
    if (results.some((result) => result.outcome === 'FAILED')) process.exitCode = 1;
  });

function find(name: string): Demo {
  const found = demos.find((demo) => demo.name === name);
  if (!found) throw new ClusterError(`there is no demo ${name}; there are: ${demos.map((demo) => demo.name).join(', ')}`, 2);
  return found;
}

// A demo that is interrupted leaves nothing behind either.
for (const signal of ['SIGINT', 'SIGTERM'] as const)
  process.on(signal, () => {
    if (isStopped) process.exit(130);
    isStopped = true;
    console.log('\nStopping; the cluster of this demo is taken away.');
    void Promise.resolve(stage?.end())
      .catch((error: unknown) => report('demo', error))
      .finally(() => process.exit(signal === 'SIGINT' ? 130 : 143));
  });

await run(command);
