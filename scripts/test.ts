// Runs the checks and tests that were asked for and adds them up. Started by scripts/test, which prepares the machine first.
//
// Each check (types, biome, eslint, build) counts as one test. The tests are counted from Vitest's JSON report; a file that
// could not be loaded, an error outside any test, and a Vitest that crashed, was killed or never ended count as one failure each.
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterSecondRun, type FileOutcome, hasFailed, outcomesOf, type VitestReport } from './test-report.js';

const usage = `usage: scripts/test                       everything: types, lint, unit and end-to-end tests
       scripts/test types | lint          only that check
       scripts/test unit [file...]        unit tests (files: part of their path)
       scripts/test e2e [file...]         end-to-end tests, after a build
       scripts/test soak [file...]        all tests at their long size (HOLDFAST_SOAK=1)

A file that failed is run once more, by itself; what passed only then is named at the end.`;

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const minuteMs = 60_000;

interface Count {
  passed: number;
  failed: number;
}
const total: Count = { passed: 0, failed: 0 };
const skippedTitles: string[] = [];
const retriedTitles: string[] = [];
const failedTitles: string[] = [];
const fileTimes: { name: string; seconds: number }[] = [];
const SLOWEST_SHOWN = 12;
/** More than that do not fail by chance. */
const MOST_RUN_AGAIN = 3;
type Project = 'unit' | 'e2e';

function add(count: Count): void {
  total.passed += count.passed;
  total.failed += count.failed;
}

const running = new Set<ChildProcess>();

/** Ends a child and everything it started: each runs in a process group of its own. */
function killGroup(child: ChildProcess, signal: NodeJS.Signals): void {
  if (child.pid === undefined) return;
  try {
    process.kill(-child.pid, signal);
  } catch {
    // Already gone.
  }
}

/** Asks a child to end, so that tests may unmount and stop their processes, and makes it end after 15 s. */
function stop(child: ChildProcess, signal: NodeJS.Signals): void {
  killGroup(child, signal);
  setTimeout(() => killGroup(child, 'SIGKILL'), 15_000).unref();
}

let stoppedBy: NodeJS.Signals | undefined;

interface Ended {
  code: number | null;
  why: string;
  output: string;
}

/** Runs a Node program to its end; `show` passes its output on as it comes, otherwise it is kept for the caller. */
function runNode(args: string[], options: { timeoutMs: number; show: boolean; env?: NodeJS.ProcessEnv }): Promise<Ended> {
  if (stoppedBy) return Promise.resolve({ code: null, why: `not run: stopped by ${stoppedBy}`, output: '' });
  return new Promise((resolve) => {
    const child = spawn(process.execPath, args, {
      cwd: root,
      detached: true,
      env: { ...process.env, ...options.env },
      stdio: ['ignore', options.show ? 'inherit' : 'pipe', options.show ? 'inherit' : 'pipe'],
    });
    running.add(child);
    let output = '';
    let timedOut = false;
    child.stdout?.on('data', (data: Buffer) => {
      output += data.toString();
    });
    child.stderr?.on('data', (data: Buffer) => {
      output += data.toString();
    });
    const timer = setTimeout(() => {
      timedOut = true;
      stop(child, 'SIGTERM');
    }, options.timeoutMs);
    const end = (code: number | null, why: string): void => {
      clearTimeout(timer);
      running.delete(child);
      resolve({ code, why: timedOut ? `did not end within ${options.timeoutMs / minuteMs} minutes` : why, output });
    };
    child.once('error', (error) => end(null, error.message));
    child.once('close', (code, signal) => {
      // Workers that outlived their parent would disturb what runs next.
      killGroup(child, 'SIGKILL');
      end(code, signal ? `was ended by ${signal}` : `exit code ${code}`);
    });
  });
}

function bin(name: string, script: string): string {
  return join(root, 'node_modules', name, script);
}

/** One check that either holds or does not; its output is shown when it does not. */
async function check(name: string, args: string[]): Promise<void> {
  const startedMs = performance.now();
  const ended = await runNode(args, { timeoutMs: 10 * minuteMs, show: false });
  const seconds = ((performance.now() - startedMs) / 1000).toFixed(1);
  if (ended.code === 0) {
    console.log(`ok    ${name} (${seconds} s)`);
    add({ passed: 1, failed: 0 });
  } else {
    console.log(`FAIL  ${name} (${seconds} s, ${ended.why})\n${ended.output}`);
    failedTitles.push(`${name} (${ended.why})`);
    add({ passed: 0, failed: 1 });
  }
}

const types = (): Promise<void> => check('types', [bin('typescript', 'bin/tsc'), '--noEmit', '-p', '.']);
const format = (): Promise<void> => check('biome', [bin('@biomejs/biome', 'bin/biome'), 'check', '.']);
const promises = (): Promise<void> => check('eslint', [bin('eslint', 'bin/eslint.js'), '--max-warnings', '0', '.']);
const build = (): Promise<void> => check('build', [bin('typescript', 'bin/tsc'), '-p', 'tsconfig.build.json']);

