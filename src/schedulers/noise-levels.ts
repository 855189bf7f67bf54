import { alphasCumprod, type BetaConfig } from "./noise-schedule.ts";
import { boundLastSigma, trainingSigmas } from "./sigmas.ts";

interface LevelsConfig extends BetaConfig {
  readonly rescale_betas_zero_snr?: boolean;
}

/**
 * Base of the solvers with noise levels sigma / alpha. Until a schedule is set, the levels are those of training. The last
 * sigma is always that of the clean sample.
 */
export class NoiseLevels<Config extends LevelsConfig> {
  readonly className: string;
  readonly config: Config;
  readonly alphasCumprod: Float32Array;
  timesteps: readonly number[];
  sigmas: readonly number[];
  /** Noise level of each training timestep, ascending. */
  protected readonly trained: Float32Array;
  /** Index of the step that is expected next. */
  protected next = 0;

  constructor(className: string, config: Config) {
    this.className = className;
    this.config = config;
    const alphaProds = alphasCumprod(config, config.rescale_betas_zero_snr);
    this.alphasCumprod = config.rescale_betas_zero_snr ? boundLastSigma(alphaProds) : alphaProds;
    this.trained = trainingSigmas(this.alphasCumprod);
    this.sigmas = [...this.trained.toReversed(), 0];
    this.timesteps = Array.from(this.trained, (_, i) => this.trainTimesteps - 1 - i);
  }

  get trainTimesteps(): number {
    return this.config.num_train_timesteps;
  }
}
