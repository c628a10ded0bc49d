/**
 * Peers that mean harm, one kind after the other, against real processes: S1 to S14 by hand, so that each has its exact answer; test/fuzz.e2e.test.ts
 * does the same by chance. What users must not learn of each other (S12) is in users.e2e.test.ts, revocation (S8) too.
 */
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { connect as connectTcp, type Socket } from 'node:net';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { WebSocket } from 'undici';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Cluster } from '../client/index.js';
import { buildChunk } from '../protocol/chunk.js';
import type { Welcome } from '../protocol/client-calls.js';
import { MAX_PUT_BODY_BYTES, PROTOCOL_VERSION } from '../protocol/limits.js';
import { accessKeyOf, type Permit, sign } from '../protocol/permit.js';
import { socketDialer } from '../protocol/socket.js';
import { programFile } from '../scripts/cluster.js';
import { memoryOf, residentMib, restingMib } from './fuzz/campaign.js';
import { codeOf, PATIENCE_MS, ProcessRig, random, readFile, waitUntil, writeFile } from './process-rig.js';
import { RogueNode } from './rogue-node.js';
import { type Ended, runProgram } from './run-program.js';

const MOST_GROWTH_MIB = 100;
const MIB = 1024 * 1024;
const SLOW_PEERS = 300;
const RESTING_MS = 2000;
/** Calls of a flood at one time: nearly as many as one connection may have. */
const LANES = 4000;

let rig: ProcessRig;
let client: Cluster;
let nodeUrl: string;
let permit: string;
let chunk: string;
let pids: (number | undefined)[];
let floods = 0;
/** Connections that say little: made first, and looked at last, when they must have been cut off. */
const slow: { socket: Socket; isClosed: () => boolean }[] = [];

const handshake = (token?: string): Record<string, unknown> => ({
  ...{ protocol: PROTOCOL_VERSION, clientSecret: random(32).toString('hex'), description: 'hostile' },
  ...(token === undefined ? {} : { token }),
});
const adminToken = (): string => readFileSync(rig.cluster.adminTokenFile, 'utf8').trim();
const nodeToken = (): string => readFileSync(rig.cluster.nodeTokenFile, 'utf8').trim();
/** Another address of this machine: what it takes is not taken from the good ones. */
const tcp = (url: string, localAddress = '127.0.0.1'): Socket => {
  const { hostname, port } = new URL(url);
  const socket = connectTcp({ port: Number(port), host: hostname, localAddress });
  socket.on('error', () => {}); // 'close' follows
  return socket;
};
const closed = (socket: Socket): Promise<void> => new Promise((resolve) => socket.once('close', () => resolve()));
/** One request as bytes, so that no library corrects it; the answer up to the end of the connection, or its first bytes. */
async function raw(start: string, body?: Buffer): Promise<string> {
  const socket = tcp(nodeUrl);
  const heard = new Promise<string>((resolve) => socket.once('data', (bytes: Buffer) => resolve(bytes.toString('latin1'))));
  socket.write(start);
  if (body) socket.write(body);
  const answer = await Promise.race([heard, closed(socket).then(() => 'closed without an answer')]);
  socket.destroy();
  return answer;
}
const head = (method: string, path: string, bearer: string | undefined, more = ''): string =>
  `${method} ${path} HTTP/1.1\r\nhost: x\r\n${bearer === undefined ? '' : `authorization: Bearer ${bearer}\r\n`}${more}\r\n`;
const ask = async (method: string, path: string, bearer: string | undefined, body?: Buffer, headers: Record<string, string> = {}) => {
  const reply = await fetch(nodeUrl + path, {
    method,
    headers: { ...(bearer === undefined ? {} : { authorization: `Bearer ${bearer}` }), ...headers },
    ...(body ? { body: new Uint8Array(body) } : {}),
  });
  return { status: reply.status, text: await reply.text() };
};
const filesOfNodes = (): number => rig.cluster.nodeNames.reduce((sum, name) => sum + rig.chunkFiles(name).length, 0);

