import { ConfigError } from "../errors.ts";
import type { FloatTensor } from "../tensor.ts";
import { combine, drawNoise, mix, splitVariance, type Term, thresholdInPlace } from "./arithmetic.ts";
import { type ConfigOf, type Field, flag, oneOf, optional, readConfig, real } from "./config.ts";
import type { CustomSchedule } from "./custom-schedule.ts";
import { type Algorithm, dpmCoefficients, type SolverType } from "./dpm-coefficients.ts";
import { dpmScheduleFields, levelOf, planDpm } from "./dpm-schedule.ts";
import { alphasCumprod, betaFields, stepsOffsetField } from "./noise-schedule.ts";
import { type Mixture, type PredictionType, predicted } from "./prediction.ts";
import type { Scheduler, StepOptions, StepResult } from "./scheduler.ts";
import { checkSigmaSpacing } from "./sigma-spacing.ts";
import { boundLastSigma, trainingSigmas } from "./sigmas.ts";
import { indexOfTimestep, spacingField } from "./spacing.ts";

const algorithms: readonly Algorithm[] = ["dpmsolver++", "sde-dpmsolver++", "dpmsolver", "sde-dpmsolver"];
const solverTypes: readonly SolverType[] = ["midpoint", "heun"];

const fields = {
  ...betaFields,
  solver_order: oneOfNumbers(2, [1, 2, 3]),
  prediction_type: oneOf("epsilon", ["epsilon", "sample", "v_prediction", "flow_prediction"]),
  thresholding: flag(false),
  dynamic_thresholding_ratio: real(0.995, 0, 1),
  sample_max_value: real(1, 0),
  // Names that configurations of other multistep solvers bring along; diffusers reads them so.
  algorithm_type: oneOf("dpmsolver++", algorithms, { deis: "dpmsolver++" }),
  solver_type: oneOf("midpoint", solverTypes, { logrho: "midpoint", bh1: "midpoint", bh2: "midpoint" }),
  lower_order_final: flag(true),
  euler_at_final: flag(false),
  ...dpmScheduleFields,
  use_lu_lambdas: flag(false),
  variance_type: optional(
    oneOf("learned", ["learned", "learned_range", "fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log"]),
  ),
  timestep_spacing: spacingField("linspace"),
  steps_offset: stepsOffsetField,
  rescale_betas_zero_snr: flag(false),
};
export type DPMSolverMultistepConfig = ConfigOf<typeof fields>;

/**
 * DPM-Solver (Lu et al. 2022, arXiv 2206.00927) and DPM-Solver++ (arXiv 2211.01095), multistep, orders 1 to 3, as ODE
 * or SDE. Each step uses the converted model outputs of up to two steps before it; a step that does not follow on the
 * one before falls back to order 1.
 */
export class DPMSolverMultistepScheduler implements Scheduler {
  readonly className = "DPMSolverMultistepScheduler";
  readonly config: DPMSolverMultistepConfig;
  readonly alphasCumprod: Float32Array;
  readonly takes = ["timesteps"] as const;
  readonly initNoiseSigma = 1;
  timesteps: readonly number[];
  sigmas: readonly number[];
  /** Noise level of each training timestep, ascending. */
  private readonly trained: Float32Array;
  private next = 0;
  /** Converted outputs of the steps just before `next`, newest first. */
  private history: FloatTensor[] = [];

  /** Throws ConfigError for keys and values that are not supported. */
  constructor(config: Readonly<Record<string, unknown>> = {}) {
    this.config = readConfig(this.className, fields, config);
    const { algorithm_type: algorithm, final_sigmas_type: final, solver_order: order } = this.config;
    if (!algorithm.endsWith("++") && final === "zero") {
      throw new ConfigError(
        `${this.className}: final_sigmas_type is "zero", but algorithm_type "${algorithm}" supports only "sigma_min".`,
      );
    }
    if (algorithm === "sde-dpmsolver" && order === 3) {
      throw new ConfigError(`${this.className}: solver_order is 3, but algorithm_type "${algorithm}" supports 1, 2.`);
    }
    if (!algorithm.endsWith("++") && this.config.prediction_type === "flow_prediction") {
      throw new ConfigError(
        `${this.className}: prediction_type "flow_prediction" needs algorithm_type "dpmsolver++" or "sde-dpmsolver++".`,
      );
    }
    checkSigmaSpacing(this.className, this.config);
    const kept = alphasCumprod(this.config, this.config.rescale_betas_zero_snr);
    this.alphasCumprod = this.config.rescale_betas_zero_snr ? boundLastSigma(kept) : kept;
    this.trained = trainingSigmas(this.alphasCumprod);
    this.sigmas = [...this.trained.toReversed(), 0];
    this.timesteps = Array.from(this.trained, (_, i) => this.trainTimesteps - 1 - i);
  }

