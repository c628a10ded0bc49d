/** shell: a prompt inside the cluster, with a current directory. Every line is a command of `holdfast` with cluster paths. */
import { posix } from 'node:path';
import { createInterface } from 'node:readline/promises';
import { HoldfastError } from '../../../protocol/errors.js';
import type { Context } from '../context.js';
import { tellError } from '../exit-codes.js';
import { printable } from '../words.js';
import * as files from './files.js';

const help = `ls [-l] [PATH]      cd [PATH]      pwd      cat PATH...      stat PATH      why PATH
mkdir PATH...       mv FROM TO     rm [-r] PATH...
put LOCAL [PATH]    get PATH [LOCAL]            status      help      exit`;

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

export async function shell(context: Context): Promise<void> {
  const cluster = await context.cluster();
  let directory = '/';
  const inside = (path: string): string => posix.resolve(directory, path);
  // The commands resolve paths through the context: here all are cluster paths below the current directory.
  context.path = inside;
  const isTerminal = process.stdin.isTTY === true;
  const terminal = createInterface({ input: process.stdin, output: isTerminal ? process.stderr : undefined, terminal: isTerminal });
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
    try {
      if (!(await perform(line))) break;
    } catch (error) {
      context.note(tellError(error).message);
      if (!isTerminal) process.exitCode = 1;
    }
    terminal.setPrompt(`holdfast:${printable(directory)}> `);
    if (isTerminal) terminal.prompt();
  }
  terminal.close();
}
