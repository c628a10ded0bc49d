/**
 * Repaints the screen thousands of times with ever-new contents, as hours of watching would, and prints the heap after a quarter and at the end as
 * JSON. Run with --expose-gc and NODE_ENV=production (React decides by it while being loaded).
 */
import { EventEmitter } from 'node:events';
import { render } from 'ink';
import { createElement } from 'react';
import type { Environment } from '../protocol/environment.js';
import { App } from '../tui/app.js';
import { Store } from '../tui/store.js';
import { Terminal } from '../tui/terminal.js';
import { eventsSnapshot, sampleNode, sampleState, WALL_MS } from './tui-sample.js';

const REPAINTS = Number(process.argv[2] ?? 4000);

class Screen extends EventEmitter {
  readonly columns = 100;
  readonly rows = 30;
  bytes = 0;
  write(text: string): boolean {
    this.bytes += text.length;
    return true;
  }
}
class Keyboard extends EventEmitter {
  readonly isTTY = true;
  setEncoding(): void {}
  setRawMode(): void {}
  ref(): void {}
  unref(): void {}
  read(): null {
    return null;
  }
}
let nowMs = 0;
const environment: Environment = {
  monotonicMs: () => nowMs,
  wallNs: () => BigInt(WALL_MS + nowMs) * 1_000_000n,
  setTimer: () => ({ cancel: () => {} }),
  randomBytes: (sizeBytes) => Buffer.alloc(sizeBytes),
  random: () => 0.5,
  log: () => {},
};
const collect = (globalThis as { gc?: () => void }).gc;
if (!collect) throw new Error('run with --expose-gc');

const stream = new Screen();
const terminal = new Terminal(stream, () => {});
terminal.enter();
const store = new Store(sampleState(), environment, () => {});
const app = render(createElement(App, { store }), {
  stdout: terminal.sink as unknown as NodeJS.WriteStream,
  stdin: new Keyboard() as unknown as NodeJS.ReadStream,
  debug: true,
  exitOnCtrlC: false,
  patchConsole: false,
  isScreenReaderEnabled: false,
});
const nextTurn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
const heapBytes = async (): Promise<number> => {
  for (let round = 0; round < 3; round += 1) {
    await nextTurn();
    collect();
  }
  return process.memoryUsage().heapUsed;
};

let quarterBytes = 0;
let writtenBefore = 0;
const startedMs = performance.now();
for (let step = 1; step <= REPAINTS; step += 1) {
  nowMs += 1000;
  const upserts = Array.from({ length: 5 }, (_, index) => {
    const name = `n${index + 1}`;
    return { key: name, ...sampleNode(name, { replicas: step * 7 + index, readBytesPerS: step * 104_729, stateForMs: step }) };
  });
  store.dispatch({ kind: 'changes', request: { topic: 'overview' }, upserts, removes: [] });
  // A snapshot is painted at once.
  store.dispatch(eventsSnapshot(1 + (step % 40)));
  await nextTurn();
  if (step === REPAINTS / 4) quarterBytes = await heapBytes();
  if (step === 1) writtenBefore = stream.bytes;
}
const milliseconds = performance.now() - startedMs;
const endBytes = await heapBytes();
console.log(
  JSON.stringify({
    repaints: REPAINTS,
    quarterBytes,
    endBytes,
    writtenBytes: stream.bytes - writtenBefore,
    perRepaintMs: milliseconds / REPAINTS,
  }),
);
app.unmount();
process.exit(0);
