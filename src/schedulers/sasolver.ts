import { ConfigError } from "../errors.ts";
import type { FloatTensor } from "../tensor.ts";
import { combine, drawNoise, type Term } from "./arithmetic.ts";
import { type ConfigOf, type Field, flag, oneOf, oneOfNumbers, readConfig, real } from "./config.ts";
import type { CustomSchedule } from "./custom-schedule.ts";
import { DpmProcess } from "./dpm-process.ts";
import { lambdaField, planToLowest, varianceTypeField } from "./dpm-schedule.ts";
import { betaFields, noisedAt, stepsOffsetField } from "./noise-schedule.ts";
import { saCoefficients } from "./sa-coefficients.ts";
import type { Scheduler, StepOptions, StepResult } from "./scheduler.ts";
import { checkSigmaSpacing, sigmaSpacingFields } from "./sigma-spacing.ts";
import { indexOfTimestep, spacingField } from "./spacing.ts";

const nothing: Field<null> = { fallback: null, expected: "null", read: () => undefined };

const fields = {
  ...betaFields,
  predictor_order: oneOfNumbers(2, [1, 2, 3, 4]),
  corrector_order: oneOfNumbers(2, [1, 2, 3, 4]),
  prediction_type: oneOf("epsilon", ["epsilon", "sample", "v_prediction", "flow_prediction"]),
  // A function of the timestep, which cannot be stored in a file.
  tau_func: nothing,
  thresholding: flag(false),
  dynamic_thresholding_ratio: real(0.995, 0, 1),
  sample_max_value: real(1, 0),
  algorithm_type: oneOf("data_prediction", ["data_prediction", "noise_prediction"]),
  lower_order_final: flag(true),
  ...sigmaSpacingFields,
  use_flow_sigmas: flag(false),
  flow_shift: real(1, Number.MIN_VALUE),
  lambda_min_clipped: lambdaField,
  variance_type: varianceTypeField,
  timestep_spacing: spacingField("linspace"),
  steps_offset: stepsOffsetField,
};
export type SASolverConfig = ConfigOf<typeof fields>;

/** The previous step, which the corrector repeats. */
interface LastStep {
  readonly sample: FloatTensor;
  /** Null if that step added no noise. */
  readonly noise: FloatTensor | null;
  readonly tau: number;
  /** Order of the corrector. */
  readonly order: number;
}

/**
 * SA-Solver (Xue et al. 2023, arXiv 2309.05019), a stochastic Adams method: a predictor step (Bashforth), which a corrector
 * (Moulton) repeats at the next step with the output at its end. tau is the amount of noise: 1 (the SDE) from timestep
 * 200 to 800, 0 (the ODE) before and after, which is the reference's default.
 */
export class SASolverScheduler extends DpmProcess<SASolverConfig> implements Scheduler {
  readonly takes = [] as const;
  /** Converted outputs of the steps just before `next`, newest first. */
  private history: FloatTensor[] = [];
  private last: LastStep | undefined;

  /** Throws ConfigError for keys and values that are not supported. */
  constructor(config: Readonly<Record<string, unknown>> = {}) {
    super("SASolverScheduler", readConfig("SASolverScheduler", fields, config));
    checkSigmaSpacing(this.className, this.config);
    const { algorithm_type: algorithm, prediction_type: type, thresholding } = this.config;
    if (algorithm === "data_prediction") return;
    // The reference fails on both.
    const needing = thresholding
      ? "thresholding"
      : type === "flow_prediction"
        ? `prediction_type "${type}"`
        : undefined;
    if (needing) throw new ConfigError(`${this.className}: ${needing} needs algorithm_type "data_prediction".`);
  }

  /** Also forgets the outputs of earlier steps. */
  setTimesteps(plan: number | CustomSchedule): void {
    const { timesteps, sigmas } = planToLowest(this.className, this.config, this.trained, plan);
    this.timesteps = timesteps;
    this.sigmas = sigmas;
    this.next = 0;
    this.history = [];
    this.last = undefined;
  }

  step(modelOutput: FloatTensor, timestep: number, sample: FloatTensor, options: StepOptions = {}): StepResult {
    const { predictor_order: predictor, corrector_order: corrector, lower_order_final: lower } = this.config;
    const i = indexOfTimestep(this.className, this.timesteps, timestep, this.next);
    if (i !== this.next) {
      this.history = [];
      this.last = undefined;
    }
    this.next = i + 1;
    const converted = this.convert(modelOutput, sample, i, this.predictsData);
    const outputs = [converted, ...this.history];
    const from = this.last ? this.update(i, outputs.slice(0, this.last.order), this.last) : sample;

    const left = lower ? this.timesteps.length - i : Infinity;
    // Drawn at every step, even if tau is 0, so that later images get the same noise as in the reference.
    const drawn = drawNoise(this.className, options.noise);
    const tau = timestep >= 200 && timestep <= 800 ? 1 : 0;
    this.last = {
      sample: combine("SA-Solver step", [1, from]),
      noise: tau > 0 ? combine("SA-Solver step", [1, drawn]) : null,
      tau,
      order: Math.min(corrector, left + 1, outputs.length + 1),
    };
    const order = Math.min(predictor, left, outputs.length);
    const prevSample = this.update(i + 1, outputs.slice(0, order), this.last);
    this.history = outputs.slice(0, Math.max(predictor, corrector - 1));
    return this.predictsData ? { prevSample, predOriginalSample: converted } : { prevSample };
  }

  private get predictsData(): boolean {
    return this.config.algorithm_type === "data_prediction";
  }

  /** The step that ends at index `end`. It is a corrector step if the newest output was computed there. */
  private update(end: number, outputs: readonly FloatTensor[], { sample, noise, tau }: LastStep): FloatTensor {
    const newest = this.next - 1;
    const nodes = outputs.map((_, back) => this.levelAt(newest - back));
    const coefficients = saCoefficients(this.predictsData, tau, this.levelAt(end - 1), this.levelAt(end), nodes);
    const terms = outputs.map((output, back): Term => [coefficients.outputs[back]!, output]);
    const mean = combine("SA-Solver step", [coefficients.sample, sample], ...terms);
    return noise === null ? mean : combine("SA-Solver step", [1, mean], [coefficients.noise, noise]);
  }

  /** alpha * original + sigma * noise at the training timestep, regardless of the schedule, as in the reference. */
  override addNoise(original: FloatTensor, noise: FloatTensor, timesteps: readonly number[]): FloatTensor {
    return noisedAt(this.alphasCumprod, original, noise, timesteps);
  }
}
