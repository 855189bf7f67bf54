import { ArgumentError, ConfigError } from "../errors.ts";
import type { FloatTensor } from "../tensor.ts";
import { combine, type Term } from "./arithmetic.ts";
import { type ConfigOf, type Field, flag, oneOf, oneOfNumbers, optional, readConfig, real } from "./config.ts";
import { type CustomSchedule, checkDescending, readPlan } from "./custom-schedule.ts";
import { DpmProcess } from "./dpm-process.ts";
import { checkDistinct } from "./dpm-schedule.ts";
import { betaFields, stepsOffsetField } from "./noise-schedule.ts";
import type { Scheduler, StepResult } from "./scheduler.ts";
import { checkSigmaSpacing, respaced, sigmaSpacingFields, sigmaSpacingOf } from "./sigma-spacing.ts";
import { evenly, interpolate, sigmaToTimestep } from "./sigmas.ts";
import { checkSteps, indexOfTimestep, roundHalfToEven, spacedTimesteps, spacingField } from "./spacing.ts";
import { unipcCoefficients } from "./unipc-coefficients.ts";

const nothing: Field<null> = { fallback: null, expected: "null", read: () => undefined };
const stepNumbers: Field<readonly number[]> = {
  fallback: [],
  expected: "a list of at most 1000 step numbers",
  read: (v) =>
    Array.isArray(v) && v.length <= 1000 && v.every((i) => Number.isInteger(i) && i >= 0 && i < 1e6) ? v : undefined,
};

const fields = {
  ...betaFields,
  solver_order: oneOfNumbers(2, [1, 2, 3]),
  prediction_type: oneOf("epsilon", ["epsilon", "sample", "v_prediction", "flow_prediction"]),
  thresholding: flag(false),
  dynamic_thresholding_ratio: real(0.995, 0, 1),
  sample_max_value: real(1, 0),
  predict_x0: flag(true),
  // Names that configurations of other multistep solvers bring along; diffusers reads them so.
  solver_type: oneOf("bh2", ["bh1", "bh2"], { midpoint: "bh2", heun: "bh2", logrho: "bh2" }),
  lower_order_final: flag(true),
  disable_corrector: stepNumbers,
  // Another scheduler as the predictor: an object, which no file holds.
  solver_p: nothing,
  ...sigmaSpacingFields,
  use_flow_sigmas: flag(false),
  flow_shift: real(1, Number.MIN_VALUE),
  timestep_spacing: spacingField("linspace"),
  steps_offset: stepsOffsetField,
  final_sigmas_type: oneOf("zero", ["zero", "sigma_min"]),
  rescale_betas_zero_snr: flag(false),
  use_dynamic_shifting: flag(false),
  time_shift_type: oneOf("exponential", ["exponential"]),
  shift_terminal: optional(real(0, 0, 1 - 2 ** -24)),
};
export type UniPCMultistepConfig = ConfigOf<typeof fields>;

/**
 * UniPC (Zhao et al. 2023, arXiv 2302.04867), multistep, orders 1 to 3: a predictor step, and at the next one a corrector
 * that does it again with the output at its end. The corrector costs no evaluation of the model.
 */
export class UniPCMultistepScheduler extends DpmProcess<UniPCMultistepConfig> implements Scheduler {
  readonly takes = ["sigmas"] as const;
  /** Converted outputs of the steps just before `next`, newest first. */
  private history: FloatTensor[] = [];
  /** Where the step before began, and its order. */
  private last: { readonly sample: FloatTensor; readonly order: number } | undefined;

  /** Throws ConfigError for keys and values that are not supported. */
  constructor(config: Readonly<Record<string, unknown>> = {}) {
    super("UniPCMultistepScheduler", readConfig("UniPCMultistepScheduler", fields, config));
    checkSigmaSpacing(this.className, this.config);
    const { shift_terminal: terminal, use_flow_sigmas: flow, prediction_type: type, predict_x0: x0 } = this.config;
    if (terminal !== null && !flow) throw new ConfigError(`${this.className}: shift_terminal needs use_flow_sigmas.`);
    if (type === "flow_prediction" && !x0) {
      throw new ConfigError(`${this.className}: prediction_type "flow_prediction" needs predict_x0.`);
    }
  }

  /**
   * Also forgets the outputs of earlier steps. `mu` is the logarithm of the shift for configurations with
   * `use_dynamic_shifting`. Sigmas of the caller's own only with `use_flow_sigmas`; they are shifted too.
   */
  setTimesteps(plan: number | CustomSchedule, mu?: number): void {
    if (this.config.use_dynamic_shifting !== (mu !== undefined)) {
      throw new ArgumentError(
        `${this.className}: setTimesteps takes mu if, and only if, the configuration has use_dynamic_shifting.`,
      );
    }
    const { timesteps, sigmas, end } = this.plan(plan, mu);
    this.timesteps = timesteps;
    const all = [...sigmas, this.config.final_sigmas_type === "zero" ? 0 : end].map(Math.fround);
    checkDistinct(this.className, all);
    this.sigmas = all;
    this.next = 0;
    this.history = [];
    this.last = undefined;
  }

