/** What every pipeline is told about sampling, and its starting noise. */
import { ArgumentError } from "../errors.ts";
import { stack } from "../sampling/guidance.ts";
import { TorchGenerator } from "../sampling/noise.ts";
import type { SamplerStep } from "../sampling/sampler.ts";
import type { FloatTensor } from "../tensor.ts";
import type { Accelerate } from "./acceleration.ts";
import type { SolverOptions } from "./solver.ts";

export interface SamplingOptions extends Omit<SolverOptions, "steps"> {
  /** A whole number; picture i of several is the one of seed + i alone. Drawn at random unless given. */
  seed?: number;
  /** Do steps in part: a method, or it with settings. ILF where the model has a feedback module, none elsewhere. */
  accelerate?: Accelerate;
  /** Stops before the next step; what is thrown is the signal's reason. */
  signal?: AbortSignal;
  onStep?: (step: SamplerStep) => void | Promise<void>;
}

/** Throws ArgumentError unless it is a whole number within limits. */
export function checkWhole(name: string, value: number, least: number, most: number): void {
  if (Number.isInteger(value) && value >= least && value <= most) return;
  throw new ArgumentError(`${name} must be a whole number from ${least} to ${most}, not ${value}.`);
}

/** Throws ArgumentError unless a picture's side is a multiple of `unit` pixels. */
export function checkSide(name: string, pixels: number, unit: number): void {
  if (Number.isInteger(pixels / unit) && pixels > 0) return;
  throw new ArgumentError(`${name} must be a multiple of ${unit} pixels for this model, not ${pixels}.`);
}

/** Throws ArgumentError for settings outside their range. */
export function checkSettings({ guidanceScale }: { guidanceScale: number }): void {
  if (!Number.isFinite(guidanceScale)) throw new ArgumentError(`guidanceScale must be a number, not ${guidanceScale}.`);
}

/**
 * Seeds of some pictures, and their noise, each from a generator of its own: picture i is the one of seed + i alone.
 * `shape` is that of one picture's latent, a batch of 1.
 */
export function seededNoise(
  count: number,
  shape: readonly number[],
  seed = Math.floor(Math.random() * 2 ** 32),
): { seeds: number[]; draw: () => FloatTensor } {
  checkWhole("seed", seed, 0, Number.MAX_SAFE_INTEGER - 1024);
  const seeds = Array.from({ length: count }, (_, i) => seed + i);
  const generators = seeds.map((each) => new TorchGenerator(each));
  return { seeds, draw: () => generators.map((generator) => generator.randn(shape)).reduce(stack) };
}
