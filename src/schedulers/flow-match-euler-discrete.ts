import type { FloatTensor } from "../tensor.ts";
import { combine, drawNoise } from "./arithmetic.ts";
import { type ConfigOf, flag, readConfig } from "./config.ts";
import { FlowSchedule, flowScheduleFields } from "./flow-schedule.ts";
import type { Scheduler, StepOptions, StepResult } from "./scheduler.ts";

const fields = { ...flowScheduleFields, stochastic_sampling: flag(false) };
export type FlowMatchEulerConfig = ConfigOf<typeof fields>;

/** Euler steps along a rectified flow. */
export class FlowMatchEulerDiscreteScheduler extends FlowSchedule<FlowMatchEulerConfig> implements Scheduler {
  /** Throws ConfigError for keys and values that are not supported. */
  constructor(config: Readonly<Record<string, unknown>> = {}) {
    const name = "FlowMatchEulerDiscreteScheduler";
    super(name, readConfig(name, fields, config));
  }

  /** With `stochastic_sampling` the clean sample gets fresh noise at each step, as consistency models do. */
  step(modelOutput: FloatTensor, timestep: number, sample: FloatTensor, options: StepOptions = {}): StepResult {
    const i = this.indexOf(timestep);
    const [sigma, sigmaNext] = [this.sigmas[i]!, this.sigmas[i + 1]!];
    this.next = i + 1;
    const predOriginalSample = combine("flow step", [1, sample], [-sigma, modelOutput]);
    const prevSample = this.config.stochastic_sampling
      ? combine("flow step", [1 - sigmaNext, predOriginalSample], [sigmaNext, drawNoise(this.className, options.noise)])
      : combine("flow step", [1, sample], [sigmaNext - sigma, modelOutput]);
    return { prevSample, predOriginalSample };
  }
}
