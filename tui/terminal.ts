/** The terminal while the screen is up: taken over once, given back exactly once on every way out. */
import { EventEmitter } from 'node:events';
import { FrameWriter } from './frame-writer.js';

const ENTER = '\x1b[?1049h\x1b[?25l\x1b[2J\x1b[H';
/** Ends what ENTER began, from whatever state. */
export const LEAVE = '\x1b[?2026l\x1b[0m\x1b[?25h\x1b[?1049l';

export interface TerminalStream {
  readonly columns: number | undefined;
  readonly rows: number | undefined;
  write(text: string): unknown;
  on(event: 'resize', listener: () => void): unknown;
  off(event: 'resize', listener: () => void): unknown;
}

/** What Ink writes to in place of the terminal: it delivers whole frames (its debug mode), which become changed rows. */
class FrameSink extends EventEmitter {
  readonly isTTY = false;
  constructor(
    private readonly terminal: Terminal,
    private readonly writer: FrameWriter,
  ) {
    super();
  }
  get columns(): number {
    return this.terminal.size.columns;
  }
  get rows(): number {
    return this.terminal.size.rows;
  }
  write(frame: string): boolean {
    if (this.terminal.isEntered) this.writer.write(frame);
    return true;
  }
}

export class Terminal {
  isEntered = false;
  readonly sink: FrameSink;
  private readonly writer: FrameWriter;

  constructor(
    private readonly stream: TerminalStream,
    private readonly onResize: (size: { columns: number; rows: number }) => void,
  ) {
    this.writer = new FrameWriter((text) => {
      if (this.isEntered) this.stream.write(text);
    });
    this.sink = new FrameSink(this, this.writer);
  }

  get size(): { columns: number; rows: number } {
    return { columns: this.stream.columns || 80, rows: this.stream.rows || 24 };
  }

  enter(): void {
    if (this.isEntered) return;
    this.isEntered = true;
    this.stream.write(ENTER);
    this.stream.on('resize', this.resized);
  }

  /** Gives the terminal back; safe to call again, also from an exit handler. */
  leave(): void {
    if (!this.isEntered) return;
    this.isEntered = false;
    this.stream.off('resize', this.resized);
    this.stream.write(LEAVE);
  }

  /** After something else wrote on the screen. */
  repaint(): void {
    if (this.isEntered) this.writer.repaint();
  }

  /** Puts text on the clipboard of terminals that know OSC 52; others ignore it. */
  copy(text: string): void {
    if (this.isEntered) this.stream.write(`\x1b]52;c;${Buffer.from(text).toString('base64')}\x07`);
  }

  private readonly resized = (): void => {
    // Ink asks the sink for the width whenever it lays out; telling it of the resize would only make it erase what it never wrote.
    this.writer.clear();
    this.onResize(this.size);
  };
}
