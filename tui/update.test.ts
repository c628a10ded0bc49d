import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  chunkRows,
  eventsSnapshot,
  live,
  overviewSnapshot,
  press,
  pressed,
  SAMPLE_NODES,
  sampleChunk,
  sampleEntry,
  sampleFileHead,
  sampleNode,
  sampleState,
  snapshot,
  update,
  updateAll,
  WALL_MS,
} from '../test/tui-sample.js';
import { rowText, rowWidth } from './draw.js';
import { drawFrame } from './frame.js';
import { FILE_WINDOW_CHUNKS, initialState, type Message, type State } from './model.js';
import { wantedWatches } from './topics.js';

const text = (state: State): string => drawFrame(state).map(rowText).join('\n');
const offline: Message = {
  kind: 'link',
  link: { kind: 'offline', sinceMs: 1000, url: 'http://127.0.0.1:4700', error: 'connect ECONNREFUSED', attempt: 4, nextTryAtMs: 4000 },
};
/** The folder `/` with some entries, as asked for. */
function inFolder(state: State, names: readonly string[], more = {}): State {
  const at = pressed(state, '3');
  const request = wantedWatches(at).find((one) => one.topic === 'directory')!;
  const rows = names.map((name, index) => ({ key: String(index), ...sampleEntry(name, { inode: 100 + index, ...more }) }));
  return update(at, snapshot(request, { path: '/', inode: 1, total: names.length, matching: names.length, parent: null }, rows)).state;
}
function inFile(state: State, chunks = 30): State {
  const at = pressed(inFolder(state, ['video.mp4']), 'enter');
  const request = wantedWatches(at).find((one) => one.topic === 'file')!;
  const rows = chunkRows(
    Array.from({ length: Math.min(chunks, FILE_WINDOW_CHUNKS) }, (_, index) =>
      sampleChunk(
        index,
        index === 7
          ? [
              ['n1', 'good'],
              ['n3', 'down'],
            ]
          : [
              ['n1', 'good'],
              ['n2', 'good'],
              ['n5', 'unchecked'],
            ],
      ),
    ),
  );
  return update(at, snapshot(request, sampleFileHead(chunks), rows)).state;
}

