import type { FloatTensor } from "../tensor.ts";
import { combine, drawNoise } from "./arithmetic.ts";
import { type ConfigOf, flag, oneOf, readConfig } from "./config.ts";
import { type CustomSchedule, stepsOf } from "./custom-schedule.ts";
import { betaFields, stepsOffsetField } from "./noise-schedule.ts";
import type { Scheduler, StepOptions, StepResult } from "./scheduler.ts";
import { ancestral, cleanSample, SigmaProcess } from "./sigma-process.ts";
import { interpolate } from "./sigmas.ts";
import { spacedTimesteps, spacingField } from "./spacing.ts";

const fields = {
  ...betaFields,
  prediction_type: oneOf("epsilon", ["epsilon", "v_prediction"]),
  timestep_spacing: spacingField("linspace"),
  steps_offset: stepsOffsetField,
  rescale_betas_zero_snr: flag(false),
};
export type EulerAncestralDiscreteConfig = ConfigOf<typeof fields>;

/**
 * Euler's method that goes further down than the next noise level and comes back up to it with fresh noise, as much as
 * DDPM's ancestral sampling adds (Song et al. 2021, arXiv 2011.13456, section 4.2 in the terms of Karras et al. 2022).
 */
export class EulerAncestralDiscreteScheduler extends SigmaProcess<EulerAncestralDiscreteConfig> implements Scheduler {
  readonly takes = [] as const;

  /** Throws ConfigError for keys and values that are not supported. */
  constructor(config: Readonly<Record<string, unknown>> = {}) {
    const name = "EulerAncestralDiscreteScheduler";
    super(name, readConfig(name, fields, config));
  }

  setTimesteps(plan: number | CustomSchedule): void {
    const { timestep_spacing: spacing, steps_offset: offset } = this.config;
    const steps = stepsOf(this.className, plan);
    const options = { spacing, total: this.trainTimesteps, offset, fractional: true };
    this.timesteps = spacedTimesteps(this.className, steps, options).map(Math.fround);
    this.sigmas = [...this.timesteps.map((t) => interpolate(this.trained, t)), 0].map(Math.fround);
    this.next = 0;
  }

  step(modelOutput: FloatTensor, timestep: number, sample: FloatTensor, options: StepOptions = {}): StepResult {
    const i = this.indexOf(timestep);
    const [sigma, sigmaNext] = [this.sigmas[i]!, this.sigmas[i + 1]!];
    this.next = i + 1;
    const { down, up } = ancestral(sigma, sigmaNext);
    const clean = cleanSample(this.predictionType, sigma);
    const ratio = (down - sigma) / sigma;
    return {
      prevSample: combine(
        "Euler ancestral step",
        [1 + ratio * (1 - clean.sample), sample],
        [-ratio * clean.output, modelOutput],
        // Drawn at the last step too, which adds none, so that later images get the same noise as in the reference.
        [up, drawNoise(this.className, options.noise)],
      ),
      predOriginalSample: combine("Euler ancestral step", [clean.sample, sample], [clean.output, modelOutput]),
    };
  }
}
