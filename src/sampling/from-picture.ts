/**
 * Sampling that begins at an image (Meng et al. 2022, arXiv 2108.01073), and of which only what is under a mask may change
 * (Lugmayr et al. 2022, arXiv 2201.09865, without going back in time), as diffusers' pipelines do both.
 */
import { type Check, must } from "../checks.ts";
import { ArgumentError, ShapeError } from "../errors.ts";
import type { Scheduler } from "../schedulers/scheduler.ts";
import { type FloatTensor, floatTensor, sizeOf } from "../tensor.ts";
import { indexFrom } from "./denoising-range.ts";
import { repeatRow, rows } from "./guidance.ts";
import type { SampleOptions, SampleStart } from "./sampler.ts";

/** How much of an image may change: at 1 all steps are done, at 0.5 the second half of them. */
export const strengthCheck: Check = must(
  "a number above 0 and at most 1",
  (value) => typeof value === "number" && value > 0 && value <= 1,
);

/** Latents are scaled as the denoiser has them. */
export interface PictureLatents {
  /** Of the image: [batch, channels, height, width]. Null where nothing of it is left: a denoiser that sees it, at full strength. */
  readonly latents: FloatTensor | null;
  /** Above 0, at most 1. */
  readonly strength: number;
  /** Where the run goes on that made `latents`, which have their noise already: a share of the way. Counts instead of `strength`. */
  readonly denoisingStart?: number | undefined;
  /** For inpainting: [1, 1, height, width], 1 where the image may change and 0 where it must not. */
  readonly mask?: FloatTensor;
  /** For denoisers with nine input channels, which see it: the latent of the image with what may change in grey. */
  readonly maskedLatents?: FloatTensor;
}

/**
 * Which of the planned timesteps is the first. `roundUp`: a part of a step is a whole one, as diffusers' pipelines of Stable Diffusion
 * 3 count; in its others it is none. Throws ArgumentError for a strength that leaves no step. Some solvers plan more timesteps
 * than `steps`; as in diffusers the beginning alone is left out.
 */
export function firstTimestep(scheduler: Scheduler, steps: number, strength: number, roundUp = false): number {
  strengthCheck(strength, "strength");
  const share = Math.min(steps * strength, steps);
  const first = roundUp ? Math.floor(steps - share) : steps - Math.floor(share);
  if (first < steps) return first * (scheduler.order ?? 1);
  throw new ArgumentError(
    `strength ${strength} of ${steps} steps is less than one step; take at least ${Math.ceil(1 / strength)} steps, or more strength.`,
  );
}

/**
 * Timesteps of a consistency model that begins at an image: as many as were asked for, out of the share of its distillation's that
 * `strength` says. Throws ArgumentError if there are not as many.
 */
export function consistencyTimesteps(scheduler: Scheduler, steps: number, strength: number): number[] {
  strengthCheck(strength, "strength");
  const original = scheduler.config["original_inference_steps"] as number;
  const count = Math.floor(original * strength);
  if (count < steps) {
    throw new ArgumentError(
      `strength ${strength} leaves ${count} of the ${original} timesteps that this model was distilled on; ask for at most so many ` +
        `steps, not ${steps}, or more strength.`,
    );
  }
  const stride = Math.floor(scheduler.trainTimesteps / original);
  return Array.from({ length: steps }, (_, i) => (count - Math.floor((i * count) / steps)) * stride - 1);
}

/**
 * How `sample` runs from an image: its latent with noise, or with a mask at full strength noise alone. The scheduler has its
 * timesteps. `roundUp`: see `firstTimestep`.
 */
