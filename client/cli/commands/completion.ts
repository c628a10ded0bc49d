/** completion: prints what makes the shell complete our commands, options and paths. Made from the command tree, so it cannot fall behind. */

import { posix } from 'node:path';
import type { Command } from 'commander';
import type { Context } from '../context.js';
import { CliError, EXIT } from '../exit-codes.js';
import { entriesOf } from './files.js';

const script: Record<string, string> = {
  bash: `# holdfast: put this in ~/.bashrc:  source <(holdfast completion bash)
_holdfast() {
  local IFS=$'\\n'
  COMPREPLY=($(holdfast __complete "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
  [[ \${#COMPREPLY[@]} -eq 1 && \${COMPREPLY[0]} == */ ]] && compopt -o nospace
}
complete -o default -F _holdfast holdfast`,
  zsh: `#compdef holdfast
# holdfast: put this in ~/.zshrc:  source <(holdfast completion zsh)
_holdfast() {
  local -a found
  found=("\${(@f)$(holdfast __complete "\${words[@]:1:$((CURRENT-1))}" 2>/dev/null)}")
  compadd -S '' -- $found || _files
}
compdef _holdfast holdfast`,
  fish: `# holdfast: put this in ~/.config/fish/config.fish:  holdfast completion fish | source
complete -c holdfast -f -a '(holdfast __complete (commandline -opc)[2..] (commandline -ct) 2>/dev/null)'`,
};

export function completion(context: Context, _options: unknown, shell: string): void {
  const text = script[shell];
  if (text === undefined) throw new CliError(`completion is for ${Object.keys(script).join(', ')}, not ${shell}`, EXIT.usage);
  if (context.isJson) context.json({ schema: 1, shell, script: text });
  else context.print(text);
}

/** Words that may come next. Pure: `paths` are filled in by the caller when `wantsPath`. */
export function candidates(program: Command, words: readonly string[]): { words: string[]; wantsPath: boolean } {
  let command = program;
  const rest = [...words];
  const current = rest.pop() ?? '';
  for (const word of rest) {
    const child = command.commands.find((one) => one.name() === word);
    if (!child) break;
    command = child;
  }
  const fits = (text: string): boolean => text.startsWith(current) && !text.startsWith('__');
  if (current.startsWith('-'))
    return {
      words: command.options.flatMap((option) => [option.long ?? '', option.short ?? '']).filter((name) => name !== '' && fits(name)),
      wantsPath: false,
    };
  if (command.commands.length > 0) return { words: command.commands.map((child) => child.name()).filter(fits), wantsPath: false };
  const takesPath = command.registeredArguments.some((argument) => /path/.test(argument.name()));
  return { words: [], wantsPath: takesPath };
}

/** Hidden command behind the shells' completion: one candidate a line, never an error, remote paths only when they come quickly. */
export async function complete(context: Context, program: Command, words: readonly string[]): Promise<void> {
  const found = candidates(program, words);
  for (const word of found.words) context.print(word);
  const current = words[words.length - 1] ?? '';
  if (!found.wantsPath || (current !== '' && !current.startsWith('/'))) return;
  const cluster = await context.cluster('names');
  const directory = current.endsWith('/') ? current : posix.dirname(current || '/');
  const attributes = await cluster.tree.resolve(directory);
  for await (const { name, attributes: entry } of entriesOf(cluster, attributes)) {
    const path = posix.join(directory, name) + (entry.kind === 'directory' ? '/' : '');
    if (path.startsWith(current || '/')) context.print(path);
  }
}
