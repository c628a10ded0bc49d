import { describe, expect, it } from 'vitest';
import { sampleState } from '../test/tui-sample.js';
import { rowText } from './draw.js';
import { changesSomething, footerText, type InkKey, KEYS, keyNames, keysOf } from './keys.js';
import { helpRows } from './screens/help.js';

const noKey: InkKey = {
  upArrow: false,
  downArrow: false,
  leftArrow: false,
  rightArrow: false,
  pageDown: false,
  pageUp: false,
  home: false,
  end: false,
  return: false,
  escape: false,
  ctrl: false,
  shift: false,
  tab: false,
  backspace: false,
  delete: false,
  meta: false,
};

describe('the key table', () => {
  it('gives each key one meaning per screen', () => {
    const seen = new Set<string>();
    for (const { scope, keys } of KEYS) {
      for (const key of keys) {
        expect(seen.has(`${scope} ${key}`), `${key} twice in ${scope}`).toBe(false);
        seen.add(`${scope} ${key}`);
      }
    }
  });
  it('keeps its one rule: capitals change something, everything else only looks', () => {
    for (const { keys, changes, help } of KEYS) {
      for (const key of keys) {
        if (key === 'G') continue;
        expect(/^[A-Z]$/.test(key), `${key}: ${help}`).toBe(changes === true);
      }
    }
  });
  it('is what the help shows, all of it', () => {
    const help = helpRows(sampleState()).map(rowText).join('\n');
    for (const one of KEYS) expect(help).toContain(one.help);
  });
  it('hides every change when read-only, in the help and in the footer', () => {
    const help = helpRows(sampleState(undefined, { readOnly: true }))
      .map(rowText)
      .join('\n');
    for (const one of KEYS.filter((entry) => entry.changes)) expect(help).not.toContain(one.help);
    expect(footerText('nodes', true, 100)).not.toMatch(/[A-Z] [a-z]/);
    expect(keysOf('nodes', true).some((one) => one.changes)).toBe(false);
  });
  it('knows which keys change something where', () => {
    expect(changesSomething('nodes', 'K')).toBe(true);
    expect(changesSomething('events', 'K')).toBe(false);
    expect(changesSomething('nodes', 'j')).toBe(false);
  });
});

describe('keys from the terminal', () => {
  it('have names', () => {
    expect(keyNames('', { ...noKey, upArrow: true })).toEqual(['up']);
    expect(keyNames('', { ...noKey, escape: true, meta: true })).toEqual(['esc']);
    expect(keyNames('c', { ...noKey, ctrl: true })).toEqual(['ctrl-c']);
    expect(keyNames('', { ...noKey, delete: true })).toEqual(['backspace']);
    expect(keyNames('', { ...noKey, tab: true, shift: true })).toEqual(['shift-tab']);
  });
  it('that arrive together are several', () => {
    expect(keyNames('3jj\r', noKey)).toEqual(['3', 'j', 'j', 'enter']);
  });
  it('that are control characters of a paste are dropped', () => {
    expect(keyNames('a\u001b\u0007b', noKey)).toEqual(['a', 'b']);
  });
});
