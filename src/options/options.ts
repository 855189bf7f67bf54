/**
 * Options of public functions: each function has a table of its options, with a check for each (`checks.ts`). An option
 * that is not in the table is an error that suggests the right one, so that nothing is ignored silently.
 */
import { type Check, isObject, shown } from "../checks.ts";
import { ArgumentError } from "../errors.ts";
import { aliasOf, camelCase, hints } from "./names.ts";
import { nearestName } from "./nearest-name.ts";

/** One check for each option that the interface `Options` has: an option without one does not compile. */
export type OptionTable<Options> = { readonly [Name in keyof Required<Options>]: Check };

export interface OptionsOf {
  /** The function whose options they are, for messages: "TextToImagePipeline.generate". */
  of: string;
  /** What diffusers' callbacks get as their first argument. */
  self?: unknown;
}

/**
 * A copy of `given` under the table's names, without undefined values. Other libraries' names for the same option
 * (`numInferenceSteps`, `guidance_scale`, `device`) are accepted. Throws ArgumentError for an option that is not in the
 * table, for one that is given twice under two names, and for a value that fails its check.
 */
export function readOptions<Options>(given: unknown, table: OptionTable<Options>, { of, self }: OptionsOf): Options {
  if (given === undefined) return {} as Options;
  if (!isPlain(given))
    throw new ArgumentError(`${of}: options must be a plain object, { name: value }, not ${shown(given)}.`);
  const read = new Map<string, { value: unknown; givenAs: string }>();
  for (const [givenAs, value] of Object.entries(given)) {
    if (value === undefined) continue;
    const { name, convert } = ownName(givenAs, table, of);
    const before = read.get(name);
    if (before) {
      throw new ArgumentError(`${of}: "${before.givenAs}" and "${givenAs}" are the same option; give one of them.`);
    }
    // A value is checked before it is converted: a function stays a function.
    (table as Record<string, Check>)[name]!(value, givenAs);
    read.set(name, { value: convert ? convert(value, self) : value, givenAs });
  }
  return Object.fromEntries([...read].map(([name, { value }]) => [name, value])) as Options;
}

/** A check for options within an option. */
export const settings =
  <Options>(table: OptionTable<Options>): Check =>
  (value, name) => {
    if (!isObject(value)) throw new ArgumentError(`${name} must be an object, not ${shown(value)}.`);
    for (const [key, item] of Object.entries(value)) {
      if (item === undefined) continue;
      if (!Object.hasOwn(table, key)) throw unknown(key, Object.keys(table), name);
      (table as Record<string, Check>)[key]!(item, `${name}.${key}`);
    }
  };

function ownName(given: string, table: object, of: string) {
  if (Object.hasOwn(table, given)) return { name: given };
  const alias = aliasOf(given, (name) => Object.hasOwn(table, name));
  if (alias) return alias;
  throw unknown(given, Object.keys(table), of);
}

function unknown(given: string, names: readonly string[], of: string): ArgumentError {
  const hint = hints.get(camelCase(given));
  if (hint) return new ArgumentError(`${of} has no option "${given.slice(0, 60)}": ${hint}`);
  const meant = nearestName(given, names);
  return new ArgumentError(
    `${of} has no option "${given.slice(0, 60)}". ${meant ? `Did you mean "${meant}"?` : `There are ${names.join(", ")}.`}`,
  );
}

/** An object literal, from whichever realm: its prototype is null, or an Object.prototype. */
function isPlain(value: unknown): value is Record<string, unknown> {
  if (!isObject(value)) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === null || Object.getPrototypeOf(prototype) === null;
}
