import type { FloatTensor } from "../tensor.ts";
import { combine, mix, splitVariance, thresholdInPlace } from "./arithmetic.ts";
import { type Level, levelOf } from "./dpm-coefficients.ts";
import { NoiseLevels } from "./noise-levels.ts";
import type { BetaConfig } from "./noise-schedule.ts";
import { type DiffusionPrediction, flowPredicted, type PredictionType, predicted } from "./prediction.ts";
import { indexOfTimestep } from "./spacing.ts";

interface DpmConfig extends BetaConfig {
  readonly prediction_type: DiffusionPrediction | "flow_prediction";
  readonly use_flow_sigmas: boolean;
  readonly thresholding: boolean;
  readonly dynamic_thresholding_ratio: number;
  readonly sample_max_value: number;
  readonly rescale_betas_zero_snr?: boolean;
  readonly variance_type?: string | null;
}

/**
 * Base of the solvers on lambda = log(alpha / sigma) (DPM-Solver, UniPC, DEIS, SA-Solver): samples are
 * alpha * x0 + sigma * noise, and `sigmas` are sigma / alpha, or sigma of a rectified flow with `use_flow_sigmas`.
 */
export class DpmProcess<Config extends DpmConfig> extends NoiseLevels<Config> {
  readonly initNoiseSigma = 1;

  get predictionType(): PredictionType {
    const { prediction_type: type } = this.config;
    return type === "flow_prediction" ? "flow" : type;
  }

  scaleModelInput(sample: FloatTensor, _timestep: number): FloatTensor {
    return sample;
  }

  /** alpha * original + sigma * noise, for timesteps of the schedule, or training timesteps if no schedule is set. */
  addNoise(original: FloatTensor, noise: FloatTensor, timesteps: readonly number[]): FloatTensor {
    const levels = timesteps.map((t) => this.levelAt(indexOfTimestep(this.className, this.timesteps, t)));
    return mix(
      "addNoise",
      original,
      levels.map(({ alpha }) => alpha),
      noise,
      levels.map(({ sigma }) => sigma),
    );
  }

  protected levelAt(i: number): Level {
    return levelOf(this.config, this.sigmas[i]!);
  }

  /** Converts the model's output at step i to what the solver integrates: the clean sample or the noise. Always a new tensor. */
  protected convert(modelOutput: FloatTensor, sample: FloatTensor, i: number, wantsClean: boolean): FloatTensor {
    const { config } = this;
    const type = config.prediction_type;
    const level = this.levelAt(i);
    const { alpha } = level;
    // For a velocity the schedule's own level is used, even if the schedule is not that of a flow.
    const sigma = type === "flow_prediction" ? this.sigmas[i]! : level.sigma;
    const { x0: clean, epsilon } =
      type === "flow_prediction" ? flowPredicted(alpha, sigma) : predicted(type, alpha, sigma);
    // The reference keeps the first three channels. Latents have four, so keep as many as the sample has.
    const learned = config.variance_type?.startsWith("learned") && modelOutput.data.length !== sample.data.length;
    const output = learned ? splitVariance(modelOutput, sample).mean : modelOutput;
    const operation = `${this.className} step`;
    if (!wantsClean && !config.thresholding) {
      return combine(operation, [epsilon.sample, sample], [epsilon.output, output]);
    }
    const x0 = combine(operation, [clean.sample, sample], [clean.output, output]);
    if (config.thresholding) thresholdInPlace(x0, config.dynamic_thresholding_ratio, config.sample_max_value);
    return wantsClean ? x0 : combine(operation, [1 / sigma, sample], [-alpha / sigma, x0]);
  }
}