beforeAll(async () => {
  rig = await ProcessRig.start({ nodes: 2 });
  for (const url of [rig.cluster.url, rig.cluster.nodeUrl('n1')]) {
    for (let i = 0; i < SLOW_PEERS; i++) {
      const socket = tcp(url, '127.0.0.2');
      let isClosed = false;
      socket.once('close', () => {
        isClosed = true;
      });
      // Whatever is said to it, so that its end is seen.
      socket.resume();
      // A third says nothing, a third half a head, a third promises a body.
      if (i % 3 === 1) socket.write('GET /healthz HTTP/1.1\r\nhost: x\r\nx-slow: ');
      if (i % 3 === 2) socket.write('GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nhost: x\r\ncontent-le');
      slow.push({ socket, isClosed: () => isClosed });
    }
  }
  client = await rig.client();
  nodeUrl = rig.cluster.nodeUrl('n1');
  await writeFile(client, 'kept', Buffer.concat([Buffer.from('kept'), random(300_000)]), true);
  chunk = (await rig.cluster.admin('stat', { path: '/kept' })).chunks[0]?.id ?? '';
  const connection = await socketDialer(rig.cluster.url).dial('client', handshake(adminToken()), 20_000);
  permit = ((await connection.call({ method: 'hello', args: {} }, 20_000)) as Welcome).permit;
  connection.close('has its permit');
  pids = rig.processes().map(({ pid }) => pid);
  await rig.waitForOrder();
  // Files of nodes are counted below: what is to leave the log for a file of its own has left it.
  const hasFile = (name: string): boolean => rig.chunkFiles(name).some((path) => path.endsWith(chunk));
  expect(await waitUntil(() => rig.cluster.nodeNames.every(hasFile), PATIENCE_MS, 100)).toBe(true);
}, 180_000);
afterAll(async () => {
  for (const { socket } of slow) socket.destroy();
  expect(rig.processes().map(({ pid }) => pid)).toEqual(pids);
  await rig.stop();
}, PATIENCE_MS);

