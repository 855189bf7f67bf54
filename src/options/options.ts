/**
 * Options of public functions: each function has a table of those that it takes, with a check for each (`checks.ts`). What is
 * not in the table is an error that says which option was meant, so that nothing is left out without a word.
 */
import { type Check, isObject, shown } from "../checks.ts";
import { ArgumentError } from "../errors.ts";
import { aliasOf, camelCase, hints } from "./names.ts";
import { nearestName } from "./nearest-name.ts";

/** One check for each option that the interface `Options` has: an option without one does not compile. */
export type OptionTable<Options> = { readonly [Name in keyof Required<Options>]: Check };

export interface OptionsOf {
  /** Whose options they are, as messages have it: "TextToImagePipeline.generate". */
  of: string;
  /** What diffusers' callbacks get as their first argument. */
  self?: unknown;
}

/**
 * A copy of `given` with the table's names, without what is undefined. Names that the field uses for the same thing
 * (`numInferenceSteps`, `guidance_scale`, `device`) are taken for ours. Throws ArgumentError for an option that is not in the
 * table, one that is given twice under two names, and a value that fails its check.
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
    // A value that is converted is checked as what it is given as: a function stays one.
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
