import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { KeyedRow } from '../protocol/admin-calls.js';
import { pressed, sampleState } from '../test/tui-sample.js';
import { FILE_WINDOW_CHUNKS } from './model.js';
import { openFile } from './open.js';
import { fromSnapshot, MAX_EVENTS, wantedWatches, withChanges } from './topics.js';

const key = fc.constantFrom('a', 'b', 'c', 'd');
const change = fc.record({
  head: fc.option(fc.dictionary(key, fc.integer()), { nil: undefined }),
  upserts: fc.array(fc.record({ key, value: fc.integer() })),
  removes: fc.array(key),
});

describe('a live view', () => {
  it('after a snapshot and numbered changes is what a plain map would be', () => {
    fc.assert(
      fc.property(fc.array(fc.record({ key, value: fc.integer() })), fc.array(change), (rows, changes) => {
        let topic = fromSnapshot({ topic: 'jobs' }, {}, rows, 0);
        const model = new Map<string, KeyedRow>(rows.map((one) => [one.key, one]));
        for (const one of changes) {
          const before = new Map(topic.rows);
          const next = withChanges(topic, one, 1);
          expect(topic.rows).toEqual(before);
          topic = next;
          for (const gone of one.removes) model.delete(gone);
          for (const upsert of one.upserts) model.set(upsert.key, upsert);
        }
        expect(topic.rows).toEqual(model);
      }),
    );
  });

  it('of events stays bounded however many come', () => {
    let topic = fromSnapshot({ topic: 'events' }, {}, [], 0);
    for (let round = 0; round < 5; round += 1) {
      const upserts = Array.from({ length: 1000 }, (_, index) => ({ key: String(round * 1000 + index), sequence: round * 1000 + index }));
      topic = withChanges(topic, { upserts, removes: [] }, 0);
    }
    expect(topic.rows.size).toBe(MAX_EVENTS);
    expect(topic.rows.has('4999')).toBe(true);
    expect(topic.rows.has('2999')).toBe(false);
  });
});

describe('subscriptions', () => {
  const topicsOf = (state: Parameters<typeof wantedWatches>[0]) => wantedWatches(state).map((one) => one.topic);
  it('are only what the present screen shows', () => {
    const state = sampleState();
    expect(topicsOf(state)).toEqual(['overview', 'events', 'jobs']);
    expect(topicsOf(pressed(state, '2'))).toEqual(['overview', 'events']);
    expect(topicsOf(pressed(state, '3'))).toEqual(['overview', 'directory']);
    expect(topicsOf(pressed(state, '5'))).toEqual(['overview', 'jobs']);
  });
  it('ask for a file in windows', () => {
    expect(wantedWatches(openFile(sampleState(), 7, 'x'))).toContainEqual({
      topic: 'file',
      inode: 7,
      offset: 0,
      limit: FILE_WINDOW_CHUNKS,
    });
  });
});
