/**
 * A cluster of real processes under attack: all fuzzers at once, beside a user whose files must stay what they are and whose calls must go on being
 * answered. What is found is told by the result; nothing here expects anything.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { setPriority } from 'node:os';
import { join } from 'node:path';
import { createInterface, type Interface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { type Cluster, connect } from '../../client/index.js';
import type { CheckReport } from '../../protocol/admin-calls.js';
import type { Welcome } from '../../protocol/client-calls.js';
import { PROTOCOL_VERSION } from '../../protocol/limits.js';
import { socketDialer } from '../../protocol/socket.js';
import type { LocalProcess } from '../../scripts/cluster.js';
import { type ProcessRig, random, readFile, sha256, writeFile } from '../process-rig.js';
import { type FuzzRun, fuzzAdminCalls, fuzzClientCalls, fuzzHandshakes, fuzzNodeCalls } from './calls.js';
import { Findings, FOREIGN_MARKER } from './findings.js';
import { fuzzBytes, fuzzFrames } from './frames.js';
import type { GoodClientReport } from './good-client.js';
import { fuzzCoordinatorRoutes, fuzzNodeRoutes } from './routes.js';
import { Knowledge, type Target } from './target.js';

/** By whom they attack: the coordinator's sockets, or HTTP and bare connections. */
export const SIDES = {
  sockets: [fuzzClientCalls, fuzzAdminCalls, fuzzNodeCalls, fuzzHandshakes, fuzzFrames],
  http: [fuzzNodeRoutes, fuzzCoordinatorRoutes, fuzzBytes],
} as const;
export type Side = keyof typeof SIDES;

const OWNER = 'anna';
const MEMORY_SAMPLES = 10;
const FILES = 6;
/** Of what a loaded machine may need to send one of each kind. */
const LONGEST_ATTACK_MS = 60_000;
const UNEXPECTED = /failed unexpectedly|could not be encoded|could not be worked out|uncaught|unhandled/i;
/** Of the attacking user: his own tree must not become what fills the memory. */
const QUOTA = { quotaBytes: 64 * 1024 * 1024, quotaFiles: 2000 };

export interface Campaign {
  readonly findings: Findings;
  /** Names of processes that are not the same as before. */
  readonly restarted: readonly string[];
  /** Lines of logs that tell of something nobody expected. */
  readonly unexpected: readonly string[];
  /** Files of the other user that are not what they were. */
  readonly changed: readonly string[];
  readonly check: CheckReport;
  /** By process: resident memory before, and after things had become quiet, in MiB. */
  readonly memory: Readonly<Record<string, readonly [before: number, after: number]>>;
  readonly good: { readonly before: GoodClientReport; readonly during: GoodClientReport };
}

export interface CampaignOptions {
  readonly seed: number;
  readonly sides: readonly Side[];
  readonly attackMs: number;
  /** The attack goes on, up to `LONGEST_ATTACK_MS` more, until as many kinds of calls were answered with a value and the good client did anything. */
  readonly kindsTaken: number;
  /** How long the good client works alone first; memory counts from the end of a warm-up as long as this. */
  readonly quietMs: number;
  /** Of the process that attacks, 0 to 19; for measuring only, since it sends less then. */
  readonly attackersNiceness: number;
}

/** @param rig of a cluster that nobody else uses */
export async function attack(rig: ProcessRig, options: CampaignOptions): Promise<Campaign> {
  const { cluster } = rig;
  const pidsBefore = pids(rig);
  const findings = new Findings(options.seed);
  const { token: anna } = await cluster.admin('createUser', { user: OWNER });
  await cluster.admin('createUser', { user: 'berta', ...QUOTA });
  const tokenFile = join(rig.directory, 'anna.token');
  writeFileSync(tokenFile, anna.token, { mode: 0o600 });
  const home = await connect({ coordinatorUrl: cluster.url, token: anna.token, description: 'owner', outageTimeoutMs: 60_000 });
  const good = await GoodClient.start(cluster.url, tokenFile);
  try {
    const contents = await makeFiles(home);
    const target = await targetOf(rig, anna.token, home, [...contents.keys()]);
    await good.report();
    await delay(options.quietMs);
    const before = await good.report();

    const run = (forMs: number, kindsTaken: number): FuzzRun => {
      const endsMs = performance.now() + forMs;
      const isOver = (): boolean => {
        const lateMs = performance.now() - endsMs;
        return findings.list.length >= 20 || (lateMs > 0 && (findings.kindsTaken >= kindsTaken || lateMs > LONGEST_ATTACK_MS));
      };
      return { findings, knowledge: new Knowledge(target), isOver };
    };
    const fuzzers = options.sides.flatMap((side) => [...SIDES[side]]);
    const strike = async (forMs: number, kindsTaken = 0): Promise<void> => {
      const one = run(forMs, kindsTaken);
      // Attackers have machines of their own. Here they share one with those they attack, and the processor they take to make up their messages
      // must not count as harm they did.
      niceness(options.attackersNiceness);
      try {
        await Promise.all(fuzzers.map((fuzz) => fuzz(one)));
      } finally {
        niceness(0);
      }
    };
    await strike(options.quietMs);
    const memoryBefore = await restingMib(options.quietMs, () => memoryOf(rig));
    await good.report();
    await strike(options.attackMs, options.kindsTaken);
    let during = await good.report();
    for (let moreMs = 0; during.operations + during.failures.length === 0 && moreMs < LONGEST_ATTACK_MS; moreMs += 1000) {
      await strike(1000);
      during = await good.report();
    }

    await removeStrangers(rig);
    const memoryAfter = await restingMib(options.quietMs, () => memoryOf(rig));
    const changed: string[] = [];
    for (const [name, sum] of contents) if (sha256(await readFile(home, name)) !== sum) changed.push(name);
    const names = (await home.tree.readDirectory(home.tree.root, '', 1000)).entries
      .map((one) => one.name)
      .filter((name) => !name.startsWith('good-'));
    if (names.sort().join() !== [...contents.keys()].sort().join()) changed.push(`the directory: ${names.join()}`);
    const check = await rig.waitForOrder();
    return {
      findings,
      restarted: Object.entries(pids(rig)).flatMap(([name, pid]) => (pid === pidsBefore[name] ? [] : [name])),
      unexpected: rig.processes().flatMap((process) => logLines(process).filter((line) => UNEXPECTED.test(line))),
      changed,
      check,
      memory: Object.fromEntries(Object.entries(memoryAfter).map(([name, mib]) => [name, [memoryBefore[name] ?? 0, mib] as const])),
      good: { before, during },
    };
  } finally {
    good.stop();
    await home.close();
  }
}

