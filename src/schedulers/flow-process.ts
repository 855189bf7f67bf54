import { ArgumentError } from "../errors.ts";
import type { FloatTensor } from "../tensor.ts";
import { mix } from "./arithmetic.ts";
import { real } from "./config.ts";
import { trainTimestepsField } from "./noise-schedule.ts";
import { indexOfTimestep } from "./spacing.ts";

/** Keys of all classes for flow matching. */
export const flowFields = { num_train_timesteps: trainTimestepsField, shift: real(1, Number.MIN_VALUE) };

interface FlowConfig {
  readonly num_train_timesteps: number;
  readonly shift: number;
  readonly use_dynamic_shifting?: boolean;
}

/**
 * A rectified flow (Lipman et al. 2023; timestep shift of Esser et al. 2024, section 5.3.2): x_sigma = sigma * noise +
 * (1 - sigma) * x_0, timestep = sigma * trainTimesteps, and the model predicts noise - x_0.
 */
export class FlowProcess<Config extends FlowConfig> {
  readonly className: string;
  readonly config: Config;
  readonly predictionType = "flow";
  readonly initNoiseSigma = 1;
  timesteps: readonly number[];
  sigmas: readonly number[];
  /** The largest and the smallest noise level of training. */
  protected readonly range: readonly [max: number, min: number];
  /** Index of the step that is expected next. */
  protected next = 0;

  constructor(className: string, config: Config) {
    this.className = className;
    this.config = config;
    const total = this.trainTimesteps;
    const shift = (sigma: number) => (config.use_dynamic_shifting ? sigma : this.shifted(sigma));
    const sigmas = Array.from({ length: total }, (_, i) => Math.fround(shift((total - i) / total)));
    this.range = [sigmas[0]!, sigmas.at(-1)!];
    this.timesteps = sigmas.map((sigma) => Math.fround(sigma * total));
    this.sigmas = [...sigmas, 0];
  }

  get trainTimesteps(): number {
    return this.config.num_train_timesteps;
  }

  scaleModelInput(sample: FloatTensor, _timestep: number): FloatTensor {
    return sample;
  }

  /**
   * sigma * noise + (1 - sigma) * original. At timesteps of the schedule sigma is the schedule's, at others from 0 to
   * trainTimesteps it is timestep / trainTimesteps. One timestep for each row or one for all. diffusers calls this
   * scale_noise. Throws ArgumentError outside this range.
   */
  addNoise(original: FloatTensor, noise: FloatTensor, timesteps: readonly number[]): FloatTensor {
    const sigmas = timesteps.map((t) => this.sigmaAt(t));
    return mix(
      "addNoise",
      original,
      sigmas.map((sigma) => 1 - sigma),
      noise,
      sigmas,
    );
  }

  protected sigmaAt(timestep: number): number {
    const planned = this.timesteps.indexOf(timestep);
    if (planned >= 0) return this.sigmas[planned]!;
    if (timestep >= 0 && timestep <= this.trainTimesteps) return timestep / this.trainTimesteps;
    throw new ArgumentError(`${this.className}: timestep ${timestep} is not from 0 to ${this.trainTimesteps}.`);
  }

  protected indexOf(timestep: number): number {
    return indexOfTimestep(this.className, this.timesteps, timestep, this.next);
  }

  /** Moves the grid towards noise for shift > 1, which larger images need. */
  protected shifted(sigma: number, shift = this.config.shift): number {
    return (shift * sigma) / (1 + (shift - 1) * sigma);
  }
}
