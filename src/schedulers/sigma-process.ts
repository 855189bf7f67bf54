import type { FloatTensor } from "../tensor.ts";
import { combine, withNoise } from "./arithmetic.ts";
import { NoiseLevels } from "./noise-levels.ts";
import type { BetaConfig } from "./noise-schedule.ts";
import type { DiffusionPrediction, Mixture } from "./prediction.ts";
import { indexOfTimestep, type TimestepSpacing } from "./spacing.ts";

interface SigmaConfig extends BetaConfig {
  readonly prediction_type: DiffusionPrediction;
  readonly timestep_spacing: TimestepSpacing;
  readonly rescale_betas_zero_snr?: boolean;
}

/**
 * The process x = x0 + sigma * noise (Karras et al. 2022), used by the methods of Euler, Heun and similar ones. The
 * model was trained on x / sqrt(sigma^2 + 1), so its input has to be scaled.
 */
export class SigmaProcess<Config extends SigmaConfig> extends NoiseLevels<Config> {
  get predictionType(): DiffusionPrediction {
    return this.config.prediction_type;
  }

  /** Samples with leading timesteps do not start at pure noise, so the clean sample's unit variance counts too. */
  get initNoiseSigma(): number {
    const largest = this.sigmas.reduce((a, b) => Math.max(a, b));
    return this.config.timestep_spacing === "leading" ? Math.sqrt(largest ** 2 + 1) : largest;
  }

  /** sample / sqrt(sigma^2 + 1): unit variance, as in training. */
  scaleModelInput(sample: FloatTensor, timestep: number): FloatTensor {
    const sigma = this.sigmas[this.indexOf(timestep)]!;
    return combine(`${this.className} scaleModelInput`, [1 / Math.sqrt(sigma ** 2 + 1), sample]);
  }

  /** original + sigma * noise, for timesteps of the schedule, or training timesteps if no schedule is set. */
  addNoise(original: FloatTensor, noise: FloatTensor, timesteps: readonly number[]): FloatTensor {
    const sigmas = timesteps.map((t) => this.sigmas[indexOfTimestep(this.className, this.timesteps, t)]!);
    return withNoise(original, noise, sigmas);
  }

  protected indexOf(timestep: number): number {
    return indexOfTimestep(this.className, this.timesteps, timestep, this.next);
  }
}

/** The clean sample from x0 + raised * noise and the model's output at noise level `sigma`; the two are equal without churn. */
export function cleanSample(type: DiffusionPrediction, sigma: number, raised = sigma): Mixture {
  switch (type) {
    case "epsilon":
      return { sample: 1, output: -raised };
    case "sample":
      return { sample: 0, output: 1 };
    case "v_prediction":
      return { sample: 1 / (sigma ** 2 + 1), output: -sigma / Math.sqrt(sigma ** 2 + 1) };
  }
}

/** A step down to `down`, then up with new noise of standard deviation `up`. */
export interface Ancestral {
  readonly down: number;
  readonly up: number;
}

/**
 * A step from one noise level to the next with as much noise as DDPM's ancestral sampling adds (Song et al. 2021, section
 * 4.2). Rounded to float32 as in the reference, which for a long step leaves few digits of `down`, or 0.
 */
export function ancestral(sigma: number, next: number): Ancestral {
  const round = Math.fround;
  const [from, to] = [round(sigma ** 2), round(next ** 2)];
  const up = round(Math.sqrt(round(round(to * round(from - to)) / from)));
  return { down: round(Math.sqrt(Math.max(0, round(to - round(up ** 2))))), up };
}
