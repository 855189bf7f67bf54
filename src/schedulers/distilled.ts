/** Timesteps of models that were distilled to run in a few steps: a selection of those used in distillation. */
import { ArgumentError, ConfigError } from "../errors.ts";
import { type ConfigOf, flag, readConfig, real, whole } from "./config.ts";
import { type CustomSchedule, checkDescending, readPlan } from "./custom-schedule.ts";
import { alphasCumprod, betaFields, DiffusionProcess, MOST_TIMESTEPS, stepsOffsetField } from "./noise-schedule.ts";
import { predictionField } from "./prediction.ts";
import { checkSteps, indexOfTimestep, spacingField } from "./spacing.ts";

/** Keys that LCM and TCD share. */
export const distilledFields = {
  ...betaFields,
  beta_start: real(0.00085, 0, 1),
  beta_end: real(0.012, 0, 1),
  beta_schedule: { ...betaFields.beta_schedule, fallback: "scaled_linear" as const },
  original_inference_steps: whole(50, 1, MOST_TIMESTEPS),
  clip_sample: flag(false),
  clip_sample_range: real(1, 0),
  set_alpha_to_one: flag(true),
  // The reference has these two keys but reads neither.
  steps_offset: stepsOffsetField,
  timestep_spacing: spacingField("leading"),
  prediction_type: predictionField,
  thresholding: flag(false),
  dynamic_thresholding_ratio: real(0.995, 0, 1),
  sample_max_value: real(1, 0),
  timestep_scaling: real(10, 0),
  rescale_betas_zero_snr: flag(false),
};
export type DistilledConfig = ConfigOf<typeof distilledFields>;

/** Base of the solvers of such models, whose timesteps are a selection of those of distillation. */
export class DistilledProcess extends DiffusionProcess<DistilledConfig> {
  readonly className: string;
  private next: number | undefined;

  /** Throws ConfigError for keys and values that are not supported. */
  constructor(className: string, config: Readonly<Record<string, unknown>>) {
    const read = readConfig(className, distilledFields, config);
    super(read, alphasCumprod(read, read.rescale_betas_zero_snr));
    this.className = className;
    const { original_inference_steps: original, num_train_timesteps: total } = read;
    if (original <= total) return;
    throw new ConfigError(
      `${className}: original_inference_steps is ${original}, but there are only ${total} num_train_timesteps.`,
    );
  }

  setTimesteps(plan: number | CustomSchedule): void {
    this.timesteps = distilledTimesteps(this.className, this.config, plan);
    this.next = 0;
  }

  /** Index of the step that is expected next. Throws ArgumentError before setTimesteps. */
  protected expectedNext(): number {
    if (this.next === undefined) throw new ArgumentError(`${this.className}: call setTimesteps before step.`);
    return this.next;
  }

  /** Index of the step at a timestep; the next one is expected after it. Throws ArgumentError for a timestep that is not planned. */
  protected takeStep(timestep: number): number {
    const i = indexOfTimestep(this.className, this.timesteps, timestep, this.expectedNext());
    this.next = i + 1;
    return i;
  }
}

/** The caller's timesteps, or an even selection of those of distillation, starting at the noisiest. Throws ArgumentError. */
function distilledTimesteps(
  className: string,
  config: DistilledConfig,
  plan: number | CustomSchedule,
): readonly number[] {
  const { original_inference_steps: original, num_train_timesteps: total } = config;
  const chosen = readPlan(className, plan, ["timesteps"], total);
  if (chosen.timesteps) {
    checkDescending(className, "timesteps", chosen.timesteps, { least: 0, most: total - 1, whole: true });
    return chosen.timesteps;
  }
  const steps = chosen.steps!;
  checkSteps(className, steps, original);
  const stride = Math.floor(total / original);
  const gap = original / steps;
  return Array.from({ length: steps }, (_, i) => (original - Math.floor(i * gap)) * stride - 1);
}