describe('a stranger', () => {
  it('S1 without a token, or with a wrong one, is refused at the handshake in every namespace, and no call of his is answered', async () => {
    const before = await rig.cluster.status();
    for (const namespace of ['client', 'node', 'admin'] as const)
      for (const token of [undefined, '', 'x', `${adminToken()}x`, adminToken().slice(1), '0'.repeat(600), permit]) {
        const code = await codeOf(socketDialer(rig.cluster.url).dial(namespace, handshake(token), 20_000));
        expect(['UNAUTHORIZED', 'BAD_MESSAGE']).toContain(code);
      }
    const socket = new WebSocket(`${rig.cluster.url.replace('http', 'ws')}/socket.io/?EIO=4&transport=websocket`);
    const heard: string[] = [];
    socket.addEventListener('message', ({ data }) => heard.push(String(data)));
    socket.addEventListener('error', () => {}); // 'close' follows
    const end = new Promise((resolve) => socket.addEventListener('close', resolve));
    await new Promise((resolve) => socket.addEventListener('open', resolve));
    socket.send('42/admin,1["call",{"method":"status","args":{}}]');
    socket.send('42/client,2["call",{"method":"hello","args":{}}]');
    await end;
    expect(heard.filter((text) => text.startsWith('43'))).toEqual([]);
    expect((await rig.cluster.status()).clients).toBe(before.clients);
  });

  it('S2 S7 without a permit, or with a forged one, gets 401 from a node, the same whether the chunk exists or not', async () => {
    const [claims = '', mac = ''] = permit.split('.');
    const said = JSON.parse(Buffer.from(claims, 'base64url').toString()) as Permit;
    const encoded = (change: object): string => Buffer.from(JSON.stringify({ ...said, ...change })).toString('base64url');
    const forged = [
      undefined,
      '',
      'x',
      permit.slice(0, -5),
      `${claims}.`,
      `${claims}.${mac.slice(0, 10)}`,
      `${claims}.${Buffer.alloc(32).toString('base64url')}`,
      `${encoded({ alg: 'none' })}.`,
      `${encoded({ volume: 0 })}.${mac}`,
      `${Buffer.from('{"alg":"none"}').toString('base64url')}.${encoded({})}.`,
      sign(random(32), said),
      sign(accessKeyOf(nodeToken(), 'another'), { ...said, cluster: 'another' }),
      sign(accessKeyOf(nodeToken(), said.cluster), { ...said, cluster: 'another' }),
    ];
    for (const one of forged)
      for (const method of ['GET', 'HEAD', 'PUT', 'DELETE', 'POST']) {
        const body = method === 'PUT' || method === 'POST' ? Buffer.from('x') : undefined;
        const [here, absent] = await Promise.all([
          ask(method, `/chunks/${chunk}`, one, body),
          ask(method, `/chunks/${'f'.repeat(64)}`, one, body),
        ]);
        expect(here.status, `${method} ${one}`).toBe(401);
        expect(here).toEqual(absent);
      }
    expect((await ask('GET', '/metrics', undefined)).status).toBe(401);
    expect((await fetch(`${rig.cluster.url}/metrics`)).status).toBe(401);
    const metricsToken = readFileSync(join(rig.cluster.coordinatorData, 'metrics-token'), 'utf8').trim();
    const seen = await Promise.all(
      [nodeUrl, rig.cluster.url].map(
        async (url) => (await fetch(`${url}/metrics`, { headers: { authorization: `Bearer ${metricsToken}` } })).status,
      ),
    );
    expect(seen).toEqual([200, 200]);
    expect((await ask('GET', `/chunks/${chunk}`, metricsToken)).status).toBe(401);
  });

  it('S8 with a permit that was good once, or for something else, is refused', async () => {
    const [claims = ''] = permit.split('.');
    const said = JSON.parse(Buffer.from(claims, 'base64url').toString()) as Permit;
    const key = accessKeyOf(nodeToken(), said.cluster);
    const made = (change: Partial<Permit>): string => sign(key, { ...said, ...change });
    expect((await ask('GET', `/chunks/${chunk}`, made({}))).status).toBe(200);
    expect(await ask('GET', `/chunks/${chunk}`, made({ generation: said.generation - 11 }))).toMatchObject({
      status: 401,
      text: expect.stringContaining('PERMIT_EXPIRED'),
    });
    expect((await ask('GET', `/chunks/${chunk}`, made({ volume: 77 }))).status).toBe(404);
    const mine = buildChunk(Buffer.from('mine'), said.volume);
    const body = Buffer.concat([mine.header, Buffer.from('mine')]);
    expect((await ask('PUT', `/chunks/${mine.id}`, made({ access: 'read' }), body)).status).toBe(403);
    expect((await ask('PUT', `/chunks/${mine.id}`, made({ volume: 77 }), body)).status).toBe(403);
    expect((await ask('GET', '/metadata/list', made({}))).status).toBe(403);
    expect((await ask('PUT', '/metadata/snapshot-9-9?epoch=9', made({}), body)).status).toBe(403);
  });
});

