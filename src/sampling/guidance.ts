/** Classifier-free guidance (Ho & Salimans 2022): away from what the model predicts without the condition. */
import { type Check, listOf, number } from "../checks.ts";
import { ArgumentError } from "../errors.ts";
import { type FloatTensor, floatTensor, sizeOf, type Tensor } from "../tensor.ts";
import type { Denoiser, Feeds } from "./denoiser.ts";
import type { SampleOptions } from "./sampler.ts";
import type { StepContext } from "./step-policy.ts";

/**
 * Between which shares of a run's steps there is guidance: from `start` on, before `stop` (as diffusers' guiders count). At the
 * highest noise levels it costs variety, at the lowest it changes little (Kynkäänniemi et al. 2024, arXiv 2404.07724); steps
 * without it need the condition's half of the rows alone.
 */
export type GuidanceInterval = readonly [start: number, stop: number];

export const EVERY_STEP: GuidanceInterval = [0, 1];

export const guidanceScaleCheck: Check = number();

export const guidanceIntervalCheck: Check = (value, name) => {
  listOf(number(), { least: 2, most: 2 })(value, name);
  checkGuidanceInterval(value as unknown as GuidanceInterval);
};

/** Throws ArgumentError unless it is an interval within 0 to 1. */
export function checkGuidanceInterval(interval: GuidanceInterval): void {
  const [start, stop] = interval;
  if (interval.length === 2 && start >= 0 && start <= stop && stop <= 1) return;
  throw new ArgumentError(
    `guidanceInterval must be two shares of the steps from 0 to 1, the first not above the second, not [${interval.join(", ")}].`,
  );
}

/**
 * As in diffusers, start and stop are rounded down to whole steps, but 0.29 of 100 steps is 29 in spite of rounding
 * errors.
 */
export function isGuided({ index, steps }: StepContext, [start, stop]: GuidanceInterval): boolean {
  const stepsTo = (share: number) => Math.floor(share * steps + 1e-6);
  return index >= stepsTo(start) && index < stepsTo(stop);
}

/** What `guidedDenoise` is made of. */
export interface GuidedDenoise {
  denoiser: Denoiser;
  /** The network's input that is the noisy latent: "hiddenStates" of a transformer, "sample" of a UNet. */
  input: string;
  /** Of the latent: a variance that the network predicts too is dropped. As many as it gives unless given. */
  channels?: number;
  /** One for all, or one for each frame of [batch, frames, channels, height, width]. */
  guidanceScale: number | readonly number[];
  /** All steps unless given. */
  guidanceInterval?: GuidanceInterval;
  /**
   * How much of the deviation that guidance adds is taken away again, from 0 (none, the default) to 1 (Lin et al. 2023, arXiv
   * 2305.08891, section 3.4): against overexposed images of models with zero terminal signal-to-noise ratio.
   */
  guidanceRescale?: number;
  /** What the network reads beside latents and timestep, one row a picture. */
  conditions: Feeds;
  /** The same for guidance: rows without the condition, then those with it. Null without guidance. */
  bothConditions: Feeds | null;
  /**
   * Makes the network's input from these rows of latents, if it is not the latents alone: for example with the channels
   * of an image.
   */
  prepare?(latents: FloatTensor): FloatTensor;
}

/** What the sampling loop calls: one run of the denoiser a step, with twice the rows where there is guidance. */
export function guidedDenoise(options: GuidedDenoise): SampleOptions["denoise"] {
  const { denoiser, input, channels, guidanceScale, guidanceInterval = EVERY_STEP } = options;
  const { conditions, bothConditions, guidanceRescale = 0 } = options;
  return async (latents, step) => {
    const both = bothConditions && isGuided(step, guidanceInterval) ? bothConditions : null;
    const given = both ? stack(latents, latents) : latents;
    const rows = given.shape[0]!;
    const timestep = floatTensor([rows], new Float32Array(rows).fill(step.timestep));
    const latent = options.prepare?.(given) ?? given;
    const feeds = { [input]: latent, timestep, ...(both ?? conditions) };
    const output = await denoiser.run(feeds, { ...step, guided: both !== null });
    const prediction = channels === undefined ? output : firstChannels(output, channels);
    if (!both) return prediction;
    const guided = guideHalves(prediction, guidanceScale);
    return guidanceRescale > 0 ? rescaled(guided, prediction, guidanceRescale) : guided;
  };
}

/** unconditional + scale * (conditional - unconditional), element by element. */
export function guide(unconditional: Float32Array, conditional: Float32Array, scale: number): Float32Array {
  const out = new Float32Array(conditional.length);
  for (let i = 0; i < out.length; i++) out[i] = unconditional[i]! + scale * (conditional[i]! - unconditional[i]!);
  return out;
}

