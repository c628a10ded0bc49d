import { expect, test } from 'vitest';
import { BodyBuffers } from './body-buffers.js';

const MIB = 1024 * 1024;

test('a buffer given back is used for the next body of about its size, with the length asked for', () => {
  const buffers = new BodyBuffers();
  const first = buffers.take(MIB + 532);
  expect(first.length).toBe(MIB + 532);
  buffers.giveBack(first);
  const second = buffers.take(MIB + 100);
  expect(second.length).toBe(MIB + 100);
  expect(second.buffer).toBe(first.buffer);
});

test('no two bodies under way share memory', () => {
  const buffers = new BodyBuffers();
  const taken = [buffers.take(MIB), buffers.take(MIB)];
  for (const buffer of taken) buffers.giveBack(buffer);
  const again = [buffers.take(MIB), buffers.take(MIB), buffers.take(MIB)];
  expect(new Set(again.map(({ buffer }) => buffer)).size).toBe(3);
});

test('small bodies and what exceeds the budget are not kept', () => {
  const buffers = new BodyBuffers();
  const small = buffers.take(4096);
  buffers.giveBack(small);
  expect(buffers.take(4096).length).toBe(4096);
  const many = Array.from({ length: 20 }, () => buffers.take(MIB));
  for (const buffer of many) buffers.giveBack(buffer);
  const known = new Set(many.map(({ buffer }) => buffer));
  const again = Array.from({ length: 20 }, () => buffers.take(MIB));
  expect(again.filter(({ buffer }) => known.has(buffer)).length).toBe(16);
});
