/** What happens here when somebody else has changed something: the kernel drops what it holds before the change is acknowledged. */
import { execFileSync } from 'node:child_process';
import { closeSync, constants, mkdtempSync, openSync, readFileSync, readSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import type { Cluster } from '../client/api.js';
import type { InodeAttributes } from '../protocol/entities.js';
import { FuseSession } from './fuse-session.js';
import { Notify } from './kernel-protocol.js';
import { toldKernel } from './mount-state.js';

const ROOT = 1;
const FILE = 7;
const DIRECTORY = 8;
const ATTRIBUTE_TIMEOUT_MS = 300;
const entry = (inode: number, kind: 'file' | 'directory'): InodeAttributes => ({ inode, kind }) as InodeAttributes;

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'hf-session-'));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

/** A session whose notifications to the kernel are written to this descriptor; returns how it hears of changes. */
function sessionNotifying(notifyFd: number): { session: FuseSession; changed: (inode: number, names?: string[]) => Promise<void> | void } {
  let listener: Parameters<Cluster['onChanged']>[0] | undefined;
  const cluster = {
    tree: { root: ROOT },
    mayBeKeptMs: Number.POSITIVE_INFINITY,
    onConnection: () => {},
    onChanged: (given: typeof listener) => {
      listener = given;
    },
  } as unknown as Cluster;
  const session = new FuseSession(cluster, { isReadOnly: false, attributeTimeoutMs: ATTRIBUTE_TIMEOUT_MS, log: () => {} });
  session.receiver.opened({
    notifyFd,
    read: () => -constants.O_NONBLOCK,
    write: (head) => head.length,
    initialized: () => {},
    ended: () => {},
  });
  return { session, changed: (inode, names) => listener!(names ? { inode, names } : { inode }) };
}

/** Code and node id of each notification in these bytes. */
function notifications(bytes: Buffer): [code: number, node: number][] {
  const found: [number, number][] = [];
  for (let at = 0; at < bytes.length; at += bytes.readUInt32LE(at))
    found.push([bytes.readInt32LE(at + 4), Number(bytes.readBigUInt64LE(at + 16))]);
  return found;
}

it('acknowledges a change by somebody else when the kernel has dropped attributes and names of directories', async () => {
  const path = join(directory, 'notified');
  const { session, changed } = sessionNotifying(openSync(path, 'w'));
  const mount = session.mount!;
  toldKernel(mount, entry(FILE, 'file'), ROOT, 'file');
  toldKernel(mount, entry(DIRECTORY, 'directory'), ROOT, 'directory');
  await changed(FILE);
  expect(notifications(readFileSync(path))).toEqual([[Notify.INVALIDATE_INODE, FILE]]);
  await changed(ROOT, ['directory', 'file', 'unknown']);
  const after = notifications(readFileSync(path)).slice(1);
  // The kernel never keeps names of files.
  expect(after.sort()).toEqual(
    [
      [Notify.INVALIDATE_ENTRY, ROOT],
      [Notify.INVALIDATE_INODE, ROOT],
    ].sort(),
  );
  session.close();
});

it('says nothing to a kernel that knows nothing of it', () => {
  const path = join(directory, 'notified');
  const { session, changed } = sessionNotifying(openSync(path, 'w'));
  expect(changed(FILE)).toBeUndefined();
  expect(readFileSync(path)).toHaveLength(0);
  session.close();
});

it('waits for a kernel that cannot take a name only as long as the kernel may keep it', async () => {
  const path = join(directory, 'fifo');
  execFileSync('mkfifo', [path]);
  const fd = openSync(path, constants.O_RDWR | constants.O_NONBLOCK);
  try {
    for (const block = Buffer.alloc(4096); ; ) writeSync(fd, block);
  } catch (error) {
    expect(error).toMatchObject({ code: 'EAGAIN' });
  }
  const blocking = openSync(path, constants.O_RDWR);
  const { session, changed } = sessionNotifying(blocking);
  toldKernel(session.mount!, entry(DIRECTORY, 'directory'), ROOT, 'directory');
  const startedMs = performance.now();
  await changed(ROOT, ['directory']);
  expect(performance.now() - startedMs).toBeGreaterThanOrEqual(ATTRIBUTE_TIMEOUT_MS);
  // By now the kernel has forgotten the name by itself.
  expect(session.mount!.known.isNameKept(ROOT, 'directory', performance.now() + 100)).toBe(false);
  session.close();
  const rest = Buffer.alloc(1024 * 1024);
  while (readSync(fd, rest) === rest.length);
  closeSync(fd);
});
