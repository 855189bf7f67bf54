import type { FloatTensor } from "../tensor.ts";
import { combine, drawNoise, type Term } from "./arithmetic.ts";
import { type ConfigOf, flag, readConfig } from "./config.ts";
import type { CustomSchedule } from "./custom-schedule.ts";
import { singlestepCoefficients } from "./dpm-coefficients.ts";
import { DpmProcess } from "./dpm-process.ts";
import { algorithmField, checkDpm, dpmSolverFields, planDpm } from "./dpm-schedule.ts";
import { betaFields } from "./noise-schedule.ts";
import type { Scheduler, StepOptions, StepResult } from "./scheduler.ts";
import { indexOfTimestep } from "./spacing.ts";

const fields = {
  ...betaFields,
  ...dpmSolverFields,
  algorithm_type: algorithmField(["dpmsolver++", "sde-dpmsolver++", "dpmsolver"]),
  lower_order_final: flag(false),
};
export type DPMSolverSinglestepConfig = ConfigOf<typeof fields>;

/**
 * DPM-Solver and DPM-Solver++ (Lu et al. 2022, arXiv 2206.00927 and 2211.01095), single-step, orders 1 to 3: a step of
 * order k takes k evaluations, all starting from the same sample. The number of steps counts evaluations.
 */
export class DPMSolverSinglestepScheduler extends DpmProcess<DPMSolverSinglestepConfig> implements Scheduler {
  readonly takes = ["timesteps"] as const;
  private orders: readonly number[] = [];
  /** Converted outputs of the evaluations just before `next`, newest first. */
  private history: FloatTensor[] = [];
  /** The sample at the start of the current step. */
  private start: FloatTensor | undefined;

  /** Throws ConfigError for keys and values that are not supported. */
  constructor(config: Readonly<Record<string, unknown>> = {}) {
    super("DPMSolverSinglestepScheduler", readConfig("DPMSolverSinglestepScheduler", fields, config));
    checkDpm(this.className, this.config);
  }

  /** Also forgets the outputs of earlier steps. `mu` as in the multistep class. */
  setTimesteps(plan: number | CustomSchedule, mu?: number): void {
    const { timesteps, sigmas } = planDpm(this.className, this.config, this.trained, plan, mu);
    this.timesteps = timesteps;
    this.sigmas = sigmas;
    this.orders = ordersOf(timesteps.length, this.config);
    this.next = 0;
    this.history = [];
    this.start = undefined;
  }

  step(modelOutput: FloatTensor, timestep: number, sample: FloatTensor, options: StepOptions = {}): StepResult {
    const { algorithm_type: algorithm, solver_type: solver } = this.config;
    const i = indexOfTimestep(this.className, this.timesteps, timestep, this.next);
    if (i !== this.next) this.history = [];
    const converted = this.convert(modelOutput, sample, i, algorithm.endsWith("++"));
    const available = [converted, ...this.history];
    const order = Math.min(this.orders[i] ?? 1, available.length);
    if (order === 1 || !this.start) this.start = combine("DPM-Solver step", [1, sample]);
    const outputs = available.slice(0, order);
    const levels = [this.levelAt(i + 1), ...outputs.map((_, back) => this.levelAt(i - back))];
    const coefficients = singlestepCoefficients(algorithm, solver, levels);
    const prevSample = combine(
      "DPM-Solver step",
      [coefficients.sample, this.start],
      ...outputs.map((output, back): Term => [coefficients.outputs[back]!, output]),
      [coefficients.noise, algorithm.startsWith("sde") ? drawNoise(this.className, options.noise) : sample],
    );
    this.history = available.slice(0, this.config.solver_order - 1);
    this.next = i + 1;
    return algorithm.endsWith("++") ? { prevSample, predOriginalSample: converted } : { prevSample };
  }
}

/**
 * The order of each evaluation: 1, 2, ..., k repeatedly. An incomplete step at the end has lower orders, and so does a
 * last evaluation that ends at sigma 0, where only order 1 has a limit.
 */
function ordersOf(steps: number, config: DPMSolverSinglestepConfig): number[] {
  const { solver_order: order, final_sigmas_type: final } = config;
  const cycle = Array.from({ length: order }, (_, i) => i + 1);
  const rest = steps % order;
  const lowered = config.lower_order_final || rest !== 0 || final === "zero";
  const full = lowered && rest === 0 && order > 1 ? steps / order - 1 : Math.floor(steps / order);
  const orders = Array.from({ length: full }, () => cycle).flat();
  // A complete last step is 1, 1 instead of 1, 2, and 1, 2, 1 instead of 1, 2, 3.
  if (orders.length < steps) orders.push(...(rest === 0 ? [...cycle.slice(0, -1), 1] : cycle.slice(0, rest)));
  if (final === "zero") orders[steps - 1] = 1;
  return orders;
}
