import type { FloatTensor } from "../tensor.ts";
import { combine, type Term } from "./arithmetic.ts";
import { type ConfigOf, oneOf, readConfig } from "./config.ts";
import { type CustomSchedule, stepsOf } from "./custom-schedule.ts";
import { lagrangeIntegrals } from "./lagrange.ts";
import { betaFields, stepsOffsetField } from "./noise-schedule.ts";
import type { Scheduler, StepResult } from "./scheduler.ts";
import { cleanSample, SigmaProcess } from "./sigma-process.ts";
import { checkSigmaSpacing, respaced, sigmaSpacingFields } from "./sigma-spacing.ts";
import { interpolate, sigmaToTimestep } from "./sigmas.ts";
import { spacedTimesteps, spacingField } from "./spacing.ts";

const fields = {
  ...betaFields,
  ...sigmaSpacingFields,
  prediction_type: oneOf("epsilon", ["epsilon", "sample", "v_prediction"]),
  timestep_spacing: spacingField("linspace"),
  steps_offset: stepsOffsetField,
};
export type LMSDiscreteConfig = ConfigOf<typeof fields>;

const MOST_DERIVATIVES = 4;

/**
 * Linear multistep (Adams-Bashforth for uneven steps) on the probability flow ODE of Karras et al. 2022: each step
 * integrates the polynomial in sigma through the last four derivatives.
 */
export class LMSDiscreteScheduler extends SigmaProcess<LMSDiscreteConfig> implements Scheduler {
  readonly takes = [] as const;
  /** dx/dsigma at the steps just before `next`, newest first. */
  private derivatives: FloatTensor[] = [];

  /** Throws ConfigError for keys and values that are not supported. */
  constructor(config: Readonly<Record<string, unknown>> = {}) {
    super("LMSDiscreteScheduler", readConfig("LMSDiscreteScheduler", fields, config));
    checkSigmaSpacing(this.className, this.config);
  }

  /** Also forgets the derivatives of earlier steps. */
  setTimesteps(plan: number | CustomSchedule): void {
    const { config, trained } = this;
    const { timestep_spacing: spacing, steps_offset: offset } = config;
    const steps = stepsOf(this.className, plan);
    const options = { spacing, total: this.trainTimesteps, offset, fractional: true };
    const spaced = spacedTimesteps(this.className, steps, options);
    const levels = spaced.map((t) => interpolate(trained, t));
    // In the reference only Karras levels ignore sigma_min and sigma_max.
    const ends = config.use_karras_sigmas ? { sigma_min: null, sigma_max: null } : {};
    const other = respaced({ ...config, ...ends }, levels[0]!, levels.at(-1)!, steps);
    const logSigmas = trained.map(Math.log);
    const timesteps = other ? other.map((sigma) => sigmaToTimestep(sigma, logSigmas)) : spaced;
    this.timesteps = timesteps.map(Math.fround);
    this.sigmas = [...(other ?? levels), 0].map(Math.fround);
    this.next = 0;
    this.derivatives = [];
  }

  step(modelOutput: FloatTensor, timestep: number, sample: FloatTensor): StepResult {
    const i = this.indexOf(timestep);
    if (i !== this.next) this.derivatives = [];
    this.next = i + 1;
    const sigma = this.sigmas[i]!;
    const end = this.sigmas[i + 1]!;
    const clean = cleanSample(this.predictionType, sigma);
    const predOriginalSample = combine("LMS step", [clean.sample, sample], [clean.output, modelOutput]);
    const derivative = combine("LMS step", [1 / sigma, sample], [-1 / sigma, predOriginalSample]);
    this.derivatives = [derivative, ...this.derivatives].slice(0, MOST_DERIVATIVES);
    const nodes = this.derivatives.map((_, back) => this.sigmas[i - back]! - end);
    const weights = lagrangeIntegrals(0, sigma - end, nodes);
    const terms = this.derivatives.map((tensor, back): Term => [weights[back]!, tensor]);
    return { prevSample: combine("LMS step", [1, sample], ...terms), predOriginalSample };
  }
}
