/** What every pipeline is told about sampling, and its starting noise. */

import { type Accelerate, accelerateCheck } from "../acceleration/acceleration.ts";
import { type Check, callback, listOf, number, oneOf, oneOrList, signal, text, whole } from "../checks.ts";
import type { SolverOptions } from "../components/solver.ts";
import { ArgumentError } from "../errors.ts";
import type { OptionTable } from "../options/options.ts";
import { stack } from "../sampling/guidance.ts";
import { TorchGenerator } from "../sampling/noise.ts";
import type { SamplerStep } from "../sampling/sampler.ts";
import { schedulerChoices } from "../schedulers/registry.ts";
import type { FloatTensor } from "../tensor.ts";

export interface SamplingOptions extends Omit<SolverOptions, "steps"> {
  /** A whole number; picture i of several is the one of seed + i alone. Drawn at random unless given. */
  seed?: number;
  /** One for each picture, instead of `seed`; as many as there are pictures. */
  seeds?: readonly number[];
  /** Do steps in part: a method, or it with settings. ILF where the model has a feedback module, none elsewhere. */
  accelerate?: Accelerate;
  /** Stops before the next step; what is thrown is the signal's reason. */
  signal?: AbortSignal;
  onStep?: (step: SamplerStep) => void | Promise<void>;
}

/** Most steps of a call. */
const MOST_STEPS = 1000;
/** Most pictures or videos of one call. */
export const MOST_PICTURES = 1024;
/** Frames of a video. */
const MOST_FRAMES = 1024;
/** Pixels of a side, and of all pictures and frames of a call together: 2^28 of them are 3 GiB as floats. */
const MOST_SIDE = 16384;
const MOST_PIXELS = 2 ** 28;
/** Seeds stay whole numbers when a picture's number is added. */
const LARGEST_SEED = Number.MAX_SAFE_INTEGER - MOST_PICTURES;

export const stepsCheck: Check = whole(1, MOST_STEPS);
export const sideCheck: Check = whole(1, MOST_SIDE);
export const framesCheck: Check = whole(1, MOST_FRAMES);
export const countCheck: Check = whole(1, MOST_PICTURES);
export const promptCheck: Check = oneOrList(text, { least: 1, most: MOST_PICTURES });
/** Texts for the encoder: twice as many as pictures, for negative prompts. */
export const promptListCheck: Check = listOf(text, { least: 1, most: 2 * MOST_PICTURES });

export const seedCheck: Check = whole(0, LARGEST_SEED);

export const solverOptions: OptionTable<SolverOptions> = {
  steps: stepsCheck,
  scheduler: oneOf(Object.keys(schedulerChoices)),
  eta: number(0, 1),
  timesteps: listOf(number(0), { least: 1, most: MOST_STEPS }),
  sigmas: listOf(number(0), { least: 1, most: MOST_STEPS }),
};
const { steps: _, ...withoutSteps } = solverOptions;

export const samplingOptions: OptionTable<SamplingOptions> = {
  ...withoutSteps,
  seed: seedCheck,
  seeds: listOf(whole(0, Number.MAX_SAFE_INTEGER), { least: 1, most: MOST_PICTURES }),
  accelerate: accelerateCheck,
  signal,
  onStep: callback,
};
export const guidanceScaleCheck: Check = number();

/** Throws ArgumentError unless a picture's side is a multiple of `unit` pixels. */
export function checkSide(name: string, pixels: number, unit: number): void {
  if (Number.isInteger(pixels / unit) && pixels > 0) return;
  throw new ArgumentError(`${name} must be a multiple of ${unit} pixels for this model, not ${pixels}.`);
}

/** Throws ArgumentError for more pixels than one call makes. */
export function checkPixels(pictures: number, width: number, height: number): void {
  const pixels = pictures * width * height;
  if (pixels <= MOST_PIXELS) return;
  throw new ArgumentError(
    `${pictures} x ${width} x ${height} are ${pixels} pixels; a call makes at most ${MOST_PIXELS}. Ask for fewer or smaller ` +
      "pictures, or for some of them in another call.",
  );
}

/** The seeds of `count` pictures: those that were given, or one after the other. Throws ArgumentError if they are not as many. */
export function seedsOf(
  count: number,
  { seed, seeds }: Pick<SamplingOptions, "seed" | "seeds">,
  pictures = "pictures",
): number[] {
  if (seeds === undefined) {
    const first = seed ?? Math.floor(Math.random() * 2 ** 32);
    return Array.from({ length: count }, (_, i) => first + i);
  }
  if (seed !== undefined) throw new ArgumentError('"seed" and "seeds" are both given; give one of them.');
  if (seeds.length === count) return [...seeds];
  throw new ArgumentError(`There are ${seeds.length} seeds for ${count} ${pictures}; give one for each.`);
}

/** Noise of pictures, each from a generator of its own. `shape` is that of one picture's latent, a batch of 1. */
export function seededNoise(seeds: readonly number[], shape: readonly number[]): () => FloatTensor {
  const generators = seeds.map((each) => new TorchGenerator(each));
  return () => generators.map((generator) => generator.randn(shape)).reduce(stack);
}
