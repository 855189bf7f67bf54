import { ConfigError } from "../errors.ts";
import type { FloatTensor } from "../tensor.ts";
import { combine, drawNoise, type Term } from "./arithmetic.ts";
import { type ConfigOf, flag, readConfig } from "./config.ts";
import type { CustomSchedule } from "./custom-schedule.ts";
import { dpmCoefficients } from "./dpm-coefficients.ts";
import { DpmProcess } from "./dpm-process.ts";
import { algorithmField, checkDpm, dpmSolverFields, multistepOrder, planDpm } from "./dpm-schedule.ts";
import { betaFields, stepsOffsetField } from "./noise-schedule.ts";
import type { Scheduler, StepOptions, StepResult } from "./scheduler.ts";
import { indexOfTimestep, spacingField } from "./spacing.ts";

const fields = {
  ...betaFields,
  ...dpmSolverFields,
  algorithm_type: algorithmField(["dpmsolver++", "sde-dpmsolver++", "dpmsolver", "sde-dpmsolver"]),
  lower_order_final: flag(true),
  euler_at_final: flag(false),
  use_lu_lambdas: flag(false),
  timestep_spacing: spacingField("linspace"),
  steps_offset: stepsOffsetField,
  rescale_betas_zero_snr: flag(false),
};
export type DPMSolverMultistepConfig = ConfigOf<typeof fields>;

/**
 * DPM-Solver (Lu et al. 2022, arXiv 2206.00927) and DPM-Solver++ (arXiv 2211.01095), multistep, orders 1 to 3, as ODE
 * or SDE. Each step uses the converted model outputs of up to two earlier steps; a step that does not continue the
 * previous one falls back to order 1.
 */
export class DPMSolverMultistepScheduler extends DpmProcess<DPMSolverMultistepConfig> implements Scheduler {
  readonly takes = ["timesteps"] as const;
  /** Converted outputs of the steps just before `next`, newest first. */
  private history: FloatTensor[] = [];

  /** Throws ConfigError for keys and values that are not supported. */
  constructor(config: Readonly<Record<string, unknown>> = {}) {
    super("DPMSolverMultistepScheduler", readConfig("DPMSolverMultistepScheduler", fields, config));
    checkDpm(this.className, this.config);
    const { algorithm_type: algorithm, solver_order: order } = this.config;
    if (algorithm === "sde-dpmsolver" && order === 3) {
      throw new ConfigError(`${this.className}: solver_order is 3, but algorithm_type "${algorithm}" supports 1, 2.`);
    }
  }

  /**
   * Also forgets the outputs of earlier steps. With `lambda_min_clipped` trailing spacing may give fewer steps. `mu` is
   * the logarithm of the shift with `use_flow_sigmas` and `use_dynamic_shifting`.
   */
  setTimesteps(plan: number | CustomSchedule, mu?: number): void {
    const { timesteps, sigmas } = planDpm(this.className, this.config, this.trained, plan, mu);
    this.timesteps = timesteps;
    this.sigmas = sigmas;
    this.next = 0;
    this.history = [];
  }

  step(modelOutput: FloatTensor, timestep: number, sample: FloatTensor, options: StepOptions = {}): StepResult {
    const { algorithm_type: algorithm, solver_type: solver } = this.config;
    const i = indexOfTimestep(this.className, this.timesteps, timestep, this.next);
    if (i !== this.next) this.history = [];
    const converted = this.convert(modelOutput, sample, i, algorithm.endsWith("++"));
    const order = multistepOrder(this.config, i, this.timesteps.length, this.history.length + 1);
    const outputs = [converted, ...this.history].slice(0, order);
    const levels = [this.levelAt(i + 1), ...outputs.map((_, back) => this.levelAt(i - back))];
    const coefficients = dpmCoefficients(algorithm, solver, levels);
    const prevSample = combine(
      "DPM-Solver step",
      [coefficients.sample, sample],
      ...outputs.map((output, back): Term => [coefficients.outputs[back]!, output]),
      // Drawn at every step, even a last one that does not use it, so that later samples get the same noise as in the reference.
      [coefficients.noise, algorithm.startsWith("sde") ? drawNoise(this.className, options.noise) : sample],
    );
    this.history = [converted, ...this.history].slice(0, this.config.solver_order - 1);
    this.next = i + 1;
    return algorithm.endsWith("++") ? { prevSample, predOriginalSample: converted } : { prevSample };
  }
}