describe('a user', () => {
  it('S3 who names ids that are none gets 400, and no file beyond the chunks is touched', async () => {
    const before = readdirSync(rig.cluster.nodeData('n1')).sort();
    const ids = [
      ...['..%2f..%2fidentity.json', '../identity.json', '../../../../etc/passwd', '/etc/passwd', '%00', 'a%00b', '..', '.'],
      ...[chunk.slice(1), `${chunk}0`, chunk.toUpperCase(), `${chunk.slice(0, 63)}g`, `${chunk}%2f..`, `${chunk}/`, 'x'.repeat(5000)],
    ];
    for (const id of ids)
      for (const method of ['GET', 'PUT', 'HEAD', 'DELETE']) {
        const answer = await raw(
          head(method, `/chunks/${id}`, permit, method === 'PUT' ? 'content-length: 1\r\n' : ''),
          method === 'PUT' ? Buffer.from('x') : undefined,
        );
        expect(answer, `${method} ${id}`).toMatch(/^HTTP\/1\.1 400 /);
        expect(answer).not.toContain('cluster":');
        expect(answer).not.toContain('root:');
      }
    expect(readdirSync(rig.cluster.nodeData('n1')).sort()).toEqual(before);
  });

  it('S4 S5 S9 who sends bytes that do not match, more than there may be, or packed ones, gets 422, 413, 415; nothing is stored, memory stays flat', async () => {
    const filesBefore = filesOfNodes();
    const before = await restingMib(RESTING_MS, () => memoryOf(rig));
    const wrong = 'e'.repeat(64);
    const good = buildChunk(Buffer.from('content'), 1);
    const encoded = Buffer.concat([good.header, Buffer.from('content')]);
    expect((await ask('PUT', `/chunks/${wrong}`, permit, encoded)).status).toBe(422);
    expect((await ask('HEAD', `/chunks/${wrong}`, permit)).status).toBe(404);
    expect(await raw(head('PUT', `/chunks/${good.id}`, permit, `content-length: ${MAX_PUT_BODY_BYTES + 1}\r\n`))).toMatch(
      /^HTTP\/1\.1 413 /,
    );
    expect(await raw(head('PUT', `/chunks/${good.id}`, permit, 'content-length: 999999999999\r\n'))).toMatch(/^HTTP\/1\.1 413 /);
    const bomb = gzipSync(Buffer.alloc(100 * MIB));
    for (const encoding of ['gzip', 'br', 'identity'])
      expect((await ask('PUT', `/chunks/${good.id}`, permit, bomb, { 'content-encoding': encoding })).status).toBe(415);
    // Endless ones, several at once: the node hangs up on each.
    const piece = Buffer.concat([Buffer.from('100000\r\n'), Buffer.alloc(MIB), Buffer.from('\r\n')]);
    await Promise.all(
      Array.from({ length: 4 }, async () => {
        const socket = tcp(nodeUrl);
        const end = closed(socket);
        socket.write(head('PUT', `/chunks/${good.id}`, permit, 'transfer-encoding: chunked\r\n'));
        let sentMib = 0;
        const send = (): void => {
          for (; sentMib < 500 && !socket.destroyed; sentMib++)
            if (!socket.write(piece)) {
              socket.once('drain', send);
              return;
            }
        };
        send();
        await end;
        expect(sentMib).toBeLessThan(100);
      }),
    );
    expect((await ask('HEAD', `/chunks/${good.id}`, permit)).status).toBe(404);
    expect(filesOfNodes()).toBe(filesBefore);
    for (const [name, mib] of Object.entries(await restingMib(RESTING_MS, () => memoryOf(rig))))
      expect(mib - (before[name] ?? 0), `growth of ${name} in MiB`).toBeLessThan(MOST_GROWTH_MIB);
  });

  it('S10 who sends eleven attachments, deep nesting or polluted objects ends his own connection at most', async () => {
    const packets = [
      `4511-/client,1["call"${',{"_placeholder":true,"num":0}'.repeat(11)}]`,
      `42/client,2["call",{"method":"lookup","args":${'['.repeat(500_000)}${']'.repeat(500_000)}}]`,
      '42/client,3["call",{"method":"hello","args":{"__proto__":{"access":"admin"}},"__proto__":{"request":1}}]',
      '42/client,4["call",{"method":"__proto__","args":{}}]',
      '42/client,5["disconnecting"]',
      'b4AAAA',
      '4'.repeat(100_000),
    ];
    for (const packet of packets) {
      const socket = new WebSocket(`${rig.cluster.url.replace('http', 'ws')}/socket.io/?EIO=4&transport=websocket`);
      socket.addEventListener('error', () => {}); // 'close' follows
      const answered = new Promise((resolve) => {
        socket.addEventListener('close', resolve);
        socket.addEventListener('message', ({ data }) => {
          const text = String(data);
          if (text.startsWith('0{')) socket.send(`40/client,${JSON.stringify(handshake(adminToken()))}`);
          else if (text.startsWith('40/client')) {
            socket.send(packet);
            socket.send('42/client,99["call",{"method":"renew","args":{}}]');
          } else if (text.startsWith('43/client,99')) resolve(undefined);
        });
      });
      await answered;
      socket.close();
    }
    expect(({} as { access?: string }).access).toBeUndefined();
    expect((await rig.cluster.status()).epoch).toBe(1);
  });

  it('S11 who floods the coordinator does not keep others from being answered', async () => {
    const { token } = await rig.cluster.admin('createUser', { user: `flood-${++floods}` });
    const flood = await socketDialer(rig.cluster.url).dial('client', handshake(token.token), 20_000);
    const { volume } = (await flood.call({ method: 'hello', args: {} }, 20_000)) as Welcome;
    let isOver = false;
    let answered = 0;
    const lane = async (): Promise<void> => {
      while (!isOver && flood.isOpen)
        await flood.call({ method: 'readDirectory', args: { inode: volume.root, after: '', limit: 1000 } }, 60_000).then(
          () => answered++,
          () => {}, // Refused: not counted.
        );
    };
    const own = await socketDialer(rig.cluster.url).dial('admin', handshake(adminToken()), 20_000);
    const lanes = Array.from({ length: LANES }, lane);
    /** How many calls of the flood were answered while one of somebody else waited. */
    const passed: number[] = [];
    const untilMs = performance.now() + PATIENCE_MS / 2;
    try {
      while (performance.now() < untilMs && (passed.length < 41 || answered <= LANES)) {
        const before = answered;
        await own.call({ method: 'listVolumes', args: {} }, 60_000);
        passed.push(answered - before);
      }
    } finally {
      isOver = true;
      await Promise.all(lanes);
      flood.close('enough');
      own.close('enough');
    }
    expect(answered).toBeGreaterThan(LANES);
    // Without turns a whole round of the lanes is before each call, and nearly none with them. Counted, since times tell more of the machine; a quarter
    // of them, since this process, which takes in the answers of both, adds rounds of its own when it is kept waiting.
    expect(passed.sort((a, b) => a - b)[passed.length >> 2]).toBeLessThan(LANES);
  });
});

