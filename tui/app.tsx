/** The Ink application: rows in, keys out. What a row says was decided before (frame.ts); here it only reaches the terminal. */
import { Box, Text, Transform, useInput } from 'ink';
import { memo, useCallback, useSyncExternalStore } from 'react';
import { keyNames } from './keys.js';
import type { Store } from './store.js';

/**
 * One row of the screen. Ink 6.8 remembers the width of every text it ever laid out, so the ever-new rows of a live screen would fill memory for
 * as long as it runs. The layout therefore sees blanks, the same ones every time, and the row is put in their place when the frame is written.
 */
const Line = memo(function Line({ text, columns }: { readonly text: string; readonly columns: number }) {
  return (
    <Transform transform={() => text}>
      <Text>{' '.repeat(columns)}</Text>
    </Transform>
  );
});

export function App({ store }: { readonly store: Store }) {
  const frame = useSyncExternalStore(store.subscribe, store.getFrame);
  // One handler for the whole life: Ink leaves raw mode when the last handler goes, and resubscribes when it changes.
  const onInput = useCallback<Parameters<typeof useInput>[0]>(
    (input, key) => {
      for (const name of keyNames(input, { ...key, home: key.home ?? false, end: key.end ?? false }))
        store.dispatch({ kind: 'key', key: name });
    },
    [store],
  );
  useInput(onInput);
  return (
    <Box flexDirection="column" width={frame.columns} height={frame.lines.length}>
      {frame.lines.map((line, index) => (
        // biome-ignore lint/suspicious/noArrayIndexKey: a row of the screen is its position
        <Line key={index} text={line} columns={frame.columns} />
      ))}
    </Box>
  );
}
