/** Certificates by token, over real TLS on the loopback: who gets one, for what, and that nothing else is open to who has none. */
import { generateKeyPairSync, randomBytes, X509Certificate } from 'node:crypto';
import { mkdtemp, rm, stat } from 'node:fs/promises';
import { Agent, request as httpsRequest } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect as connectTls } from 'node:tls';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type AdminConnection, connectAdmin } from '../client/admin.js';
import { connect } from '../client/index.js';
import { peerTls } from '../client/own-certificate.js';
import { type RunningCoordinator, startCoordinator } from '../coordinator/server.js';
import { diskNodeState, memoryNodeState } from '../node/node-state.js';
import { ownCertificate } from '../node/own-certificate.js';
import { type RunningNode, startNode } from '../node/start.js';
import { issueCertificate, keyPair, newAuthority } from '../protocol/certificate.js';
import { askForCertificate, authorityOf, fetchAuthority, fingerprintOf, secretOf, signRequest } from '../protocol/enrolment.js';
import { realEnvironment } from '../protocol/environment.js';
import type { PeerTls } from '../protocol/tls.js';
import { waitFor } from './in-process-cluster.js';

const nowMs = Date.now();
const authority = newAuthority('Holdfast cluster test', nowMs, randomBytes(16));
const stranger = newAuthority('Holdfast cluster stranger', nowMs, randomBytes(16));
const issued = (name: string, hosts: string[]): PeerTls => ({
  ca: authority.cert,
  ...issueCertificate(authority, name, hosts, nowMs, randomBytes(16)),
});
let directory: string;
let coordinator: RunningCoordinator;
let admin: AdminConnection;
const nodes: RunningNode[] = [];

const joinToken = async (hosts?: string[]): Promise<string> =>
  (await admin.call('createJoinToken', hosts === undefined ? {} : { hosts })).token.token;
/** As a node asks, without one. */
const askAs = (
  token: string,
  hosts: string[],
  { name = 'x1', key = keyPair().pem, role = 'node' as 'node' | 'client' } = {},
): Promise<string> => askForCertificate(coordinator.url, authority.cert, key, signRequest({ token, role, name, hosts }, key));
const get = (path: string, options: object, method = 'GET'): Promise<number> =>
  new Promise((resolve, reject) => {
    const request = httpsRequest(new URL(path, coordinator.url), { ca: authority.cert, method, ...options }, (response) => {
      response.resume();
      resolve(response.statusCode ?? 0);
    });
    request.on('upgrade', (_response, socket) => {
      socket.destroy();
      resolve(101);
    });
    request.on('error', reject);
    request.end();
  });

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'holdfast-enrolment-'));
  coordinator = await startCoordinator({
    ...{ data: join(directory, 'coordinator'), host: '127.0.0.1', port: 0 },
    ...{ tls: issued('coordinator', ['127.0.0.1']), authorityKey: authority.key },
  });
  admin = await connectAdmin({
    ...{ coordinatorUrl: coordinator.url, token: coordinator.adminToken, description: 'test', tls: issued('admin', []) },
  });
});
afterAll(async () => {
  admin?.close();
  for (const node of nodes) await node.stop();
  await coordinator?.stop();
  await rm(directory, { recursive: true, force: true });
});