describe('a node', () => {
  it('S13 that lies is read past: never other bytes, no redirect followed, nothing endless taken', { timeout: 180_000 }, async () => {
    const rogue = await RogueNode.start(rig.cluster.url, nodeToken(), nodeUrl);
    try {
      await rig.cluster.waitFor(({ nodes }) => nodes.some(({ name, state }) => name === 'rogue' && state === 'up'), PATIENCE_MS);
      const ownMib = async (): Promise<number> => (await restingMib(RESTING_MS, () => ({ own: residentMib(process.pid) }))).own;
      const before = await ownMib();
      const contents = Array.from({ length: 30 }, (_, i) => random(1000 + i * 20_000));
      const writer = await rig.client();
      for (const [i, content] of contents.entries()) await writeFile(writer, `past-${i}`, content, true);
      await rig.close(writer);
      // Somebody with nothing in his cache.
      const reader = await rig.client();
      for (const [i, content] of contents.entries()) expect(content.equals(await readFile(reader, `past-${i}`)), `past-${i}`).toBe(true);
      expect([...rogue.told.values()].reduce((sum, count) => sum + count, 0)).toBeGreaterThan(0);
      expect((await ownMib()) - before).toBeLessThan(300);
      await rig.close(reader);
    } finally {
      rogue.stop();
      await rig.cluster.admin('removeNode', { node: 'rogue', evenIfDataIsLost: 'rogue' }).catch(() => {}); // The cluster goes away anyway.
    }
  });
});

