import { describe, expect, it } from 'vitest';
import { afterSecondRun, hasFailed, outcomesOf, type VitestReport } from './test-report.js';

type Tests = Record<string, readonly [status: string, ...failures: string[]]>;
const reportOf = (files: Record<string, Tests>, failedFiles: readonly string[] = []): VitestReport => ({
  testResults: Object.entries(files).map(([name, tests]) => ({
    name: `/repository/${name}`,
    status: failedFiles.includes(name) || Object.values(tests).some(([status]) => status === 'failed') ? 'failed' : 'passed',
    message: 'beforeAll timed out',
    startTime: 1000,
    endTime: 3500,
    assertionResults: Object.entries(tests).map(([fullName, [status, ...failureMessages]]) => ({ fullName, status, failureMessages })),
  })),
});
const outcomes = (files: Record<string, Tests>, failedFiles?: readonly string[]) => outcomesOf(reportOf(files, failedFiles), '/repository');

describe('the report of a test run', () => {
  it('names files from the repository on and counts what is neither passed nor failed as skipped', () => {
    expect(outcomes({ 'test/a.test.ts': { one: ['passed'], two: ['pending'], three: ['failed', 'why'] } })).toEqual([
      {
        name: 'test/a.test.ts',
        seconds: 2.5,
        tests: [
          { title: 'one', status: 'passed', failures: [] },
          { title: 'two', status: 'skipped', failures: [] },
          { title: 'three', status: 'failed', failures: ['why'] },
        ],
      },
    ]);
  });

  it('takes a file that failed outside its tests as failed', () => {
    const [file] = outcomes({ a: { one: ['skipped'] } }, ['a']);
    expect(file?.tests.at(-1)).toMatchObject({ status: 'failed', failures: ['beforeAll timed out'] });
    expect(file && hasFailed(file)).toBe(true);
  });

  it('of two runs counts the second, and tells what the first one said', () => {
    const first = outcomes({ a: { one: ['failed', 'chance'], two: ['passed'], three: ['failed', 'error'] }, b: { one: ['passed'] } });
    const second = outcomes({ a: { one: ['passed'], two: ['failed', 'new'], three: ['failed', 'error again'] } });
    const [a, b] = afterSecondRun(first, second);
    expect(a?.tests).toEqual([
      { title: 'one', status: 'passed', failures: ['chance'] },
      { title: 'two', status: 'failed', failures: ['new'] },
      { title: 'three', status: 'failed', failures: ['error', 'error again'] },
    ]);
    expect(a?.seconds).toBe(5);
    expect(b).toEqual(first[1]);
  });

  it('a file that failed as a whole is well only when its tests are', () => {
    const first = outcomes({ a: { one: ['skipped'] } }, ['a']);
    expect(afterSecondRun(first, outcomes({ a: { one: ['passed'] } }))[0]?.tests).toEqual([
      { title: 'one', status: 'passed', failures: ['beforeAll timed out'] },
    ]);
    const again = afterSecondRun(first, outcomes({ a: { one: ['skipped'] } }, ['a']))[0];
    expect(again && hasFailed(again)).toBe(true);
  });

  it('a test that the second run does not know, or a file that it does not, stays failed', () => {
    const first = outcomes({ a: { one: ['failed', 'why'] }, b: { one: ['failed', 'why'] } });
    expect(afterSecondRun(first, outcomes({ a: { other: ['passed'] } })).map(hasFailed)).toEqual([true, true]);
  });
});
