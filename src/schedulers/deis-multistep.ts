import type { FloatTensor } from "../tensor.ts";
import { combine, type Term } from "./arithmetic.ts";
import { type ConfigOf, flag, oneOf, oneOfNumbers, readConfig, real } from "./config.ts";
import type { CustomSchedule } from "./custom-schedule.ts";
import { DpmProcess } from "./dpm-process.ts";
import { planToLowest } from "./dpm-schedule.ts";
import { lagrangeIntegrals } from "./lagrange.ts";
import { betaFields, stepsOffsetField } from "./noise-schedule.ts";
import type { Scheduler, StepResult } from "./scheduler.ts";
import { checkSigmaSpacing, sigmaSpacingFields } from "./sigma-spacing.ts";
import { indexOfTimestep, spacingField } from "./spacing.ts";

const fields = {
  ...betaFields,
  solver_order: oneOfNumbers(2, [1, 2, 3]),
  prediction_type: oneOf("epsilon", ["epsilon", "sample", "v_prediction", "flow_prediction"]),
  thresholding: flag(false),
  dynamic_thresholding_ratio: real(0.995, 0, 1),
  sample_max_value: real(1, 0),
  // Values from configurations of other multistep solvers, interpreted as in diffusers.
  algorithm_type: oneOf("deis", ["deis"], { dpmsolver: "deis", "dpmsolver++": "deis" }),
  solver_type: oneOf("logrho", ["logrho"], { midpoint: "logrho", heun: "logrho", bh1: "logrho", bh2: "logrho" }),
  lower_order_final: flag(true),
  ...sigmaSpacingFields,
  use_flow_sigmas: flag(false),
  flow_shift: real(1, Number.MIN_VALUE),
  timestep_spacing: spacingField("linspace"),
  steps_offset: stepsOffsetField,
  // If set, the caller's mu replaces flow_shift.
  use_dynamic_shifting: flag(false),
  time_shift_type: oneOf("exponential", ["exponential"]),
};
export type DEISMultistepConfig = ConfigOf<typeof fields>;

/**
 * DEIS (Zhang & Chen 2023, arXiv 2204.13902, log-rho Adams-Bashforth), orders 1 to 3: the predicted noise is interpolated by
 * a polynomial in log(rho), rho = sigma / alpha, through its last values, which is integrated over rho.
 */
export class DEISMultistepScheduler extends DpmProcess<DEISMultistepConfig> implements Scheduler {
  readonly takes = [] as const;
  /** Noise as predicted at the steps just before `next`, newest first. */
  private history: FloatTensor[] = [];

  /** Throws ConfigError for keys and values that are not supported. */
  constructor(config: Readonly<Record<string, unknown>> = {}) {
    super("DEISMultistepScheduler", readConfig("DEISMultistepScheduler", fields, config));
    checkSigmaSpacing(this.className, this.config);
  }

  /** Also forgets the outputs of earlier steps. `mu` is the logarithm of the shift with `use_dynamic_shifting`. */
  setTimesteps(plan: number | CustomSchedule, mu?: number): void {
    const { timesteps, sigmas } = planToLowest(this.className, this.config, this.trained, plan, mu);
    this.timesteps = timesteps;
    this.sigmas = sigmas;
    this.next = 0;
    this.history = [];
  }

  step(modelOutput: FloatTensor, timestep: number, sample: FloatTensor): StepResult {
    const i = indexOfTimestep(this.className, this.timesteps, timestep, this.next);
    if (i !== this.next) this.history = [];
    this.next = i + 1;
    this.history = [this.convert(modelOutput, sample, i, false), ...this.history].slice(0, this.config.solver_order);
    const count = this.timesteps.length;
    const left = this.config.lower_order_final && count < 15 ? count - i : Infinity;
    const outputs = this.history.slice(0, left);
    const [end, start] = [this.levelAt(i + 1), this.levelAt(i)];
    const logRho = outputs.map((_, back) => this.logRhoAt(i - back) - this.logRhoAt(i + 1));
    // d rho = rho d(log rho), and alpha times rho at the end is sigma there.
    const weights = lagrangeIntegrals(1, logRho[0]!, logRho);
    const terms = outputs.map((output, back): Term => [end.sigma * weights[back]!, output]);
    return { prevSample: combine("DEIS step", [end.alpha / start.alpha, sample], ...terms) };
  }

  private logRhoAt(i: number): number {
    const { alpha, sigma } = this.levelAt(i);
    return Math.log(sigma) - Math.log(alpha);
  }
}
