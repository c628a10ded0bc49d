import { EventEmitter } from 'node:events';
import xterm from '@xterm/headless';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { FrameWriter } from './frame-writer.js';
import { Terminal } from './terminal.js';

const COLUMNS = 20;
const ROWS = 5;
const newScreen = () => new xterm.Terminal({ cols: COLUMNS, rows: ROWS, allowProposedApi: true });
const written = (screen: InstanceType<typeof xterm.Terminal>, text: string): Promise<void> =>
  new Promise((resolve) => screen.write(text, resolve));
const linesOf = (screen: InstanceType<typeof xterm.Terminal>): string[] =>
  Array.from({ length: ROWS }, (_, y) => screen.buffer.active.getLine(y)!.translateToString(true).trimEnd());

const line = fc.string({ unit: fc.constantFrom('a', 'b', ' ', '#', '日'), maxLength: COLUMNS / 2 });
const frame = fc.array(line, { minLength: ROWS, maxLength: ROWS });

describe('the frame writer', () => {
  it('leaves on a terminal exactly the last frame, full rows included', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(frame, { minLength: 1, maxLength: 6 }), async (frames) => {
        const screen = newScreen();
        let output = '';
        const writer = new FrameWriter((text) => {
          output += text;
        });
        for (const one of [...frames, ['x'.repeat(COLUMNS), '', ...Array.from({ length: ROWS - 2 }, () => 'y'.repeat(COLUMNS))]])
          writer.write(one.join('\n'));
        await written(screen, output);
        expect(linesOf(screen)).toEqual(['x'.repeat(COLUMNS), '', ...Array.from({ length: ROWS - 2 }, () => 'y'.repeat(COLUMNS))]);
        for (const one of frames) writer.write(one.join('\n'));
        await written(screen, output);
        expect(linesOf(screen)).toEqual(frames.at(-1)!.map((text) => text.trimEnd()));
        expect(screen.buffer.active.baseY).toBe(0);
      }),
      { numRuns: 50 },
    );
  });

  it('writes nothing for a frame that is there already, and only the row that changed', () => {
    const outputs: string[] = [];
    const writer = new FrameWriter((text) => outputs.push(text));
    writer.write('a\nb\nc');
    writer.write('a\nb\nc');
    expect(outputs).toHaveLength(1);
    writer.write('a\nX\nc');
    expect(outputs).toHaveLength(2);
    expect(outputs[1]).toContain('\x1b[2;1H');
    expect(outputs[1]).not.toContain('\x1b[1;1H');
  });

  it('never clears the scrollback', () => {
    let output = '';
    const writer = new FrameWriter((text) => {
      output += text;
    });
    writer.write('a\nb');
    writer.clear();
    writer.write('a\nb');
    writer.repaint();
    expect(output).not.toContain('\x1b[3J');
  });
});

describe('the terminal', () => {
  class Stream extends EventEmitter {
    columns = COLUMNS;
    rows = ROWS;
    text = '';
    write(text: string): boolean {
      this.text += text;
      return true;
    }
  }
  it('is given back exactly as it was: main screen, its text, visible cursor', async () => {
    const screen = newScreen();
    await written(screen, 'before\r\n$ ');
    const before = linesOf(screen);
    const stream = new Stream();
    const terminal = new Terminal(stream, () => {});
    terminal.enter();
    terminal.sink.write('one\ntwo\nthree\nfour\nfive');
    await written(screen, stream.text);
    expect(screen.buffer.active.type).toBe('alternate');
    expect(linesOf(screen)).toEqual(['one', 'two', 'three', 'four', 'five']);
    stream.text = '';
    terminal.leave();
    terminal.leave();
    terminal.sink.write('too late');
    await written(screen, stream.text);
    expect(screen.buffer.active.type).toBe('normal');
    expect(linesOf(screen)).toEqual(before);
    expect(stream.text.split('\x1b[?1049l')).toHaveLength(2);
    expect(stream.text).toContain('\x1b[?25h');
    expect(stream.listenerCount('resize')).toBe(0);
  });
  it('tells its new size when it is resized', () => {
    const stream = new Stream();
    const sizes: unknown[] = [];
    const terminal = new Terminal(stream, (size) => sizes.push(size));
    terminal.enter();
    stream.columns = 33;
    stream.emit('resize');
    expect(sizes).toEqual([{ columns: 33, rows: ROWS }]);
    terminal.leave();
  });
});
