/** The commands of volumes, users and certificates: names, options and examples. What they do is in commands/. */
import { type Command, InvalidArgumentError } from 'commander';
import { MAX_CHUNK_SIZE_BYTES, MIN_CHUNK_SIZE_BYTES } from '../../protocol/limits.js';
import type { Add } from './program.js';

const whole =
  (from: number, to: number) =>
  (text: string): number => {
    const value = Number(text);
    if (!/^\d+$/.test(text) || value < from || value > to)
      throw new InvalidArgumentError(`it must be a whole number from ${from} to ${to}`);
    return value;
  };
/** "10G", "512M", "4096" → bytes */
function bytes(text: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*([KMGTP]?)(?:i?B)?$/i.exec(text);
  const value = match ? Math.round(Number(match[1]) * 1024 ** ' KMGTP'.indexOf((match[2] || ' ').toUpperCase())) : Number.NaN;
  if (!Number.isSafeInteger(value)) throw new InvalidArgumentError('it must be a size like 512M, 10G or 1T');
  return value;
}
function chunkSize(text: string): number {
  const value = bytes(text);
  if (value < MIN_CHUNK_SIZE_BYTES || value > MAX_CHUNK_SIZE_BYTES || value % MIN_CHUNK_SIZE_BYTES !== 0)
    throw new InvalidArgumentError('it must be a multiple of 64K, from 64K to 8M');
  return value;
}
/** "90s", "15m", "24h", "7d", "0" → milliseconds */
export function duration(text: string): number {
  const match = /^(\d+(?:\.\d+)?)(s|m|h|d)?$/.exec(text);
  const units = { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };
  if (!match || (match[2] === undefined && Number(match[1]) !== 0))
    throw new InvalidArgumentError('it must be a time like 90s, 15m, 24h or 7d');
  return Math.round(Number(match[1]) * units[(match[2] ?? 's') as keyof typeof units]);
}
/** As a duration, but something. */
function lifetime(text: string): number {
  const value = duration(text);
  if (value < 1000) throw new InvalidArgumentError('it must be a second at least');
  return value;
}
const orNone =
  <T>(parse: (text: string) => T) =>
  (text: string): T | null =>
    text === 'none' ? null : parse(text);

const quotas = (command: Command): Command =>
  command
    .option('--quota <size>', 'most bytes of files, or "none"', orNone(bytes))
    .option('--quota-files <n>', 'most files and directories, or "none"', orNone(whole(0, Number.MAX_SAFE_INTEGER)));
const tokenSettings = (command: Command): Command =>
  command
    .option('--expires <time>', 'how long the token counts, e.g. 12h or 30d (default: until it is revoked)', lifetime)
    .option('--token-out <file>', 'write the token to this new file (0600) and do not show it');

const volumeSettings = (command: Command): Command =>
  command
    .option('--copies <n>', 'nodes that keep each chunk', whole(1, 8))
    .option('--chunk-size <size>', 'size of the chunks that files are cut into, from now on', chunkSize)
    .option('--trash-keep <time>', 'how long deleted files can be restored, like 24h or 7d; 0 = not', duration)
    .option('--snapshot-every <time>', 'take a snapshot this often, like 1h; 0 = none by themselves', duration)
    .option('--snapshot-keep <n>', 'how many of these are kept (default 24)', whole(1, 900));

