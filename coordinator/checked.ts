/** Messages are checked once, at the boundary; what comes out has the shape its table says. */
import type { z } from 'zod';
import { HoldfastError } from '../protocol/errors.js';

/** @throws {HoldfastError} BAD_MESSAGE naming the field */
export function checked<T>(schema: z.ZodType<T>, value: unknown, method: string): T {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  throw new HoldfastError(
    'BAD_MESSAGE',
    `${method}: ${issue?.path.map(String).join('.') || 'arguments'}: ${issue?.message ?? 'malformed'}`.slice(0, 300),
  );
}

/** @throws {HoldfastError} PROTOCOL_VERSION when only the version is another, BAD_MESSAGE otherwise */
export function checkedHandshake<T>(schema: z.ZodType<T>, value: unknown): T {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const version = result.error.issues.find((issue) => issue.path[0] === 'protocol');
  if (version) throw new HoldfastError('PROTOCOL_VERSION', version.message);
  return checked(schema, value, 'handshake');
}
