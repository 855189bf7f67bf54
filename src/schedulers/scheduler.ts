/** What every scheduler is, in diffusers' words. The table of them is in registry.ts. */
import type { FloatTensor } from "../tensor.ts";
import type { CustomSchedule } from "./custom-schedule.ts";
import type { PredictionType } from "./prediction.ts";

export type { CustomSchedule } from "./custom-schedule.ts";
export type { PredictionType } from "./prediction.ts";

/** What a scheduler's step can be told beside the model's output. */
export interface StepOptions {
  /**
   * DDIM: how much of the noise of ancestral sampling to add, from 0 (none, the default) to 1 (Song et al. 2021, equation
   * 16). TCD: how far below the next timestep to go before noise brings the sample back up to it; 0.3 unless given.
   */
  eta?: number;
  /** DDIM: derive the noise anew from the clipped clean sample. */
  useClippedModelOutput?: boolean;
  /** Euler: stochasticity of Karras et al. 2022, algorithm 2. 0, 0, Infinity and 1 unless given. */
  sChurn?: number;
  sTmin?: number;
  sTmax?: number;
  sNoise?: number;
  /** Standard normal noise in the sample's shape; called at most once, by steps that add noise only. */
  noise?: () => FloatTensor;
}

/** What a scheduler's step gives. */
export interface StepResult {
  /** The sample at the next, less noisy timestep; a new tensor of the sample's shape. */
  prevSample: FloatTensor;
  /** The clean sample as this step predicts it, where the solver has it. The solver may keep it: do not write to it. */
  predOriginalSample?: FloatTensor;
}

/**
 * A solver of the sampling process, one step at a time. All tensors are float32, batch first. Nothing that is passed
 * in is changed or kept (solvers with a memory keep copies), so callers may reuse their buffers.
 */
export interface Scheduler {
  /** diffusers' class name. */
  readonly className: string;
  /** Keys and values as in `scheduler_config.json`, defaults filled in. */
  readonly config: Readonly<Record<string, unknown>>;
  /** Descending; one for each step once `setTimesteps` has been called, before that those of training. */
  readonly timesteps: readonly number[];
  /** Noise level of each timestep and of the end: one more than there are timesteps (two more for KDPM2, as in diffusers). */
  readonly sigmas?: readonly number[];
  /** Standard deviation of the sample to start from. */
  readonly initNoiseSigma: number;
  readonly predictionType: PredictionType;
  /** How many timesteps make one of the steps that were asked for; 1 unless given. */
  readonly order?: number;
  /** Timesteps the model was trained on: 0 .. trainTimesteps - 1 (flow matching: up to trainTimesteps, fractional). */
  readonly trainTimesteps: number;
  /** Signal variance at each training timestep; flow matching has none. */
  readonly alphasCumprod?: Float32Array;
  /** What a caller may choose beside the number of steps, in diffusers' terms. */
  readonly takes: readonly ("eta" | "timesteps" | "sigmas")[];
  /**
   * Plans that many steps, or those that are listed, and forgets earlier ones. Throws ArgumentError if there are not
   * that many timesteps, or for a list that the class does not take. `mu` is for configurations with
   * use_dynamic_shifting, where the schedule depends on the size of the picture.
   */
  setTimesteps(plan: number | CustomSchedule, mu?: number): void;
  /** The model's input for a sample; the sample itself where the solver does not scale. */
  scaleModelInput(sample: FloatTensor, timestep: number): FloatTensor;
  /**
   * One step from `timestep` to the next. Solvers with a memory expect the timesteps in order.
   * Throws ArgumentError for a timestep that is not planned or missing noise, ShapeError for sizes that differ.
   */
  step(modelOutput: FloatTensor, timestep: number, sample: FloatTensor, options?: StepOptions): StepResult;
  /** Clean samples brought to the noise level of `timesteps`: one for each row of the batch, or one for all. */
  addNoise(original: FloatTensor, noise: FloatTensor, timesteps: readonly number[]): FloatTensor;
}