describe('the screen', () => {
  it('tells on the overview what is wrong, by words', () => {
    const shown = text(sampleState());
    expect(shown).toContain('!! AT RISK  n3 down 48s | 37 chunks under goal, 4 on one copy, 0 lost');
    expect(shown).toContain('Nodes: 4 up (1 draining), 1 down');
    expect(shown).toMatch(/n3 +DOWN 48s/);
    expect(shown).toMatch(/n4 +drain 96/);
    expect(shown).toMatch(/1 endangered +4 /);
    expect(shown).toMatch(/J-81 +repair .* 62%.* 22s left/);
    expect(shown).toContain('event number 12');
  });

  it('counts ages on between two words from the coordinator', () => {
    const later = update(sampleState(), { kind: 'tick', nowMs: 31_000, wallMs: WALL_MS + 30_000 }).state;
    expect(text(later)).toMatch(/n3 +DOWN 1m18s/);
  });

  it('leads from the start to the nodes of chunk 3 of a file in at most six keys', () => {
    const start = sampleState();
    const folder = inFolder(start, ['video.mp4', 'other']);
    expect(folder.screen).toBe('files');
    const file = inFile(start);
    const at = pressed(file, 'right', 'right', 'right');
    // 3, enter, right, right, right: five.
    expect(text(at)).toContain('Chunk 3 ');
    expect(text(at)).toMatch(/n1 +good +2h00m ago/);
    expect(text(at)).toMatch(/n5 +unchecked +never/);
  });

  it('jumps to the next chunk that has a problem', () => {
    const at = pressed(inFile(sampleState()), 'n');
    expect(at.files.file?.cursor).toBe(7);
    expect(text(at)).toMatch(/n3 +down/);
  });

  it('goes through the windows of a very large file until a problem is found, and says when there is none', () => {
    const chunkCount = 2 * FILE_WINDOW_CHUNKS + 10;
    const whole = (from: number) =>
      chunkRows(
        Array.from({ length: 10 }, (_, index) =>
          sampleChunk(
            from + index,
            ['n1', 'n2', 'n4'].map((name) => [name, 'good']),
          ),
        ),
      );
    const arrive = (at: State): State => {
      const request = wantedWatches(at).find((one) => one.topic === 'file');
      if (request?.topic !== 'file') throw new Error('no file is wanted');
      return update(at, snapshot(request, sampleFileHead(chunkCount), whole(request.offset ?? 0))).state;
    };
    let at = pressed(inFile(sampleState(), chunkCount), 'G');
    at = pressed(arrive(at), 'n');
    const seen = [at.files.file?.offset];
    for (let step = 0; step < 5 && at.files.file?.windowsToSearch !== 0; step += 1) {
      at = arrive(at);
      seen.push(at.files.file?.offset);
    }
    expect(seen.slice(0, 3)).toEqual([0, FILE_WINDOW_CHUNKS, 2 * FILE_WINDOW_CHUNKS]);
    expect(at.files.file?.windowsToSearch).toBe(0);
    expect(text(at)).toContain('no chunk below its copies was found');
  });

  it('looks for a problem in the next window of a very large file', () => {
    const asked = pressed(
      inFile(sampleState(), FILE_WINDOW_CHUNKS + 100),
      'right',
      'right',
      'right',
      'right',
      'right',
      'right',
      'right',
      'n',
    );
    expect(asked.files.file).toMatchObject({ offset: FILE_WINDOW_CHUNKS, windowsToSearch: 2 });
    const request = wantedWatches(asked).find((one) => one.topic === 'file')!;
    const rows = chunkRows(
      Array.from({ length: 100 }, (_, index) =>
        sampleChunk(
          FILE_WINDOW_CHUNKS + index,
          index === 42
            ? []
            : [
                ['n1', 'good'],
                ['n2', 'good'],
                ['n4', 'good'],
              ],
        ),
      ),
    );
    const there = update(asked, snapshot(request, sampleFileHead(FILE_WINDOW_CHUNKS + 100), rows)).state;
    expect(there.files.file).toMatchObject({ cursor: FILE_WINDOW_CHUNKS + 42, windowsToSearch: 0 });
    expect(text(there)).toContain('NO: no good copy in reach');
  });

  it('escapes names that hold control characters', () => {
    const shown = text(inFolder(sampleState(), ['evil\u001b[2J\nname']));
    expect(shown).toContain('evil\\x1b[2J\\nname');
    expect(shown).not.toContain('\u001b');
  });

  it('asks for the rows of a long folder in windows that move with the view', () => {
    const at = pressed(sampleState(), '3');
    const request = wantedWatches(at).find((one) => one.topic === 'directory')!;
    const rows = Array.from({ length: 300 }, (_, index) => ({ key: String(index), ...sampleEntry(`f${index}`) }));
    const folder = update(at, snapshot(request, { path: '/', inode: 1, total: 100_000, matching: 100_000, parent: null }, rows)).state;
    const end = pressed(folder, 'G');
    expect(end.files.folders.at(-1)?.selected).toBe(99_999);
    const asked = wantedWatches(end).find((one) => one.topic === 'directory')!;
    expect(asked).toMatchObject({ limit: 300 });
    expect((asked as { offset: number }).offset).toBeGreaterThan(99_600);
    expect(text(end)).toContain('...');
  });

  it('says what to do in an empty folder', () => {
    expect(text(inFolder(sampleState(), []))).toContain('Try: holdfast upload README.md /');
  });

  it('follows the newest event until scrolled, then counts the new ones', () => {
    const at = pressed(sampleState(), '4');
    expect(text(at)).toContain('following');
    const scrolled = pressed(at, 'up', 'up');
    const more = update(scrolled, eventsSnapshot(15)).state;
    expect(text(more)).toContain('3 new, G to follow');
    expect(text(pressed(more, 'G'))).toContain('following');
  });

  it('filters while typing, and esc puts the old filter back', () => {
    const at = pressed(sampleState(), '4', '/', ...'number 1');
    expect(at.events.filter).toBe('number 1');
    expect(text(at)).toContain('Events: 4');
    expect(pressed(at, 'esc').events.filter).toBe('');
    expect(pressed(at, 'enter', 'q').events.filter).toBe('number 1');
  });

  it('shows warnings only on w', () => {
    expect(text(pressed(sampleState(), '4', 'w'))).toContain('Events: 2, warnings and errors');
  });
});