  step(modelOutput: FloatTensor, timestep: number, sample: FloatTensor): StepResult {
    const i = indexOfTimestep(this.className, this.timesteps, timestep, this.next);
    if (i !== this.next) {
      this.history = [];
      this.last = undefined;
    }
    const { predict_x0: predictX0 } = this.config;
    const converted = this.convert(modelOutput, sample, i, predictX0);
    const from = this.corrected(i, converted, sample);
    const outputs = [converted, ...this.history];
    const left = this.config.lower_order_final ? this.timesteps.length - i : Infinity;
    const order = Math.min(this.config.solver_order, left, outputs.length);
    const prevSample = this.update(i + 1, order, outputs, from);
    this.history = outputs.slice(0, this.config.solver_order);
    this.last = { sample: from === sample ? combine("UniPC step", [1, sample]) : from, order };
    this.next = i + 1;
    return predictX0 ? { prevSample, predOriginalSample: converted } : { prevSample };
  }

  /** The sample at step i, from the step before done again with this step's output. */
  private corrected(i: number, output: FloatTensor, sample: FloatTensor): FloatTensor {
    if (!this.last || this.config.disable_corrector.includes(i - 1)) return sample;
    return this.update(i, this.last.order, this.history, this.last.sample, output);
  }

  /** The step that ends at place `end`, from `sample`; a corrector's with the output there. */
  private update(
    end: number,
    order: number,
    outputs: readonly FloatTensor[],
    sample: FloatTensor,
    endOutput?: FloatTensor,
  ): FloatTensor {
    const { predict_x0: predictX0, solver_type: solver } = this.config;
    const levels = Array.from({ length: order + 1 }, (_, back) => this.levelAt(end - back));
    const coefficients = unipcCoefficients({ predictX0, solver }, levels, endOutput !== undefined);
    return combine(
      "UniPC step",
      [coefficients.sample, sample],
      ...outputs.slice(0, order).map((output, k): Term => [coefficients.outputs[k]!, output]),
      [coefficients.end, endOutput ?? sample],
    );
  }

  /** Timesteps, noise levels, and the level to end at if it is not 0. */
  private plan(
    plan: number | CustomSchedule,
    mu: number | undefined,
  ): { timesteps: readonly number[]; sigmas: readonly number[]; end: number } {
    const { config, trained } = this;
    const total = this.trainTimesteps;
    const chosen = readPlan(this.className, plan, this.takes, total);
    const flow = config.use_flow_sigmas;
    if (chosen.sigmas && (!flow || sigmaSpacingOf(config))) {
      throw new ArgumentError(
        `${this.className}: it takes sigmas of your own only with use_flow_sigmas, and no others.`,
      );
    }
    const steps = chosen.sigmas ? chosen.sigmas.length : chosen.steps!;
    const other = sigmaSpacingOf(config);
    if (other || flow) checkSteps(this.className, steps, total);
    const levels = respaced(config, trained.at(-1)!, trained[0]!, steps);
    if (levels) {
      if (other === "use_karras_sigmas" && flow) {
        const sigmas = levels.map((sigma) => sigma / (sigma + 1));
        return { timesteps: sigmas.map((sigma) => Math.trunc(sigma * total)), sigmas, end: sigmas.at(-1)! };
      }
      const logSigmas = trained.map(Math.log);
      const round = other === "use_karras_sigmas" ? roundHalfToEven : Math.trunc;
      const timesteps = levels.map((sigma) => round(sigmaToTimestep(sigma, logSigmas)));
      return { timesteps, sigmas: levels, end: levels.at(-1)! };
    }
    if (flow) {
      const sigmas = this.flowSigmas(steps, chosen.sigmas, mu);
      return { timesteps: sigmas.map((sigma) => Math.trunc(sigma * total)), sigmas, end: sigmas.at(-1)! };
    }
    const { timestep_spacing: spacing, steps_offset: offset } = config;
    const extraPoint = spacing !== "trailing";
    const timesteps = spacedTimesteps(this.className, steps, { spacing, total, offset, extraPoint });
    return { timesteps, sigmas: timesteps.map((t) => interpolate(trained, t)), end: trained[0]! };
  }

  private flowSigmas(steps: number, own: readonly number[] | undefined, mu: number | undefined): number[] {
    if (own) checkDescending(this.className, "sigmas", own, { least: Number.MIN_VALUE, most: 1 });
    const grid = own ?? evenly(1, 1 / this.trainTimesteps, steps + 1).slice(0, -1);
    const shift = mu === undefined ? this.config.flow_shift : Math.exp(mu);
    const shifted = grid.map((sigma) => (shift * sigma) / (1 + (shift - 1) * sigma));
    const { shift_terminal: terminal } = this.config;
    const scale = terminal ? (1 - shifted.at(-1)!) / (1 - terminal) : 1;
    if (!(scale > 0)) {
      throw new ArgumentError(`${this.className}: shift_terminal needs a last level below 1, so at least 2 steps.`);
    }
    const sigmas = terminal ? shifted.map((sigma) => 1 - (1 - sigma) / scale) : shifted;
    // At 1 there is no signal, and its logarithm would be infinite.
    if (Math.abs(sigmas[0]! - 1) < 1e-6) sigmas[0]! -= 1e-6;
    return sigmas;
  }
}
