/** Every HTTP route of nodes and coordinator: with no permit, with forged ones and with that of a user of one volume; ids, queries, headers and bodies of every shape. */
import { setTimeout as delay } from 'node:timers/promises';
import { request } from 'undici';
import { buildChunk } from '../../protocol/chunk.js';
import { DURABLE_HEADER, encodeBatch, SHA256_HEADER } from '../../protocol/chunk-http.js';
import type { Welcome } from '../../protocol/client-calls.js';
import { isCode } from '../../protocol/errors.js';
import { PROTOCOL_VERSION } from '../../protocol/limits.js';
import { socketDialer } from '../../protocol/socket.js';
import type { Random } from '../simulation/random.js';
import type { FuzzRun } from './calls.js';
import { holdsMarker, isKnownError } from './findings.js';
import { hostileValue } from './mutations.js';

const TIMEOUT_MS = 30_000;
const PAUSE_MS = 2;
const LANES = 4;
const METHODS = ['GET', 'PUT', 'POST', 'HEAD', 'DELETE', 'PATCH', 'OPTIONS'] as const;
/** Routes that say nothing of anybody's data and need no permit. */
const OPEN_ROUTES = ['/healthz', '/readyz'];
const STATUSES = new Set([200, 201, 400, 401, 403, 404, 405, 409, 411, 413, 415, 417, 422, 429, 431, 503, 507]);
/** What only the coordinator, or monitoring, may: a success of anybody else is a hole. */
const isForOthers = (path: string): boolean => path.startsWith('/metadata/') || path === '/metrics';

interface Own {
  readonly permit: string;
  readonly volume: number;
  readonly root: number;
}

/** The permit of the user, and its volume. Asked for again while the other fuzzers revoke the user's tokens just then. */
async function permitOf(run: FuzzRun, random: Random): Promise<Own> {
  for (let tries = 1; ; tries++) {
    try {
      return await askForPermit(run, random);
    } catch (error) {
      if (tries >= 20 || !isCode(error, 'UNREACHABLE', 'UNAUTHORIZED')) throw error;
      await delay(50);
    }
  }
}
async function askForPermit({ knowledge: { target } }: FuzzRun, random: Random): Promise<Own> {
  const { token } = await target.userToken();
  const handshake = { protocol: PROTOCOL_VERSION, token, clientSecret: random.bytes(32).toString('hex'), description: 'fuzz permit' };
  const connection = await socketDialer(target.coordinatorUrl).dial('client', handshake, TIMEOUT_MS);
  const welcome = (await connection.call({ method: 'hello', args: {} }, TIMEOUT_MS)) as Welcome;
  connection.close('has its permit');
  return { permit: welcome.permit, volume: welcome.volume.volume, root: welcome.volume.root };
}

