/** Values that a zod schema accepts, made by chance: what the fields mean (inodes, names, chunks, ...) is taken from what the fuzzer knows of the cluster. */
import type { z } from 'zod';
import type { Random } from '../simulation/random.js';

/** What may stand in a field of this name; undefined = whatever its type allows. */
export type Hint = (key: string, random: Random) => unknown;

/** The parts of zod's own description of a schema that the tables use. */
interface Definition {
  readonly type: string;
  readonly shape?: Record<string, z.ZodType>;
  readonly innerType?: z.ZodType;
  readonly element?: z.ZodType;
  readonly options?: readonly z.ZodType[];
  readonly entries?: Record<string, string>;
  readonly values?: readonly unknown[];
}

const PRESENT = 0.6;

/** @throws {Error} for a kind of schema it does not know: then it is to be taught */
export function valueFor(schema: z.ZodType, random: Random, hint: Hint, key = ''): unknown {
  const definition = (schema as unknown as { _zod: { def: Definition } })._zod.def;
  switch (definition.type) {
    case 'object': {
      const value: Record<string, unknown> = {};
      for (const [name, field] of Object.entries(definition.shape ?? {})) {
        const one = valueFor(field, random, hint, name);
        if (one !== undefined) value[name] = one;
      }
      return value;
    }
    case 'optional':
      return random.chance(PRESENT) ? valueFor(definition.innerType as z.ZodType, random, hint, key) : undefined;
    case 'nullable':
      return random.chance(PRESENT) ? valueFor(definition.innerType as z.ZodType, random, hint, key) : null;
    case 'union':
      return valueFor(random.pick(definition.options ?? []), random, hint, key);
    case 'array':
      return Array.from({ length: random.int(4) }, () => valueFor(definition.element as z.ZodType, random, hint, key));
    case 'enum':
      return random.pick(Object.values(definition.entries ?? {}));
    case 'literal':
      return random.pick(definition.values ?? []);
    case 'boolean':
      return random.chance(0.5);
    case 'number':
      return hint(key, random) ?? random.pick([0, 1, 2, 100, 4096, 65_536, 1_000_000]);
    case 'string':
      return hint(key, random) ?? `s${random.int(100)}`;
    // Chunk ids and buffers.
    case 'custom':
      return hint(key, random) ?? Buffer.from(`v${random.int(100)}`);
    case 'record':
    case 'unknown':
      return { form: random.int(3) };
    default:
      throw new Error(`the fuzzer does not know schemas of type ${definition.type} (field ${key})`);
  }
}
