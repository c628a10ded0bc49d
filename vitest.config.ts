import { defineConfig } from 'vitest/config';
import { BaseSequencer, type TestSpecification } from 'vitest/node';

const ignored = ['**/node_modules/**', 'dist/**'];
const soak = process.env.HOLDFAST_SOAK === '1';
/** A test that needed its second try is named at the end of scripts/test: it is still to be mended. In a soak, which looks for what is rare, it fails. */
const retry = soak ? 0 : 1;

/** The longest file first: begun last, it would run alone while the other row has nothing to do. */
class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const sorted = await super.sort(files);
    const isLongest = (file: TestSpecification): boolean => file.moduleId.endsWith('simulation-500.e2e.test.ts');
    return [...sorted.filter(isLongest), ...sorted.filter((file) => !isLongest(file))];
  }
}

export default defineConfig({
  test: {
    teardownTimeout: 60_000,
    sequence: { sequencer: LongestFirst },
    projects: [
      {
        test: {
          name: 'unit',
          include: ['**/*.test.{ts,tsx}'],
          exclude: [...ignored, '**/*.e2e.test.ts'],
          // Native addons (sqlite3, fuse) are not safe to load in worker threads.
          pool: 'forks',
          retry,
          testTimeout: soak ? 1_800_000 : 30_000,
          hookTimeout: 60_000,
        },
      },
      {
        test: {
          name: 'e2e',
          include: ['test/**/*.e2e.test.ts'],
          exclude: ignored,
          pool: 'forks',
          setupFiles: ['test/own-ports.ts'],
          // Two rows: each file starts a cluster of its own, and two of those keep two cores busy.
          maxWorkers: 2,
          // Tests of one file share a cluster, so what stands in the way of a test may stand in the way of its second try as well:
          // scripts/test runs a file that failed again, from nothing.
          retry,
          testTimeout: soak ? 1_800_000 : 120_000,
          hookTimeout: 120_000,
        },
      },
    ],
  },
});
