/** What Vitest's JSON report says of each file, and of two runs of the same file. */

export interface VitestReport {
  readonly testResults: readonly {
    /** Absolute path of the file. */
    readonly name: string;
    readonly status: string;
    readonly message?: string;
    readonly startTime: number;
    readonly endTime: number;
    readonly assertionResults: readonly {
      readonly fullName: string;
      readonly status: string;
      readonly failureMessages?: readonly string[];
    }[];
  }[];
}

export interface TestOutcome {
  readonly title: string;
  readonly status: 'passed' | 'failed' | 'skipped';
  /** What each try that failed said; a test that passed at a later try carries those of the earlier ones. */
  readonly failures: readonly string[];
}
export interface FileOutcome {
  /** Relative to the repository. */
  readonly name: string;
  readonly seconds: number;
  readonly tests: readonly TestOutcome[];
}

/** Stands for what failed in a file outside its tests. */
const FILE_ITSELF = 'the file itself';
const isFailed = (test: TestOutcome): boolean => test.status === 'failed';
export const hasFailed = (file: FileOutcome): boolean => file.tests.some(isFailed);

/** @param root what the names of files begin with */
export function outcomesOf(report: VitestReport, root: string): FileOutcome[] {
  return report.testResults.map((file) => {
    const tests = file.assertionResults.map(
      ({ fullName, status, failureMessages = [] }): TestOutcome => ({
        title: fullName,
        status: status === 'passed' || status === 'failed' ? status : 'skipped',
        failures: failureMessages,
      }),
    );
    // It could not be loaded, or failed before or after its tests.
    if (file.status === 'failed' && !tests.some(isFailed))
      tests.push({ title: FILE_ITSELF, status: 'failed', failures: [file.message || 'no message'] });
    return {
      name: file.name.startsWith(`${root}/`) ? file.name.slice(root.length + 1) : file.name,
      seconds: (file.endTime - file.startTime) / 1000,
      tests,
    };
  });
}

/**
 * What counts when files that failed were run again: each test as it ended the second time, with what was said the first time. A test that the second
 * run does not know keeps its first outcome.
 */
export function afterSecondRun(first: readonly FileOutcome[], second: readonly FileOutcome[]): FileOutcome[] {
  return first.map((file) => {
    const again = second.find(({ name }) => name === file.name);
    if (!again) return file;
    const before = (title: string): TestOutcome | undefined => file.tests.find((test) => test.title === title);
    // What failed outside the tests the first time is told with every test of the second.
    const outside = before(FILE_ITSELF)?.failures ?? [];
    const tests = again.tests.map((test) => ({
      ...test,
      failures: [...outside, ...(before(test.title)?.failures ?? []), ...test.failures],
    }));
    const gone = file.tests.filter(({ title }) => title !== FILE_ITSELF && !tests.some((test) => test.title === title));
    return { ...file, seconds: file.seconds + again.seconds, tests: [...tests, ...gone] };
  });
}
