/** Ordinary programs on a mount: they must work as on a local disk. Programs that are not installed are skipped by name. */
import { execFile, execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type ClusterRig, MountProcess, startClusterMounts, whyNoMount } from './mount-rig.js';

const run = promisify(execFile);
const why = whyNoMount();

function isInstalled(program: string): boolean {
  try {
    execFileSync('sh', ['-c', `command -v ${program}`], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

describe.skipIf(why !== undefined)(`on a mount${why ? ` (skipped: ${why})` : ''}`, () => {
  let rig: ClusterRig;
  let mount: string;
  let local: string;

  beforeAll(async () => {
    rig = await startClusterMounts(1);
    mount = rig.mounts[0]!;
    local = mkdtempSync(join(tmpdir(), 'hf-programs-'));
    await shell(
      `mkdir -p src/deep/er && cd src && seq 1 20000 > numbers && head -c 3000000 /dev/urandom > random && : > empty &&
       for i in $(seq 1 60); do echo "file $i" > deep/f$i; done && ln -s ../numbers deep/link && ln -s nowhere deep/broken &&
       ln numbers deep/er/hard && chmod 640 numbers && chmod 755 deep/f1 && mkfifo fifo && touch -d '2001-02-03 04:05:06.123456789' random &&
       touch -d '1999-09-09 09:09:09.999999999' deep`,
      { cwd: local },
    );
  }, 180_000);
  afterAll(async () => {
    await rig?.stop();
    if (local) rmSync(local, { recursive: true, force: true });
  }, 120_000);

  /** Runs a script that must succeed; $M is the mount and $L the local directory. Returns what it printed. */
  async function shell(script: string, options: { cwd?: string } = {}): Promise<string> {
    const { stdout } = await run('sh', ['-euc', script], {
      env: {
        ...process.env,
        M: mount,
        L: local,
        HOME: local,
        LC_ALL: 'C',
        GIT_CONFIG_NOSYSTEM: '1',
        GIT_AUTHOR_NAME: 't',
        GIT_AUTHOR_EMAIL: 't@example.org',
        GIT_COMMITTER_NAME: 't',
        GIT_COMMITTER_EMAIL: 't@example.org',
      },
      timeout: 110_000,
      maxBuffer: 64 * 1024 * 1024,
      ...options,
    }).catch((error: { message: string; stdout?: string; stderr?: string }) => {
      throw new Error(`${error.message}\n${error.stdout ?? ''}\n${error.stderr ?? ''}`);
    });
    return stdout;
  }
  const listing = '-mindepth 1 -printf "%P %y %m %U %G %s %T@ %l\\n"';

  it('cp -a copies a tree exactly: bytes, modes, links, nanoseconds', async () => {
    await shell('cp -a "$L/src" "$M/copied" && diff -r --no-dereference -x fifo "$L/src" "$M/copied"');
    const tree = (at: string) => shell(`cd "${at}" && find . ! -type d ${listing} | sort; find . -type d -printf "%P %m %T@\\n" | sort`);
    expect(await tree('$M/copied')).toBe(await tree('$L/src'));
    expect(await shell('cd "$M/copied" && stat -c %i numbers deep/er/hard | uniq | wc -l')).toBe('1\n');
  });

  it('cp -p keeps a time to the nanosecond, and it is still there later', async () => {
    await shell('cp -p "$L/src/random" "$M/p" && sync "$M/p" && sleep 2');
    expect(await shell('stat -c %y "$M/p"')).toBe(await shell('stat -c %y "$L/src/random"'));
  });

  it('tar packs and unpacks', async () => {
    await shell(`tar -C "$L" -cf "$M/t.tar" src && mkdir "$M/untarred" && tar -C "$M/untarred" -xf "$M/t.tar" &&
      diff -r --no-dereference -x fifo "$L/src" "$M/untarred/src" && tar -C "$M" -cf - untarred/src | tar -tf - | wc -l`);
  });

  it.skipIf(!isInstalled('rsync'))('rsync -aHX copies, and finds nothing to do the second time', async () => {
    await shell('rsync -aHX "$L/src/" "$M/rsynced/" && diff -r --no-dereference -x fifo "$L/src" "$M/rsynced"');
    expect(await shell('rsync -aHXi "$L/src/" "$M/rsynced/"')).toBe('');
    await shell('rsync -aHXi --checksum --delete "$L/src/" "$M/rsynced/"');
  });

  it.skipIf(!isInstalled('git'))('git clones, commits, repacks and finds no fault', async () => {
    await shell(`git init -q "$L/repo" && cd "$L/repo" && cp -r "$L/src/deep" . && rm -f deep/broken && git add -A && git commit -qm one &&
      for i in 1 2 3; do echo $i >> deep/f2; git commit -qam "more $i"; done`);
    await shell(`git clone -q "$L/repo" "$M/clone" && cd "$M/clone" && git fsck --strict --full && test -z "$(git status --porcelain)" &&
      git checkout -qb other && echo x > new && git add new && git commit -qm new && git gc -q && git fsck --full && test "$(git log --oneline | wc -l)" = 5`);
  });

  it.skipIf(!isInstalled('sqlite3'))('SQLite works with a rollback journal and with a write-ahead log', async () => {
    for (const mode of ['delete', 'wal']) {
      await shell(`sqlite3 "$M/${mode}.db" "pragma journal_mode=${mode}; create table t(a integer primary key, b text);"`);
      await shell(
        `for w in 1 2 3; do (for i in $(seq 1 15); do sqlite3 -cmd ".timeout 60000" "$M/${mode}.db" "begin immediate; insert into t(b) values('$w $i'); commit;"; done) & done; wait`,
      );
      expect(await shell(`sqlite3 "$M/${mode}.db" "select count(*), count(distinct b) from t; pragma integrity_check;"`)).toBe(
        '45|45\nok\n',
      );
    }
  });

  it.skipIf(!isInstalled('make') || !isInstalled('cc'))('make builds, and builds nothing the second time', async () => {
    await shell(`mkdir "$M/build" && cd "$M/build" && printf 'int f(void); int main(void) { return f(); }\\n' > main.c &&
      printf 'int f(void) { return 0; }\\n' > f.c && printf 'p: main.o f.o\\n\\tcc -o p main.o f.o\\n%%.o: %%.c\\n\\tcc -c -o $@ $<\\n' > Makefile && make && ./p`);
    expect(await shell('cd "$M/build" && make')).toMatch(/up to date/);
  });

  it.skipIf(!isInstalled('npm'))('npm ci installs a project', async () => {
    await shell(`mkdir -p "$M/project/dependency" && cd "$M/project" && echo '{"name":"dependency","version":"1.0.0","bin":"run.js"}' > dependency/package.json &&
      printf '#!/usr/bin/env node\\nconsole.log("it runs")\\n' > dependency/run.js && (cd dependency && npm pack --silent --offline) &&
      echo '{"name":"project","version":"1.0.0","dependencies":{"dependency":"file:dependency/dependency-1.0.0.tgz"}}' > package.json &&
      npm install --offline --no-audit --no-fund --silent --cache "$L/npm" && rm -rf node_modules && npm ci --offline --no-audit --no-fund --silent --cache "$L/npm"`);
    expect(await shell('"$M/project/node_modules/.bin/dependency"')).toBe('it runs\n');
  });

  it('dd syncs, truncate makes 10 TiB of nothing, and df and du tell the truth', async () => {
    await shell('dd if="$L/src/random" of="$M/dd" bs=64k conv=fsync status=none && cmp "$L/src/random" "$M/dd"');
    await shell(
      'dd if="$L/src/random" of="$M/direct" bs=64k oflag=direct iflag=fullblock count=40 status=none && cmp -n 2621440 "$L/src/random" "$M/direct"',
    );
    await shell(
      'truncate -s 10T "$M/huge" && test "$(stat -c %s "$M/huge")" = 10995116277760 && test "$(du -k "$M/huge" | cut -f1)" -lt 100',
    );
    expect(Number(await shell('df --output=avail "$M" | tail -1'))).toBeGreaterThan(0);
    await shell('cp --sparse=always "$M/huge" "$M/huge2" 2>/dev/null || true; rm -f "$M/huge" "$M/huge2"');
  });

  it('find, ln, mv, du and rm -rf take a tree from its making to its end', async () => {
    await shell(
      `mkdir -p "$M/tree" && cd "$M/tree" && for d in $(seq 1 15); do mkdir -p d$d/e; for f in $(seq 1 20); do echo $f > d$d/e/f$f; done; done`,
    );
    expect(await shell('find "$M/tree" -type f | wc -l')).toBe('300\n');
    expect(await shell('cat "$M"/tree/d*/e/f7 | sort -u')).toBe('7\n');
    await shell(
      'cd "$M/tree" && ln d1/e/f1 d2/linked && mv d1 d2/moved && test "$(cat d2/moved/e/f1)" = 1 && rm -rf d3 && cp -al d2 d2-links && rm -rf d2 && test "$(cat d2-links/moved/e/f2)" = 2',
    );
    await shell('rm -rf "$M/tree" && test ! -e "$M/tree"');
  });

  it('a save as editors do it (write aside, keep a backup, rename over) keeps the newest text', async () => {
    await shell(
      `cd "$M" && echo one > text && for i in 2 3 4 5; do echo $i > .text.swp && cp -p text text~ && mv -f text text~ && echo "$i" > text && sync text && rm .text.swp; done`,
    );
    expect(await shell('cat "$M/text" "$M/text~"')).toBe('5\n4\n');
    if (isInstalled('vim.tiny')) {
      await shell('cd "$M" && vim.tiny -u NONE -es -c "normal Ofrom vim" -c wq text < /dev/null; grep -q "from vim" text');
    }
  });

  it('flock(1) and a shell pipeline with >> from many writers lose nothing', async () => {
    await shell('cd "$M" && for w in 1 2 3 4; do (for i in $(seq 1 25); do flock lockfile sh -c "echo $w $i >> lines"; done) & done; wait');
    expect(await shell('sort -u "$M/lines" | wc -l')).toBe('100\n');
    await shell('cd "$M" && for w in 1 2 3 4; do (for i in $(seq 1 50); do echo "$w $i" >> plain; done) & done; wait');
    expect(await shell('sort -u "$M/plain" | wc -l; wc -l < "$M/plain"')).toBe('200\n200\n');
  });

  it('files are whole after the mount was stopped and started again', async () => {
    await shell('cp -a "$L/src" "$M/again" && sha256sum "$M/again/random" | cut -d" " -f1 > "$L/sum"');
    rig.processes[0]!.signal('SIGTERM');
    expect(await rig.processes[0]!.ended()).toBe(0);
    const other = new MountProcess(rig.mountArguments(mount), mount);
    try {
      await other.ready();
      await shell(
        'test "$(sha256sum < "$M/again/random" | cut -d" " -f1)" = "$(cat "$L/sum")" && diff -r --no-dereference -x fifo "$L/src" "$M/again"',
      );
    } finally {
      await other.stop();
    }
  });
});
