/**
 * A part of the way from noise to an image, for models that make one image between them: Stable Diffusion XL ends early and its
 * refiner goes on from there (Podell et al. 2023, arXiv 2307.01952, section 2.5). diffusers' denoising_start and denoising_end.
 */
import { type Check, must } from "../checks.ts";
import { ArgumentError } from "../errors.ts";
import type { Scheduler } from "../schedulers/scheduler.ts";

/** A share of the way: 0 would be noise, 1 the image. */
export const shareCheck: Check = must(
  "a number above 0 and below 1",
  (value) => typeof value === "number" && value > 0 && value < 1,
);

/** The planned timestep with which a run begins that goes on at this share of the way. Throws ArgumentError if none is left. */
export function indexFrom(scheduler: Scheduler, start: number): number {
  const { timesteps, order = 1 } = scheduler;
  const cutoff = timestepAt(scheduler, start);
  let left = timesteps.filter((timestep) => timestep < cutoff).length;
  // Solvers of second order plan all timesteps but the highest twice; a run must not begin between the two.
  if (order === 2 && left % 2 === 0) left += 1;
  if (left > 0) return Math.max(0, timesteps.length - left);
  throw new ArgumentError(
    `denoisingStart ${start} leaves none of the ${timesteps.length} timesteps; take more steps, or a smaller share.`,
  );
}

/** The planned timestep before which a run ends at this share of the way; it begins with the timestep `first`. Throws ArgumentError. */
export function indexTo(scheduler: Scheduler, end: number, first: number): number {
  const { timesteps } = scheduler;
  const cutoff = timestepAt(scheduler, end);
  const done = timesteps.filter((timestep, i) => i >= first && timestep >= cutoff).length;
  if (done > 0) return first + done;
  throw new ArgumentError(
    `denoisingEnd ${end} leaves none of the ${timesteps.length - first} timesteps; take more steps, or a larger share.`,
  );
}

/** Timesteps count down from `trainTimesteps`; Python rounds halves to even numbers. */
function timestepAt({ trainTimesteps }: Scheduler, share: number): number {
  const exact = trainTimesteps - share * trainTimesteps;
  const below = Math.floor(exact);
  if (exact - below !== 0.5) return Math.round(exact);
  return below % 2 === 0 ? below : below + 1;
}
