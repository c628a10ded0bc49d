import { expect, it } from 'vitest';
import { FakeEnvironment } from '../test/fake-environment.js';
import { NodeDoors } from './node-doors.js';
import { State } from './state.js';

it('a join token opens once, and not after its time', async () => {
  const environment = new FakeEnvironment();
  const state = new State();
  const doors = new NodeDoors(environment, state, 'node-token');
  expect(doors.authenticate('node-token')).toEqual({ kind: 'cluster' });
  const make = () => state.transact((tx) => doors.makeJoinToken(tx, 60_000));
  const [used, late] = [make(), make()];
  expect(doors.authenticate(used.token)).toEqual({ kind: 'join', id: 'K1' });
  state.transact((tx) => doors.consume(tx, used.id));
  expect(() => doors.authenticate(used.token)).toThrow(expect.objectContaining({ code: 'UNAUTHORIZED' }));
  expect(() => state.transact((tx) => doors.consume(tx, used.id))).toThrow(/used already/);
  expect(doors.authenticate(late.token)).toEqual({ kind: 'join', id: 'K2' });
  await environment.advance(61_000);
  expect(() => doors.authenticate(late.token)).toThrow(expect.objectContaining({ code: 'UNAUTHORIZED' }));
  expect(JSON.stringify([...state.table('settings').all()])).not.toContain(late.token);
});