/** The attacker's nodes, under whatever names it made up for them: what they were believed to hold is copied from elsewhere then. */
async function removeStrangers({ cluster }: ProcessRig): Promise<void> {
  const { nodes } = await cluster.status();
  for (const { name } of nodes)
    if (!cluster.nodeNames.includes(name)) await cluster.admin('removeNode', { node: name, evenIfDataIsLost: name }).catch(() => {});
}

async function makeFiles(home: Cluster): Promise<Map<string, string>> {
  const contents = new Map<string, string>();
  for (let i = 0; i < FILES; i++) {
    const content = Buffer.concat([Buffer.from(FOREIGN_MARKER), random(1 + i * i * 40_000), Buffer.from(FOREIGN_MARKER)]);
    // The attacker knows half of the names, and may say them.
    const name = i % 2 === 0 ? `${FOREIGN_MARKER}-${i}` : `plain-${i}`;
    await writeFile(home, name, content, true);
    contents.set(name, sha256(content));
  }
  return contents;
}

async function targetOf(rig: ProcessRig, token: string, home: Cluster, names: string[]): Promise<Target> {
  const { cluster } = rig;
  const chunks: string[] = [];
  const inodes = [home.tree.root];
  for (const name of names) {
    const stat = await cluster.admin('stat', { path: `/${name}`, volume: OWNER });
    inodes.push(stat.inode);
    chunks.push(...stat.chunks.map((chunk) => chunk.id));
  }
  const handshake = { protocol: PROTOCOL_VERSION, token, clientSecret: random(32).toString('hex'), description: 'permit' };
  const connection = await socketDialer(cluster.url).dial('client', handshake, 20_000);
  const { permit } = (await connection.call({ method: 'hello', args: {} }, 20_000)) as Welcome;
  connection.close('has its permit');
  return {
    coordinatorUrl: cluster.url,
    nodeUrls: cluster.nodeNames.map((name) => cluster.nodeUrl(name)),
    userToken: async () => (await cluster.admin('createToken', { user: 'berta' }, 30_000)).token,
    joinToken: async () => (await cluster.admin('createJoinToken', {}, 30_000)).token,
    foreign: { user: OWNER, volume: OWNER, inodes, chunks, names: names.filter((name) => !name.includes(FOREIGN_MARKER)), permit },
  };
}

const pids = (rig: ProcessRig): Record<string, number | undefined> => Object.fromEntries(rig.processes().map((one) => [one.name, one.pid]));
/** Only root gets it back; nothing but the speed of what follows depends on that. */
function niceness(value: number): void {
  try {
    setPriority(process.pid, value);
  } catch (error) {
    if (!['EACCES', 'EPERM'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error;
  }
}

/** The least of what is seen within this time: what a burst took and was not collected yet is no growth. */
export async function restingMib<Name extends string>(withinMs: number, look: () => Record<Name, number>): Promise<Record<Name, number>> {
  const least = look();
  for (let at = 0; at < MEMORY_SAMPLES; at++) {
    await delay(withinMs / MEMORY_SAMPLES);
    const seen = look();
    for (const name of Object.keys(seen) as Name[]) least[name] = Math.min(least[name] ?? seen[name], seen[name]);
  }
  return least;
}
export const memoryOf = (rig: ProcessRig): Record<string, number> =>
  Object.fromEntries(rig.processes().map((one) => [one.name, one.pid === undefined ? 0 : residentMib(one.pid)]));
const logLines = (process: LocalProcess): string[] => readFileSync(process.logFile, 'utf8').split('\n');

export function residentMib(pid: number): number {
  return Math.round(Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024);
}

/** good-client.ts in a process of its own: what it measures must not wait for the fuzzers. */
class GoodClient {
  private constructor(
    private readonly child: ChildProcess,
    private readonly lines: AsyncIterator<string>,
    private readonly reader: Interface,
  ) {}

  static async start(url: string, tokenFile: string): Promise<GoodClient> {
    const file = fileURLToPath(new URL('./good-client.ts', import.meta.url));
    const child = spawn(process.execPath, ['--import', 'tsx', file, url, tokenFile], { stdio: ['pipe', 'pipe', 'inherit'] });
    const reader = createInterface({ input: child.stdout });
    const client = new GoodClient(child, reader[Symbol.asyncIterator](), reader);
    await client.next();
    return client;
  }
  /** What happened since the last report. */
  async report(): Promise<GoodClientReport> {
    this.child.stdin?.write('report\n');
    return JSON.parse(await this.next()) as GoodClientReport;
  }
  stop(): void {
    this.reader.close();
    this.child.stdin?.end();
    this.child.kill();
  }
  private async next(): Promise<string> {
    const { value, done } = await this.lines.next();
    if (done) throw new Error('the good client ended');
    return value;
  }
}
