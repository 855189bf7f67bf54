import { ArgumentError, NumericError, ShapeError } from "../errors.ts";
import type { FloatTensor } from "../tensor.ts";
import { clampInPlace, combine, drawNoise, splitVariance, thresholdInPlace } from "./arithmetic.ts";
import { type ConfigOf, flag, oneOf, readConfig, real } from "./config.ts";
import { type CustomSchedule, checkDescending, readPlan } from "./custom-schedule.ts";
import { alphasCumprod, DiffusionProcess, ddpmBetaFields, stepsOffsetField } from "./noise-schedule.ts";
import { predicted, predictionField } from "./prediction.ts";
import type { Scheduler, StepOptions, StepResult } from "./scheduler.ts";
import { indexOfTimestep, spacedTimesteps, spacingField } from "./spacing.ts";

const fields = {
  ...ddpmBetaFields,
  // The reference's fixed_large_log takes the root of a negative logarithm and gives NaN, so it is not offered.
  variance_type: oneOf("fixed_small", ["fixed_small", "fixed_small_log", "fixed_large", "learned", "learned_range"]),
  clip_sample: flag(true),
  clip_sample_range: real(1, 0),
  prediction_type: predictionField,
  thresholding: flag(false),
  dynamic_thresholding_ratio: real(0.995, 0, 1),
  sample_max_value: real(1, 0),
  timestep_spacing: spacingField("leading"),
  steps_offset: stepsOffsetField,
  rescale_betas_zero_snr: flag(false),
};
export type DDPMConfig = ConfigOf<typeof fields>;

/**
 * Ancestral sampling (Ho et al. 2020, algorithm 2). With a learned variance (Nichol & Dhariwal 2021, section 3.1) the
 * model output has twice the sample's channels. Each step goes to the next timestep of the schedule, the last one to the
 * clean sample.
 */
export class DDPMScheduler extends DiffusionProcess<DDPMConfig> implements Scheduler {
  readonly className: string;
  readonly takes = ["timesteps"] as const;
  private planned = false;

  /** Throws ConfigError for keys and values that are not supported. */
  constructor(config: Readonly<Record<string, unknown>> = {}, className = "DDPMScheduler") {
    const read = readConfig(className, fields, config);
    super(read, alphasCumprod(read, read.rescale_betas_zero_snr));
    this.className = className;
  }

  setTimesteps(plan: number | CustomSchedule): void {
    const { timestep_spacing: spacing, steps_offset: offset } = this.config;
    const total = this.trainTimesteps;
    const chosen = readPlan(this.className, plan, this.takes, total);
    if (chosen.timesteps) {
      checkDescending(this.className, "timesteps", chosen.timesteps, { least: 0, most: total - 1, whole: true });
    }
    this.timesteps = chosen.timesteps ?? spacedTimesteps(this.className, chosen.steps!, { spacing, total, offset });
    this.planned = true;
  }

  step(modelOutput: FloatTensor, timestep: number, sample: FloatTensor, options: StepOptions = {}): StepResult {
    const { config } = this;
    if (!this.planned) throw new ArgumentError(`${this.className}: call setTimesteps before step.`);
    const next = this.timesteps[indexOfTimestep(this.className, this.timesteps, timestep) + 1];
    const alphaProd = this.alphaAt(timestep);
    const alphaProdNext = next === undefined ? 1 : this.alphaAt(next);
    const beta = 1 - alphaProd / alphaProdNext;
    if (alphaProd === 0 && config.prediction_type === "epsilon") {
      throw new NumericError(`${this.className}: timestep ${timestep} is pure noise, which epsilon cannot denoise.`);
    }

    const learned = config.variance_type === "learned" || config.variance_type === "learned_range";
    const { mean, variance } = learned ? splitVariance(modelOutput, sample) : { mean: modelOutput };
    const { x0: clean } = predicted(config.prediction_type, Math.sqrt(alphaProd), Math.sqrt(1 - alphaProd));
    const x0 = combine("DDPM step", [clean.sample, sample], [clean.output, mean]);
    if (config.thresholding) thresholdInPlace(x0, config.dynamic_thresholding_ratio, config.sample_max_value);
    else if (config.clip_sample) clampInPlace(x0, config.clip_sample_range);

    // Mean and variance of the posterior q(x_{t-1} | x_t, x_0), Ho et al. equation 7.
    const fromClean = (Math.sqrt(alphaProdNext) * beta) / (1 - alphaProd);
    const fromSample = (Math.sqrt(alphaProd / alphaProdNext) * (1 - alphaProdNext)) / (1 - alphaProd);
    const smallest = Math.max(((1 - alphaProdNext) / (1 - alphaProd)) * beta, 1e-20);
    const deviation = Math.sqrt(config.variance_type === "fixed_large" ? beta : smallest);
    if (timestep === 0 || variance) {
      const prevSample = combine("DDPM step", [fromClean, x0], [fromSample, sample]);
      if (timestep > 0 && variance) {
        const deviationOf =
          config.variance_type === "learned"
            ? (v: number) => Math.sqrt(v)
            : // Nichol & Dhariwal, equation 15: between the posterior's variance and beta, in the logarithm.
              (v: number) => Math.exp(0.25 * ((v + 1) * Math.log(beta) + (1 - v) * Math.log(smallest)));
        addNoiseInPlace(prevSample, variance, deviationOf, drawNoise(this.className, options.noise));
      }
      return { prevSample, predOriginalSample: x0 };
    }
    const noise = drawNoise(this.className, options.noise);
    const prevSample = combine("DDPM step", [fromClean, x0], [fromSample, sample], [deviation, noise]);
    return { prevSample, predOriginalSample: x0 };
  }
}

/** sample += deviationOf(variance) * noise. */
function addNoiseInPlace(
  sample: FloatTensor,
  variance: FloatTensor,
  deviationOf: (variance: number) => number,
  noise: FloatTensor,
): void {
  if (noise.data.length !== sample.data.length) {
    throw new ShapeError(`DDPM step: noise [${noise.shape.join(", ")}] for a sample [${sample.shape.join(", ")}].`);
  }
  const { data } = sample;
  for (let i = 0; i < data.length; i++) data[i]! += deviationOf(variance.data[i]!) * noise.data[i]!;
}
