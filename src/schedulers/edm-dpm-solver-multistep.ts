import { ConfigError } from "../errors.ts";
import type { FloatTensor } from "../tensor.ts";
import { combine, drawNoise, type Term, thresholdInPlace } from "./arithmetic.ts";
import { type ConfigOf, flag, oneOf, oneOfNumbers, readConfig, real } from "./config.ts";
import { type CustomSchedule, stepsOf } from "./custom-schedule.ts";
import { dpmCoefficients, type Level } from "./dpm-coefficients.ts";
import { algorithmField, checkDistinct, multistepOrder } from "./dpm-schedule.ts";
import { EDMProcess, edmFields } from "./edm-process.ts";
import type { Scheduler, StepOptions, StepResult } from "./scheduler.ts";

const fields = {
  ...edmFields,
  solver_order: oneOfNumbers(2, [1, 2, 3]),
  thresholding: flag(false),
  dynamic_thresholding_ratio: real(0.995, 0, 1),
  sample_max_value: real(1, 0),
  algorithm_type: algorithmField(["dpmsolver++", "sde-dpmsolver++"]),
  solver_type: oneOf("midpoint", ["midpoint", "heun"], { logrho: "midpoint", bh1: "midpoint", bh2: "midpoint" }),
  lower_order_final: flag(true),
  euler_at_final: flag(false),
};
export type EDMDPMSolverMultistepConfig = ConfigOf<typeof fields>;

/** DPM-Solver++, multistep, for models with EDM's preconditioning, where alpha is 1. */
export class EDMDPMSolverMultistepScheduler extends EDMProcess<EDMDPMSolverMultistepConfig> implements Scheduler {
  readonly takes = [] as const;
  /** Clean samples as predicted at the steps just before `next`, newest first. */
  private history: FloatTensor[] = [];

  /** Throws ConfigError for keys and values that are not supported. */
  constructor(config: Readonly<Record<string, unknown>> = {}) {
    const name = "EDMDPMSolverMultistepScheduler";
    super(name, readConfig(name, fields, config));
    const { algorithm_type: algorithm, solver_order: order } = this.config;
    // The reference's third order adds no noise and fails.
    if (algorithm === "sde-dpmsolver++" && order === 3) {
      throw new ConfigError(`${name}: solver_order is 3, but algorithm_type "${algorithm}" supports 1, 2.`);
    }
  }

  /** Also forgets the outputs of earlier steps. */
  setTimesteps(plan: number | CustomSchedule): void {
    this.plan(stepsOf(this.className, plan));
    checkDistinct(this.className, this.sigmas);
    if (this.config.final_sigmas_type === "sigma_min") {
      this.sigmas = [...this.sigmas.slice(0, -1), Math.fround(this.config.sigma_min)];
    }
    this.history = [];
  }

  step(modelOutput: FloatTensor, timestep: number, sample: FloatTensor, options: StepOptions = {}): StepResult {
    const { config } = this;
    const { algorithm_type: algorithm, solver_type: solver } = config;
    const i = this.indexOf(timestep);
    if (i !== this.next) this.history = [];
    this.next = i + 1;
    const clean = this.denoised(this.sigmas[i]!);
    const x0 = combine("EDM DPM-Solver step", [clean.sample, sample], [clean.output, modelOutput]);
    if (config.thresholding) thresholdInPlace(x0, config.dynamic_thresholding_ratio, config.sample_max_value);
    // A last step of length 0 (sigma_min again) has order 1, since higher orders divide by its length.
    const stays = this.sigmas[i + 1] === this.sigmas[i];
    const order = stays ? 1 : multistepOrder(config, i, this.timesteps.length, this.history.length + 1);
    const outputs = [x0, ...this.history].slice(0, order);
    const levels = [this.levelAt(i + 1), ...outputs.map((_, back) => this.levelAt(i - back))];
    const coefficients = dpmCoefficients(algorithm, solver, levels);
    const prevSample = combine(
      "EDM DPM-Solver step",
      [coefficients.sample, sample],
      ...outputs.map((output, back): Term => [coefficients.outputs[back]!, output]),
      [coefficients.noise, algorithm.startsWith("sde") ? drawNoise(this.className, options.noise) : sample],
    );
    this.history = [x0, ...this.history].slice(0, config.solver_order - 1);
    return { prevSample, predOriginalSample: x0 };
  }

  private levelAt(i: number): Level {
    return { alpha: 1, sigma: this.sigmas[i]! };
  }
}
