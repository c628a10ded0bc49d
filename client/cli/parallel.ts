/** Runs `work` on every item, at most `width` at once; items may come while others are worked on. Errors are for `work` to catch. */
export async function inParallel<T>(items: AsyncIterable<T> | Iterable<T>, width: number, work: (item: T) => Promise<void>): Promise<void> {
  const running = new Set<Promise<void>>();
  try {
    for await (const item of items) {
      const one: Promise<void> = work(item).finally(() => running.delete(one));
      running.add(one);
      if (running.size >= width) await Promise.race(running);
    }
  } finally {
    await Promise.all(running);
  }
}
