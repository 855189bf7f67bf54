import type { FloatTensor } from "../tensor.ts";
import { combine } from "./arithmetic.ts";
import { churned } from "./churn.ts";
import { type ConfigOf, readConfig } from "./config.ts";
import { type CustomSchedule, stepsOf } from "./custom-schedule.ts";
import { FlowProcess, flowFields } from "./flow-process.ts";
import type { Scheduler, StepOptions, StepResult } from "./scheduler.ts";
import { evenly } from "./sigmas.ts";
import { checkSteps } from "./spacing.ts";

export type FlowMatchHeunConfig = ConfigOf<typeof flowFields>;

/** An Euler step before the velocity at its end is known. */
interface FirstHalf {
  readonly sample: FloatTensor;
  readonly velocity: FloatTensor;
  /** Length of the step, in sigma. */
  readonly length: number;
}

/**
 * Heun's method along a rectified flow: an Euler step, then the same step again with the mean of the velocities at its
 * start and end. So every step except the last evaluates the model twice, and there are 2 n - 1 timesteps for n steps.
 */
export class FlowMatchHeunDiscreteScheduler extends FlowProcess<FlowMatchHeunConfig> implements Scheduler {
  readonly takes = [] as const;
  readonly order = 2;
  private half: FirstHalf | undefined;

  /** Throws ConfigError for keys and values that are not supported. */
  constructor(config: Readonly<Record<string, unknown>> = {}) {
    super("FlowMatchHeunDiscreteScheduler", readConfig("FlowMatchHeunDiscreteScheduler", flowFields, config));
  }

  /** Also discards an unfinished step. The smallest level is shifted twice, as in the reference. */
  setTimesteps(plan: number | CustomSchedule): void {
    const steps = stepsOf(this.className, plan);
    checkSteps(this.className, steps, this.trainTimesteps);
    const levels = evenly(...this.range, steps).map((sigma) => Math.fround(this.shifted(sigma)));
    const twice = levels.flatMap((sigma, i) => (i === 0 ? [sigma] : [sigma, sigma]));
    this.timesteps = twice.map((sigma) => Math.fround(sigma * this.trainTimesteps));
    this.sigmas = [...twice, 0];
    this.next = 0;
    this.half = undefined;
  }

  step(modelOutput: FloatTensor, timestep: number, sample: FloatTensor, options: StepOptions = {}): StepResult {
    const i = this.indexOf(timestep);
    if (i !== this.next) this.half = undefined;
    this.next = i + 1;
    const sigma = this.sigmas[i]!;
    const { half } = this;
    // Also in the second half, where the noise has no effect but the reference draws it.
    const level = half ? this.sigmas[i - 1]! : sigma;
    const from = churned(this.className, sample, level, this.timesteps.length, options);
    const predOriginalSample = combine("flow Heun step", [1, from.sample], [-sigma, modelOutput]);
    if (half) {
      this.half = undefined;
      const mean = half.length / 2;
      const prevSample = combine("flow Heun step", [1, half.sample], [mean, half.velocity], [mean, modelOutput]);
      return { prevSample, predOriginalSample };
    }
    const velocity = combine("flow Heun step", [sigma / from.sigma, modelOutput]);
    const length = this.sigmas[i + 1]! - from.sigma;
    // The last step ends at sigma 0, has no second half, and remains an Euler step.
    if (i + 1 < this.timesteps.length) {
      this.half = { sample: combine("flow Heun step", [1, from.sample]), velocity, length };
    }
    return { prevSample: combine("flow Heun step", [1, from.sample], [length, velocity]), predOriginalSample };
  }
}
