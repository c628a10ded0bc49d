/** Key files on disk. */
import { randomBytes } from 'node:crypto';
import { closeSync, fsyncSync, openSync, writeSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { HoldfastError } from '../protocol/errors.js';
import { newKeyFile } from './volume-key.js';

/**
 * Makes a key file that only its owner can read. On stable storage when this returns: what it will open is worth nothing without it.
 * @throws {HoldfastError} EEXIST, since a key is never written over another file; EIO
 */
export function writeKeyFile(file: string): void {
  let fd: number;
  try {
    fd = openSync(file, 'wx', 0o600);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === 'EEXIST') throw new HoldfastError('EEXIST', `${file} exists already: a key is never written over another file`);
    throw new HoldfastError('EIO', `cannot write the key file ${file}: ${message}`);
  }
  try {
    writeSync(fd, newKeyFile(randomBytes));
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
  // The name as well.
  const directory = openSync(dirname(resolve(file)), 'r');
  try {
    fsyncSync(directory);
  } finally {
    closeSync(directory);
  }
}
