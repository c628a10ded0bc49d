/**
 * One request with a deadline: how a call looks on the wire, and the two small interfaces that stand for a connection, so Socket.IO and the
 * simulated network are interchangeable.
 *
 * On Socket.IO a call is the event "call" with one CallFrame and an acknowledgement carrying one ReplyFrame, in both directions; a push is
 * the event "push" with one PushFrame and no acknowledgement. Binary never travels here beyond single Buffers inside a message.
 */
import type { z } from 'zod';
import type { WireError } from './errors.js';

export interface CallFrame {
  readonly method: string;
  /**
   * Number of this request within the client's session, growing by one, only on calls that change something. The same number sent again is
   * the same request: it is applied once and answered the same way.
   */
  readonly request?: number;
  /** Every request below this number has been answered and its stored reply may be dropped. */
  readonly answeredBelow?: number;
  readonly args: unknown;
}
export type ReplyFrame = { readonly ok: unknown } | { readonly error: WireError };
export interface PushFrame {
  readonly topic: string;
  readonly data: unknown;
}

/** The frame, when it is one; checked by hand because every call passes here. What `args` holds is for the table's schema to say. */
export function callFrameOf(frame: unknown): CallFrame | undefined {
  if (typeof frame !== 'object' || frame === null) return undefined;
  const { method, request, answeredBelow, args } = frame as Partial<Record<keyof CallFrame, unknown>>;
  if (typeof method !== 'string' || method.length > 64) return undefined;
  if (!isCountOrAbsent(request) || !isCountOrAbsent(answeredBelow)) return undefined;
  return { method, args, ...(request === undefined ? {} : { request }), ...(answeredBelow === undefined ? {} : { answeredBelow }) };
}
const isCountOrAbsent = (value: unknown): value is number | undefined =>
  value === undefined || (Number.isSafeInteger(value) && (value as number) >= 0);

/** One call of a table: `request` is checked at the boundary, `Reply` is a type only. */
export interface CallDefinition<Request, Reply, Changes extends boolean = boolean> {
  readonly request: z.ZodType<Request>;
  /** True when it changes metadata: it carries a request number and is applied exactly once. */
  readonly changes: Changes;
  readonly reply?: Reply;
}
export const query =
  <Reply>() =>
  <S extends z.ZodType>(request: S): CallDefinition<z.infer<S>, Reply, false> => ({
    request: request as z.ZodType<z.infer<S>>,
    changes: false,
  });
export const change =
  <Reply>() =>
  <S extends z.ZodType>(request: S): CallDefinition<z.infer<S>, Reply, true> => ({
    request: request as z.ZodType<z.infer<S>>,
    changes: true,
  });

// biome-ignore lint/suspicious/noExplicitAny: the table's own types say what each call carries
export type CallTable = Record<string, CallDefinition<any, any>>;
export type RequestOf<T extends CallTable, M extends keyof T> = T[M] extends CallDefinition<infer Request, unknown> ? Request : never;
export type ReplyOf<T extends CallTable, M extends keyof T> =
  T[M] extends CallDefinition<never, infer Reply> ? Reply : T[M] extends { readonly reply?: infer R } ? Exclude<R, undefined> : never;
/** What answers the calls of a table. `Caller` is what the answering side knows of who asks. */
export type Handlers<T extends CallTable, Caller> = {
  [M in keyof T]: (caller: Caller, request: RequestOf<T, M>) => ReplyOf<T, M> | Promise<ReplyOf<T, M>>;
};

/** One end of a live connection. Everything rejects with HoldfastError: UNREACHABLE once closed, DEADLINE when no reply came in time. */
export interface Connection {
  /** Sends a frame and resolves with the reply's value, or rejects with the error it carried. */
  call(frame: CallFrame, timeoutMs: number): Promise<unknown>;
  push(frame: PushFrame): void;
  /** Set once, before anything can arrive. */
  onCall: ((frame: CallFrame) => Promise<unknown>) | undefined;
  onPush: ((frame: PushFrame) => void) | undefined;
  onClose: ((reason: string) => void) | undefined;
  close(reason: string): void;
  readonly isOpen: boolean;
  /** For logs: host and port, or a simulated name. */
  readonly peer: string;
}

/** Opens connections; tries once. The caller decides about retrying. */
export interface Dialer {
  /** @throws {HoldfastError} UNREACHABLE, or what the other side's handshake answered (UNAUTHORIZED, PROTOCOL_VERSION, WRONG_CLUSTER, ...) */
  dial(namespace: 'client' | 'node' | 'admin', handshake: Record<string, unknown>, timeoutMs: number): Promise<Connection>;
}

/** Called by a server for every new connection; throws HoldfastError to refuse it. Must set onCall/onPush/onClose synchronously. */
export type Accept = (namespace: 'client' | 'node' | 'admin', handshake: unknown, connection: Connection) => void | Promise<void>;
