import { ArgumentError } from "../errors.ts";
import type { FloatTensor } from "../tensor.ts";
import { combine } from "./arithmetic.ts";
import { churned } from "./churn.ts";
import { type ConfigOf, flag, oneOf, readConfig } from "./config.ts";
import { type CustomSchedule, checkDescending, readPlan } from "./custom-schedule.ts";
import { betaFields, stepsOffsetField } from "./noise-schedule.ts";
import type { Scheduler, StepOptions, StepResult } from "./scheduler.ts";
import { cleanSample, SigmaProcess } from "./sigma-process.ts";
import { checkSigmaSpacing, respaced, sigmaSpacingFields, sigmaSpacingOf } from "./sigma-spacing.ts";
import { evenly, interpolate, sigmaToTimestep } from "./sigmas.ts";
import { spacedTimesteps, spacingField } from "./spacing.ts";

const fields = {
  ...betaFields,
  prediction_type: oneOf("epsilon", ["epsilon", "sample", "v_prediction"], { original_sample: "sample" }),
  interpolation_type: oneOf("linear", ["linear", "log_linear"]),
  ...sigmaSpacingFields,
  timestep_spacing: spacingField("linspace"),
  timestep_type: oneOf("discrete", ["discrete", "continuous"]),
  steps_offset: stepsOffsetField,
  rescale_betas_zero_snr: flag(false),
  final_sigmas_type: oneOf("zero", ["zero", "sigma_min"]),
};
export type EulerDiscreteConfig = ConfigOf<typeof fields>;

/**
 * Euler's method on the probability flow ODE dx/dsigma = (x - x0) / sigma (Karras et al. 2022, algorithm 2 without
 * the second-order correction). Samples are x0 + sigma * noise, so the model's input has to be scaled.
 */
export class EulerDiscreteScheduler extends SigmaProcess<EulerDiscreteConfig> implements Scheduler {
  readonly takes = ["timesteps", "sigmas"] as const;

  /** Throws ConfigError for keys and values that are not supported. */
  constructor(config: Readonly<Record<string, unknown>> = {}) {
    super("EulerDiscreteScheduler", readConfig("EulerDiscreteScheduler", fields, config));
    checkSigmaSpacing(this.className, this.config);
    if (this.continuous) this.timesteps = this.sigmas.slice(0, -1).map(continuousTimestep);
  }

  /** EDM-style models (Stable Video Diffusion) get the noise level itself as timestep. */
  private get continuous(): boolean {
    return this.config.timestep_type === "continuous" && this.config.prediction_type === "v_prediction";
  }

  /** The caller's sigmas replace everything that the configuration says about sigmas. */
  setTimesteps(plan: number | CustomSchedule): void {
    const { timesteps, sigmas } = this.plan(plan);
    this.sigmas = sigmas.map(Math.fround);
    this.timesteps = this.continuous
      ? this.sigmas.slice(0, timesteps.length).map(continuousTimestep)
      : timesteps.map(Math.fround);
    this.next = 0;
  }

  private plan(plan: number | CustomSchedule): { timesteps: number[]; sigmas: number[] } {
    const { config, trained } = this;
    const total = this.trainTimesteps;
    const chosen = readPlan(this.className, plan, this.takes, total + 1);
    const logSigmas = trained.map(Math.log);
    const toTimestep = (sigma: number) => sigmaToTimestep(sigma, logSigmas);
    if (chosen.sigmas) {
      checkDescending(this.className, "sigmas", chosen.sigmas, { least: 0, most: Number.MAX_VALUE });
      if (chosen.sigmas.length < 2) {
        throw new ArgumentError(`${this.className}: sigmas must have one value more than there are steps, at least 2.`);
      }
      return { timesteps: chosen.sigmas.slice(0, -1).map(toTimestep), sigmas: [...chosen.sigmas] };
    }
    const timesteps = chosen.timesteps ? this.ownTimesteps(chosen.timesteps) : this.spaced(chosen.steps);
    const interpolated =
      config.interpolation_type === "linear"
        ? timesteps.map((t) => interpolate(trained, t))
        : // One more than there are timesteps, as in the reference: the last step ends at the smallest sigma.
          evenly(logSigmas.at(-1)!, logSigmas[0]!, timesteps.length + 1).map(Math.exp);
    const sigmas = respaced(config, interpolated[0]!, interpolated.at(-1)!, timesteps.length);
    const end = config.final_sigmas_type === "zero" ? 0 : trained[0]!;
    if (sigmas) return { timesteps: sigmas.map(toTimestep), sigmas: [...sigmas, end] };
    return { timesteps, sigmas: [...interpolated, end] };
  }

  private spaced(steps: number): number[] {
    const { timestep_spacing: spacing, steps_offset: offset } = this.config;
    return spacedTimesteps(this.className, steps, { spacing, total: this.trainTimesteps, offset, fractional: true });
  }

  private ownTimesteps(timesteps: readonly number[]): number[] {
    const fixed = this.continuous ? "continuous timesteps" : sigmaSpacingOf(this.config);
    if (fixed) throw new ArgumentError(`${this.className}: it does not take timesteps of your own with ${fixed}.`);
    checkDescending(this.className, "timesteps", timesteps, { least: 0, most: this.trainTimesteps - 1 });
    return [...timesteps];
  }

  step(modelOutput: FloatTensor, timestep: number, sample: FloatTensor, options: StepOptions = {}): StepResult {
    const i = this.indexOf(timestep);
    const [sigma, sigmaNext] = [this.sigmas[i]!, this.sigmas[i + 1]!];
    this.next = i + 1;
    const { sample: from, sigma: raised } = churned(this.className, sample, sigma, this.sigmas.length - 1, options);
    const clean = cleanSample(this.predictionType, sigma, raised);
    const ratio = (sigmaNext - raised) / raised;
    return {
      prevSample: combine("Euler step", [1 + ratio * (1 - clean.sample), from], [-ratio * clean.output, modelOutput]),
      predOriginalSample: combine("Euler step", [clean.sample, from], [clean.output, modelOutput]),
    };
  }
}

function continuousTimestep(sigma: number): number {
  return Math.fround(0.25 * Math.log(sigma));
}
