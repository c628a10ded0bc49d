/** Which names a file may have, with the errno ext4 gives for the others. */
import { HoldfastError } from '../protocol/errors.js';
import { MAX_NAME_BYTES } from '../protocol/limits.js';

/** True when text survives UTF-8 and was not damaged on its way: U+FFFD stands for bytes that were no UTF-8, and two names must never become one. */
export const isCleanText = (text: string): boolean => !text.includes('\ufffd') && !/\p{Surrogate}/u.test(text);

/**
 * Checks a name as such; '.' and '..' are the caller's matter (each call has another errno for them).
 * @throws {HoldfastError} ENOENT (empty), ENAMETOOLONG, EINVAL (NUL or slash), EILSEQ
 */
export function checkName(name: string): void {
  if (name === '') throw new HoldfastError('ENOENT', 'an empty name');
  // A name of at most 85 UTF-16 units cannot exceed 255 bytes, and most are shorter.
  if (name.length > 85 && Buffer.byteLength(name) > MAX_NAME_BYTES)
    throw new HoldfastError('ENAMETOOLONG', `a name has at most ${MAX_NAME_BYTES} bytes`);
  if (name.includes('/') || name.includes('\0')) throw new HoldfastError('EINVAL', 'a name holds neither "/" nor NUL');
  if (!isCleanText(name)) throw new HoldfastError('EILSEQ', 'the name is not valid UTF-8');
}

/** A path as people write it ("a//b/", "/a/b") in the one form that is compared: "/a/b". */
export const cleanPath = (path: string): string => `/${path.split('/').filter(Boolean).join('/')}`;

/** Tells whether a clean path is this one or lies below it. @param path clean */
export function isAtOrBelow(path: string): (one: string) => boolean {
  const prefix = path === '/' ? '/' : `${path}/`;
  return (one) => one === path || one.startsWith(prefix);
}

export const isDotName = (name: string): boolean => name === '.' || name === '..';
