import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type ErrorCode, errorFacts, HoldfastError } from '../../protocol/errors.js';
import { clusterPath, holdfastMounts } from './cluster-path.js';
import { candidates } from './commands/completion.js';
import { lastWord, wordsOf } from './commands/shell.js';
import { CliError, EXIT, exitCodeOf, tellError } from './exit-codes.js';
import { inParallel } from './parallel.js';
import { isPart, mountArguments } from './parts.js';
import { buildProgram } from './program.js';
import { RateMeter } from './progress.js';
import { findTarget } from './target.js';
import { durationWords, modeWords, printable, sizeWords, table } from './words.js';

describe('a PATH argument', () => {
  const same = (path: string): string => path;
  const resolve = (path: string, cwd = '/home/me', mounts = ['/home/me/holdfast', '/mnt/h']): string =>
    clusterPath(path, mounts, cwd, same);

  it('below a mount is the path inside the cluster', () => {
    expect(resolve('/home/me/holdfast/a/b')).toBe('/a/b');
    expect(resolve('/home/me/holdfast')).toBe('/');
    expect(resolve('holdfast/a')).toBe('/a');
    expect(resolve('../x', '/mnt/h/dir')).toBe('/x');
  });
  it('elsewhere is a cluster path as it stands', () => {
    expect(resolve('/film.mkv')).toBe('/film.mkv');
    expect(resolve('film.mkv')).toBe('/film.mkv');
    expect(resolve('/a//b/../c/')).toBe('/a/c');
    expect(resolve('/')).toBe('/');
    expect(resolve('/home/me/holdfast2/a')).toBe('/home/me/holdfast2/a');
  });
  it('through a symlink to a mount is found as well', () => {
    expect(clusterPath('/home/me/link/a', ['/mnt/h'], '/', (path) => path.replace('/home/me/link', '/mnt/h'))).toBe('/a');
  });
  it('never leaves the cluster', () => {
    fc.assert(
      fc.property(fc.array(fc.constantFrom('..', '.', 'a', 'b c', ''), { maxLength: 8 }), (parts) => {
        const path = clusterPath(parts.join('/'), [], '/home', same);
        expect(path.startsWith('/')).toBe(true);
        expect(path.split('/')).not.toContain('..');
      }),
    );
  });
});

describe('the mount table', () => {
  it('is read with its escapes, Holdfast mounts only, the inner before the outer', () => {
    const text = [
      '21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw',
      '30 21 0:40 / /mnt/h rw - fuse.holdfast holdfast rw,user_id=0',
      '31 21 0:41 / /mnt/with\\040blank rw - fuse.holdfast holdfast rw',
      '32 21 0:42 / /mnt/sshfs rw - fuse.sshfs x rw',
    ].join('\n');
    expect(holdfastMounts(text)).toEqual(['/mnt/with blank', '/mnt/h']);
  });
});

describe('the cluster a command talks to', () => {
  let directory: string;
  const state = (name: string, port: number): string => {
    const path = join(directory, name);
    mkdirSync(join(path, 'tokens'), { recursive: true });
    writeFileSync(join(path, 'cluster.json'), JSON.stringify({ coordinator: { host: '127.0.0.1', port } }));
    writeFileSync(join(path, 'tokens', 'admin-token'), `token-${port}\n`);
    return path;
  };
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'hf-target-'));
  });
  afterEach(() => rmSync(directory, { recursive: true, force: true }));

  it('is the one said on the command line, then the environment, then the default', () => {
    const [a, b] = [state('a', 1), state('b', 2)];
    const home = join(directory, 'home');
    mkdirSync(home);
    expect(findTarget({ state: a }, { HOLDFAST_STATE: b, HOME: home })).toMatchObject({ url: 'http://127.0.0.1:1', token: 'token-1' });
    expect(findTarget({}, { HOLDFAST_STATE: b, HOME: home })).toMatchObject({ url: 'http://127.0.0.1:2', state: b });
    expect(() => findTarget({}, { HOME: home })).toThrow(/scripts\/up/);
  });
  it('by --state is not mixed with the environment', () => {
    const a = state('a', 1);
    const env = { HOLDFAST_COORDINATOR: 'http://elsewhere:9', HOLDFAST_TOKEN_FILE: join(a, 'no-such-file') };
    expect(findTarget({ state: a }, env)).toMatchObject({ url: 'http://127.0.0.1:1', token: 'token-1' });
  });
  it('needs a token, and says where it looked', () => {
    const a = state('a', 1);
    rmSync(join(a, 'tokens', 'admin-token'));
    expect(() => findTarget({ state: a }, {})).toThrow(join(a, 'tokens', 'admin-token'));
    expect(() => findTarget({ coordinator: 'ftp://x', tokenFile: 'x' }, {})).toThrow(/not the address/);
  });
});

describe('exit codes', () => {
  it('are given to every error of the protocol and never 0', () => {
    for (const code of Object.keys(errorFacts) as ErrorCode[]) expect(exitCodeOf(new HoldfastError(code)), code).toBeGreaterThan(0);
  });
  it('tell the cases apart that scripts care about', () => {
    const of = (code: ErrorCode): number => exitCodeOf(new HoldfastError(code));
    expect([of('ENOENT'), of('UNREACHABLE'), of('CHUNK_UNREADABLE'), of('EEXIST'), of('UNAUTHORIZED')]).toEqual([4, 5, 6, 7, 8]);
    expect(exitCodeOf(new CliError('x', EXIT.usage))).toBe(2);
  });
  it('come with a message that says what to do next', () => {
    const told = tellError(new HoldfastError('UNREACHABLE', 'cannot connect'), 'http://h:1');
    expect(told).toMatchObject({ code: 'UNREACHABLE', message: 'cannot connect', exitCode: 5 });
    expect(told.advice).toContain('scripts/up');
    expect(tellError(new HoldfastError('ENOENT', '/x')).message).toBe('/x: no such file or directory');
  });
});

