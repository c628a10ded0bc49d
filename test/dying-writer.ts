/**
 * A client that is to die between upload and commit. Arguments: coordinator URL (a proxy), token file. Says "ready" when everything but the flush is
 * done, and flushes when it is told anything.
 */
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { connect } from '../client/index.js';

const [coordinatorUrl = '', tokenFile = ''] = process.argv.slice(2);
const cluster = await connect({ coordinatorUrl, token: readFileSync(tokenFile, 'utf8').trim(), description: 'dying writer' });
const { tree } = cluster;
const { attributes } = await tree.create({
  parent: tree.root,
  name: 'never-committed',
  kind: 'file',
  mode: 0o644,
  as: { uid: 0, gid: 0 },
  exclusive: true,
});
const handle = await cluster.open(attributes.inode);
// Small chunks are sent without asking the coordinator first whether they are there already.
await handle.write(0, randomBytes(100_000));
process.stdout.write('ready\n');
await new Promise((resolve) => process.stdin.once('data', resolve));
await handle.flush();
process.stdout.write('committed\n');
