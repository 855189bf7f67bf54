import { ArgumentError } from "../errors.ts";
import type { FloatTensor } from "../tensor.ts";
import { combine, mix } from "./arithmetic.ts";
import { type ConfigOf, flag, readConfig, real, whole } from "./config.ts";
import type { Scheduler, StepResult } from "./scheduler.ts";
import { evenly } from "./sigmas.ts";
import { checkSteps, indexOfTimestep } from "./spacing.ts";

const fields = {
  num_train_timesteps: whole(1000, 1),
  shift: real(1, Number.MIN_VALUE),
  use_dynamic_shifting: flag(false),
  // For the caller's mu; no effect here.
  base_shift: real(0.5),
  max_shift: real(1.15),
  base_image_seq_len: whole(256),
  max_image_seq_len: whole(4096),
};
export type FlowMatchEulerConfig = ConfigOf<typeof fields>;

/**
 * Euler steps along a rectified flow (Lipman et al. 2023; timestep shift of Esser et al. 2024, section 5.3.2):
 * x_sigma = sigma * noise + (1 - sigma) * x_0, timestep = sigma * trainTimesteps, and the model predicts noise - x_0.
 */
export class FlowMatchEulerDiscreteScheduler implements Scheduler {
  readonly className = "FlowMatchEulerDiscreteScheduler";
  readonly config: FlowMatchEulerConfig;
  readonly predictionType = "flow";
  readonly initNoiseSigma = 1;
  timesteps: readonly number[];
  sigmas: readonly number[];
  private readonly range: readonly [max: number, min: number];
  private next = 0;

  /** Throws ConfigError for keys and values that are not supported. */
  constructor(config: Readonly<Record<string, unknown>> = {}) {
    this.config = readConfig(this.className, fields, config);
    const total = this.trainTimesteps;
    const shift = (sigma: number) => (this.config.use_dynamic_shifting ? sigma : this.shifted(sigma));
    const sigmas = Array.from({ length: total }, (_, i) => Math.fround(shift((total - i) / total)));
    this.range = [sigmas[0]!, sigmas.at(-1)!];
    this.timesteps = sigmas.map((sigma) => Math.fround(sigma * total));
    this.sigmas = [...sigmas, 0];
  }

  get trainTimesteps(): number {
    return this.config.num_train_timesteps;
  }

  /**
   * The shift is applied to an even grid between the largest and the smallest training sigma, which were shifted
   * before: so the smallest is shifted twice, as in the reference. `mu` is the logarithm of the shift for models with
   * `use_dynamic_shifting`, where it depends on the number of tokens. Throws ArgumentError where that is missing.
   */
  setTimesteps(numInferenceSteps: number, mu?: number): void {
    checkSteps(this.className, numInferenceSteps, this.trainTimesteps);
    if (this.config.use_dynamic_shifting !== (mu !== undefined)) {
      throw new ArgumentError(
        `${this.className}: setTimesteps takes mu if, and only if, the configuration has use_dynamic_shifting.`,
      );
    }
    const shift = mu === undefined ? this.config.shift : Math.exp(mu);
    const grid = evenly(...this.range, numInferenceSteps);
    const sigmas = grid.map((sigma) => Math.fround(this.shifted(sigma, shift)));
    this.timesteps = sigmas.map((sigma) => Math.fround(sigma * this.trainTimesteps));
    this.sigmas = [...sigmas, 0];
    this.next = 0;
  }

  scaleModelInput(sample: FloatTensor, _timestep: number): FloatTensor {
    return sample;
  }

  step(modelOutput: FloatTensor, timestep: number, sample: FloatTensor): StepResult {
    const i = indexOfTimestep(this.className, this.timesteps, timestep, this.next);
    const [sigma, sigmaNext] = [this.sigmas[i]!, this.sigmas[i + 1]!];
    this.next = i + 1;
    return {
      prevSample: combine("flow step", [1, sample], [sigmaNext - sigma, modelOutput]),
      predOriginalSample: combine("flow step", [1, sample], [-sigma, modelOutput]),
    };
  }

  /**
   * sigma * noise + (1 - sigma) * original with sigma = timestep / trainTimesteps; any timestep from 0 to
   * trainTimesteps, one for each row or one for all. diffusers calls it scale_noise. Throws ArgumentError outside.
   */
  addNoise(original: FloatTensor, noise: FloatTensor, timesteps: readonly number[]): FloatTensor {
    const sigmas = timesteps.map((t) => {
      if (t >= 0 && t <= this.trainTimesteps) return t / this.trainTimesteps;
      throw new ArgumentError(`${this.className}: timestep ${t} is not from 0 to ${this.trainTimesteps}.`);
    });
    return mix(
      "addNoise",
      original,
      sigmas.map((sigma) => 1 - sigma),
      noise,
      sigmas,
    );
  }

  /** Moves the grid towards noise for shift > 1: larger pictures need it. */
  private shifted(sigma: number, shift = this.config.shift): number {
    return (shift * sigma) / (1 + (shift - 1) * sigma);
  }
}
