// Applies scripts/fuse-native.patch to the FUSE binding and compiles it, once.
//
// The patch hands the kernel's requests to JavaScript by inode (its head says why); the binding alone knows only paths. Run again, this
// does nothing until the patch, the binding or Node's ABI changes.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const bindingDir = join(root, 'node_modules', 'fuse-native');
const patchFile = join(root, 'scripts', 'fuse-native.patch');
const source = join(bindingDir, 'fuse-native.c');
// Inside build/, so that whoever compiles the binding anew removes the stamp too.
const stampFile = join(bindingDir, 'build', '.holdfast-patched');

function fail(what, result) {
  const output = result ? `${result.stdout ?? ''}${result.stderr ?? ''}${result.error?.message ?? ''}` : '';
  console.error(`patch-fuse: ${what}\n${output}`);
  process.exit(1);
}

function run(command, args, options = {}) {
  return spawnSync(command, args, { encoding: 'utf8', cwd: bindingDir, ...options });
}

/** What the compiled binding depends on: patched source, this patch, Node's ABI and the processor. */
function fingerprint() {
  const hash = createHash('sha256');
  for (const file of [patchFile, source]) hash.update(readFileSync(file));
  hash.update(`${process.platform} ${process.arch} ${process.versions.modules}`);
  return hash.digest('hex');
}

if (!existsSync(source)) fail(`${source} is missing: run npm ci first`);
const binary = join(bindingDir, 'build', 'Release', 'fuse.node');
if (existsSync(stampFile) && existsSync(binary) && readFileSync(stampFile, 'utf8') === fingerprint()) process.exit(0);

const patch = ['-p1', '--batch', '--silent', '--reject-file=-', '-i', patchFile];
const alreadyApplied = run('patch', ['--reverse', '--dry-run', '--force', ...patch]).status === 0;
if (!alreadyApplied) {
  // --forward makes a patch that does not fit an error instead of a question.
  const applied = run('patch', ['--forward', '--no-backup-if-mismatch', ...patch]);
  if (applied.status !== 0) fail('scripts/fuse-native.patch does not fit the installed binding', applied);
}

// Node's own headers when they are installed beside it; node-gyp downloads them otherwise.
const nodePrefix = dirname(dirname(process.execPath));
const env = { ...process.env };
if (!env.npm_config_nodedir && existsSync(join(nodePrefix, 'include', 'node', 'node.h'))) {
  env.npm_config_nodedir = nodePrefix;
}
const nodeGyp = join(root, 'node_modules', 'node-gyp', 'bin', 'node-gyp.js');
const built = run(process.execPath, [nodeGyp, 'rebuild', '--silent'], { env });
if (built.status !== 0) fail('the patched FUSE binding did not compile (libfuse3-dev, pkg-config, g++, python3?)', built);
if (!existsSync(binary)) fail(`the compiler reported success but ${binary} is missing`, built);
writeFileSync(stampFile, fingerprint());
