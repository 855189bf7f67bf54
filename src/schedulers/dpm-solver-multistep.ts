import { ArgumentError, ConfigError } from "../errors.ts";
import type { FloatTensor } from "../tensor.ts";
import { combine, drawNoise, mix, splitVariance, type Term, thresholdInPlace } from "./arithmetic.ts";
import { type ConfigOf, type Field, flag, oneOf, optional, readConfig, real, whole } from "./config.ts";
import { type Algorithm, dpmCoefficients, type SolverType } from "./dpm-coefficients.ts";
import { alphasCumprod, betaFields } from "./noise-schedule.ts";
import { predicted, predictionField } from "./prediction.ts";
import type { Scheduler, StepOptions, StepResult } from "./scheduler.ts";
import { boundLastSigma, evenly, interpolate, karrasSigmas, sigmaToTimestep, trainingSigmas } from "./sigmas.ts";
import { checkSteps, indexOfTimestep, roundHalfToEven, spacedTimesteps, spacingField } from "./spacing.ts";

const lambdaField: Field<number> = {
  fallback: -Infinity,
  expected: "a number, or -Infinity",
  read: (v) => (typeof v === "number" && v < Infinity ? v : undefined),
};
const algorithms: readonly Algorithm[] = ["dpmsolver++", "sde-dpmsolver++", "dpmsolver", "sde-dpmsolver"];
const solverTypes: readonly SolverType[] = ["midpoint", "heun"];

const fields = {
  ...betaFields,
  solver_order: oneOfNumbers(2, [1, 2, 3]),
  prediction_type: predictionField,
  thresholding: flag(false),
  dynamic_thresholding_ratio: real(0.995, 0, 1),
  sample_max_value: real(1, 0),
  // Names that configurations of other multistep solvers bring along; diffusers reads them so.
  algorithm_type: oneOf("dpmsolver++", algorithms, { deis: "dpmsolver++" }),
  solver_type: oneOf("midpoint", solverTypes, { logrho: "midpoint", bh1: "midpoint", bh2: "midpoint" }),
  lower_order_final: flag(true),
  euler_at_final: flag(false),
  use_karras_sigmas: flag(false),
  use_lu_lambdas: flag(false),
  final_sigmas_type: oneOf("zero", ["zero", "sigma_min"]),
  lambda_min_clipped: lambdaField,
  variance_type: optional(
    oneOf("learned", ["learned", "learned_range", "fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log"]),
  ),
  timestep_spacing: spacingField("linspace"),
  steps_offset: whole(0),
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
    if (algorithm.startsWith("sde") && order === 3) {
      throw new ConfigError(`${this.className}: solver_order is 3, but algorithm_type "${algorithm}" supports 1, 2.`);
    }
    const kept = alphasCumprod(this.config, this.config.rescale_betas_zero_snr);
    this.alphasCumprod = this.config.rescale_betas_zero_snr ? boundLastSigma(kept) : kept;
    this.trained = trainingSigmas(this.alphasCumprod);
    this.sigmas = [...this.trained.toReversed(), 0];
    this.timesteps = Array.from(this.trained, (_, i) => this.trainTimesteps - 1 - i);
  }

  get predictionType() {
    return this.config.prediction_type;
  }

  get trainTimesteps(): number {
    return this.config.num_train_timesteps;
  }

  /** Also forgets the outputs of earlier steps. With `lambda_min_clipped` trailing spacing may give fewer steps. */
  setTimesteps(numInferenceSteps: number): void {
    const { config, trained } = this;
    const total = this.trainTimesteps;
    const logSigmas = trained.map(Math.log);
    let sigmas: number[];
    if (config.use_karras_sigmas || config.use_lu_lambdas) {
      checkSteps(this.className, numInferenceSteps, total);
      const [min, max] = [trained[0]!, trained.at(-1)!];
      sigmas = config.use_karras_sigmas
        ? karrasSigmas(min, max, numInferenceSteps)
        : // Lu et al. 2022, section 4.1: even in lambda = -log(sigma).
          evenly(logSigmas.at(-1)!, logSigmas[0]!, numInferenceSteps).map(Math.exp);
      this.timesteps = sigmas.map((sigma) => roundHalfToEven(sigmaToTimestep(sigma, logSigmas)));
    } else {
      const { timestep_spacing: spacing, steps_offset: offset } = config;
      // The noisiest timesteps, whose log signal-to-noise ratio is below the bound, are left out.
      const clipped = logSigmas.findIndex((logSigma) => -logSigma < config.lambda_min_clipped);
      const last = clipped < 0 ? total : clipped;
      const extraPoint = spacing !== "trailing";
      this.timesteps = spacedTimesteps(this.className, numInferenceSteps, { spacing, total, offset, last, extraPoint });
      sigmas = this.timesteps.map((t) => interpolate(trained, t));
    }
    const planned = [...sigmas, config.final_sigmas_type === "zero" ? 0 : trained[0]!].map(Math.fround);
    // A step between equal noise levels divides by the zero between them.
    const repeated = planned.slice(0, -1).findIndex((sigma, i) => i > 0 && sigma === planned[i - 1]);
    if (repeated > 0) {
      throw new ArgumentError(
        `${this.className}: ${numInferenceSteps} steps are too many, steps ${repeated} and ${repeated + 1} would have the ` +
          `same noise level. Take fewer than ${this.timesteps.length}.`,
      );
    }
    this.sigmas = planned;
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
    const levels = [this.sigmas[i + 1]!, ...outputs.map((_, back) => this.sigmas[i - back]!)];

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

  /** sqrt(1 / (1 + sigma^2)) (original + sigma * noise), for timesteps of the schedule, or of training before it. */
  addNoise(original: FloatTensor, noise: FloatTensor, timesteps: readonly number[]): FloatTensor {
    const sigmas = timesteps.map((t) => this.sigmas[indexOfTimestep(this.className, this.timesteps, t)]!);
    const alphas = sigmas.map((sigma) => 1 / Math.sqrt(sigma ** 2 + 1));
    return mix(
      "addNoise",
      original,
      alphas,
      noise,
      alphas.map((alpha, i) => alpha * sigmas[i]!),
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
    const alpha = 1 / Math.sqrt(level ** 2 + 1);
    const sigma = level * alpha;
    const { x0: clean, epsilon } = predicted(config.prediction_type, alpha, sigma);
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

function oneOfNumbers<const T extends number>(fallback: NoInfer<T>, values: readonly T[]): Field<T> {
  return { fallback, expected: values.join(", "), read: (v) => values.find((value) => value === v) };
}
