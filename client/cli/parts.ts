/**
 * The other programs inside `holdfast`: coordinator, node, mount, tui. Each parses its own arguments; here the cluster they mean is filled in, so
 * that --state works for all of them. Loaded only when asked for: a mount never loads Ink, a status never loads SQLite.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { DEFAULT_VOLUME_NAME } from '../../protocol/entities.js';
import { LOCAL_KEY_FILE } from './secrets.js';
import { findTarget, tlsFiles } from './target.js';

type Front = (argv: readonly string[]) => Promise<number>;
const fronts = {
  coordinator: async () => (await import('../../coordinator/main.js')).runCoordinator,
  node: async () => (await import('../../node/main.js')).runNode,
  mount: async () => (await import('../../mount/main.js')).runMount,
  tui: async () => (await import('../../tui/main.js')).runTui,
  recover: async () => (await import('../../coordinator/recover.js')).runRecover,
  restore: async () => (await import('../../coordinator/restore.js')).runRestore,
} satisfies Record<string, () => Promise<Front>>;
export type Part = keyof typeof fronts;

/** Runs one to its end, and ends this program with its exit code: nothing it left open may keep the program alive. */
export async function runPart(part: Part, argv: readonly string[]): Promise<never> {
  const run = await fronts[part]();
  process.exit(await run(argv));
}

/** `holdfast node --data ...` is the program; `holdfast node ls` asks about nodes. */
export function isPart(argv: readonly string[]): Part | undefined {
  const [name = '', first = ''] = argv;
  if (!Object.hasOwn(fronts, name)) return undefined;
  if (name === 'node' && !first.startsWith('-')) return undefined;
  return name as Part;
}

const argumentOf = (argv: readonly string[], option: string): string | undefined => {
  const at = argv.findIndex((argument) => argument === option || argument.startsWith(`${option}=`));
  if (at < 0) return undefined;
  const argument = argv[at] as string;
  return argument.includes('=') ? argument.slice(argument.indexOf('=') + 1) : argv[at + 1];
};

/** Without an option and its value. */
function without(argv: readonly string[], option: string): string[] {
  const at = argv.findIndex((argument) => argument === option || argument.startsWith(`${option}=`));
  if (at < 0) return [...argv];
  return [...argv.slice(0, at), ...argv.slice(at + ((argv[at] as string).includes('=') ? 1 : 2))];
}

/**
 * Arguments for mount: a bare DIR becomes --mount DIR, and the cluster found by --state or the environment becomes --coordinator and --token-file.
 * @throws {CliError} when no cluster is found
 */
export function mountArguments(argv: readonly string[]): string[] {
  if (argv.includes('--help') || argv.includes('-h')) return [...argv];
  let rest = [...argv];
  if (argumentOf(rest, '--mount') === undefined) {
    const [first] = rest;
    if (first !== undefined && !first.startsWith('-')) rest = ['--mount', first, ...rest.slice(1)];
  }
  const state = argumentOf(rest, '--state');
  const coordinator = argumentOf(rest, '--coordinator');
  const tokenFile = argumentOf(rest, '--token-file');
  if (coordinator !== undefined && tokenFile !== undefined) return [...rest, ...tlsArguments(rest), ...keyArguments(rest, undefined)];
  const target = findTarget({ state, coordinator, tokenFile });
  rest = without(without(without(rest, '--state'), '--coordinator'), '--token-file');
  return [
    ...rest,
    '--coordinator',
    target.url,
    '--token-file',
    target.tokenFile,
    ...tlsArguments(rest),
    ...keyArguments(rest, tokenFile === undefined ? target.state : undefined),
  ];
}

/** Certificates from the environment, where the arguments name none. */
function tlsArguments(argv: readonly string[]): string[] {
  const { tlsCa, tlsCert, tlsKey } = tlsFiles({}, process.env);
  const all: [string, string | undefined][] = [
    ['--tls-ca', tlsCa],
    ['--tls-cert', tlsCert],
    ['--tls-key', tlsKey],
  ];
  return all.flatMap(([option, file]) => (file === undefined || argumentOf(argv, option) !== undefined ? [] : [option, file]));
}

/** What opens an encrypted volume, when the arguments do not say: as secrets.ts has it. */
function keyArguments(argv: readonly string[], state: string | undefined): string[] {
  if (argumentOf(argv, '--key-file') !== undefined || argumentOf(argv, '--passphrase-file') !== undefined) return [];
  const { HOLDFAST_KEY_FILE, HOLDFAST_PASSPHRASE_FILE } = process.env;
  if (HOLDFAST_KEY_FILE !== undefined) return ['--key-file', HOLDFAST_KEY_FILE];
  if (HOLDFAST_PASSPHRASE_FILE !== undefined) return ['--passphrase-file', HOLDFAST_PASSPHRASE_FILE];
  if (state === undefined || (argumentOf(argv, '--volume') ?? DEFAULT_VOLUME_NAME) !== DEFAULT_VOLUME_NAME) return [];
  const local = join(state, LOCAL_KEY_FILE);
  return existsSync(local) ? ['--key-file', local] : [];
}
