/** user: list, create, set, delete, token, revoke; volume grant; node join-token. A secret is shown once, or goes into a file of its own. */
import { open } from 'node:fs/promises';
import type { NewToken, UserStatus } from '../../../protocol/access-calls.js';
import type { Context } from '../context.js';
import { CliError, EXIT } from '../exit-codes.js';
import { countWords, sizeWords, table, timeWords } from '../words.js';

interface TokenOptions {
  readonly label?: string;
  /** Milliseconds. */
  readonly expires?: number;
  readonly tokenOut?: string;
}
interface QuotaOptions {
  readonly quota?: number | null;
  readonly quotaFiles?: number | null;
}

const tokenRequest = ({ label, expires }: TokenOptions): { label?: string; expiresInMs?: number } => ({
  ...(label === undefined ? {} : { label }),
  ...(expires === undefined ? {} : { expiresInMs: expires }),
});
const quotaRequest = ({ quota, quotaFiles }: QuotaOptions): { quotaBytes?: number | null; quotaFiles?: number | null } => ({
  ...(quota === undefined ? {} : { quotaBytes: quota }),
  ...(quotaFiles === undefined ? {} : { quotaFiles }),
});

/** Makes the file before the token, so that a token is not made in vain; readable by its owner only. */
async function prepared(file: string | undefined): Promise<((token: NewToken) => Promise<void>) | undefined> {
  if (file === undefined) return undefined;
  const handle = await open(file, 'wx', 0o600).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'EEXIST') throw new CliError(`${file} is there already: a token is not written over it`, EXIT.conflict, 'EEXIST');
    throw new CliError(`cannot write ${file}: ${error.message}`);
  });
  return async ({ token }) => {
    await handle.writeFile(`${token}\n`);
    await handle.sync();
    await handle.close();
  };
}
/** A secret in a file is not shown as well. */
const shown = (token: NewToken, file: string | undefined): object =>
  file === undefined ? token : { id: token.id, expiresAtMs: token.expiresAtMs, file };

function tell(context: Context, text: string, token: NewToken, file: string | undefined): void {
  context.note(`${text}.`);
  const until = token.expiresAtMs === null ? '' : `, until ${timeWords(token.expiresAtMs, Date.now())}`;
  if (file !== undefined) context.note(`Token ${token.id} is in ${file}${until}.`);
  else {
    context.note(`Token ${token.id}${until}; it is shown this once:`);
    context.print(token.token);
  }
}

export async function list(context: Context): Promise<void> {
  const admin = await context.admin();
  const { users } = await admin.call('listUsers', {});
  if (context.isJson) return context.json({ schema: 1, users });
  const quota = ({ quotaBytes, quotaFiles }: UserStatus): string =>
    [...(quotaBytes === null ? [] : [sizeWords(quotaBytes)]), ...(quotaFiles === null ? [] : [`${quotaFiles} files`])].join(', ') || 'none';
  const rows = users.map((user) => [
    user.user,
    user.isAdmin
      ? 'administrator'
      : Object.entries(user.access)
          .map(([volume, access]) => `${volume}:${access}`)
          .join(' ') || 'nothing',
    sizeWords(user.usedBytes),
    quota(user),
    user.tokens.map((token) => token.id + (token.connections > 0 ? '*' : '')).join(' ') || 'none',
  ]);
  for (const line of table([['USER', 'MAY', 'MADE', 'QUOTA', 'TOKENS'], ...rows], [2, 3])) context.print(line);
  if (users.some(({ tokens }) => tokens.some(({ connections }) => connections > 0))) context.note('* connected now');
}

export async function create(
  context: Context,
  options: TokenOptions & QuotaOptions & { admin?: boolean; home?: boolean },
  user: string,
): Promise<void> {
  const admin = await context.admin();
  const keep = await prepared(options.tokenOut);
  const made = await admin.call('createUser', {
    ...{ user, isAdmin: options.admin ?? false, hasHome: options.home ?? true },
    ...quotaRequest(options),
    ...tokenRequest(options),
  });
  await keep?.(made.token);
  if (context.isJson) context.json({ schema: 1, ...made, token: shown(made.token, options.tokenOut) });
  else tell(context, made.text, made.token, options.tokenOut);
}

export async function set(context: Context, options: QuotaOptions & { admin?: boolean }, user: string): Promise<void> {
  const change = { ...quotaRequest(options), ...(options.admin === undefined ? {} : { isAdmin: options.admin }) };
  if (Object.keys(change).length === 0) throw new CliError('nothing to set: say what, e.g. --quota 10G', EXIT.usage);
  const admin = await context.admin();
  const { text, user: after } = await admin.call('setUser', { user, ...change });
  if (context.isJson) context.json({ schema: 1, text, user: after });
  else context.print(text);
}

export async function remove(context: Context, options: { evenIfNotEmpty?: string }, user: string): Promise<void> {
  const admin = await context.admin();
  const { evenIfNotEmpty } = options;
  const { text } = await admin.call('deleteUser', { user, ...(evenIfNotEmpty === undefined ? {} : { evenIfNotEmpty }) });
  if (context.isJson) context.json({ schema: 1, text });
  else context.print(text);
}

export async function token(context: Context, options: TokenOptions, user: string): Promise<void> {
  const admin = await context.admin();
  const keep = await prepared(options.tokenOut);
  const made = await admin.call('createToken', { user, ...tokenRequest(options) });
  await keep?.(made.token);
  if (context.isJson) context.json({ schema: 1, ...made, token: shown(made.token, options.tokenOut) });
  else tell(context, made.text, made.token, options.tokenOut);
}

export async function revoke(context: Context, options: { all?: boolean }, user: string, id?: string): Promise<void> {
  const isAll = options.all === true;
  if (isAll === (id !== undefined)) throw new CliError('say which token ("holdfast user list" shows them), or --all', EXIT.usage);
  const admin = await context.admin();
  const { text, revoked } = await admin.call('revokeToken', { user, ...(id === undefined ? {} : { token: id }) });
  if (context.isJson) context.json({ schema: 1, text, revoked });
  else
    context.print(
      `${text}: ${countWords(revoked.length, 'token')} and all that was connected by ${revoked.length === 1 ? 'it' : 'them'} ended`,
    );
}

const levels = ['none', 'read', 'write', 'admin'] as const;
export async function grant(context: Context, _options: unknown, volume: string, user: string, access: string): Promise<void> {
  const wanted = levels.find((one) => one === access);
  if (!wanted) throw new CliError(`access is one of ${levels.join(', ')}, not ${access}`, EXIT.usage);
  const admin = await context.admin();
  const { text } = await admin.call('setAccess', { volume, user, access: wanted });
  if (context.isJson) context.json({ schema: 1, text });
  else context.print(text);
}

export async function joinToken(context: Context, options: TokenOptions & { host?: string[] }): Promise<void> {
  const admin = await context.admin();
  const keep = await prepared(options.tokenOut);
  const { expires, host: hosts } = options;
  const made = await admin.call('createJoinToken', {
    ...(expires === undefined ? {} : { expiresInMs: expires }),
    ...(hosts === undefined ? {} : { hosts }),
  });
  await keep?.(made.token);
  if (context.isJson) context.json({ schema: 1, ...made, token: shown(made.token, options.tokenOut) });
  else tell(context, made.text, made.token, options.tokenOut);
}
