/** The interface of all schedulers, with diffusers' names. The table of schedulers is in registry.ts. */
import type { FloatTensor } from "../tensor.ts";
import type { CustomSchedule } from "./custom-schedule.ts";
import type { PredictionType } from "./prediction.ts";

export type { CustomSchedule } from "./custom-schedule.ts";
export type { PredictionType } from "./prediction.ts";

/** Options of a scheduler's step. */
export interface StepOptions {
  /**
   * DDIM: how much of the noise of ancestral sampling to add, from 0 (none, the default) to 1 (Song et al. 2021, equation
   * 16). TCD: how far below the next timestep to go before noise brings the sample back up to it; 0.3 unless given.
   */
  eta?: number;
  /** DDIM: recompute the noise from the clipped clean sample. */
  useClippedModelOutput?: boolean;
  /** Euler: stochasticity of Karras et al. 2022, algorithm 2. 0, 0, Infinity and 1 unless given. */
  sChurn?: number;
  sTmin?: number;
  sTmax?: number;
  sNoise?: number;
  /** Returns standard normal noise in the sample's shape. Called at most once, and only by steps that add noise. */
  noise?: () => FloatTensor;
}

/** The result of a scheduler's step. */
export interface StepResult {
  /** The sample at the next, less noisy timestep; a new tensor of the sample's shape. */
  prevSample: FloatTensor;
  /** The clean sample predicted by this step, if the solver computes it. The solver may keep it, so do not write to it. */
  predOriginalSample?: FloatTensor;
}

/**
 * A solver of the sampling process, one step at a time. All tensors are float32, batch first. Arguments are neither
 * changed nor kept (multistep solvers keep copies), so callers may reuse their buffers.
 */
export interface Scheduler {
  /** diffusers' class name. */
  readonly className: string;
  /** Keys and values as in `scheduler_config.json`, defaults filled in. */
  readonly config: Readonly<Record<string, unknown>>;
  /** Descending. One for each step after `setTimesteps` has been called; before that the training timesteps. */
  readonly timesteps: readonly number[];
  /** Noise level of each timestep and of the end: one more than there are timesteps (two more for KDPM2, as in diffusers). */
  readonly sigmas?: readonly number[];
  /** Standard deviation of the sample to start from. */
  readonly initNoiseSigma: number;
  readonly predictionType: PredictionType;
  /** How many timesteps one requested step takes; 1 unless given. */
  readonly order?: number;
  /** Timesteps that the model was trained on: 0 .. trainTimesteps - 1 (flow matching: up to trainTimesteps, fractional). */
  readonly trainTimesteps: number;
  /** Signal variance at each training timestep; flow matching has none. */
  readonly alphasCumprod?: Float32Array;
  /** What a caller may choose besides the number of steps, with diffusers' names. */
  readonly takes: readonly ("eta" | "timesteps" | "sigmas")[];
  /**
   * Plans a number of steps or a list of them, and forgets earlier plans. Throws ArgumentError if there are not that many
   * timesteps, or for a list that the class does not support. `mu` is for configurations with use_dynamic_shifting, where
   * the schedule depends on the size of the image.
   */
  setTimesteps(plan: number | CustomSchedule, mu?: number): void;
  /** The model's input for a sample; the sample itself if the solver does not scale. */
  scaleModelInput(sample: FloatTensor, timestep: number): FloatTensor;
  /**
   * One step from `timestep` to the next. Multistep solvers expect the timesteps in order.
   * Throws ArgumentError for an unplanned timestep or missing noise, ShapeError for sizes that differ.
   */
  step(modelOutput: FloatTensor, timestep: number, sample: FloatTensor, options?: StepOptions): StepResult;
  /** Clean samples brought to the noise level of `timesteps`: one for each row of the batch, or one for all. */
  addNoise(original: FloatTensor, noise: FloatTensor, timesteps: readonly number[]): FloatTensor;
}
