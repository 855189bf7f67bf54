import type { FloatTensor } from "../tensor.ts";
import { combine, drawNoise } from "./arithmetic.ts";
import { type ConfigOf, type Field, oneOf, readConfig } from "./config.ts";
import { FlowSchedule, flowScheduleFields } from "./flow-schedule.ts";
import type { Scheduler, StepOptions, StepResult } from "./scheduler.ts";

/** Sizes that grow from step to step, which no pipeline here supports. */
const oneSize: Field<null> = {
  fallback: null,
  expected: "null (pictures of one size)",
  read: (v) => (Array.isArray(v) && v.length === 0 ? null : undefined),
};

const fields = {
  ...flowScheduleFields,
  scale_factors: oneSize,
  // The method by which latents would be enlarged.
  upscale_mode: oneOf("bicubic", ["nearest", "linear", "bilinear", "bicubic", "trilinear", "area", "nearest-exact"]),
};
export type FlowMatchLCMConfig = ConfigOf<typeof fields>;

/**
 * Consistency sampling along a rectified flow (Song et al. 2023, algorithm 1): each step predicts the clean sample directly
 * and returns to the next noise level with new noise.
 */
export class FlowMatchLCMScheduler extends FlowSchedule<FlowMatchLCMConfig> implements Scheduler {
  /** Throws ConfigError for keys and values that are not supported. */
  constructor(config: Readonly<Record<string, unknown>> = {}) {
    super("FlowMatchLCMScheduler", readConfig("FlowMatchLCMScheduler", fields, config));
  }

  step(modelOutput: FloatTensor, timestep: number, sample: FloatTensor, options: StepOptions = {}): StepResult {
    const i = this.indexOf(timestep);
    const [sigma, sigmaNext] = [this.sigmas[i]!, this.sigmas[i + 1]!];
    this.next = i + 1;
    const predOriginalSample = combine("flow LCM step", [1, sample], [-sigma, modelOutput]);
    // Drawn at the last step too, which adds none, so that later images get the same noise as in the reference.
    const noise = drawNoise(this.className, options.noise);
    const prevSample = combine("flow LCM step", [1 - sigmaNext, predOriginalSample], [sigmaNext, noise]);
    return { prevSample, predOriginalSample };
  }
}
