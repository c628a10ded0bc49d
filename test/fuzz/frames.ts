/** Frames that are none: whatever a websocket or a TCP connection can carry, without a handshake, in the middle of one, and after it. */
import { once } from 'node:events';
import { connect } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { WebSocket } from 'undici';
import { PROTOCOL_VERSION } from '../../protocol/limits.js';
import type { Random } from '../simulation/random.js';
import type { FuzzRun } from './calls.js';
import { holdsMarker } from './findings.js';
import { deepText, hostileValue } from './mutations.js';

const OPEN_TIMEOUT_MS = 10_000;
const PAUSE_MS = 5;

/** Text of a packet, right, nearly right or wrong. "4" = message; then 0 connect, 2 event, 3 acknowledgement, 5 event with attachments. */
function packet(random: Random, token: string): string | Buffer {
  const handshake = JSON.stringify({
    protocol: PROTOCOL_VERSION,
    token,
    clientSecret: random.bytes(32).toString('hex'),
    description: 'fuzz',
  });
  const value = (): string => {
    try {
      return JSON.stringify(hostileValue(random)) ?? 'null';
    } catch {
      return 'null';
    }
  };
  const space = random.pick(['/client', '/admin', '/node', '/none', '/']);
  const shapes: (() => string | Buffer)[] = [
    () => `40${space},${handshake}`,
    () => `40${space},${value()}`,
    () => `42${space},${random.int(99)}["call",${value()}]`,
    () => `42${space},${random.int(99)}["call",{"method":"hello","args":${value()}}]`,
    () => `42${space},["push",${value()}]`,
    () => `42${space},${random.int(99)}[${value()},${value()}]`,
    () => `42${space},["disconnect"]`,
    () => `42${space},["connection",${value()}]`,
    () => `43${space},${random.int(99)}[${value()}]`,
    () => `44${space},${value()}`,
    () =>
      `45${1 + random.int(12)}-${space},${random.int(99)}["call",{"_placeholder":true,"num":${random.pick(['0', '-1', '99', '"x"', '{}'])}}]`,
    () => `4511-${space},["call"${',{"_placeholder":true,"num":0}'.repeat(11)}]`,
    () => `46${1 + random.int(3)}-${space},1[{"_placeholder":true,"num":0}]`,
    () => `41${space},`,
    () => `42${space},1["call",{"method":"hello","args":${deepText(100_000)}}]`,
    () => `42/admin,1["call",{"method":"setVolume","args":{"volume":"berta","encryption":{"a":${deepText(20_000)}}}}]`,
    () => `42/admin,1["call",{"method":"watch","args":{"topic":${deepText(20_000)}}}]`,
    () => random.bytes(random.int(300)),
    () => random.bytes(random.int(300)).toString('latin1'),
    () => random.pick(['', '0', '1', '2', '3', '4', '5', '6', '2probe', '5', '4999999999999-/client,[]', '4', '9'.repeat(1000)]),
    () => `42${space},1["call","${'x'.repeat(100_000)}"]`,
  ];
  return random.pick(shapes)();
}

/** By websocket, to the coordinator. */
export async function fuzzFrames(run: FuzzRun): Promise<void> {
  const lane = 'frames';
  const random = run.findings.random(lane);
  const { target } = run.knowledge;
  const { token } = await target.userToken();
  const url = `${target.coordinatorUrl.replace('http', 'ws')}/socket.io/?EIO=4&transport=websocket`;
  while (!run.isOver()) {
    const socket = new WebSocket(url);
    const ended = new Promise<void>((resolve) => {
      socket.addEventListener('close', () => resolve());
      socket.addEventListener('error', () => resolve());
    });
    const opened = new Promise<void>((resolve) => socket.addEventListener('open', () => resolve()));
    const sent: string[] = [];
    socket.addEventListener('message', (event) => {
      if (holdsMarker(event.data)) run.findings.add(lane, "shows somebody else's data", sent);
      if (typeof event.data === 'string' && event.data.includes('"INTERNAL"'))
        run.findings.add(lane, `a handler failed: ${event.data}`, sent);
    });
    await Promise.race([opened, ended, delay(OPEN_TIMEOUT_MS)]);
    for (let count = 1 + random.int(20); count > 0 && socket.readyState === WebSocket.OPEN; count--) {
      const one = packet(random, random.chance(0.7) ? token : 'wrong');
      sent.push(typeof one === 'string' ? one.slice(0, 200) : one.toString('hex').slice(0, 200));
      socket.send(one);
      run.findings.count(lane, false);
      if (random.chance(0.5)) await delay(PAUSE_MS);
    }
    await delay(PAUSE_MS);
    socket.close();
    await Promise.race([ended, delay(1000)]);
  }
}

/** Bytes on a bare connection, to coordinator and nodes: no HTTP, half an HTTP, two at once, a websocket's bytes without its handshake. */
export async function fuzzBytes(run: FuzzRun): Promise<void> {
  const lane = 'bytes';
  const random = run.findings.random(lane);
  const { target } = run.knowledge;
  const urls = [target.coordinatorUrl, ...target.nodeUrls];
  const upgrade = (path: string): string =>
    `GET ${path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${random.bytes(16).toString('base64')}\r\n\r\n`;
  const shapes: (() => string | Buffer)[] = [
    () => random.bytes(random.int(2000)),
    () => `GET /${'x'.repeat(20_000)} HTTP/1.1\r\nHost: x\r\n\r\n`,
    () => `GET / HTTP/1.1\r\nHost: x\r\n${'a: b\r\n'.repeat(3000)}\r\n`,
    () => 'PUT /chunks/x HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
    () => 'PUT /chunks/x HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n',
    () => 'PUT /chunks/x HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n',
    () => 'POST /chunks HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffff\r\n',
    () => `GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n`.repeat(50),
    () => upgrade('/socket.io/?EIO=4&transport=websocket') + random.bytes(200).toString('latin1'),
    () => upgrade('/socket.io/?EIO=3&transport=polling'),
    () => upgrade('/chunks'),
    () => 'POST /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n40/',
    () => 'CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n',
    () => 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
    () => 'GET /metrics HTTP/1.0\r\n\r\n',
    () => 'GET http://other/chunks/x HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n\r\n',
    () => Buffer.from([0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03]),
  ];
  while (!run.isOver()) {
    const { hostname, port } = new URL(random.pick(urls));
    const socket = connect(Number(port), hostname);
    socket.on('error', () => {}); // 'close' follows
    const closed = once(socket, 'close').catch(() => {});
    const bytes = random.pick(shapes)();
    socket.on('data', (heard) => {
      if (holdsMarker(heard)) run.findings.add(lane, "shows somebody else's data", bytes.toString('latin1'));
    });
    socket.write(bytes);
    run.findings.count(lane, false);
    await Promise.race([closed, delay(10 + random.int(30))]);
    socket.destroy();
  }
}