describe('actions', () => {
  it('of no consequence run at once', () => {
    expect(press(sampleState(), 'B').effects).toEqual([
      { kind: 'run', action: { kind: 'call', method: 'scrub', args: { action: 'start' }, label: 'scrub' } },
    ]);
  });

  it('with consequences ask first, name the effect, and any key but y leaves it', () => {
    const asked = press(sampleState(), '2', 'D');
    expect(asked.effects).toEqual([]);
    expect(text(asked.state)).toContain('moves 262 chunks off n1');
    for (const key of ['n', 'enter', 'esc', 'j']) {
      const left = press(asked.state, key);
      expect(left.effects).toEqual([]);
      expect(left.state.overlay.kind).toBe('none');
    }
    expect(press(asked.state, 'y').effects).toEqual([
      { kind: 'run', action: { kind: 'call', method: 'drainNode', args: { node: 'n1' }, label: 'drain n1' } },
    ]);
  });

  it('that could lose data want the name typed', () => {
    const local = update(sampleState(undefined, { stateDir: '/tmp/x' }), {
      kind: 'local',
      processes: { coordinator: 'running', n1: 'running', n5: 'running' },
    }).state;
    const asked = pressed(local, '2', 'G', 'K');
    expect(asked.overlay).toMatchObject({ kind: 'confirm', confirmation: { level: 'type', word: 'n5' } });
    expect(text(asked)).toContain('4 chunks would be UNREADABLE');
    expect(press(asked, 'y', 'enter').effects).toEqual([]);
    expect(press(asked, 'n', '5', 'enter').effects).toEqual([
      { kind: 'run', action: { kind: 'local', verb: 'kill', name: 'n5', label: 'kill n5' } },
    ]);
  });

  it('on files want the name of the file', () => {
    const asked = pressed(inFolder(sampleState(), ['video.mp4']), 'X');
    expect(asked.overlay).toMatchObject({ kind: 'confirm', confirmation: { level: 'type', word: 'video.mp4' } });
    expect(press(asked, ...'video.mp4', 'enter').effects).toMatchObject([
      { kind: 'run', action: { method: 'deleteFile', args: { path: '/video.mp4' } } },
    ]);
  });

  it('set copies by asking for a number from 1 to 8', () => {
    const folder = inFolder(sampleState(), ['a']);
    expect(pressed(folder, 'C', '9', 'enter').flash?.text).toContain('1 to 8');
    const asked = pressed(folder, 'C', '2', 'enter');
    expect(text(asked)).toContain('surplus copies are deleted');
    expect(press(asked, 'y').effects).toMatchObject([{ action: { method: 'setCopies', args: { volume: 'main', copies: 2 } } }]);
  });

  it('are all refused when read-only', () => {
    const state = sampleState(undefined, { readOnly: true });
    for (const keys of [['B'], ['R'], ['D'], ['2', 'F'], ['5', 'X'], [':', ...'scrub', 'enter']])
      expect(press(state, ...keys).effects).toEqual([]);
  });

  it('of others than admins are refused with the reason', () => {
    const state = update(sampleState(), {
      kind: 'link',
      link: { kind: 'live', sinceMs: 0, url: 'x', user: 'guest', isAdmin: false },
    }).state;
    const asked = press(state, 'B');
    expect(asked.effects).toEqual([]);
    expect(asked.state.flash?.text).toContain('guest may look but not change');
  });

  it('that fail stay on screen until a key, those that worked fade', () => {
    const failed = update(sampleState(), { kind: 'done', label: 'drain n1', ok: false, text: 'drain n1: too few nodes (REFUSED)' }).state;
    const later = update(failed, { kind: 'tick', nowMs: 900_000, wallMs: WALL_MS }).state;
    expect(text(later)).toContain('too few nodes (REFUSED)');
    expect(text(pressed(later, 'j'))).not.toContain('too few nodes');
    const worked = update(sampleState(), { kind: 'done', label: 'scrub', ok: true, text: 'scrub J-3 started' }).state;
    expect(text(worked)).toContain('scrub J-3 started');
    expect(text(update(worked, { kind: 'tick', nowMs: 900_000, wallMs: WALL_MS }).state)).not.toContain('scrub J-3 started');
  });

  it('can be given by name, with completion', () => {
    expect(pressed(sampleState(), ':', ...'nod', 'down', 'tab').overlay).toMatchObject({ text: 'node ' });
    const at = pressed(sampleState(), ':', ...'node n', 'tab', 'enter');
    expect(at).toMatchObject({ screen: 'nodes', nodes: { selected: 'n1' } });
    expect(press(sampleState(), ':', ...'file /a/b', 'enter').effects).toEqual([{ kind: 'find', path: '/a/b' }]);
    expect(pressed(sampleState(), ':', ...'frobnicate', 'enter').flash?.text).toContain('is not a command');
  });
});