/** @param group heading in the list of commands */
export function addAccessCommands(program: Command, node: Command, group: string, add: Add): void {
  addCertificateCommands(program, group, add);
  const volumes = () => import('./commands/volumes.js');
  const volume = program.command('volume').helpGroup(group).description('file trees with settings of their own: list, create, set, delete');
  add(
    volume,
    'list',
    'the volumes you may use',
    ['volume list', 'volume list --json'],
    async () => (await volumes()).list,
    (c) => c.alias('ls'),
  );
  add(
    volume,
    'create <name>',
    'make a volume; "--volume NAME" then works in it',
    [
      'volume create photos --copies 3 --quota 500G',
      'upload --volume photos -r pictures /',
      'volume create letters --encrypt --key-file ~/letters.key',
    ],
    async () => (await volumes()).create,
    (c) =>
      quotas(volumeSettings(c)).option(
        '--encrypt',
        'content leaves clients encrypted only; --key-file (made when it is not there) or --passphrase-file',
      ),
  );
  add(
    volume,
    'set <name>',
    'change settings of a volume',
    [
      'volume set photos --quota 1T',
      'volume set photos --quota none --copies 2',
      'volume set main --trash-keep 7d --snapshot-every 1h --snapshot-keep 48',
    ],
    async () => (await volumes()).set,
    (c) => quotas(volumeSettings(c)),
  );
  const encryption = () => import('./commands/encryption.js');
  add(
    volume,
    'encrypt <name>',
    'encrypt a volume that holds nothing yet',
    ['volume encrypt main --key-file ~/main.key'],
    async () => (await encryption()).encrypt,
  );
  add(
    volume,
    'rekey <name>',
    'have an encrypted volume open with another key; nothing is written again',
    [
      'volume rekey main --key-file old.key --new-key-file new.key',
      'volume rekey main --key-file main.key --new-passphrase-file words --add',
    ],
    async () => (await encryption()).rekey,
    (c) =>
      c
        .option('--new-key-file <file>', 'key file from now on; made when it is not there')
        .option('--new-passphrase-file <file>', 'file whose first line is the passphrase from now on')
        .option('--add', 'what opens it now stays good'),
  );
  add(volume, 'key <file>', 'make a key file', ['volume key ~/main.key'], async () => (await encryption()).makeKey);
  add(
    volume,
    'delete <name>',
    'delete a volume; refused while it holds something',
    ['volume delete photos', 'volume delete photos --even-if-not-empty photos'],
    async () => (await volumes()).remove,
    (c) => c.option('--even-if-not-empty <name>', 'repeat its name to delete everything in it'),
  );
  const users = () => import('./commands/users.js');
  add(
    volume,
    'grant <volume> <user> <access>',
    'what a user may do in a volume: none, read, write or admin',
    ['volume grant photos anna write', 'volume grant photos anna none'],
    async () => (await users()).grant,
  );

  const user = program
    .command('user')
    .helpGroup(group)
    .description('people and programs with tokens and rights of their own: list, create, revoke');
  add(
    user,
    'list',
    'users, what they may do, and their tokens',
    ['user list'],
    async () => (await users()).list,
    (c) => c.alias('ls'),
  );
  add(
    user,
    'create <name>',
    'make a user with a home volume and a first token, which is shown once',
    ['user create anna --token-out anna.token', 'list --token-file anna.token', 'user create guest --no-home --expires 30d'],
    async () => (await users()).create,
    (c) =>
      tokenSettings(quotas(c))
        .option('--label <text>', 'what the token is for')
        .option('--no-home', 'without a volume of its own')
        .option('--admin', 'an administrator of the cluster'),
  );
  add(
    user,
    'set <name>',
    'change the quota of a user, for all that the user makes',
    ['user set anna --quota 50G', 'user set anna --quota none'],
    async () => (await users()).set,
    (c) => quotas(c).option('--admin', 'an administrator of the cluster').option('--no-admin', 'none any more'),
  );
  add(
    user,
    'token <name>',
    'make one token more for a user, shown once',
    ['user token anna --label laptop --expires 1y'],
    async () => (await users()).token,
    (c) => tokenSettings(c).option('--label <text>', 'what it is for'),
  );
  add(
    user,
    'revoke <name> [token]',
    'end a token and everything connected by it',
    ['user revoke anna T7', 'user revoke anna --all'],
    async () => (await users()).revoke,
    (c) => c.option('--all', 'every token of the user'),
  );
  add(
    user,
    'delete <name>',
    'delete a user with tokens, rights and home',
    ['user delete anna', 'user delete anna --even-if-not-empty anna'],
    async () => (await users()).remove,
    (c) => c.option('--even-if-not-empty <name>', 'repeat the name to delete the files at home as well'),
  );

  add(
    node,
    'join-token',
    'a token with which one new node may join, once',
    [
      'node join-token --host shelf2 --token-out shelf2.join',
      'node --data DIR --name shelf2 --coordinator URL --join-token-file shelf2.join',
    ],
    async () => (await users()).joinToken,
    (c) =>
      tokenSettings(c).option(
        '--host <host...>',
        "with TLS: name or address the node's certificate may be for (default: any that no other machine of the cluster has)",
      ),
  );
}

function addCertificateCommands(program: Command, group: string, add: Add): void {
  const certificates = () => import('./commands/certificates.js');
  const cluster = program.command('cluster').helpGroup(group).description('certificates for a cluster of several machines: init, issue');
  const directory = (command: Command): Command =>
    command.requiredOption('--tls <dir>', "directory of the cluster's certificate authority");
  add(
    cluster,
    'init',
    'make a certificate authority for a cluster',
    ['cluster init --tls ~/holdfast-ca'],
    async () => (await certificates()).init,
    directory,
  );
  add(
    cluster,
    'issue <name>',
    'make a certificate for a coordinator, node or client',
    ['cluster issue n1 --host shelf1 --host 10.0.0.7 --tls ~/holdfast-ca', 'cluster issue anna --tls ~/holdfast-ca'],
    async () => (await certificates()).issue,
    (c) =>
      directory(c).option(
        '--host <host>',
        'name or address by which others reach it; again for each (a client needs none)',
        (host: string, before: string[] | undefined) => [...(before ?? []), host],
      ),
  );
}
