import { ArgumentError } from "../errors.ts";
import type { FloatTensor } from "../tensor.ts";
import { clampInPlace, combine } from "./arithmetic.ts";
import { type ConfigOf, flag, oneOf, readConfig, real } from "./config.ts";
import { type CustomSchedule, checkDescending, readPlan } from "./custom-schedule.ts";
import { heunBetaFields, stepsOffsetField } from "./noise-schedule.ts";
import type { Scheduler, StepResult } from "./scheduler.ts";
import { cleanSample, SigmaProcess } from "./sigma-process.ts";
import { checkSigmaSpacing, respaced, sigmaSpacingFields, sigmaSpacingOf } from "./sigma-spacing.ts";
import { interpolate, sigmaToTimestep } from "./sigmas.ts";
import { spacedTimesteps, spacingField } from "./spacing.ts";

const fields = {
  ...heunBetaFields,
  beta_start: real(0.00085, 0, 1),
  beta_end: real(0.012, 0, 1),
  prediction_type: oneOf("epsilon", ["epsilon", "sample", "v_prediction"]),
  ...sigmaSpacingFields,
  clip_sample: flag(false),
  clip_sample_range: real(1, 0),
  timestep_spacing: spacingField("linspace"),
  steps_offset: stepsOffsetField,
};
export type HeunDiscreteConfig = ConfigOf<typeof fields>;

/** An Euler step before the derivative at its end is known. */
interface FirstHalf {
  readonly sample: FloatTensor;
  readonly derivative: FloatTensor;
}

/**
 * Heun's method on the probability flow ODE (Karras et al. 2022, algorithm 1): an Euler step, then the same step again
 * with the mean of the derivatives at its start and end. So every step except the last evaluates the model twice, and there
 * are 2 n - 1 timesteps for n steps.
 */
export class HeunDiscreteScheduler extends SigmaProcess<HeunDiscreteConfig> implements Scheduler {
  readonly order = 2;
  readonly takes = ["timesteps"] as const;
  private half: FirstHalf | undefined;

  /** Throws ConfigError for keys and values that are not supported. */
  constructor(config: Readonly<Record<string, unknown>> = {}) {
    super("HeunDiscreteScheduler", readConfig("HeunDiscreteScheduler", fields, config));
    checkSigmaSpacing(this.className, this.config);
  }

  /** Also discards an unfinished step. */
  setTimesteps(plan: number | CustomSchedule): void {
    const { config, trained } = this;
    const total = this.trainTimesteps;
    const chosen = readPlan(this.className, plan, this.takes, total);
    const spaced = chosen.timesteps ? this.own(chosen.timesteps) : this.spaced(chosen.steps!);
    const levels = spaced.map((t) => interpolate(trained, t));
    const other = respaced(config, levels[0]!, levels.at(-1)!, levels.length);
    const logSigmas = trained.map(Math.log);
    const timesteps = other ? other.map((sigma) => sigmaToTimestep(sigma, logSigmas)) : spaced;
    const twice = (values: readonly number[]) => values.flatMap((value, i) => (i === 0 ? [value] : [value, value]));
    this.timesteps = twice(timesteps).map(Math.fround);
    this.sigmas = [...twice(other ?? levels), 0].map(Math.fround);
    this.next = 0;
    this.half = undefined;
  }

  step(modelOutput: FloatTensor, timestep: number, sample: FloatTensor): StepResult {
    const i = this.indexOf(timestep);
    if (i !== this.next) this.half = undefined;
    this.next = i + 1;
    const sigma = this.sigmas[i]!;
    const clean = cleanSample(this.predictionType, sigma);
    const x0 = combine("Heun step", [clean.sample, sample], [clean.output, modelOutput]);
    if (this.config.clip_sample) clampInPlace(x0, this.config.clip_sample_range);
    const derivative = combine("Heun step", [1 / sigma, sample], [-1 / sigma, x0]);
    const { half } = this;
    if (half) {
      this.half = undefined;
      const step = (sigma - this.sigmas[i - 1]!) / 2;
      const prevSample = combine("Heun step", [1, half.sample], [step, half.derivative], [step, derivative]);
      return { prevSample, predOriginalSample: x0 };
    }
    const sigmaNext = this.sigmas[i + 1]!;
    // The last step ends at sigma 0, where there is no derivative, and remains an Euler step.
    if (i + 1 < this.timesteps.length) this.half = { sample: combine("Heun step", [1, sample]), derivative };
    return { prevSample: combine("Heun step", [1, sample], [sigmaNext - sigma, derivative]), predOriginalSample: x0 };
  }

  private spaced(steps: number): number[] {
    const { timestep_spacing: spacing, steps_offset: offset } = this.config;
    return spacedTimesteps(this.className, steps, { spacing, total: this.trainTimesteps, offset, fractional: true });
  }

  private own(timesteps: readonly number[]): number[] {
    const fixed = sigmaSpacingOf(this.config);
    if (fixed) throw new ArgumentError(`${this.className}: it does not take timesteps of your own with ${fixed}.`);
    checkDescending(this.className, "timesteps", timesteps, { least: 0, most: this.trainTimesteps - 1 });
    return [...timesteps];
  }
}
