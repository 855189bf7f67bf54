import type { FloatTensor } from "../tensor.ts";
import { combine } from "./arithmetic.ts";
import { churned } from "./churn.ts";
import { type ConfigOf, readConfig } from "./config.ts";
import { type CustomSchedule, stepsOf } from "./custom-schedule.ts";
import { EDMProcess, edmFields } from "./edm-process.ts";
import type { Scheduler, StepOptions, StepResult } from "./scheduler.ts";

export type EDMEulerConfig = ConfigOf<typeof edmFields>;

/** Euler's method for models with EDM's preconditioning (Karras et al. 2022, algorithm 2 without the second order). */
export class EDMEulerScheduler extends EDMProcess<EDMEulerConfig> implements Scheduler {
  readonly takes = [] as const;

  /** Throws ConfigError for keys and values that are not supported. */
  constructor(config: Readonly<Record<string, unknown>> = {}) {
    super("EDMEulerScheduler", readConfig("EDMEulerScheduler", edmFields, config));
  }

  setTimesteps(plan: number | CustomSchedule): void {
    this.plan(stepsOf(this.className, plan));
  }

  step(modelOutput: FloatTensor, timestep: number, sample: FloatTensor, options: StepOptions = {}): StepResult {
    const i = this.indexOf(timestep);
    this.next = i + 1;
    const from = churned(this.className, sample, this.sigmas[i]!, this.timesteps.length, options);
    const clean = this.denoised(from.sigma);
    const ratio = (this.sigmas[i + 1]! - from.sigma) / from.sigma;
    return {
      prevSample: combine(
        "EDM Euler step",
        [1 + ratio * (1 - clean.sample), from.sample],
        [-ratio * clean.output, modelOutput],
      ),
      predOriginalSample: combine("EDM Euler step", [clean.sample, from.sample], [clean.output, modelOutput]),
    };
  }
}