export function fromPicture(
  scheduler: Scheduler,
  steps: number,
  noise: FloatTensor,
  { latents, strength, denoisingStart, mask, maskedLatents }: PictureLatents,
  { roundUp = false } = {},
): Pick<SampleOptions, "start" | "adjust"> {
  if (latents && denoisingStart !== undefined)
    return { start: { index: indexFrom(scheduler, denoisingStart), latents } };
  const index = firstTimestep(scheduler, steps, strength, roundUp);
  if (!latents) {
    if (mask && maskedLatents && strength === 1) return {};
    throw new ArgumentError("An image's latents are needed unless a denoiser sees the masked image and strength is 1.");
  }
  if (latents.data.length !== noise.data.length) {
    throw new ShapeError(
      `the image's latents are [${latents.shape.join(", ")}], the noise is [${noise.shape.join(", ")}]`,
    );
  }
  const noisy = (timestep: number) => scheduler.addNoise(latents, noise, [timestep]);
  const start: SampleStart | undefined =
    mask && strength === 1 ? undefined : { index, latents: noisy(scheduler.timesteps[index]!) };
  if (!mask || maskedLatents) return { start };
  return {
    start,
    adjust: (drawn, next) => blended(next === undefined ? latents : noisy(next), drawn, mask),
  };
}

/** What `beginning` needs to know of a run. */
type Run = Pick<SampleOptions, "scheduler" | "schedule" | "steps" | "noise" | "mu">;

/** What `strength` means for a model. */
interface StrengthOf {
  /** Whether it says how the steps are spaced instead of how many of them are done. */
  readonly spacedByStrength?: boolean;
  /** Whether a part of a step is a whole one. */
  readonly roundsStepsUp?: boolean;
}

/** How a run begins, at an image or at noise. The scheduler gets its timesteps. */
export function beginning(
  { scheduler, schedule, steps, noise, mu }: Run,
  picture: PictureLatents | undefined,
  { spacedByStrength: spaced, roundsStepsUp: roundUp }: StrengthOf = {},
): Pick<SampleOptions, "schedule" | "start" | "adjust"> {
  if (picture && spaced && scheduler.className === "LCMScheduler" && !schedule && !picture.mask) {
    const own = { timesteps: consistencyTimesteps(scheduler, steps, picture.strength) };
    scheduler.setTimesteps(own);
    return { schedule: own, ...fromPicture(scheduler, steps, noise, { ...picture, strength: 1 }) };
  }
  scheduler.setTimesteps(schedule ?? steps, mu);
  return picture ? { schedule, ...fromPicture(scheduler, steps, noise, picture, { roundUp }) } : { schedule };
}

/** `drawn` where the mask is 1, `kept` where it is 0. */
function blended(kept: FloatTensor, drawn: FloatTensor, mask: FloatTensor): FloatTensor {
  const area = mask.data.length;
  const data = drawn.data.map((value, i) => {
    const share = mask.data[i % area]!;
    return (1 - share) * kept.data[i]! + share * value;
  });
  return floatTensor(drawn.shape, data);
}

/** A nine-channel denoiser's input: the latent, the mask, the masked image. Rows may be guidance's two halves. */
export function withMask(given: FloatTensor, mask: FloatTensor, masked: FloatTensor): FloatTensor {
  const [batch, channels, height, width] = given.shape as [number, number, number, number];
  const each = sizeOf(masked.shape.slice(1));
  const area = height * width;
  const all = channels * area + area + each;
  const data = new Float32Array(batch * all);
  for (let row = 0; row < batch; row++) {
    data.set(rows(given, row, row + 1).data, row * all);
    data.set(mask.data, row * all + channels * area);
    const own = row % masked.shape[0]!;
    data.set(rows(masked, own, own + 1).data, row * all + (channels + 1) * area);
  }
  return floatTensor([batch, all / area, height, width], data);
}

/**
 * Latents of one image, without `shift` and times `factor`: the mean of what the encoder says, and for each row of noise its
 * deviation times that. The mean alone, one row, without `drawn`.
 */
export function drawnLatents(
  mean: FloatTensor,
  drawn: { std: FloatTensor; noise: FloatTensor } | null,
  { factor, shift = 0 }: { factor: number; shift?: number | undefined },
): FloatTensor {
  if (!drawn) {
    const data = mean.data.map((value) => factor * Math.fround(value - shift));
    return floatTensor(mean.shape, data);
  }
  const { std, noise } = drawn;
  const means = repeatRow(mean, 0, noise.shape[0]!);
  const data = noise.data.map(
    (value, i) =>
      factor * Math.fround(Math.fround(means.data[i]! + Math.fround(std.data[i % std.data.length]! * value)) - shift),
  );
  return floatTensor(means.shape, data);
}