  get predictionType(): PredictionType {
    const { prediction_type: type } = this.config;
    return type === "flow_prediction" ? "flow" : type;
  }

  get trainTimesteps(): number {
    return this.config.num_train_timesteps;
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

  scaleModelInput(sample: FloatTensor, _timestep: number): FloatTensor {
    return sample;
  }

  step(modelOutput: FloatTensor, timestep: number, sample: FloatTensor, options: StepOptions = {}): StepResult {
    const { algorithm_type: algorithm, solver_type: solver } = this.config;
    const i = indexOfTimestep(this.className, this.timesteps, timestep, this.next);
    if (i !== this.next) this.history = [];
    const converted = this.convert(modelOutput, sample, this.sigmas[i]!);
    const outputs = [converted, ...this.history].slice(0, this.orderAt(i, this.history.length + 1));
    const sigmas = [this.sigmas[i + 1]!, ...outputs.map((_, back) => this.sigmas[i - back]!)];
    const levels = sigmas.map((sigma) => levelOf(this.config, sigma));
    const coefficients = dpmCoefficients(algorithm, solver, levels);
    const prevSample = combine(
      "DPM-Solver step",
      [coefficients.sample, sample],
      ...outputs.map((output, back): Term => [coefficients.outputs[back]!, output]),
      // Drawn at every step, also a last one that does not use it: so successive samples see the reference's noise.
      [coefficients.noise, algorithm.startsWith("sde") ? drawNoise(this.className, options.noise) : sample],
    );
    this.history = [converted, ...this.history].slice(0, this.config.solver_order - 1);
    this.next = i + 1;
    return algorithm.endsWith("++") ? { prevSample, predOriginalSample: converted } : { prevSample };
  }

  /** alpha * original + sigma * noise, for timesteps of the schedule, or of training before it. */
  addNoise(original: FloatTensor, noise: FloatTensor, timesteps: readonly number[]): FloatTensor {
    const levels = timesteps.map((t) =>
      levelOf(this.config, this.sigmas[indexOfTimestep(this.className, this.timesteps, t)]!),
    );
    return mix(
      "addNoise",
      original,
      levels.map(({ alpha }) => alpha),
      noise,
      levels.map(({ sigma }) => sigma),
    );
  }

  /** The order of step i, given how many outputs there are: lower at the end, where high orders are unstable. */
  private orderAt(i: number, available: number): number {
    const { config } = this;
    const count = this.timesteps.length;
    const few = config.lower_order_final && count < 15;
    // At sigma 0 lambda is infinite, and only order 1 has a limit.
    const toFirst = config.euler_at_final || few || config.final_sigmas_type === "zero";
    const limit = i === count - 1 && toFirst ? 1 : i === count - 2 && few ? 2 : 3;
    return Math.min(config.solver_order, available, limit);
  }

  /** What the solver integrates: the clean sample (DPM-Solver++) or the noise (DPM-Solver); always a new tensor. */
  private convert(modelOutput: FloatTensor, sample: FloatTensor, level: number): FloatTensor {
    const { config } = this;
    const { alpha, sigma } = levelOf(config, level);
    const type = config.prediction_type;
    const { x0: clean, epsilon } = type === "flow_prediction" ? flowPredicted(level) : predicted(type, alpha, sigma);
    // The reference keeps the first three channels; a latent has four, so keep as many as the sample has.
    const learned = config.variance_type?.startsWith("learned") && modelOutput.data.length !== sample.data.length;
    const output = learned ? splitVariance(modelOutput, sample).mean : modelOutput;
    const wantsClean = config.algorithm_type.endsWith("++");
    if (!wantsClean && !config.thresholding) {
      return combine("DPM-Solver step", [epsilon.sample, sample], [epsilon.output, output]);
    }
    const x0 = combine("DPM-Solver step", [clean.sample, sample], [clean.output, output]);
    if (config.thresholding) thresholdInPlace(x0, config.dynamic_thresholding_ratio, config.sample_max_value);
    return wantsClean ? x0 : combine("DPM-Solver step", [1 / sigma, sample], [-alpha / sigma, x0]);
  }
}

/** A flow's velocity is noise - x0. Only the clean sample is ever asked for. */
function flowPredicted(sigma: number): { x0: Mixture; epsilon: Mixture } {
  return { x0: { sample: 1, output: -sigma }, epsilon: { sample: 1, output: 1 - sigma } };
}

function oneOfNumbers<const T extends number>(fallback: NoInfer<T>, values: readonly T[]): Field<T> {
  return { fallback, expected: values.join(", "), read: (v) => values.find((value) => value === v) };
}