/** Several at once: they wait for answers most of the time. */
export async function fuzzNodeRoutes(run: FuzzRun): Promise<void> {
  await Promise.all(Array.from({ length: LANES }, (_, lane) => fuzzRoutes(run, `routes ${lane}`)));
}
async function fuzzRoutes(run: FuzzRun, lane: string): Promise<void> {
  const random = run.findings.random(lane);
  const { knowledge, findings } = run;
  const { target } = knowledge;
  let own = await permitOf(run, random);
  let asked = 0;
  while (!run.isOver()) {
    // Every permit grows old.
    if (++asked % 2000 === 0) own = await permitOf(run, random);
    const { permit, volume } = own;
    const ids = (): string =>
      random.pick([
        knowledge.chunk(random),
        knowledge.chunk(random),
        '..%2f..%2fetc%2fpasswd',
        '/etc/passwd',
        '%00',
        'f'.repeat(63),
        'F'.repeat(64),
        'f'.repeat(65),
        '..',
        encodeURIComponent(random.bytes(8).toString('latin1')),
      ]);
    const path = random.pick([
      () => `/chunks/${ids()}`,
      () => `/chunks/${ids()}`,
      () =>
        `/chunks/${ids()}?first=${random.pick(['0', '1', '-1', '99999999', 'x', ''])}&count=${random.pick(['1', '0', '1e9', '999999999999999', 'x'])}`,
      () => '/chunks',
      () => '/chunks/read',
      () => '/sync',
      () => '/metadata/list',
      () => `/metadata/${random.pick(['snapshot-1-1', '..', '..%2f..', 'x'.repeat(200), '%00'])}?epoch=${random.int(9)}`,
      () => `/metadata/append?name=j&offset=0&epoch=${random.int(9)}&sync=1`,
      () => random.pick([...OPEN_ROUTES, '/metrics']),
      () => `/${random.pick(['', 'x', 'chunks/', '%', '%zz', '\u00e9'.repeat(3), '?', '//', '.git', 'metadata'])}`,
    ])();
    const method = random.pick(METHODS);
    const [head, mac = ''] = permit.split('.');
    const claims = JSON.parse(Buffer.from(head as string, 'base64url').toString()) as Record<string, unknown>;
    const forge = (change: object): string => `${Buffer.from(JSON.stringify({ ...claims, ...change })).toString('base64url')}.${mac}`;
    // The right ones first: only they show what lies behind.
    const bearer = random.pick([
      permit,
      permit,
      permit,
      undefined,
      '',
      'x.y',
      `${permit.slice(0, -3)}AAA`,
      forge({ volume: 0 }),
      forge({ client: 'coordinator', volume: 0, generation: Number.MAX_SAFE_INTEGER }),
      `${forge({ alg: 'none' }).split('.')[0]}.`,
      hostileText(random),
    ]);
    const payload = random.bytes(random.pick([0, 1, 100, 5000]));
    const into = random.pick([volume, volume, volume, 1, 0]);
    const chunk = buildChunk(payload, into);
    const encoded = Buffer.concat([chunk.header, payload]);
    const damaged = Buffer.from(encoded);
    if (damaged.length > 0) damaged[random.int(damaged.length)]! ^= 1 << random.int(8);
    const route = method === 'PUT' && random.chance(0.5) ? `/chunks/${chunk.id}` : path;
    const body =
      method === 'GET' || method === 'HEAD'
        ? undefined
        : random.pick([
            encoded,
            encoded,
            damaged,
            Buffer.concat(encodeBatch([{ id: chunk.id, parts: [encoded] }])),
            Buffer.concat(
              encodeBatch([
                { id: chunk.id, parts: [damaged] },
                { id: ids().slice(0, 64), parts: [encoded] },
              ]),
            ),
            JSON.stringify({ ids: [knowledge.chunk(random), knowledge.chunk(random)] }),
            jsonOf(hostileValue(random)),
            random.bytes(random.int(500)),
            '',
            Buffer.alloc(random.pick([1000, 1_000_000])),
          ]);
    const headers: Record<string, string> = {
      ...(bearer === undefined ? {} : { authorization: `Bearer ${bearer}` }),
      ...(random.chance(0.2) ? { [DURABLE_HEADER]: '1' } : {}),
      ...(random.chance(0.1) ? { 'content-encoding': random.pick(['gzip', 'identity', 'br']) } : {}),
      ...(random.chance(0.1) ? { [SHA256_HEADER]: random.bytes(32).toString('hex') } : {}),
      ...(random.chance(0.05) ? { expect: '100-continue' } : {}),
    };
    const sent = { method, path: route, headers, body: body === undefined ? 0 : body.length };
    const url = random.pick(target.nodeUrls);
    try {
      const reply = await request(url + route, {
        method,
        headers,
        ...(body === undefined ? {} : { body }),
        headersTimeout: TIMEOUT_MS,
        bodyTimeout: TIMEOUT_MS,
      });
      const bytes = Buffer.from(await reply.body.arrayBuffer());
      findings.count(`routes ${method} ${route.split(/[?/]/, 2)[1]}`, reply.statusCode < 300);
      judge(run, lane, reply.statusCode, bytes, sent, bearer === permit);
      if (method === 'PUT' && reply.statusCode === 201 && into !== volume) findings.add(lane, 'stored a chunk of another volume', sent);
      const receipt = /"receipt":"([^"]+)"/.exec(bytes.toString('latin1'))?.[1];
      if (receipt !== undefined && knowledge.receipts.size < 500) {
        knowledge.receipts.add(receipt);
        knowledge.chunks.add(chunk.id);
      }
    } catch (error) {
      // The connection was closed on us, as it may be; a time-out may not.
      findings.count('routes closed', false);
      if (/Timeout/i.test((error as Error).name)) findings.add(lane, `no answer: ${String(error)}`, sent);
    }
    await delay(PAUSE_MS);
  }
}