describe('a coordinator that is away', () => {
  const local = (state: State): State =>
    update(state, { kind: 'local', processes: { coordinator: 'stopped', n1: 'running', n2: 'running' } }).state;
  it('leaves the last data on screen, dimmed, and says since when and what is tried', () => {
    const away = updateAll(sampleState(), [offline, { kind: 'tick', nowMs: 13_000, wallMs: WALL_MS }]).state;
    const shown = text(away);
    expect(shown).toContain('OFFLINE 12s');
    expect(shown).toContain('retry 4');
    expect(shown).toContain('connection refused');
    expect(shown).toContain('J-81');
    for (const one of drawFrame(away).slice(3, -2)) expect(one.map((part) => part.style)).toEqual(['dim']);
  });
  it('refuses remote actions with the reason, but still starts and stops local processes', () => {
    const away = local(update(sampleState(undefined, { stateDir: '/tmp/x' }), offline).state);
    const refused = press(away, 'B');
    expect(refused.effects).toEqual([]);
    expect(refused.state.flash?.text).toContain('coordinator is not connected');
    expect(press(away, 'S').effects).toMatchObject([{ action: { kind: 'local', verb: 'start', name: 'coordinator' } }]);
    expect(press(pressed(away, '2', 'g'), 'T', 'y').effects).toMatchObject([{ action: { kind: 'local', verb: 'stop', name: 'n1' } }]);
  });
  it('leaves a refusal to be read when an action begun before it succeeds', () => {
    const refused = press(update(sampleState(), offline).state, 'B').state;
    const done = update(refused, { kind: 'done', label: 'kill coordinator', ok: true, text: 'coordinator killed' }).state;
    expect(done.flash?.text).toContain('coordinator is not connected');
    const failed = update(refused, { kind: 'done', label: 'kill n1', ok: false, text: 'n1 does not run' }).state;
    expect(failed.flash?.text).toBe('n1 does not run');
  });
  it('that comes back is announced with the length of its absence', () => {
    const away = updateAll(sampleState(), [offline, { kind: 'tick', nowMs: 13_000, wallMs: WALL_MS }]).state;
    const back = update(away, live).state;
    expect(text(back)).toContain('connected again after 12s');
    expect(text(back)).toContain('LIVE');
  });
  it('from the beginning gets a page with what was tried and the command that starts one', () => {
    const state = update(initialState({ ...sampleState().options, stateDir: '/tmp/x' }, { columns: 100, rows: 30 }, ''), offline).state;
    const shown = text(state);
    expect(shown).toContain('No coordinator answered');
    expect(shown).toContain('http://127.0.0.1:4700');
    expect(shown).toContain('connect ECONNREFUSED');
    expect(shown).toContain('scripts/up --state /tmp/x');
    expect(press(state, 'S').effects).toMatchObject([{ action: { kind: 'local', verb: 'start', name: 'coordinator' } }]);
    expect(press(state, 'q').effects).toEqual([{ kind: 'quit' }]);
  });
});

