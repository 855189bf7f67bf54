/**
 * Values that come from outside, for all rooms: the command line, files, callers without types. How a number is read from text,
 * and what an option must be: one function a kind, which throws ArgumentError that says what was given instead.
 */
import { ArgumentError } from "./errors.ts";

/** Digits with a point and an exponent, if any: what a person writes. No spaces, no 0x10, no Infinity, no empty text. */
const decimal = /^-?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?$/i;

/** A finite number in decimal notation; NaN for any other text, so that comparisons with limits refuse it. */
export function readDecimal(text: string): number {
  const value = decimal.test(text) ? Number(text) : Number.NaN;
  // Negative zero is a zero that prints as "-0" and sorts before none.
  return Number.isFinite(value) ? value + 0 : Number.NaN;
}

/** Throws ArgumentError unless `value`, which messages call `name`, is what it must be. Never changes it. */
export type Check = (value: unknown, name: string) => void;

/** The longest prompt, name or path that is looked at, in characters. */
const LONGEST_TEXT = 2 ** 24;

function refuse(name: string, expected: string, value: unknown): never {
  throw new ArgumentError(`${name} must be ${expected}, not ${shown(value)}.`);
}

/** A check of one condition. */
export const must =
  (expected: string, accepts: (value: unknown) => boolean): Check =>
  (value, name) => {
    if (!accepts(value)) refuse(name, expected, value);
  };

export const whole = (least: number, most: number): Check =>
  must(
    `a whole number from ${least} to ${most}`,
    (value) => typeof value === "number" && Number.isInteger(value) && value >= least && value <= most,
  );

/** A number that is neither NaN nor infinite. */
export const number = (least = -Number.MAX_VALUE, most = Number.MAX_VALUE): Check =>
  must(
    range(least, most),
    (value) => typeof value === "number" && Number.isFinite(value) && value >= least && value <= most,
  );

function range(least: number, most: number): string {
  if (most < Number.MAX_VALUE) return `a number from ${least} to ${most}`;
  return least > -Number.MAX_VALUE ? `a number of at least ${least}` : "a number";
}

export const flag: Check = must("true or false", (value) => typeof value === "boolean");

export const text: Check = (value, name) => {
  if (typeof value !== "string") refuse(name, "a string", value);
  if (value.length <= LONGEST_TEXT) return;
  throw new ArgumentError(`${name} has ${value.length} characters; at most ${LONGEST_TEXT} are read.`);
};

export const oneOf = (names: readonly string[]): Check =>
  must(`one of ${names.join(", ")}`, (value) => typeof value === "string" && names.includes(value));

export const callback: Check = must("a function", (value) => typeof value === "function");

/** By what it has, not by its class: signals may come from another realm, or from a library. */
export const signal: Check = must("an AbortSignal", (value) => {
  const { aborted, addEventListener } = (value ?? {}) as Partial<AbortSignal>;
  return typeof aborted === "boolean" && typeof addEventListener === "function";
});

/** Names with texts, such as what is kept with a picture. */
export const texts: Check = must(
  "an object of strings",
  (value) => isObject(value) && Object.values(value).every((item) => typeof item === "string"),
);

/** An object whose own contents are checked by whoever gets it. */
export const anObject: Check = must("an object", isObject);

export const listOf =
  (item: Check, { least = 0, most }: { least?: number; most: number }): Check =>
  (value, name) => {
    if (!Array.isArray(value)) refuse(name, "a list", value);
    if (value.length < least || value.length > most) {
      const items = least === most ? `${least}` : `${least} to ${most}`;
      throw new ArgumentError(`${name} must have ${items} items, not ${value.length}.`);
    }
    // By index, because holes of an array are items that are missing.
    for (let i = 0; i < value.length; i++) item(value[i], `${name}[${i}]`);
  };

/** The first check for strings, the second for everything else. */
export const textOr =
  (ofText: Check, other: Check): Check =>
  (value, name) =>
    (typeof value === "string" ? ofText : other)(value, name);

/** One of something, or a list of it. */
export const oneOrList =
  (item: Check, limits: { least?: number; most: number }): Check =>
  (value, name) =>
    (Array.isArray(value) ? listOf(item, limits) : item)(value, name);

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** A value as a message shows it, with its type where the value alone would be taken for another. */
export function shown(value: unknown): string {
  if (typeof value === "string") {
    const quoted = JSON.stringify(value.length <= 60 ? value : `${value.slice(0, 60)}...`);
    return value.length <= 60 ? `the string ${quoted}` : `the string ${quoted} of ${value.length} characters`;
  }
  if (typeof value === "bigint") return `the bigint ${value}`;
  if (Array.isArray(value)) return value.length === 0 ? "an empty list" : `a list of ${value.length}`;
  if (typeof value === "function") return "a function";
  if (typeof value === "symbol") return "a symbol";
  if (typeof value !== "object" || value === null) return String(value);
  const kind: unknown = (value as { constructor?: { name?: unknown } }).constructor?.name;
  return typeof kind === "string" && kind !== "" && kind !== "Object"
    ? `an object (${kind.slice(0, 60)})`
    : "an object";
}
