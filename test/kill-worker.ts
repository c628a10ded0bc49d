/**
 * The writer of the kill loop: makes, replaces, renames and deletes files as fast as it can, and writes down outside the cluster what it intends
 * before and what was answered after. Arguments: coordinator URL, token file, manifest, prefix of its names.
 */
import { createHash, randomBytes } from 'node:crypto';
import { appendFileSync, readFileSync } from 'node:fs';
import { connect } from '../client/index.js';

const [coordinatorUrl = '', tokenFile = '', manifest = '', prefix = ''] = process.argv.slice(2);
const note = (line: string): void => appendFileSync(manifest, `${line}\n`);
const NAMES = 40;
const AS = { uid: 0, gid: 0 };

const cluster = await connect({
  coordinatorUrl,
  token: readFileSync(tokenFile, 'utf8').trim(),
  description: `kill worker ${prefix}`,
  outageTimeoutMs: 60_000,
});
const { tree } = cluster;

async function save(name: string): Promise<void> {
  const content = randomBytes(Math.random() < 0.1 ? 1_500_000 : 1 + Math.floor(Math.random() * 20_000));
  const sum = createHash('sha256').update(content).digest('hex');
  const temporary = `${name}.tmp${randomBytes(6).toString('hex')}`;
  const created = await tree.create({ parent: tree.root, name: temporary, kind: 'file', mode: 0o644, as: AS, exclusive: true });
  const handle = await cluster.open(created.attributes.inode);
  await handle.write(0, content);
  await handle.flush();
  await handle.release();
  note(`try ${name} ${sum}`);
  await tree.rename({ parent: tree.root, name: temporary }, { parent: tree.root, name }, 'replace', AS);
  note(`ok ${name} ${sum}`);
}
async function remove(name: string): Promise<void> {
  if ((await tree.lookup(tree.root, name)) === null) return;
  note(`try ${name} -`);
  await tree.unlink(tree.root, name, AS);
  note(`ok ${name} -`);
}
async function lane(first: number): Promise<never> {
  for (;;) {
    // Each name belongs to one lane, so the manifest tells the order.
    const name = `${prefix}${first + 2 * Math.floor(Math.random() * NAMES)}`;
    await (Math.random() < 0.8 ? save(name) : remove(name));
  }
}
await Promise.all([lane(0), lane(1)]);