/** The beginning of each failed try's message, so that the end of a long output says enough to act on. */
function reasonOf(messages: readonly string[]): string {
  return messages.map((message) => `    ${message.split('\n').slice(0, 12).join('\n    ')}`).join('\n');
}

/** Runs files of one Vitest project; none = all of them. */
async function runFiles(project: Project, files: readonly string[], soak: boolean): Promise<{ ended: Ended; outcomes: FileOutcome[] }> {
  const directory = mkdtempSync(join(tmpdir(), 'holdfast-test-'));
  const reportFile = join(directory, 'report.json');
  const args = [bin('vitest', 'vitest.mjs'), 'run', '--project', project, ...files];
  args.push('--reporter=default', '--reporter=json', `--outputFile.json=${reportFile}`);
  try {
    const ended = await runNode(args, {
      timeoutMs: (soak ? 24 * 60 : project === 'unit' ? 20 : 60) * minuteMs,
      show: true,
      env: soak ? { HOLDFAST_SOAK: '1' } : {},
    });
    const outcomes = existsSync(reportFile) ? outcomesOf(JSON.parse(readFileSync(reportFile, 'utf8')) as VitestReport, root) : [];
    return { ended, outcomes };
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

/**
 * Runs one Vitest project and counts its tests. A file that failed is run a second time, by itself and from nothing: its tests share a cluster, so
 * that what went wrong once by chance would go wrong at each try within one run. Not in a soak: that is there to find what is rare.
 */
async function vitest(project: Project, files: string[], soak: boolean): Promise<void> {
  const { ended, outcomes: first } = await runFiles(project, files, soak);
  let outcomes = first;
  const count: Count = { passed: 0, failed: 0 };
  // Whatever makes Vitest fail without a failed test (crash, unhandled error, no test found) is a failure too.
  const addOther = (ended: Ended, outcomes: readonly FileOutcome[]): void => {
    if (ended.code === 0 || outcomes.some(hasFailed)) return;
    count.failed += 1;
    failedTitles.push(`vitest ${project}: ${ended.why}`);
  };
  addOther(ended, first);
  const failedFiles = first.filter(hasFailed);
  if (!soak && failedFiles.length <= MOST_RUN_AGAIN) {
    for (const { name } of failedFiles) {
      if (stoppedBy) break;
      console.log(`\nonce more, by itself: ${name}`);
      const second = await runFiles(project, [name], soak);
      addOther(second.ended, second.outcomes);
      outcomes = afterSecondRun(outcomes, second.outcomes);
    }
  }
  for (const { name, seconds, tests } of outcomes) {
    fileTimes.push({ name, seconds });
    for (const { title, status, failures } of tests) {
      const told = `${name}: ${title}\n${reasonOf(failures)}`;
      if (status === 'skipped') skippedTitles.push(`${name}: ${title}`);
      else count[status] += 1;
      if (status === 'failed') failedTitles.push(told);
      else if (status === 'passed' && failures.length > 0) retriedTitles.push(told);
    }
  }
  add(count);
}

function finish(): never {
  if (fileTimes.length > 1) {
    const slowest = fileTimes.sort((a, b) => b.seconds - a.seconds).slice(0, SLOWEST_SHOWN);
    console.log(`\nslowest: ${slowest.map(({ name, seconds }) => `${name} ${seconds.toFixed(0)} s`).join(', ')}`);
  }
  if (skippedTitles.length > 0) console.log(`\nskipped (${skippedTitles.length}):\n  ${skippedTitles.join('\n  ')}`);
  if (retriedTitles.length > 0) console.log(`\npassed only when tried again (${retriedTitles.length}):\n  ${retriedTitles.join('\n  ')}`);
  if (failedTitles.length > 0) console.log(`\nfailed:\n  ${failedTitles.join('\n  ')}`);
  if (total.passed + total.failed === 0) total.failed = 1;
  console.log(`${total.passed} passed, ${total.failed} failed`);
  process.exit(total.failed === 0 ? 0 : 1);
}

async function main(): Promise<void> {
  const [what = 'all', ...files] = process.argv.slice(2);
  const soak = what === 'soak' || process.env.HOLDFAST_SOAK === '1';
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => {
      // What has not run yet counts as failed, so the last line tells the truth about a run cut short.
      stoppedBy = signal;
      for (const child of running) stop(child, signal);
    });
  }
  switch (what) {
    case 'all':
      // Two at a time: the machines this runs on have two cores.
      await Promise.all([types(), format().then(promises)]);
      await vitest('unit', files, soak);
      await build();
      await vitest('e2e', files, soak);
      break;
    case 'types':
      await types();
      break;
    case 'lint':
      await Promise.all([format(), promises()]);
      break;
    case 'unit':
      await vitest('unit', files, soak);
      break;
    case 'e2e':
      await build();
      await vitest('e2e', files, soak);
      break;
    case 'soak':
      await build();
      await vitest('unit', files, soak);
      await vitest('e2e', files, soak);
      break;
    default:
      console.log(usage);
      process.exit(what === '--help' || what === '-h' ? 0 : 2);
  }
  finish();
}

await main();