describe('words for people', () => {
  it('of sizes and times', () => {
    expect([0, 1023, 1536, 1024 ** 2 * 250, 5e15].map(sizeWords)).toEqual(['0 B', '1023 B', '1.5 KiB', '250 MiB', '4.4 PiB']);
    expect([5, 1500, 93_000, 7_260_000].map(durationWords)).toEqual(['5 ms', '2 s', '1 min 33 s', '2 h 1 min']);
    expect([modeWords('directory', 0o1777), modeWords('file', 0o4755), modeWords('symlink', 0o2640)]).toEqual([
      'drwxrwxrwt',
      '-rwsr-xr-x',
      'lrw-r-S---',
    ]);
  });
  it('never let a name command the terminal', () => {
    expect(printable('a\x1b[2Jb\r\n')).toBe('a\\x1b[2Jb\\x0d\\x0a');
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (name) => {
        // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what must not be there
        expect(printable(name)).not.toMatch(/[\u0000-\u001f\u007f-\u009f\u202e]/);
      }),
    );
  });
  it('stand in columns, wide characters counted as two', () => {
    expect(
      table(
        [
          ['a', '1'],
          ['漢字', '22'],
        ],
        [1],
      ),
    ).toEqual(['a      1', '漢字  22']);
  });
});

describe('the command line', () => {
  it('tells the program "node" from the command "node"', () => {
    expect(isPart(['node', '--data', 'x'])).toBe('node');
    expect(isPart(['node', 'ls'])).toBeUndefined();
    expect(isPart(['coordinator', '--data', 'x'])).toBe('coordinator');
    expect(isPart(['status'])).toBeUndefined();
    expect(isPart([])).toBeUndefined();
  });
  it('passes a mount its directory and cluster', () => {
    const given = ['/mnt', '--coordinator', 'http://h:1', '--token-file', 'f', '--read-only'];
    expect(mountArguments(given)).toEqual(['--mount', ...given]);
    expect(mountArguments(['--help'])).toEqual(['--help']);
  });
  it('has an example and --json for every command', () => {
    for (const command of buildProgram().commands.flatMap((one) => (one.commands.length > 0 ? [...one.commands] : [one]))) {
      if (['coordinator', 'mount', 'tui', 'recover', 'restore'].includes(command.name())) continue;
      let help = '';
      command.configureOutput({ writeOut: (text) => (help += text) });
      command.outputHelp();
      expect(help, command.name()).toContain(`$ holdfast ${command.parent?.parent ? `${command.parent.name()} ` : ''}${command.name()}`);
      expect(help, command.name()).toContain('--json');
    }
  });
  it('completes commands, options and, where one is wanted, paths', () => {
    const program = buildProgram();
    expect(candidates(program, ['stat']).words).toEqual(['status', 'stat']);
    expect(candidates(program, ['node', 'd']).words).toEqual(['drain']);
    expect(candidates(program, ['upload', '--para']).words).toEqual(['--parallel']);
    expect(candidates(program, ['stat', '/a']).wantsPath).toBe(true);
    expect(candidates(program, ['status', '']).wantsPath).toBe(false);
  });
});

describe('the rate of a transfer', () => {
  it('is that of the last seconds, not of all time', () => {
    const meter = new RateMeter(0);
    for (let second = 1; second <= 10; second += 1) meter.add(1000, second * 1000);
    expect(meter.bytesPerS(10_000)).toBeCloseTo(1000);
    for (let second = 11; second <= 20; second += 1) meter.add(10, second * 1000);
    expect(meter.bytesPerS(20_000)).toBeCloseTo(10);
    expect(new RateMeter(0).bytesPerS(0)).toBe(0);
  });
});

describe('a line of the shell', () => {
  it('is parted at blanks, but not inside quotes', () => {
    expect(wordsOf(`  cat "a b" c\\ d 'e"f' g''h "" `)).toEqual(['cat', 'a b', 'c d', 'e"f', 'gh', '']);
    expect(() => wordsOf('cat "a')).toThrow(/quote/);
  });
  it('ends in the word that is to be completed', () => {
    expect(lastWord('ca')).toEqual({ typed: 'ca', meant: 'ca', isFirst: true });
    expect(lastWord('cat /a\\ b/c')).toEqual({ typed: '/a\\ b/c', meant: '/a b/c', isFirst: false });
    expect(lastWord('cat /x ')).toEqual({ typed: '', meant: '', isFirst: false });
  });
  it('gives back any words that were quoted', () => {
    fc.assert(
      fc.property(fc.array(fc.string({ minLength: 1 })), (words) => {
        expect(wordsOf(words.map((word) => `"${word.replace(/["\\]/g, '\\$&')}"`).join(' '))).toEqual(words);
      }),
    );
  });
});

describe('work in parallel', () => {
  it('never exceeds its width and finishes everything', async () => {
    let running = 0;
    let most = 0;
    const done: number[] = [];
    await inParallel([1, 2, 3, 4, 5, 6, 7], 3, async (item) => {
      running += 1;
      most = Math.max(most, running);
      await new Promise((resolve) => setImmediate(resolve));
      running -= 1;
      done.push(item);
    });
    expect([most, done.sort()]).toEqual([3, [1, 2, 3, 4, 5, 6, 7]]);
  });
});
