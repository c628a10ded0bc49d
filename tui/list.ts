/** Moving in a list, the same on every screen. */

/** Where a key leads from `selected` in a list of `length` with `page` rows in view; null when the key does not move. */
export function moved(key: string, selected: number, length: number, page: number): number | null {
  const last = Math.max(0, length - 1);
  const to = (index: number): number => Math.max(0, Math.min(last, index));
  switch (key) {
    case 'up':
    case 'k':
      return to(selected - 1);
    case 'down':
    case 'j':
      return to(selected + 1);
    case 'pageup':
      return to(selected - Math.max(1, page));
    case 'pagedown':
      return to(selected + Math.max(1, page));
    case 'ctrl-u':
      return to(selected - Math.max(1, Math.floor(page / 2)));
    case 'ctrl-d':
      return to(selected + Math.max(1, Math.floor(page / 2)));
    case 'g':
    case 'home':
      return 0;
    case 'G':
    case 'end':
      return last;
    default:
      return null;
  }
}