describe('a token of a coordinator that gives certificates', () => {
  it('names the authority, and another one is not believed: the token stays unsaid', async () => {
    const token = await joinToken();
    expect(authorityOf(token)).toBe(fingerprintOf(authority.cert));
    expect(await fetchAuthority(coordinator.url, token)).toBe(authority.cert);
    const other = `${secretOf(token)}.${fingerprintOf(stranger.cert)}`;
    await expect(fetchAuthority(coordinator.url, other)).rejects.toMatchObject({
      code: 'UNAUTHORIZED',
      message: expect.stringContaining('not sent'),
    });
    await expect(askForCertificate(coordinator.url, stranger.cert, keyPair().pem, {} as never)).rejects.toMatchObject({
      code: 'UNREACHABLE',
    });
  });

  it('lets a node in that has nothing but a join token, once; its key stays with it, and a restart needs no token', async () => {
    const environment = realEnvironment();
    const data = join(directory, 'n1');
    const token = await joinToken(['127.0.0.1']);
    const state = memoryNodeState();
    const parts = { state, environment, coordinator: coordinator.url, name: 'n1', hosts: ['127.0.0.1'], token, ca: undefined };
    const tls = await ownCertificate(parts);
    expect(tls).toMatchObject({ ca: authority.cert });
    const certificate = new X509Certificate(tls?.cert ?? '');
    expect([certificate.subject, certificate.subjectAltName]).toEqual(['CN=n1', 'IP Address:127.0.0.1']);
    // Whoever has seen the token gets none for a key of his own; the same key gets it again, should a reply be lost.
    await expect(askAs(token, ['127.0.0.1'], { name: 'n1' })).rejects.toMatchObject({ code: 'UNAUTHORIZED' });
    await askAs(token, ['127.0.0.1'], { name: 'n1', key: tls?.key ?? '' });
    const node = await startNode({
      ...{ data, name: 'n1', coordinator: coordinator.url, joinToken: token, reserveBytes: 1024 * 1024, ...(tls ? { tls } : {}) },
    });
    nodes.push(node);
    await waitFor(() => node.isRegistered, 'the node');
    expect(await ownCertificate({ ...parts, token: undefined })).toEqual(tls);
    // Used up: it neither lets another in nor gets it a certificate.
    await expect(askAs(token, ['127.0.0.1'], { name: 'n2' })).rejects.toMatchObject({ code: 'UNAUTHORIZED' });
    await diskNodeState(data).save('certificate', { format: 1, key: tls?.key, ca: tls?.ca, cert: tls?.cert });
    expect((await stat(join(data, 'certificate.json'))).mode & 0o777).toBe(0o600);
  });

  it('gets nobody the name of another machine, or more names than it was made for', async () => {
    const refused = { code: 'REFUSED', message: expect.stringContaining('--host') };
    await expect(askAs(await joinToken(), ['127.0.0.1'])).rejects.toMatchObject(refused);
    const named = await joinToken(['shelf', '10.0.0.9']);
    await expect(askAs(named, ['other'])).rejects.toMatchObject(refused);
    const key = keyPair().pem;
    const cert = new X509Certificate(await askAs(named, ['shelf', '10.0.0.9'], { key }));
    expect(cert.subjectAltName).toBe('DNS:shelf, IP Address:10.0.0.9');
    expect(cert.ca).toBe(false);
    await expect(askAs(await joinToken(['shelf']), ['shelf'], { name: 'n1' })).rejects.toMatchObject({
      code: 'REFUSED',
      message: expect.stringContaining('n1'),
    });
    await expect(askAs(await joinToken(['shelf']), [])).rejects.toMatchObject({ code: 'EINVAL' });
    await expect(askAs('hf-join-guess', ['shelf'])).rejects.toMatchObject({ code: 'UNAUTHORIZED' });
  });

  it('is for keys on P-256 that the asker has', async () => {
    const token = await joinToken();
    const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
    await expect(askAs(token, ['shelf'], { key: rsa })).rejects.toMatchObject({
      code: 'EINVAL',
      message: expect.stringContaining('P-256'),
    });
    const key = keyPair().pem;
    const request = signRequest({ token, role: 'node', name: 'x1', hosts: ['shelf'] }, key);
    await expect(askForCertificate(coordinator.url, authority.cert, key, { ...request, hosts: ['else'] })).rejects.toMatchObject({
      code: 'EINVAL',
    });
  });

  it('gives a user a certificate that serves nothing, by himself, and again from what was kept', async () => {
    const { token } = await admin.call('createUser', { user: 'anna' });
    const env = { XDG_CONFIG_HOME: join(directory, 'config') };
    const tls = await peerTls(coordinator.url, token.token, {}, env);
    const certificate = new X509Certificate(tls.cert ?? '');
    expect([certificate.subject, certificate.subjectAltName, certificate.keyUsage]).toEqual(['CN=anna', undefined, ['1.3.6.1.5.5.7.3.2']]);
    expect(await peerTls(coordinator.url, token.token, {}, env)).toEqual(tls);
    const cluster = await connect({ coordinatorUrl: coordinator.url, token: token.token, description: 'test', tls });
    await cluster.close();
    await admin.call('revokeToken', { user: 'anna' });
    await expect(askAs(token.token, [], { role: 'client' })).rejects.toMatchObject({ code: 'UNAUTHORIZED' });
    // A user's token is none for nodes.
    const { token: second } = await admin.call('createToken', { user: 'anna' });
    await expect(askAs(second.token, ['shelf'])).rejects.toMatchObject({ code: 'UNAUTHORIZED' });
  });
});

describe('who has no certificate', () => {
  it('gets the authority and the desk, and nothing else, also with a TLS session that is resumed', async () => {
    expect(await get('/ca.pem', {})).toBe(200);
    expect(await get('/healthz', issued('someone', []))).toBe(200);
    for (const path of ['/metrics', '/healthz', '/readyz']) expect(await get(path, {}), path).toBe(403);
    expect(await get('/healthz', issueCertificate(stranger, 'x', [], nowMs, randomBytes(16)))).toBe(403);
    const upgrade = {
      connection: 'Upgrade',
      upgrade: 'websocket',
      'sec-websocket-version': '13',
      'sec-websocket-key': 'AAAAAAAAAAAAAAAAAAAAAA==',
    };
    const sockets = '/socket.io/?EIO=4&transport=websocket';
    expect([await get(sockets, { headers: upgrade }), await get(sockets, { headers: upgrade, ...issued('someone', []) })]).toEqual([
      400, 101,
    ]);
    await expect(
      connect({
        coordinatorUrl: coordinator.url,
        token: coordinator.adminToken,
        description: 'x',
        tls: { ca: authority.cert },
        outageTimeoutMs: 500,
      }),
    ).rejects.toMatchObject({ code: 'UNREACHABLE' });
    const { port } = new URL(coordinator.url);
    const session = await new Promise<Buffer>((resolve, reject) => {
      const socket = connectTls({ host: '127.0.0.1', port: Number(port), ca: authority.cert }, () =>
        socket.write('GET /ca.pem HTTP/1.1\r\nhost: x\r\n\r\n'),
      );
      socket.on('session', (ticket) => {
        socket.destroy();
        resolve(ticket);
      });
      socket.on('error', reject);
    });
    const agent = new Agent({ maxCachedSessions: 0 });
    expect(await get('/healthz', { agent, session })).toBe(403);
    agent.destroy();
  });

  it('is told why what it sends to the desk is no request', async () => {
    const answer = (body: string): Promise<number> =>
      new Promise((resolve, reject) => {
        const request = httpsRequest(new URL('/certificates', coordinator.url), { ca: authority.cert, method: 'POST' }, (response) => {
          response.resume();
          resolve(response.statusCode ?? 0);
        });
        request.on('error', reject);
        request.end(body);
      });
    expect([await answer('{'), await answer('{}'), await answer(`"${'x'.repeat(20_000)}"`)]).toEqual([400, 400, 400]);
    expect(await get('/certificates', {}, 'GET')).toBe(403);
  });
});