describe('secrets', () => {
  it('S14 are in files of mode 0600 and nowhere else: no log, no argument, no variable, no database, no error', async () => {
    const { cluster } = rig;
    const passphrase = `passphrase-${random(12).toString('hex')}`;
    const file = (name: string, content: string): string => {
      const path = join(rig.directory, name);
      writeFileSync(path, content, { mode: 0o600 });
      return path;
    };
    const passphraseFile = file('passphrase', `${passphrase}\n`);
    const user = (await cluster.admin('createUser', { user: 'greta' })).token.token;
    const joinToken = (await cluster.admin('createJoinToken', {})).token.token;
    const metricsToken = readFileSync(join(cluster.coordinatorData, 'metrics-token'), 'utf8').trim();
    const accessKey = accessKeyOf(nodeToken(), (await cluster.status()).cluster);
    const secrets = [
      adminToken(),
      nodeToken(),
      user,
      joinToken,
      metricsToken,
      passphrase,
      accessKey.toString('hex'),
      accessKey.toString('base64url'),
    ];
    const run = (...args: string[]): Promise<Ended> =>
      runProgram(process.execPath, [programFile, ...args], { env: { HOLDFAST_STATE: cluster.stateDirectory } });
    const ended = await Promise.all([
      run('volume', 'create', 'sealed', '--encrypt', '--passphrase-file', passphraseFile),
      // Each goes wrong with a secret in its hand.
      run('list', '--token-file', file('wrong', `${user}x\n`)),
      run('list', '--volume', 'nothing', '--token-file', file('right', `${user}\n`)),
      run('cat', '/none', '--volume', 'sealed', '--passphrase-file', passphraseFile),
      run(
        'node',
        '--data',
        join(rig.directory, 'nowhere'),
        '--name',
        'x',
        '--coordinator',
        cluster.url,
        '--join-token-file',
        file('join', `${joinToken}x`),
      ),
    ]);
    for (const { stdout, stderr } of ended) for (const secret of secrets) expect(stdout + stderr).not.toContain(secret);
    const patterns = file('patterns', `${secrets.join('\n')}\n`);
    const found = (await grep(patterns, cluster.stateDirectory)).map((path) => path.slice(cluster.stateDirectory.length + 1)).sort();
    const keepers = ['admin-token', 'metrics-token', 'node-token'].map((name) => `coordinator/data/${name}`);
    expect(found).toEqual([...keepers, 'tokens/admin-token', 'tokens/node-token'].sort());
    for (const path of found) expect(statSync(join(cluster.stateDirectory, path)).mode & 0o777, path).toBe(0o600);
    for (const { pid } of rig.processes())
      for (const what of ['cmdline', 'environ']) {
        const text = readFileSync(`/proc/${pid}/${what}`, 'latin1');
        for (const secret of secrets) expect(text.includes(secret), `/proc/${pid}/${what}`).toBe(false);
      }
    const events = JSON.stringify(await cluster.admin('events', { after: 0, limit: 1000 }));
    for (const secret of secrets) expect(events).not.toContain(secret);
  });
});

describe('peers that are slow on purpose', () => {
  it('S6 have been cut off by now, and everybody else was served meanwhile', { timeout: 180_000 }, async () => {
    expect(await waitUntil(() => slow.every(({ isClosed }) => isClosed()), PATIENCE_MS, 100)).toBe(true);
    expect((await readFile(client, 'kept')).subarray(0, 4).toString()).toBe('kept');
    await rig.waitForOrder();
  });
});

/** Files below a directory that hold one of the lines of `patterns`. */
function grep(patterns: string, directory: string): Promise<string[]> {
  // Its exit code is 1 when nothing is found.
  const found = execFileSync('sh', ['-c', `grep -rlaF -f '${patterns}' '${directory}' || true`]).toString();
  return Promise.resolve(found.split('\n').filter(Boolean));
}
