import { ArgumentError } from "../errors.ts";
import { oneOf } from "./config.ts";

/** Names of diffusers' `timestep_spacing`. */
export type TimestepSpacing = "linspace" | "leading" | "trailing";

export const timestepSpacings: readonly TimestepSpacing[] = ["linspace", "leading", "trailing"];

/** How sampling timesteps are picked from the training ones (Lin et al. 2024, table 2). */
export const spacingField = (fallback: TimestepSpacing) => oneOf(fallback, timestepSpacings);

export interface SpacingOptions {
  spacing: TimestepSpacing;
  /** Training timesteps. */
  total: number;
  /** Added to leading timesteps: diffusers' steps_offset. */
  offset: number;
  /** One past the noisiest timestep that may be used; `total` unless given. */
  last?: number;
  /** Space one point more than there are steps, and leave out the cleanest, as DPM-Solver does. */
  extraPoint?: boolean;
  /** Leave linspace timesteps fractional, as Euler does. */
  fractional?: boolean;
}

/** Descending timesteps for `steps` solver steps. Throws ArgumentError if there are not that many to choose from. */
export function spacedTimesteps(className: string, steps: number, options: SpacingOptions): number[] {
  const { spacing, total, offset, last = total, extraPoint = false, fractional = false } = options;
  checkSteps(className, steps, total);
  const points = extraPoint ? steps + 1 : steps;
  const descending = Array.from({ length: steps }, (_, i) => points - 1 - i);
  if (spacing === "linspace") {
    const gap = points === 1 ? 0 : (last - 1) / (points - 1);
    return descending.map((i) => {
      const t = points > 1 && i === points - 1 ? last - 1 : i * gap;
      return fractional ? Math.fround(t) : roundHalfToEven(t);
    });
  }
  if (spacing === "leading") {
    const ratio = Math.floor(last / points);
    const timesteps = descending.map((i) => i * ratio + offset);
    if (ratio === 0 || timesteps[0]! >= total) {
      throw new ArgumentError(
        `${className}: ${steps} steps with leading spacing and steps_offset ${offset} do not fit into ${total} timesteps.`,
      );
    }
    return timesteps;
  }
  // The reference may take one step more, to timestep -1, where steps * (total / steps) rounds up (61 of 1000 steps).
  const gap = total / steps;
  const count = Math.min(steps, Math.ceil(last / gap));
  // Rounded like numpy's arange: with 777 timesteps every other one is near a half.
  const step = last - gap - last;
  return Array.from({ length: count }, (_, i) => roundHalfToEven(last + i * step) - 1);
}

/** Throws ArgumentError unless `steps` is a whole number from 1 to `total`. */
export function checkSteps(className: string, steps: number, total: number): void {
  if (!Number.isInteger(steps) || steps < 1 || steps > total) {
    throw new ArgumentError(`${className}: the number of steps must be from 1 to ${total}, not ${steps}.`);
  }
}

/** Rounds like numpy; Math.round rounds halves up. */
export function roundHalfToEven(x: number): number {
  const floor = Math.floor(x);
  if (x - floor !== 0.5) return Math.round(x);
  return floor % 2 === 0 ? floor : floor + 1;
}

/**
 * Index of a timestep in a schedule: `expected` if it is there, otherwise where it is found (the second one if it
 * occurs twice, as in the reference). Float32 copies of a fractional timestep count as equal.
 * Throws ArgumentError if the schedule has no such timestep.
 */
export function indexOfTimestep(
  className: string,
  timesteps: readonly number[],
  timestep: number,
  expected = -1,
): number {
  const same = (t: number | undefined) => t !== undefined && Math.abs(t - timestep) <= 1e-6 * Math.max(1, Math.abs(t));
  if (same(timesteps[expected])) return expected;
  const first = timesteps.findIndex(same);
  if (first < 0) throw new ArgumentError(`${className}: timestep ${timestep} is not in the schedule that was set.`);
  return same(timesteps[first + 1]) ? first + 1 : first;
}

/** Throws ArgumentError if setTimesteps has not been called. */
export function requireSteps(className: string, steps: number | undefined): number {
  if (steps === undefined) throw new ArgumentError(`${className}: call setTimesteps before step.`);
  return steps;
}
