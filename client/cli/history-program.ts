/** The commands of snapshots, trash and copies: names, options and examples. What they do is in commands/history.ts. */
import { type Command, InvalidArgumentError } from 'commander';
import { duration } from './access-program.js';
import type { Add } from './program.js';

const count = (text: string): number => {
  const value = Number(text);
  if (!/^\d+$/.test(text) || value < 1 || value > 10_000) throw new InvalidArgumentError('it must be a whole number from 1 to 10000');
  return value;
};

/** @param group heading in the list of commands */
export function addHistoryCommands(program: Command, group: string, add: Add): void {
  const history = () => import('./commands/history.js');
  add(
    program,
    'clone <from> <to>',
    'copy a file or tree at once; the copy shares the data until one of them is changed',
    ['clone /photos /photos-to-edit', 'clone /.snapshots/monday/photos /photos-of-monday'],
    async () => (await history()).clone,
  );
  const snapshot = program
    .command('snapshot')
    .helpGroup(group)
    .description('points in time to look at and go back to: create, list, diff, restore, delete');
  add(
    snapshot,
    'create [name]',
    'take one of the whole volume, at once; its files are below .snapshots/NAME',
    ['snapshot create', 'snapshot create before-upgrade'],
    async () => (await history()).createSnapshot,
  );
  add(
    snapshot,
    'list',
    'the snapshots of a volume',
    ['snapshot list', 'snapshot list --json'],
    async () => (await history()).listSnapshots,
    (c) => c.alias('ls'),
  );
  add(
    snapshot,
    'diff <name> [path]',
    'what was added, removed, changed and renamed since',
    ['snapshot diff monday', 'snapshot diff monday /photos --to tuesday'],
    async () => (await history()).diffSnapshot,
    (c) =>
      c.option('--to <name>', 'up to this snapshot instead of now').option('--most <n>', 'at most so many lines (default 1000)', count),
  );
  add(
    snapshot,
    'restore <name> [path]',
    'put a path (everything by default) back as it was; what is there now becomes a snapshot first',
    ['snapshot restore monday /photos', 'snapshot restore monday --yes'],
    async () => (await history()).restoreSnapshot,
    (c) => c.option('-y, --yes', 'do not ask'),
  );
  add(
    snapshot,
    'delete <name...>',
    'delete snapshots; what only they had becomes free space',
    ['snapshot delete monday'],
    async () => (await history()).deleteSnapshot,
    (c) => c.alias('rm'),
  );
  const trash = program
    .command('trash')
    .helpGroup(group)
    .description('deleted files, where a volume keeps them ("volume set main --trash-keep 24h"): list, restore, empty');
  add(
    trash,
    'list [path]',
    'deleted files, newest first; of one folder, if a path is given',
    ['trash list', 'trash list /photos --json'],
    async () => (await history()).listTrash,
    (c) => c.alias('ls').option('--most <n>', 'at most so many (default 200)', count),
  );
  add(
    trash,
    'restore <path>',
    'bring a file back, or all that was below a folder',
    ['trash restore /photos/a.jpg', 'trash restore /photos', 'trash restore /a.jpg --to /a-old.jpg'],
    async () => (await history()).restoreTrash,
    (c) => c.option('--to <path>', 'to another place'),
  );
  add(
    trash,
    'empty [path]',
    'delete them for good, all or those of one folder',
    ['trash empty --yes', 'trash empty --older-than 1h'],
    async () => (await history()).emptyTrash,
    (c) =>
      c
        .option('--older-than <time>', 'only what was deleted longer ago, like 90s, 15m, 24h or 7d', duration)
        .option('-y, --yes', 'do not ask'),
  );
}
