/** shell: a prompt inside the cluster, with a current directory, history and completion. Every line is a command of `holdfast` with cluster paths. */
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join, posix } from 'node:path';
import { createInterface } from 'node:readline/promises';
import { HoldfastError } from '../../../protocol/errors.js';
import type { Cluster } from '../../api.js';
import type { Context } from '../context.js';
import { CliError, EXIT, tellError } from '../exit-codes.js';
import { printable } from '../words.js';
import * as files from './files.js';

const help = `ls [-l] [PATH]      cd [PATH]      pwd      cat PATH...      stat PATH      why PATH
mkdir PATH...       mv FROM TO     rm [-r] PATH...
put LOCAL [PATH]    get PATH [LOCAL]            status      help      exit
tab completes, arrows bring earlier lines back, Ctrl-C ends what is being done, Ctrl-D leaves`;
const NAMES = ['ls', 'cd', 'pwd', 'cat', 'stat', 'why', 'mkdir', 'mv', 'rm', 'put', 'get', 'status', 'help', 'exit'];
const HISTORY_LINES = 500;

/** Words of a line: blanks part them, quotes and backslashes keep them together. @throws {Error} on an open quote */
export function wordsOf(line: string): string[] {
  const words: string[] = [];
  let word: string | undefined;
  let quote = '';
  for (let at = 0; at < line.length; at++) {
    const character = line[at] as string;
    if (quote !== '') {
      if (character === quote) quote = '';
      else if (character === '\\' && quote === '"') word += line[++at] ?? '';
      else word += character;
    } else if (character === '"' || character === "'") {
      quote = character;
      word ??= '';
    } else if (character === '\\') word = (word ?? '') + (line[++at] ?? '');
    else if (/\s/.test(character)) {
      if (word !== undefined) words.push(word);
      word = undefined;
    } else word = (word ?? '') + character;
  }
  if (quote !== '') throw new Error('a quote is not closed');
  if (word !== undefined) words.push(word);
  return words;
}