describe('every frame', () => {
  const key = fc.constantFrom(
    ...'12345hjklgGonmfrRSTKDUBFVCXPLIwey<>+-[]/:?',
    ...[
      'up',
      'down',
      'left',
      'right',
      'enter',
      'esc',
      'tab',
      'shift-tab',
      'pageup',
      'pagedown',
      'home',
      'end',
      'backspace',
      'ctrl-d',
      'ctrl-u',
    ],
  );
  const message: fc.Arbitrary<Message> = fc.oneof(
    { weight: 20, arbitrary: key.map((one): Message => ({ kind: 'key', key: one })) },
    {
      weight: 2,
      arbitrary: fc
        .record({ columns: fc.integer({ min: 1, max: 180 }), rows: fc.integer({ min: 1, max: 60 }) })
        .map((size): Message => ({ kind: 'resize', ...size })),
    },
    { weight: 1, arbitrary: fc.constantFrom(live, offline) },
    {
      weight: 1,
      arbitrary: fc
        .array(fc.constantFrom(...SAMPLE_NODES, sampleNode('rtl\u202e\u001b')), { maxLength: 5 })
        .map((nodes) => overviewSnapshot(nodes)),
    },
    { weight: 1, arbitrary: fc.nat(50).map(eventsSnapshot) },
    {
      weight: 1,
      arbitrary: fc
        .record({ label: fc.string({ unit: 'binary' }), ok: fc.boolean(), text: fc.string({ unit: 'binary' }) })
        .map((one): Message => ({ kind: 'done', ...one })),
    },
  );
  const size = fc.constantFrom(
    { columns: 100, rows: 30 },
    { columns: 80, rows: 24 },
    { columns: 60, rows: 16 },
    { columns: 200, rows: 60 },
  );
  const start = fc.constantFrom(
    (at: { columns: number; rows: number }) => sampleState(at),
    (at: { columns: number; rows: number }) => inFolder(sampleState(at), ['a', 'b\u001b', '日本語']),
    (at: { columns: number; rows: number }) => inFile(sampleState(at)),
    (at: { columns: number; rows: number }) => initialState(sampleState().options, at, 'http://x'),
  );
  it('fills the terminal exactly and holds nothing that commands it, whatever keys, sizes and data come', () => {
    fc.assert(
      fc.property(start, size, fc.array(message, { maxLength: 40 }), (begin, at, messages) => {
        let state = begin(at);
        for (const one of messages) {
          state = update(state, one).state;
          const frame = drawFrame(state);
          expect(frame).toHaveLength(state.rows);
          for (const line of frame) {
            if (rowWidth(line) !== state.columns) expect(`${rowText(line)} ${rowWidth(line)}`).toBe(`${state.columns} columns`);
            // biome-ignore lint/suspicious/noControlCharactersInRegex: looking for them is the test
            if (/[\x00-\x1f\x7f-\x9f]/.test(rowText(line))) expect(rowText(line)).toBe('no control characters');
          }
        }
      }),
      { numRuns: 150 },
    );
  });
});
