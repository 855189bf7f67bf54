/**
 * Checks values from outside, such as a saved state. Each function returns the value, or throws an ArgumentError that
 * names it.
 */
import { isObject, number, shown, whole } from "../../checks.ts";
import { ArgumentError } from "../../errors.ts";

/** A whole number from `least` to `most`; text such as "5" is refused. */
export function checkCount(value: unknown, name: string, least: number, most: number): number {
  whole(least, most)(value, name);
  return value as number;
}

/** A finite number within limits; null, text, true and [0.5] are refused. */
export function checkNumber(value: unknown, name: string, least?: number, most?: number): number {
  number(least, most)(value, name);
  return value as number;
}

/** A list, with `length` entries if that is given. */
export function checkList(value: unknown, name: string, length?: number): readonly unknown[] {
  if (Array.isArray(value) && (length === undefined || value.length === length)) return value;
  throw new ArgumentError(`${name} must be a list${length === undefined ? "" : ` of ${length}`}, not ${shown(value)}.`);
}

/** An object that is not a list. */
export function checkObject(value: unknown, name: string): Readonly<Record<string, unknown>> {
  if (isObject(value)) return value;
  throw new ArgumentError(`${name} must be an object, not ${shown(value)}.`);
}
