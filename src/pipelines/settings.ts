/** Options that all pipelines have, and the limits of a call. */

import { type Accelerate, accelerateCheck } from "../acceleration/acceleration.ts";
import { type Check, callback, listOf, oneOrList, signal, text, whole } from "../checks.ts";
import { type Solver, type SolverOptions, solverOptions } from "../components/solver.ts";
import { ArgumentError } from "../errors.ts";
import type { OptionTable } from "../options/options.ts";
import type { Denoiser } from "../sampling/denoiser.ts";
import type { SamplerStep } from "../sampling/sampler.ts";
import { MOST_PICTURES, type Seeds, seedCheck, seededNoise } from "../sampling/seeds.ts";
import type { FloatTensor } from "../tensor.ts";

/** Options that calls of all pipelines have. */
export interface SamplingOptions extends Omit<SolverOptions, "steps">, Seeds {
  /** Do steps in part: a method, or it with settings. ILF where the model has a feedback module, none elsewhere. */
  accelerate?: Accelerate;
  /** Stops before the next step; what is thrown is the signal's reason. */
  signal?: AbortSignal;
  /** Told after each step; the next step waits for what it returns. */
  onStep?: (step: SamplerStep) => unknown;
}

/** What the sampling loop of every pipeline is told, once prompts and pictures are embedded. */
export interface LoopOptions extends Solver {
  /** Standard normal noise, of the latent's shape. */
  noise: FloatTensor;
  /** Fresh noise, for solvers that add some at every step. */
  drawNoise?: () => FloatTensor;
  /** All steps in full unless given. */
  denoiser?: Denoiser;
  signal?: AbortSignal;
  /** Told after each step; the next step waits for what it returns. */
  onStep?: (step: SamplerStep) => unknown;
}

/** The noise of latents of this shape (that of one picture, a batch of 1), each row drawn from its own seed. */
export function noiseFor(seeds: readonly number[], shape: readonly number[]): Pick<LoopOptions, "noise" | "drawNoise"> {
  const draw = seededNoise(seeds);
  return { noise: draw(shape), drawNoise: () => draw(shape) };
}

/** Frames of a video. */
const MOST_FRAMES = 1024;
/** Pixels of a side, and of all pictures and frames of a call together: 2^28 of them are 3 GiB as floats. */
const MOST_SIDE = 16384;
const MOST_PIXELS = 2 ** 28;

export const sideCheck: Check = whole(1, MOST_SIDE);
export const framesCheck: Check = whole(1, MOST_FRAMES);
export const countCheck: Check = whole(1, MOST_PICTURES);
export const promptCheck: Check = oneOrList(text, { least: 1, most: MOST_PICTURES });
/** Texts for the encoder: twice as many as pictures, for negative prompts. */
export const promptListCheck: Check = listOf(text, { least: 1, most: 2 * MOST_PICTURES });

const { steps: _, ...withoutSteps } = solverOptions;

export const samplingOptions: OptionTable<SamplingOptions> = {
  ...withoutSteps,
  seed: seedCheck,
  seeds: listOf(whole(0, Number.MAX_SAFE_INTEGER), { least: 1, most: MOST_PICTURES }),
  accelerate: accelerateCheck,
  signal,
  onStep: callback,
};

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
