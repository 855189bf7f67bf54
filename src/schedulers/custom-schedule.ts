import { ArgumentError } from "../errors.ts";

/** A schedule given by the caller instead of a number of steps: one of the two lists, as in diffusers' `set_timesteps`. */
export interface CustomSchedule {
  /** Descending, one for each step. Whole numbers, except for Euler and flow matching. */
  readonly timesteps?: readonly number[];
  /** Descending noise levels. Euler: one more than there are steps, the last usually 0. Flow matching: one for each step. */
  readonly sigmas?: readonly number[];
}

export type Plan =
  | { readonly steps: number; readonly timesteps?: undefined; readonly sigmas?: undefined }
  | { readonly steps?: undefined; readonly timesteps: readonly number[]; readonly sigmas?: undefined }
  | { readonly steps?: undefined; readonly timesteps?: undefined; readonly sigmas: readonly number[] };

/**
 * The requested number of steps, or the list. Throws ArgumentError for a list that the class does not support, or one
 * longer than `most`.
 */
export function readPlan(
  className: string,
  plan: number | CustomSchedule,
  taken: readonly (keyof CustomSchedule)[],
  most: number,
): Plan {
  if (typeof plan === "number") return { steps: plan };
  const { timesteps, sigmas } = plan;
  if (timesteps && sigmas) throw new ArgumentError(`${className}: give timesteps or sigmas, not both.`);
  const name = timesteps ? "timesteps" : "sigmas";
  const values = timesteps ?? sigmas;
  if (!Array.isArray(values)) throw new ArgumentError(`${className}: give the number of steps, timesteps or sigmas.`);
  if (!taken.includes(name)) {
    const known = taken.length > 0 ? `only a number of steps or ${taken.join(", ")}` : "only a number of steps";
    throw new ArgumentError(`${className}: it does not take ${name} of your own, ${known}.`);
  }
  if (values.length === 0 || values.length > most) {
    throw new ArgumentError(`${className}: ${name} must have from 1 to ${most} values, not ${values.length}.`);
  }
  return timesteps ? { timesteps: values } : { sigmas: values };
}

/** The number of steps, for a class that does not support lists. Throws ArgumentError for lists. */
export function stepsOf(className: string, plan: number | CustomSchedule): number {
  return readPlan(className, plan, [], 0).steps!;
}

export interface ListLimits {
  least: number;
  most: number;
  whole?: boolean;
}

/** Throws ArgumentError unless the numbers descend and are within the limits. */
export function checkDescending(
  className: string,
  name: keyof CustomSchedule,
  values: readonly number[],
  { least, most, whole = false }: ListLimits,
): void {
  for (const [i, value] of values.entries()) {
    const fits = whole ? Number.isInteger(value) : Number.isFinite(value);
    if (!fits || value < least || value > most) {
      const range = least === Number.MIN_VALUE ? `above 0, up to ${most}` : `from ${least} to ${most}`;
      throw new ArgumentError(`${className}: ${name} must be ${whole ? "whole " : ""}numbers ${range}, not ${value}.`);
    }
    if (i > 0 && value >= values[i - 1]!) {
      throw new ArgumentError(`${className}: ${name} must descend, but ${value} follows on ${values[i - 1]}.`);
    }
  }
}