/** The coordinator's few routes. */
export async function fuzzCoordinatorRoutes(run: FuzzRun): Promise<void> {
  const lane = 'coordinator routes';
  const random = run.findings.random(lane);
  const { target } = run.knowledge;
  while (!run.isOver()) {
    const method = random.pick(METHODS);
    const path = random.pick([
      ...OPEN_ROUTES,
      '/metrics',
      '/',
      '/socket.io/',
      '/socket.io/?EIO=4&transport=polling',
      '/socket.io/?EIO=4&transport=polling&sid=x',
      '/%',
      '/admin',
      '/x?y=z',
      '//',
    ]);
    const body = method === 'GET' || method === 'HEAD' ? undefined : random.bytes(random.int(5000));
    const headers = random.chance(0.5) ? { authorization: `Bearer ${hostileText(random)}` } : {};
    try {
      const reply = await request(target.coordinatorUrl + path, {
        method,
        headers,
        ...(body ? { body } : {}),
        headersTimeout: TIMEOUT_MS,
        bodyTimeout: TIMEOUT_MS,
      });
      const bytes = Buffer.from(await reply.body.arrayBuffer());
      run.findings.count(`${lane} ${method}`, reply.statusCode < 300);
      if (!STATUSES.has(reply.statusCode)) run.findings.add(lane, `status ${reply.statusCode}`, { method, path });
      if (holdsMarker(bytes)) run.findings.add(lane, "shows somebody else's data", { method, path });
    } catch (error) {
      if (/Timeout/i.test((error as Error).name)) run.findings.add(lane, `no answer: ${String(error)}`, { method, path });
    }
    await delay(PAUSE_MS * 5);
  }
}

function judge(
  run: FuzzRun,
  lane: string,
  status: number,
  bytes: Buffer,
  sent: { method: string; path: string },
  isPermitted: boolean,
): void {
  const { findings } = run;
  const isSuccess = status < 300;
  if (!STATUSES.has(status)) findings.add(lane, `status ${status} ${bytes.toString('latin1').slice(0, 200)}`, sent);
  if (holdsMarker(bytes)) findings.add(lane, "shows somebody else's data", sent);
  const path = sent.path.split('?', 1)[0] ?? '';
  if (isSuccess && isForOthers(path)) findings.add(lane, 'did what is not for users', sent);
  if (isSuccess && !isPermitted && !OPEN_ROUTES.includes(path)) findings.add(lane, 'did something without a permit', sent);
  const isForeign = run.knowledge.target.foreign.chunks.some((id) => path === `/chunks/${id}`);
  if (isSuccess && isForeign) findings.add(lane, "answered about somebody else's chunk", sent);
  // What Node's own parser refuses has no body of ours.
  if (isSuccess || sent.method === 'HEAD' || bytes.length === 0 || OPEN_ROUTES.includes(path)) return;
  let code: unknown;
  try {
    code = (JSON.parse(bytes.toString()) as { code?: unknown }).code;
  } catch {
    code = undefined;
  }
  if (!isKnownError(code)) findings.add(lane, `an error without a known code: ${bytes.toString('latin1').slice(0, 200)}`, sent);
}

const jsonOf = (value: unknown): string => {
  try {
    return JSON.stringify(value) ?? '';
  } catch {
    return '';
  }
};
/** What a header can carry. */
const hostileText = (random: Random): string =>
  String(hostileValue(random))
    .replace(/[^\x20-\x7e]/g, '?')
    .slice(0, 3000);
