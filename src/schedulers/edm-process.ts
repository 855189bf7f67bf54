import { ConfigError } from "../errors.ts";
import type { FloatTensor } from "../tensor.ts";
import { combine, withNoise } from "./arithmetic.ts";
import { type ConfigOf, oneOf, real } from "./config.ts";
import { trainTimestepsField } from "./noise-schedule.ts";
import type { Mixture } from "./prediction.ts";
import { evenly } from "./sigmas.ts";
import { checkSteps, indexOfTimestep } from "./spacing.ts";

/** Keys of the classes for models with EDM's preconditioning. */
export const edmFields = {
  sigma_min: real(0.002, Number.MIN_VALUE),
  sigma_max: real(80, Number.MIN_VALUE),
  sigma_data: real(0.5, Number.MIN_VALUE),
  sigma_schedule: oneOf("karras", ["karras", "exponential"]),
  num_train_timesteps: trainTimestepsField,
  prediction_type: oneOf("epsilon", ["epsilon", "v_prediction"]),
  rho: real(7, Number.MIN_VALUE),
  final_sigmas_type: oneOf("zero", ["zero", "sigma_min"]),
};
type EDMConfig = ConfigOf<typeof edmFields>;

/**
 * The process x = x0 + sigma * noise for models with EDM's preconditioning (Karras et al. 2022, table 1, last column):
 * their timestep is log(sigma) / 4, their input has unit variance, and their output is mixed with the sample.
 */
export class EDMProcess<Config extends EDMConfig> {
  readonly className: string;
  readonly config: Config;
  timesteps: readonly number[] = [];
  sigmas: readonly number[] = [];
  /** Index of the step that is expected next. */
  protected next = 0;

  constructor(className: string, config: Config) {
    this.className = className;
    this.config = config;
    if (config.sigma_min > config.sigma_max) {
      throw new ConfigError(`${className}: sigma_min is ${config.sigma_min}, above sigma_max, ${config.sigma_max}.`);
    }
    this.plan(this.trainTimesteps);
  }

  get predictionType(): Config["prediction_type"] {
    return this.config.prediction_type;
  }

  get trainTimesteps(): number {
    return this.config.num_train_timesteps;
  }

  get initNoiseSigma(): number {
    return Math.sqrt(this.config.sigma_max ** 2 + 1);
  }

  /** sample / sqrt(sigma^2 + sigma_data^2): unit variance, as in training. */
  scaleModelInput(sample: FloatTensor, timestep: number): FloatTensor {
    const sigma = this.sigmas[this.indexOf(timestep)]!;
    return combine(`${this.className} scaleModelInput`, [1 / Math.hypot(sigma, this.config.sigma_data), sample]);
  }

  /** original + sigma * noise, for timesteps of the schedule, or training timesteps if no schedule is set. */
  addNoise(original: FloatTensor, noise: FloatTensor, timesteps: readonly number[]): FloatTensor {
    const sigmas = timesteps.map((t) => this.sigmas[indexOfTimestep(this.className, this.timesteps, t)]!);
    return withNoise(original, noise, sigmas);
  }

  /** Throws ArgumentError for an invalid number of steps. */
  protected plan(steps: number): void {
    checkSteps(this.className, steps, this.trainTimesteps);
    const { sigma_min: min, sigma_max: max, rho, sigma_schedule: schedule } = this.config;
    const [from, to] = [max ** (1 / rho), min ** (1 / rho)];
    const levels =
      schedule === "karras"
        ? evenly(0, 1, steps).map((share) => (from + share * (to - from)) ** rho)
        : // The reference goes upwards from the lowest level, so a single level is the lowest.
          evenly(Math.log(min), Math.log(max), steps).map(Math.exp).reverse();
    const sigmas = levels.map(Math.fround);
    this.timesteps = sigmas.map((sigma) => Math.fround(0.25 * Math.log(sigma)));
    this.sigmas = [...sigmas, this.config.final_sigmas_type === "zero" ? 0 : sigmas.at(-1)!];
    this.next = 0;
  }

  protected indexOf(timestep: number): number {
    return indexOfTimestep(this.className, this.timesteps, timestep, this.next);
  }

  /** The clean sample from the noisy one and the model's output at a noise level. */
  protected denoised(sigma: number): Mixture {
    const { sigma_data: data, prediction_type: type } = this.config;
    const out = (sigma * data) / Math.hypot(sigma, data);
    return { sample: data ** 2 / (sigma ** 2 + data ** 2), output: type === "epsilon" ? out : -out };
  }
}
