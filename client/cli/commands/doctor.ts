/** doctor: looks at everything Holdfast needs, one line each, and says what to do about what is missing. */
import { accessSync, constants, existsSync, readFileSync, statfsSync } from 'node:fs';
import { loadavg, totalmem } from 'node:os';
import type { Context } from '../context.js';
import { CliError, EXIT, tellError } from '../exit-codes.js';
import { defaultState, findTarget, type Target } from '../target.js';
import { countWords, durationWords, sizeWords } from '../words.js';

interface Finding {
  readonly what: string;
  readonly level: 'ok' | 'warn' | 'bad';
  readonly text: string;
}
type Look = () => Finding | Finding[] | Promise<Finding | Finding[]>;

const ok = (what: string, text: string): Finding => ({ what, level: 'ok', text });
const warn = (what: string, text: string): Finding => ({ what, level: 'warn', text });
const bad = (what: string, text: string): Finding => ({ what, level: 'bad', text });

function lookAtNode(): Finding {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  return major > 20 || (major === 20 && minor >= 19)
    ? ok('node', process.version)
    : bad('node', `${process.version}: Holdfast needs 20.19 or newer`);
}

function lookAtFuse(): Finding[] {
  const findings: Finding[] = [];
  try {
    accessSync('/dev/fuse', constants.R_OK | constants.W_OK);
    findings.push(ok('/dev/fuse', 'there, readable and writable'));
  } catch {
    findings.push(
      existsSync('/dev/fuse')
        ? warn('/dev/fuse', 'not yours to open: mounting needs rights on it (is your user allowed to use FUSE?)')
        : warn('/dev/fuse', 'not there: nothing can be mounted on this machine (modprobe fuse; in a container pass --device /dev/fuse)'),
    );
  }
  const program = `${process.env.PATH ?? ''}:/bin:/usr/bin`
    .split(':')
    .map((directory) => `${directory}/fusermount3`)
    .find((file) => existsSync(file));
  findings.push(program ? ok('fusermount3', program) : warn('fusermount3', 'missing: install the package fuse3 to mount'));
  return findings;
}

async function lookAtModules(): Promise<Finding[]> {
  const findings: Finding[] = [];
  for (const [name, need] of [
    ['sqlite3', 'the coordinator'],
    ['fuse-native', 'the mount'],
  ] as const) {
    try {
      await import(name);
      findings.push(ok(name, 'loads'));
    } catch (error) {
      findings.push(bad(name, `does not load, ${need} cannot run: ${(error as Error).message.split('\n')[0]} (run scripts/setup)`));
    }
  }
  return findings;
}

function lookAtMachine(): Finding[] {
  const nofile = /Max open files\s+(\d+)/.exec(readFileSync('/proc/self/limits', 'utf8'))?.[1] ?? '0';
  const files = Number(nofile);
  return [
    totalmem() >= 1024 ** 3
      ? ok('memory', sizeWords(totalmem()))
      : warn('memory', `${sizeWords(totalmem())}: a coordinator needs about 1 KiB a file, plus 200 MiB`),
    files >= 4096
      ? ok('open files', `limit ${files}`)
      : warn('open files', `the limit is ${files}: raise it to 65536 (ulimit -n) for busy nodes`),
    ok(
      'load',
      loadavg()
        .map((load) => load.toFixed(1))
        .join(' '),
    ),
  ];
}

function lookAtDisk(directory: string): Finding {
  let at = directory;
  while (!existsSync(at) && at !== '/') at = at.slice(0, Math.max(at.lastIndexOf('/'), 1));
  const { bavail, blocks, bsize, ffree, files } = statfsSync(at);
  const text = `${sizeWords(bavail * bsize)} of ${sizeWords(blocks * bsize)} free at ${at}`;
  if (bavail / Math.max(blocks, 1) < 0.05) return warn('disk', `${text}: nodes stop taking data when it is full`);
  if (files > 0 && ffree / files < 0.02) return warn('disk', `${text}, but only ${ffree} inodes are left`);
  return ok('disk', text);
}

async function lookAtCluster(context: Context): Promise<Finding[]> {
  let target: Target;
  try {
    target = findTarget(context.options);
  } catch (error) {
    return [
      error instanceof CliError && error.code === 'NO_CLUSTER' ? warn('cluster', error.message) : bad('cluster', (error as Error).message),
    ];
  }
  const findings = [ok('cluster', `${target.url}, token from ${target.tokenFile}`)];
  const { statSync } = await import('node:fs');
  const mode = statSync(target.tokenFile).mode & 0o777;
  if ((mode & 0o077) !== 0)
    findings.push(
      bad('token', `others may read ${target.tokenFile} (mode ${mode.toString(8)}): chmod 600 it, and make a new token if it was seen`),
    );
  try {
    const admin = await context.admin();
    const startMs = performance.now();
    const wallMs = Date.now();
    const status = await admin.call('status', {});
    const tookMs = performance.now() - startMs;
    findings.push(
      ok('coordinator', `version ${status.version}, answers in ${durationWords(tookMs)}, up for ${durationWords(status.upMs)}`),
    );
    findings.push(
      status.health === 'HEALTHY'
        ? ok('health', status.sentence)
        : status.health === 'DEGRADED'
          ? warn('health', status.sentence)
          : bad('health', status.sentence),
    );
    for (const cause of status.causes) findings.push(warn('cause', cause.text));
    const { events } = await admin.call('events', { after: 0, limit: 1000 });
    const newest = events[events.length - 1];
    if (newest && newest.atMs > wallMs + 5000)
      findings.push(warn('clock', `the coordinator's clock is ahead of this one by ${durationWords(newest.atMs - wallMs)}`));
    for (const node of status.nodes) findings.push(await lookAtNodeDoor(node.name, node.url, node.state));
    findings.push(ok('data', `${countWords(status.files, 'file')}, ${countWords(status.chunks.total, 'chunk')}`));
  } catch (error) {
    const told = tellError(error, target.url);
    findings.push(bad('coordinator', `${told.message}${told.advice ? `. ${told.advice}` : ''}`));
  }
  return findings;
}

/** Chunks travel between this machine and the nodes directly, so each must be reachable from here. */
async function lookAtNodeDoor(name: string, url: string, state: string): Promise<Finding> {
  const { request } = await import('undici');
  try {
    const answer = await request(`${url}/healthz`, { headersTimeout: 3000, bodyTimeout: 3000 });
    await answer.body.dump();
    return answer.statusCode === 200
      ? ok(`node ${name}`, `${state}, reachable at ${url}`)
      : warn(`node ${name}`, `${state}, answers ${answer.statusCode} at ${url}`);
  } catch (error) {
    return bad(`node ${name}`, `${state}, not reachable from here at ${url}: ${(error as Error).message}`);
  }
}

export async function doctor(context: Context): Promise<number> {
  const looks: Look[] = [
    lookAtNode,
    lookAtFuse,
    lookAtModules,
    lookAtMachine,
    () => lookAtDisk(context.options.state ?? process.env.HOLDFAST_STATE ?? defaultState(process.env)),
    () => lookAtCluster(context),
  ];
  const findings: Finding[] = [];
  for (const look of looks) findings.push(...[await look()].flat());
  if (context.isJson) context.json({ schema: 1, findings });
  else
    for (const { what, level, text } of findings)
      context.print(
        `${context.paint(level === 'ok' ? 'good' : level, { ok: 'ok  ', warn: 'warn', bad: 'BAD ' }[level])}  ${what.padEnd(12)} ${text}`,
      );
  return findings.some((finding) => finding.level === 'bad') ? EXIT.error : EXIT.ok;
}
