import { ArgumentError, ConfigError } from "../errors.ts";
import type { FloatTensor } from "../tensor.ts";
import { clampInPlace, combine, drawNoise, thresholdInPlace } from "./arithmetic.ts";
import { type ConfigOf, flag, readConfig, real, whole } from "./config.ts";
import { type CustomSchedule, checkDescending, readPlan } from "./custom-schedule.ts";
import { alphasCumprod, betaFields, DiffusionProcess, MOST_TIMESTEPS, stepsOffsetField } from "./noise-schedule.ts";
import { predicted, predictionField } from "./prediction.ts";
import type { Scheduler, StepOptions, StepResult } from "./scheduler.ts";
import { checkSteps, indexOfTimestep, spacingField } from "./spacing.ts";

const fields = {
  ...betaFields,
  beta_start: real(0.00085, 0, 1),
  beta_end: real(0.012, 0, 1),
  beta_schedule: { ...betaFields.beta_schedule, fallback: "scaled_linear" as const },
  original_inference_steps: whole(50, 1, MOST_TIMESTEPS),
  clip_sample: flag(false),
  clip_sample_range: real(1, 0),
  set_alpha_to_one: flag(true),
  // The reference has these two and reads neither.
  steps_offset: stepsOffsetField,
  timestep_spacing: spacingField("leading"),
  prediction_type: predictionField,
  thresholding: flag(false),
  dynamic_thresholding_ratio: real(0.995, 0, 1),
  sample_max_value: real(1, 0),
  timestep_scaling: real(10, 0),
  rescale_betas_zero_snr: flag(false),
};
export type LCMConfig = ConfigOf<typeof fields>;

/** Standard deviation of the data, in the boundary conditions (Song et al. 2023, appendix C). */
const SIGMA_DATA = 0.5;

/**
 * Latent consistency models (Luo et al. 2023, arXiv 2310.04378): each step goes to the clean sample at once and comes
 * back to the next timestep with fresh noise. Timesteps are of those that the model was distilled on.
 */
export class LCMScheduler extends DiffusionProcess<LCMConfig> implements Scheduler {
  readonly className = "LCMScheduler";
  readonly takes = ["timesteps"] as const;
  private next: number | undefined;

  /** Throws ConfigError for keys and values that are not supported. */
  constructor(config: Readonly<Record<string, unknown>> = {}) {
    const read = readConfig("LCMScheduler", fields, config);
    super(read, alphasCumprod(read, read.rescale_betas_zero_snr));
    if (read.original_inference_steps > read.num_train_timesteps) {
      throw new ConfigError(
        `LCMScheduler: original_inference_steps is ${read.original_inference_steps}, but there are only ` +
          `${read.num_train_timesteps} num_train_timesteps.`,
      );
    }
  }

  setTimesteps(plan: number | CustomSchedule): void {
    const total = this.trainTimesteps;
    const chosen = readPlan(this.className, plan, this.takes, total);
    if (chosen.timesteps) {
      checkDescending(this.className, "timesteps", chosen.timesteps, { least: 0, most: total - 1, whole: true });
    }
    this.timesteps = chosen.timesteps ?? this.distilled(chosen.steps!);
    this.next = 0;
  }

  /** Some of the timesteps of distillation, evenly chosen from the noisiest down. */
  private distilled(steps: number): number[] {
    const original = this.config.original_inference_steps;
    checkSteps(this.className, steps, original);
    const stride = Math.floor(this.trainTimesteps / original);
    const gap = original / steps;
    return Array.from({ length: steps }, (_, i) => (original - Math.floor(i * gap)) * stride - 1);
  }

  step(modelOutput: FloatTensor, timestep: number, sample: FloatTensor, options: StepOptions = {}): StepResult {
    const { config } = this;
    if (this.next === undefined) throw new ArgumentError(`${this.className}: call setTimesteps before step.`);
    const i = indexOfTimestep(this.className, this.timesteps, timestep, this.next);
    this.next = i + 1;
    const kept = this.alphaAt(timestep);
    const { x0: clean } = predicted(config.prediction_type, Math.sqrt(kept), Math.sqrt(1 - kept));
    const x0 = combine("LCM step", [clean.sample, sample], [clean.output, modelOutput]);
    if (config.thresholding) thresholdInPlace(x0, config.dynamic_thresholding_ratio, config.sample_max_value);
    else if (config.clip_sample) clampInPlace(x0, config.clip_sample_range);

    const scaled = timestep * config.timestep_scaling;
    const skip = SIGMA_DATA ** 2 / (scaled ** 2 + SIGMA_DATA ** 2);
    const out = scaled / Math.sqrt(scaled ** 2 + SIGMA_DATA ** 2);
    const denoised = combine("LCM step", [out, x0], [skip, sample]);
    const following = this.timesteps[i + 1];
    if (following === undefined) return { prevSample: denoised, predOriginalSample: denoised };
    const keptNext = this.alphaAt(following);
    const noise = drawNoise(this.className, options.noise);
    const prevSample = combine("LCM step", [Math.sqrt(keptNext), denoised], [Math.sqrt(1 - keptNext), noise]);
    return { prevSample, predOriginalSample: denoised };
  }
}
