/** Calls of nodes: event in, checked, one function called, reply or error out. No rules here. */

import type { z } from 'zod';
import type { CallFrame, Connection, RequestOf } from '../protocol/call.js';
import { HoldfastError } from '../protocol/errors.js';
import { type NodeCalls, nodeCalls, nodeHandshake } from '../protocol/node-calls.js';
import { checked, checkedHandshake } from './checked.js';
import type { Member } from './member.js';
import type { Membership } from './membership.js';
import type { NodeDoors } from './node-doors.js';
import type { ReplicaCare } from './replica-care.js';

export interface NodeHandlersContext {
  readonly membership: Membership;
  readonly care: ReplicaCare;
  readonly doors: NodeDoors;
  /** The reply to a registration is on its way: orders may follow. */
  joined(member: Member): void;
}

/** @throws {HoldfastError} PROTOCOL_VERSION, UNAUTHORIZED, BAD_MESSAGE */
export function acceptNode(context: NodeHandlersContext, handshake: unknown, connection: Connection): void {
  const { token } = checkedHandshake(nodeHandshake, handshake);
  const door = context.doors.authenticate(token);
  let member: Member | undefined;
  let isRegistering = false;

  connection.onClose = (reason) => {
    if (member) context.membership.closed(member, connection, reason);
  };
  connection.onCall = async (frame: CallFrame): Promise<unknown> => {
    if (frame.method === 'register') {
      if (member || isRegistering) throw new HoldfastError('BAD_MESSAGE', 'this connection has registered already');
      isRegistering = true;
      try {
        const registered = await context.membership.register(connection, args('register', frame), door, (tx, id) =>
          context.doors.consume(tx, id),
        );
        member = registered.member;
        context.joined(member);
        return registered.reply;
      } finally {
        isRegistering = false;
      }
    }
    if (!member) throw new HoldfastError('BAD_MESSAGE', 'register first');
    // A connection that was replaced speaks for nobody any more.
    if (member.connection !== connection) throw new HoldfastError('UNREACHABLE', 'this connection was replaced by a newer one');
    switch (frame.method) {
      case 'heartbeat':
        return context.membership.beat(member, args('heartbeat', frame));
      case 'goodbye':
        context.membership.goodbye(member, args('goodbye', frame).reason);
        return {};
      case 'badReplica': {
        const { chunk, problem, detail, foundBy } = args('badReplica', frame);
        context.care.bad(member.id, chunk, problem, detail, foundBy);
        return {};
      }
      case 'verified':
        context.care.found(member.id, args('verified', frame).chunks);
        return {};
      default:
        throw new HoldfastError('BAD_MESSAGE', `nodes cannot call ${frame.method.slice(0, 64)}`);
    }
  };
}

const args = <M extends keyof NodeCalls>(method: M, frame: CallFrame): RequestOf<NodeCalls, M> =>
  checked(nodeCalls[method].request as z.ZodType<RequestOf<NodeCalls, M>>, frame.args, method);
