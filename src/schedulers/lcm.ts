import { ArgumentError } from "../errors.ts";
import type { FloatTensor } from "../tensor.ts";
import { clampInPlace, combine, drawNoise, thresholdInPlace } from "./arithmetic.ts";
import { type ConfigOf, readConfig } from "./config.ts";
import type { CustomSchedule } from "./custom-schedule.ts";
import { checkDistilled, distilledFields, distilledTimesteps } from "./distilled.ts";
import { alphasCumprod, DiffusionProcess } from "./noise-schedule.ts";
import { predicted } from "./prediction.ts";
import type { Scheduler, StepOptions, StepResult } from "./scheduler.ts";
import { indexOfTimestep } from "./spacing.ts";

const fields = distilledFields;
export type LCMConfig = ConfigOf<typeof fields>;

/** Standard deviation of the data, in the boundary conditions (Song et al. 2023, appendix C). */
const SIGMA_DATA = 0.5;

/**
 * Latent consistency models (Luo et al. 2023, arXiv 2310.04378): each step predicts the clean sample directly and returns
 * to the next timestep with new noise. Timesteps are a selection of those that the model was distilled on.
 */
export class LCMScheduler extends DiffusionProcess<LCMConfig> implements Scheduler {
  readonly className = "LCMScheduler";
  readonly takes = ["timesteps"] as const;
  private next: number | undefined;

  /** Throws ConfigError for keys and values that are not supported. */
  constructor(config: Readonly<Record<string, unknown>> = {}) {
    const read = readConfig("LCMScheduler", fields, config);
    super(read, alphasCumprod(read, read.rescale_betas_zero_snr));
    checkDistilled(this.className, read);
  }

  setTimesteps(plan: number | CustomSchedule): void {
    this.timesteps = distilledTimesteps(this.className, this.config, plan);
    this.next = 0;
  }

  step(modelOutput: FloatTensor, timestep: number, sample: FloatTensor, options: StepOptions = {}): StepResult {
    const { config } = this;
    if (this.next === undefined) throw new ArgumentError(`${this.className}: call setTimesteps before step.`);
    const i = indexOfTimestep(this.className, this.timesteps, timestep, this.next);
    this.next = i + 1;
    const alphaProd = this.alphaAt(timestep);
    const { x0: clean } = predicted(config.prediction_type, Math.sqrt(alphaProd), Math.sqrt(1 - alphaProd));
    const x0 = combine("LCM step", [clean.sample, sample], [clean.output, modelOutput]);
    if (config.thresholding) thresholdInPlace(x0, config.dynamic_thresholding_ratio, config.sample_max_value);
    else if (config.clip_sample) clampInPlace(x0, config.clip_sample_range);

    const scaled = timestep * config.timestep_scaling;
    const skip = SIGMA_DATA ** 2 / (scaled ** 2 + SIGMA_DATA ** 2);
    const out = scaled / Math.sqrt(scaled ** 2 + SIGMA_DATA ** 2);
    const denoised = combine("LCM step", [out, x0], [skip, sample]);
    const following = this.timesteps[i + 1];
    if (following === undefined) return { prevSample: denoised, predOriginalSample: denoised };
    const alphaProdNext = this.alphaAt(following);
    const noise = drawNoise(this.className, options.noise);
    const prevSample = combine("LCM step", [Math.sqrt(alphaProdNext), denoised], [Math.sqrt(1 - alphaProdNext), noise]);
    return { prevSample, predOriginalSample: denoised };
  }
}