/** Applies guidance to a batch whose first half was predicted without the condition, and whose second half with it. */
export function guideHalves(both: FloatTensor, scale: number | readonly number[]): FloatTensor {
  const batch = both.shape[0]! / 2;
  const [unconditional, conditional] = [rows(both, 0, batch), rows(both, batch, 2 * batch)];
  if (typeof scale !== "number") return guideFrames(unconditional, conditional, scale);
  return floatTensor(conditional.shape, guide(unconditional.data, conditional.data, scale));
}

/**
 * Guided rows, brought a `share` of the way to the deviation that the prediction with the condition has, the second half of `both`.
 */
function rescaled(guided: FloatTensor, both: FloatTensor, share: number): FloatTensor {
  const batch = guided.shape[0]!;
  const data = new Float32Array(guided.data.length);
  const each = data.length / batch;
  for (let row = 0; row < batch; row++) {
    const own = guided.data.subarray(row * each, (row + 1) * each);
    const wanted = deviation(rows(both, batch + row, batch + row + 1).data);
    const factor = share * (wanted / deviation(own)) + 1 - share;
    for (let i = 0; i < each; i++) data[row * each + i] = own[i]! * factor;
  }
  return floatTensor(guided.shape, data);
}

/** Of a sample, as PyTorch's `std`. */
function deviation(values: Float32Array): number {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  return Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (values.length - 1));
}

/** Two batches one after the other. */
export function stack<T extends Tensor>(first: T, second: T): T {
  const data = new (first.data.constructor as Float32ArrayConstructor)(first.data.length + second.data.length);
  data.set(first.data as Float32Array);
  data.set(second.data as Float32Array, first.data.length);
  return { ...first, shape: [first.shape[0]! + second.shape[0]!, ...first.shape.slice(1)], data };
}

/** Rows start..end of a batch, as a view. */
export function rows(tensor: FloatTensor, start: number, end: number): FloatTensor {
  const each = sizeOf(tensor.shape.slice(1));
  const shape = [end - start, ...tensor.shape.slice(1)];
  return { dtype: "float32", shape, data: tensor.data.subarray(start * each, end * each) };
}

/** A copy of some rows of a batch, in this order. */
export function pickRows(tensor: FloatTensor, indices: readonly number[]): FloatTensor {
  const each = sizeOf(tensor.shape.slice(1));
  const picked = floatTensor([indices.length, ...tensor.shape.slice(1)]);
  for (const [i, index] of indices.entries()) picked.data.set(rows(tensor, index, index + 1).data, i * each);
  return picked;
}

/** One row of a batch, `count` times. */
export const repeatRow = (tensor: FloatTensor, row: number, count: number): FloatTensor =>
  pickRows(tensor, new Array<number>(count).fill(row));

/** The first `count` channels of [batch, channels, height, width]: without the variance that some models predict too. */
export function firstChannels(tensor: FloatTensor, count: number): FloatTensor {
  const [batch, channels, height, width] = tensor.shape as [number, number, number, number];
  if (channels === count) return tensor;
  const area = height * width;
  const data = new Float32Array(batch * count * area);
  for (let i = 0; i < batch; i++) {
    const from = i * channels * area;
    data.set(tensor.data.subarray(from, from + count * area), i * count * area);
  }
  return { dtype: "float32", shape: [batch, count, height, width], data };
}

/** The same with a scale for each frame: [batch, frames, channels, height, width]. */
export function guideFrames(
  unconditional: FloatTensor,
  conditional: FloatTensor,
  scales: readonly number[],
): FloatTensor {
  const { shape } = conditional;
  const each = sizeOf(shape.slice(2));
  const data = new Float32Array(conditional.data.length);
  for (let row = 0; row < data.length / each; row++) {
    const [start, end] = [row * each, (row + 1) * each];
    const scale = scales[row % scales.length]!;
    data.set(guide(unconditional.data.subarray(start, end), conditional.data.subarray(start, end), scale), start);
  }
  return { dtype: "float32", shape, data };
}

/**
 * The channels of a picture [batch, more, height, width] after those of each frame of a video [batch, frames, channels,
 * height, width].
 */
export function joinChannels(video: FloatTensor, picture: FloatTensor): FloatTensor {
  const [batch, frames, channels, height, width] = video.shape as [number, number, number, number, number];
  const more = picture.shape[1]!;
  const area = height * width;
  const data = new Float32Array(batch * frames * (channels + more) * area);
  for (let row = 0; row < batch * frames; row++) {
    const to = row * (channels + more) * area;
    const own = rows(picture, Math.floor(row / frames), Math.floor(row / frames) + 1).data;
    data.set(video.data.subarray(row * channels * area, (row + 1) * channels * area), to);
    data.set(own, to + channels * area);
  }
  return { dtype: "float32", shape: [batch, frames, channels + more, height, width], data };
}
