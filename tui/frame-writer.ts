/**
 * Writes whole frames to a terminal as few bytes: only rows that changed, each at its absolute place. Ink's own writer clears screen and scrollback
 * for frames as tall as the terminal; this one never does, so nothing flickers and what was above stays.
 */
const SYNC_BEGIN = '\x1b[?2026h';
const SYNC_END = '\x1b[?2026l';

export class FrameWriter {
  private shown: readonly string[] = [];

  constructor(private readonly output: (text: string) => void) {}

  /** @param frame rows joined by newlines */
  write(frame: string): void {
    const rows = frame.split('\n');
    let text = '';
    for (let y = 0; y < Math.max(rows.length, this.shown.length); y += 1) {
      const row = rows[y] ?? '';
      if (row === this.shown[y]) continue;
      // Cleared before and not after: after a full row the cursor still stands on its last column.
      text += `\x1b[${y + 1};1H\x1b[0m\x1b[2K${row}`;
    }
    this.shown = rows;
    if (text !== '') this.output(`${SYNC_BEGIN}${text}\x1b[0m${SYNC_END}`);
  }

  /** The terminal has another size: what is on it counts no more, the next frame is written whole. */
  clear(): void {
    this.shown = [];
    this.output('\x1b[0m\x1b[2J');
  }

  /** Something else wrote on the screen: the last frame once more. */
  repaint(): void {
    const last = this.shown;
    this.clear();
    if (last.length > 0) this.write(last.join('\n'));
  }
}