/** The beginning of the last word of a line, as typed and as meant. */
export function lastWord(line: string): { readonly typed: string; readonly meant: string; readonly isFirst: boolean } {
  let start = 0;
  for (let at = 0; at < line.length; at++) {
    if (line[at] === '\\') at++;
    else if (/\s/.test(line[at] as string)) start = at + 1;
  }
  const typed = line.slice(start);
  return { typed, meant: typed.replace(/\\(.)/g, '$1'), isFirst: line.slice(0, start).trim() === '' };
}
/** A path so that it is one word again. */
const quoted = (path: string): string => path.replace(/[\s"'\\]/g, '\\$&');

/** What may stand at the end of this line; the last word itself second, as readline wants it. Never fails: no candidates then. */
async function candidatesFor(cluster: Cluster, inside: (path: string) => string, line: string): Promise<[string[], string]> {
  const { typed, meant, isFirst } = lastWord(line);
  if (isFirst) return [NAMES.filter((name) => name.startsWith(meant)).map((name) => `${name} `), typed];
  const slash = meant.lastIndexOf('/') + 1;
  const [above, start] = [meant.slice(0, slash), meant.slice(slash)];
  const found: string[] = [];
  try {
    const add = (name: string, isDirectory: boolean): void => {
      if (name.startsWith(start)) found.push(quoted(above + name) + (isDirectory ? '/' : ' '));
    };
    if (/^\s*put\s+\S*$/.test(line)) {
      for (const entry of readdirSync(above || '.', { withFileTypes: true })) add(entry.name, entry.isDirectory());
    } else {
      const directory = await cluster.tree.resolve(inside(above || '.'));
      for await (const { name, attributes } of files.entriesOf(cluster, directory)) add(name, attributes.kind === 'directory');
    }
  } catch {
    // A directory that is not there has nothing to offer.
  }
  return [found.sort(), typed];
}

const historyFile = (): string =>
  join(process.env.XDG_STATE_HOME ?? join(process.env.HOME ?? homedir(), '.local', 'state'), 'holdfast', 'shell-history');
/** Earlier lines, the last one first; none when they cannot be read. */
function readHistory(): string[] {
  try {
    return readFileSync(historyFile(), 'utf8').split('\n').filter(Boolean).reverse();
  } catch {
    return [];
  }
}
function keepHistory(context: Context, lines: readonly string[]): void {
  try {
    mkdirSync(dirname(historyFile()), { recursive: true });
    // Names of files can be private: for this user alone.
    writeFileSync(
      historyFile(),
      [...lines]
        .reverse()
        .map((line) => `${line}\n`)
        .join(''),
      { mode: 0o600 },
    );
  } catch (error) {
    context.note(`holdfast: the history could not be kept: ${(error as Error).message}`);
  }
}

export async function shell(context: Context): Promise<void> {
  const cluster = await context.cluster();
  let directory = '/';
  const inside = (path: string): string => posix.resolve(directory, path);
  // The commands resolve paths through the context: here all are cluster paths below the current directory.
  context.path = inside;
  const isTerminal = process.stdin.isTTY === true;
  let history = isTerminal ? readHistory() : [];
  const terminal = createInterface({
    input: process.stdin,
    output: isTerminal ? process.stderr : undefined,
    terminal: isTerminal,
    history: [...history],
    historySize: HISTORY_LINES,
    removeHistoryDuplicates: true,
    completer: (line: string) => candidatesFor(cluster, inside, line),
  });
  terminal.on('history', (lines: string[]) => {
    history = lines;
  });
  let isBusy = false;
  terminal.on('SIGINT', () => {
    if (isBusy) return context.interrupted.abort(new CliError('interrupted', EXIT.error, 'INTERRUPTED'));
    // Nothing is being done: the line is thrown away, as other shells do.
    process.stderr.write('^C\n');
    terminal.write(null, { ctrl: true, name: 'e' });
    terminal.write(null, { ctrl: true, name: 'u' });
    terminal.prompt();
  });
  const perform = async (line: string): Promise<boolean> => {
    const [name, ...all] = wordsOf(line);
    const flags = all.filter((word) => /^-[a-z]+$/.test(word)).join('');
    const args = all.filter((word) => !/^-[a-z]+$/.test(word));
    const need = (least: number): void => {
      if (args.length < least) throw new HoldfastError('EINVAL', `${name} needs ${least === 1 ? 'a path' : `${least} paths`}`);
    };
    switch (name) {
      case undefined:
        return true;
      case 'exit':
      case 'quit':
        return false;
      case 'help':
        context.print(help);
        return true;
      case 'pwd':
        context.print(printable(directory));
        return true;
      case 'cd': {
        const wanted = inside(args[0] ?? '/');
        const attributes = await files.at(wanted, cluster.tree.resolve(wanted));
        if (attributes.kind !== 'directory') throw new HoldfastError('ENOTDIR', printable(wanted));
        directory = wanted;
        return true;
      }
      case 'ls':
      case 'list':
        await files.list(context, { long: flags.includes('l'), recursive: flags.includes('R') }, args[0] ?? '.');
        return true;
      case 'cat':
        need(1);
        await files.cat(context, {}, args);
        return true;
      case 'mkdir':
        need(1);
        await files.mkdir(context, { parents: flags.includes('p') }, args);
        return true;
      case 'mv':
      case 'move':
        need(2);
        await files.move(context, {}, args[0] as string, args[1] as string);
        return true;
      case 'rm':
      case 'delete':
        need(1);
        await files.remove(context, { recursive: flags.includes('r'), yes: true }, args);
        return true;
      case 'put':
        need(1);
        await (await import('./upload.js')).upload(
          context,
          { to: args[1] ?? `${directory.replace(/\/$/, '')}/`, recursive: flags.includes('r') },
          args.slice(0, 1),
        );
        return true;
      case 'get':
        need(1);
        await (await import('./download.js')).download(
          context,
          { output: args[1] ?? '.', recursive: flags.includes('r') },
          args.slice(0, 1),
        );
        return true;
      case 'stat':
        need(1);
        await (await import('./stat.js')).stat(context, {}, args[0] as string);
        return true;
      case 'why':
        need(1);
        await (await import('./stat.js')).why(context, {}, args[0] as string);
        return true;
      case 'status':
        await (await import('./status.js')).status(context, {});
        return true;
      default:
        throw new HoldfastError('EINVAL', `there is no ${name} here: "help" lists what there is`);
    }
  };
  terminal.setPrompt('holdfast:/> ');
  if (isTerminal) terminal.prompt();
  for await (const line of terminal) {
    isBusy = true;
    context.interrupted = new AbortController();
    try {
      if (!(await perform(line))) break;
    } catch (error) {
      context.note(tellError(error).message);
      if (!isTerminal) process.exitCode = 1;
    }
    isBusy = false;
    terminal.setPrompt(`holdfast:${printable(directory)}> `);
    if (isTerminal) terminal.prompt();
  }
  terminal.close();
  if (isTerminal) keepHistory(context, history);
}
